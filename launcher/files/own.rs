//! Directories that Chariot made for itself: a cache, a store of images, a place for copies on a node. Each carries a mark,
//! and below it alone is anything swept, by descriptor and by names of Chariot's own form. A directory that somebody
//! else made, with something in it, is never taken for one, whatever a site's file says: `cache = "/home/$USER"`
//! would otherwise make everything there that is old and has the wrong name something to be collected.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{AtFlags, Dir, FileType, Mode, Stat, mkdirat, unlinkat};
use rustix::io::Errno;

use super::maker::{Maker, read};
use super::output::{leftover, modified};
use super::{Identity, is_directory, look, open, open_directory, open_parent, removal, space};
use crate::error::{Error, Explain, Result};
use crate::sys::process;

/// The mark's name. It begins with a dot, as nothing does that is listed as an image.
const OWN_MARK: &str = ".chariot-directory";

/// The form of what lies below. Another number is another form, which this program leaves alone.
const FORM: &str = "1";

/// The longest mark that is read, in bytes.
const LARGEST: u64 = 256;

/// What a directory is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Images that were made of others, and layers.
    Cache,
    /// Copies of images on a node.
    Stage,
    /// Images by name.
    Store,
}

impl Purpose {
    fn word(self) -> &'static str {
        match self {
            Purpose::Cache => "cache",
            Purpose::Stage => "stage",
            Purpose::Store => "store",
        }
    }

    fn mark(self) -> String {
        format!("chariot {} {FORM}\n", self.word())
    }
}

/// A directory that carries the mark, and belongs to this user alone.
#[derive(Debug)]
pub struct Own {
    root: Below,
}

/// A directory below the mark, or the marked one itself.
#[derive(Debug)]
pub struct Below {
    directory: OwnedFd,
    path: PathBuf,
    mode: u32,
}

/// Something in such a directory.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its name.
    pub name: PathBuf,
    /// What stat(2) says of it; a link is itself.
    pub data: Stat,
}

impl Entry {
    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        is_directory(&self.data)
    }

    /// Whether it is a regular file.
    pub fn is_file(&self) -> bool {
        FileType::from_raw_mode(self.data.st_mode).is_file()
    }

    /// Its length in bytes.
    pub fn size(&self) -> u64 {
        u64::try_from(self.data.st_size).unwrap_or(0)
    }

    /// When it was last written.
    pub fn modified(&self) -> SystemTime {
        modified(&self.data)
    }

    /// Who is making it, if it is not complete.
    pub fn maker(&self) -> Option<Maker> {
        read(self.name.as_os_str(), None).map(|(_, maker)| maker)
    }
}

impl Own {
    /// Opens the directory to write in it, and makes and marks it if it is not there or empty. `mode` is for what is
    /// made.
    ///
    /// # Errors
    /// It holds what somebody else made, others can write there, or it cannot be made.
    pub fn prepare(path: &Path, purpose: Purpose, mode: u32) -> Result<Own> {
        let what = || cannot_use(path, purpose);
        let mut make = std::fs::DirBuilder::new();
        make.recursive(true).mode(mode);
        make.create(path)
            .map_err(|error| space::explain(&error, &what(), "mkdir", path))?;
        let own = Own::open_unmarked(path, mode).explain(what)?;
        own.refuse_others(purpose)?;
        match own.mark().explain(what)? {
            Some(mark) => own.refuse_form(&mark, purpose)?,
            None => own.begin(purpose)?,
        }
        Ok(own)
    }

    /// Opens the directory if it is there and carries the mark.
    ///
    /// # Errors
    /// It is there without the mark, or others can write there.
    pub fn open(path: &Path, purpose: Purpose) -> Result<Option<Own>> {
        let what = || cannot_use(path, purpose);
        let own = match Own::open_unmarked(path, 0o700) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            result => result.explain(what)?,
        };
        own.refuse_others(purpose)?;
        match own.mark().explain(what)? {
            Some(mark) => own.refuse_form(&mark, purpose).map(|()| Some(own)),
            None if own.is_empty().explain(what)? => Ok(None),
            None => Err(own.not_ours(purpose)),
        }
    }

    fn open_unmarked(path: &Path, mode: u32) -> io::Result<Own> {
        Ok(Own {
            root: Below {
                directory: open_parent(path)?,
                path: path.to_owned(),
                mode,
            },
        })
    }

    /// The directory itself.
    pub fn root(&self) -> &Below {
        &self.root
    }

    fn refuse_others(&self, purpose: Purpose) -> Result<()> {
        let what = || cannot_use(&self.root.path, purpose);
        let data = rustix::fs::fstat(&self.root.directory)
            .map_err(io::Error::from)
            .explain(what)?;
        match data.st_uid == process::user() && data.st_mode & 0o022 == 0 {
            true => Ok(()),
            false => Err(Error::new(format!(
                "{}: others can write there, or it is not yours",
                what()
            ))
            .hint("what lies there could be forged: chmod go-w, or choose another place")),
        }
    }

    fn mark(&self) -> io::Result<Option<Vec<u8>>> {
        match open::regular_at(&self.root.directory, Path::new(OWN_MARK)) {
            Ok((file, _)) => open::all_of(&file, LARGEST).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn refuse_form(&self, mark: &[u8], purpose: Purpose) -> Result<()> {
        if mark == purpose.mark().as_bytes() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(mark);
        Err(Error::new(format!(
            "{}: {} says that it is for something else: {}",
            cannot_use(&self.root.path, purpose),
            self.root.path.join(OWN_MARK).display(),
            said.trim().escape_debug()
        ))
        .hint("choose another directory; another release of Chariot may have made this one"))
    }

    fn is_empty(&self) -> io::Result<bool> {
        let is_mark =
            |entry: &Entry| read(entry.name.as_os_str(), Some(OsStr::new(OWN_MARK))).is_some();
        Ok(self.root.entries()?.iter().all(is_mark))
    }

    fn begin(&self, purpose: Purpose) -> Result<()> {
        let what = || cannot_use(&self.root.path, purpose);
        // The mark comes first, so that what another process puts here a moment later is below it.
        if !self.is_empty().explain(what)? {
            return match self.mark().explain(what)? {
                Some(mark) => self.refuse_form(&mark, purpose),
                None => Err(self.not_ours(purpose)),
            };
        }
        let mark = purpose.mark();
        let is_first = super::write_first(&self.root.path.join(OWN_MARK), mark.as_bytes())?;
        match self.mark().explain(what)? {
            Some(mark) if !is_first => self.refuse_form(&mark, purpose),
            _ => Ok(()),
        }
    }

    fn not_ours(&self, purpose: Purpose) -> Error {
        Error::new(format!(
            "{}: there is something in it, and Chariot did not make it",
            cannot_use(&self.root.path, purpose)
        ))
        .hint(format!(
            "let the site configuration file name a directory that is empty or not there yet, such as {}",
            self.root.path.join("chariot").display()
        ))
    }
}

fn cannot_use(path: &Path, purpose: Purpose) -> String {
    format!("can't use {} as a {}", path.display(), purpose.word())
}

impl Below {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A directory in it, made if it is not there.
    ///
    /// # Errors
    /// It cannot be made, or something else has its name.
    pub fn make(&self, name: &str) -> io::Result<Below> {
        match mkdirat(&self.directory, name, Mode::from_raw_mode(self.mode)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        self.enter(Path::new(name))
    }

    /// A directory in it.
    ///
    /// # Errors
    /// ENOENT if it is not there, ENOTDIR if a link or a file has its name.
    pub fn enter(&self, name: &Path) -> io::Result<Below> {
        Ok(Below {
            directory: open_directory(&self.directory, name)?,
            path: self.path.join(name),
            mode: self.mode,
        })
    }

    /// What is in it, but for `.` and `..`. What goes away meanwhile is left out.
    ///
    /// # Errors
    /// As getdents64(2).
    pub fn entries(&self) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in Dir::read_from(&self.directory)? {
            let entry = entry?;
            let name = Path::new(OsStr::from_bytes(entry.file_name().to_bytes()));
            if matches!(name.as_os_str().as_bytes(), b"." | b"..") {
                continue;
            }
            if let Ok(data) = look(&self.directory, name) {
                entries.push(Entry {
                    name: name.to_owned(),
                    data,
                });
            }
        }
        Ok(entries)
    }

    /// A regular file in it, with what stat(2) says of it, not through a link.
    ///
    /// # Errors
    /// As [`open::regular_at`].
    pub fn open(&self, name: &Path) -> io::Result<(std::fs::File, Stat)> {
        open::regular_at(&self.directory, name)
    }

    /// Whether something has this name, which may be a link.
    pub fn has(&self, name: &Path) -> bool {
        look(&self.directory, name).is_ok()
    }

    /// Removes a file, or a link itself; no directory.
    ///
    /// # Errors
    /// As unlink(2).
    pub fn remove(&self, name: &Path) -> io::Result<()> {
        Ok(unlinkat(&self.directory, name, AtFlags::empty())?)
    }

    /// Removes a directory if nothing is in it.
    ///
    /// # Errors
    /// As rmdir(2); something else has its name by now.
    pub fn remove_empty(&self, entry: &Entry) -> io::Result<()> {
        removal::remove_empty(
            self.directory.as_fd(),
            &entry.name,
            Identity::from(&entry.data),
        )
    }

    /// Removes what makers that are gone have left here under names of theirs. How many bytes that were, and files.
    pub fn sweep(&self) -> (u64, u64) {
        let (mut bytes, mut files) = (0, 0);
        let now = SystemTime::now();
        for entry in self.entries().unwrap_or_default() {
            let is_left = entry
                .maker()
                .is_some_and(|maker| maker.is_gone(entry.modified(), now));
            // What cannot be removed is tried again the next time.
            if is_left && leftover(self.directory.as_fd(), &entry.name, &entry.data).is_ok() {
                bytes += u64::try_from(entry.data.st_size).unwrap_or(0);
                files += 1;
            }
        }
        (files, bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_directory_that_somebody_else_filled_is_never_taken_for_ones_own() {
        let place = tempfile::tempdir().unwrap();
        let theirs = place.path().join("theirs");
        fs::create_dir_all(theirs.join("images")).unwrap();
        for _ in 0..2 {
            let error = Own::prepare(&theirs, Purpose::Cache, 0o700).unwrap_err();
            assert!(
                error.to_string().ends_with("Chariot did not make it"),
                "{error}"
            );
            assert!(Own::open(&theirs, Purpose::Cache).is_err());
            assert_eq!(fs::read_dir(&theirs).unwrap().count(), 1);
        }
    }

    #[test]
    fn what_chariot_made_is_known_again_and_what_it_is_for() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a/b");
        assert!(Own::open(&path, Purpose::Cache).unwrap().is_none());
        let own = Own::prepare(&path, Purpose::Cache, 0o700).unwrap();
        own.root().make("images").unwrap();
        Own::prepare(&path, Purpose::Cache, 0o700).unwrap();
        assert!(Own::open(&path, Purpose::Cache).unwrap().is_some());
        assert!(Own::prepare(&path, Purpose::Store, 0o700).is_err());
        fs::write(path.join(OWN_MARK), "chariot cache 99\n").unwrap();
        assert!(Own::open(&path, Purpose::Cache).is_err());
        fs::remove_file(path.join(OWN_MARK)).unwrap();
        symlink("/etc/passwd", path.join(OWN_MARK)).unwrap();
        assert!(Own::prepare(&path, Purpose::Cache, 0o700).is_err());
    }

    #[test]
    fn of_many_that_begin_at_once_all_find_the_mark() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("cache");
        std::thread::scope(|scope| {
            for number in 0..8 {
                let path = &path;
                scope.spawn(move || {
                    let own = Own::prepare(path, Purpose::Cache, 0o700).unwrap();
                    own.root().make(&format!("d{number}")).unwrap();
                });
            }
        });
        assert!(Own::open(&path, Purpose::Cache).unwrap().is_some());
        // The mark, and the directories: nobody left a part of it.
        assert_eq!(fs::read_dir(&path).unwrap().count(), 9);
    }

    #[test]
    fn what_lies_where_a_directory_is_expected_is_not_followed() {
        let place = tempfile::tempdir().unwrap();
        let (path, elsewhere) = (place.path().join("cache"), place.path().join("elsewhere"));
        fs::create_dir(&elsewhere).unwrap();
        let own = Own::prepare(&path, Purpose::Cache, 0o700).unwrap();
        symlink(&elsewhere, path.join("images")).unwrap();
        assert!(own.root().make("images").is_err());
    }
}
