//! Paths below a directory, as long as they may be: the kernel takes 4,095 bytes at a time, so that longer ones are
//! walked in pieces. Nothing on the way is a symbolic link.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

/// The longest piece of a path that is given to the kernel, in bytes.
const PIECE: usize = 4000;

/// A directory that paths begin at.
#[derive(Debug)]
pub(crate) struct Paths {
    root: OwnedFd,
    /// The last directory that a long path was walked to, and its path: the next path mostly begins like it.
    last: Mutex<Option<(Vec<u8>, Arc<OwnedFd>)>>,
}

/// A descriptor, and the rest of a path from there on.
pub(crate) struct Near<'a, 'p> {
    reached: Option<Arc<OwnedFd>>,
    root: BorrowedFd<'a>,
    rest: &'p [u8],
}

impl Near<'_, '_> {
    pub(crate) fn directory(&self) -> BorrowedFd<'_> {
        self.reached.as_ref().map_or(self.root, |fd| fd.as_fd())
    }

    pub(crate) fn rest(&self) -> &OsStr {
        match self.rest {
            b"" => OsStr::new("."),
            rest => OsStr::from_bytes(rest),
        }
    }
}

impl Paths {
    pub(crate) fn new(root: OwnedFd) -> Paths {
        Paths {
            root,
            last: Mutex::new(None),
        }
    }

    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Walks so far that the rest of the path is short enough for the kernel.
    pub(crate) fn near<'p>(&self, path: &'p [u8]) -> io::Result<Near<'_, 'p>> {
        let mut near = Near {
            reached: None,
            root: self.root.as_fd(),
            rest: path,
        };
        if path.len() <= PIECE {
            return Ok(near);
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((start, directory)) = &*last
            && let Some(rest) = path.strip_prefix(start.as_slice())
            && let Some(rest) = rest.strip_prefix(b"/")
        {
            near.reached = Some(Arc::clone(directory));
            near.rest = rest;
        }
        while near.rest.len() > PIECE {
            let piece = near.rest[..PIECE].iter().rposition(|byte| *byte == b'/');
            let Some(end) = piece.filter(|end| *end > 0) else {
                return Err(io::ErrorKind::InvalidFilename.into());
            };
            let (piece, rest) = (&near.rest[..end], &near.rest[end + 1..]);
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let next = beneath(near.directory(), OsStr::from_bytes(piece), flags)?;
            let next = Arc::new(next);
            near.reached = Some(Arc::clone(&next));
            near.rest = rest;
            let start = &path[..path.len() - rest.len() - 1];
            *last = Some((start.to_vec(), next));
        }
        Ok(near)
    }

    /// Directories have moved: paths lead elsewhere from now on.
    pub(crate) fn forget(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(crate) fn open(&self, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
        let near = self.near(path)?;
        beneath(near.directory(), near.rest(), flags)
    }
}

fn beneath(directory: BorrowedFd<'_>, path: &OsStr, flags: OFlags) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    loop {
        match openat2(directory, path, flags, Mode::empty(), resolve) {
            // Somebody renames something elsewhere; the kernel could not be sure.
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
}
