//! What an image does not get, by kind and count: whoever made it hears of it.

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

use super::{Applied, Number, Tree};
use crate::convert::member::Kind;
use crate::convert::names::{Lost, wrong};

/// What was left out of an image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    counts: [u64; KINDS.len()],
}

/// What can be left out: of one, and of several.
const KINDS: [(&str, &str); 9] = [
    ("device", "devices"),
    ("FIFO", "FIFOs"),
    ("socket", "sockets"),
    ("name with ..", "names with .."),
    ("name in /dev", "names in /dev"),
    ("set-user-ID of 1 file", "set-user-ID of"),
    ("set-group-ID of 1 file", "set-group-ID of"),
    ("capabilities of 1 file", "capabilities of"),
    ("system attributes of 1 file", "system attributes of"),
];

/// From here on, something of a file is left out and not the file.
const FIRST_OF_FILES: usize = 5;

impl LeftOut {
    /// Whether nothing was.
    pub fn is_empty(&self) -> bool {
        *self == LeftOut::default()
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counted = self.counts.iter().zip(KINDS).enumerate();
        let texts: Vec<String> = counted
            .filter(|(_, (count, _))| **count > 0)
            .map(|(at, (count, (one, several)))| match (count, at) {
                (1, FIRST_OF_FILES..) => one.to_owned(),
                (1, _) => format!("1 {one}"),
                (_, FIRST_OF_FILES..) => format!("{several} {count} files"),
                _ => format!("{count} {several}"),
            })
            .collect();
        out.write_str(&texts.join(", "))
    }
}

impl Tree {
    /// Leaves out what a name has. What was there before is gone as well, as it would be in a file system.
    pub(super) fn leave_out(
        &mut self,
        parent: Number,
        name: &[u8],
        kind: &Kind,
    ) -> io::Result<Applied> {
        if self.left_out.len() >= self.most {
            return Err(wrong("the image has too many files"));
        }
        self.remove(parent, name)?;
        self.left_out.insert((parent, name.into()), kind.clone());
        Ok(Applied::LeftOut)
    }

    /// What is not in the image as it is now.
    pub fn what_was_left_out(&self) -> LeftOut {
        let there = |number: Number| self.inodes[number].links > 0;
        let names = self
            .left_out
            .iter()
            .filter(|((parent, _), _)| there(*parent));
        let of = |wanted: Kind| names.clone().filter(|(_, kind)| **kind == wanted).count() as u64;
        let inodes = self.inodes.iter().filter(|inode| inode.links > 0);
        let lost = |kind: Lost| inodes.clone().filter(|inode| inode.lost.has(kind)).count() as u64;
        LeftOut {
            counts: [
                of(Kind::Special),
                of(Kind::Fifo),
                of(Kind::Socket),
                self.odd_names,
                self.in_dev,
                lost(Lost::SET_USER),
                lost(Lost::SET_GROUP),
                lost(Lost::CAPABILITY),
                lost(Lost::XATTRS),
            ],
        }
    }
}
