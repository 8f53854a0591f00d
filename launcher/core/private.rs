//! Directories that nobody else could have prepared, and in which nobody else can exchange what lies there.
//!
//! A path is walked component by component, by descriptor: each directory on it belongs to root or to this user, and
//! nobody else can write it, but where the sticky bit keeps them from taking away what is not theirs. What was asked
//! once holds from then on, so that what is opened by the path later is what was looked at: only root and this user
//! could change that. Who reads asks like who writes: another user may have made it all in a shared directory before
//! this one came.

mod walk;

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, fstat};
use rustix::io::Errno;

use super::open::regular_at;
use crate::error::{Error, io_reason};
use walk::{End, Walk};

/// As many links as the kernel follows on one path.
const LINKS: u32 = 40;

/// Whom a directory has to belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// This user alone.
    Own,
    /// This user, or root.
    Trusted,
    /// The same; and they may have let a group write there, as for a project's images.
    Shared,
    /// The same, in a directory of whoever the administrator lets Slurm work as, and where all may write if the sticky
    /// bit keeps them from taking it away: what Slurm makes for a step.
    Slurms,
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
                "what lies there could be somebody else's: chown and chmod go-w it, or let the site \
                 configuration file name \
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

fn failed(call: &str, place: &Path, error: io::Error) -> Refusal {
    Refusal::Failed {
        call: format!("{call}(\"{}\")", place.display()),
        error,
    }
}

/// The result of asking whose a directory is.
pub type Result<T> = std::result::Result<T, Refusal>;

/// Opens a directory to work in it.
///
/// # Errors
/// It is not there, or not as `whose` says.
pub fn open(path: &Path, whose: Whose) -> Result<OwnedFd> {
    Walk::to(path, whose, End::Place, None).and_then(|walk| walk.to_work_in())
}

/// The same, made with `mode` if it is not there, and its parents with it.
///
/// # Errors
/// As [`open()`], or it cannot be made.
pub fn make(path: &Path, whose: Whose, mode: u32) -> Result<OwnedFd> {
    Walk::to(path, whose, End::Place, Some(Mode::from_raw_mode(mode)))
        .and_then(|walk| walk.to_work_in())
}

/// Whether a directory is there and as `whose` says. It need not be readable.
///
/// # Errors
/// As [`open()`].
pub fn look(path: &Path, whose: Whose) -> Result<()> {
    Walk::to(path, whose, End::Place, None).map(drop)
}

/// The same for one in which all may write, if the sticky bit keeps them from taking away what is not theirs.
///
/// # Errors
/// As [`open()`].
pub fn look_at_way(path: &Path, whose: Whose) -> Result<()> {
    Walk::to(path, whose, End::Way, None).map(drop)
}

/// Opens a regular file to read it, in a directory that is as `whose` says, and not through a link: it is never one that
/// somebody else has put there.
///
/// # Errors
/// As [`open()`], or it is not a regular file.
pub fn open_file(path: &Path, whose: Whose) -> Result<File> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(failed("open", path, Errno::ISDIR.into()));
    };
    let walk = Walk::to(parent, whose, End::Place, None)?;
    let (file, _) = regular_at(&walk.directory, Path::new(name))
        .map_err(|error| failed("open", path, error))?;
    Ok(file)
}

/// Refuses a file that was opened by this path, if another user owns it, can write it, or could have put it there or a
/// link to it.
///
/// # Errors
/// As [`refuse_way`], of the file too.
pub fn refuse_file(file: &File, path: &Path, whose: Whose) -> Result<()> {
    refuse_way(path, whose)?;
    let data = fstat(file).map_err(|errno| failed("fstat", path, errno.into()))?;
    whose.refuse(file, &data, path, true)
}

/// Refuses a path by which another user could have a file found, of all directories and links that lead there.
///
/// # Errors
/// As [`look_at_way`], of all of them.
pub fn refuse_way(path: &Path, whose: Whose) -> Result<()> {
    let mut way = std::path::absolute(path).map_err(|error| failed("getcwd", path, error))?;
    for _ in 0..LINKS {
        let parent = way.parent().unwrap_or(Path::new("/")).to_owned();
        look_at_way(&parent, whose)?;
        let data = way.symlink_metadata();
        let data = data.map_err(|error| failed("lstat", &way, error))?;
        if !whose.trusts(data.uid()) {
            return Err(Refusal::Foreign {
                place: way,
                reason: format!("belongs to user {}", data.uid()),
            });
        }
        match way.read_link() {
            Ok(target) => way = parent.join(target),
            // It is the file itself, in a directory where nobody else can put another.
            Err(_) => return Ok(()),
        }
    }
    Err(failed("open", path, Errno::LOOP.into()))
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

#[cfg(test)]
#[path = "private/tests.rs"]
mod tests;
