//! Threads. How many there may be is limited (`ulimit -u`, pids.max of a job's cgroup), and at that limit the standard
//! library's `spawn` panics; here it is an error, which is told as any other.

#![allow(
    clippy::disallowed_methods,
    reason = "this is the place that the others are sent to"
)]

use std::io;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};
use std::thread::{Builder, JoinHandle, Scope, ScopedJoinHandle};

use nix::errno::Errno;

use chariot_core::error::CallError;

/// Starts a thread.
///
/// # Errors
/// There can be no more.
pub fn start(work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    Builder::new().spawn(work).map_err(refused)
}

/// Starts `most`, or as many as there can be, but one at least. `work` says what each does.
///
/// # Errors
/// There can be none, or `work` fails.
pub fn start_several<W: FnOnce() + Send + 'static>(
    most: usize,
    mut work: impl FnMut() -> io::Result<W>,
) -> io::Result<Vec<JoinHandle<()>>> {
    let mut threads = Vec::new();
    while threads.len() < most {
        match start(work()?) {
            Ok(thread) => threads.push(thread),
            Err(error) if threads.is_empty() => return Err(error),
            // Fewer do the same, and take longer.
            Err(_) => break,
        }
    }
    Ok(threads)
}

/// As many as this process may use processors.
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// How many can be started now by a library that takes one it cannot have for a lack of memory.
pub fn possible() -> usize {
    let (open, gate) = sync_channel::<()>(0);
    let gate = Arc::new(Mutex::new(gate));
    let waiting = start_several(processors(), || {
        let gate = Arc::clone(&gate);
        Ok(move || drop(gate.lock().map(|gate| gate.recv())))
    });
    drop(open);
    let ended = waiting.into_iter().flatten().map(JoinHandle::join);
    ended.count()
}

/// Starts a thread that ends before the scope does.
///
/// # Errors
/// There can be no more.
pub fn start_in<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> io::Result<ScopedJoinHandle<'scope, T>> {
    Builder::new().spawn_scoped(scope, work).map_err(refused)
}

fn refused(error: io::Error) -> io::Error {
    let errno = error.raw_os_error().map_or(Errno::EAGAIN, Errno::from_raw);
    io::Error::other(CallError::new("clone(CLONE_THREAD)", errno))
}
