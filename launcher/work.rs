//! Long work in a process of its own: fetching, unpacking, packing. That process may have threads, and may enter
//! namespaces, without the launcher losing its own freedom to.
//!
//! Between the two there is a guard. It is deaf to what a terminal sends, and does nothing but wait: when the launcher
//! is gone it kills the worker, wherever that is (reading a pipe, writing, waiting for a registry), and removes what it
//! has made. So nothing is ever cleaned from within the worker, whose root may be another one than it thinks. If the
//! guard is killed, the kernel kills the worker, and the launcher cleans up.
//!
//! The worker answers through a pipe, in lines: how far it is, then what was done or what went wrong.

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
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::threads;
use chariot_core::error::{Error, Explain, Result, caught};
use chariot_core::handover::{self, Told};
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

/// How often it shows that it goes on.
const PULSE: Duration = Duration::from_secs(1);

/// How far work has come.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
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

/// What the worker says. A failure is told by the guard as well.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Line<T> {
    Progress(Progress),
    Failed(Told),
    Done(T),
}

/// The worker's end.
#[derive(Debug)]
pub struct Reporter {
    pipe: File,
    guard: Pid,
    last: Cell<Option<Instant>>,
    /// Held while a line is written: there can be a second thread that writes.
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
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        latest.clone_from(progress);
        send_line(&self.pipe, &Line::<()>::Progress(latest.clone()));
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
        let (latest, pipe) = (Arc::clone(&self.latest), &self.pipe);
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
                    let progress = {
                        let latest = latest.lock().unwrap_or_else(PoisonError::into_inner);
                        send_line(pipe, &Line::<()>::Progress(latest.clone()));
                        latest.clone()
                    };
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

fn send_line<T: Serialize>(mut pipe: &File, word: &Line<T>) {
    let line = format!("{}\n", handover::line(word));
    // If nobody reads, nobody is left to tell.
    let _ = pipe.write_all(line.as_bytes());
}

/// Runs `work` in a process of its own and gives what that gives. `see` is told how far it is.
///
/// # Errors
/// What `work` says, or that its process died.
pub fn run<T: Serialize + DeserializeOwned>(
    what: &str,
    work: impl FnOnce(&Reporter) -> Result<T>,
    see: impl FnMut(&Progress),
) -> Result<T> {
    run_with(what, |_| {}, work, see)
}

/// The same. `abandon` is called, in another process than this one, when the work has failed or nobody wants it any
/// more, which it is told.
///
/// # Errors
/// As [`run`].
pub fn run_with<T: Serialize + DeserializeOwned>(
    what: &str,
    abandon: impl FnOnce(bool),
    work: impl FnOnce(&Reporter) -> Result<T>,
    see: impl FnMut(&Progress),
) -> Result<T> {
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
fn listen<T: DeserializeOwned>(
    pipe: File,
    what: &str,
    mut see: impl FnMut(&Progress),
) -> Result<Option<Result<T>>> {
    let mut outcome = None;
    for line in BufReader::new(pipe).split(b'\n') {
        let line = line.explain(|| what.into())?;
        match handover::read_line(&String::from_utf8_lossy(&line)) {
            Some(Line::Progress(progress)) => see(&progress),
            Some(Line::Failed(told)) => outcome = Some(Err(told.into())),
            Some(Line::Done(done)) => outcome = Some(Ok(done)),
            None => {}
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
fn guard<T: Serialize>(
    pipe: File,
    launcher: Pid,
    what: &str,
    held: HeldBack,
    abandon: impl FnOnce(bool),
    work: impl FnOnce(&Reporter) -> Result<T>,
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

fn in_worker<T: Serialize>(
    pipe: File,
    guard: Pid,
    work: impl FnOnce(&Reporter) -> Result<T>,
) -> u8 {
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
            send_line(&reporter.pipe, &Line::Done(done));
            0
        }
        Err(error) => {
            tell(&reporter.pipe, &error);
            error.exit_code()
        }
    }
}

fn tell(mut pipe: &File, error: &Error) {
    // A worker that was killed may have left a line without its end.
    let _ = pipe.write_all(b"\n");
    send_line(pipe, &Line::<()>::Failed(Told::from(error)));
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
