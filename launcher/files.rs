//! The room in which files and directories are made, named, replaced and removed; nobody else does that.
//!
//! | module | what it answers for |
//! |---|---|
//! | [`output`] | what gets its name when it is complete, in place of what had it, which stays whole until then |
//! | [`maker`] | names of what is not complete, which tell who makes it, so that a later run knows what is left over |
//! | [`removal`] | taking trees away: below a descriptor, after asking whether it is still what was noted |
//! | [`own`] | directories that Chariot made for itself: they carry a mark, and only below one is anything swept |
//! | `new_tree`, `paths` | what is made, renamed and taken away in a new directory, on paths of any length |
//! | [`confined`] | a directory as the root of the process that fills it |
//! | [`open`] | opening a name that somebody else chose: it may be a FIFO, a device or a link by now |
//! | [`share`] | one file under two names |
//! | [`space`] | room on a file system, and what to do where there is none |

#![allow(
    clippy::disallowed_methods,
    reason = "this is the room that they are kept to"
)]

pub mod confined;
pub mod maker;
pub(crate) mod new_tree;
pub mod open;
pub mod output;
pub mod own;
pub(crate) mod paths;
pub mod removal;
pub mod share;
pub mod space;
mod sync;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, Stat};

pub use output::{Output, write, write_first};

/// Where an image's mark lies in it. What has none is not taken for an image that Chariot made.
pub const MARK: &str = ".chariot/image.json";

/// What a directory has while it is being filled or removed, beside what it holds: an empty file.
const UNFINISHED: &str = ".chariot-unfinished";

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
    fn at(directory: impl AsFd, name: &Path) -> io::Result<Identity> {
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
fn look(directory: impl AsFd, name: &Path) -> io::Result<Stat> {
    let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
    Ok(rustix::fs::statat(directory, name, flags)?)
}

fn is_directory(data: &Stat) -> bool {
    FileType::from_raw_mode(data.st_mode).is_dir()
}

/// Opens a directory in a directory, never through a link.
fn open_directory(directory: impl AsFd, name: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(directory, name, flags, Mode::empty())?)
}

/// The directory that a path lies in, and its name there.
fn split(path: &Path) -> Option<(&Path, &Path)> {
    let name = Path::new(path.file_name()?);
    match path.parent() {
        Some(parent) if parent != Path::new("") => Some((parent, name)),
        _ => Some((Path::new("."), name)),
    }
}

/// Opens a directory to work in it, through links if there are any.
fn open_parent(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}
