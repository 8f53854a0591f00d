//! Who makes an image that many want at once, on any number of nodes: whoever creates a file first. Its holder
//! writes into it every second; the others look whether it changes, each by its own clock, and the first to find
//! it silent for too long takes over by creating the next one. Nothing is needed of the file system but that
//! O_EXCL works, which holds for NFS and Lustre where locks may not.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::error::{Error, Explain, Result};
use crate::files::maker::host_name;
use crate::work::{Progress, Reporter};

/// After how long a silent holder is taken for dead. A shared file system can hang for some seconds.
const SILENCE: Duration = Duration::from_secs(15);

/// How often those who wait look, at first and later.
const LOOK: Duration = Duration::from_millis(50);
const LOOK_LATER: Duration = Duration::from_secs(1);

/// What a lease begins with whose holder has given up.
const FAILED: &str = "failed\n";

/// How a wait ended.
#[derive(Debug)]
pub enum Turn {
    /// The caller is to make the image.
    Mine(Lease),
    /// It is there.
    Made,
}

/// The right to make an image.
#[derive(Debug)]
pub struct Lease {
    directory: PathBuf,
    name: String,
    number: u64,
}

/// Waits until the image is there, or until it is the caller's turn to make it.
///
/// # Errors
/// Whoever made it failed while this one waited, or it takes longer than `patience`.
pub fn take(
    directory: &Path,
    name: &str,
    word: &str,
    patience: Duration,
    is_there: impl Fn() -> bool,
    see: &mut dyn FnMut(&Progress),
) -> Result<Turn> {
    let what = || format!("can't use the cache's {}", directory.display());
    let start = Instant::now();
    let mut pause = LOOK;
    let mut watched = Watched::default();
    loop {
        if is_there() {
            return Ok(Turn::Made);
        }
        let newest = newest(directory, name).explain(what)?;
        let next = match newest {
            None => Some(1),
            Some(number) => watched.look(directory, name, number, word, see)?,
        };
        if let Some(number) = next {
            let lease = Lease {
                directory: directory.to_owned(),
                name: name.to_owned(),
                number,
            };
            if lease.create().explain(what)? {
                // Whoever held the last one may have finished just before.
                return match is_there() {
                    true => {
                        lease.end();
                        Ok(Turn::Made)
                    }
                    false => Ok(Turn::Mine(lease)),
                };
            }
            continue;
        }
        if start.elapsed() > patience {
            let holder = watched.holder();
            let seconds = patience.as_secs();
            return Err(Error::new(format!(
                "waited {seconds} seconds for {holder} to make an image of {word}"
            ))
            .hint("the site's file sets the bound: waits.fetch"));
        }
        std::thread::sleep(pause);
        pause = (pause * 3 / 2).min(LOOK_LATER);
    }
}

/// The highest number among the leases of a name.
fn newest(directory: &Path, name: &str) -> io::Result<Option<u64>> {
    let mut newest = None;
    for entry in fs::read_dir(directory)? {
        let file = entry?.file_name();
        let number = file
            .to_str()
            .and_then(|file| file.strip_prefix(name)?.strip_prefix('.')?.parse().ok());
        newest = newest.max(number);
    }
    Ok(newest)
}

/// The lease that one waits for.
#[derive(Debug, Default)]
struct Watched {
    number: u64,
    text: String,
    since: Option<Instant>,
}

impl Watched {
    /// Looks at the newest lease, and gives the number of the one to create if nobody holds it any more.
    fn look(
        &mut self,
        directory: &Path,
        name: &str,
        number: u64,
        word: &str,
        see: &mut dyn FnMut(&Progress),
    ) -> Result<Option<u64>> {
        let text = match fs::read_to_string(path(directory, name, number)) {
            Ok(text) => text,
            // It has just ended; the image is there, or the next look tells.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).explain(|| "can't read a lease of the cache".into()),
        };
        let is_new = self.since.is_none() || self.number != number;
        if let Some(said) = text.strip_prefix(FAILED) {
            // What failed before this one came may work now.
            return match is_new {
                true => Ok(Some(number + 1)),
                false => Err(failure(said, word)),
            };
        }
        if is_new || self.text != text {
            *self = Watched {
                number,
                text,
                since: Some(Instant::now()),
            };
        }
        // Each time, whether or not it has changed: this one is waiting, and not dead.
        see(&self.progress());
        let is_silent = self.since.is_some_and(|since| since.elapsed() > SILENCE);
        Ok(is_silent.then_some(number + 1))
    }

    fn holder(&self) -> &str {
        self.text
            .split(' ')
            .next()
            .filter(|host| !host.is_empty())
            .unwrap_or("another process")
    }

    fn progress(&self) -> Progress {
        let mut parts = self.text.trim_end().splitn(5, ' ').skip(2);
        let mut number = || parts.next().and_then(|text| text.parse().ok()).unwrap_or(0);
        let (done, total) = (number(), number());
        let what = parts.next().unwrap_or_default();
        Progress {
            what: format!("{} is at work: {what}", self.holder()),
            done,
            total,
            elsewhere: true,
        }
    }
}

fn failure(said: &str, word: &str) -> Error {
    let mut lines = said.lines();
    let sentence = lines.next().unwrap_or_default();
    let error = Error::new(match sentence {
        "" => format!("can't make an image of {word}: another process tried and failed"),
        sentence => sentence.to_owned(),
    });
    match lines.next() {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

fn path(directory: &Path, name: &str, number: u64) -> PathBuf {
    directory.join(format!("{name}.{number}"))
}

impl Lease {
    fn path(&self) -> PathBuf {
        path(&self.directory, &self.name, self.number)
    }

    /// Whether this one was the first.
    fn create(&self) -> io::Result<bool> {
        match OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(self.path())
        {
            Ok(mut file) => {
                file.write_all(self.text(0, &Progress::default()).as_bytes())?;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn text(&self, beat: u64, progress: &Progress) -> String {
        let (done, total, what) = (progress.done, progress.total, &progress.what);
        format!("{} {beat} {done} {total} {what}\n", host_name())
    }

    /// Runs `work` and shows all the while that it is running.
    pub fn beat_while<T>(&self, reporter: &Reporter, work: impl FnOnce() -> T) -> T {
        let beats = AtomicU64::new(0);
        reporter.pulse_while(work, |progress| {
            let beat = beats.fetch_add(1, Ordering::Relaxed) + 1;
            // A lease that cannot be written is taken over: work is done twice, and no more.
            let _ = self.write(&self.text(beat, progress));
        })
    }

    /// Only into the file that is there: one that has been taken away was taken over.
    fn write(&self, text: &str) -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .truncate(true)
            .open(self.path())?;
        file.write_all(text.as_bytes())
    }

    /// Tells those who wait that it failed, and why.
    pub fn fail(&self, error: &Error) {
        let advice = error.advice().unwrap_or_default();
        // Whoever does not hear of it takes over and fails by itself.
        let _ = self.write(&format!("{FAILED}{error}\n{advice}"));
    }

    /// Whether somebody else had the right before, and died.
    pub fn is_takeover(&self) -> bool {
        self.number > 1
    }

    /// Whether somebody else has taken this one for dead.
    pub fn was_taken_over(&self) -> bool {
        path(&self.directory, &self.name, self.number + 1).exists()
    }

    /// Gives the right back: the image is there.
    pub fn end(&self) {
        for number in 1..=self.number {
            let _ = fs::remove_file(path(&self.directory, &self.name, number));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    fn wait(directory: &Path, is_there: bool) -> Result<Turn> {
        take(
            directory,
            "x",
            "IMAGE",
            Duration::from_secs(2),
            || is_there,
            &mut |_| {},
        )
    }

    #[test]
    fn the_first_makes_it_and_the_others_wait_with_a_bound() {
        let place = tempfile::tempdir().unwrap();
        let Ok(Turn::Mine(lease)) = wait(place.path(), false) else {
            panic!()
        };
        let error = wait(place.path(), false).unwrap_err();
        assert!(
            error.to_string().starts_with("waited 2 seconds for "),
            "{error}"
        );
        lease.end();
        assert!(matches!(wait(place.path(), true), Ok(Turn::Made)));
        assert!(matches!(wait(place.path(), false), Ok(Turn::Mine(_))));
    }

    #[test]
    fn who_waits_hears_why_it_failed_and_who_comes_later_tries_again() {
        let place = tempfile::tempdir().unwrap();
        let Ok(Turn::Mine(lease)) = wait(place.path(), false) else {
            panic!()
        };
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| wait(place.path(), false));
            std::thread::sleep(Duration::from_millis(300));
            lease.fail(&Error::new("no such image").hint("look again"));
            let error = waiting.join().unwrap().unwrap_err();
            assert_eq!(
                (error.to_string().as_str(), error.advice()),
                ("no such image", Some("look again"))
            );
        });
        let Ok(Turn::Mine(next)) = wait(place.path(), false) else {
            panic!()
        };
        assert_eq!(next.number, 2);
        next.end();
        assert_eq!(newest(place.path(), "x").unwrap(), None);
    }

    #[test]
    fn of_many_at_once_one_makes_it() {
        let place = tempfile::tempdir().unwrap();
        let made = AtomicBool::new(false);
        let turns: Vec<Turn> = std::thread::scope(|scope| {
            let one = || {
                let is_there = || made.load(Ordering::SeqCst);
                let turn = take(
                    place.path(),
                    "x",
                    "I",
                    Duration::from_secs(9),
                    is_there,
                    &mut |_| {},
                )
                .unwrap();
                if let Turn::Mine(lease) = &turn {
                    std::thread::sleep(Duration::from_millis(100));
                    assert!(!made.swap(true, Ordering::SeqCst), "twice");
                    lease.end();
                }
                turn
            };
            let threads: Vec<_> = (0..16).map(|_| scope.spawn(one)).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        assert_eq!(
            turns
                .iter()
                .filter(|turn| matches!(turn, Turn::Mine(_)))
                .count(),
            1
        );
    }
}
