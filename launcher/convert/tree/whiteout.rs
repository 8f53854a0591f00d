//! What a layer takes away of those below it.

use std::io;

use super::{Number, Tree};
use crate::convert::member::Kind;

/// What a layer names a thing that it takes away from the layers below, and a directory of which it takes
/// away everything.
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What a member takes away: a name in a directory, or all in one.
enum Gone<'a> {
    Name(Number, &'a [u8]),
    AllIn(Number),
}

impl Tree {
    /// Takes away what a member is there to take away; false if it is there for something else.
    pub(super) fn takes_away(
        &mut self,
        parent: Number,
        name: &[u8],
        kind: &Kind,
    ) -> io::Result<bool> {
        match self.gone(parent, name, kind) {
            Some(Gone::Name(directory, name)) => self.take_away(directory, name)?,
            Some(Gone::AllIn(directory)) => self.take_all_away(directory)?,
            None => return Ok(false),
        }
        Ok(true)
    }

    /// What a member takes away of the layers below, if that is what it is for.
    fn gone<'a>(&self, parent: Number, name: &'a [u8], kind: &Kind) -> Option<Gone<'a>> {
        match kind {
            Kind::Whiteout => Some(Gone::Name(parent, name)),
            Kind::Opaque => self.lookup(parent, name).map(Gone::AllIn),
            _ if !self.has_names_of_whiteouts => None,
            _ if name == OPAQUE => Some(Gone::AllIn(parent)),
            _ => Some(Gone::Name(parent, name.strip_prefix(WHITEOUT)?)),
        }
    }

    /// What this layer itself has under that name stays, whichever comes first.
    fn take_away(&mut self, parent: Number, name: &[u8]) -> io::Result<()> {
        match self.lookup(parent, name) {
            Some(number) if self.inodes[number].layer < self.layer => self.remove(parent, name),
            _ => Ok(()),
        }
    }

    fn take_all_away(&mut self, directory: Number) -> io::Result<()> {
        let below: Vec<Box<[u8]>> = self
            .entries_mut(directory)?
            .clone()
            .into_iter()
            .filter(|(_, number)| self.inodes[*number].layer < self.layer)
            .map(|(name, _)| name)
            .collect();
        below
            .iter()
            .try_for_each(|name| self.remove(directory, name))
    }
}
