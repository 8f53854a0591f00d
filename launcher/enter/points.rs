//! Mount points: finding them in the image, and making those that it lacks without touching it.
//!
//! Where nothing can be written, a directory that lacks a point, and got none by [`super::layered`], is covered
//! ([`cover`]), and a link in the way is left out of the cover. Where a program may write, a cover would lose what is
//! written in the directory, so there:
//!
//! - what an overlay lacks came from below the image ([`super::below`]);
//! - a file is mounted on a link itself, wherever that leads: the kernel finds the mount before it reads the link
//!   (since Linux 5.2, with a descriptor of the link for the place);
//! - a directory is mounted where a link leads, which is made if need be: the kernel mounts none on a link;
//! - a cover is left for directories in which the user may make nothing, and nothing can be written in it.

mod cover;

use std::collections::HashSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use rustix::fs::{Access, AtFlags, FileType, OFlags, accessat};

use super::reach::{Reached, reach};
use crate::files::{self, removal};
use crate::plan::Root;
use crate::plan::mounts::under_a_bind;
use chariot_core::error::{CallError, Error, Explain, Result};
use chariot_core::sys::mounts;
use chariot_core::sys::{self, Call, FileIdentity};

/// The tree of the new root, and which of its mounts are Chariot's own to add points to.
pub(super) struct Points {
    root: OwnedFd,
    /// Mounts in which points may be made: the image's and our own, as against the host's.
    own: HashSet<u64>,
    /// Those of them that are a tmpfs, where points can just be made.
    memory: HashSet<u64>,
    covers: Vec<OwnedFd>,
    /// Whether the container may change its root.
    writable: bool,
    /// Whether what is written in a cover goes where all goes that is written: away.
    is_throwaway: bool,
}

impl Points {
    pub(super) fn new(root: OwnedFd, kind: &Root) -> Call<Points> {
        let own = HashSet::from([sys::mount_of(&root)?]);
        Ok(Points {
            root,
            own,
            memory: HashSet::new(),
            covers: Vec::new(),
            writable: *kind != Root::ReadOnly,
            is_throwaway: matches!(kind, Root::Throwaway(_)),
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
        if self.writable {
            return self.prepare_writable(path, is_directory, follow, what);
        }
        match self.look(path, follow).explain(what)? {
            None => self.make(path, is_directory, what),
            // It would be mounted, and nobody would see it.
            Some((point, _)) if self.is_root(&point).explain(what)? => {
                Err(leads_to_root(path, what))
            }
            Some((point, kind)) if kind.is_dir() == is_directory => Ok(point),
            Some((_, kind)) => Err(wrong_kind(kind, path, what)),
        }
    }

    /// The same where the container may write, which sees every change that is made for a point.
    fn prepare_writable(
        &mut self,
        path: &Path,
        is_directory: bool,
        follow: bool,
        what: &dyn Fn() -> String,
    ) -> Result<OwnedFd> {
        let mut reached = reach(&self.root, path, is_directory || follow);
        let leads_nowhere = |reached: &Call<Reached>| match reached {
            Ok(reached) => reached.found.is_none(),
            Err(error) => error.errno() == Errno::ELOOP,
        };
        if !is_directory && follow && leads_nowhere(&reached) {
            reached = reach(&self.root, path, false);
        }
        let reached = reached.explain(what).map_err(|error| {
            error.hint(format!("look where {} leads in the image", path.display()))
        })?;
        let Some((point, kind)) = reached.found else {
            return self.make(&reached.path, is_directory, what);
        };
        let is_link = kind == FileType::Symlink;
        if is_link && self.is_memory(&point).explain(what)? {
            // A link that Chariot made, in a directory that is not the image's.
            return self.make(&reached.path, is_directory, what);
        }
        if is_directory && self.is_root(&point).explain(what)? {
            return Err(leads_to_root(path, what));
        }
        match kind.is_dir() == is_directory {
            true => Ok(point),
            false => Err(wrong_kind(kind, path, what)),
        }
    }

    /// Where the link leads on which a file should have been mounted: for a kernel that mounts nothing on a link.
    pub(super) fn behind_link(
        &mut self,
        path: &Path,
        what: &dyn Fn() -> String,
    ) -> Result<OwnedFd> {
        let reached = reach(&self.root, path, true).explain(what)?;
        match reached.found {
            None => self.make(&reached.path, false, what),
            Some((point, kind)) if !kind.is_dir() => Ok(point),
            Some((_, kind)) => Err(wrong_kind(kind, path, what)),
        }
    }

    fn is_root(&self, point: &OwnedFd) -> Call<bool> {
        Ok(sys::place_of(point)? == sys::place_of(&self.root)?)
    }

    fn is_memory(&self, file: &OwnedFd) -> Call<bool> {
        Ok(self.memory.contains(&sys::mount_of(file)?))
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

    /// Whether there is anything, be it a link that leads nowhere, or cannot be looked at.
    pub(super) fn is_taken(&self, path: &Path) -> bool {
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        let there = sys::open_in_root(&self.root, path, flags);
        there.map_or_else(|error| error.errno() != Errno::ENOENT, |_| true)
    }

    /// Whether there is a directory, and not a link to one.
    pub(super) fn is_directory(&self, path: &Path) -> bool {
        let there = self.look(path, false);
        there.is_ok_and(|there| there.is_some_and(|(_, kind)| kind.is_dir()))
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
    pub(super) fn vacancy(&self, path: &Path) -> Call<Option<(Vacancy, FileIdentity)>> {
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

    /// Writes a file into the container's own root, if the user may. Where the directory is bound, or is somebody else's, no
    /// program of the user's can write it either: false.
    pub(super) fn write(&mut self, path: &Path, bytes: &[u8]) -> Result<bool> {
        let what = || format!("can't write {}", path.display());
        let parent = path.parent().unwrap_or(Path::new("/"));
        let directory = match self.look(parent, true).explain(what)? {
            Some((directory, kind)) if kind.is_dir() => directory,
            _ => self.make(parent, true, &what)?,
        };
        let mount = sys::mount_of(&directory).explain(what)?;
        let access = Access::WRITE_OK | Access::EXEC_OK;
        let may_write = accessat(&directory, ".", access, AtFlags::EACCESS).is_ok();
        if !may_write || !self.own.contains(&mount) {
            return Ok(false);
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let directory = sys::open_in_root(&directory, Path::new("."), flags).explain(what)?;
        files::write_in(directory, path, bytes).map(|()| true)
    }

    /// Makes a symbolic link, in place of a link or a file that is there. What is bound from the host is left as it is,
    /// and so is what the container may change: there, what the link would lead to is mounted on it.
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
        if self.writable && !self.memory.contains(&mount) {
            let there = reach(&self.root, path, false).explain(what)?.found;
            if let Some((point, kind)) = there {
                return self.show_target(path, target, &point, kind, what);
            }
        }
        if self.memory.contains(&mount) {
            // Without anything in the way there is nothing to remove.
            removal::own_link(&directory, name);
        }
        match mounts::make_link(&directory, name, target) {
            Err(error) if is_refused(&error) => {
                let cover = self.cover(&directory, parent, name, what)?;
                mounts::make_link(&cover, name, target).explain(what)
            }
            result => result.explain(what),
        }
    }

    /// Mounts what a link at `path` would lead to on what is there. A link that would lead nowhere is not missed.
    fn show_target(
        &self,
        path: &Path,
        target: &Path,
        point: &OwnedFd,
        kind: FileType,
        what: &dyn Fn() -> String,
    ) -> Result<()> {
        let full = path.parent().unwrap_or(path).join(target);
        let shown = reach(&self.root, &full, true);
        let Ok(Some((file, target_kind))) = shown.map(|reached| reached.found) else {
            tracing::debug!("{} stays: nothing is at {}", path.display(), full.display());
            return Ok(());
        };
        let now = reach(&self.root, path, true).ok();
        if let Some((now, _)) = now.and_then(|reached| reached.found)
            && sys::place_of(&now).explain(what)? == sys::place_of(&file).explain(what)?
        {
            return Ok(());
        }
        if target_kind.is_dir() != kind.is_dir() {
            return Err(wrong_kind(kind, path, what));
        }
        let tree = mounts::clone_opened(&file).explain(what)?;
        mounts::attach(&tree, point, path).explain(what)
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
            removal::own_link(&parent, name);
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

    /// Has nothing be written in a cover, where it would be lost.
    pub(super) fn seal(&self) -> Call<()> {
        if self.is_throwaway {
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

/// What an open file is.
pub(super) fn kind_of(file: &OwnedFd) -> Call<FileType> {
    let data = sys::called(rustix::fs::fstat(file), || "fstat()".into())?;
    Ok(FileType::from_raw_mode(data.st_mode))
}

fn leads_to_root(path: &Path, what: &dyn Fn() -> String) -> Error {
    let path = path.display();
    Error::new(format!(
        "{}: {path} is a link to the root in the image",
        what()
    ))
    .hint("choose another destination, or an image without that link")
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
