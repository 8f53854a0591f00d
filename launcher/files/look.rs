//! What has a name in a directory, and whether it still is what it was.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{FileType, Mode, OFlags, Stat};

/// What a directory has while it is being filled or removed, beside what it holds: an empty file.
pub(crate) const UNFINISHED: &str = ".chariot-unfinished";

/// What tells a file from every other one on this machine, as long as it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    /// Of an open file.
    ///
    /// # Errors
    /// As fstat(2).
    pub fn of(file: impl AsFd) -> io::Result<Identity> {
        Ok(Identity::from(&rustix::fs::fstat(file)?))
    }

    /// Of what has a name in a directory; a link is itself.
    ///
    /// # Errors
    /// As fstatat(2).
    pub(super) fn at(directory: impl AsFd, name: &Path) -> io::Result<Identity> {
        look(directory, name).map(|data| Identity::from(&data))
    }
}

impl From<&Stat> for Identity {
    fn from(data: &Stat) -> Identity {
        Identity {
            device: data.st_dev,
            inode: data.st_ino,
        }
    }
}

/// What stat(2) says of a name in a directory; a link is itself.
pub(super) fn look(directory: impl AsFd, name: &Path) -> io::Result<Stat> {
    let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
    Ok(rustix::fs::statat(directory, name, flags)?)
}

pub(super) fn is_directory(data: &Stat) -> bool {
    FileType::from_raw_mode(data.st_mode).is_dir()
}

/// Opens a directory in a directory, never through a link.
pub(super) fn open_directory(directory: impl AsFd, name: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(directory, name, flags, Mode::empty())?)
}

/// The directory that a path lies in, and its name there.
pub(super) fn split(path: &Path) -> Option<(&Path, &Path)> {
    let name = Path::new(path.file_name()?);
    match path.parent() {
        Some(parent) if parent != Path::new("") => Some((parent, name)),
        _ => Some((Path::new("."), name)),
    }
}

/// Opens a directory to work in it, through links if there are any.
pub(super) fn open_parent(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// When something was last touched in any way: anybody can set the time of modification, and an image's directories
/// get theirs from the image.
pub(super) fn touched(data: &Stat) -> SystemTime {
    let seconds = u64::try_from(data.st_mtime.max(data.st_ctime)).unwrap_or(0);
    UNIX_EPOCH + Duration::from_secs(seconds)
}
