//! Long work in a process of its own: fetching, unpacking, packing. That process may have threads, and may enter
//! namespaces, without the launcher losing its own freedom to; and it cleans up if the launcher is killed.
//!
//! It answers through a pipe, in lines that begin with a letter: `P` how far it is, `E` and `H` what went wrong
//! and what to do, `D` what was done.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::unistd::{Pid, getppid};

use crate::error::{Error, Explain, Result};
use crate::sys::{fork, process};

/// How often progress is told at most.
const OFTEN: Duration = Duration::from_millis(100);

/// How often it shows that it goes on.
const PULSE: Duration = Duration::from_secs(1);

/// How far work has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// What is being done: `unpacking`, or a layer's digest.
    pub what: String,
    /// Bytes done.
    pub done: u64,
    /// Bytes in all; 0 if nobody knows.
    pub total: u64,
    /// Whether another process does it, on this machine or another.
    pub elsewhere: bool,
}

impl Progress {
    fn to_line(&self) -> String {
        format!("{} {} {}", self.done, self.total, self.what)
    }
}

/// The worker's end.
#[derive(Debug)]
pub struct Reporter {
    pipe: File,
    launcher: Pid,
    last: Cell<Option<Instant>>,
    latest: Arc<Mutex<Progress>>,
}

impl Reporter {
    /// Tells how far it is, unless that was told a moment ago. `is_news` is told in any case.
    pub fn progress(&self, progress: &Progress, is_news: bool) {
        let now = Instant::now();
        let is_early = self.last.get().is_some_and(|last| now - last < OFTEN);
        if is_early && !is_news {
            return;
        }
        self.last.set(Some(now));
        self.latest
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone_from(progress);
        self.line('P', &progress.to_line());
    }

    fn latest(&self) -> Arc<Mutex<Progress>> {
        Arc::clone(&self.latest)
    }

    fn line(&self, letter: char, text: &str) {
        write_line(&self.pipe, letter, text);
    }

    /// Runs `work`, and tells every second how far it is, whether or not that has changed: whoever waits for it
    /// can tell slow from dead. This starts a thread.
    pub fn pulse_while<T>(&self, work: impl FnOnce() -> T, beat: impl Fn(&Progress) + Send) -> T {
        let (latest, pipe) = (self.latest(), &self.pipe);
        let stop = AtomicBool::new(false);
        let stop = &stop;
        std::thread::scope(|scope| {
            let beater = scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let progress = latest
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .clone();
                    write_line(pipe, 'P', &progress.to_line());
                    beat(&progress);
                    std::thread::park_timeout(PULSE);
                }
            });
            let result = work();
            stop.store(true, Ordering::Relaxed);
            beater.thread().unpark();
            result
        })
    }

    /// Whether whoever started this is still there.
    pub fn is_wanted(&self) -> bool {
        getppid() == self.launcher
    }

    /// An error if the work is no longer wanted.
    ///
    /// # Errors
    /// It is not.
    pub fn check(&self) -> io::Result<()> {
        match self.is_wanted() {
            true => Ok(()),
            false => Err(io::Error::other("interrupted")),
        }
    }
}

/// Lines are shorter than what write(2) keeps together in a pipe, so that two threads can write them.
fn write_line(mut pipe: &File, letter: char, text: &str) {
    let line = format!("{letter}{}\n", text.replace('\n', " "));
    // If nobody reads, nobody is left to tell.
    let _ = pipe.write_all(line.as_bytes());
}

/// Runs `work` in a process of its own and gives the line that it ends with. `see` is told how far it is.
///
/// # Errors
/// What `work` says, or that its process died.
pub fn run(
    what: &str,
    work: impl FnOnce(&Reporter) -> Result<String>,
    mut see: impl FnMut(&Progress),
) -> Result<String> {
    let (reader, writer) = process::pipe().explain(|| what.into())?;
    let launcher = nix::unistd::getpid();
    let writer = Cell::new(Some(writer));
    let reader = Cell::new(Some(reader));
    let child = fork::fork(|| {
        drop(reader.take());
        in_child(writer.take(), launcher, work)
    })
    .explain(|| what.into())?;
    drop(writer.take());
    let mut outcome = Err(
        Error::new(format!("{what}: the process that does it was killed"))
            .hint("is there enough memory? limits of the job hold for it too"),
    );
    for line in
        BufReader::new(File::from(reader.take().ok_or_else(|| Error::new(what))?)).split(b'\n')
    {
        let line = line.explain(|| what.into())?;
        let line = String::from_utf8_lossy(&line);
        let (letter, text) = line.split_at_checked(1).unwrap_or(("", ""));
        match letter {
            "P" => {
                if let Some(progress) = read_progress(text) {
                    see(&progress);
                }
            }
            "E" => outcome = Err(Error::new(text)),
            "H" => outcome = outcome.map_err(|error| error.hint(text)),
            "D" => outcome = Ok(text.to_owned()),
            _ => {}
        }
    }
    child
        .wait()
        .explain(|| what.into())
        .or_else(|error| match &outcome {
            // It has said what was wrong.
            Err(_) => Ok(0),
            Ok(_) => Err(error),
        })?;
    outcome
}

fn in_child(
    pipe: Option<OwnedFd>,
    launcher: Pid,
    work: impl FnOnce(&Reporter) -> Result<String>,
) -> u8 {
    let Some(pipe) = pipe else { return 125 };
    let reporter = Reporter {
        pipe: File::from(pipe),
        launcher,
        last: Cell::new(None),
        latest: Arc::default(),
    };
    let result = process::ignore_polite_signals()
        .explain(|| "can't start to work".into())
        .and_then(|()| work(&reporter));
    match result {
        Ok(done) => {
            reporter.line('D', &done);
            0
        }
        Err(error) => {
            reporter.line('E', &error.to_string());
            if let Some(advice) = error.advice() {
                reporter.line('H', advice);
            }
            error.exit_code()
        }
    }
}

fn read_progress(text: &str) -> Option<Progress> {
    let mut parts = text.splitn(3, ' ');
    Some(Progress {
        done: parts.next()?.parse().ok()?,
        total: parts.next()?.parse().ok()?,
        what: parts.next()?.to_owned(),
        elsewhere: false,
    })
}
