//! Writing SquashFS 4.0 images, from any source: data as it comes, compressed on all processors, and the
//! tables at the end, when all names are known. Small files with the same contents are stored once.

#![allow(
    clippy::cast_possible_truncation,
    reason = "the format's fields are as wide as what the tree was held against"
)]

mod blocks;
mod compress;
mod inodes;
mod tables;
mod xattrs;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

use sha2::{Digest, Sha256};

pub use compress::Compression;

use super::Target;
use super::holes::fill;
use super::tree::{Number, Tree};
use crate::image::squashfs::SUPERBLOCK;
use blocks::{Blocks, Placed, Sequence};
use compress::Context;
use inodes::Inodes;
use tables::Table;

/// The size of data blocks, in bytes.
const BLOCK: u32 = 128 << 10;

/// Flags of the superblock: duplicates are stored once; there is a table from inode numbers to inodes; what
/// the decompressor wants to know comes first.
const DUPLICATES: u16 = 0x40;
const EXPORTABLE: u16 = 0x80;
const HAS_OPTIONS: u16 = 0x400;

/// Where a table is said to be that the image does not have.
const ABSENT: u64 = u64::MAX;

/// Images end at a multiple of this, so that a block device can hold them.
const PADDING: u64 = 4096;

/// Where the contents of a file are.
#[derive(Debug, Clone, Copy, Default)]
struct FileData {
    length: u64,
    first: Sequence,
    blocks: usize,
    /// The fragment that holds the file, and where in that.
    fragment: Option<(u32, u32)>,
}

/// An image that is being written.
pub struct Writer {
    how: Compression,
    blocks: Option<Blocks>,
    files: HashMap<Number, FileData>,
    /// The ends of files that have not filled a block yet.
    open: Vec<u8>,
    /// The block of each fragment.
    fragments: Vec<Sequence>,
    small: HashMap<[u8; 32], (u32, u32)>,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "a SquashFS image of {} files", self.files.len())
    }
}

impl Writer {
    /// Begins an image in `file`, which is empty.
    ///
    /// # Errors
    /// The file cannot be written, or no thread be started.
    pub fn new(mut file: File, how: Compression) -> io::Result<Writer> {
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&[0; SUPERBLOCK])?;
        let mut start = SUPERBLOCK as u64;
        if let Some(options) = how.options() {
            let length = options.len() as u16 | 1 << 15;
            file.write_all(&length.to_le_bytes())?;
            file.write_all(&options)?;
            start += 2 + options.len() as u64;
        }
        Ok(Writer {
            how,
            blocks: Some(Blocks::start(file, start, how, BLOCK)?),
            files: HashMap::new(),
            open: Vec::new(),
            fragments: Vec::new(),
            small: HashMap::new(),
        })
    }

    fn blocks(&mut self) -> io::Result<&mut Blocks> {
        self.blocks
            .as_mut()
            .ok_or_else(|| io::Error::other("the image is finished"))
    }

    /// A file that is smaller than a block.
    fn small(&mut self, bytes: &[u8]) -> io::Result<(u32, u32)> {
        let digest = Sha256::digest(bytes).into();
        if let Some(there) = self.small.get(&digest) {
            return Ok(*there);
        }
        if self.open.len() + bytes.len() > BLOCK as usize {
            self.close_fragment()?;
        }
        let place = (self.fragments.len() as u32, self.open.len() as u32);
        self.open.extend_from_slice(bytes);
        self.small.insert(digest, place);
        Ok(place)
    }

    fn close_fragment(&mut self) -> io::Result<()> {
        let open = std::mem::take(&mut self.open);
        if !open.is_empty() {
            let sequence = self.blocks()?.give(open, false)?;
            self.fragments.push(sequence);
        }
        Ok(())
    }
}

impl Target for Writer {
    fn entry(&mut self, _: &Tree, _: Number, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn file(
        &mut self,
        _: &Tree,
        number: Number,
        _: &[u8],
        _: u64,
        contents: &mut dyn Read,
    ) -> io::Result<()> {
        let mut data = FileData::default();
        loop {
            let mut block = vec![0; BLOCK as usize];
            let count = fill(contents, &mut block)?;
            if count == 0 {
                break;
            }
            data.length += count as u64;
            block.truncate(count);
            if data.blocks == 0 && count < BLOCK as usize {
                data.fragment = Some(self.small(&block)?);
                break;
            }
            let sequence = self.blocks()?.give(block, true)?;
            if data.blocks == 0 {
                data.first = sequence;
            }
            data.blocks += 1;
        }
        self.files.insert(number, data);
        Ok(())
    }

    fn finish(&mut self, tree: &Tree) -> io::Result<()> {
        self.close_fragment()?;
        let Some(blocks) = self.blocks.take() else {
            return Ok(());
        };
        let (file, end, placed) = blocks.finish()?;
        let context = Context::new(self.how, BLOCK)?;
        let mut inodes = Inodes::new(tree, context, &placed, &self.files, BLOCK);
        let root = inodes.write()?;
        Tables {
            file,
            end,
            how: self.how,
        }
        .write(inodes, root, &self.fragments, &placed, tree.made())
    }
}

/// What follows the data.
struct Tables {
    file: File,
    end: u64,
    how: Compression,
}

impl Tables {
    fn write(
        mut self,
        inodes: Inodes<'_>,
        root: u64,
        fragments: &[Sequence],
        placed: &[Placed],
        made: u64,
    ) -> io::Result<()> {
        let mut context = inodes.context;
        let inode_table = self.put(&inodes.inodes.bytes)?;
        let directory_table = self.put(&inodes.directories.bytes)?;
        let fragments_of: Vec<u8> = fragments
            .iter()
            .flat_map(|sequence| {
                let block = placed.get(*sequence).copied().unwrap_or_default();
                [
                    &block.start.to_le_bytes()[..],
                    &block.size.to_le_bytes(),
                    &[0; 4],
                ]
                .concat()
            })
            .collect();
        let fragment_table = self.put_listed(&mut context, &fragments_of)?;
        let places: Vec<u8> = inodes
            .places
            .iter()
            .flat_map(|place| place.to_le_bytes())
            .collect();
        let export_table = self.put_listed(&mut context, &places)?;
        let owners: Vec<u8> = inodes
            .owners
            .iter()
            .flat_map(|owner| owner.to_le_bytes())
            .collect();
        let id_table = self.put_listed(&mut context, &owners)?;
        let xattr_table = match inodes.xattrs.finish(&mut context, self.end)? {
            Some((bytes, header)) => {
                self.put(&bytes)?;
                header
            }
            None => ABSENT,
        };
        let options = if self.how.options().is_some() {
            HAS_OPTIONS
        } else {
            0
        };
        let mut superblock = b"hsqs".to_vec();
        let count = u32::try_from(inodes.places.len()).unwrap_or_default();
        let made = u32::try_from(made).unwrap_or(u32::MAX);
        for field in [count, made, BLOCK, fragments.len() as u32] {
            superblock.extend(field.to_le_bytes());
        }
        let log = BLOCK.trailing_zeros() as u16;
        let flags = DUPLICATES | EXPORTABLE | options;
        for field in [
            self.how.compressor.number(),
            log,
            flags,
            inodes.owners.len() as u16,
            4,
            0,
        ] {
            superblock.extend(field.to_le_bytes());
        }
        let tables = [
            id_table,
            xattr_table,
            inode_table,
            directory_table,
            fragment_table,
            export_table,
        ];
        for field in [root, self.end].into_iter().chain(tables) {
            superblock.extend(field.to_le_bytes());
        }
        self.file.set_len(self.end.next_multiple_of(PADDING))?;
        self.file.write_all_at(&superblock, 0)
    }

    /// Writes bytes at the end and says where.
    fn put(&mut self, bytes: &[u8]) -> io::Result<u64> {
        let start = self.end;
        self.file.write_all_at(bytes, start)?;
        self.end += bytes.len() as u64;
        Ok(start)
    }

    /// Writes metadata and after it a list of its blocks, and says where the list is.
    fn put_listed(&mut self, context: &mut Context, bytes: &[u8]) -> io::Result<u64> {
        let mut table = Table::default();
        table.put(context, bytes)?;
        table.close(context)?;
        let start = self.put(&table.bytes)?;
        let list: Vec<u8> = table
            .starts
            .iter()
            .flat_map(|block| (start + block).to_le_bytes())
            .collect();
        self.put(&list)
    }
}
