//! Writing a tree of files. Regular files are written as they come, by several threads; everything else, links
//! above all, follows when all files are there. So no symbolic link is in the way while files are written, and
//! the directory is the root of this process besides.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Target;
use super::member::Attributes;
use super::tree::{Body, Number, ROOT, Tree};
use super::workers::Workers;
use crate::files::confined::Confined;

/// Files up to this length, in bytes, are written by another thread.
const SMALL: u64 = 1 << 20;

/// Whole chunks of zeroes become holes.
const CHUNK: usize = 64 << 10;

/// A tree of files that is being written.
#[derive(Debug)]
pub struct ToDirectory {
    root: PathBuf,
    confined: Arc<Confined>,
    workers: Workers<Small>,
    /// Where each file was written.
    written: HashMap<Number, Vec<u8>>,
    /// What was written last at each path.
    paths: HashMap<Vec<u8>, Number>,
}

/// A small file on its way to the disk.
#[derive(Debug)]
struct Small {
    path: PathBuf,
    contents: Vec<u8>,
    attributes: Attributes,
}

impl ToDirectory {
    /// Writes into the new directory, which this process sees as `root`. It must have no umask.
    pub fn new(confined: Confined, root: &Path) -> ToDirectory {
        let confined = Arc::new(confined);
        let place = Place {
            root: root.into(),
            confined: Arc::clone(&confined),
        };
        ToDirectory {
            root: root.into(),
            confined,
            workers: Workers::start(move |small: Small| {
                place.write(
                    &small.path,
                    &small.attributes,
                    &mut small.contents.as_slice(),
                )
            }),
            written: HashMap::new(),
            paths: HashMap::new(),
        }
    }

    fn full(&self, path: &[u8]) -> PathBuf {
        self.root.join(OsStr::from_bytes(path))
    }

    /// Archives may have a path twice, or a file and later a directory of one name: the last counts.
    fn make_way(&mut self, path: &[u8]) -> io::Result<()> {
        let above = path
            .iter()
            .enumerate()
            .filter(|(_, byte)| **byte == b'/')
            .map(|(at, _)| &path[..at]);
        let in_way = above
            .chain([path])
            .find(|path| self.paths.contains_key(*path));
        let Some(in_way) = in_way.map(<[u8]>::to_vec) else {
            return Ok(());
        };
        self.workers.wait()?;
        self.paths.remove(&in_way);
        self.confined.remove(Path::new(OsStr::from_bytes(&in_way)))
    }

    /// What is no longer in the tree goes away.
    fn catch_up(&mut self, tree: &Tree) -> io::Result<()> {
        let gone = self
            .written
            .extract_if(|number, _| tree.inode(*number).links == 0);
        for (number, path) in gone {
            // A path that was written again holds something that is in the tree.
            if self.paths.get(&path) == Some(&number) {
                self.paths.remove(&path);
                self.confined.remove(Path::new(OsStr::from_bytes(&path)))?;
            }
        }
        Ok(())
    }
}

impl Target for ToDirectory {
    fn entry(&mut self, _: &Tree, _: Number, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn file(
        &mut self,
        tree: &Tree,
        number: Number,
        path: &[u8],
        length: u64,
        contents: &mut dyn Read,
    ) -> io::Result<()> {
        self.make_way(path)?;
        let attributes = &tree.inode(number).attributes;
        let full = self.full(path);
        if length <= SMALL {
            let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
            contents.read_to_end(&mut bytes)?;
            self.workers.give(Small {
                path: full,
                contents: bytes,
                attributes: attributes.clone(),
            })?;
        } else {
            let place = Place {
                root: self.root.clone(),
                confined: Arc::clone(&self.confined),
            };
            place.write(&full, attributes, contents)?;
        }
        self.paths.insert(path.to_vec(), number);
        self.written.insert(number, path.to_vec());
        Ok(())
    }

    fn lifted(&mut self, name: &[u8]) -> io::Result<()> {
        self.workers.wait()?;
        // Out of the way first: it may hold an entry of its own name.
        let lifted = self.root.join(".chariot-lifted");
        if fs::rename(self.full(name), &lifted).is_err() {
            // It has no files.
            return Ok(());
        }
        for entry in fs::read_dir(&lifted)? {
            let entry = entry?;
            fs::rename(entry.path(), self.root.join(entry.file_name()))?;
        }
        fs::remove_dir(lifted)?;
        let rest = |path: &[u8]| {
            path.strip_prefix(name)?
                .strip_prefix(b"/")
                .map(<[u8]>::to_vec)
        };
        self.written
            .values_mut()
            .for_each(|path| *path = rest(path).unwrap_or_default());
        self.paths = self
            .paths
            .iter()
            .filter_map(|(path, number)| Some((rest(path)?, *number)))
            .collect();
        Ok(())
    }

    fn finish(&mut self, tree: &Tree) -> io::Result<()> {
        self.workers.wait()?;
        self.catch_up(tree)?;
        let mut directories = vec![(ROOT, self.root.clone())];
        tree.walk_all(&mut |number, path| {
            let full = self.full(path);
            let inode = tree.inode(number);
            match &inode.body {
                Body::Directory(_) => {
                    make_directory(&full)?;
                    directories.push((number, full));
                    Ok(())
                }
                Body::Symlink(target) => {
                    let target = OsStr::from_bytes(target);
                    std::os::unix::fs::symlink(target, &full)
                        .map_err(|error| named(path, &error))?;
                    stamp_link(&full, inode.attributes.modified);
                    Ok(())
                }
                Body::File => match self.written.get(&number) {
                    Some(first) if first != path => {
                        fs::hard_link(self.full(first), &full).map_err(|error| named(path, &error))
                    }
                    _ => Ok(()),
                },
            }
        })?;
        // From the bottom, since what is written into a directory changes its time.
        for (number, full) in directories.iter().rev() {
            let attributes = &tree.inode(*number).attributes;
            fs::set_permissions(full, Permissions::from_mode(attributes.permissions.into()))?;
            let directory = File::open(full)?;
            directory.set_modified(time(attributes.modified))?;
            set_xattrs(&directory, attributes);
        }
        Ok(())
    }
}

fn named(path: &[u8], error: &io::Error) -> io::Error {
    let reason = crate::error::io_reason(error);
    io::Error::new(
        error.kind(),
        format!("{}: {reason}", String::from_utf8_lossy(path)),
    )
}

fn make_directory(path: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        result => result,
    }
}

fn time(seconds: u64) -> SystemTime {
    UNIX_EPOCH
        .checked_add(Duration::from_secs(seconds))
        .unwrap_or(UNIX_EPOCH)
}

/// A link's time tells nobody anything; a file system that cannot set it is no reason to fail.
fn stamp_link(path: &Path, modified: u64) {
    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
    let at = Timespec {
        tv_sec: i64::try_from(modified).unwrap_or_default(),
        tv_nsec: 0,
    };
    let times = Timestamps {
        last_access: at,
        last_modification: at,
    };
    let _ = utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW);
}

/// Where files are written.
#[derive(Debug, Clone)]
struct Place {
    root: PathBuf,
    confined: Arc<Confined>,
}

impl Place {
    fn create(&self, path: &Path, attributes: &Attributes) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options
            .write(true)
            .create_new(true)
            .mode((attributes.permissions & 0o777).into());
        match options.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let above = path.parent().unwrap_or(path);
                fs::DirBuilder::new()
                    .mode(0o700)
                    .recursive(true)
                    .create(above)?;
                options.open(path)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.confined
                    .remove(path.strip_prefix(&self.root).unwrap_or(path))?;
                options.open(path)
            }
            result => result,
        }
    }

    fn write(
        &self,
        path: &Path,
        attributes: &Attributes,
        contents: &mut dyn Read,
    ) -> io::Result<()> {
        let mut file = self.create(path, attributes)?;
        copy(contents, &mut file)?;
        if attributes.permissions & 0o1000 != 0 {
            file.set_permissions(Permissions::from_mode(attributes.permissions.into()))?;
        }
        set_xattrs(&file, attributes);
        file.set_modified(time(attributes.modified))
    }
}

fn copy(contents: &mut dyn Read, file: &mut File) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    let mut length = 0;
    let mut has_hole_at_end = false;
    loop {
        let count = fill(contents, &mut chunk)?;
        if count == 0 {
            break;
        }
        length += count as u64;
        has_hole_at_end = count == CHUNK && chunk.iter().all(|byte| *byte == 0);
        match has_hole_at_end {
            true => drop(file.seek(SeekFrom::Current(CHUNK as i64))?),
            false => file.write_all(&chunk[..count])?,
        }
    }
    match has_hole_at_end {
        true => file.set_len(length),
        false => Ok(()),
    }
}

/// Reads until the buffer is full or the source has ended.
pub(crate) fn fill(source: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut count = 0;
    while count < buffer.len() {
        match source.read(&mut buffer[count..]) {
            Ok(0) => break,
            Ok(more) => count += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}

/// Those that an ordinary user may set, where the file system has them.
fn set_xattrs(file: &File, attributes: &Attributes) {
    let own = attributes
        .xattrs
        .iter()
        .filter(|(name, _)| name.starts_with(b"user."));
    for (name, value) in own {
        let name = OsStr::from_bytes(name);
        let _ = rustix::fs::fsetxattr(file, name, value, rustix::fs::XattrFlags::empty());
    }
}
