//! The files of an image that is being made, in memory: what is where, and not the contents. Members of a
//! layer are applied as tar(1) would unpack them, but nothing here touches a file system: a hostile name can
//! at worst be one in the image.

mod whiteout;

use std::collections::{BTreeMap, HashSet};
use std::io;

use super::member::{Attributes, Kind, Member};
use super::names::{check_names, safe, split, wrong};

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
    /// The layer that it came in.
    layer: usize,
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
}

/// What became of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// It is this inode, at this path.
    At(Number, Vec<u8>),
    /// It is left out of images: a device, or a name with `..`.
    LeftOut,
    /// It said that something of the layers below is not there.
    TookAway,
}

/// The files of an image.
#[derive(Debug)]
pub struct Tree {
    inodes: Vec<Inode>,
    layer: usize,
    /// Whether names of this layer can be whiteouts, as an OCI image has them.
    has_names_of_whiteouts: bool,
    /// Directories of the layers below that this layer has too.
    declared: HashSet<Number>,
    /// Names that this layer has given to files of the layers below.
    linked: HashSet<(Number, Box<[u8]>)>,
    most: usize,
}

impl Tree {
    /// An empty one, for at most `most` members.
    pub fn new(most: usize) -> Tree {
        let root = Inode {
            attributes: Attributes::new(0o755),
            body: Body::Directory(Directory::default()),
            links: 1,
            layer: 0,
        };
        Tree {
            inodes: vec![root],
            layer: 0,
            has_names_of_whiteouts: false,
            declared: HashSet::new(),
            linked: HashSet::new(),
            most,
        }
    }

    /// What follows is of the next layer: one of an OCI image, whose whiteouts are names, or another.
    pub fn next_layer(&mut self, is_oci: bool) {
        self.layer += 1;
        self.has_names_of_whiteouts = is_oci;
        self.declared.clear();
        self.linked.clear();
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
            layer: self.layer,
        });
        Ok(self.inodes.len() - 1)
    }

    fn enter(&mut self, directory: Number, name: &[u8], number: Number) -> io::Result<()> {
        self.remove(directory, name)?;
        self.entries_mut(directory)?.insert(name.into(), number);
        self.inodes[number].links += 1;
        if let Body::Directory(own) = &mut self.inodes[number].body {
            own.parent = directory;
            own.name = name.into();
        }
        Ok(())
    }

    /// Takes a name away, with everything below it.
    fn remove(&mut self, directory: Number, name: &[u8]) -> io::Result<()> {
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
        let found = self.follow(components, Self::make_directory)?;
        found.ok_or_else(|| wrong("a file is in the place of its directory"))
    }

    /// Walks to a directory, if it is there.
    fn find(&mut self, components: &[&[u8]]) -> io::Result<Option<Number>> {
        let missing = |_: &mut Tree, _: Number, _: &[u8]| Err(io::ErrorKind::NotFound.into());
        match self.follow(components, missing) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            result => result,
        }
    }

    fn follow(
        &mut self,
        components: &[&[u8]],
        missing: impl Fn(&mut Tree, Number, &[u8]) -> io::Result<Number>,
    ) -> io::Result<Option<Number>> {
        let mut here = ROOT;
        let mut links = 0;
        let mut left: Vec<Vec<u8>> = components.iter().rev().map(|name| name.to_vec()).collect();
        while let Some(name) = left.pop() {
            if name == b".." {
                here = self.directory(here).map_or(ROOT, |own| own.parent);
                continue;
            }
            let Some(next) = self.lookup(here, &name) else {
                here = missing(self, here, &name)?;
                continue;
            };
            match &self.inodes[next].body {
                Body::Directory(_) => here = next,
                Body::File => return Ok(None),
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
        Ok(Some(here))
    }

    /// Applies one member of a layer.
    ///
    /// # Errors
    /// It cannot be in a file system: a name that is too long, a link to nothing, and the like.
    pub fn apply(&mut self, member: &Member) -> io::Result<Applied> {
        let components: Vec<&[u8]> = split(&member.path).collect();
        if components.contains(&b"..".as_slice()) || member.kind == Kind::Special {
            return Ok(Applied::LeftOut);
        }
        check_names(&components, &member.path)?;
        let Some((name, above)) = components.split_last() else {
            return self.apply_root(member);
        };
        if self.takes_away(name, &member.kind) {
            // Where there is no such directory, there is nothing to take away.
            if let Some(parent) = self.find(above)? {
                self.take_what(parent, name, &member.kind)?;
            }
            return Ok(Applied::TookAway);
        }
        let parent = self.walk(above)?;
        let number = match &member.kind {
            Kind::Link(target) => {
                let number = self.existing(target)?;
                if self.inodes[number].layer < self.layer {
                    self.linked.insert((parent, (*name).into()));
                }
                number
            }
            kind => self.put(parent, name, kind, &member.attributes)?,
        };
        if self.lookup(parent, name) != Some(number) {
            self.enter(parent, name, number)?;
        }
        Ok(Applied::At(number, self.path(parent, name)))
    }

    fn apply_root(&mut self, member: &Member) -> io::Result<Applied> {
        if member.kind != Kind::Directory {
            return Ok(Applied::LeftOut);
        }
        self.inodes[ROOT].attributes = safe(&member.attributes, true);
        Ok(Applied::At(ROOT, Vec::new()))
    }

    fn put(
        &mut self,
        parent: Number,
        name: &[u8],
        kind: &Kind,
        attributes: &Attributes,
    ) -> io::Result<Number> {
        let attributes = safe(attributes, *kind == Kind::Directory);
        let body = match kind {
            Kind::Directory => {
                let there = self.lookup(parent, name);
                if let Some(number) = there.filter(|there| self.directory(*there).is_some()) {
                    self.inodes[number].attributes = attributes;
                    if self.inodes[number].layer < self.layer {
                        self.declared.insert(number);
                    }
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
        self.add(attributes, body)
    }

    /// The inode to which a link gives another name.
    fn existing(&mut self, target: &[u8]) -> io::Result<Number> {
        let missing = || wrong("it is a link to a file that is not there");
        let components: Vec<&[u8]> = split(target).collect();
        let (name, above) = components.split_last().ok_or_else(missing)?;
        let parent = self.walk(above)?;
        let number = self.lookup(parent, name).ok_or_else(missing)?;
        match self.inodes[number].body {
            Body::Directory(_) => Err(wrong("it is a link to a directory")),
            _ => Ok(number),
        }
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
