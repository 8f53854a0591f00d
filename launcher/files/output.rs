//! Files and directories that get their name when they are complete: whatever happens before, nothing is there
//! under that name, or what was there. What is not complete lies beside it, under a name that tells who makes it
//! ([`super::maker`]), and goes away with its maker or, if that was killed, the next time something of that name is
//! made.
//!
//! Nothing is needed of the file system but rename(2): no locks, no exchange of names, no leases, no files without
//! a name. Each of these is missing somewhere that people keep images.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, mkdirat, openat, renameat, unlinkat};
use rustix::io::Errno;

use super::maker::{Maker, Role};
use super::{
    Identity, UNFINISHED, is_directory, look, open_directory, open_parent, removal, space, split,
    sync,
};
use chariot_core::error::{Error, Explain, Result, io_reason};

mod exchange;
mod leftover;
mod small;

pub(super) use leftover::leftover;
pub(super) use small::write_first_in;
pub use small::{
    claim, longest_part, make_private, room_for, write, write_first, write_in, write_secret,
};

/// How often removing what was not completed is tried.
const REMOVALS: u32 = 3;

/// What can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Directory,
    File,
    /// A file that only its owner ever could read.
    Secret,
}

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
        Output::begin(destination, Kind::Directory)
    }

    /// Begins a file, with the permissions that umask(2) leaves, and none for others to write: an image of the cache can be the
    /// same file as one of a store where a group writes.
    ///
    /// # Errors
    /// It cannot be made beside `destination`.
    pub fn file(destination: &Path) -> Result<Output> {
        Output::begin(destination, Kind::File)
    }

    fn begin(destination: &Path, kind: Kind) -> Result<Output> {
        let what = || cannot_write(destination);
        let (above, name) = split(destination).ok_or_else(|| {
            Error::new(format!("{}: it has no name of its own", what()))
                .hint("give it a name to be made, in a directory that is there")
        })?;
        // Paths forget it, and open(2) does not: `image/` is never a file.
        let typed = destination.as_os_str().as_encoded_bytes();
        if kind != Kind::Directory && (typed.ends_with(b"/") || typed.ends_with(b"/.")) {
            return Err(Error::new(format!("{}: that names a directory", what()))
                .hint("leave out the slash at its end, or name a file in it"));
        }
        let parent = open_parent(above)
            .explain(|| format!("{}: open(\"{}\")", what(), above.display()))
            .map_err(|error| error.hint("make the directory above it first"))?;
        Output::begin_in(parent, destination, name, kind)
    }

    /// Begins it in an open directory, whatever leads there by now.
    fn begin_in(parent: OwnedFd, destination: &Path, name: &Path, kind: Kind) -> Result<Output> {
        let what = || cannot_write(destination);
        let above = destination.parent().unwrap_or(Path::new("."));
        let temporary = PathBuf::from(Maker::this().name(name.as_os_str(), Role::Part));
        let is_directory = kind == Kind::Directory;
        let call = if is_directory { "mkdir" } else { "open" };
        let made = make(&parent, &temporary, kind)
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
            before: None,
        };
        output.sweep();
        output.before = hold(&output.parent, name);
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
        let mark = make(&self.made, Path::new(UNFINISHED), Kind::File)?;
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

    /// Whether the name is not what it was when this was begun: what somebody has put there meanwhile was never looked
    /// at.
    pub fn has_another_there(&self) -> bool {
        let now = Identity::at(&self.parent, &self.name).ok();
        self.before.as_ref().map(|(_, identity)| *identity) != now
    }

    /// The same as [`Output::finish`], and what has the name by now is put to the question first.
    ///
    /// # Errors
    /// As [`Output::finish`], or what `refuse` says.
    pub fn finish_if(&self, refuse: impl Fn() -> Result<()>) -> Result<()> {
        if self.has_another_there() {
            refuse()?;
        } else if self.before.is_none() && self.unfinished.is_none() {
            let is_named = self.finish_unless_there()?;
            if is_named {
                // It may have both names.
                self.abandon();
                return Ok(());
            }
            refuse()?;
        }
        self.finish()
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
fn make(parent: impl AsFd, name: &Path, kind: Kind) -> io::Result<File> {
    let parent = parent.as_fd();
    if kind == Kind::Directory {
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
        Mode::from_raw_mode(if kind == Kind::Secret { 0o600 } else { 0o644 }),
    )?))
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
