//! Where a path leads inside a tree, also where nothing is yet: symbolic links are followed by hand, since openat2(2)
//! does not say where a link that leads nowhere would have led.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use rustix::fs::{FileType, OFlags};

use super::points::kind_of;
use chariot_core::error::CallError;
use chariot_core::sys::mounts;
use chariot_core::sys::{self, Call};

/// As many links as the kernel follows on one way, path_resolution(7).
const MOST_LINKS: usize = 40;

/// What a path leads to.
pub(super) struct Reached {
    /// The way to it from the root, without a link.
    pub(super) path: PathBuf,
    /// What is there; a symbolic link only if the last one was not to be followed.
    pub(super) found: Option<(OwnedFd, FileType)>,
}

/// Follows `path` in the tree below `root`, which it does not leave: each step is an openat2(2) that keeps to it,
/// so that whoever changes the tree meanwhile gains nothing. `follow` is for the last component.
///
/// # Errors
/// The kernel's answer; ELOOP for too many links, ENOTDIR for a way through a file.
pub(super) fn reach(root: impl AsFd, path: &Path, follow: bool) -> Call<Reached> {
    let mut walk = Walk {
        left: parts(path).collect(),
        path: PathBuf::from("/"),
        links: 0,
    };
    let mut found = None;
    while let Some(part) = walk.left.pop_front() {
        found = None;
        if !walk.enter(&part) {
            continue;
        }
        match entry(&root, &walk.path)? {
            Some((link, FileType::Symlink)) if follow || !walk.left.is_empty() => {
                walk.turn(&mounts::target_of(&link)?)?;
            }
            other => found = other,
        }
    }
    if found.is_none() {
        // The last step was one up, or to the root.
        found = entry(&root, &walk.path)?;
    }
    Ok(Reached {
        path: walk.path,
        found,
    })
}

fn entry(root: impl AsFd, path: &Path) -> Call<Option<(OwnedFd, FileType)>> {
    match sys::open_in_root(root, path, OFlags::PATH | OFlags::NOFOLLOW) {
        Ok(entry) => {
            let kind = kind_of(&entry)?;
            Ok(Some((entry, kind)))
        }
        Err(error) if error.errno() == Errno::ENOENT => Ok(None),
        Err(error) => Err(error),
    }
}

/// The way so far, and what is left of it.
struct Walk {
    path: PathBuf,
    left: VecDeque<OsString>,
    links: usize,
}

impl Walk {
    /// Takes one step; whether it was one down.
    fn enter(&mut self, part: &OsStr) -> bool {
        match part.as_encoded_bytes() {
            b"/" => self.path = PathBuf::from("/"),
            b".." => drop(self.path.pop()),
            _ => {
                self.path.push(part);
                return true;
            }
        }
        false
    }

    /// Goes on where a link says, from the directory in which it is.
    fn turn(&mut self, target: &Path) -> Call<()> {
        self.links += 1;
        if self.links > MOST_LINKS {
            let call = format!("openat2(\"{}\")", self.path.display());
            return Err(CallError::new(call, Errno::ELOOP));
        }
        self.path.pop();
        for part in parts(target).rev() {
            self.left.push_front(part);
        }
        Ok(())
    }
}

/// The steps of a path: names, `..`, and `/` at the beginning.
fn parts(path: &Path) -> impl DoubleEndedIterator<Item = OsString> + '_ {
    path.components()
        .filter(|part| *part != Component::CurDir)
        .map(|part| part.as_os_str().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn tree() -> tempfile::TempDir {
        let place = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(place.path().join("run/deep")).unwrap();
        std::fs::write(place.path().join("run/file"), "").unwrap();
        for (target, link) in [
            ("/run", "var"),
            ("../../run/new/er", "run/deep/dangling"),
            ("loop", "loop"),
            ("../../..", "up"),
        ] {
            symlink(target, place.path().join(link)).unwrap();
        }
        place
    }

    fn reached(path: &str, follow: bool) -> Call<(String, Option<FileType>)> {
        let place = tree();
        let root = sys::open(place.path(), OFlags::PATH | OFlags::DIRECTORY).unwrap();
        let reached = reach(&root, Path::new(path), follow)?;
        let path = reached.path.to_string_lossy().into_owned();
        Ok((path, reached.found.map(|found| found.1)))
    }

    #[test]
    fn a_way_is_known_to_its_end_whether_there_is_something_or_not() {
        let directory = Some(FileType::Directory);
        for (path, follow, wanted, kind) in [
            ("/", true, "/", directory),
            ("/run/./deep/..", true, "/run", directory),
            ("/var/file", false, "/run/file", Some(FileType::RegularFile)),
            ("/var", false, "/var", Some(FileType::Symlink)),
            ("/var", true, "/run", directory),
            ("/var/deep/dangling", true, "/run/new/er", None),
            ("/run/deep/dangling/more", false, "/run/new/er/more", None),
            ("/nothing/../run", false, "/run", directory),
            ("/up/run/x", true, "/run/x", None),
            ("/run/new/a/..", true, "/run/new", None),
        ] {
            assert_eq!(
                reached(path, follow).unwrap(),
                (wanted.to_owned(), kind),
                "{path}"
            );
        }
    }

    #[test]
    fn a_way_that_has_no_end_is_refused() {
        let errno = |path, follow| reached(path, follow).unwrap_err().errno();
        assert_eq!(errno("/loop", true), Errno::ELOOP);
        assert_eq!(errno("/run/file/x", true), Errno::ENOTDIR);
        assert_eq!(reached("/loop", false).unwrap().0, "/loop");
    }
}
