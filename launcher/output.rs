//! Files and directories that get their name when they are complete: whatever happens before, nothing is there
//! under that name, or what was there.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use rustix::fs::{AtFlags, CWD, RenameFlags, renameat_with, unlinkat};

use crate::error::{Error, Explain, Result};
use crate::image::confined::{remove, remove_tree};

/// What is being made.
#[derive(Debug)]
pub struct Output {
    destination: PathBuf,
    temporary: PathBuf,
    /// The directory that both are in.
    parent: File,
    /// The open temporary file or directory, locked while it is in use.
    made: Flock<File>,
    is_directory: bool,
}

impl Output {
    /// Begins a directory.
    ///
    /// # Errors
    /// It cannot be made beside `destination`.
    pub fn directory(destination: &Path) -> Result<Output> {
        Output::begin(destination, true)
    }

    /// Begins a file.
    ///
    /// # Errors
    /// It cannot be made beside `destination`.
    pub fn file(destination: &Path) -> Result<Output> {
        Output::begin(destination, false)
    }

    fn begin(destination: &Path, is_directory: bool) -> Result<Output> {
        let what = || format!("can't write {}", destination.display());
        let name = destination
            .file_name()
            .ok_or_else(|| Error::new(format!("{}: it has no name of its own", what())))?;
        let parent = match destination.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        // Others on this machine alone can be told dead from alive.
        let mut prefix = OsString::from(".");
        prefix.push(name);
        prefix.push(format!(".part.{}.", host_name()));
        remove_stale(parent, &prefix);
        let mut temporary = prefix;
        temporary.push(std::process::id().to_string());
        let temporary = parent.join(temporary);
        let parent = File::open(parent)
            .explain(what)
            .map_err(|error| error.hint("make the directory above it first"))?;
        let made = match is_directory {
            true => fs::create_dir(&temporary).and_then(|()| File::open(&temporary)),
            false => File::options()
                .read(true)
                .write(true)
                .create_new(true)
                .open(&temporary),
        };
        let made = Flock::lock(made.explain(what)?, FlockArg::LockExclusiveNonblock)
            .map_err(|(_, errno)| Error::new(format!("{}: flock(): {}", what(), errno.desc())))?;
        Ok(Output {
            destination: destination.to_owned(),
            temporary,
            parent,
            made,
            is_directory,
        })
    }

    /// Where it is until it is complete.
    pub fn temporary(&self) -> &Path {
        &self.temporary
    }

    /// The file that is being made.
    pub fn file_to_fill(&self) -> &File {
        &self.made
    }

    /// Gives it its name, in place of what has that name now.
    ///
    /// # Errors
    /// As renameat2(2); or what was there cannot be removed.
    pub fn finish(&self) -> Result<()> {
        let (from, to) = (&self.temporary, &self.destination);
        let failed = || {
            format!(
                "can't write {}: rename(\"{}\")",
                to.display(),
                from.display()
            )
        };
        if !self.is_directory {
            return fs::rename(from, to).explain(failed);
        }
        let is_there = fs::symlink_metadata(to).is_ok();
        let flags = match is_there {
            true => RenameFlags::EXCHANGE,
            false => RenameFlags::NOREPLACE,
        };
        renameat_with(CWD, from, CWD, to, flags)
            .map_err(io::Error::from)
            .explain(failed)?;
        match is_there {
            true => remove_tree(from).explain(|| {
                format!(
                    "can't remove what was {} before, now {}",
                    to.display(),
                    from.display()
                )
            }),
            false => Ok(()),
        }
    }

    /// Removes it. What cannot be removed goes away when something of that name is made the next time.
    pub fn abandon(&self) {
        let _ = remove(&self.temporary);
    }

    /// Removes it, in a process whose root the directory may be by now.
    pub fn abandon_from_within(&self) {
        let name = self
            .temporary
            .file_name()
            .map(PathBuf::from)
            .unwrap_or_default();
        if !self.is_directory {
            let _ = unlinkat(self.parent.as_fd(), name, AtFlags::empty());
            return;
        }
        for entry in fs::read_dir("/").into_iter().flatten().flatten() {
            // Each is tried; what stays is removed the next time.
            let _ = remove(&entry.path());
        }
        let _ = unlinkat(self.parent.as_fd(), name, AtFlags::REMOVEDIR);
    }
}

/// Writes a small file that is there as a whole or not at all.
///
/// # Errors
/// As [`Output::file`] and [`Output::finish`], or it cannot be written.
pub fn write(destination: &Path, bytes: &[u8], what: impl FnOnce() -> String) -> Result<()> {
    let output = Output::file(destination)?;
    fs::write(output.temporary(), bytes)
        .explain(what)
        .and_then(|()| output.finish())
        .inspect_err(|_| output.abandon())
}

/// This machine's name, as a part of file names.
pub fn host_name() -> String {
    let name = nix::unistd::gethostname().unwrap_or_default();
    name.to_string_lossy().replace(['/', '.'], "-")
}

/// Removes what others began of a file, on whatever machine they are, or were.
pub fn remove_others(destination: &Path) {
    let (Some(parent), Some(name)) = (destination.parent(), destination.file_name()) else {
        return;
    };
    let mut prefix = OsString::from(".");
    prefix.push(name);
    prefix.push(".part.");
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name
            .as_encoded_bytes()
            .starts_with(prefix.as_encoded_bytes())
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Removes what was left by somebody who was killed together with its helper.
fn remove_stale(parent: &Path, prefix: &OsString) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let is_ours = name
            .as_encoded_bytes()
            .starts_with(prefix.as_encoded_bytes());
        let Some(file) = File::open(entry.path()).ok().filter(|_| is_ours) else {
            continue;
        };
        // Whoever is still at work on it holds the lock.
        if Flock::lock(file, FlockArg::LockExclusiveNonblock).is_ok() {
            let _ = remove(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn nothing_has_the_name_before_it_is_complete_and_what_somebody_left_goes_away() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("image");
        fs::write(&path, "old").unwrap();
        let output = Output::file(&path).unwrap();
        fs::write(output.temporary(), "new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        output.finish().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        // Left by a process that is gone; one of another machine may live.
        let left = format!(".image.part.{}.1", host_name());
        fs::write(place.path().join(left), "").unwrap();
        fs::write(place.path().join(".image.part.elsewhere.1"), "").unwrap();
        Output::file(&path).unwrap().abandon();
        assert_eq!(names(place.path()), [".image.part.elsewhere.1", "image"]);
    }

    #[test]
    fn a_directory_takes_the_place_of_another_at_once() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("tree");
        fs::create_dir_all(path.join("old")).unwrap();
        let output = Output::directory(&path).unwrap();
        fs::create_dir(output.temporary().join("new")).unwrap();
        output.finish().unwrap();
        assert_eq!(
            (names(place.path()), names(&path)),
            (vec!["tree".into()], vec!["new".to_owned()])
        );
    }
}
