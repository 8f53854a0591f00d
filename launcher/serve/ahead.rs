//! What the server does before it is asked: it has the block ready that a reader will want next.
//!
//! It does not push the rest of a block, of which a part was asked for, into the kernel's page cache, though that is
//! twice as fast for small reads here and there (FUSE_NOTIFY_STORE): the kernel lets nothing interrupt whoever waits
//! there for a page that somebody is reading. A server that is killed just then can answer that reader no more, and
//! both wait for ever; nor can the file system be unmounted, or Slurm end the step.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::image::squashfs::{Inode, SquashFs};
use crate::threads;
use chariot_core::sys::{detached, namespaces, process};

/// Blocks that wait to be prepared; what finds no place is not done.
const QUEUE: usize = 4;

/// What nearly every program reads first: the loader and the C library, each by the names that it has where
/// distributions keep it. Their blocks are got ready while the container is being made, on a processor that has
/// nothing to do then.
const FIRST: [&[&str]; 2] = [
    &["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"],
    &[
        "/lib/x86_64-linux-gnu/libc.so.6",
        "/lib/aarch64-linux-gnu/libc.so.6",
        "/lib64/libc.so.6",
        "/usr/lib/libc.so.6",
        "/lib/ld-musl-x86_64.so.1",
        "/lib/ld-musl-aarch64.so.1",
    ],
];

/// The most of it, in bytes: an image could have a terabyte by that name.
const MOST_FIRST: u64 = 8 << 20;

/// Readers that are followed at once.
const FOLLOWED: usize = 256;

enum Next {
    Block(Inode, u64),
    Fragment(u32),
    /// Not a block: the time has come to have no other files than these.
    ShutIn(OwnedFd),
}

/// The queue, and what is known of the readers.
pub(super) struct Ahead {
    next: SyncSender<Next>,
    /// The block that was last read of a file, by a hash of the file.
    last: [AtomicU64; FOLLOWED],
    last_fragment: AtomicU32,
}

/// The other end of the queue.
pub(super) struct Work(Receiver<Next>);

impl Ahead {
    pub(super) fn new() -> (Ahead, Work) {
        let (next, nexts) = sync_channel(QUEUE);
        let ahead = Ahead {
            next,
            last: std::array::from_fn(|_| AtomicU64::new(u64::MAX)),
            last_fragment: AtomicU32::new(u32::MAX),
        };
        (ahead, Work(nexts))
    }

    /// Has the process's root replaced by `empty`.
    pub(super) fn shut_in(&self, empty: Option<OwnedFd>) {
        // It fails only if the thread is gone, and the process with it.
        let _ = empty.map(|empty| self.next.send(Next::ShutIn(empty)));
    }

    /// After a file was read from `offset` on, so many bytes.
    pub(super) fn after_read(
        &self,
        image: &SquashFs,
        node: u64,
        inode: &Inode,
        offset: u64,
        length: usize,
    ) {
        let block = u64::from(image.block_size());
        let end = offset.saturating_add((length as u64).max(1));
        let (first, last) = (offset / block, (end - 1) / block);
        if self.is_next(node, offset == 0, first, last) {
            let next = (last + 1) * block;
            if next < inode.size {
                let _ = self.next.try_send(Next::Block(inode.clone(), next));
            } else {
                self.follow_fragments(image, inode);
            }
        }
    }

    /// Whether a reader goes through the file from its start, and has just come to the `last` of these blocks. There are
    /// several where a page of the kernel's is larger than a block.
    fn is_next(&self, node: u64, is_start: bool, first: u64, last: u64) -> bool {
        let mark = |index: u64| node.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ index;
        let slot = &self.last[usize::try_from(node % FOLLOWED as u64).unwrap_or(0)];
        let before = slot.swap(mark(last), Ordering::Relaxed);
        let is_new = last > first && before == mark(first);
        is_start || is_new || first > 0 && before == mark(first - 1)
    }

    /// Trees are mostly read in the order in which they were packed.
    fn follow_fragments(&self, image: &SquashFs, inode: &Inode) {
        let Some(number) = image.fragment_of(inode) else {
            return;
        };
        let before = self.last_fragment.swap(number, Ordering::Relaxed);
        if before.wrapping_add(1) == number {
            let _ = self.next.try_send(Next::Fragment(number + 1));
        }
    }
}

/// Gets ready what will be read first, in a thread of its own.
pub(super) fn prepare(image: Arc<SquashFs>) {
    // Without it, what is first read takes longer.
    let _ = threads::start(move || {
        if namespaces::clear_capabilities().is_err() {
            return;
        }
        let step = usize::try_from(image.block_size()).unwrap_or(usize::MAX);
        for names in FIRST {
            let mut found = names.iter().map(|name| image.find(Path::new(name), true));
            let Some(inode) = found.find_map(|inode| inode.ok()?) else {
                continue;
            };
            for offset in (0..inode.size.min(MOST_FIRST)).step_by(step) {
                // Whoever reads it hears of damage.
                drop(image.piece(&inode, offset));
            }
        }
    });
}

/// For all threads. The one that does it was started with the right to, which none of them has afterwards.
fn shut_in(empty: &OwnedFd) {
    let is_done = detached::shut_in(empty).and_then(|()| namespaces::clear_capabilities());
    if is_done.is_err() {
        // Rather no files than the host's.
        process::end(125);
    }
}

impl Work {
    /// Starts the thread that does it.
    ///
    /// # Errors
    /// There can be none.
    pub(super) fn start(self, image: Arc<SquashFs>) -> io::Result<()> {
        threads::start(move || {
            for next in self.0 {
                // Whoever asks for it hears of damage.
                match next {
                    Next::Block(inode, offset) => drop(image.piece(&inode, offset)),
                    Next::Fragment(number) => image.prepare_fragment(number),
                    Next::ShutIn(empty) => shut_in(&empty),
                }
            }
        })
        .map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_is_followed_from_block_to_block_also_where_a_page_has_several() {
        let (ahead, _work) = Ahead::new();
        // Parts of one block, then the next one.
        assert!(ahead.is_next(1, true, 0, 0));
        assert!(!ahead.is_next(1, false, 0, 0));
        assert!(ahead.is_next(1, false, 1, 1));
        assert!(!ahead.is_next(1, false, 5, 5));
        // Pages of 64 KiB over blocks of 16 KiB; and one that begins in the block in which the last one ended.
        assert!(ahead.is_next(7, true, 0, 3));
        assert!(ahead.is_next(7, false, 4, 7));
        assert!(ahead.is_next(7, false, 8, 11));
        assert!(ahead.is_next(7, false, 11, 14));
        assert!(!ahead.is_next(7, false, 40, 43));
    }
}
