//! Directories that nobody else could have prepared, and in which nobody else can exchange what lies there.
//!
//! A path is walked component by component, by descriptor: each directory on it belongs to root or to this user, and
//! nobody else can write it, but where the sticky bit keeps them from taking away what is not theirs. What was asked
//! once holds from then on, so that what is opened by the path later is what was looked at: only root and this user
//! could change that. Who reads asks like who writes: another user may have made it all in a shared directory before
//! this one came.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, Stat, fstat, mkdirat, openat};
use rustix::io::Errno;

use super::open::{read_text, regular_at};
use crate::error::{Error, io_reason};
use crate::sys::process;

/// Write permission of the group, and of all others.
const GROUP: u32 = 0o020;
const OTHERS: u32 = 0o002;
const STICKY: u32 = 0o1000;

/// An end to links that lead in a circle, and to what goes away as often as it is made.
const STEPS: u32 = 128;

/// As who is shown in a user namespace who is nobody there, root of the machine among them.
const UNMAPPED: u32 = 65_534;

/// Whom a directory has to belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// This user alone.
    Own,
    /// This user, or root.
    Trusted,
    /// The same; and they may have let a group write there, as for a project's images.
    Shared,
    /// Root alone, as are all its parents: what everybody believes.
    Roots,
}

/// Why a directory is not used.
#[derive(Debug)]
pub enum Refusal {
    /// Somebody else could have put something there.
    Foreign {
        /// What on the path is theirs, or open to them.
        place: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// It is not there, or cannot be opened or made.
    Failed {
        /// The call and what it was for.
        call: String,
        /// What the kernel said.
        error: io::Error,
    },
}

impl Refusal {
    /// Whether somebody else is to blame, so that it is worth doing without.
    pub fn is_foreign(&self) -> bool {
        matches!(self, Refusal::Foreign { .. })
    }

    /// Whether it is simply not there.
    pub fn is_missing(&self) -> bool {
        matches!(self, Refusal::Failed { error, .. } if error.kind() == io::ErrorKind::NotFound)
    }

    /// As a sentence behind what could not be done.
    pub fn told(&self, what: &str) -> Error {
        let error = Error::new(format!("{what}: {self}"));
        match self {
            Refusal::Foreign { .. } => error.hint(
                "what lies there could be somebody else's: chown and chmod go-w it, or let the site's file name \
                 another place",
            ),
            Refusal::Failed { .. } => error,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Foreign { place, reason } => write!(out, "{} {reason}", place.display()),
            Refusal::Failed { call, error } => write!(out, "{call}: {}", io_reason(error)),
        }
    }
}

/// The result of asking whose a directory is.
pub type Result<T> = std::result::Result<T, Refusal>;

/// Opens a directory to work in it.
///
/// # Errors
/// It is not there, or not as `whose` says.
pub fn open(path: &Path, whose: Whose) -> Result<OwnedFd> {
    walk(path, whose, End::Place, None).and_then(|found| found.to_work_in())
}

/// The same, made with `mode` if it is not there, and its parents with it.
///
/// # Errors
/// As [`open()`], or it cannot be made.
pub fn make(path: &Path, whose: Whose, mode: u32) -> Result<OwnedFd> {
    walk(path, whose, End::Place, Some(Mode::from_raw_mode(mode)))
        .and_then(|found| found.to_work_in())
}

/// Whether a directory is there and as `whose` says. It need not be readable.
///
/// # Errors
/// As [`open()`].
pub fn look(path: &Path, whose: Whose) -> Result<()> {
    walk(path, whose, End::Place, None).map(drop)
}

/// Opens a regular file to read it, in a directory that is as `whose` says, and not through a link: it is never one that
/// somebody else has put there.
///
/// # Errors
/// As [`open()`], or it is no regular file.
pub fn open_file(path: &Path, whose: Whose) -> Result<File> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(failed("open", path, Errno::ISDIR.into()));
    };
    let found = walk(parent, whose, End::Place, None)?;
    let (file, _) = regular_at(&found.directory, Path::new(name))
        .map_err(|error| failed("open", path, error))?;
    Ok(file)
}

/// Refuses a file that was opened by this path, if another user owns it, can write it, or could have put it there or a
/// link to it.
///
/// # Errors
/// As [`look`], of the file and of both ways to it.
pub fn refuse_file(file: &File, path: &Path, whose: Whose) -> Result<()> {
    let named = std::path::absolute(path).map_err(|error| failed("getcwd", path, error))?;
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    let real = std::fs::read_link(&link).map_err(|error| failed("readlink", path, error))?;
    for way in [&named, &real] {
        let parent = way.parent().unwrap_or(Path::new("/"));
        walk(parent, whose, End::Way, None)?;
    }
    if let Ok(data) = named.symlink_metadata()
        && !whose.trusts(data.uid())
    {
        return Err(Refusal::Foreign {
            place: named,
            reason: format!("belongs to user {}", data.uid()),
        });
    }
    whose.refuse(file, path, true)
}

/// Refuses a place where somebody else has been first. One that is not there yet, or cannot be had for other reasons, is
/// told by who makes it.
///
/// # Errors
/// [`Refusal::Foreign`] and no other.
pub fn refuse_foreign(path: &Path, whose: Whose) -> Result<()> {
    match look(path, whose) {
        Err(refusal) if refusal.is_foreign() => Err(refusal),
        _ => Ok(()),
    }
}

/// What the last directory on a path is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// The place to be used.
    Place,
    /// Like its parents a part of the way, to a file.
    Way,
}

/// A directory that was looked at.
struct Found {
    directory: OwnedFd,
    place: PathBuf,
}

impl Found {
    fn to_work_in(&self) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(&self.directory, ".", flags, Mode::empty())
            .map_err(|errno| failed("open", &self.place, errno.into()))
    }
}

fn failed(call: &str, place: &Path, error: io::Error) -> Refusal {
    Refusal::Failed {
        call: format!("{call}(\"{}\")", place.display()),
        error,
    }
}

fn walk(path: &Path, whose: Whose, end: End, make: Option<Mode>) -> Result<Found> {
    let path = std::path::absolute(path).map_err(|error| failed("getcwd", path, error))?;
    let mut here = PathBuf::from("/");
    let mut directory =
        enter(CWD, OsStr::new("/")).map_err(|error| failed("open", &here, error))?;
    let mut left = components(&path);
    let is_end = |left: &[OsString]| left.is_empty() && end == End::Place;
    whose.refuse(&directory, &here, is_end(&left))?;
    let mut more = STEPS;
    while let Some(name) = left.pop() {
        let place = here.join(&name);
        match enter(&directory, &name) {
            Ok(next) => {
                whose.refuse(&next, &place, is_end(&left))?;
                (directory, here) = (next, place);
                continue;
            }
            Err(error) => {
                more = more
                    .checked_sub(1)
                    .ok_or_else(|| failed("open", &place, Errno::LOOP.into()))?;
                match (error.kind(), make) {
                    (io::ErrorKind::NotFound, Some(mode)) => {
                        match mkdirat(&directory, &name, mode) {
                            Ok(()) | Err(Errno::EXIST) => left.push(name),
                            Err(errno) => return Err(failed("mkdir", &place, errno.into())),
                        }
                    }
                    (io::ErrorKind::NotADirectory, _) => {
                        let target = whose.follow(&directory, &name, &place)?;
                        if target.is_absolute() {
                            here = PathBuf::from("/");
                            directory = enter(CWD, OsStr::new("/"))
                                .map_err(|error| failed("open", &here, error))?;
                        }
                        left.append(&mut components(&target));
                        // A link may lead to where the walk is already.
                        whose.refuse(&directory, &here, is_end(&left))?;
                    }
                    _ => return Err(failed("open", &place, error)),
                }
            }
        }
    }
    Ok(Found {
        directory,
        place: here,
    })
}

/// What a path is made of, last first. `..` is a name as any other: it is opened, and asked whose it is.
fn components(path: &Path) -> Vec<OsString> {
    let parts = path.components().rev();
    parts
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir))
        .map(|part| part.as_os_str().to_owned())
        .collect()
}

/// Opens a directory without asking for permission to read it, which parents need not give.
fn enter(directory: impl AsFd, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(directory, name, flags, Mode::empty())?)
}

impl Whose {
    /// Whether what belongs to `user` is as good as one's own, on the way.
    fn trusts(self, user: u32) -> bool {
        match self {
            _ if user == 0 => true,
            Whose::Own | Whose::Trusted | Whose::Shared if user == process::user() => true,
            // Root of the machine is nobody in a namespace of the user's own; so is everybody else, but they
            // cannot make anything that belongs to this user, as the directory itself must.
            _ => user == UNMAPPED && is_root_unmapped(),
        }
    }

    /// Refuses what another user owns, or can write.
    fn refuse(self, file: impl AsFd, place: &Path, is_last: bool) -> Result<()> {
        let foreign = |reason: String| {
            Err(Refusal::Foreign {
                place: place.to_owned(),
                reason,
            })
        };
        let data = fstat(&file).map_err(|errno| failed("fstat", place, errno.into()))?;
        let is_owners = match (is_last, self) {
            (true, Whose::Own) => data.st_uid == process::user(),
            _ => self.trusts(data.st_uid),
        };
        if !is_owners {
            return foreign(format!("belongs to user {}", data.st_uid));
        }
        let writes = data.st_mode & (GROUP | OTHERS);
        if writes == 0 || (!is_last && data.st_mode & STICKY != 0) {
            return Ok(());
        }
        if writes & OTHERS != 0 {
            return foreign("can be written by everybody".into());
        }
        match self == Whose::Shared || (self != Whose::Roots && is_own_group(file, &data)) {
            true => Ok(()),
            false => foreign(format!("can be written by group {}", data.st_gid)),
        }
    }

    /// Where a link leads, which root or this user has laid; another's could lead to something of this user's.
    fn follow(self, directory: &OwnedFd, name: &OsStr, place: &Path) -> Result<PathBuf> {
        let failed = |call: &str, errno: Errno| failed(call, place, errno.into());
        // By its own descriptor, so that whose it is and where it leads are said of the same link.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let link =
            openat(directory, name, flags, Mode::empty()).map_err(|errno| failed("open", errno))?;
        let data = fstat(&link).map_err(|errno| failed("fstat", errno))?;
        let is_link = FileType::from_raw_mode(data.st_mode).is_symlink();
        if !self.trusts(data.st_uid) {
            return Err(Refusal::Foreign {
                place: place.to_owned(),
                reason: match is_link {
                    true => format!("is a link that user {} has laid", data.st_uid),
                    false => format!("belongs to user {}", data.st_uid),
                },
            });
        }
        if !is_link {
            return Err(failed("open", Errno::NOTDIR));
        }
        let target = rustix::fs::readlinkat(&link, "", Vec::new())
            .map_err(|errno| failed("readlink", errno))?;
        Ok(PathBuf::from(OsString::from_vec(target.into_bytes())))
    }
}

/// Whether the group that may write there is this user's own, which many systems give everybody for their umask of
/// 002, and no list of more users and groups hides behind the bits of the group.
fn is_own_group(file: impl AsFd, data: &Stat) -> bool {
    let path = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    let list = rustix::fs::getxattr(&path, "system.posix_acl_access", &mut [0_u8; 0][..]);
    matches!(list, Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOSYS))
        && crate::host::is_own_group(process::user(), data.st_gid)
}

/// Whether root of the machine is nobody in this process's user namespace.
fn is_root_unmapped() -> bool {
    let map = read_text(Path::new("/proc/self/uid_map"), 1 << 16).unwrap_or_default();
    let first = map.split_ascii_whitespace().nth(2);
    first.is_some_and(|count| count != "4294967295")
}

#[cfg(test)]
#[path = "private/tests.rs"]
mod tests;
