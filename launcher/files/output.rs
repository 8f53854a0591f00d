//! Files and directories that get their name when they are complete: whatever happens before, nothing is there
//! under that name, or what was there. What is not complete lies beside it, under a name that tells who makes it
//! ([`super::maker`]), and goes away with its maker or, if that was killed, the next time something of that name is
//! made.
//!
//! Nothing is needed of the file system but rename(2): no locks, no exchange of names, no leases, no files without
//! a name. Each of these is missing somewhere that people keep images.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, RenameFlags, Stat, linkat, mkdirat, openat, renameat,
    renameat_with, unlinkat,
};
use rustix::io::Errno;

use super::maker::{Maker, Role, read};
use super::{
    Identity, UNFINISHED, is_directory, look, open_directory, open_parent, removal, space, split,
    sync, touched,
};
use crate::error::{Error, Explain, Result, io_reason};

/// How often removing what was not completed is tried.
const REMOVALS: u32 = 3;

/// What is being made.
#[derive(Debug)]
pub struct Output {
    destination: PathBuf,
    name: PathBuf,
    temporary: PathBuf,
    /// The directory that both names are in.
    parent: OwnedFd,
    /// What is filled. It is open as long as this is, so that no other file gets its number.
    made: File,
    identity: Identity,
    /// What tells that a directory is unfinished; a file needs nothing.
    unfinished: Option<Identity>,
    /// What had its name when it was begun, held open so that nothing else gets its number.
    before: Option<(OwnedFd, Identity)>,
}

impl Output {
    /// Begins a directory, which only its owner may enter until it has its name.
    ///
    /// # Errors
    /// It cannot be made beside `destination`.
    pub fn directory(destination: &Path) -> Result<Output> {
        Output::begin(destination, true)
    }

    /// Begins a file, with the permissions that umask(2) leaves.
    ///
    /// # Errors
    /// It cannot be made beside `destination`.
    pub fn file(destination: &Path) -> Result<Output> {
        Output::begin(destination, false)
    }

    fn begin(destination: &Path, is_directory: bool) -> Result<Output> {
        let what = || cannot_write(destination);
        let (above, name) = split(destination).ok_or_else(|| {
            Error::new(format!("{}: it has no name of its own", what()))
                .hint("give it a name to be made, in a directory that is there")
        })?;
        // Paths forget it, and open(2) does not: `image/` is never a file.
        let typed = destination.as_os_str().as_encoded_bytes();
        if !is_directory && (typed.ends_with(b"/") || typed.ends_with(b"/.")) {
            return Err(Error::new(format!("{}: that names a directory", what()))
                .hint("leave out the slash at its end, or name a file in it"));
        }
        let parent = open_parent(above)
            .explain(|| format!("{}: open(\"{}\")", what(), above.display()))
            .map_err(|error| error.hint("make the directory above it first"))?;
        Output::begin_in(parent, destination, name, is_directory)
    }

    /// Begins it in an open directory, whatever leads there by now.
    fn begin_in(
        parent: OwnedFd,
        destination: &Path,
        name: &Path,
        is_directory: bool,
    ) -> Result<Output> {
        let what = || cannot_write(destination);
        let above = destination.parent().unwrap_or(Path::new("."));
        let before = hold(&parent, name);
        let temporary = PathBuf::from(Maker::this().name(name.as_os_str(), Role::Part));
        let call = if is_directory { "mkdir" } else { "open" };
        let made = make(&parent, &temporary, is_directory)
            .map_err(|error| space::explain(&error, &what(), call, above))?;
        let began = Identity::of(&made).explain(what)?;
        let mut output = Output {
            destination: destination.to_owned(),
            name: name.to_owned(),
            temporary,
            parent,
            made,
            identity: began,
            unfinished: None,
            before,
        };
        output.sweep();
        if is_directory {
            let marked = output.begin_mark();
            marked.map_err(|error| {
                output.abandon();
                space::explain(&error, &what(), "open", above)
            })?;
        }
        Ok(output)
    }

    fn begin_mark(&mut self) -> io::Result<()> {
        let mark = make(&self.made, Path::new(UNFINISHED), false)?;
        self.unfinished = Some(Identity::of(&mark)?);
        Ok(())
    }

    /// Where it will be, as it was named.
    pub fn destination(&self) -> &Path {
        &self.destination
    }

    /// Where it is until it is complete.
    pub fn temporary(&self) -> PathBuf {
        self.destination.with_file_name(&self.temporary)
    }

    /// The file that is being made, or the directory.
    pub fn made(&self) -> &File {
        &self.made
    }

    /// What tells it from everything else.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Shows that it is being made: who is on another machine can judge that by its age alone.
    pub fn touch(&self) {
        use rustix::fs::{Timespec, Timestamps, UTIME_NOW, futimens};
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_NOW,
        };
        let times = Timestamps {
            last_access: now,
            last_modification: now,
        };
        let _ = futimens(&self.made, &times);
    }

    /// The same as [`Output::finish`], unless the name is not what it was when this was begun: what somebody has put
    /// there meanwhile was never looked at.
    ///
    /// # Errors
    /// As [`Output::finish`], or something else has the name by now.
    pub fn finish_over_the_same(&self) -> Result<()> {
        let changed = || {
            Error::new(format!(
                "{}: something else was put there meanwhile",
                cannot_write(&self.destination)
            ))
            .hint("choose another name, or try again")
        };
        let now = Identity::at(&self.parent, &self.name).ok();
        let before = self.before.as_ref().map(|(_, identity)| *identity);
        match (before, self.unfinished) {
            (before, _) if before != now => Err(changed()),
            (None, None) => {
                let is_named = self.finish_unless_there()?;
                // It may have both names.
                self.abandon();
                is_named.then_some(()).ok_or_else(changed)
            }
            _ => self.finish(),
        }
    }

    /// Has all that was written on the disk. Whoever has written much does it, since that takes long.
    ///
    /// # Errors
    /// Something could not be written after all.
    pub fn sync(&self) -> Result<()> {
        let synced = match self.unfinished {
            None => sync::file(&self.made).map_err(|error| (error, "fsync")),
            Some(_) => sync::tree(&self.made).map_err(|error| (error, "syncfs")),
        };
        synced.map_err(|(error, call)| self.cannot_write(call, &error))
    }

    /// Gives it its name, in place of what has that name now: a file takes a file's, and a directory that of an
    /// image which carries the mark. Its bytes are on the disk before.
    ///
    /// # Errors
    /// They cannot be written, or the name not be given; then what had it has it still. Or what had it cannot be
    /// removed.
    pub fn finish(&self) -> Result<()> {
        self.sync()?;
        self.refuse_lost()?;
        match self.unfinished {
            None => renameat(&self.parent, &self.temporary, &self.parent, &self.name)
                .map_err(|errno| self.cannot_write("rename", &errno.into()))?,
            Some(mark) => {
                self.end_mark(mark)
                    .map_err(|error| self.cannot_write("unlink", &error))?;
                self.finish_directory()?;
            }
        }
        sync::names(&self.parent);
        Ok(())
    }

    /// What is said if something cannot be written into it.
    pub fn cannot_write(&self, call: &str, error: &io::Error) -> Error {
        let place = self.destination.parent().unwrap_or(Path::new("."));
        let what = cannot_write(&self.destination);
        // By the descriptor: to whoever fills it, the path leads nowhere.
        if error.kind() == io::ErrorKind::StorageFull && space::lacks_inodes(&self.made) {
            let told = Error::new(format!("{what}: {call}(): {}", io_reason(error)));
            return told.hint(space::no_inodes(place));
        }
        space::explain(error, &what, call, place)
    }

    /// Somebody else may have taken it for left over, or have cleaned up.
    fn refuse_lost(&self) -> Result<()> {
        match Identity::at(&self.parent, &self.temporary) {
            Ok(found) if found == self.identity => Ok(()),
            _ => Err(Error::new(format!(
                "{}: {} was removed meanwhile, by somebody else",
                cannot_write(&self.destination),
                self.temporary().display()
            ))
            .hint("try again")),
        }
    }

    /// An image may have a file of that name, which has taken its place. Without either, somebody is removing it all.
    fn end_mark(&self, mark: Identity) -> io::Result<()> {
        let name = Path::new(UNFINISHED);
        match Identity::at(&self.made, name) {
            Ok(found) if found == mark => Ok(unlinkat(&self.made, name, AtFlags::empty())?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(io::Error::other("somebody else has begun to remove it"))
            }
            Err(error) => Err(error),
            Ok(_) => Ok(()),
        }
    }

    fn finish_directory(&self) -> Result<()> {
        let what = || cannot_write(&self.destination);
        match look(&self.parent, &self.name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.take_new_name(),
            Err(error) => Err(error).explain(what),
            Ok(_) => {
                let (_open, old) = removal::marked(&self.parent, &self.name).map_err(|_| {
                    Error::new(format!(
                        "{}: it is there already, and is not an image that Chariot made",
                        what()
                    ))
                    .hint("choose another name, or remove it yourself")
                })?;
                let moved = self.exchange()?;
                if Identity::at(&self.parent, &moved).is_ok_and(|found| found == old) {
                    return self.remove_old(&moved, old);
                }
                // Somebody has put something else there in between: it goes back.
                let back = renameat_with(
                    &self.parent,
                    &moved,
                    &self.parent,
                    &self.name,
                    RenameFlags::EXCHANGE,
                );
                let error = Error::new(format!(
                    "{}: something else was put there meanwhile",
                    what()
                ));
                Err(match back {
                    Ok(()) => error.hint("choose another name, or try again"),
                    Err(_) => error.hint(format!(
                        "that is now {}",
                        self.destination.with_file_name(&moved).display()
                    )),
                })
            }
        }
    }

    fn take_new_name(&self) -> Result<()> {
        let (from, to) = (&self.temporary, &self.name);
        let taken =
            match renameat_with(&self.parent, from, &self.parent, to, RenameFlags::NOREPLACE) {
                // NFS and others know no flags. Without them rename(2) replaces a directory only if that is empty.
                Err(errno) if lacks(errno) => renameat(&self.parent, from, &self.parent, to),
                result => result,
            };
        taken.map_err(|errno| self.not_named(errno))
    }

    /// Takes the place of what is there, which then has the name that this gives.
    fn exchange(&self) -> Result<PathBuf> {
        let (from, to) = (&self.temporary, &self.name);
        match renameat_with(&self.parent, from, &self.parent, to, RenameFlags::EXCHANGE) {
            Ok(()) => return Ok(from.clone()),
            Err(errno) if !lacks(errno) => return Err(self.not_named(errno)),
            Err(_) => {}
        }
        // Between these two nothing has the name; a later run puts the old one back if this process is killed there.
        let old = PathBuf::from(Maker::this().name(to.as_os_str(), Role::Old));
        renameat(&self.parent, to, &self.parent, &old).map_err(|errno| self.not_named(errno))?;
        match renameat(&self.parent, from, &self.parent, to) {
            Ok(()) => Ok(old),
            Err(errno) => {
                let back = renameat(&self.parent, &old, &self.parent, to);
                let error = self.not_named(errno);
                Err(match back {
                    Ok(()) => error,
                    Err(_) => error.hint(format!(
                        "what was there before is now {}",
                        self.destination.with_file_name(&old).display()
                    )),
                })
            }
        }
    }

    fn not_named(&self, errno: Errno) -> Error {
        let call = format!("rename(\"{}\")", self.temporary().display());
        let place = self.destination.parent().unwrap_or(Path::new("."));
        space::explain(
            &errno.into(),
            &cannot_write(&self.destination),
            &call,
            place,
        )
    }

    fn remove_old(&self, name: &Path, old: Identity) -> Result<()> {
        removal::tree(self.parent.as_fd(), name, old).map_err(|error| {
            let there = self.destination.with_file_name(name);
            Error::new(format!(
                "can't remove what was {} before: {}",
                self.destination.display(),
                io_reason(&error)
            ))
            .hint(format!(
                "the new one has its place, and the old one is {} now: unmount what is mounted in it, then remove it with \
                 rm -r --one-file-system",
                there.display()
            ))
        })
    }

    /// Removes it. What cannot be removed goes away when something of that name is made the next time.
    pub fn abandon(&self) {
        // A file server that was lost a moment ago may be back.
        for _ in 0..REMOVALS {
            if self.remove().is_ok() {
                return;
            }
        }
    }

    fn remove(&self) -> io::Result<()> {
        match look(&self.parent, &self.temporary) {
            Ok(data) if Identity::from(&data) != self.identity => Ok(()),
            Ok(data) if is_directory(&data) => {
                removal::tree(self.parent.as_fd(), &self.temporary, self.identity)
            }
            Ok(_) => Ok(unlinkat(&self.parent, &self.temporary, AtFlags::empty())?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Removes what others began of the same name and left, and puts back what was on its way out.
    fn sweep(&self) {
        let Ok(now) = rustix::fs::fstat(&self.made).map(|data| touched(&data)) else {
            return;
        };
        for (entry, role, maker) in siblings(&self.parent, &self.name) {
            let Ok(data) = look(&self.parent, &entry) else {
                continue;
            };
            let is_own = data.st_uid == crate::sys::process::user();
            if !is_own || entry == self.temporary || !maker.is_gone(touched(&data), now) {
                continue;
            }
            // What stays is tried again the next time.
            let _ = self.clean(&entry, role, &data);
        }
    }

    fn clean(&self, entry: &Path, role: Role, data: &Stat) -> io::Result<()> {
        let is_gone = || {
            let there = look(&self.parent, &self.name);
            there.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
        };
        if role == Role::Old {
            // Only directories are ever moved aside, and only images that Chariot made.
            let (_open, old) = removal::marked(&self.parent, entry)?;
            if is_gone() {
                return self.put_back(entry, old);
            }
        }
        leftover(self.parent.as_fd(), entry, data)
    }
}

impl Output {
    fn put_back(&self, entry: &Path, old: Identity) -> io::Result<()> {
        let (parent, name) = (&self.parent, &self.name);
        match renameat_with(parent, entry, parent, name, RenameFlags::NOREPLACE) {
            Err(errno) if lacks(errno) && Identity::at(parent, entry)? == old => {
                Ok(renameat(parent, entry, parent, name)?)
            }
            result => Ok(result?),
        }
    }
}

/// Removes what a process that is gone left under a name of ours: a file, an empty directory, or one that carries a
/// mark. A directory without one was made by somebody else, whatever its name is.
pub(super) fn leftover(
    parent: std::os::fd::BorrowedFd<'_>,
    entry: &Path,
    data: &Stat,
) -> io::Result<()> {
    let noted = Identity::from(data);
    let is_same = || Identity::at(parent, entry).is_ok_and(|found| found == noted);
    if !is_directory(data) {
        let is_file = FileType::from_raw_mode(data.st_mode).is_file();
        return match is_file && is_same() {
            true => Ok(unlinkat(parent, entry, AtFlags::empty())?),
            // No link, FIFO or device was ever made under such a name.
            false => Err(io::Error::other("it is no file of Chariot's")),
        };
    }
    if removal::remove_empty(parent, entry, noted).is_ok() {
        return Ok(());
    }
    let directory = open_directory(parent, entry)?;
    let is_unfinished = look(&directory, Path::new(UNFINISHED))
        .is_ok_and(|mark| !is_directory(&mark) && mark.st_size == 0);
    if !is_unfinished && removal::marked(parent, entry).is_err() {
        return Err(io::Error::other("it carries no mark"));
    }
    // Under a name of this process: should its maker be there after all, it finds that it has lost it, and does not
    // give a name to what is half gone.
    let own = PathBuf::from(Maker::this().name(OsStr::new("removed"), Role::Part));
    renameat(parent, entry, parent, &own)?;
    removal::tree(parent, &own, noted)
}

/// What lies in a directory under names that stand for `name` while it is made. Their names tell; nothing is opened.
fn siblings(parent: &OwnedFd, name: &Path) -> Vec<(PathBuf, Role, Maker)> {
    let entries = Dir::read_from(parent).into_iter().flatten().flatten();
    let entries = entries.filter_map(|entry| {
        use std::os::unix::ffi::OsStrExt;
        let entry = std::ffi::OsStr::from_bytes(entry.file_name().to_bytes());
        let (role, maker) = read(entry, Some(name.as_os_str()))?;
        Some((PathBuf::from(entry), role, maker))
    });
    entries.collect()
}

/// Whether a kernel or a file system does not know what it was asked for. A filter of system calls answers EPERM.
fn lacks(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM
    )
}

fn cannot_write(destination: &Path) -> String {
    format!("can't write {}", destination.display())
}

/// What has a name, without opening it.
fn hold(parent: &OwnedFd, name: &Path) -> Option<(OwnedFd, Identity)> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let held = openat(parent, name, flags, Mode::empty()).ok()?;
    let identity = Identity::of(&held).ok()?;
    Some((held, identity))
}

/// Makes a file or a directory that was not there, and opens it.
fn make(parent: impl AsFd, name: &Path, is_directory: bool) -> io::Result<File> {
    let parent = parent.as_fd();
    if is_directory {
        mkdirat(parent, name, Mode::RWXU)?;
        return open_directory(parent, name)
            .map(File::from)
            .inspect_err(|_| {
                let _ = unlinkat(parent, name, AtFlags::REMOVEDIR);
            });
    }
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(File::from(openat(
        parent,
        name,
        flags,
        Mode::from_raw_mode(0o666),
    )?))
}

/// Writes a small file that is there as a whole or not at all.
///
/// # Errors
/// As [`Output::file`] and [`Output::finish`], or it cannot be written.
pub fn write(destination: &Path, bytes: &[u8]) -> Result<()> {
    let output = filled(Output::file(destination)?, bytes)?;
    output.finish().inspect_err(|_| output.abandon())
}

/// Writes a small file unless somebody else, on any machine, was first. Whether this one was.
///
/// # Errors
/// As [`write()`].
pub fn write_first(destination: &Path, bytes: &[u8]) -> Result<bool> {
    first(filled(Output::file(destination)?, bytes)?)
}

/// The same in an open directory, of which `path` is only told.
pub(super) fn write_first_in(
    directory: &OwnedFd,
    path: &Path,
    name: &Path,
    bytes: &[u8],
) -> Result<bool> {
    let destination = path.join(name);
    let parent = directory
        .try_clone()
        .explain(|| cannot_write(&destination))?;
    first(filled(
        Output::begin_in(parent, &destination, name, false)?,
        bytes,
    )?)
}

fn first(output: Output) -> Result<bool> {
    let named = sync::file(&output.made).and_then(|()| output.finish_first());
    output.abandon();
    named.map_err(|error| output.cannot_write("link", &error))
}

fn filled(output: Output, bytes: &[u8]) -> Result<Output> {
    (&output.made).write_all(bytes).map_err(|error| {
        output.abandon();
        output.cannot_write("write", &error)
    })?;
    Ok(output)
}

impl Output {
    /// By a second name, which exists on more file systems than renaming without replacing.
    fn finish_first(&self) -> io::Result<bool> {
        let (from, to) = (&self.temporary, &self.name);
        let linked = match linkat(&self.parent, from, &self.parent, to, AtFlags::empty()) {
            Err(errno) if lacks(errno) || errno == Errno::MLINK => {
                renameat_with(&self.parent, from, &self.parent, to, RenameFlags::NOREPLACE)
            }
            result => result,
        };
        match linked {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            // Neither is there; the last one to come wins.
            Err(errno) if lacks(errno) => match look(&self.parent, to) {
                Ok(_) => Ok(false),
                Err(_) => Ok(renameat(&self.parent, from, &self.parent, to).map(|()| true)?),
            },
            Err(errno) => Err(errno.into()),
        }
    }
}

impl Output {
    /// Gives a file its name unless something has that name by now. Whether it got it.
    ///
    /// # Errors
    /// As [`Output::finish`].
    pub fn finish_unless_there(&self) -> Result<bool> {
        self.sync()?;
        self.refuse_lost()?;
        let named = self.finish_first();
        let is_named = named.map_err(|error| self.cannot_write("link", &error))?;
        if is_named {
            sync::names(&self.parent);
        }
        Ok(is_named)
    }
}

/// Makes a file that only one process of all can make. None if it is there.
///
/// # Errors
/// As open(2).
pub fn claim(path: &Path) -> io::Result<Option<File>> {
    match File::create_new(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
        Err(error) => Err(error),
    }
}

/// What of a file is there under the name of somebody who makes it, dead or alive: the longest of all. It is to be read
/// only; its maker may write it still.
pub fn longest_part(destination: &Path) -> Option<File> {
    let (above, name) = split(destination)?;
    let parent = open_parent(above).ok()?;
    let parts = siblings(&parent, name).into_iter();
    let parts = parts.filter(|(_, role, _)| *role == Role::Part);
    let files = parts.filter_map(|(entry, _, _)| super::open::regular_at(&parent, &entry).ok());
    let own = files.filter(|(_, data)| data.st_uid == crate::sys::process::user());
    own.max_by_key(|(_, data)| data.st_size)
        .map(|(file, _)| file)
}

/// A directory for what another program writes, removed with all that is in it when this is dropped, or by the next
/// one of its name.
#[derive(Debug)]
pub struct Scratch(Output);

impl Scratch {
    /// Makes one in a directory. `name` tells what it is for.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn new(directory: &Path, name: &str) -> Result<Scratch> {
        Output::directory(&directory.join(OsString::from(name))).map(Scratch)
    }

    /// Where it is.
    pub fn path(&self) -> PathBuf {
        self.0.temporary()
    }

    /// Removes it.
    pub fn remove(&self) {
        self.0.abandon();
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

#[cfg(test)]
#[path = "output/tests.rs"]
mod tests;
