//! Whether a directory still is what was unpacked: the mark has a digest of it, so that whoever unpacks over it is told
//! before what others have put into it goes with it. Names, kinds, lengths, times and targets are in it, and no contents:
//! they would have to be read. Times of change, ctime, would tell as much, but not in a copy.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, OFlags, readlinkat, statat};
use sha2::{Digest, Sha256};

use super::LARGEST_MARK;
use super::directory::{joined, names};
use super::failure::named;
use crate::files::new_tree::NewTree;
use crate::files::paths::Paths;
use crate::files::{MARK, UNFINISHED};
use crate::image::metadata::Mark;

/// What there is to say about a directory that carries the mark.
#[derive(Debug, PartialEq, Eq)]
pub enum State {
    /// It is as it was unpacked.
    Unchanged,
    /// It is not; this was modified last.
    Changed(String),
    /// It does not say how it was.
    Unknown,
}

/// Compares a directory with what its mark says of it.
///
/// # Errors
/// It cannot be read.
pub fn state(directory: &Path) -> io::Result<State> {
    let below = Paths::new(chariot_core::open::directory(directory)?);
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut file = File::from(below.open(MARK.as_bytes(), flags)?);
    let Some(mark) = read(&mut file)? else {
        return Ok(State::Unknown);
    };
    let Some(noted) = mark.tree.clone() else {
        return Ok(State::Unknown);
    };
    let seen = Seen::of(&below, mark)?;
    Ok(match seen.digest() == noted {
        true => State::Unchanged,
        false => State::Changed(super::shown(&seen.last.1)),
    })
}

/// Has the mark of a complete directory say how it is.
pub(super) fn note(tree: &NewTree) -> io::Result<()> {
    let told = |error: io::Error| named(MARK.as_bytes(), &error);
    let open = || {
        let mut file = File::from(tree.open(MARK.as_bytes(), OFlags::RDWR | OFlags::CLOEXEC)?);
        let modified = file.metadata()?.modified()?;
        let mark = read(&mut file)?.ok_or(io::ErrorKind::InvalidData)?;
        Ok((file, modified, mark))
    };
    let (mut file, modified, mark) = open().map_err(told)?;
    let below = Paths::new(tree.root().try_clone_to_owned()?);
    let tree = Some(Seen::of(&below, mark.clone())?.digest());
    let text = serde_json::to_vec_pretty(&Mark { tree, ..mark })?;
    // It only becomes longer.
    let mut write = || {
        file.rewind()?;
        file.write_all(&text)?;
        file.set_modified(modified)
    };
    write().map_err(told)
}

/// One that is not understood says nothing.
fn read(file: &mut File) -> io::Result<Option<Mark>> {
    let mut text = Vec::new();
    if file.metadata()?.is_file() {
        file.take(LARGEST_MARK).read_to_end(&mut text)?;
    }
    Ok(serde_json::from_slice(&text).ok())
}

/// What was seen of a directory.
struct Seen {
    hash: Sha256,
    /// When something was modified last, and what. What is unpacked has the times of the image, directories too.
    last: ((i64, i64), Vec<u8>),
}

impl Seen {
    fn of(below: &Paths, mark: Mark) -> io::Result<Seen> {
        let mut seen = Seen {
            hash: Sha256::new(),
            last: ((i64::MIN, 0), Vec::new()),
        };
        // Its file becomes another when this is noted there: all else that it says counts.
        seen.add(&serde_json::to_vec(&Mark { tree: None, ..mark })?);
        let mut left = vec![Vec::new()];
        while let Some(path) = left.pop() {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let told = |error: io::Error| named(&path, &error);
            let here = below.open(&path, flags).map_err(told)?;
            for name in names(&here).map_err(told)? {
                let path = joined(&path, name.as_bytes());
                if path == UNFINISHED.as_bytes() {
                    continue;
                }
                let told = |error: io::Error| named(&path, &error);
                let is_directory = seen.entry(&here, name.as_bytes(), &path).map_err(told)?;
                if is_directory {
                    left.push(path);
                }
            }
        }
        Ok(seen)
    }

    fn digest(&self) -> String {
        let bytes = self.hash.clone().finalize();
        let hex = bytes.iter().map(|byte| format!("{byte:02x}"));
        format!("sha256:{}", hex.collect::<String>())
    }

    /// Puts an entry in; says whether it is a directory.
    fn entry(&mut self, here: &OwnedFd, name: &[u8], path: &[u8]) -> io::Result<bool> {
        let name = OsStr::from_bytes(name);
        let data = statat(here, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let nanoseconds = i64::try_from(data.st_mtime_nsec).unwrap_or_default();
        let modified = (data.st_mtime, nanoseconds);
        if modified > self.last.0 {
            self.last = (modified, path.to_vec());
        }
        if path == MARK.as_bytes() {
            return Ok(false);
        }
        self.add(path);
        let kind = FileType::from_raw_mode(data.st_mode);
        match kind {
            // Their times change with what is in them, which is here itself.
            FileType::Directory => self.add(b"directory"),
            // Not every file system can set a link's time.
            FileType::Symlink => {
                self.add(b"link");
                self.add(readlinkat(here, name, Vec::new())?.as_bytes());
            }
            FileType::RegularFile => {
                self.add(b"file");
                self.add(&data.st_size.to_le_bytes());
                self.add(&modified.0.to_le_bytes());
                self.add(&modified.1.to_le_bytes());
            }
            _ => self.add(b"other"),
        }
        Ok(kind.is_dir())
    }

    fn add(&mut self, bytes: &[u8]) {
        self.hash.update((bytes.len() as u64).to_le_bytes());
        self.hash.update(bytes);
    }
}
