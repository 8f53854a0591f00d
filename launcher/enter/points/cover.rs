//! Covering a directory that takes no point: a tmpfs that has the point and, under their own names, everything that
//! the directory has ("underlay").

use std::ffi::{CString, OsStr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, OFlags};

use super::{Points, kind_of, make_in, mode};
use chariot_core::error::{Error, Explain, Result};
use chariot_core::sys::mounts;
use chariot_core::sys::{self, Call};

/// A directory with more entries than this is not covered: each entry becomes a mount, and the
/// kernel allows 100,000 in a namespace.
const MOST_ENTRIES: usize = 10_000;

impl Points {
    /// Covers a directory by a tmpfs with the same entries but `without`.
    pub(super) fn cover(
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
        if self.writable && !self.is_throwaway {
            tracing::warn!(
                "warning: nothing can be made in {}, which is covered to hold a mount point: you may not write there",
                path.display()
            );
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
}

fn list(directory: &OwnedFd) -> Call<Vec<PathBuf>> {
    let readable = sys::open_in_root(
        directory,
        Path::new("."),
        OFlags::RDONLY | OFlags::DIRECTORY,
    )?;
    let call = || "getdents64()".to_owned();
    let mut names = Vec::new();
    for entry in sys::called(rustix::fs::Dir::new(readable), call)? {
        let entry = sys::called(entry, call)?;
        let name: CString = entry.file_name().to_owned();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(PathBuf::from(OsStr::from_bytes(name.to_bytes())));
        }
    }
    Ok(names)
}
