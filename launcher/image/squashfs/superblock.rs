//! The superblock: the first 96 bytes, which say where everything else is.

use super::compression::Compressor;
use super::{Damage, Result};

/// Bytes of a superblock.
pub const SIZE: usize = 96;

/// Where a table is said to be that the image does not have.
const ABSENT: u64 = u64::MAX;

/// What the superblock says, checked as far as it can be by itself.
#[derive(Debug, Clone)]
pub(super) struct Superblock {
    /// How many inodes there are; their numbers begin at 1.
    pub(super) inode_count: u32,
    /// The size of a data block in bytes, a power of two.
    pub(super) block_size: u32,
    /// How many blocks hold the ends of files.
    pub(super) fragment_count: u32,
    /// How blocks are compressed.
    pub(super) compressor: Compressor,
    /// How many user and group IDs there are.
    pub(super) id_count: u16,
    /// The root directory's inode.
    pub(super) root: InodeReference,
    /// The image's length in bytes, without padding.
    pub(super) bytes_used: u64,
    /// Where the list of blocks of the ID table is.
    pub(super) id_table: u64,
    /// Where the table of extended attributes is.
    pub(super) xattr_table: Option<u64>,
    /// Where the inodes begin.
    pub(super) inode_table: u64,
    /// Where the directories begin.
    pub(super) directory_table: u64,
    /// Where the list of blocks of the fragment table is.
    pub(super) fragment_table: Option<u64>,
    /// Where the list of blocks of the table from inode numbers to inodes is.
    pub(super) export_table: Option<u64>,
}

/// An inode's place: the start of its metadata block, relative to the inode table, and its offset in
/// what that block holds uncompressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct InodeReference(pub(super) u64);

impl InodeReference {
    pub(super) fn new(block: u32, offset: u16) -> InodeReference {
        InodeReference(u64::from(block) << 16 | u64::from(offset))
    }

    pub(super) fn block(self) -> u64 {
        self.0 >> 16
    }

    pub(super) fn offset(self) -> usize {
        (self.0 & 0xffff) as usize
    }
}

impl Superblock {
    /// Reads a superblock. `length` is how many bytes there are for the image.
    pub(super) fn parse(bytes: &[u8; SIZE], length: u64) -> Result<Superblock> {
        let u16_at = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let u32_at = |at: usize| u32::from(u16_at(at)) | u32::from(u16_at(at + 2)) << 16;
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        if &bytes[..4] != b"hsqs" {
            return Err(Damage::new(0, "it does not begin as SquashFS does"));
        }
        if (u16_at(28), u16_at(30)) != (4, 0) {
            let what = "it is of another version than SquashFS 4.0";
            return Err(Damage::unknown(28, what));
        }
        let (block_size, block_log) = (u32_at(12), u16_at(22));
        if !(12..=20).contains(&block_log) || block_size != 1 << block_log {
            return Err(Damage::new(
                12,
                "its block size is none from 4 KiB to 1 MiB",
            ));
        }
        let bytes_used = u64_at(40);
        if bytes_used > length {
            return Err(Damage::new(length, "the file ends before the image does"));
        }
        let table = |at: usize| match u64_at(at) {
            start if start < bytes_used => Ok(start),
            _ => Err(Damage::new(at as u64, "a table lies outside of the image")),
        };
        let optional = |at: usize| match u64_at(at) {
            ABSENT => Ok(None),
            _ => table(at).map(Some),
        };
        let superblock = Superblock {
            inode_count: u32_at(4),
            block_size,
            fragment_count: u32_at(16),
            compressor: Compressor::from_number(u16_at(20))?,
            id_count: u16_at(26),
            root: InodeReference(u64_at(32)),
            bytes_used,
            id_table: table(48)?,
            xattr_table: optional(56)?,
            inode_table: table(64)?,
            directory_table: table(72)?,
            fragment_table: optional(80)?,
            export_table: optional(88)?,
        };
        match superblock.inode_count {
            0 => Err(Damage::new(4, "it has no inodes")),
            _ => Ok(superblock),
        }
    }
}
