//! The files of an image that is being made, in memory: what is where, and not the contents. Members of a
//! layer are applied as tar(1) would unpack them, but nothing here touches a file system: a hostile name can
//! at worst be one in the image.

mod left_out;
mod whiteout;

use std::collections::{BTreeMap, HashMap};
use std::io;

use super::member::{Attributes, Kind, Member};
use super::names::{DEEPEST, Lost, check_names, safe, split, wrong};
pub use left_out::LeftOut;

/// The longest path and target of a symbolic link, in bytes; PATH_MAX with its NUL.
const LONGEST_PATH: usize = 4095;

/// How many symbolic links are followed on the way to one member, as path_resolution(7) has it.
const MOST_LINKS: usize = 40;

/// The number of an inode in its tree.
pub type Number = usize;

/// The root's number.
pub const ROOT: Number = 0;

/// A file, directory or symbolic link.
#[derive(Debug)]
pub struct Inode {
    /// Permissions, owner and so on.
    pub attributes: Attributes,
    /// What it is.
    pub body: Body,
    /// How many names it has; none, if it has been taken away.
    pub links: u32,
    /// What the image does not get of it.
    lost: Lost,
}

/// What an inode is.
#[derive(Debug)]
pub enum Body {
    /// A directory.
    Directory(Directory),
    /// A regular file.
    File,
    /// A symbolic link, with its target.
    Symlink(Vec<u8>),
}

/// The entries of a directory, and where it is.
#[derive(Debug, Default)]
pub struct Directory {
    /// Names and what they name, sorted.
    pub entries: BTreeMap<Box<[u8]>, Number>,
    /// The directory above; the root's is the root.
    pub parent: Number,
    /// Its name there.
    pub name: Box<[u8]>,
    /// How many directories are above it.
    depth: usize,
}

/// What became of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// It is this inode, at this path.
    At(Number, Vec<u8>),
    /// It is left out of images: a device, or a name with `..`, or another name of one of these.
    LeftOut,
    /// It said that something of the layers below is not there.
    TookAway,
}

/// The files of an image.
#[derive(Debug)]
pub struct Tree {
    inodes: Vec<Inode>,
    /// Whether names of this layer can be whiteouts, as an OCI image has them.
    has_names_of_whiteouts: bool,
    most: usize,
    /// The names of devices and the like, which have no inodes here.
    left_out: HashMap<(Number, Box<[u8]>), Kind>,
    /// How many names had `..` in them, and how much of /dev was taken away.
    odd_names: u64,
    pub(super) in_dev: u64,
    /// When the image was made, in seconds since 1970.
    made: u64,
    /// No file is newer than this.
    latest: u64,
}

impl Tree {
    /// An empty one, for at most `most` members.
    pub fn new(most: usize) -> Tree {
        let root = Inode {
            attributes: Attributes::new(0o755),
            body: Body::Directory(Directory::default()),
            links: 1,
            lost: Lost::default(),
        };
        Tree {
            inodes: vec![root],
            has_names_of_whiteouts: false,
            most,
            left_out: HashMap::new(),
            odd_names: 0,
            in_dev: 0,
            made: 0,
            latest: u64::MAX,
        }
    }

    /// The same, in which no file is newer than `latest`, in seconds since 1970.
    #[must_use]
    pub fn no_later_than(mut self, latest: u64) -> Tree {
        self.latest = latest;
        self
    }

    /// What follows is of a layer of an OCI image, whose whiteouts are names, or of another.
    pub fn next_layer(&mut self, is_oci: bool) {
        self.has_names_of_whiteouts = is_oci;
    }

    /// When the image was made, in seconds since 1970.
    pub fn made(&self) -> u64 {
        self.made
    }

    pub(super) fn set_made(&mut self, made: u64) {
        self.made = made;
    }

    /// When the newest of its files was changed.
    pub(super) fn newest(&self) -> u64 {
        let there = self.inodes.iter().filter(|inode| inode.links > 0);
        let times = there.map(|inode| inode.attributes.modified);
        times.max().unwrap_or_default()
    }

    /// How many inodes there are, with those that were taken away: numbers are below this.
    pub fn len(&self) -> usize {
        self.inodes.len()
    }

    /// Whether there is nothing but the root.
    pub fn is_empty(&self) -> bool {
        self.directory(ROOT)
            .is_none_or(|root| root.entries.is_empty())
    }

    /// The inode with this number.
    pub fn inode(&self, number: Number) -> &Inode {
        &self.inodes[number]
    }

    /// The entries of a directory, if it is one.
    pub fn directory(&self, number: Number) -> Option<&Directory> {
        match &self.inodes[number].body {
            Body::Directory(directory) => Some(directory),
            _ => None,
        }
    }

    /// Whether there is a directory at a path, through no link.
    pub(super) fn is_directory(&self, path: &[u8]) -> bool {
        let found = split(path).try_fold(ROOT, |here, name| self.lookup(here, name));
        found.is_some_and(|found| self.directory(found).is_some())
    }

    fn entries_mut(&mut self, number: Number) -> io::Result<&mut BTreeMap<Box<[u8]>, Number>> {
        match &mut self.inodes[number].body {
            Body::Directory(directory) => Ok(&mut directory.entries),
            _ => Err(wrong("something else is in the place of its directory")),
        }
    }

    fn lookup(&self, directory: Number, name: &[u8]) -> Option<Number> {
        self.directory(directory)?.entries.get(name).copied()
    }

    fn add(&mut self, attributes: Attributes, body: Body) -> io::Result<Number> {
        if self.inodes.len() >= self.most {
            return Err(wrong("the image has too many files"));
        }
        self.inodes.push(Inode {
            attributes,
            body,
            links: 0,
            lost: Lost::default(),
        });
        Ok(self.inodes.len() - 1)
    }

    fn enter(&mut self, directory: Number, name: &[u8], number: Number) -> io::Result<()> {
        let depth = self.directory(directory).map_or(0, |own| own.depth) + 1;
        self.remove(directory, name)?;
        self.entries_mut(directory)?.insert(name.into(), number);
        self.inodes[number].links += 1;
        if let Body::Directory(own) = &mut self.inodes[number].body {
            if depth > DEEPEST {
                return Err(wrong("it is too many directories deep"));
            }
            own.parent = directory;
            own.name = name.into();
            own.depth = depth;
        }
        Ok(())
    }

    /// Takes a name away, with everything below it.
    fn remove(&mut self, directory: Number, name: &[u8]) -> io::Result<()> {
        self.left_out.remove(&(directory, name.into()));
        let Some(first) = self.entries_mut(directory)?.remove(name) else {
            return Ok(());
        };
        let mut gone = vec![first];
        while let Some(number) = gone.pop() {
            let inode = &mut self.inodes[number];
            inode.links = inode.links.saturating_sub(1);
            if let Body::Directory(directory) = &mut inode.body {
                gone.extend(std::mem::take(&mut directory.entries).into_values());
            }
        }
        Ok(())
    }

    fn make_directory(&mut self, parent: Number, name: &[u8]) -> io::Result<Number> {
        let directory = Body::Directory(Directory::default());
        let number = self.add(Attributes::new(0o755), directory)?;
        self.enter(parent, name, number)?;
        Ok(number)
    }

    /// Walks to a directory, through symbolic links, and makes what is missing.
    fn walk(&mut self, components: &[&[u8]]) -> io::Result<Number> {
        let mut here = ROOT;
        let mut links = 0;
        let mut left: Vec<Vec<u8>> = components.iter().rev().map(|name| name.to_vec()).collect();
        while let Some(name) = left.pop() {
            if name == b".." {
                here = self.directory(here).map_or(ROOT, |own| own.parent);
                continue;
            }
            let Some(next) = self.lookup(here, &name) else {
                here = self.make_directory(here, &name)?;
                continue;
            };
            match &self.inodes[next].body {
                Body::Directory(_) => here = next,
                Body::File => return Err(wrong("a file is in the place of its directory")),
                Body::Symlink(target) => {
                    links += 1;
                    if links > MOST_LINKS {
                        return Err(wrong("too many symbolic links on the way to it"));
                    }
                    if target.first() == Some(&b'/') {
                        here = ROOT;
                    }
                    left.extend(split(target).rev().map(<[u8]>::to_vec));
                }
            }
        }
        Ok(here)
    }

    /// Applies one member of a layer. What a layer takes away of those below it is said beforehand, by
    /// [`Tree::take_away`].
    ///
    /// # Errors
    /// It cannot be in a file system: a name that is too long, a link to nothing, and the like.
    pub fn apply(&mut self, member: &Member) -> io::Result<Applied> {
        self.apply_or(member, None)
    }

    /// The same; `taken` is the file that the layers below have where a link leads, which may be gone meanwhile.
    pub(super) fn apply_or(
        &mut self,
        member: &Member,
        taken: Option<Number>,
    ) -> io::Result<Applied> {
        let components: Vec<&[u8]> = split(&member.path).collect();
        if components.contains(&b"..".as_slice()) {
            self.odd_names += 1;
            return Ok(Applied::LeftOut);
        }
        check_names(&components, &member.path)?;
        if self.is_about_layers(&components, &member.kind) {
            return Ok(Applied::TookAway);
        }
        let Some((name, above)) = components.split_last() else {
            return Ok(self.apply_root(member));
        };
        let parent = self.walk(above)?;
        let number = match &member.kind {
            Kind::Special | Kind::Fifo | Kind::Socket => {
                return self.leave_out(parent, name, &member.kind);
            }
            Kind::Link(target) => match self.existing(target, taken)? {
                Some(number) => number,
                None => return self.leave_out(parent, name, &member.kind),
            },
            kind => self.put(parent, name, kind, &member.attributes)?,
        };
        if self.lookup(parent, name) != Some(number) {
            self.enter(parent, name, number)?;
        }
        Ok(Applied::At(number, self.path(parent, name)))
    }

    fn apply_root(&mut self, member: &Member) -> Applied {
        if member.kind != Kind::Directory {
            return Applied::LeftOut;
        }
        self.set_attributes(ROOT, &member.attributes, true);
        Applied::At(ROOT, Vec::new())
    }

    fn set_attributes(&mut self, number: Number, attributes: &Attributes, is_directory: bool) {
        let mut safe = safe(attributes, is_directory);
        safe.modified = safe.modified.min(self.latest);
        let inode = &mut self.inodes[number];
        inode.attributes = safe;
        inode.lost = Lost::of(attributes);
    }

    fn put(
        &mut self,
        parent: Number,
        name: &[u8],
        kind: &Kind,
        attributes: &Attributes,
    ) -> io::Result<Number> {
        let is_directory = *kind == Kind::Directory;
        let body = match kind {
            Kind::Directory => {
                let there = self.lookup(parent, name);
                if let Some(number) = there.filter(|there| self.directory(*there).is_some()) {
                    self.set_attributes(number, attributes, is_directory);
                    return Ok(number);
                }
                Body::Directory(Directory::default())
            }
            Kind::Symlink(target) if target.len() > LONGEST_PATH || target.is_empty() => {
                return Err(wrong("the target of a symbolic link is too long or empty"));
            }
            Kind::Symlink(target) => Body::Symlink(target.clone()),
            _ => Body::File,
        };
        let number = self.add(Attributes::default(), body)?;
        self.set_attributes(number, attributes, is_directory);
        Ok(number)
    }

    /// The inode to which a link gives another name; none if that was left out, as the link then is.
    fn existing(&mut self, target: &[u8], taken: Option<Number>) -> io::Result<Option<Number>> {
        let missing = || wrong("it is a link to a file that is not there");
        let components: Vec<&[u8]> = split(target).collect();
        if components.contains(&b"..".as_slice()) {
            // Nothing of such a name is in the image.
            return Ok(None);
        }
        let (name, above) = components.split_last().ok_or_else(missing)?;
        let parent = self.find(above, &|_| false);
        let number = parent.and_then(|parent| self.lookup(parent, name));
        let Some(number) = number.or(taken) else {
            let key = parent.map(|parent| (parent, Box::from(*name)));
            return match key.is_some_and(|key| self.left_out.contains_key(&key)) {
                true => Ok(None),
                false => Err(missing()),
            };
        };
        match self.inodes[number].body {
            Body::Directory(_) => Err(wrong("it is a link to a directory")),
            _ => Ok(Some(number)),
        }
    }

    /// Walks to a directory, as [`Tree::walk`] does, and makes nothing. Where `is_replaced` says so of a path of the
    /// walk, as it was given, the link there leads nowhere.
    fn find(&self, components: &[&[u8]], is_replaced: &dyn Fn(&[&[u8]]) -> bool) -> Option<Number> {
        let mut here = ROOT;
        let mut links = 0;
        let mut left: Vec<(&[u8], usize)> = components
            .iter()
            .enumerate()
            .rev()
            .map(|(at, name)| (*name, at + 1))
            .collect();
        while let Some((name, upto)) = left.pop() {
            if name == b".." {
                here = self.directory(here).map_or(ROOT, |own| own.parent);
                continue;
            }
            let next = self.lookup(here, name)?;
            match &self.inodes[next].body {
                Body::Directory(_) => here = next,
                Body::File => return None,
                Body::Symlink(target) => {
                    links += 1;
                    if links > MOST_LINKS || (upto > 0 && is_replaced(&components[..upto])) {
                        return None;
                    }
                    if target.first() == Some(&b'/') {
                        here = ROOT;
                    }
                    // What a link says is no path of the walk as it was given.
                    left.extend(split(target).rev().map(|name| (name, 0)));
                }
            }
        }
        Some(here)
    }

    /// Takes away all that is in a directory.
    pub(super) fn empty(&mut self, directory: Number) {
        let names: Vec<_> = self
            .directory(directory)
            .map_or_else(Vec::new, |own| own.entries.keys().cloned().collect());
        for name in names {
            // It is a directory, so this cannot fail.
            let _ = self.remove(directory, &name);
        }
    }

    /// Makes a directory below the root the root.
    pub(super) fn become_root(&mut self, number: Number) {
        let Body::Directory(directory) = &mut self.inodes[number].body else {
            return;
        };
        let entries = std::mem::take(&mut directory.entries);
        self.inodes[number].links = 0;
        self.inodes[ROOT].attributes = self.inodes[number].attributes.clone();
        self.inodes[ROOT].lost = self.inodes[number].lost;
        let above = std::mem::take(&mut self.left_out);
        self.left_out = above
            .into_iter()
            .map(|((parent, name), kind)| {
                let parent = if parent == number { ROOT } else { parent };
                ((parent, name), kind)
            })
            .collect();
        for child in entries.values() {
            if let Body::Directory(own) = &mut self.inodes[*child].body {
                own.parent = ROOT;
            }
        }
        if let Body::Directory(root) = &mut self.inodes[ROOT].body {
            root.entries = entries;
        }
    }

    /// The path of a name in a directory, without a slash in front.
    pub fn path(&self, mut directory: Number, name: &[u8]) -> Vec<u8> {
        let mut names = vec![name];
        while directory != ROOT {
            let Some(own) = self.directory(directory) else {
                break;
            };
            names.push(&own.name);
            directory = own.parent;
        }
        names.reverse();
        names.join(&b'/')
    }

    /// Every name below the root with its path, each directory before what is in it.
    ///
    /// # Errors
    /// What `visit` says.
    pub fn walk_all(
        &self,
        visit: &mut dyn FnMut(Number, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut left = vec![(ROOT, Vec::new())];
        while let Some((directory, path)) = left.pop() {
            for (name, number) in self
                .directory(directory)
                .into_iter()
                .flat_map(|own| &own.entries)
            {
                let path = if path.is_empty() {
                    name.to_vec()
                } else {
                    [&path, &**name].join(&b'/')
                };
                visit(*number, &path)?;
                if self.directory(*number).is_some() {
                    left.push((*number, path));
                }
            }
        }
        Ok(())
    }
}
