//! Contents of files as they are read: counted, and held against what their headers say.

use std::io::{self, Read};

use super::Bounds;

/// The contents of a file: neither more nor less than its header says, and no more than the image may have.
pub(super) struct Counted<'a, 'b> {
    pub(super) left: u64,
    pub(super) contents: &'a mut dyn Read,
    pub(super) bytes: &'a mut u64,
    pub(super) bounds: &'a mut Bounds<'b>,
    /// Whether the contents could not be read.
    pub(super) has_failed: bool,
}

impl Read for Counted<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.next(buffer).inspect_err(|_| self.has_failed = true)
    }
}

impl Counted<'_, '_> {
    fn next(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let count = self.contents.read(&mut buffer[..most])?;
        if count == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "it ends in the middle of a file",
            ));
        }
        self.left -= count as u64;
        *self.bytes += count as u64;
        (self.bounds.tick)(*self.bytes)?;
        if *self.bytes > self.bounds.most_bytes {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!(
                    "the image is larger than {} bytes uncompressed",
                    self.bounds.most_bytes
                ),
            ));
        }
        Ok(count)
    }
}
