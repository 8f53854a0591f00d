//! Directories: a list of groups, each a header and up to 256 entries whose inodes are near each other,
//! sorted by name; large directories have an index into the list.

use super::inode::{Body, Inode, Kind};
use super::metadata::{Cursor, MetadataPosition};
use super::superblock::InodeReference;
use super::{Damage, Result, SquashFs};

/// A directory's size counts three bytes for "." and "..", which are not in its list.
const DOTS: u64 = 3;

/// The longest name, in bytes; NAME_MAX.
const LONGEST_NAME: usize = 255;

/// The most entries that follow one header.
const MOST_IN_GROUP: u32 = 256;

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name.
    pub name: Vec<u8>,
    /// What it names.
    pub kind: Kind,
    /// The number of its inode.
    pub number: u32,
    pub(super) reference: InodeReference,
    /// Where the list goes on after it.
    pub after: Position,
}

/// A position in a directory's list: the place of a header, and how many of its entries have been read.
/// A number, so that the kernel can keep it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position(pub u64);

impl Position {
    fn new(header: u64, entries: u32) -> Position {
        Position(header << 9 | u64::from(entries))
    }

    fn header(self) -> u64 {
        self.0 >> 9
    }

    fn entries(self) -> u32 {
        (self.0 & 0x1ff) as u32
    }
}

/// The entries of a directory from a position on.
#[derive(Debug)]
pub struct Entries<'a> {
    cursor: Cursor<'a>,
    /// Bytes of the list, and how many of them have been read.
    length: u64,
    read: u64,
    group: Group,
    /// Entries still to be skipped, when reading goes on in the middle of a group.
    skip: u32,
}

/// A header, and how many of its entries have been read.
#[derive(Debug, Clone, Copy, Default)]
struct Group {
    header: u64,
    entries: u32,
    read: u32,
    block: u32,
    number: u32,
}

impl SquashFs {
    /// The entries of a directory, from a position that one of its entries gave, or from the start.
    ///
    /// # Errors
    /// A damaged image, or an inode that is no directory.
    pub fn entries(&self, directory: &Inode, from: Position) -> Result<Entries<'_>> {
        let Body::Directory { list, .. } = directory.body else {
            return Err(Damage::new(0, "it is not a directory"));
        };
        self.entries_at(directory, list, 0, from)
    }

    /// Reads on at `from`; `list` is where the byte `start` of the list is.
    fn entries_at(
        &self,
        directory: &Inode,
        list: MetadataPosition,
        start: u64,
        from: Position,
    ) -> Result<Entries<'_>> {
        let mut cursor = Cursor::new(self, list);
        let length = directory.size.saturating_sub(DOTS);
        let header = from.header().max(start);
        if header > length {
            return Err(cursor.damage("a position lies outside of its directory"));
        }
        cursor.skip((header - start) as usize)?;
        Ok(Entries {
            cursor,
            length,
            read: header,
            group: Group::default(),
            skip: from.entries(),
        })
    }

    /// The entry of that name.
    ///
    /// # Errors
    /// A damaged image, or an inode that is no directory.
    pub fn lookup(&self, directory: &Inode, name: &[u8]) -> Result<Option<Entry>> {
        let (list, start) = self.near(directory, name)?;
        for entry in self.entries_at(directory, list, start, Position::default())? {
            let entry = entry?;
            match entry.name.as_slice().cmp(name) {
                std::cmp::Ordering::Less => {}
                std::cmp::Ordering::Equal => return Ok(Some(entry)),
                std::cmp::Ordering::Greater => return Ok(None),
            }
        }
        Ok(None)
    }

    /// The last place in the list that the index names before `name`: where it is in the image, and which
    /// byte of the list it is.
    fn near(&self, directory: &Inode, name: &[u8]) -> Result<(MetadataPosition, u64)> {
        let Body::Directory { list, index } = directory.body else {
            return Err(Damage::new(0, "it is not a directory"));
        };
        let (mut best, mut start) = (list, 0);
        let mut cursor = Cursor::new(self, index.1);
        for _ in 0..index.0 {
            let (position, block) = (cursor.u32()?, cursor.u32()?);
            let length = cursor.u32()? as usize + 1;
            if length > LONGEST_NAME + 1 {
                return Err(cursor.damage("a name in a directory's index is too long"));
            }
            if cursor.bytes(length)?.as_slice() > name {
                break;
            }
            start = u64::from(position);
            best = MetadataPosition {
                block: self.superblock.directory_table + u64::from(block),
                offset: (list.offset + position as usize) % super::metadata::BLOCK,
            };
        }
        Ok((best, start))
    }

    /// What an entry names.
    ///
    /// # Errors
    /// A damaged image.
    pub fn inode_of(&self, entry: &Entry) -> Result<Inode> {
        let inode = self.inode_at(entry.reference)?;
        match inode.kind == entry.kind {
            true => Ok(inode),
            false => Err(Damage::new(
                self.superblock.inode_table + entry.reference.block(),
                "a directory and an inode disagree about what a file is",
            )),
        }
    }
}

impl Entries<'_> {
    fn next_entry(&mut self) -> Result<Option<Entry>> {
        loop {
            if self.group.read == self.group.entries {
                if self.read >= self.length {
                    return Ok(None);
                }
                self.read_header()?;
            }
            let entry = self.read_entry()?;
            match self.skip {
                0 => return Ok(Some(entry)),
                _ => self.skip -= 1,
            }
        }
    }

    fn read_header(&mut self) -> Result<()> {
        let header = self.read;
        let entries = self.cursor.u32()?.saturating_add(1);
        if entries > MOST_IN_GROUP {
            return Err(self
                .cursor
                .damage("a directory's header has too many entries"));
        }
        self.group = Group {
            header,
            entries,
            read: 0,
            block: self.cursor.u32()?,
            number: self.cursor.u32()?,
        };
        self.read += 12;
        Ok(())
    }

    fn read_entry(&mut self) -> Result<Entry> {
        let offset = self.cursor.u16()?;
        let difference = self.cursor.u16()?.cast_signed();
        let kind = self.cursor.u16()?;
        let length = usize::from(self.cursor.u16()?) + 1;
        if length > LONGEST_NAME {
            return Err(self.cursor.damage("a name is too long"));
        }
        let name = self.cursor.bytes(length)?;
        self.read += 8 + length as u64;
        self.group.read += 1;
        if self.read > self.length {
            return Err(self.cursor.damage("a directory is longer than it says"));
        }
        if name == b"." || name == b".." || name.iter().any(|byte| matches!(byte, 0 | b'/')) {
            return Err(self.cursor.damage("a directory has an impossible name"));
        }
        let kind = Kind::from_number(kind).ok_or_else(|| {
            self.cursor
                .damage("a directory names a file of no known kind")
        })?;
        let after = match self.group.read == self.group.entries {
            true => Position::new(self.read, 0),
            false => Position::new(self.group.header, self.group.read),
        };
        Ok(Entry {
            name,
            kind,
            number: self.group.number.wrapping_add_signed(difference.into()),
            reference: InodeReference::new(self.group.block, offset),
            after,
        })
    }
}

impl Iterator for Entries<'_> {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.next_entry().transpose();
        if matches!(next, Some(Err(_))) {
            // What follows damage is no list any more.
            self.read = self.length;
            self.group = Group::default();
        }
        next
    }
}
