//! Directories that Chariot made for itself: a cache, a store of images, a place for copies on a node. Each carries a mark,
//! and below it alone is anything swept, by descriptor and by names of Chariot's own form. A directory that somebody
//! else made, with something in it, is never taken for one, whatever a site's file says: `cache = "/home/$USER"`
//! would otherwise make everything there that is old and has the wrong name something to be collected.

use chariot_core::sys::rights;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, mkdirat, openat, unlinkat};
use rustix::io::Errno;

use super::maker::{Maker, Role, read};
use super::output::{leftover, write_first_in};
use super::{Identity, is_directory, look, open_directory, removal, space, touched};
use chariot_core::error::{Error, Explain, Result};
use chariot_core::open;
use chariot_core::private::{self, Refusal, Whose};

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

    /// The key of the site's file that says where it is.
    fn key(self) -> &'static str {
        match self {
            Purpose::Cache => "cache, site_cache",
            Purpose::Stage => "stage_dir",
            Purpose::Store => "store",
        }
    }

    /// Whose it has to be. Those of a project may keep images together, if root or one of them has made the place.
    fn whose(self) -> Whose {
        match self {
            Purpose::Cache | Purpose::Stage => Whose::Own,
            Purpose::Store => Whose::Shared,
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
        let seconds = u64::try_from(self.data.st_mtime).unwrap_or(0);
        SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds)
    }

    /// When it was last touched in any way.
    pub fn touched(&self) -> SystemTime {
        touched(&self.data)
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
        let own = Own::make(path, purpose, mode)?;
        own.refuse_others(purpose)?;
        match own.mark().explain(what)? {
            Some(mark) => own.refuse_form(&mark, purpose)?,
            None => own.begin(purpose)?,
        }
        Ok(own)
    }

    /// The same for a directory that may be somebody else's as well, or older than marks are: what is in it is used,
    /// and nothing is ever swept there. None for such a one.
    ///
    /// # Errors
    /// It carries another mark, or cannot be made.
    pub fn prepare_or_leave(path: &Path, purpose: Purpose, mode: u32) -> Result<Option<Own>> {
        let what = || cannot_use(path, purpose);
        let own = Own::make(path, purpose, mode)?;
        match own.mark().explain(what)? {
            Some(mark) => {
                own.refuse_form(&mark, purpose)?;
                let is_own = own.refuse_others(purpose).is_ok();
                Ok(is_own.then_some(own))
            }
            // A project's own store, which all of its people write.
            None if own.refuse_others(purpose).is_err() || !own.is_empty().explain(what)? => {
                Ok(None)
            }
            None => own.begin(purpose).map(|()| Some(own)),
        }
    }

    fn make(path: &Path, purpose: Purpose, mode: u32) -> Result<Own> {
        let what = || cannot_use(path, purpose);
        let directory =
            private::make(path, purpose.whose(), mode).map_err(|refusal| match refusal {
                Refusal::Failed { call, error } => space::explain(&error, &what(), &call, path)
                    .hint(format!(
                        "the site configuration file says where it is ({}), and XDG_CACHE_HOME and \
                 XDG_DATA_HOME move what lies in your \
                 home directory",
                        purpose.key()
                    )),
                foreign => foreign.told(&what()),
            })?;
        Ok(Own::unmarked(directory, path, mode))
    }

    /// Opens the directory if it is there and carries the mark.
    ///
    /// # Errors
    /// It is there without the mark, or others can write there.
    pub fn open(path: &Path, purpose: Purpose) -> Result<Option<Own>> {
        let what = || cannot_use(path, purpose);
        let own = match private::open(path, purpose.whose()) {
            Err(refusal) if refusal.is_missing() => return Ok(None),
            result => result.map_err(|refusal| refusal.told(&what()))?,
        };
        let own = Own::unmarked(own, path, 0o700);
        own.refuse_others(purpose)?;
        match own.mark().explain(what)? {
            Some(mark) => own.refuse_form(&mark, purpose).map(|()| Some(own)),
            None if own.is_empty().explain(what)? => Ok(None),
            None => Err(own.not_ours(purpose)),
        }
    }

    fn unmarked(directory: OwnedFd, path: &Path, mode: u32) -> Own {
        Own {
            root: Below {
                directory,
                path: path.to_owned(),
                mode,
            },
        }
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
        match data.st_uid == rights::user() && data.st_mode & 0o022 == 0 {
            true => Ok(()),
            false => Err(Error::new(format!(
                "{}: others can write there, or it is not yours",
                what()
            ))
            .hint("what lies there could be forged: chmod go-w, or let the site configuration file name \
             another place")),
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
        let (directory, path) = (&self.root.directory, &self.root.path);
        write_first_in(directory, path, Path::new(OWN_MARK), mark.as_bytes())?;
        match self.mark().explain(what)? {
            Some(mark) => self.refuse_form(&mark, purpose),
            None => Err(self.not_ours(purpose)),
        }
    }

    fn not_ours(&self, purpose: Purpose) -> Error {
        let error = Error::new(format!(
            "{}: it is not empty, and Chariot did not make it",
            cannot_use(&self.root.path, purpose)
        ));
        if purpose != Purpose::Store && self.is_like_0_1() {
            return error.hint(
                "if Chariot 0.1 did, move it away or remove it: what a cache holds can be fetched and made again",
            );
        }
        error.hint(format!(
            "let the site configuration file ({}) name a directory that is empty or not there yet, such as {}",
            purpose.key(),
            self.root.path.join("chariot").display()
        ))
    }

    /// Whether all that is in it has a name that version 0.1, which left no marks, gave.
    fn is_like_0_1(&self) -> bool {
        let known = |entry: &Entry| {
            let name = entry.name.to_str();
            entry.is_directory() && name.is_some_and(|name| NAMES_OF_0_1.contains(&name))
        };
        self.root
            .entries()
            .is_ok_and(|entries| entries.iter().all(known))
    }
}

/// What version 0.1 had in a cache.
const NAMES_OF_0_1: [&str; 5] = ["images", "blobs", "leases", "files", "jobs"];

fn cannot_use(path: &Path, purpose: Purpose) -> String {
    format!("can't use the {} {}", purpose.word(), path.display())
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
        let directory = open_directory(&self.directory, name)?;
        let data = rustix::fs::fstat(&directory)?;
        if data.st_uid != rights::user() || data.st_mode & 0o022 != 0 {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        Ok(Below {
            directory,
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

    /// The time by the clock of this file system: a node's own may be days off, and a file server's is what the times of
    /// other nodes' files are by. Without it, nothing is old.
    pub fn now(&self) -> SystemTime {
        let name = Maker::this().name(OsStr::new("clock"), Role::Part);
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = openat(&self.directory, &name, flags, Mode::RUSR | Mode::WUSR);
        let data = made.and_then(rustix::fs::fstat);
        let remove = || unlinkat(&self.directory, &name, AtFlags::empty());
        let _ = remove().or_else(|_| remove());
        data.map_or(SystemTime::UNIX_EPOCH, |data| touched(&data))
    }

    /// Removes what makers that are gone have left here under names of theirs. How many bytes that were, and files.
    pub fn sweep(&self) -> (u64, u64) {
        let (mut bytes, mut files) = (0, 0);
        let entries = self.entries().unwrap_or_default().into_iter();
        let parts: Vec<_> = entries
            .filter_map(|entry| Some((entry.maker()?, entry)))
            .collect();
        if parts.is_empty() {
            return (0, 0);
        }
        let now = self.now();
        for (maker, entry) in parts {
            let is_left = maker.is_gone(entry.touched(), now);
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
#[path = "own/tests.rs"]
mod tests;
