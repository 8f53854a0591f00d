//! Metadata on its way into an image: blocks of 8 KiB, each with its length in front.

use std::io;

use super::compress::Context;

/// How many bytes a metadata block holds, uncompressed.
pub(super) const BLOCK: usize = 8192;

/// In the length of a metadata block: it is not compressed.
const UNCOMPRESSED: u16 = 1 << 15;

/// A place in a table: where its block begins, from the table's start, and the offset in what it holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) block: u32,
    pub(super) offset: u16,
}

impl Position {
    /// As inodes are referred to.
    pub(super) fn reference(self) -> u64 {
        u64::from(self.block) << 16 | u64::from(self.offset)
    }
}

/// A table that is being written.
#[derive(Default)]
pub(super) struct Table {
    /// Blocks that are complete.
    pub(super) bytes: Vec<u8>,
    /// Where each of them begins.
    pub(super) starts: Vec<u64>,
    open: Vec<u8>,
}

impl Table {
    /// Where the next byte goes.
    pub(super) fn place(&self) -> io::Result<Position> {
        let too_large =
            |_| io::Error::new(io::ErrorKind::FileTooLarge, "the image has too many files");
        Ok(Position {
            block: self.bytes.len().try_into().map_err(too_large)?,
            offset: self.open.len().try_into().map_err(too_large)?,
        })
    }

    pub(super) fn put(&mut self, context: &mut Context, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let count = bytes.len().min(BLOCK - self.open.len());
            self.open.extend_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
            if self.open.len() == BLOCK {
                self.close(context)?;
            }
        }
        Ok(())
    }

    /// Completes the block that is open, if one is.
    pub(super) fn close(&mut self, context: &mut Context) -> io::Result<()> {
        if self.open.is_empty() {
            return Ok(());
        }
        self.starts.push(self.bytes.len() as u64);
        let open = std::mem::take(&mut self.open);
        let compressed = context.compress(&open)?;
        let (bytes, flag) = match &compressed {
            Some(compressed) => (compressed, 0),
            None => (&open, UNCOMPRESSED),
        };
        let length = u16::try_from(bytes.len()).unwrap_or_default();
        self.bytes.extend((length | flag).to_le_bytes());
        self.bytes.extend(bytes);
        Ok(())
    }
}
