//! Giving a directory its name, in place of an image that has it: at once where the file system can exchange names, else
//! with the old one moved aside, and back if that fails.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, RenameFlags, renameat, renameat_with, unlinkat};
use rustix::io::Errno;

use super::{Output, cannot_write, lacks};
use crate::files::maker::{Maker, Role};
use crate::files::{Identity, UNFINISHED, look, removal, space};
use chariot_core::error::{Error, Explain, Result, io_reason};

impl Output {
    /// An image may have a file of that name, which has taken its place. Without either, somebody is removing it all.
    pub(super) fn end_mark(&self, mark: Identity) -> io::Result<()> {
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

    pub(super) fn finish_directory(&self) -> Result<()> {
        let what = || cannot_write(&self.destination);
        match look(&self.parent, &self.name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.take_new_name(),
            Err(error) => Err(error).explain(what),
            Ok(_) => {
                let (_open, old) = removal::marked(&self.parent, &self.name).map_err(|_| {
                    Error::new(format!(
                        "{}: it already exists, and is not an image that Chariot made",
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

    pub(super) fn take_new_name(&self) -> Result<()> {
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
    pub(super) fn exchange(&self) -> Result<PathBuf> {
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

    pub(super) fn not_named(&self, errno: Errno) -> Error {
        let call = format!("rename(\"{}\")", self.temporary().display());
        let place = self.destination.parent().unwrap_or(Path::new("."));
        space::explain(
            &errno.into(),
            &cannot_write(&self.destination),
            &call,
            place,
        )
    }

    pub(super) fn remove_old(&self, name: &Path, old: Identity) -> Result<()> {
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
}
