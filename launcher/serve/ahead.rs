//! What the server does before it is asked: it pushes whole blocks into the kernel's page cache, of which a
//! part was asked for, and has the block ready that a reader will want next.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

use fuser::{INodeNo, Notifier};

use crate::image::squashfs::{Inode, Piece, SquashFs};

/// Blocks that wait to be pushed or prepared; what finds no place is not done.
const QUEUE: usize = 4;

/// So many pushes are remembered, so that readers of one block at once do not push it each.
const REMEMBERED: usize = 64;

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

struct Push {
    node: u64,
    piece: Piece,
}

enum Next {
    Block(Inode, u64),
    Fragment(u32),
}

/// The two queues, and what is known of the readers.
pub(super) struct Ahead {
    push: SyncSender<Push>,
    next: SyncSender<Next>,
    pushed: Mutex<VecDeque<(u64, u64)>>,
    /// The block that was last read of a file, by a hash of the file.
    last: [AtomicU64; FOLLOWED],
    last_fragment: AtomicU32,
}

/// The other ends of the queues.
pub(super) struct Work {
    push: Receiver<Push>,
    next: Receiver<Next>,
}

impl Ahead {
    pub(super) fn new() -> (Ahead, Work) {
        let (push, pushes) = sync_channel(QUEUE);
        let (next, nexts) = sync_channel(QUEUE);
        let ahead = Ahead {
            push,
            next,
            pushed: Mutex::new(VecDeque::with_capacity(REMEMBERED)),
            last: std::array::from_fn(|_| AtomicU64::new(u64::MAX)),
            last_fragment: AtomicU32::new(u32::MAX),
        };
        let work = Work {
            push: pushes,
            next: nexts,
        };
        (ahead, work)
    }

    /// After `wanted` bytes from `offset` on were read of a file, of which `piece` is in memory.
    pub(super) fn after_read(
        &self,
        image: &SquashFs,
        node: u64,
        inode: &Inode,
        offset: u64,
        wanted: usize,
        piece: Piece,
    ) {
        let block = u64::from(image.block_size());
        let index = offset / block;
        if self.is_next(node, index, offset) {
            let next = (index + 1) * block;
            if next < inode.size {
                let _ = self.next.try_send(Next::Block(inode.clone(), next));
            } else {
                self.follow_fragments(image, inode);
            }
        }
        if piece.whole().is_some_and(|whole| whole.len() > wanted) && self.is_new(node, piece.start)
        {
            let _ = self.push.try_send(Push { node, piece });
        }
    }

    /// Whether a reader goes through the file from its start, and has just come to this block.
    fn is_next(&self, node: u64, index: u64, offset: u64) -> bool {
        let mark = |index: u64| node.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ index;
        let slot = &self.last[usize::try_from(node % FOLLOWED as u64).unwrap_or(0)];
        let before = slot.swap(mark(index), Ordering::Relaxed);
        offset == 0 || index > 0 && before == mark(index - 1)
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

    fn is_new(&self, node: u64, start: u64) -> bool {
        let mut pushed = self
            .pushed
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if pushed.contains(&(node, start)) {
            return false;
        }
        if pushed.len() == REMEMBERED {
            pushed.pop_front();
        }
        pushed.push_back((node, start));
        true
    }
}

/// Gets ready what will be read first, in a thread of its own.
pub(super) fn prepare(image: Arc<SquashFs>) {
    std::thread::spawn(move || {
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

impl Work {
    /// Starts the two threads. Pushing has one of its own: it waits for pages that a reader waits for too,
    /// and whom a worker must be free to answer.
    pub(super) fn start(self, notifier: Notifier, image: Arc<SquashFs>) {
        std::thread::spawn(move || {
            for push in self.push {
                if let Some(bytes) = push.piece.whole() {
                    // The kernel may have forgotten the file, and reads what it did not get.
                    let _ = notifier.store(INodeNo(push.node), push.piece.start, bytes);
                }
            }
        });
        std::thread::spawn(move || {
            for next in self.next {
                // Whoever asks for it hears of damage.
                match next {
                    Next::Block(inode, offset) => drop(image.piece(&inode, offset)),
                    Next::Fragment(number) => image.prepare_fragment(number),
                }
            }
        });
    }
}
