//! Extended attributes.

use super::inode::Inode;
use super::metadata::{Cursor, MetadataPosition};
use super::superblock::InodeReference;
use super::{Damage, Result, SquashFs};

/// In the kind of an attribute: its value is elsewhere, so that several can share it.
const ELSEWHERE: u16 = 0x100;

/// The longest name and the largest value, in bytes; xattr(7).
const LONGEST_NAME: usize = 255;
const LARGEST_VALUE: u32 = 64 << 10;

/// The most attributes of one file that are read; a list of names has at most 64 KiB, xattr(7).
const MOST: u32 = 8192;

/// An extended attribute: its name and its value.
pub type Xattr = (Vec<u8>, Vec<u8>);

impl SquashFs {
    /// Whether any file has attributes.
    pub fn has_xattrs(&self) -> bool {
        self.superblock.xattr_table.is_some()
    }

    /// The names of a file's attributes, with their values.
    ///
    /// # Errors
    /// A damaged image.
    pub fn xattrs(&self, inode: &Inode) -> Result<Vec<Xattr>> {
        let (Some(number), Some(table)) = (inode.xattrs, self.superblock.xattr_table) else {
            return Ok(Vec::new());
        };
        let mut header = [0; 16];
        self.source.read_exact(table, &mut header)?;
        let (start, count) = header.split_at(8);
        let start = u64::from_le_bytes(start.try_into().unwrap_or_default());
        let count = u32::from_le_bytes(count[..4].try_into().unwrap_or_default());
        if number >= count {
            return Err(Damage::new(
                table,
                "attributes are not in the table of attributes",
            ));
        }
        let mut entry = self.table_entry(table + 16, 16, number.into())?;
        let reference = InodeReference(entry.u64()?);
        let count = entry.u32()?;
        if count > MOST {
            return Err(entry.damage("a file has too many attributes"));
        }
        let mut cursor = self.xattr_cursor(start, reference)?;
        (0..count).map(|_| self.xattr(start, &mut cursor)).collect()
    }

    fn xattr_cursor(&self, start: u64, reference: InodeReference) -> Result<Cursor<'_>> {
        let block = start.saturating_add(reference.block());
        if block >= self.superblock.bytes_used {
            return Err(Damage::new(start, "an attribute lies outside of the image"));
        }
        let place = MetadataPosition {
            block,
            offset: reference.offset(),
        };
        Ok(Cursor::new(self, place))
    }

    fn xattr(&self, start: u64, cursor: &mut Cursor<'_>) -> Result<Xattr> {
        let kind = cursor.u16()?;
        let prefix: &[u8] = match kind & !ELSEWHERE {
            0 => b"user.",
            1 => b"trusted.",
            2 => b"security.",
            _ => return Err(cursor.damage("an attribute is of no known kind")),
        };
        let length = usize::from(cursor.u16()?);
        if length > LONGEST_NAME {
            return Err(cursor.damage("the name of an attribute is too long"));
        }
        let mut name = prefix.to_vec();
        name.extend(cursor.bytes(length)?);
        let value = match kind & ELSEWHERE {
            0 => value(cursor)?,
            _ => {
                let _length = cursor.u32()?;
                let reference = InodeReference(cursor.u64()?);
                value(&mut self.xattr_cursor(start, reference)?)?
            }
        };
        Ok((name, value))
    }
}

fn value(cursor: &mut Cursor<'_>) -> Result<Vec<u8>> {
    match cursor.u32()? {
        length if length > LARGEST_VALUE => Err(cursor.damage("an attribute is too large")),
        length => cursor.bytes(length as usize),
    }
}
