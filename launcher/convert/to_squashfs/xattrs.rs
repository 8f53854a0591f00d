//! The table of extended attributes. Files with the same attributes share an entry.

use std::collections::HashMap;
use std::io;

use super::compress::Context;
use super::tables::Table;
use crate::convert::member::Xattr;

/// The kinds of names that SquashFS can hold; the number of each is its position.
const PREFIXES: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];

/// In the place of a number: there are none.
pub(super) const NONE: u32 = u32::MAX;

#[derive(Default)]
pub(super) struct Xattrs {
    values: Table,
    /// For each set: where its values are, how many, and their bytes.
    sets: Vec<(u64, u32, u32)>,
    known: HashMap<Vec<Xattr>, u32>,
}

impl Xattrs {
    /// The number of a set of attributes.
    pub(super) fn number(&mut self, context: &mut Context, all: &[Xattr]) -> io::Result<u32> {
        // User namespaces give attributes of the other kinds no meaning, or a wrong one.
        let kept: Vec<Xattr> = all
            .iter()
            .filter(|(name, _)| name.starts_with(PREFIXES[0]))
            .cloned()
            .collect();
        if kept.is_empty() {
            return Ok(NONE);
        }
        if let Some(number) = self.known.get(&kept) {
            return Ok(*number);
        }
        let place = self.values.place()?.reference();
        let mut size = 0;
        for (name, value) in &kept {
            let name = &name[PREFIXES[0].len()..];
            let mut bytes = 0_u16.to_le_bytes().to_vec();
            bytes.extend(u16::try_from(name.len()).unwrap_or_default().to_le_bytes());
            bytes.extend(name);
            bytes.extend(u32::try_from(value.len()).unwrap_or_default().to_le_bytes());
            bytes.extend(value);
            size += u32::try_from(bytes.len()).unwrap_or_default();
            self.values.put(context, &bytes)?;
        }
        let number = u32::try_from(self.sets.len()).unwrap_or(NONE);
        self.sets
            .push((place, u32::try_from(kept.len()).unwrap_or_default(), size));
        self.known.insert(kept, number);
        Ok(number)
    }

    /// The table's bytes, to be written at `start`, and where in the image its header is then.
    pub(super) fn finish(
        mut self,
        context: &mut Context,
        start: u64,
    ) -> io::Result<Option<(Vec<u8>, u64)>> {
        if self.sets.is_empty() {
            return Ok(None);
        }
        self.values.close(context)?;
        let mut bytes = self.values.bytes;
        let mut sets = Table::default();
        for (place, count, size) in &self.sets {
            sets.put(context, &place.to_le_bytes())?;
            sets.put(context, &count.to_le_bytes())?;
            sets.put(context, &size.to_le_bytes())?;
        }
        sets.close(context)?;
        let sets_start = start + bytes.len() as u64;
        bytes.extend(&sets.bytes);
        let header = start + bytes.len() as u64;
        bytes.extend(start.to_le_bytes());
        bytes.extend(
            u32::try_from(self.sets.len())
                .unwrap_or_default()
                .to_le_bytes(),
        );
        bytes.extend(0_u32.to_le_bytes());
        for block in &sets.starts {
            bytes.extend((sets_start + block).to_le_bytes());
        }
        Ok(Some((bytes, header)))
    }
}
