//! Taking away what is at a name: below a descriptor, after asking whether it still is what was noted. Never by a path,
//! through a link, across a mount, and never the root or the working directory of this process, whatever somebody
//! has made of the name meanwhile.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, fchmod, openat, unlinkat};
use rustix::io::Errno;

use super::{Identity, MARK, UNFINISHED, is_directory, look, open_directory, open_parent, split};
use chariot_core::sys::{self, descriptors};

/// Removes an image's directory, which carries the mark of one that Chariot made.
///
/// # Errors
/// It carries no mark, or something in it cannot be removed.
pub fn marked_tree(path: &Path) -> io::Result<()> {
    let (parent, name) = split(path).ok_or(io::ErrorKind::InvalidInput)?;
    let parent = open_parent(parent)?;
    let (_open, noted) = marked(&parent, name)?;
    tree(parent.as_fd(), name, noted)
}

/// Whether a directory carries the mark by which an image that Chariot made is known.
pub fn is_marked(path: &Path) -> bool {
    let Some((parent, name)) = split(path) else {
        return false;
    };
    open_parent(parent).is_ok_and(|parent| marked(parent, name).is_ok())
}

/// Removes one file by its name, or a link itself; no directory.
///
/// # Errors
/// As unlink(2).
pub fn file(path: &Path) -> io::Result<()> {
    let (parent, name) = split(path).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(unlinkat(open_parent(parent)?, name, AtFlags::empty())?)
}

/// Removes a link, or a file, from a file system in memory that holds mount points of Chariot's own. Nothing may be there.
pub(crate) fn own_link(directory: impl AsFd, name: &Path) {
    let _ = unlinkat(directory, name, AtFlags::empty());
}

/// A directory that carries the mark of an image that Chariot made. While it is open, it keeps its number.
pub(super) fn marked(parent: impl AsFd, name: &Path) -> io::Result<(OwnedFd, Identity)> {
    let directory = open_directory(parent, name)?;
    let is_marked = sys::open_in_root(&directory, Path::new(MARK), OFlags::PATH | OFlags::NOFOLLOW)
        .ok()
        .and_then(|mark| rustix::fs::fstat(mark).ok())
        .is_some_and(|data| FileType::from_raw_mode(data.st_mode).is_file());
    match is_marked {
        true => Identity::of(&directory).map(|noted| (directory, noted)),
        false => Err(io::Error::other("it is not an image that Chariot made")),
    }
}

/// Removes the directory `name` of `parent` with all that is in it, if it is the one that was noted.
///
/// # Errors
/// It is another one by now, or what could not be removed.
pub(super) fn tree(parent: BorrowedFd<'_>, name: &Path, noted: Identity) -> io::Result<()> {
    let top = Level::open(parent, name)?;
    if top.identity != noted {
        return Err(io::Error::other("something else has its name by now"));
    }
    refuse_own_place(noted)?;
    doom(&top);
    empty(top)?;
    remove_empty(parent, name, noted)
}

/// Says of a tree that it is on its way out, so that a later run goes on where this one may fail: what told that it was
/// Chariot's goes before the rest. That mark is what goes last.
fn doom(top: &Level) {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let make = || {
        openat(
            &top.directory,
            UNFINISHED,
            flags | OFlags::NONBLOCK,
            Mode::RWXU,
        )
    };
    if matches!(make(), Err(Errno::ACCESS)) {
        let _ = fchmod(&top.directory, Mode::RWXU);
        let _ = make();
    }
}

/// Whatever went wrong before: the root and the working directory of a process are never something that it made.
fn refuse_own_place(noted: Identity) -> io::Result<()> {
    let is_own = |place| Identity::at(CWD, Path::new(place)).is_ok_and(|place| place == noted);
    match is_own("/") || is_own(".") {
        true => Err(io::Error::other("it is where this process stands")),
        false => Ok(()),
    }
}

/// Removes an empty directory, if it is the one that was noted.
pub(super) fn remove_empty(parent: BorrowedFd<'_>, name: &Path, noted: Identity) -> io::Result<()> {
    match Identity::at(parent, name)? == noted {
        true => Ok(unlinkat(parent, name, AtFlags::REMOVEDIR)?),
        false => Err(io::Error::other("something else has its name by now")),
    }
}

/// A directory that is being emptied.
struct Level {
    directory: OwnedFd,
    identity: Identity,
    mount: u64,
}

impl Level {
    fn open(parent: BorrowedFd<'_>, name: &Path) -> io::Result<Level> {
        let directory = match open_directory(parent, name) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                make_accessible(parent, name)?;
                open_directory(parent, name)?
            }
            result => result?,
        };
        Level::of(directory)
    }

    fn of(directory: OwnedFd) -> io::Result<Level> {
        Ok(Level {
            identity: Identity::of(&directory)?,
            mount: sys::mount_of(&directory).map_err(|error| io::Error::from(error.errno()))?,
            directory,
        })
    }

    /// Removes what is no directory, but for what is to go last, and gives the name of the first directory.
    fn sweep(&self, last: Option<&Path>) -> io::Result<Option<PathBuf>> {
        for entry in Dir::read_from(&self.directory)? {
            let entry = entry?;
            let name: CString = entry.file_name().to_owned();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let name = Path::new(OsStr::from_bytes(name.to_bytes()));
            if Some(name) == last && entry.file_type() == FileType::RegularFile {
                continue;
            }
            let is_directory = match entry.file_type() {
                FileType::Directory => true,
                FileType::Unknown => is_directory(&look(&self.directory, name)?),
                _ => false,
            };
            if is_directory {
                return Ok(Some(name.to_owned()));
            }
            self.unlink(name, AtFlags::empty())?;
        }
        Ok(None)
    }

    /// Removes a name; from a directory that its owner may not write, after allowing that.
    fn unlink(&self, name: &Path, flags: AtFlags) -> io::Result<()> {
        match unlinkat(&self.directory, name, flags) {
            Err(Errno::ACCESS) => {
                fchmod(&self.directory, Mode::RWXU)?;
                Ok(unlinkat(&self.directory, name, flags)?)
            }
            Err(Errno::NOENT) => Ok(()),
            result => Ok(result?),
        }
    }

    fn above(&self, expected: Identity) -> io::Result<Level> {
        let above = Level::of(open_directory(&self.directory, Path::new(".."))?)?;
        match above.identity == expected {
            true => Ok(above),
            false => Err(io::Error::other("it was moved meanwhile")),
        }
    }
}

/// Removes everything in a directory. Two descriptors are open at a time, however deep it is: an image may be deeper
/// than a process may have files open.
fn empty(top: Level) -> io::Result<()> {
    let mount = top.mount;
    let mut path: Vec<(PathBuf, Identity)> = Vec::new();
    let mut here = top;
    loop {
        let last = path.is_empty().then_some(Path::new(UNFINISHED));
        match here.sweep(last)? {
            Some(name) => {
                let below = Level::open(here.directory.as_fd(), &name)?;
                if below.mount != mount {
                    return Err(io::Error::other("something is mounted in it"));
                }
                path.push((name, here.identity));
                here = below;
            }
            None => {
                let Some((name, above)) = path.pop() else {
                    return here.sweep(None).map(drop);
                };
                here = here.above(above)?;
                here.unlink(&name, AtFlags::REMOVEDIR)?;
            }
        }
    }
}

/// Lets the owner of a directory into it: by a descriptor, so that no link that somebody lays in its place has the mode of
/// another file changed.
fn make_accessible(parent: BorrowedFd<'_>, name: &Path) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = openat(parent, name, flags, Mode::empty())?;
    if rustix::fs::fstat(&directory)?.st_uid != chariot_core::sys::rights::user() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    Ok(rustix::fs::chmod(
        descriptors::path_of(&directory),
        Mode::RWXU,
    )?)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn remove(path: &Path) -> io::Result<()> {
        let (parent, name) = split(path).unwrap();
        let parent = open_parent(parent)?;
        tree(parent.as_fd(), name, Identity::at(&parent, name)?)
    }

    #[test]
    fn a_tree_goes_with_closed_directories_and_what_its_links_lead_to_stays() {
        let place = tempfile::tempdir().unwrap();
        let (doomed, canary) = (place.path().join("doomed"), place.path().join("canary"));
        fs::create_dir_all(doomed.join("closed/deeper")).unwrap();
        fs::create_dir(&canary).unwrap();
        fs::write(canary.join("file"), "mine").unwrap();
        symlink(&canary, doomed.join("link")).unwrap();
        symlink(&canary, doomed.join("closed/link")).unwrap();
        fs::hard_link(canary.join("file"), doomed.join("same")).unwrap();
        for name in ["closed/deeper", "closed"] {
            fs::set_permissions(doomed.join(name), Permissions::from_mode(0o0)).unwrap();
        }
        remove(&doomed).unwrap();
        assert!(!doomed.exists());
        assert_eq!(fs::read_to_string(canary.join("file")).unwrap(), "mine");
    }

    #[test]
    fn a_tree_may_be_deeper_than_a_process_may_have_files_open() {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir(place.path().join("deep")).unwrap();
        let mut here = open_parent(&place.path().join("deep")).unwrap();
        for _ in 0..5000 {
            rustix::fs::mkdirat(&here, "d", Mode::RWXU).unwrap();
            here = open_directory(&here, Path::new("d")).unwrap();
        }
        remove(&place.path().join("deep")).unwrap();
        assert!(!place.path().join("deep").exists());
    }

    #[test]
    fn what_took_the_name_of_what_was_noted_stays() {
        let place = tempfile::tempdir().unwrap();
        let (one, two) = (place.path().join("one"), place.path().join("two"));
        fs::create_dir(&one).unwrap();
        fs::create_dir(&two).unwrap();
        fs::write(two.join("file"), "mine").unwrap();
        let parent = open_parent(place.path()).unwrap();
        let noted = Identity::at(&parent, Path::new("one")).unwrap();
        for make in [
            |one: &Path, two: &Path| fs::rename(two, one),
            |one: &Path, two: &Path| fs::rename(one, two).and_then(|()| symlink(two, one)),
        ] {
            fs::remove_dir(&one).or_else(|_| fs::remove_file(&one)).ok();
            make(&one, &two).ok();
            assert!(tree(parent.as_fd(), Path::new("one"), noted).is_err());
            assert!(one.join("file").exists());
        }
    }

    #[test]
    fn the_root_and_the_working_directory_are_never_removed() {
        // Only the question is asked: a mistake here would remove them.
        for path in [Path::new("/"), &std::env::current_dir().unwrap()] {
            let place = Identity::at(CWD, path).unwrap();
            assert!(refuse_own_place(place).is_err(), "{}", path.display());
        }
        let other = tempfile::tempdir().unwrap();
        refuse_own_place(Identity::at(CWD, other.path()).unwrap()).unwrap();
    }

    #[test]
    fn a_directory_without_the_mark_of_an_image_stays() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("tree");
        fs::create_dir_all(path.join(".chariot")).unwrap();
        symlink("/etc/passwd", path.join(MARK)).unwrap();
        assert!(marked_tree(&path).is_err());
        assert!(path.exists());
        fs::remove_file(path.join(MARK)).unwrap();
        fs::write(path.join(MARK), "{}").unwrap();
        marked_tree(&path).unwrap();
        assert!(!path.exists());
    }
}
