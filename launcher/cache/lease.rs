//! Who makes an image that many want at once, on any number of nodes: whoever creates a file first. Its holder
//! writes into it every second; the others look whether it changes, each by its own clock, and the first to find
//! it silent for too long takes over by creating the next one; `pace` has how often they look. Nothing is needed of
//! the file system but that O_EXCL works, which holds for NFS and Lustre where locks may not.
//!
//! A silent holder may be suspended, and wake up at any time: minutes later, when who took over has ended and
//! removed all leases, or when somebody else has begun anew under the same number. So a lease names who holds it,
//! and a holder writes to it, and removes it, only while it says that it is this one's.

mod pace;
mod turn;
mod watched;

pub use pace::Crowd;
pub use turn::{Turn, Want, take};

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use crate::files::maker::{self, Maker, Role, host_name};
use crate::files::own::Below;
use crate::files::{output, removal};
use crate::work::{Progress, Reporter};
use chariot_core::error::{Error, Result};
use chariot_core::escape;
use chariot_core::open;

/// After how long a silent holder is taken for dead. A shared file system can hang for some seconds.
const SILENCE: Duration = Duration::from_secs(15);

/// How often whoever watches this process hears that it waits.
const SHOWN: Duration = Duration::from_millis(500);

/// The longest lease that is read, in bytes.
const LARGEST: u64 = 64 << 10;

/// A lease that another machine has not written for so long is left over: its holder has died or will find out.
const ABANDONED: Duration = Duration::from_secs(3600);

/// For so long those who wait can still learn why it failed.
const FAILED_LATELY: Duration = Duration::from_secs(60);

/// What a lease begins with whose holder has given up.
const FAILED: &str = "failed\n";

/// The right to make an image.
#[derive(Debug)]
pub struct Lease {
    directory: PathBuf,
    name: String,
    number: u64,
    /// Who holds it, as it says in it.
    token: String,
    /// Since when, and in which second of that it was last shown that its holder is there.
    began: Instant,
    shown: AtomicU64,
}

impl Lease {
    fn new(directory: &Path, name: &str, number: u64) -> Lease {
        let token = Maker::this().name(OsStr::new("lease"), Role::Part);
        Lease {
            directory: directory.to_owned(),
            name: name.to_owned(),
            number,
            token: token.to_string_lossy().into_owned(),
            began: Instant::now(),
            shown: AtomicU64::new(0),
        }
    }
}

/// The name and the number that a lease's file has: `HEX.N`.
fn number_of(file: &str) -> Option<(&str, u64)> {
    let (name, digits) = file.rsplit_once('.')?;
    let number: u64 = digits.parse().ok()?;
    (number > 0 && number.to_string() == digits).then_some((name, number))
}

/// A lease's text; none if it is gone.
fn read(path: &Path) -> io::Result<Option<String>> {
    match open::read(path, LARGEST) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        // A file server that has just removed it for somebody else.
        Err(error) if error.kind() == io::ErrorKind::StaleNetworkFileHandle => Ok(None),
        Err(error) => Err(error),
    }
}

/// Who holds a lease that says this, if it says so.
fn maker_in(text: &str) -> Option<Maker> {
    let token = text.lines().next()?.split(' ').nth(1)?;
    maker::read(OsStr::new(token), None).map(|(_, maker)| maker)
}

/// Whether the holder is known to have ended: it ran on this machine.
fn is_dead(text: &str) -> bool {
    let now = SystemTime::now();
    maker_in(text).is_some_and(|maker| maker.is_gone(now, now))
}

/// Whether somebody is working whose lease lies here.
pub fn is_busy(leases: &Below) -> bool {
    let entries = leases.entries().unwrap_or_default();
    let mut files = entries.iter().filter_map(|entry| entry.name.to_str());
    files.any(|file| {
        lease_of(file).is_some()
            && read_in(leases, Path::new(file))
                .is_some_and(|text| !text.starts_with(FAILED) && !is_dead(&text))
    })
}

/// What a lease is of, by its file's name: a digest.
fn lease_of(file: &str) -> Option<&str> {
    let (name, _) = number_of(file)?;
    super::evict::is_hex(Path::new(name), 64).then_some(name)
}

fn read_in(leases: &Below, name: &Path) -> Option<String> {
    let (file, _) = leases.open(name).ok()?;
    let bytes = open::all_of(&file, LARGEST).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Removes leases that nobody holds any more. `is_asked` if somebody asked for that: then those go too that only tell
/// why something failed, and who still waits for one tries by itself.
pub fn sweep(leases: &Below, is_asked: bool) {
    leases.sweep();
    let now = leases.now();
    for entry in leases.entries().unwrap_or_default() {
        let is_lease = entry.name.to_str().and_then(lease_of).is_some();
        let Some(text) = is_lease.then(|| read_in(leases, &entry.name)).flatten() else {
            continue;
        };
        let age = now.duration_since(entry.modified()).unwrap_or_default();
        let is_left = match text.starts_with(FAILED) {
            true => is_asked || age > FAILED_LATELY,
            false => is_dead(&text) || age > ABANDONED,
        };
        if is_left {
            // What stays is tried again the next time.
            let _ = leases.remove(&entry.name);
        }
    }
}

fn failure(said: &str, word: &str) -> Error {
    let mut lines = said.lines();
    let sentence = lines.next().unwrap_or_default();
    let error = Error::new(match sentence {
        "" => format!("can't convert {word}: another process tried and failed"),
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
        let Some(file) = output::claim(&self.path())? else {
            return Ok(false);
        };
        let written = overwrite(&file, &self.text(0, &Progress::default()));
        written.inspect_err(|_| {
            // A lease that says nothing would have the others wait for nobody.
            let _ = removal::file(&self.path());
        })?;
        Ok(true)
    }

    fn text(&self, beat: u64, progress: &Progress) -> String {
        let (done, total, what) = (progress.done, progress.total, &progress.what);
        let token = &self.token;
        format!("{} {token} {beat} {done} {total} {what}\n", host_name())
    }

    /// Runs `work` and shows all the while that it is running.
    ///
    /// # Errors
    /// What `work` says, or nobody can show it.
    pub fn beat_while<T>(
        &self,
        reporter: &Reporter,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let beats = AtomicU64::new(0);
        reporter.pulse_while(work, |progress| {
            let beat = beats.fetch_add(1, Ordering::Relaxed) + 1;
            // A lease that cannot be written is taken over: work is done twice, and no more.
            let _ = self.write(&self.text(beat, progress));
        })
    }

    /// Shows how far its holder is, at most once a second: for work that can have no thread beside it.
    pub fn show(&self, progress: &Progress) {
        let second = self.began.elapsed().as_secs() + 1;
        if self.shown.swap(second, Ordering::Relaxed) != second {
            let _ = self.write(&self.text(second, progress));
        }
    }

    /// The lease's file, if it still is this one's.
    fn open_own(&self) -> Option<File> {
        let mut file = open::to_write(&self.path()).ok()?;
        let mut text = String::new();
        (&mut file).take(LARGEST).read_to_string(&mut text).ok()?;
        let said = text.lines().next()?.split(' ').nth(1)?;
        (said == self.token).then_some(file)
    }

    /// Only into what is this one's: a lease that has gone, or says somebody else, was taken over.
    fn write(&self, text: &str) -> io::Result<()> {
        let file = self.open_own().ok_or(io::ErrorKind::NotFound)?;
        overwrite(&file, text)
    }

    /// Tells those who wait that it failed, and why.
    pub fn fail(&self, error: &Error) {
        // A line each: what an image is called can have ends of lines in it.
        let sentence = error.to_string();
        let [sentence, advice] = [&sentence, error.advice().unwrap_or_default()].map(escape::line);
        // Whoever does not hear of it takes over and fails by itself.
        let Some(file) = self.open_own() else { return };
        if overwrite(&file, &format!("{FAILED}{sentence}\n{advice}")).is_ok() {
            // By which also those see it who do not read it.
            let _ = rustix::fs::fchmod(&file, rustix::fs::Mode::RUSR);
            self.remove_below();
        }
    }

    /// Who held it before and was taken for dead. Should they be there after all, they find that it is not theirs any
    /// more.
    pub fn losers(&self) -> Vec<Maker> {
        let before = (1..self.number).map(|number| path(&self.directory, &self.name, number));
        let texts = before.filter_map(|path| read(&path).ok().flatten());
        texts.filter_map(|text| maker_in(&text)).collect()
    }

    /// Whether somebody else has taken this one for dead.
    pub fn was_taken_over(&self) -> bool {
        self.open_own().is_none() || path(&self.directory, &self.name, self.number + 1).exists()
    }

    /// Gives the right back: the image is there, or somebody else may try.
    pub fn end(&self) {
        if self.open_own().or_else(|| self.open_own()).is_some() {
            self.remove_below();
            // A file server that was lost a moment ago may be back; one that stays would have others wait.
            let _ = removal::file(&self.path()).or_else(|_| removal::file(&self.path()));
        }
    }

    /// Those before this one were left by who failed or died.
    fn remove_below(&self) {
        for number in 1..self.number {
            let _ = removal::file(&path(&self.directory, &self.name, number));
        }
    }
}

/// Without a moment in which it would be empty for those who read it.
fn overwrite(file: &File, text: &str) -> io::Result<()> {
    file.write_all_at(text.as_bytes(), 0)?;
    file.set_len(text.len() as u64)
}

#[cfg(test)]
#[path = "lease/tests.rs"]
mod tests;
