//! Getting things to the disk before they get their name: a machine that fails would otherwise leave a complete
//! name with nothing behind it.

use std::io;
use std::os::fd::AsFd;

use rustix::io::Errno;

/// Writes a file's bytes to the disk, fsync(2).
pub(super) fn file(file: impl AsFd) -> io::Result<()> {
    tolerant(rustix::fs::fsync(file))
}

/// Writes everything below a directory to the disk, syncfs(2): one call for a tree of any size.
pub(super) fn tree(directory: impl AsFd) -> io::Result<()> {
    tolerant(rustix::fs::syncfs(directory))
}

/// Writes a directory's names to the disk. It is too late to fail: they are there, for everybody who looks.
pub(super) fn names(directory: impl AsFd) {
    let _ = rustix::fs::fsync(directory);
}

/// A file system that cannot do it does not say by that that bytes are lost.
fn tolerant(result: rustix::io::Result<()>) -> io::Result<()> {
    match result {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::ROFS | Errno::PERM) => Ok(()),
        result => Ok(result?),
    }
}
