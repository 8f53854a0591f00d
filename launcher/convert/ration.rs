//! How a tar archive is read beyond what the tar crate knows of it: how much of it may be headers, and that it may
//! end without its last block being filled up.

use std::cell::Cell;
use std::io::{self, Read, Seek, SeekFrom};

/// The most bytes of headers before one member: names and attributes of any length can stand there, and the tar crate
/// reads them into memory, so that a few kilobytes of archive could fill it. A file has at most 64 KiB of
/// attributes, xattr(7).
const HEADERS: u64 = 4 << 20;

/// The length of a block, in bytes.
const BLOCK: u64 = 512;

/// What may still be read.
#[derive(Debug)]
pub(super) struct Ration {
    left: Cell<u64>,
    /// How much has been read.
    at: Cell<u64>,
    /// Where the block ends in which the last member's contents did.
    filled: Cell<u64>,
}

impl Default for Ration {
    fn default() -> Ration {
        Ration {
            left: Cell::new(HEADERS),
            at: Cell::new(0),
            filled: Cell::new(0),
        }
    }
}

impl Ration {
    /// Headers come next. All contents of the member before have been read: what is left of their block means
    /// nothing, and some tools leave it out at the end. (Contents that are cut short are never filled up.)
    pub(super) fn headers(&self) {
        self.left.set(HEADERS);
        self.filled.set(self.at.get().next_multiple_of(BLOCK));
    }

    /// Contents come next, which have bounds of their own.
    pub(super) fn contents(&self) {
        self.left.set(u64::MAX);
        self.filled.set(0);
    }

    /// Takes note of bytes that were read.
    fn take(&self, count: usize) -> io::Result<()> {
        self.at.set(self.at.get().saturating_add(count as u64));
        let left = self.left.get().checked_sub(count as u64);
        let too_long = || {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "a name or a header in it is too long",
            )
        };
        self.left.set(left.ok_or_else(too_long)?);
        Ok(())
    }
}

/// A reader that fails when its ration is used up.
#[derive(Debug)]
pub(super) struct Rationed<'a, R> {
    inner: R,
    ration: &'a Ration,
}

impl<'a, R> Rationed<'a, R> {
    pub(super) fn new(inner: R, ration: &'a Ration) -> Self {
        Rationed { inner, ration }
    }
}

impl<R: Read> Read for Rationed<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut count = self.inner.read(buffer)?;
        if count == 0 {
            let missing = self
                .ration
                .filled
                .get()
                .saturating_sub(self.ration.at.get());
            count = usize::try_from(missing)
                .unwrap_or_default()
                .min(buffer.len());
            buffer[..count].fill(0);
        }
        self.ration.take(count)?;
        Ok(count)
    }
}

impl<R: Seek> Seek for Rationed<'_, R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = self.inner.seek(to)?;
        self.ration.at.set(at);
        Ok(at)
    }
}
