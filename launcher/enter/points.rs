//! Mount points: finding them in the image, and making those that it lacks without touching it.
//!
//! A directory that lacks a point, and got none by [`super::layered`], is covered by a tmpfs that has the
//! point and, under their own names, everything that the directory has ("underlay"). A writable overlay
//! cannot make anything in a directory whose owner has no uid in the user namespace (EACCES), which is the
//! rule for images that somebody else unpacked.

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
use crate::sys::{self, Call, Place};

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

    /// Points may be looked for in this mount, which is Chariot's own.
    pub(super) fn add(&mut self, mount: impl AsFd) -> Call<()> {
        self.own.insert(sys::mount_of(mount)?);
        Ok(())
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
        match self.look(path, follow).explain(what)? {
            None => self.make(path, is_directory, what),
            Some((point, kind)) if kind.is_dir() == is_directory => Ok(point),
            Some((_, kind)) => Err(wrong_kind(kind, path, what)),
        }
    }

    /// What is at a place; none if that is nothing, or a link to be replaced.
    fn look(&self, path: &Path, follow: bool) -> Call<Option<(OwnedFd, FileType)>> {
        let flags = match follow {
            true => OFlags::PATH,
            false => OFlags::PATH | OFlags::NOFOLLOW,
        };
        match sys::open_in_root(&self.root, path, flags) {
            Ok(point) => {
                let kind = kind_of(&point)?;
                Ok((kind != FileType::Symlink).then_some((point, kind)))
            }
            // ELOOP: a link to itself, which can be replaced as one that leads nowhere.
            Err(error) if matches!(error.errno(), Errno::ENOENT | Errno::ELOOP) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether there is a place for a mount already, or something that refuses to be looked at.
    pub(super) fn has(&self, path: &Path, follow: bool) -> bool {
        !matches!(self.look(path, follow), Ok(None))
    }

    /// Whether there is a symbolic link that says just this.
    pub(super) fn has_link(&self, path: &Path, target: &Path) -> bool {
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        let link = sys::open_in_root(&self.root, path, flags);
        let says = link.and_then(|link| mounts::target_of(&link));
        says.is_ok_and(|says| says == target)
    }

    /// The directory below the root, and of the image's own, that lacks something at `path`; none if that can be made
    /// just so.
    pub(super) fn vacancy(&self, path: &Path) -> Call<Option<(Vacancy, Place)>> {
        if self.writable {
            return Ok(None);
        }
        let vacancy = self.vacancy_of(path)?;
        let place = sys::place_of(&vacancy.directory)?;
        let may_be_made = self.own.contains(&place.mount) && place != sys::place_of(&self.root)?;
        Ok(may_be_made.then_some((vacancy, place)))
    }

    fn vacancy_of(&self, path: &Path) -> Call<Vacancy> {
        let (directory, existing) = self.deepest_directory(path)?;
        Ok(Vacancy {
            directory,
            rest: path.strip_prefix(&existing).unwrap_or(path).to_owned(),
            path: existing,
        })
    }

    fn make(
        &mut self,
        path: &Path,
        is_directory: bool,
        what: &dyn Fn() -> String,
    ) -> Result<OwnedFd> {
        let Vacancy {
            directory: mut parent,
            path: mut here,
            rest,
        } = self.vacancy_of(path).explain(what)?;
        let mut missing = rest.iter().map(Path::new).peekable();
        while let Some(name) = missing.next() {
            let directory = is_directory || missing.peek().is_some();
            parent = self.make_entry(parent, &here, name, directory, what)?;
            here.push(name);
        }
        Ok(parent)
    }

    /// Makes a symbolic link, in place of a link or a file that is there. What is bound from the host is left as it is.
    pub(super) fn link(
        &mut self,
        path: &Path,
        target: &Path,
        what: &dyn Fn() -> String,
    ) -> Result<()> {
        let Some((parent, name)) = path.parent().zip(path.file_name()) else {
            return Ok(());
        };
        if self.has_link(path, target) {
            return Ok(());
        }
        let name = Path::new(name);
        let directory = match self.look(parent, true).explain(what)? {
            Some((directory, kind)) if kind.is_dir() => directory,
            _ => self.make(parent, true, what)?,
        };
        let mount = sys::mount_of(&directory).explain(what)?;
        if !self.own.contains(&mount) {
            return match sys::open_in_root(&self.root, path, OFlags::PATH | OFlags::NOFOLLOW) {
                Ok(_) => Ok(()),
                Err(_) => Err(under_a_bind(path, parent, path)),
            };
        }
        if self.memory.contains(&mount) || self.writable {
            // Without anything in the way there is nothing to remove.
            let _ = rustix::fs::unlinkat(&directory, name, AtFlags::empty());
        }
        match mounts::make_link(&directory, name, target) {
            Err(error) if is_refused(&error) => {
                let cover = self.cover(&directory, parent, name, what)?;
                mounts::make_link(&cover, name, target).explain(what)
            }
            result => result.explain(what),
        }
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
            Err(error) if is_refused(&error) => {
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
        let mode = format!("{:o}", mode(directory));
        let cover = mounts::tmpfs(None, &mode).explain(what)?;
        mounts::attach(&cover, directory, path).explain(what)?;
        self.own(&cover).explain(what)?;
        let is_root =
            sys::place_of(directory).explain(what)? == sys::place_of(&self.root).explain(what)?;
        if is_root {
            self.root = cover.try_clone().explain(what)?;
        }
        for name in entries.iter().filter(|name| name.as_path() != without) {
            self.show(directory, &cover, name)
                .explain(|| format!("{}: can't keep {}", what(), path.join(name).display()))?;
        }
        self.covers.push(cover.try_clone().explain(what)?);
        Ok(cover)
    }

    /// Shows one entry of a covered directory in its cover.
    fn show(&mut self, directory: &OwnedFd, cover: &OwnedFd, name: &Path) -> Call<()> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        // One name, so nothing can lead out; a mount on it is followed.
        let entry = sys::open_in_root(directory, name, flags)?;
        let kind = kind_of(&entry)?;
        if kind == FileType::Symlink {
            return mounts::make_link(cover, name, &mounts::target_of(&entry)?);
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

/// Whether a directory takes nothing new of that name.
fn is_refused(error: &CallError) -> bool {
    matches!(
        error.errno(),
        Errno::EROFS | Errno::EACCES | Errno::EPERM | Errno::EEXIST
    )
}

/// A place that lacks a point.
pub(super) struct Vacancy {
    /// The nearest directory above it that is there.
    pub(super) directory: OwnedFd,
    /// The part of the point's path that leads to the directory.
    pub(super) path: PathBuf,
    /// The rest of it.
    pub(super) rest: PathBuf,
}

/// A directory's permissions.
pub(super) fn mode(directory: &OwnedFd) -> u32 {
    rustix::fs::fstat(directory).map_or(0o755, |data| data.st_mode & 0o7777)
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
