//! What others began of the same name and left, since they were killed, or their machine was.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, RenameFlags, Stat, renameat, renameat_with, unlinkat};

use super::{Output, lacks};
use crate::files::maker::{Maker, Role, read};
use crate::files::{Identity, UNFINISHED, is_directory, look, open_directory, removal, touched};

impl Output {
    /// Removes what others began of the same name and left, and puts back what was on its way out.
    pub(super) fn sweep(&self) {
        let Ok(now) = rustix::fs::fstat(&self.made).map(|data| touched(&data)) else {
            return;
        };
        for (entry, role, maker) in siblings(&self.parent, &self.name) {
            let Ok(data) = look(&self.parent, &entry) else {
                continue;
            };
            let is_own = data.st_uid == chariot_core::sys::rights::user();
            if !is_own || entry == self.temporary || !maker.is_gone(touched(&data), now) {
                continue;
            }
            // What stays is tried again the next time.
            let _ = self.clean(&entry, role, &data);
        }
    }

    /// Removes what these processes began of the same name, of which the caller knows that they have lost the right to
    /// make it, on whatever machine they are.
    pub fn take_from(&self, losers: &[Maker]) {
        for (entry, role, maker) in siblings(&self.parent, &self.name) {
            let is_lost = losers.iter().any(|loser| loser.is_same_process(&maker));
            let Ok(data) = look(&self.parent, &entry) else {
                continue;
            };
            if is_lost && role == Role::Part && data.st_uid == chariot_core::sys::rights::user() {
                // What stays is tried again when it is old.
                let _ = leftover(self.parent.as_fd(), &entry, &data);
            }
        }
    }

    pub(super) fn clean(&self, entry: &Path, role: Role, data: &Stat) -> io::Result<()> {
        let is_gone = || {
            let there = look(&self.parent, &self.name);
            there.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
        };
        // Only directories are ever moved aside, and only images that Chariot made. One that is on its way out is not
        // what was there.
        if role == Role::Old
            && is_gone()
            && !is_unfinished(&self.parent, entry)
            && let Ok((_open, old)) = removal::marked(&self.parent, entry)
        {
            return self.put_back(entry, old);
        }
        leftover(self.parent.as_fd(), entry, data)
    }
}

impl Output {
    pub(super) fn put_back(&self, entry: &Path, old: Identity) -> io::Result<()> {
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
pub(in crate::files) fn leftover(
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
            false => Err(io::Error::other("it is not one of Chariot's files")),
        };
    }
    if removal::remove_empty(parent, entry, noted).is_ok() {
        return Ok(());
    }
    if !is_unfinished(parent, entry) && removal::marked(parent, entry).is_err() {
        return Err(io::Error::other("it carries no mark"));
    }
    // Under a name of this process: should its maker be there after all, it finds that it has lost it, and does not
    // give a name to what is half gone.
    let own = PathBuf::from(Maker::this().name(OsStr::new("removed"), Role::Part));
    renameat(parent, entry, parent, &own)?;
    removal::tree(parent, &own, noted)
}

/// Whether a directory says that it is being filled, or removed.
fn is_unfinished(parent: impl AsFd, entry: &Path) -> bool {
    let mark = open_directory(parent, entry).and_then(|it| look(&it, Path::new(UNFINISHED)));
    mark.is_ok_and(|mark| !is_directory(&mark) && mark.st_size == 0)
}

/// What lies in a directory under names that stand for `name` while it is made. Their names tell; nothing is opened.
pub(super) fn siblings(parent: &OwnedFd, name: &Path) -> Vec<(PathBuf, Role, Maker)> {
    let entries = Dir::read_from(parent).into_iter().flatten().flatten();
    let entries = entries.filter_map(|entry| {
        use std::os::unix::ffi::OsStrExt;
        let entry = std::ffi::OsStr::from_bytes(entry.file_name().to_bytes());
        let (role, maker) = read(entry, Some(name.as_os_str()))?;
        Some((PathBuf::from(entry), role, maker))
    });
    entries.collect()
}
