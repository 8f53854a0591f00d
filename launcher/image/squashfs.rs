//! A reader of SquashFS 4.0 images. Nothing is read before it is asked for, so that opening an image costs
//! the same whatever is in it; every number of the image is held against a bound before it is used, since
//! whoever made the image may be attacking; and no more memory is kept than the caches may hold.

#![allow(
    clippy::cast_possible_truncation,
    reason = "lengths and offsets in memory were held against bounds far below 4 GiB"
)]

mod compression;
mod data;
mod directory;
mod inode;
mod lzo;
mod metadata;
mod paths;
mod superblock;
#[cfg(test)]
mod tests;
mod xattr;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use nix::errno::Errno;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

pub use compression::Compressor;
pub use data::{Block, Piece, Stretch};
pub use directory::{Entries, Entry, Position};
pub use inode::{Inode, Kind};
pub use superblock::SIZE as SUPERBLOCK;
pub use xattr::Xattr;

use data::Segment;
use metadata::MetadataBlock;
use superblock::{InodeReference, Superblock};

/// What is wrong with an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} (at offset {offset})")]
pub struct Damage {
    /// Where, in bytes from the image's start.
    pub offset: u64,
    what: &'static str,
    /// The answer of the kernel, where the image could not even be read.
    pub errno: Option<Errno>,
    /// What to do about it.
    pub advice: &'static str,
}

impl Damage {
    fn new(offset: u64, what: &'static str) -> Damage {
        Damage {
            offset,
            what,
            errno: None,
            advice: "the image is damaged: copy or make it again",
        }
    }

    /// Something whole that is not read here.
    fn unknown(offset: u64, what: &'static str) -> Damage {
        Damage {
            advice: "unpack it with the program that made it, and let chariot pack make it again",
            ..Damage::new(offset, what)
        }
    }
}

/// What reading an image gives.
pub type Result<T> = std::result::Result<T, Damage>;

/// The image in its file.
#[derive(Debug)]
struct Source {
    file: File,
    /// Where the image begins in the file; a SIF file has something before it.
    start: u64,
    length: u64,
}

impl Source {
    /// Reads with pread(2): a mapping of the file would kill the server when somebody shortens it.
    fn read_exact(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let end = offset.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.length) {
            return Err(Damage::new(offset, "something lies outside of the image"));
        }
        self.file
            .read_exact_at(buffer, self.start + offset)
            .map_err(|error| match error.raw_os_error() {
                Some(number) => Damage {
                    errno: Some(Errno::from_raw(number)),
                    advice: match Errno::from_raw(number) {
                        Errno::ESTALE => {
                            "somebody has replaced or removed it on its file server: start the container again"
                        }
                        _ => {
                            "the file system that it lies on fails: copy it to another, or tell those who run it"
                        }
                    },
                    ..Damage::new(offset, "the file cannot be read")
                },
                None => Damage::new(offset, "the file has become shorter"),
            })
    }
}

#[derive(Debug, Clone)]
struct BytesOf;

impl<K> Weighter<K, Block> for BytesOf {
    fn weight(&self, _: &K, block: &Block) -> u64 {
        64 + block.capacity() as u64
    }
}

impl<K> Weighter<K, Arc<MetadataBlock>> for BytesOf {
    fn weight(&self, _: &K, _: &Arc<MetadataBlock>) -> u64 {
        64 + metadata::BLOCK as u64
    }
}

impl<K> Weighter<K, Arc<Segment>> for BytesOf {
    fn weight(&self, _: &K, segment: &Arc<Segment>) -> u64 {
        segment.weight()
    }
}

/// Where places of inodes serve as their numbers, the first is not 0, which stands for no file in FUSE.
const NOT_A_PLACE: u64 = 1;

type Kept<K, V> = Cache<K, V, BytesOf>;

/// An open image.
#[derive(Debug)]
pub struct SquashFs {
    source: Source,
    superblock: Superblock,
    /// Data and fragment blocks by where they begin.
    blocks: Kept<u64, Block>,
    /// Metadata blocks by where they begin.
    metadata: Kept<u64, Arc<MetadataBlock>>,
    /// Lists of the sizes of files' blocks, by where they are and their number.
    segments: Kept<(u64, usize, u64), Arc<Segment>>,
}

impl SquashFs {
    /// Opens the image of `length` bytes that begins at `start` in `file`. Reading takes `memory` bytes in
    /// all: a quarter for blocks that are being read and answered, the rest for caches, which hold two
    /// blocks at least.
    ///
    /// # Errors
    /// It is no SquashFS 4.0 image, or damaged in a way that shows at once.
    pub fn open(file: File, start: u64, length: u64, memory: u64) -> Result<SquashFs> {
        let source = Source {
            file,
            start,
            length,
        };
        let mut bytes = [0; superblock::SIZE];
        if length < bytes.len() as u64 {
            return Err(Damage::new(
                length,
                "the file ends before the superblock does",
            ));
        }
        source.read_exact(0, &mut bytes)?;
        let superblock = Superblock::parse(&bytes, length)?;
        let block = u64::from(superblock.block_size);
        let caches = memory / 4 * 3;
        let data = (caches / 4 * 3).max(2 * block);
        let kept = caches / 8;
        let image = SquashFs {
            blocks: cache(data, block),
            metadata: cache(kept, metadata::BLOCK as u64),
            segments: cache(kept, 512),
            source,
            superblock,
        };
        image.root()?;
        Ok(image)
    }

    /// The file that it is read from.
    pub fn file(&self) -> &File {
        &self.source.file
    }

    /// Where in the file it lies: its start and its length, in bytes.
    pub fn place(&self) -> (u64, u64) {
        (self.source.start, self.source.length)
    }

    /// How it is compressed.
    pub fn compressor(&self) -> Compressor {
        self.superblock.compressor
    }

    /// The size of its blocks, in bytes.
    pub fn block_size(&self) -> u32 {
        self.superblock.block_size
    }

    /// How many inodes it has.
    pub fn inode_count(&self) -> u32 {
        self.superblock.inode_count
    }

    /// Its length in bytes.
    pub fn bytes_used(&self) -> u64 {
        self.superblock.bytes_used
    }

    /// The inode with this number, by the image's own table; in an image without one, numbers are those
    /// that [`SquashFs::number_of`] gives.
    ///
    /// # Errors
    /// There is none, or the image is damaged.
    pub fn inode(&self, number: u64) -> Result<Inode> {
        let Some(table) = self.superblock.export_table else {
            return self.inode_at(InodeReference(number.wrapping_sub(NOT_A_PLACE)));
        };
        if number == 0 || number > self.superblock.inode_count.into() {
            return Err(Damage::new(table, "an inode has an impossible number"));
        }
        let reference = InodeReference(self.table_entry(table, 8, number - 1)?.u64()?);
        self.inode_at(reference)
    }

    /// By which number an inode can be found again.
    pub fn number_of(&self, entry: &Entry) -> u64 {
        match self.superblock.export_table {
            Some(_) => entry.number.into(),
            None => entry.reference.0.wrapping_add(NOT_A_PLACE),
        }
    }

    /// The same for the root.
    ///
    /// # Errors
    /// A damaged image.
    pub fn number_of_root(&self) -> Result<u64> {
        match self.superblock.export_table {
            Some(_) => Ok(self.root()?.number.into()),
            None => Ok(self.superblock.root.0.wrapping_add(NOT_A_PLACE)),
        }
    }
}

fn cache<K: Eq + std::hash::Hash, V: Clone>(memory: u64, one: u64) -> Kept<K, V>
where
    BytesOf: Weighter<K, V>,
{
    let items = usize::try_from(memory / one.max(1)).unwrap_or(1).max(1);
    Cache::with_weighter(items, memory, BytesOf)
}
