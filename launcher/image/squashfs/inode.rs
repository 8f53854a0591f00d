//! Inodes.

use super::metadata::{Cursor, MetadataPosition};
use super::superblock::InodeReference;
use super::{Damage, Result, SquashFs};

/// The longest target of a symbolic link, in bytes; PATH_MAX.
const LONGEST_LINK: u32 = 4096;

/// In the place of a number: there is none.
const NONE: u32 = u32::MAX;

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
    /// A block device.
    BlockDevice,
    /// A character device.
    CharacterDevice,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

impl Kind {
    /// From the number of a basic inode, which directories use too.
    pub(super) fn from_number(number: u16) -> Option<Kind> {
        Some(match number {
            1 => Kind::Directory,
            2 => Kind::File,
            3 => Kind::Symlink,
            4 => Kind::BlockDevice,
            5 => Kind::CharacterDevice,
            6 => Kind::Fifo,
            7 => Kind::Socket,
            _ => return None,
        })
    }
}

/// An inode.
#[derive(Debug, Clone)]
pub struct Inode {
    /// Its number, from 1.
    pub number: u32,
    /// What it is.
    pub kind: Kind,
    /// Permission bits, with setuid, setgid and sticky.
    pub permissions: u16,
    /// When it was changed, in seconds since 1970.
    pub modified: u32,
    /// How many names it has.
    pub links: u32,
    /// Its size in bytes; for a directory, that of its list.
    pub size: u64,
    /// How many bytes of a file are in holes, as the image has it.
    pub holes: u64,
    /// The device that it stands for, as Linux writes it.
    pub device: u32,
    /// The number of its owner and group in the image's table.
    pub(super) owner: (u16, u16),
    pub(super) xattrs: Option<u32>,
    pub(super) body: Body,
}

/// Where the rest of an inode is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Body {
    Directory {
        /// Where its list is, in the image.
        list: MetadataPosition,
        /// How many entries its index has, and where it is.
        index: (u16, MetadataPosition),
    },
    File {
        /// Where its data begins in the image.
        start: u64,
        /// The block with its end, and where in that.
        fragment: Option<(u32, u32)>,
        /// Where the sizes of its blocks are.
        sizes: MetadataPosition,
    },
    Symlink {
        target: MetadataPosition,
    },
    Other,
}

impl SquashFs {
    /// The root directory.
    ///
    /// # Errors
    /// A damaged image.
    pub fn root(&self) -> Result<Inode> {
        let root = self.inode_at(self.superblock.root)?;
        match root.kind {
            Kind::Directory => Ok(root),
            _ => Err(Damage::new(32, "its root is not a directory")),
        }
    }

    /// The inode at a place in the inode table.
    pub(super) fn inode_at(&self, reference: InodeReference) -> Result<Inode> {
        let block = self.superblock.inode_table + reference.block();
        if block >= self.superblock.bytes_used {
            return Err(Damage::new(block, "an inode lies outside of the image"));
        }
        let place = MetadataPosition {
            block,
            offset: reference.offset(),
        };
        parse(self, &mut Cursor::new(self, place))
    }

    /// Where a symbolic link leads.
    ///
    /// # Errors
    /// A damaged image, or an inode that is no link.
    pub fn target(&self, inode: &Inode) -> Result<Vec<u8>> {
        match inode.body {
            Body::Symlink { target } => Cursor::new(self, target).bytes(inode.size as usize),
            _ => Err(Damage::new(0, "it is not a symbolic link")),
        }
    }

    /// The user and group that own it in the image.
    ///
    /// # Errors
    /// A damaged image.
    pub fn owner(&self, inode: &Inode) -> Result<(u32, u32)> {
        let id = |number: u16| {
            if number >= self.superblock.id_count {
                return Err(Damage::new(
                    self.superblock.id_table,
                    "an owner is not in the table of IDs",
                ));
            }
            self.table_entry(self.superblock.id_table, 4, number.into())?
                .u32()
        };
        Ok((id(inode.owner.0)?, id(inode.owner.1)?))
    }
}

fn parse(image: &SquashFs, cursor: &mut Cursor<'_>) -> Result<Inode> {
    let start = cursor.place();
    let number = cursor.u16()?;
    let extended = number > 7;
    let kind = Kind::from_number(if extended { number - 7 } else { number })
        .ok_or(Damage::new(start.block, "an inode is of no known kind"))?;
    let permissions = cursor.u16()? & 0o7777;
    let owner = (cursor.u16()?, cursor.u16()?);
    let (modified, number) = (cursor.u32()?, cursor.u32()?);
    if number == 0 || number > image.superblock.inode_count {
        return Err(Damage::new(
            start.block,
            "an inode has an impossible number",
        ));
    }
    let mut inode = Inode {
        number,
        kind,
        permissions,
        modified,
        links: 1,
        size: 0,
        holes: 0,
        device: 0,
        owner,
        xattrs: None,
        body: Body::Other,
    };
    match (kind, extended) {
        (Kind::Directory, false) => directory(image, cursor, &mut inode)?,
        (Kind::Directory, true) => extended_directory(image, cursor, &mut inode)?,
        (Kind::File, false) => file(cursor, &mut inode)?,
        (Kind::File, true) => extended_file(cursor, &mut inode)?,
        (Kind::Symlink, _) => symlink(cursor, &mut inode, extended)?,
        (kind, _) => {
            inode.links = cursor.u32()?;
            if matches!(kind, Kind::BlockDevice | Kind::CharacterDevice) {
                inode.device = cursor.u32()?;
            }
            if extended {
                inode.xattrs = some(cursor.u32()?);
            }
        }
    }
    Ok(inode)
}

fn some(number: u32) -> Option<u32> {
    (number != NONE).then_some(number)
}

fn list_place(image: &SquashFs, block: u32, offset: u16) -> MetadataPosition {
    MetadataPosition {
        block: image.superblock.directory_table + u64::from(block),
        offset: offset.into(),
    }
}

fn directory(image: &SquashFs, cursor: &mut Cursor<'_>, inode: &mut Inode) -> Result<()> {
    let block = cursor.u32()?;
    inode.links = cursor.u32()?;
    inode.size = cursor.u16()?.into();
    let list = list_place(image, block, cursor.u16()?);
    inode.body = Body::Directory {
        list,
        index: (0, list),
    };
    Ok(())
}

fn extended_directory(image: &SquashFs, cursor: &mut Cursor<'_>, inode: &mut Inode) -> Result<()> {
    inode.links = cursor.u32()?;
    inode.size = cursor.u32()?.into();
    let block = cursor.u32()?;
    let _parent = cursor.u32()?;
    let entries = cursor.u16()?;
    let list = list_place(image, block, cursor.u16()?);
    inode.xattrs = some(cursor.u32()?);
    inode.body = Body::Directory {
        list,
        index: (entries, cursor.place()),
    };
    Ok(())
}

fn file(cursor: &mut Cursor<'_>, inode: &mut Inode) -> Result<()> {
    let start = cursor.u32()?.into();
    let fragment = (cursor.u32()?, cursor.u32()?);
    inode.size = cursor.u32()?.into();
    inode.body = Body::File {
        start,
        fragment: some(fragment.0).map(|number| (number, fragment.1)),
        sizes: cursor.place(),
    };
    Ok(())
}

fn extended_file(cursor: &mut Cursor<'_>, inode: &mut Inode) -> Result<()> {
    let start = cursor.u64()?;
    inode.size = cursor.u64()?;
    inode.holes = cursor.u64()?;
    inode.links = cursor.u32()?;
    let fragment = (cursor.u32()?, cursor.u32()?);
    inode.xattrs = some(cursor.u32()?);
    if inode.size > i64::MAX as u64 {
        return Err(cursor.damage("a file is larger than any file can be"));
    }
    inode.body = Body::File {
        start,
        fragment: some(fragment.0).map(|number| (number, fragment.1)),
        sizes: cursor.place(),
    };
    Ok(())
}

fn symlink(cursor: &mut Cursor<'_>, inode: &mut Inode, extended: bool) -> Result<()> {
    inode.links = cursor.u32()?;
    let length = cursor.u32()?;
    if length > LONGEST_LINK {
        return Err(cursor.damage("a symbolic link is longer than any path can be"));
    }
    inode.size = length.into();
    inode.body = Body::Symlink {
        target: cursor.place(),
    };
    if extended {
        cursor.skip(length as usize)?;
        inode.xattrs = some(cursor.u32()?);
    }
    Ok(())
}
