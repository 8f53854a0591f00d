//! Walking a path down from the root, and asking of each directory on it whose it is.

#![allow(
    clippy::disallowed_methods,
    reason = "a private directory is made on the way to it, where it was looked for"
)]

use crate::sys::{descriptors, rights};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, Stat, fstat, mkdirat, openat};
use rustix::io::Errno;

use super::super::open::read_text;
use super::{Refusal, Result, Whose, failed};

/// Write permission of the group, and of all others.
const GROUP: u32 = 0o020;
const OTHERS: u32 = 0o002;
const STICKY: u32 = 0o1000;

/// An end to links that lead in a circle, and to what goes away as often as it is made.
const STEPS: u32 = 128;

/// As who is shown in a user namespace who is nobody there, root of the machine among them.
const UNMAPPED: u32 = 65_534;

/// The largest list of mounts that is read, in bytes.
const MOUNTS: u64 = 64 << 20;

/// What the last directory on a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The place to be used.
    Place,
    /// Like its parents a part of the way, to a file.
    Way,
}

/// Where a walk has come to.
#[derive(Debug)]
pub(super) struct Walk {
    pub(super) directory: OwnedFd,
    pub(super) place: PathBuf,
    /// Whether others can make things in it.
    is_open: bool,
    /// The names that are left, last first.
    left: Vec<OsString>,
    steps: u32,
    whose: Whose,
    end: End,
}

impl Walk {
    /// Walks to the end of a path. What is not there is made, if that has a mode.
    pub(super) fn to(path: &Path, whose: Whose, end: End, make: Option<Mode>) -> Result<Walk> {
        let path = std::path::absolute(path).map_err(|error| failed("getcwd", path, error))?;
        let mut walk = Walk {
            directory: root()?,
            place: PathBuf::from("/"),
            is_open: false,
            left: components(&path),
            steps: STEPS,
            whose,
            end,
        };
        walk.ask()?;
        while let Some(name) = walk.left.pop() {
            walk.step(name, make)?;
        }
        Ok(walk)
    }

    fn step(&mut self, name: OsString, make: Option<Mode>) -> Result<()> {
        let place = self.place.join(&name);
        let error = match enter(&self.directory, &name) {
            Ok(next) => return self.arrive(next, place),
            Err(error) => error,
        };
        let steps = self.steps.checked_sub(1);
        self.steps = steps.ok_or_else(|| failed("open", &place, Errno::LOOP.into()))?;
        match (error.kind(), make) {
            (io::ErrorKind::NotFound, Some(mode)) => match mkdirat(&self.directory, &name, mode) {
                Ok(()) | Err(Errno::EXIST) => {
                    self.left.push(name);
                    Ok(())
                }
                Err(errno) => Err(failed("mkdir", &place, errno.into())),
            },
            (io::ErrorKind::NotFound, None) => Err(failed("open", &place, error)),
            (io::ErrorKind::NotADirectory, _) => self.follow(&name, &place),
            _ => Err(self.failed("open", &place, error)),
        }
    }

    fn arrive(&mut self, next: OwnedFd, place: PathBuf) -> Result<()> {
        if self.is_open && is_served_by_somebody(&self.directory, &next) {
            return Err(Refusal::Foreign {
                place,
                reason: "is a file system that somebody serves".into(),
            });
        }
        (self.directory, self.place) = (next, place);
        self.ask()
    }

    /// Asks whose the directory is that the walk has come to.
    fn ask(&mut self) -> Result<()> {
        let is_last = self.left.is_empty() && self.end == End::Place;
        let data = fstat(&self.directory)
            .map_err(|errno| self.failed("fstat", &self.place, errno.into()))?;
        self.whose
            .refuse(&self.directory, &data, &self.place, is_last)?;
        self.is_open = data.st_mode & (GROUP | OTHERS) != 0 || !self.whose.trusts(data.st_uid);
        Ok(())
    }

    /// A failure; where all may write, of something that somebody may have made to fail, a mount that is dead or shut.
    fn failed(&self, call: &str, place: &Path, error: io::Error) -> Refusal {
        match self.is_open {
            true => Refusal::Foreign {
                place: place.to_owned(),
                reason: format!(
                    "cannot be looked at: {call}(): {}",
                    crate::error::io_reason(&error)
                ),
            },
            false => failed(call, place, error),
        }
    }

    /// Goes where a link leads, which root or this user has laid; another's could lead to something of this user's.
    fn follow(&mut self, name: &OsStr, place: &Path) -> Result<()> {
        let told = |call: &str, errno: Errno| failed(call, place, errno.into());
        // By its own descriptor, so that whose it is and where it leads are said of the same link.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let link = openat(&self.directory, name, flags, Mode::empty())
            .map_err(|errno| told("open", errno))?;
        let data = fstat(&link).map_err(|errno| self.failed("fstat", place, errno.into()))?;
        let is_link = FileType::from_raw_mode(data.st_mode).is_symlink();
        if !self.whose.trusts(data.st_uid) {
            return Err(Refusal::Foreign {
                place: place.to_owned(),
                reason: match is_link {
                    true => format!("is a link that user {} has laid", data.st_uid),
                    false => format!("belongs to user {}", data.st_uid),
                },
            });
        }
        if !is_link {
            return Err(told("open", Errno::NOTDIR));
        }
        let target = rustix::fs::readlinkat(&link, "", Vec::new())
            .map_err(|errno| told("readlink", errno))?;
        let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
        self.left.append(&mut components(&target));
        if target.is_absolute() {
            (self.directory, self.place) = (root()?, PathBuf::from("/"));
        }
        // It may lead to where the walk is already.
        self.ask()
    }

    /// The directory, to work in it.
    pub(super) fn to_work_in(&self) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(&self.directory, ".", flags, Mode::empty())
            .map_err(|errno| failed("open", &self.place, errno.into()))
    }
}

fn root() -> Result<OwnedFd> {
    enter(CWD, OsStr::new("/")).map_err(|error| failed("open", Path::new("/"), error))
}

/// What a path is made of, last first. `..` is a name as any other: it is opened, and asked whose it is.
fn components(path: &Path) -> Vec<OsString> {
    let parts = path.components().rev();
    parts
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir))
        .map(|part| part.as_os_str().to_owned())
        .collect()
}

/// Opens a directory without asking for permission to read it, which parents need not give, and without a word to
/// whoever serves its file system.
fn enter(directory: impl AsFd, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(directory, name, flags, Mode::empty())?)
}

/// Whether another file system begins here that a process serves: whoever that is says what stat(2) gives, and when.
fn is_served_by_somebody(directory: &OwnedFd, next: &OwnedFd) -> bool {
    let (Some(here), Some(there)) = (mount_of(directory), mount_of(next)) else {
        return true;
    };
    if here == there {
        return false;
    }
    let mounts = read_text(Path::new("/proc/self/mountinfo"), MOUNTS).unwrap_or_default();
    let line = mounts
        .lines()
        .find(|line| line.split(' ').next() == Some(&there));
    let kind = line.and_then(|line| line.split_once(" - ")?.1.split(' ').next());
    kind.is_none_or(|kind| kind.starts_with("fuse"))
}

/// The number of the mount that a descriptor lies on, which stat(2) would ask the file system for.
fn mount_of(file: &OwnedFd) -> Option<String> {
    let path = format!("/proc/self/fdinfo/{}", file.as_raw_fd());
    let text = read_text(Path::new(&path), 1 << 20).ok()?;
    let number = text.lines().find_map(|line| line.strip_prefix("mnt_id:"))?;
    Some(number.trim().to_owned())
}

impl Whose {
    /// Whether what belongs to `user` is as good as one's own, on the way.
    pub(super) fn trusts(self, user: u32) -> bool {
        match self {
            _ if user == 0 => true,
            Whose::Own | Whose::Trusted | Whose::Shared | Whose::Slurms
                if user == rights::user() =>
            {
                true
            }
            // Root of the machine is nobody in a namespace of the user's own; so is everybody else, but they
            // cannot make anything that belongs to this user, as the directory itself must.
            _ => user == UNMAPPED && is_root_unmapped(),
        }
    }

    /// Refuses what another user owns, or can write.
    pub(super) fn refuse(
        self,
        file: impl AsFd,
        data: &Stat,
        place: &Path,
        is_last: bool,
    ) -> Result<()> {
        let foreign = |reason: String| {
            Err(Refusal::Foreign {
                place: place.to_owned(),
                reason,
            })
        };
        let is_owners = match (is_last, self) {
            (true, Whose::Own) => data.st_uid == rights::user(),
            (false, Whose::Slurms) => true,
            _ => self.trusts(data.st_uid),
        };
        if !is_owners {
            return foreign(format!("belongs to user {}", data.st_uid));
        }
        let writes = data.st_mode & (GROUP | OTHERS);
        let is_shared = !is_last || self == Whose::Slurms;
        if writes == 0 || (is_shared && data.st_mode & STICKY != 0) {
            return Ok(());
        }
        if writes & OTHERS != 0 {
            return foreign("can be written by everybody".into());
        }
        match matches!(self, Whose::Shared | Whose::Slurms)
            || (self != Whose::Roots && is_own_group(file, data))
        {
            true => Ok(()),
            false => foreign(format!("can be written by group {}", data.st_gid)),
        }
    }
}

/// Whether the group that may write there is this user's own, which many systems give everybody for their umask of
/// 002, and no list of more users and groups hides behind the bits of the group.
fn is_own_group(file: impl AsFd, data: &Stat) -> bool {
    let list = rustix::fs::getxattr(
        descriptors::path_of(file),
        "system.posix_acl_access",
        &mut [0_u8; 0][..],
    );
    matches!(list, Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOSYS))
        && crate::users::is_own_group(rights::user(), data.st_gid)
}

/// Whether root of the machine is nobody in this process's user namespace.
fn is_root_unmapped() -> bool {
    let map = read_text(Path::new("/proc/self/uid_map"), 1 << 16).unwrap_or_default();
    let first = map.split_ascii_whitespace().nth(2);
    first.is_some_and(|count| count != "4294967295")
}
