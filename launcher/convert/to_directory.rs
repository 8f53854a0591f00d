//! Writing a tree of files. Regular files are written as they come, by several threads; everything else, links
//! above all, follows when all files are there. So no symbolic link is in the way while files are written, and
//! the directory is the root of this process besides.
//!
//! While files come, nothing is removed: what finds its place taken is laid aside, and when all is known, each
//! file that is not where it should be goes there, or away.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, Dir, Mode, OFlags};
use rustix::io::Errno;

use super::Target;
use super::failure::named;
use super::holes::copy;
use super::member::Attributes;
use super::tree::{Body, Number, ROOT, Tree};
use super::workers::Workers;
use crate::files::confined::Confined;
use crate::files::new_tree::NewTree;

/// Files up to this length, in bytes, are written by another thread.
const SMALL: u64 = 1 << 20;

/// Where files are laid aside while the tree is written. A name of the archive's own that begins so is laid aside too.
const ASIDE: &[u8] = b".chariot-aside";

/// A tree of files that is being written.
#[derive(Debug)]
pub struct ToDirectory {
    confined: Confined,
    place: Option<Arc<Filled>>,
    workers: Option<Workers<Small>>,
    /// Permissions that nothing gets, as umask(2) has them.
    mask: u16,
    /// Where each file was written, unless it was laid aside.
    written: HashMap<Number, Vec<u8>>,
}

/// A file on its way to the disk.
#[derive(Debug)]
struct Small {
    number: Number,
    path: Vec<u8>,
    contents: Vec<u8>,
    attributes: Attributes,
}

/// The directory that is being filled.
#[derive(Debug)]
struct Filled {
    tree: NewTree,
    mask: u16,
    aside: Mutex<Aside>,
}

/// The directory for files that are laid aside, and which these are.
#[derive(Debug)]
struct Aside {
    name: Vec<u8>,
    files: BTreeSet<Number>,
    is_made: bool,
}

impl Aside {
    fn path(&self, number: Number) -> Vec<u8> {
        [&self.name, number.to_string().as_bytes()].join(&b'/')
    }
}

impl ToDirectory {
    /// Writes into the new directory that is all this process has, without the permissions in `mask`. It must have no
    /// umask.
    pub fn new(confined: Confined, mask: u16) -> ToDirectory {
        ToDirectory {
            confined,
            place: None,
            workers: None,
            mask: mask & 0o777,
            written: HashMap::new(),
        }
    }

    /// Opens the directory when the first file comes, so that a failure is told as any other.
    fn place(&mut self) -> io::Result<Arc<Filled>> {
        if let Some(place) = &self.place {
            return Ok(Arc::clone(place));
        }
        let place = Arc::new(Filled {
            tree: NewTree::new(&self.confined)?,
            mask: self.mask,
            aside: Mutex::new(Aside {
                name: ASIDE.to_vec(),
                files: BTreeSet::new(),
                is_made: false,
            }),
        });
        let shared = Arc::clone(&place);
        self.workers = Some(Workers::start(move |small: Small| {
            let mut contents = small.contents.as_slice();
            shared.write(small.number, &small.path, &small.attributes, &mut contents)
        })?);
        self.place = Some(Arc::clone(&place));
        Ok(place)
    }

    fn wait(&self) -> io::Result<()> {
        self.workers.as_ref().map_or(Ok(()), Workers::wait)
    }

    /// Removes what is not in the tree, and lays aside what is elsewhere. Directories that held nothing else go away.
    fn settle(&mut self, tree: &Tree, place: &Filled) -> io::Result<()> {
        self.wait()?;
        for number in &place.aside().files {
            self.written.remove(number);
        }
        let mut settled = std::collections::HashSet::new();
        tree.walk_all(&mut |number, path| {
            if self.written.get(&number).is_some_and(|own| own == path) {
                settled.insert(number);
            }
            Ok(())
        })?;
        let mut emptied: BTreeSet<Vec<u8>> = BTreeSet::new();
        let others = self
            .written
            .extract_if(|number, _| !settled.contains(number));
        for (number, path) in others {
            match tree.inode(number).links {
                0 => place.unlink(&path, AtFlags::empty())?,
                _ => place.lay_aside(number, &path)?,
            }
            let above = path.iter().enumerate().rev();
            for (end, _) in above.filter(|(_, byte)| **byte == b'/') {
                if tree.is_directory(&path[..end]) || !emptied.insert(path[..end].to_vec()) {
                    break;
                }
            }
        }
        let gone = place.forget_aside(tree);
        for number in gone {
            place.unlink(&place.aside().path(number), AtFlags::empty())?;
        }
        // What is below sorts behind.
        emptied
            .iter()
            .rev()
            .try_for_each(|path| place.unlink(path, AtFlags::REMOVEDIR))
    }

    /// Makes directories and links, and gives each file all of its names.
    fn name_all(&mut self, tree: &Tree, place: &Filled) -> io::Result<Vec<(Number, Vec<u8>)>> {
        let mut directories = vec![(ROOT, Vec::new())];
        tree.walk_all(&mut |number, path| {
            let inode = tree.inode(number);
            let what = |error: io::Error| named(path, &error);
            match &inode.body {
                Body::Directory(_) => {
                    place.make_directory(path).map_err(what)?;
                    directories.push((number, path.to_vec()));
                    return Ok(());
                }
                Body::Symlink(target) => {
                    let first = self.written.get(&number);
                    // A file system without links of symbolic links gets another that is the same.
                    if first.is_none_or(|first| place.tree.link(first, path).is_err()) {
                        place
                            .tree
                            .make_link(target, path)
                            .map_err(io::Error::from)
                            .map_err(what)?;
                        place.tree.stamp_link(path, inode.attributes.modified);
                    }
                }
                Body::File => match self.written.get(&number) {
                    Some(first) if first != path => place
                        .tree
                        .link(first, path)
                        .map_err(io::Error::from)
                        .map_err(what)?,
                    Some(_) => {}
                    None => place.take_from_aside(number, path).map_err(what)?,
                },
            }
            self.written.entry(number).or_insert_with(|| path.to_vec());
            Ok(())
        })?;
        Ok(directories)
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
        let place = self.place()?;
        let attributes = &tree.inode(number).attributes;
        match &self.workers {
            Some(workers) if length <= SMALL => {
                let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
                contents.read_to_end(&mut bytes)?;
                workers.give(Small {
                    number,
                    path: path.to_vec(),
                    contents: bytes,
                    attributes: attributes.clone(),
                })?;
            }
            _ => place.write(number, path, attributes, contents)?,
        }
        self.written.insert(number, path.to_vec());
        Ok(())
    }

    fn lift(&mut self, tree: &Tree, name: &[u8]) -> io::Result<()> {
        let place = self.place()?;
        self.settle(tree, &place)?;
        let root = tree.directory(ROOT);
        let lifted = root.and_then(|root| root.entries.get(name));
        place.lift(tree, *lifted.unwrap_or(&ROOT), name)?;
        for path in self.written.values_mut() {
            path.drain(..(name.len() + 1).min(path.len()));
        }
        Ok(())
    }

    fn finish(&mut self, tree: &Tree) -> io::Result<()> {
        let place = self.place()?;
        self.settle(tree, &place)?;
        place.name_aside(tree, ROOT)?;
        let directories = self.name_all(tree, &place)?;
        place.remove_aside()?;
        // From the bottom, since what is written into a directory changes its time.
        for (number, path) in directories.iter().rev() {
            let attributes = &tree.inode(*number).attributes;
            let mode = attributes.permissions & !self.mask | 0o700;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let directory = File::from(place.tree.open(path, flags)?);
            directory.set_permissions(Permissions::from_mode(mode.into()))?;
            directory.set_modified(time(attributes.modified))?;
            set_xattrs(&directory, attributes);
        }
        super::unpacked::note(&place.tree)
    }
}

/// A name that a directory of the tree does not have.
fn free_name(tree: &Tree, directory: Number) -> Vec<u8> {
    let is_taken = |name: &[u8]| {
        let own = tree.directory(directory);
        own.is_some_and(|own| own.entries.contains_key(name))
    };
    let mut name = ASIDE.to_vec();
    while is_taken(&name) {
        name.push(b'-');
    }
    name
}

impl Filled {
    fn aside(&self) -> std::sync::MutexGuard<'_, Aside> {
        self.aside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(
        &self,
        number: Number,
        path: &[u8],
        attributes: &Attributes,
        contents: &mut dyn Read,
    ) -> io::Result<()> {
        let mut file = self.create(number, path, attributes)?;
        copy(contents, &mut file)?;
        if attributes.permissions & 0o1000 != 0 {
            let mode = attributes.permissions & !self.mask;
            file.set_permissions(Permissions::from_mode(mode.into()))?;
        }
        set_xattrs(&file, attributes);
        file.set_modified(time(attributes.modified))
    }

    /// Creates a file at its path, or aside if something is there or on the way.
    fn create(&self, number: Number, path: &[u8], attributes: &Attributes) -> io::Result<File> {
        let mode = Mode::from_raw_mode((attributes.permissions & 0o777 & !self.mask).into());
        let is_ours = path.starts_with(ASIDE);
        let mut result = match is_ours {
            true => Err(Errno::EXIST),
            false => self.tree.create(path, mode),
        };
        if result.as_ref().is_err_and(|errno| *errno == Errno::NOENT) {
            result = match self.make_above(path) {
                Ok(()) => self.tree.create(path, mode),
                Err(errno) => Err(errno),
            };
        }
        match result {
            Err(Errno::EXIST | Errno::NOTDIR | Errno::ISDIR) => {
                let path = self.path_aside(number)?;
                Ok(self.tree.create(&path, mode)?.into())
            }
            result => Ok(result?.into()),
        }
    }

    /// The path for a file that is laid aside.
    fn path_aside(&self, number: Number) -> io::Result<Vec<u8>> {
        let mut aside = self.aside();
        if !aside.is_made {
            self.tree.make_directory(&aside.name)?;
            aside.is_made = true;
        }
        aside.files.insert(number);
        Ok(aside.path(number))
    }

    /// Makes the directories above a path: mostly the last is missing, else all are walked.
    fn make_above(&self, path: &[u8]) -> rustix::io::Result<()> {
        let Some(end) = path.iter().rposition(|byte| *byte == b'/') else {
            return Ok(());
        };
        match self.tree.make_directory(&path[..end]) {
            Err(Errno::EXIST) => return Ok(()),
            Err(Errno::NOENT) => {}
            result => return result,
        }
        self.tree.make_directories(&path[..end])
    }

    fn make_directory(&self, path: &[u8]) -> io::Result<()> {
        match self.tree.make_directory(path) {
            Err(Errno::EXIST) => {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                self.tree.open(path, flags).map(drop)
            }
            result => Ok(result?),
        }
    }

    /// Removes a file or an empty directory; one that is not there is no failure.
    fn unlink(&self, path: &[u8], flags: AtFlags) -> io::Result<()> {
        let removed = self.tree.remove(path, flags);
        removed.map_err(|errno| named(path, &errno.into()))
    }

    fn lay_aside(&self, number: Number, path: &[u8]) -> io::Result<()> {
        Ok(self.tree.rename(path, &self.path_aside(number)?)?)
    }

    fn take_from_aside(&self, number: Number, path: &[u8]) -> io::Result<()> {
        let from = self.aside().path(number);
        Ok(self.tree.rename(&from, path)?)
    }

    /// Which of the files that were laid aside nobody wants any more.
    fn forget_aside(&self, tree: &Tree) -> Vec<Number> {
        let is_gone = |number: &Number| tree.inode(*number).links == 0;
        let files = &mut self.aside().files;
        let gone: Vec<Number> = files.iter().copied().filter(is_gone).collect();
        files.retain(|number| !is_gone(number));
        gone
    }

    /// Has them lie where nothing of this directory of the tree will be, once that is the root.
    fn name_aside(&self, tree: &Tree, directory: Number) -> io::Result<()> {
        let mut aside = self.aside();
        let name = free_name(tree, directory);
        if aside.is_made && aside.name != name {
            self.tree.rename(&aside.name, &name)?;
        }
        aside.name = name;
        Ok(())
    }

    fn remove_aside(&self) -> io::Result<()> {
        let aside = self.aside();
        match aside.is_made {
            true => self.unlink(&aside.name, AtFlags::REMOVEDIR),
            false => Ok(()),
        }
    }

    /// What is in the directory `name` lies at the top from now on; nothing else is there but what was laid aside.
    fn lift(&self, tree: &Tree, directory: Number, name: &[u8]) -> io::Result<()> {
        self.tree.forget();
        self.name_aside(tree, directory)?;
        // Out of the way first: it may hold an entry of its own name.
        let lifted = [&free_name(tree, directory), b"-lifted".as_slice()].concat();
        match self.tree.rename(name, &lifted) {
            // It has no files.
            Err(Errno::NOENT) => return Ok(()),
            result => result?,
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let from = self.tree.open(&lifted, flags)?;
        let mut names = Vec::new();
        for entry in Dir::read_from(&from)? {
            names.push(entry?.file_name().to_owned());
        }
        for name in names {
            if !matches!(name.as_bytes(), b"." | b"..") {
                self.tree.raise(&from, &name)?;
            }
        }
        self.unlink(&lifted, AtFlags::REMOVEDIR)
    }
}

fn time(seconds: u64) -> SystemTime {
    UNIX_EPOCH
        .checked_add(Duration::from_secs(seconds))
        .unwrap_or(UNIX_EPOCH)
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
