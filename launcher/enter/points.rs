//! Mount points: finding them in the image, and making those that it lacks without touching it.
//!
//! A directory that lacks a point is covered by a tmpfs that has the point and, under their own
//! names, everything that the directory has ("underlay"). Overlayfs would be one mount instead of
//! many, but cannot make anything in a directory whose owner has no uid in the user namespace
//! (EACCES), which is the rule for images that somebody else unpacked.

use std::collections::HashSet;
use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use rustix::fs::{AtFlags, FileType, OFlags};

use crate::error::{CallError, Error, Explain, Result};
use crate::plan::mounts::under_a_bind;
use crate::sys::mounts;
use crate::sys::{self, Call};

/// A directory with more entries than this is not covered: each entry becomes a mount, and the
/// kernel allows 100,000 in a namespace.
const MOST_ENTRIES: usize = 10_000;

/// The tree of the new root, and which of its mounts are Chariot's own to add points to.
pub(super) struct Points {
    root: OwnedFd,
    /// Mounts in which points may be made: the image's and our own, as against the host's.
    own: HashSet<u64>,
    /// Those of them that are a tmpfs, where points can just be made.
    memory: HashSet<u64>,
    covers: Vec<OwnedFd>,
    writable: bool,
}

impl Points {
    pub(super) fn new(root: OwnedFd, writable: bool) -> Call<Points> {
        let own = HashSet::from([sys::mount_of(&root)?]);
        Ok(Points {
            root,
            own,
            memory: HashSet::new(),
            covers: Vec::new(),
            writable,
        })
    }

    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Points may be made in this tmpfs too.
    pub(super) fn own(&mut self, tmpfs: impl AsFd) -> Call<()> {
        let number = sys::mount_of(tmpfs)?;
        self.own.insert(number);
        self.memory.insert(number);
        Ok(())
    }

    /// A place for a mount: the one that the image has, or one made for it.
    pub(super) fn prepare(
        &mut self,
        path: &Path,
        is_directory: bool,
        follow: bool,
        what: &dyn Fn() -> String,
    ) -> Result<OwnedFd> {
        let flags = if follow {
            OFlags::PATH
        } else {
            OFlags::PATH | OFlags::NOFOLLOW
        };
        match sys::open_in_root(&self.root, path, flags) {
            Ok(point) => match kind_of(&point).explain(what)? {
                FileType::Symlink => self.make(path, is_directory, what),
                kind if kind.is_dir() == is_directory => Ok(point),
                kind => Err(wrong_kind(kind, path, what)),
            },
            // ELOOP: a link to itself, which can be replaced as one that leads nowhere.
            Err(error) if matches!(error.errno(), Errno::ENOENT | Errno::ELOOP) => {
                self.make(path, is_directory, what)
            }
            Err(error) => Err(error).explain(what),
        }
    }

    fn make(
        &mut self,
        path: &Path,
        is_directory: bool,
        what: &dyn Fn() -> String,
    ) -> Result<OwnedFd> {
        let (mut parent, existing) = self.deepest_directory(path).explain(what)?;
        let mut here = existing;
        let missing: Vec<PathBuf> = path
            .strip_prefix(&here)
            .unwrap_or(path)
            .components()
            .map(|part| PathBuf::from(part.as_os_str()))
            .collect();
        for (index, name) in missing.iter().enumerate() {
            let directory = is_directory || index + 1 < missing.len();
            parent = self.make_entry(parent, &here, name, directory, what)?;
            here.push(name);
        }
        Ok(parent)
    }

    /// The nearest directory above `path` that is there, with the part of `path` that leads to it.
    fn deepest_directory(&self, path: &Path) -> Call<(OwnedFd, PathBuf)> {
        for ancestor in path.ancestors().skip(1) {
            match sys::open_in_root(&self.root, ancestor, OFlags::PATH | OFlags::DIRECTORY) {
                Ok(directory) => return Ok((directory, ancestor.to_owned())),
                Err(error) if matches!(error.errno(), Errno::ENOENT | Errno::ELOOP) => {}
                Err(error) => return Err(error),
            }
        }
        sys::open_in_root(&self.root, Path::new("/"), OFlags::PATH | OFlags::DIRECTORY)
            .map(|root| (root, PathBuf::from("/")))
    }

    fn make_entry(
        &mut self,
        parent: OwnedFd,
        parent_path: &Path,
        name: &Path,
        directory: bool,
        what: &dyn Fn() -> String,
    ) -> Result<OwnedFd> {
        let mount = sys::mount_of(&parent).explain(what)?;
        if !self.own.contains(&mount) {
            let point = parent_path.join(name);
            return Err(under_a_bind(&point, parent_path, &point));
        }
        if self.memory.contains(&mount) {
            // A link in the way is our own copy; without one there is nothing to remove.
            let _ = rustix::fs::unlinkat(&parent, name, AtFlags::empty());
            return make_in(&parent, name, directory).explain(what);
        }
        match make_in(&parent, name, directory) {
            Ok(point) => Ok(point),
            Err(error)
                if matches!(
                    error.errno(),
                    Errno::EROFS | Errno::EACCES | Errno::EPERM | Errno::EEXIST
                ) =>
            {
                let cover = self.cover(&parent, parent_path, name, what)?;
                make_in(&cover, name, directory).explain(what)
            }
            Err(error) => Err(error).explain(what),
        }
    }

    /// Covers a directory by a tmpfs with the same entries but `without`.
    fn cover(
        &mut self,
        directory: &OwnedFd,
        path: &Path,
        without: &Path,
        what: &dyn Fn() -> String,
    ) -> Result<OwnedFd> {
        let entries = list(directory).explain(what).map_err(|error| {
            error.hint(format!(
                "you need permission to list {} of the image",
                path.display()
            ))
        })?;
        if entries.len() > MOST_ENTRIES {
            return Err(Error::new(format!(
                "{}: the image has no such place, and {} has too many entries to add one",
                what(),
                path.display()
            ))
            .hint("choose a destination that the image has"));
        }
        let mode = rustix::fs::fstat(directory).map_or(0o755, |data| data.st_mode & 0o7777);
        let cover = mounts::tmpfs(None, &format!("{mode:o}")).explain(what)?;
        mounts::attach(&cover, directory, path).explain(what)?;
        self.own(&cover).explain(what)?;
        if self.is_root(directory).explain(what)? {
            self.root = cover.try_clone().explain(what)?;
        }
        for name in entries.iter().filter(|name| name.as_path() != without) {
            self.show(directory, &cover, name)
                .explain(|| format!("{}: can't keep {}", what(), path.join(name).display()))?;
        }
        self.covers.push(cover.try_clone().explain(what)?);
        Ok(cover)
    }

    fn is_root(&self, directory: &OwnedFd) -> Call<bool> {
        let identity = |file: &OwnedFd| -> Call<_> {
            let data = rustix::fs::fstat(file).map_err(|errno| {
                CallError::new("fstat()", Errno::from_raw(errno.raw_os_error()))
            })?;
            Ok((sys::mount_of(file)?, data.st_dev, data.st_ino))
        };
        Ok(identity(directory)? == identity(&self.root)?)
    }

    /// Shows one entry of a covered directory in its cover.
    fn show(&mut self, directory: &OwnedFd, cover: &OwnedFd, name: &Path) -> Call<()> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        // One name, so nothing can lead out; a mount on it is followed.
        let entry = sys::open_in_root(directory, name, flags)?;
        let kind = kind_of(&entry)?;
        if kind == FileType::Symlink {
            let target = rustix::fs::readlinkat(&entry, "", Vec::new()).unwrap_or_default();
            return mounts::make_link(cover, name, &target);
        }
        let point = make_in(cover, name, kind.is_dir())?;
        let tree = mounts::clone_entry(directory, name)?;
        mounts::attach(&tree, &point, name)?;
        if kind.is_dir() && self.own.contains(&sys::mount_of(&entry)?) {
            self.own.insert(sys::mount_of(&tree)?);
        }
        Ok(())
    }

    pub(super) fn seal(&self) -> Call<()> {
        if self.writable {
            return Ok(());
        }
        self.covers.iter().try_for_each(mounts::seal)
    }
}

fn make_in(parent: &OwnedFd, name: &Path, directory: bool) -> Call<OwnedFd> {
    match directory {
        true => mounts::make_directory(parent, name)?,
        false => drop(mounts::make_file(parent, name)?),
    }
    sys::open_in_root(parent, name, OFlags::PATH | OFlags::NOFOLLOW)
}

fn kind_of(file: &OwnedFd) -> Call<FileType> {
    rustix::fs::fstat(file)
        .map(|data| FileType::from_raw_mode(data.st_mode))
        .map_err(|errno| CallError::new("fstat()", Errno::from_raw(errno.raw_os_error())))
}

fn wrong_kind(kind: FileType, path: &Path, what: &dyn Fn() -> String) -> Error {
    let has = if kind.is_dir() {
        "a directory"
    } else {
        "no directory"
    };
    Error::new(format!(
        "{}: {} is {has} in the image",
        what(),
        path.display()
    ))
    .hint("a file can be bound only to a file, and a directory to a directory")
}

fn list(directory: &OwnedFd) -> Call<Vec<PathBuf>> {
    let readable = sys::open_in_root(
        directory,
        Path::new("."),
        OFlags::RDONLY | OFlags::DIRECTORY,
    )?;
    let wrong = |errno: rustix::io::Errno| {
        CallError::new("getdents64()", Errno::from_raw(errno.raw_os_error()))
    };
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::new(readable).map_err(wrong)? {
        let entry = entry.map_err(wrong)?;
        let name: CString = entry.file_name().to_owned();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(PathBuf::from(OsStr::from_bytes(name.to_bytes())));
        }
    }
    Ok(names)
}
