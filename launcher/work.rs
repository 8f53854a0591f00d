//! Long work in a process of its own: fetching, unpacking, packing. That process may have threads, and may enter
//! namespaces, without the launcher losing its own freedom to.
//!
//! Between the two there is a guard. It is deaf to what a terminal sends, and does nothing but wait: when the launcher
//! is gone it kills the worker, wherever that is (reading a pipe, writing, waiting for a registry), and removes what it
//! has made. So nothing is ever cleaned from within the worker, whose root may be another one than it thinks. If the
//! guard is killed, the kernel kills the worker, and the launcher cleans up.
//!
//! The worker answers through a pipe, in lines that begin with a letter: `P` how far it is, `E` and `H` what went wrong
//! and what to do, `D` what was done.

use chariot_core::sys::descriptors;
use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::threads;
use chariot_core::error::{Error, Explain, Result, caught};
use chariot_core::escape;
use chariot_core::sys::fork::{Change, Forked};
use chariot_core::sys::signals::HeldBack;
use chariot_core::sys::{fork, process, signals};

/// How often progress is told at most.
const OFTEN: Duration = Duration::from_millis(100);

/// How long a worker that nobody wants has to finish a small file.
const ASKED: Duration = Duration::from_millis(100);

/// How long a worker that was killed may take to end: one that waits for a dead file server takes for ever.
const KILLED: Duration = Duration::from_secs(1);

/// How often the guard looks, besides when it is told.
const GUARDED: Duration = Duration::from_millis(100);

/// The longest line, in bytes; PIPE_BUF is 4096.
const LONGEST: usize = 4000;

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
    guard: Pid,
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
    ///
    /// # Errors
    /// What `work` says, or there can be no thread.
    pub fn pulse_while<T>(
        &self,
        work: impl FnOnce() -> Result<T>,
        beat: impl Fn(&Progress) + Send,
    ) -> Result<T> {
        let (latest, pipe) = (self.latest(), &self.pipe);
        let stop = AtomicBool::new(false);
        let stop = &stop;
        /// Ends the beater also when the work panics: the scope waits for it.
        struct Stop<'a>(&'a AtomicBool, std::thread::Thread);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
                self.1.unpark();
            }
        }
        std::thread::scope(|scope| {
            let beater = threads::start_in(scope, move || {
                while !stop.load(Ordering::Relaxed) {
                    let progress = latest
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .clone();
                    write_line(pipe, 'P', &progress.to_line());
                    beat(&progress);
                    std::thread::park_timeout(PULSE);
                }
            })
            .explain(|| "can't tell how far this is".into())?;
            let _stop = Stop(stop, beater.thread().clone());
            work()
        })
    }

    /// Whether whoever started this is still there.
    fn is_wanted(&self) -> bool {
        process::parent() == self.guard
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
    let mut text = text.replace('\n', " ");
    while text.len() > LONGEST {
        text.pop();
    }
    let line = format!("{letter}{text}\n");
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
    see: impl FnMut(&Progress),
) -> Result<String> {
    run_with(what, |_| {}, work, see)
}

/// The same. `abandon` is called, in another process than this one, when the work has failed or nobody wants it any
/// more, which it is told.
///
/// # Errors
/// As [`run`].
pub fn run_with(
    what: &str,
    abandon: impl FnOnce(bool),
    work: impl FnOnce(&Reporter) -> Result<String>,
    see: impl FnMut(&Progress),
) -> Result<String> {
    let (reader, writer) = descriptors::pipe().explain(|| what.into())?;
    // Whoever started this may not have wanted to hear of its children.
    signals::hear_of_children();
    let launcher = process::own();
    let writer = Cell::new(Some(writer));
    let reader = Cell::new(Some(reader));
    // A Ctrl-C between its start and its being deaf would take away who cleans up.
    let held = signals::hold_back().explain(|| what.into())?;
    let guard = fork::fork(|| {
        drop(reader.take());
        let Some(pipe) = writer.take() else {
            return 125;
        };
        guard(File::from(pipe), launcher, what, held, abandon, work)
    });
    held.let_through();
    let guard = guard.explain(|| what.into())?;
    drop(writer.take());
    let reader = reader.take().ok_or_else(|| Error::new(what))?;
    let outcome = listen(File::from(reader), what, see).inspect_err(|_| {
        // The worker goes with it.
        guard.kill_within(KILLED);
    })?;
    match (guard.wait().explain(|| what.into()), outcome) {
        (_, Some(outcome)) => outcome,
        // It was killed, and so was the worker.
        (_, None) => {
            process::await_own_end();
            Err(killed(what, None))
        }
    }
}

/// Reads what the worker says until it ends.
fn listen(
    pipe: File,
    what: &str,
    mut see: impl FnMut(&Progress),
) -> Result<Option<Result<String>>> {
    let mut outcome = None;
    for line in BufReader::new(pipe).split(b'\n') {
        let line = line.explain(|| what.into())?;
        let line = String::from_utf8_lossy(&line);
        let (letter, text) = line.split_at_checked(1).unwrap_or(("", ""));
        match letter {
            "P" => {
                if let Some(progress) = read_progress(text) {
                    see(&progress);
                }
            }
            "E" => outcome = Some(Err(Error::new(text))),
            "H" => {
                outcome = outcome
                    .map(|outcome: Result<String>| outcome.map_err(|error| error.hint(text)));
            }
            "D" => outcome = Some(Ok(text.to_owned())),
            _ => {}
        }
    }
    Ok(outcome)
}

fn killed(what: &str, signal: Option<Signal>) -> Error {
    let by = signal.map_or(String::new(), |signal| format!(" by {signal}"));
    let error = Error::new(format!("{what}: the process that does it was killed{by}"));
    match signal {
        None | Some(Signal::SIGKILL) => {
            error.hint("is there enough memory? the job's memory limit applies to it too")
        }
        Some(_) => error.hint("try again"),
    }
}

/// Starts the worker, waits until it ends or is not wanted any more, and gives the exit status.
fn guard(
    pipe: File,
    launcher: Pid,
    what: &str,
    held: HeldBack,
    abandon: impl FnOnce(bool),
    work: impl FnOnce(&Reporter) -> Result<String>,
) -> u8 {
    let own = process::own();
    let started = fork::fork(|| match pipe.try_clone() {
        Ok(pipe) => {
            held.let_through();
            in_worker(pipe, own, work)
        }
        Err(_) => 125,
    });
    let deaf = process::ignore_polite_signals();
    held.let_through();
    let worker = match started.explain(|| what.into()) {
        Ok(worker) => worker,
        Err(error) => {
            tell(&pipe, &error);
            return 125;
        }
    };
    let ended = match deaf {
        Ok(()) => watch(&worker, launcher),
        // It could not clean up.
        Err(_) => End::Unwanted,
    };
    match ended {
        End::Exited(0) if process::parent() == launcher => return 0,
        End::Exited(_) => {}
        End::Killed(signal) => {
            tell(&pipe, &killed(what, Some(signal)));
            // What a terminal or Slurm sends goes to all three, and the launcher may be about to end as well.
            let launcher = process::handle_of(launcher);
            let handles: Vec<_> = launcher.iter().map(AsFd::as_fd).collect();
            let _ = signals::wait_for(&handles, Some(GUARDED));
        }
        End::Unwanted => worker.end_within(ASKED, KILLED),
    }
    abandon(process::parent() != launcher);
    125
}

/// How the guard's watch ended.
enum End {
    Exited(u8),
    Killed(Signal),
    Unwanted,
}

fn watch(worker: &Forked, launcher: Pid) -> End {
    let handles = [process::handle_of(launcher), worker.handle()];
    let handles: Vec<_> = handles.iter().flatten().map(AsFd::as_fd).collect();
    loop {
        match worker.change() {
            Ok(Change::Exited(code)) => return End::Exited(code),
            Ok(Change::Killed(signal)) => return End::Killed(signal),
            Ok(Change::None | Change::Stopped) => {}
            Err(_) => return End::Unwanted,
        }
        if process::parent() != launcher {
            return End::Unwanted;
        }
        // A kernel that refuses the handles has it look now and then.
        if signals::wait_for(&handles, Some(GUARDED)).is_err() {
            std::thread::sleep(GUARDED);
        }
    }
}

fn in_worker(pipe: File, guard: Pid, work: impl FnOnce(&Reporter) -> Result<String>) -> u8 {
    let reporter = Reporter {
        pipe,
        guard,
        last: Cell::new(None),
        latest: Arc::default(),
    };
    let result = process::end_with(guard.as_raw().unsigned_abs())
        .explain(|| "can't start to work".into())
        .and_then(|()| caught(|| Ok(work(&reporter))).explain(|| "can't go on".into())?);
    match result {
        Ok(done) => {
            reporter.line('D', &done);
            0
        }
        Err(error) => {
            tell(&reporter.pipe, &error);
            error.exit_code()
        }
    }
}

fn tell(pipe: &File, error: &Error) {
    write_line(pipe, 'E', &escape::line(&error.to_string()));
    if let Some(advice) = error.advice() {
        write_line(pipe, 'H', &escape::line(advice));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_panics_is_not_waited_for_by_who_tells_how_far_it_is() {
        let (_reader, writer) = descriptors::pipe().unwrap();
        let reporter = Reporter {
            pipe: writer.into(),
            guard: process::parent(),
            last: Cell::new(None),
            latest: Arc::default(),
        };
        let (sender, ended) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let work = || reporter.pulse_while(|| -> Result<()> { panic!("a mistake") }, |_| {});
            let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_err();
            sender.send(panicked).unwrap();
        });
        assert_eq!(ended.recv_timeout(Duration::from_secs(20)), Ok(true));
    }
}
