//! Inodes and directories of an image that is being written: each directory after what is in it, since it
//! says where that is.

use std::collections::HashMap;
use std::io;

use super::FileData;
use super::blocks::Placed;
use super::compress::Context;
use super::tables::{BLOCK, Position, Table};
use super::xattrs::{NONE, Xattrs};
use crate::convert::tree::{Body, Directory, Number, ROOT, Tree};

/// The most entries that follow one header in a directory's list.
const MOST_IN_GROUP: usize = 256;

/// A directory's size counts three bytes for "." and "..", which are not in its list.
const DOTS: u32 = 3;

/// Where an inode is, its number in the image and its type as directories have it.
#[derive(Debug, Clone, Copy)]
struct Written {
    place: Position,
    number: u32,
    kind: u16,
}

/// What the inodes' maker needs of the rest.
pub(super) struct Inodes<'a> {
    pub(super) tree: &'a Tree,
    pub(super) context: Context,
    pub(super) placed: &'a [Placed],
    pub(super) files: &'a HashMap<Number, FileData>,
    pub(super) block_size: u32,
    pub(super) inodes: Table,
    pub(super) directories: Table,
    pub(super) xattrs: Xattrs,
    pub(super) owners: Vec<u32>,
    numbers: HashMap<Number, u32>,
    written: HashMap<Number, Written>,
    /// Where each inode is, by its number.
    pub(super) places: Vec<u64>,
}

fn too_large(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, what.to_owned())
}

impl<'a> Inodes<'a> {
    pub(super) fn new(
        tree: &'a Tree,
        context: Context,
        placed: &'a [Placed],
        files: &'a HashMap<Number, FileData>,
        block_size: u32,
    ) -> Inodes<'a> {
        Inodes {
            tree,
            context,
            placed,
            files,
            block_size,
            inodes: Table::default(),
            directories: Table::default(),
            xattrs: Xattrs::default(),
            owners: Vec::new(),
            numbers: HashMap::new(),
            written: HashMap::new(),
            places: Vec::new(),
        }
    }

    /// Writes all inodes and gives the place of the root's.
    pub(super) fn write(&mut self) -> io::Result<u64> {
        self.count()?;
        let mut left = vec![(ROOT, false)];
        while let Some((number, is_ready)) = left.pop() {
            let Some(directory) = self.tree.directory(number) else {
                continue;
            };
            if is_ready {
                self.write_directory(number, directory)?;
                continue;
            }
            left.push((number, true));
            for child in directory.entries.values() {
                match self.tree.directory(*child) {
                    Some(_) => left.push((*child, false)),
                    None if !self.written.contains_key(child) => self.write_other(*child)?,
                    None => {}
                }
            }
        }
        self.inodes.close(&mut self.context)?;
        self.directories.close(&mut self.context)?;
        let root = self
            .written
            .get(&ROOT)
            .ok_or_else(|| too_large("the image has no root"))?;
        Ok(root.place.reference())
    }

    /// Gives each inode its number, so that a directory's entries have numbers that are near each other.
    fn count(&mut self) -> io::Result<()> {
        let mut next = 1;
        self.numbers.insert(ROOT, next);
        let numbers = &mut self.numbers;
        self.tree.walk_all(&mut |number, _| {
            if let std::collections::hash_map::Entry::Vacant(entry) = numbers.entry(number) {
                next += 1;
                entry.insert(next);
            }
            Ok(())
        })?;
        self.places = vec![0; self.numbers.len()];
        Ok(())
    }

    fn number(&self, number: Number) -> u32 {
        self.numbers.get(&number).copied().unwrap_or_default()
    }

    fn owner(&mut self, id: u32) -> io::Result<u16> {
        let at = self
            .owners
            .iter()
            .position(|known| *known == id)
            .unwrap_or_else(|| {
                self.owners.push(id);
                self.owners.len() - 1
            });
        at.try_into()
            .map_err(|_| too_large("the image has too many owners"))
    }

    /// The fields that all inodes begin with.
    fn header(&mut self, kind: u16, number: Number) -> io::Result<Vec<u8>> {
        let attributes = &self.tree.inode(number).attributes;
        let (permissions, user, group) =
            (attributes.permissions, attributes.user, attributes.group);
        let modified = u32::try_from(attributes.modified).unwrap_or(u32::MAX);
        let owners = (self.owner(user)?, self.owner(group)?);
        let mut bytes = kind.to_le_bytes().to_vec();
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(owners.0.to_le_bytes());
        bytes.extend(owners.1.to_le_bytes());
        bytes.extend(modified.to_le_bytes());
        bytes.extend(self.number(number).to_le_bytes());
        Ok(bytes)
    }

    fn put(&mut self, number: Number, kind: u16, bytes: &[u8]) -> io::Result<()> {
        let place = self.inodes.place()?;
        self.inodes.put(&mut self.context, bytes)?;
        let own = self.number(number);
        if let Some(slot) = self.places.get_mut((own as usize).wrapping_sub(1)) {
            *slot = place.reference();
        }
        let written = Written {
            place,
            number: own,
            kind,
        };
        self.written.insert(number, written);
        Ok(())
    }

    fn xattrs(&mut self, number: Number) -> io::Result<u32> {
        let attributes = &self.tree.inode(number).attributes;
        self.xattrs.number(&mut self.context, &attributes.xattrs)
    }

    fn write_other(&mut self, number: Number) -> io::Result<()> {
        let xattrs = self.xattrs(number)?;
        let inode = self.tree.inode(number);
        match &inode.body {
            Body::Symlink(target) => {
                let kind = if xattrs == NONE { 3 } else { 10 };
                let mut bytes = self.header(kind, number)?;
                bytes.extend(inode.links.to_le_bytes());
                bytes.extend(
                    u32::try_from(target.len())
                        .unwrap_or_default()
                        .to_le_bytes(),
                );
                bytes.extend(target);
                if xattrs != NONE {
                    bytes.extend(xattrs.to_le_bytes());
                }
                self.put(number, 3, &bytes)
            }
            _ => self.write_file(number, inode.links, xattrs),
        }
    }

    fn write_file(&mut self, number: Number, links: u32, xattrs: u32) -> io::Result<()> {
        let empty = FileData::default();
        let data = self.files.get(&number).unwrap_or(&empty);
        let placed = self.placed;
        let blocks = data.first..data.first + data.blocks;
        let sizes = &placed[blocks];
        let start = sizes
            .iter()
            .find(|block| block.size != 0)
            .map_or(0, |block| block.start);
        let holes = sizes.iter().filter(|block| block.size == 0).count() as u64;
        let (fragment, offset) = data.fragment.unwrap_or((u32::MAX, 0));
        let small = u32::try_from(start)
            .ok()
            .zip(u32::try_from(data.length).ok());
        let bytes = match small.filter(|_| links == 1 && xattrs == NONE && holes == 0) {
            Some((start, length)) => {
                let mut bytes = self.header(2, number)?;
                for field in [start, fragment, offset, length] {
                    bytes.extend(field.to_le_bytes());
                }
                bytes
            }
            None => {
                let mut bytes = self.header(9, number)?;
                let sparse =
                    (holes * u64::from(self.block_size)).min(data.length.saturating_sub(1));
                for field in [start, data.length, sparse] {
                    bytes.extend(field.to_le_bytes());
                }
                for field in [links, fragment, offset, xattrs] {
                    bytes.extend(field.to_le_bytes());
                }
                bytes
            }
        };
        let sizes: Vec<u8> = sizes
            .iter()
            .flat_map(|block| block.size.to_le_bytes())
            .collect();
        self.put(number, 2, &[bytes, sizes].concat())
    }

    fn write_directory(&mut self, number: Number, directory: &Directory) -> io::Result<()> {
        let start = self.directories.place()?;
        let (length, index) = self.write_list(directory)?;
        let size = length
            .checked_add(DOTS)
            .ok_or_else(|| too_large("a directory has too many entries"))?;
        let below = directory
            .entries
            .values()
            .filter(|child| self.tree.directory(**child).is_some());
        let links = 2 + u32::try_from(below.count()).unwrap_or_default();
        let parent = match number {
            // As mksquashfs has it: one more than there are.
            ROOT => u32::try_from(self.numbers.len()).unwrap_or_default() + 1,
            _ => self.number(directory.parent),
        };
        let xattrs = self.xattrs(number)?;
        let bytes = match u16::try_from(size)
            .ok()
            .filter(|_| xattrs == NONE && index.is_empty())
        {
            Some(size) => {
                let mut bytes = self.header(1, number)?;
                bytes.extend(start.block.to_le_bytes());
                bytes.extend(links.to_le_bytes());
                bytes.extend(size.to_le_bytes());
                bytes.extend(start.offset.to_le_bytes());
                bytes.extend(parent.to_le_bytes());
                bytes
            }
            None => {
                let mut bytes = self.header(8, number)?;
                for field in [links, size, start.block, parent] {
                    bytes.extend(field.to_le_bytes());
                }
                let count = u16::try_from(index.len())
                    .map_err(|_| too_large("a directory has too many entries"))?;
                bytes.extend(count.to_le_bytes());
                bytes.extend(start.offset.to_le_bytes());
                bytes.extend(xattrs.to_le_bytes());
                for entry in &index {
                    bytes.extend(entry.position.to_le_bytes());
                    bytes.extend(entry.block.to_le_bytes());
                    bytes.extend((u32::try_from(entry.name.len()).unwrap_or(1) - 1).to_le_bytes());
                    bytes.extend(entry.name);
                }
                bytes
            }
        };
        self.put(number, 1, &bytes)
    }

    /// Writes a directory's list. Gives its length, and an index of it where it is long.
    fn write_list<'d>(
        &mut self,
        directory: &'d Directory,
    ) -> io::Result<(u32, Vec<IndexEntry<'d>>)> {
        let entries: Vec<(&[u8], Written)> = directory
            .entries
            .iter()
            .filter_map(|(name, child)| Some((&**name, *self.written.get(child)?)))
            .collect();
        let mut length = 0;
        let mut index = Vec::new();
        let mut rest = entries.as_slice();
        let mut last_block = self.directories.place()?.block;
        while let Some((name, first)) = rest.first() {
            let place = self.directories.place()?;
            if place.block != last_block {
                index.push(IndexEntry {
                    position: length,
                    block: place.block,
                    name,
                });
                last_block = place.block;
            }
            let room = BLOCK - usize::from(place.offset);
            let count = group(rest, first, room);
            let bytes = group_bytes(&rest[..count], first);
            length += u32::try_from(bytes.len()).unwrap_or_default();
            self.directories.put(&mut self.context, &bytes)?;
            rest = &rest[count..];
        }
        Ok((length, index))
    }
}

/// A place in a directory's list that names before `name` lie before.
struct IndexEntry<'a> {
    position: u32,
    block: u32,
    name: &'a [u8],
}

/// How many entries can follow one header: inodes in one metadata block with numbers near that of the first,
/// and about as many as fit into `room` bytes, so that an index can point to a header in each block.
fn group(entries: &[(&[u8], Written)], first: &Written, room: usize) -> usize {
    let mut bytes = 12;
    let fits = entries
        .iter()
        .take(MOST_IN_GROUP)
        .take_while(|(name, written)| {
            let difference = i64::from(written.number) - i64::from(first.number);
            let had_room = bytes < room;
            bytes += 8 + name.len();
            had_room
                && written.place.block == first.place.block
                && i16::try_from(difference).is_ok()
        });
    fits.count().max(1)
}

fn group_bytes(entries: &[(&[u8], Written)], first: &Written) -> Vec<u8> {
    let mut bytes = (u32::try_from(entries.len()).unwrap_or(1) - 1)
        .to_le_bytes()
        .to_vec();
    bytes.extend(first.place.block.to_le_bytes());
    bytes.extend(first.number.to_le_bytes());
    for (name, written) in entries {
        let difference = i64::from(written.number) - i64::from(first.number);
        bytes.extend(written.place.offset.to_le_bytes());
        bytes.extend(i16::try_from(difference).unwrap_or_default().to_le_bytes());
        bytes.extend(written.kind.to_le_bytes());
        bytes.extend((u16::try_from(name.len()).unwrap_or(1) - 1).to_le_bytes());
        bytes.extend(*name);
    }
    bytes
}
