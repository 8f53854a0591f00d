//! Small files that are there as a whole or not at all, and those that only the first of many may make.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::SystemTime;

use rustix::fs::{AtFlags, RenameFlags, Stat, linkat, renameat, renameat_with};
use rustix::io::Errno;

use super::leftover::siblings;
use super::{Kind, Output, cannot_write, lacks};
use crate::files::maker::{Maker, Role};
use crate::files::{look, open_parent, split, sync, touched};
use chariot_core::error::{Explain, Result};
use chariot_core::open;
use chariot_core::sys::signals;

/// Writes a small file that is there as a whole or not at all.
///
/// # Errors
/// As [`Output::file`] and [`Output::finish`], or it cannot be written.
pub fn write(destination: &Path, bytes: &[u8]) -> Result<()> {
    uninterrupted(|| finished(Output::file(destination)?, bytes))
}

/// The same for its owner alone.
///
/// # Errors
/// As [`write()`].
pub fn write_secret(destination: &Path, bytes: &[u8]) -> Result<()> {
    uninterrupted(|| finished(Output::begin(destination, Kind::Secret)?, bytes))
}

/// The same in an open directory, of which `destination` is only told.
///
/// # Errors
/// As [`write()`].
pub fn write_in(directory: OwnedFd, destination: &Path, bytes: &[u8]) -> Result<()> {
    let name = Path::new(destination.file_name().unwrap_or_default());
    uninterrupted(|| {
        finished(
            Output::begin_in(directory, destination, name, Kind::File)?,
            bytes,
        )
    })
}

/// Makes a directory for secrets, and those above it, for its owner alone, where they are not there.
///
/// # Errors
/// As mkdir(2).
pub fn make_private(directory: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let mut all = std::fs::DirBuilder::new();
    let made = all.recursive(true).mode(0o700).create(directory);
    made.explain(|| format!("can't make {}: mkdir", directory.display()))
}

fn finished(output: Output, bytes: &[u8]) -> Result<()> {
    let output = filled(output, bytes)?;
    output.finish().inspect_err(|_| output.abandon())
}

/// A Ctrl-C in the middle would leave a part: these files have no process beside their writer's that could clean up.
fn uninterrupted<T>(write: impl FnOnce() -> Result<T>) -> Result<T> {
    let held = signals::hold_back();
    let written = write();
    if let Ok(held) = held {
        held.let_through();
    }
    written
}

/// Writes a small file unless somebody else, on any machine, was first. Whether this one was.
///
/// # Errors
/// As [`write()`].
pub fn write_first(destination: &Path, bytes: &[u8]) -> Result<bool> {
    uninterrupted(|| first(filled(Output::file(destination)?, bytes)?))
}

/// The same in an open directory, of which `path` is only told.
pub(in crate::files) fn write_first_in(
    directory: &OwnedFd,
    path: &Path,
    name: &Path,
    bytes: &[u8],
) -> Result<bool> {
    let destination = path.join(name);
    let parent = directory
        .try_clone()
        .explain(|| cannot_write(&destination))?;
    uninterrupted(|| {
        let output = Output::begin_in(parent, &destination, name, Kind::File)?;
        first(filled(output, bytes)?)
    })
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
    pub(super) fn finish_first(&self) -> io::Result<bool> {
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
    longest(destination).map(|(file, ..)| file)
}

fn longest(destination: &Path) -> Option<(File, Stat, Maker)> {
    let (above, name) = split(destination)?;
    let parent = open_parent(above).ok()?;
    let parts = siblings(&parent, name).into_iter();
    let parts = parts.filter(|(_, role, _)| *role == Role::Part);
    let files = parts.filter_map(|(entry, _, maker)| {
        let (file, data) = open::regular_at(&parent, &entry).ok()?;
        Some((file, data, maker))
    });
    let own = files.filter(|(_, data, _)| data.st_uid == chariot_core::sys::rights::user());
    own.max_by_key(|(_, data, _)| data.st_size)
}

/// How much room it takes to make a file of so many bytes, after what is there of it: that is copied, and goes when it was
/// copied if its maker is dead, so that it never takes room twice beside the rest.
pub fn room_for(destination: &Path, size: u64) -> u64 {
    let now = SystemTime::now();
    match longest(destination) {
        Some((_, data, maker)) if maker.is_gone(touched(&data), now) => {
            let there = u64::try_from(data.st_size).unwrap_or(0).min(size);
            there.max(size - there)
        }
        _ => size,
    }
}
