//! Reading ahead: a second thread reads, and so decompresses, while this one works on what has been read.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::threads;
use chariot_core::error::caught;

/// How much is handed over at a time, in bytes, and how many of these wait.
const CHUNK: usize = 1 << 18;
const WAITING: usize = 16;

/// Runs `work` on a reader of what `source` gives.
///
/// # Errors
/// What `work` says; it sees the errors of `source`.
pub(super) fn through<T>(
    source: Box<dyn Read + Send>,
    work: impl FnOnce(&mut Piped) -> io::Result<T>,
) -> io::Result<T> {
    let (sender, receiver) = sync_channel(WAITING);
    // Nobody waits for it. When the receiver has gone it ends with what it reads next; from a pipe into which nobody
    // writes that comes never, and a failure would be told when the writer has gone.
    threads::start(move || pump(source, &sender))?;
    work(&mut Piped {
        receiver,
        chunk: Vec::new(),
        read: 0,
        is_at_end: false,
    })
}

fn pump(mut source: Box<dyn Read + Send>, sender: &SyncSender<io::Result<Vec<u8>>>) {
    loop {
        let mut chunk = Vec::with_capacity(CHUNK);
        let result = caught(|| source.by_ref().take(CHUNK as u64).read_to_end(&mut chunk));
        let is_last = chunk.is_empty() || result.is_err();
        // What was read before an error is good; nobody wants it if the other side is gone.
        if sender.send(Ok(chunk)).is_err() {
            return;
        }
        if let Err(error) = result {
            let _ = sender.send(Err(error));
        }
        if is_last {
            return;
        }
    }
}

/// The reading end.
pub(super) struct Piped {
    receiver: Receiver<io::Result<Vec<u8>>>,
    chunk: Vec<u8>,
    read: usize,
    is_at_end: bool,
}

impl Read for Piped {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.read == self.chunk.len() && !self.is_at_end {
            match self.receiver.recv() {
                Ok(Ok(chunk)) => {
                    self.is_at_end = chunk.is_empty();
                    (self.chunk, self.read) = (chunk, 0);
                }
                Ok(Err(error)) => return Err(error),
                // An end that nobody has told of is none: an archive cut between two members looks whole.
                Err(_) => return Err(io::Error::other("what reads the archive has ended")),
            }
        }
        let count = buffer.len().min(self.chunk.len() - self.read);
        buffer[..count].copy_from_slice(&self.chunk[self.read..self.read + count]);
        self.read += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_does_not_wait_for_a_pipe_into_which_nobody_writes() {
        let (source, _open) = std::os::unix::net::UnixStream::pair().unwrap();
        let failed = through(Box::new(source), |_| {
            Err::<(), _>(io::Error::other("no archive"))
        });
        assert_eq!(failed.unwrap_err().to_string(), "no archive");
    }

    #[test]
    fn what_breaks_off_without_a_word_is_no_end() {
        struct Breaks(bool);
        impl Read for Breaks {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                assert!(!std::mem::replace(&mut self.0, true), "a mistake");
                Ok(buffer.len().min(7))
            }
        }
        let read = |piped: &mut Piped| piped.read_to_end(&mut Vec::new());
        assert!(through(Box::new(Breaks(false)), read).is_err());
        let whole: &[u8] = b"seven";
        assert_eq!(through(Box::new(whole), read).unwrap(), 5);
    }
}
