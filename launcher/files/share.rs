//! One file under two names, which takes room once: the store and the cache have the same images. Other file systems,
//! and files of other users, have no second names; then whoever asks makes a copy.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, linkat, renameat, unlinkat};

use super::maker::{Maker, Role};
use super::{Output, open_parent, split, sync};

/// Gives a file a second name, which nothing may have yet.
///
/// # Errors
/// As link(2): other file systems, and files of others, have none.
pub fn link(file: &Path, destination: &Path) -> io::Result<()> {
    let (above, name) = split(destination).ok_or(io::ErrorKind::InvalidInput)?;
    let parent = open_parent(above)?;
    Ok(linkat(CWD, file, &parent, name, AtFlags::empty())?)
}

/// Gives a file a second name in place of what has that name now; or a copy that shares its blocks.
///
/// # Errors
/// The file system can do neither.
pub fn share(file: &Path, destination: &Path) -> io::Result<()> {
    let (above, name) = split(destination).ok_or(io::ErrorKind::InvalidInput)?;
    let parent = open_parent(above)?;
    let temporary = PathBuf::from(Maker::this().name(name.as_os_str(), Role::Part));
    match linkat(CWD, file, &parent, &temporary, AtFlags::empty()) {
        Ok(()) => {
            let named = renameat(&parent, &temporary, &parent, name);
            // It is there still if that failed, or if both names were the same file's before.
            let _ = unlinkat(&parent, &temporary, AtFlags::empty());
            sync::names(&parent);
            Ok(named?)
        }
        Err(_) => {
            let from = chariot_core::open::regular(file)?;
            let output = Output::file(destination).map_err(io::Error::other)?;
            let cloned = rustix::fs::ioctl_ficlone(output.made(), &from);
            let named = cloned
                .map_err(io::Error::from)
                .and_then(|()| output.finish().map_err(io::Error::other));
            output.abandon();
            named
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_second_name_replaces_what_had_it_and_leaves_nothing_else() {
        let place = tempfile::tempdir().unwrap();
        let (one, two) = (place.path().join("one"), place.path().join("two"));
        fs::write(&one, "new").unwrap();
        fs::write(&two, "old").unwrap();
        assert!(link(&one, &two).is_err());
        // The second time both are the same file already, which rename(2) leaves alone.
        for _ in 0..2 {
            share(&one, &two).unwrap();
            assert_eq!(fs::read_to_string(&two).unwrap(), "new");
            assert_eq!(fs::read_dir(place.path()).unwrap().count(), 2);
        }
        assert!(share(&place.path().join("missing"), &two).is_err());
        assert_eq!(fs::read_to_string(&two).unwrap(), "new");
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 2);
    }
}
