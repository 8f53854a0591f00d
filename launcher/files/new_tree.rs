//! What is made, renamed and taken away in a new directory while it is filled. Who does that is confined to it: a
//! [`Confined`] says so. Paths are the image's, without a slash in front, and nothing on the way is a link.

use std::ffi::{CStr, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps, linkat, mkdirat, openat, renameat};
use rustix::fs::{symlinkat, unlinkat, utimensat};
use rustix::io::{Errno, Result};

use super::confined::Confined;
use super::paths::{Near, Paths};

/// The new directory.
#[derive(Debug)]
pub(crate) struct NewTree(Paths);

impl NewTree {
    pub(crate) fn new(confined: &Confined) -> io::Result<NewTree> {
        let root = confined.root().try_clone_to_owned()?;
        Ok(NewTree(Paths::new(root)))
    }

    fn near<'p>(&self, path: &'p [u8]) -> Result<Near<'_, 'p>> {
        self.0
            .near(path)
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::NAMETOOLONG))
    }

    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        self.0.root()
    }

    pub(crate) fn open(&self, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
        self.0.open(path, flags)
    }

    /// Directories have moved: paths lead elsewhere from now on.
    pub(crate) fn forget(&self) {
        self.0.forget();
    }

    /// A file that was not there.
    pub(crate) fn create(&self, path: &[u8], mode: Mode) -> Result<OwnedFd> {
        let near = self.near(path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        openat(near.directory(), near.rest(), flags | OFlags::CLOEXEC, mode)
    }

    pub(crate) fn make_directory(&self, path: &[u8]) -> Result<()> {
        let near = self.near(path)?;
        mkdirat(near.directory(), near.rest(), Mode::RWXU)
    }

    /// Makes all directories that lead to a path.
    pub(crate) fn make_directories(&self, path: &[u8]) -> Result<()> {
        let mut here = None;
        for name in path.split(|byte| *byte == b'/') {
            let above = here.as_ref().map_or(self.root(), AsFd::as_fd);
            let name = OsStr::from_bytes(name);
            match mkdirat(above, name, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            here = Some(openat(above, name, flags, Mode::empty())?);
        }
        Ok(())
    }

    pub(crate) fn make_link(&self, target: &[u8], path: &[u8]) -> Result<()> {
        let near = self.near(path)?;
        symlinkat(OsStr::from_bytes(target), near.directory(), near.rest())
    }

    /// A link's time tells nobody anything; a file system that cannot set it is no reason to fail.
    pub(crate) fn stamp_link(&self, path: &[u8], modified: u64) {
        let at = Timespec {
            tv_sec: i64::try_from(modified).unwrap_or_default(),
            tv_nsec: 0,
        };
        let times = Timestamps {
            last_access: at,
            last_modification: at,
        };
        if let Ok(near) = self.near(path) {
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            let _ = utimensat(near.directory(), near.rest(), &times, flags);
        }
    }

    /// Gives a file another name.
    pub(crate) fn link(&self, first: &[u8], path: &[u8]) -> Result<()> {
        let (from, to) = (self.near(first)?, self.near(path)?);
        let flags = AtFlags::empty();
        linkat(
            from.directory(),
            from.rest(),
            to.directory(),
            to.rest(),
            flags,
        )
    }

    pub(crate) fn rename(&self, from: &[u8], to: &[u8]) -> Result<()> {
        let (from, to) = (self.near(from)?, self.near(to)?);
        renameat(from.directory(), from.rest(), to.directory(), to.rest())
    }

    /// Moves what is in an open directory of it to the top.
    pub(crate) fn raise(&self, from: impl AsFd, name: &CStr) -> Result<()> {
        renameat(from, name, self.root(), name)
    }

    /// Removes a file or an empty directory; one that is not there is no failure.
    pub(crate) fn remove(&self, path: &[u8], flags: AtFlags) -> Result<()> {
        if flags.contains(AtFlags::REMOVEDIR) {
            self.forget();
        }
        let removed = self
            .near(path)
            .and_then(|near| unlinkat(near.directory(), near.rest(), flags));
        match removed {
            Err(Errno::NOENT) => Ok(()),
            result => result,
        }
    }
}
