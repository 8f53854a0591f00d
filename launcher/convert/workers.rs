//! Threads that work on what they are given, in any order.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::threads;
use chariot_core::error::caught;

/// How much work waits for each thread.
const WAITING: usize = 32;

/// Threads, as many as this process may use processors.
#[derive(Debug)]
pub(super) struct Workers<T> {
    sender: Option<SyncSender<T>>,
    threads: Vec<JoinHandle<()>>,
    state: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Debug, Default)]
struct State {
    /// Given and not yet done.
    open: usize,
    error: Option<io::Error>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T: Send + 'static> Workers<T> {
    /// Starts them.
    ///
    /// # Errors
    /// There can be no thread.
    pub(super) fn start(
        work: impl Fn(T) -> io::Result<()> + Send + Sync + Clone + 'static,
    ) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(WAITING * threads::processors());
        let receiver = Arc::new(Mutex::new(receiver));
        let state = Arc::default();
        let threads = threads::start_several(threads::processors(), || {
            let (receiver, state, work) = (Arc::clone(&receiver), Arc::clone(&state), work.clone());
            Ok(move || run(&receiver, &state, work))
        })?;
        Ok(Workers {
            sender: Some(sender),
            threads,
            state,
        })
    }

    /// Gives them something to do.
    ///
    /// # Errors
    /// Something that was given before could not be done.
    pub(super) fn give(&self, item: T) -> io::Result<()> {
        let mut state = lock(&self.state.0);
        if let Some(error) = state.error.take() {
            return Err(error);
        }
        state.open += 1;
        drop(state);
        let gone = || io::Error::other("its threads have ended");
        self.sender
            .as_ref()
            .ok_or_else(gone)?
            .send(item)
            .map_err(|_| gone())
    }

    /// Waits until all is done.
    ///
    /// # Errors
    /// Something could not be done.
    pub(super) fn wait(&self) -> io::Result<()> {
        let mut state = lock(&self.state.0);
        while state.open > 0 {
            state = self
                .state
                .1
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.error.take().map_or(Ok(()), Err)
    }
}

fn run<T>(
    receiver: &Mutex<Receiver<T>>,
    state: &(Mutex<State>, Condvar),
    work: impl Fn(T) -> io::Result<()>,
) {
    loop {
        let Ok(item) = lock(receiver).recv() else {
            return;
        };
        let result = caught(|| work(item));
        let mut state_now = lock(&state.0);
        state_now.open -= 1;
        if let Err(error) = result {
            state_now.error.get_or_insert(error);
        }
        state.1.notify_all();
    }
}

impl<T> Drop for Workers<T> {
    fn drop(&mut self) {
        self.sender = None;
        for thread in self.threads.drain(..) {
            // It has said what it had to say.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_panics_keeps_nobody_waiting() {
        let workers = Workers::start(|number: u32| {
            assert_ne!(number, 7, "a mistake");
            Ok(())
        })
        .unwrap();
        for number in 0..20 {
            // It may be told here already.
            let _ = workers.give(number);
        }
        let mut outcome = workers.wait();
        if outcome.is_ok() {
            // It was told to the one who gave more, and is told once.
            outcome = workers.give(7).and_then(|()| workers.wait());
        }
        assert!(outcome.unwrap_err().to_string().contains("panicked"));
    }
}
