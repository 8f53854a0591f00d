//! Metadata blocks: inodes, directories and tables are streams of bytes cut into blocks of 8 KiB, each
//! compressed by itself behind a length of two bytes.

use std::sync::Arc;

use super::{Damage, Result, SquashFs};

/// What a metadata block holds at most, in bytes.
pub(super) const BLOCK: usize = 8192;

/// In the length of a block: it is not compressed.
const UNCOMPRESSED: u16 = 0x8000;

/// A metadata block, uncompressed.
#[derive(Debug)]
pub(super) struct MetadataBlock {
    bytes: Vec<u8>,
    /// Where the next one begins in the image.
    next: u64,
}

/// A place in a stream of metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MetadataPosition {
    /// Where the block begins in the image.
    pub(super) block: u64,
    /// The offset in what it holds.
    pub(super) offset: usize,
}

/// Reads metadata from a place on.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    image: &'a SquashFs,
    place: MetadataPosition,
    block: Option<Arc<MetadataBlock>>,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(image: &'a SquashFs, place: MetadataPosition) -> Cursor<'a> {
        Cursor {
            image,
            place,
            block: None,
        }
    }

    /// Where it stands.
    pub(super) fn place(&self) -> MetadataPosition {
        self.place
    }

    /// The rest of the block that it stands in, which is not empty.
    fn rest(&mut self) -> Result<(Arc<MetadataBlock>, usize)> {
        loop {
            let block = match self.block.take() {
                Some(block) => block,
                None => self.image.metadata_block(self.place.block)?,
            };
            if self.place.offset < block.bytes.len() {
                self.block = Some(Arc::clone(&block));
                return Ok((block, self.place.offset));
            }
            if self.place.offset > block.bytes.len() || block.bytes.is_empty() {
                return Err(self.damage("an offset lies outside of its metadata block"));
            }
            self.place = MetadataPosition {
                block: block.next,
                offset: 0,
            };
        }
    }

    pub(super) fn damage(&self, what: &'static str) -> Damage {
        Damage::new(self.place.block, what)
    }

    pub(super) fn read(&mut self, mut buffer: &mut [u8]) -> Result<()> {
        while !buffer.is_empty() {
            let (block, offset) = self.rest()?;
            let bytes = &block.bytes[offset..];
            let count = bytes.len().min(buffer.len());
            buffer[..count].copy_from_slice(&bytes[..count]);
            buffer = &mut buffer[count..];
            self.place.offset += count;
        }
        Ok(())
    }

    pub(super) fn skip(&mut self, mut count: usize) -> Result<()> {
        while count > 0 {
            let (block, offset) = self.rest()?;
            let step = (block.bytes.len() - offset).min(count);
            self.place.offset += step;
            count -= step;
        }
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.read(&mut bytes)?;
        Ok(bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// So many bytes; `count` must have been held against a limit.
    pub(super) fn bytes(&mut self, count: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.read(&mut bytes)?;
        Ok(bytes)
    }
}

impl SquashFs {
    /// The metadata block that begins at `start`.
    pub(super) fn metadata_block(&self, start: u64) -> Result<Arc<MetadataBlock>> {
        self.metadata
            .get_or_insert_with(&start, || self.read_metadata_block(start).map(Arc::new))
    }

    fn read_metadata_block(&self, start: u64) -> Result<MetadataBlock> {
        let mut length = [0; 2];
        self.source.read_exact(start, &mut length)?;
        let length = u16::from_le_bytes(length);
        let size = usize::from(length & !UNCOMPRESSED);
        if size == 0 || size > BLOCK {
            return Err(Damage::new(
                start,
                "a metadata block has an impossible length",
            ));
        }
        let mut bytes = vec![0; size];
        self.source.read_exact(start + 2, &mut bytes)?;
        if length & UNCOMPRESSED == 0 {
            bytes = self
                .superblock
                .compressor
                .decompress(&bytes, BLOCK)
                .ok_or(Damage::new(
                    start,
                    "a metadata block cannot be decompressed",
                ))?;
        }
        Ok(MetadataBlock {
            bytes,
            next: start + 2 + size as u64,
        })
    }

    /// The entry with this number of a table: a list of places of metadata blocks, which together hold
    /// entries of `size` bytes.
    pub(super) fn table_entry(&self, table: u64, size: usize, index: u64) -> Result<Cursor<'_>> {
        let position = index * size as u64;
        let mut block = [0; 8];
        self.source
            .read_exact(table + position / BLOCK as u64 * 8, &mut block)?;
        let place = MetadataPosition {
            block: u64::from_le_bytes(block),
            offset: (position % BLOCK as u64) as usize,
        };
        Ok(Cursor::new(self, place))
    }
}
