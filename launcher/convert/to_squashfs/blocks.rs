//! Data blocks on their way into an image: compressed by as many threads as there are processors, written in
//! the order in which they were given.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::compress::{Compression, Context};
use crate::threads;
use chariot_core::error::caught;

/// In the size of a block: it is not compressed.
pub(super) const UNCOMPRESSED: u32 = 1 << 24;

/// How many blocks wait for each thread.
const WAITING: usize = 8;

/// A block's number in the order in which they were given.
pub(super) type Sequence = usize;

/// Where a block lies in the image, and its size as lists of blocks have it: none is all zeroes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) start: u64,
    pub(super) size: u32,
}

struct Given {
    sequence: Sequence,
    bytes: Vec<u8>,
}

struct Done {
    sequence: Sequence,
    result: io::Result<(Vec<u8>, bool)>,
}

/// The blocks of an image.
pub(super) struct Blocks {
    givers: Option<SyncSender<Given>>,
    done: Receiver<Done>,
    threads: Vec<JoinHandle<()>>,
    file: io::BufWriter<File>,
    end: u64,
    /// Compressed, and waiting for those before them.
    early: BTreeMap<Sequence, (Vec<u8>, bool)>,
    placed: Vec<Placed>,
    /// How many have been given, and how many of these been written.
    given: Sequence,
    written: Sequence,
    most_early: usize,
}

impl Blocks {
    /// Blocks that are written into `file` from byte `start` on, which is where it stands.
    pub(super) fn start(
        file: File,
        start: u64,
        how: Compression,
        block: u32,
    ) -> io::Result<Blocks> {
        let count = threads::processors();
        let (givers, receiver) = sync_channel::<Given>(WAITING * count);
        let receiver = Arc::new(Mutex::new(receiver));
        let (sender, done) = sync_channel(2 * WAITING * count);
        let threads = threads::start_several(count, || {
            let context = Context::new(how, block)?;
            let (receiver, sender) = (Arc::clone(&receiver), sender.clone());
            Ok(move || run(&receiver, &sender, context))
        })?;
        Ok(Blocks {
            givers: Some(givers),
            done,
            threads,
            file: io::BufWriter::with_capacity(1 << 20, file),
            end: start,
            early: BTreeMap::new(),
            placed: Vec::new(),
            given: 0,
            written: 0,
            most_early: 2 * WAITING * count,
        })
    }

    /// Gives a block to be compressed and written; one of zeroes takes no place.
    pub(super) fn give(&mut self, bytes: Vec<u8>, may_be_hole: bool) -> io::Result<Sequence> {
        let sequence = self.given;
        self.given += 1;
        self.placed.push(Placed::default());
        if may_be_hole && bytes.iter().all(|byte| *byte == 0) {
            self.early.insert(sequence, (Vec::new(), false));
            self.write_ready()?;
            return Ok(sequence);
        }
        // No more than this many are under way: memory stays bounded, and no thread waits for this one.
        while self.given - self.written > self.most_early {
            self.take_one()?;
        }
        let ended = || io::Error::other("the compressing threads have ended");
        let givers = self.givers.as_ref().ok_or_else(ended)?;
        givers
            .send(Given { sequence, bytes })
            .map_err(|_| ended())?;
        while let Ok(done) = self.done.try_recv() {
            self.take(done)?;
        }
        Ok(sequence)
    }

    fn take_one(&mut self) -> io::Result<()> {
        let done = self
            .done
            .recv()
            .map_err(|_| io::Error::other("the compressing threads have ended"))?;
        self.take(done)
    }

    fn take(&mut self, done: Done) -> io::Result<()> {
        self.early.insert(done.sequence, done.result?);
        self.write_ready()
    }

    fn write_ready(&mut self) -> io::Result<()> {
        while let Some((bytes, is_compressed)) = self.early.remove(&self.written) {
            let length = u32::try_from(bytes.len()).unwrap_or_default();
            let flag = if is_compressed || length == 0 {
                0
            } else {
                UNCOMPRESSED
            };
            self.placed[self.written] = Placed {
                start: self.end,
                size: length | flag,
            };
            self.file.write_all(&bytes)?;
            self.end += u64::from(length);
            self.written += 1;
        }
        Ok(())
    }

    /// Waits for all blocks. Gives the file, where its data ends, and where each block is.
    pub(super) fn finish(mut self) -> io::Result<(File, u64, Vec<Placed>)> {
        while self.written < self.given {
            self.take_one()?;
        }
        self.givers = None;
        for thread in self.threads.drain(..) {
            // All that it was given has come back.
            let _ = thread.join();
        }
        let file = self
            .file
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        Ok((file, self.end, self.placed))
    }
}

fn run(receiver: &Mutex<Receiver<Given>>, sender: &SyncSender<Done>, mut context: Context) {
    loop {
        let next = receiver
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .recv();
        let Ok(Given { sequence, bytes }) = next else {
            return;
        };
        let result = caught(|| context.compress(&bytes)).map(|compressed| match compressed {
            Some(compressed) => (compressed, true),
            None => (bytes, false),
        });
        if sender.send(Done { sequence, result }).is_err() {
            return;
        }
    }
}
