//! How much of an archive may be headers. Names and attributes of any length can stand before a member, and the
//! tar crate reads them into memory: a few kilobytes of archive could fill it.

use std::cell::Cell;
use std::io::{self, Read, Seek, SeekFrom};

/// The most bytes of headers before one member; a file has at most 64 KiB of attributes, xattr(7).
const HEADERS: u64 = 4 << 20;

/// What may still be read.
#[derive(Debug)]
pub(super) struct Ration(Cell<u64>);

impl Default for Ration {
    fn default() -> Ration {
        Ration(Cell::new(HEADERS))
    }
}

impl Ration {
    /// Headers come next.
    pub(super) fn headers(&self) {
        self.0.set(HEADERS);
    }

    /// Contents come next, which have bounds of their own.
    pub(super) fn contents(&self) {
        self.0.set(u64::MAX);
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
        let count = self.inner.read(buffer)?;
        let left = self.ration.0.get().checked_sub(count as u64);
        let too_long = || {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "a name or a header in it is too long",
            )
        };
        self.ration.0.set(left.ok_or_else(too_long)?);
        Ok(count)
    }
}

impl<R: Seek> Seek for Rationed<'_, R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}
