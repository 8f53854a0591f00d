//! The contents of files: blocks, each compressed by itself, and fragments, which are blocks that hold the
//! ends of several files.

use std::ops::Range;
use std::sync::Arc;

use super::inode::{Body, Inode};
use super::metadata::{Cursor, MetadataPosition};
use super::{Damage, Result, SquashFs};

/// In the size of a block: it is not compressed.
const UNCOMPRESSED: u32 = 1 << 24;

/// Sizes of blocks are kept in segments of so many.
const SEGMENT: u64 = 2048;

/// How many segments before one that is wanted are looked for: those of a terabyte, by the usual size of a block.
const LOOKED_BACK: usize = 4096;

/// An uncompressed block.
pub type Block = Arc<Vec<u8>>;

/// The stretch of a file from a position in it to the end of the block that holds it.
#[derive(Debug, Clone)]
pub struct Piece {
    /// The block; none stands for zeroes that are not in the image.
    block: Option<Block>,
    /// Where in the block the stretch is.
    range: Range<usize>,
}

impl Piece {
    /// How many bytes it has.
    pub fn len(&self) -> usize {
        self.range.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes, unless they are zeroes that are not in the image.
    pub fn bytes(&self) -> Option<&[u8]> {
        self.block.as_ref().map(|block| &block[self.range.clone()])
    }
}

/// What lseek(2) can look for in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stretch {
    /// Bytes that are in the image.
    Data,
    /// Zeroes that are not; behind its last byte, every file has some.
    Hole,
}

/// The sizes of some of a file's blocks.
#[derive(Debug)]
pub(super) struct Segment {
    /// Where the first of them begins in the image.
    start: u64,
    sizes: Vec<u32>,
    /// Where the data of the next segment begins, and the sizes of its blocks.
    next: (u64, MetadataPosition),
}

impl Segment {
    /// Bytes of memory.
    pub(super) fn weight(&self) -> u64 {
        64 + 4 * self.sizes.len() as u64
    }
}

impl SquashFs {
    /// How many whole blocks a file has; its end may be in a fragment.
    fn blocks_of(&self, inode: &Inode, in_fragment: bool) -> u64 {
        let size = u64::from(self.superblock.block_size);
        match in_fragment {
            true => inode.size / size,
            false => inode.size.div_ceil(size),
        }
    }

    /// The stretch of a file from `offset` to the end of the block that it is in, or of the file.
    ///
    /// # Errors
    /// A damaged image, or an inode that is no file.
    pub fn piece(&self, inode: &Inode, offset: u64) -> Result<Piece> {
        let Body::File { fragment, .. } = inode.body else {
            return Err(Damage::new(0, "it is not a regular file"));
        };
        let size = u64::from(self.superblock.block_size);
        let (index, within) = (offset / size, (offset % size) as usize);
        let start = index * size;
        if offset >= inode.size {
            return Ok(Piece {
                block: None,
                range: 0..0,
            });
        }
        let length = (inode.size - start).min(size) as usize;
        if let Some((number, at)) = fragment
            && index >= self.blocks_of(inode, true)
        {
            let block = self.fragment(number)?;
            let at = at as usize;
            if at.saturating_add(length) > block.len() {
                return Err(self.fragment_damage("the end of a file lies outside of its fragment"));
            }
            return Ok(Piece {
                block: Some(block),
                range: at + within..at + length,
            });
        }
        let block = self.data_block(inode, index, length)?;
        Ok(Piece {
            block,
            range: within..length,
        })
    }

    /// Where a stretch begins or goes on, from `offset` on; none if the file has no more of it.
    ///
    /// # Errors
    /// As [`SquashFs::piece`].
    pub fn next(&self, inode: &Inode, offset: u64, wanted: Stretch) -> Result<Option<u64>> {
        let Body::File { fragment, .. } = inode.body else {
            return Err(Damage::new(0, "it is not a regular file"));
        };
        if offset >= inode.size {
            return Ok(None);
        }
        let size = u64::from(self.superblock.block_size);
        let all = self.blocks_of(inode, fragment.is_some());
        let mut index = offset / size;
        while index < all {
            let segment = self.segment(inode, index / SEGMENT)?;
            let rest = segment.sizes.get((index % SEGMENT) as usize..);
            let rest = rest.filter(|rest| !rest.is_empty());
            let rest = rest.ok_or(Damage::new(segment.start, "a file has too few blocks"))?;
            let is_wanted = |block: &u32| (*block == 0) == (wanted == Stretch::Hole);
            if let Some(further) = rest.iter().position(is_wanted) {
                return Ok(Some(offset.max((index + further as u64) * size)));
            }
            index += rest.len() as u64;
        }
        Ok(match wanted {
            Stretch::Hole => Some(inode.size),
            // The end of a file that is in a fragment is in the image.
            Stretch::Data => fragment.map(|_| offset.max(all * size)),
        }
        .filter(|at| wanted == Stretch::Hole || *at < inode.size))
    }

    /// Reads a file, up to `length` bytes from `offset` on.
    ///
    /// # Errors
    /// As [`SquashFs::piece`].
    pub fn read(&self, inode: &Inode, mut offset: u64, length: usize) -> Result<Vec<u8>> {
        let left = inode.size.saturating_sub(offset);
        let length = length.min(usize::try_from(left).unwrap_or(usize::MAX));
        let mut bytes = Vec::with_capacity(length);
        while bytes.len() < length {
            let piece = self.piece(inode, offset)?;
            let count = piece.len().min(length - bytes.len());
            match piece.bytes() {
                Some(piece) => bytes.extend_from_slice(&piece[..count]),
                None => bytes.resize(bytes.len() + count, 0),
            }
            offset += count as u64;
        }
        Ok(bytes)
    }

    /// A block of a file, none if it is all zeroes.
    fn data_block(&self, inode: &Inode, index: u64, length: usize) -> Result<Option<Block>> {
        let segment = self.segment(inode, index / SEGMENT)?;
        let within = (index % SEGMENT) as usize;
        let size = *segment
            .sizes
            .get(within)
            .ok_or(Damage::new(segment.start, "a file has too few blocks"))?;
        if size == 0 {
            return Ok(None);
        }
        let before: u64 = segment.sizes[..within]
            .iter()
            .map(|size| on_disk(*size))
            .sum();
        // An image can say that a file begins at the end of all numbers; nothing can be read there.
        let start = segment.start.saturating_add(before);
        let block = self.block(start, size)?;
        match block.len() >= length {
            true => Ok(Some(block)),
            false => Err(Damage::new(start, "a block of a file is too short")),
        }
    }

    /// A segment of a file's list of sizes. A file of many is read from its beginning, once.
    fn segment(&self, inode: &Inode, wanted: u64) -> Result<Arc<Segment>> {
        let Body::File {
            start,
            fragment,
            sizes,
        } = inode.body
        else {
            return Err(Damage::new(0, "it is not a regular file"));
        };
        let key = |number| (sizes.block, sizes.offset, number);
        if let Some(segment) = self.segments.get(&key(wanted)) {
            return Ok(segment);
        }
        let all = self.blocks_of(inode, fragment.is_some());
        // An image can say that a file has more segments than can be counted; reading them from the first ends at the first
        // that is not there.
        let known = (0..wanted)
            .rev()
            .take(LOOKED_BACK)
            .find_map(|number| Some((number + 1, self.segments.get(&key(number))?.next)));
        let (mut number, mut next) = known.unwrap_or((0, (start, sizes)));
        loop {
            let count = all.saturating_sub(number * SEGMENT).min(SEGMENT);
            let segment = self.segments.get_or_insert_with(&key(number), || {
                self.read_segment(next, count).map(Arc::new)
            })?;
            if number == wanted {
                return Ok(segment);
            }
            next = segment.next;
            number += 1;
        }
    }

    fn read_segment(&self, (start, sizes): (u64, MetadataPosition), count: u64) -> Result<Segment> {
        let mut cursor = Cursor::new(self, sizes);
        let sizes = (0..count)
            .map(|_| cursor.u32())
            .collect::<Result<Vec<u32>>>()?;
        let bytes: u64 = sizes.iter().map(|size| on_disk(*size)).sum();
        Ok(Segment {
            start,
            sizes,
            next: (start.saturating_add(bytes), cursor.place()),
        })
    }

    /// The fragment block with this number.
    fn fragment(&self, number: u32) -> Result<Block> {
        let (start, size) = self.fragment_entry(number)?;
        self.block(start, size)
    }

    fn fragment_entry(&self, number: u32) -> Result<(u64, u32)> {
        let table = self
            .superblock
            .fragment_table
            .filter(|_| number < self.superblock.fragment_count);
        let table = table
            .ok_or_else(|| self.fragment_damage("a fragment is not in the table of fragments"))?;
        let mut entry = self.table_entry(table, 16, number.into())?;
        Ok((entry.u64()?, entry.u32()?))
    }

    fn fragment_damage(&self, what: &'static str) -> Damage {
        Damage::new(self.superblock.fragment_table.unwrap_or(80), what)
    }

    /// A block that begins at `start`, uncompressed. Readers of one block wait for one decompression.
    fn block(&self, start: u64, size: u32) -> Result<Block> {
        self.blocks
            .get_or_insert_with(&start, || self.read_block(start, size).map(Arc::new))
    }

    fn read_block(&self, start: u64, size: u32) -> Result<Vec<u8>> {
        let length = on_disk(size) as usize;
        let most = self.superblock.block_size as usize;
        if length == 0 || length > most {
            return Err(Damage::new(start, "a block has an impossible length"));
        }
        let mut bytes = vec![0; length];
        self.source.read_exact(start, &mut bytes)?;
        if size & UNCOMPRESSED != 0 {
            return Ok(bytes);
        }
        let mut bytes = self
            .superblock
            .compressor
            .decompress(&bytes, most)
            .ok_or(Damage::new(start, "a block cannot be decompressed"))?;
        // Ends of files are often far shorter than the room that was made for them.
        bytes.shrink_to_fit();
        Ok(bytes)
    }

    /// Has a fragment ready, if there is one of this number.
    pub fn prepare_fragment(&self, number: u32) {
        // Nobody has asked for it; who does hears of damage.
        let _ = self.fragment(number);
    }

    /// The number of the fragment that holds the end of a file.
    pub fn fragment_of(&self, inode: &Inode) -> Option<u32> {
        match inode.body {
            Body::File { fragment, .. } => fragment.map(|(number, _)| number),
            _ => None,
        }
    }
}

/// The bytes that a block takes in the image.
fn on_disk(size: u32) -> u64 {
    u64::from(size & (UNCOMPRESSED - 1))
}
