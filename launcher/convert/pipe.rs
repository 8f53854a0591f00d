//! Reading ahead: a second thread reads, and so decompresses, while this one works on what has been read.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

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
    std::thread::scope(|scope| {
        scope.spawn(move || pump(source, &sender));
        // The receiver goes away with it, and that ends the pump.
        work(&mut Piped {
            receiver,
            chunk: Vec::new(),
            read: 0,
        })
    })
}

fn pump(mut source: Box<dyn Read + Send>, sender: &SyncSender<io::Result<Vec<u8>>>) {
    loop {
        let mut chunk = Vec::with_capacity(CHUNK);
        let result = source.by_ref().take(CHUNK as u64).read_to_end(&mut chunk);
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
}

impl Read for Piped {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.read == self.chunk.len() {
            match self.receiver.recv() {
                Ok(Ok(chunk)) => (self.chunk, self.read) = (chunk, 0),
                Ok(Err(error)) => return Err(error),
                Err(_) => return Ok(0),
            }
        }
        let count = buffer.len().min(self.chunk.len() - self.read);
        buffer[..count].copy_from_slice(&self.chunk[self.read..self.read + count]);
        self.read += count;
        Ok(count)
    }
}
