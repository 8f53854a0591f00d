//! What a layer takes away of those below it.

use std::io;

use super::{Number, Tree};
use crate::convert::member::{Attributes, Kind};

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
    /// Whether a member is there to take something away.
    pub(super) fn takes_away(&self, name: &[u8], kind: &Kind) -> bool {
        matches!(kind, Kind::Whiteout | Kind::Opaque)
            || self.has_names_of_whiteouts && name.starts_with(WHITEOUT)
    }

    /// Takes away what such a member says.
    pub(super) fn take_what(&mut self, parent: Number, name: &[u8], kind: &Kind) -> io::Result<()> {
        match self.gone(parent, name, kind) {
            Some(Gone::Name(directory, name)) => self.take_away(directory, name),
            Some(Gone::AllIn(directory)) => self.take_all_away(directory),
            None => Ok(()),
        }
    }

    /// What a member takes away of the layers below, if that is what it is for.
    fn gone<'a>(&self, parent: Number, name: &'a [u8], kind: &Kind) -> Option<Gone<'a>> {
        match kind {
            Kind::Whiteout => Some(Gone::Name(parent, name)),
            Kind::Opaque => self
                .lookup(parent, name)
                .filter(|number| self.directory(*number).is_some())
                .map(Gone::AllIn),
            _ if name == OPAQUE => Some(Gone::AllIn(parent)),
            _ => Some(Gone::Name(parent, name.strip_prefix(WHITEOUT)?)),
        }
    }

    /// What this layer itself has under that name stays, and below it, whichever comes first.
    fn take_away(&mut self, parent: Number, name: &[u8]) -> io::Result<()> {
        let Some(number) = self.lookup(parent, name) else {
            return Ok(());
        };
        let is_new =
            self.inodes[number].layer == self.layer || self.linked.contains(&(parent, name.into()));
        if is_new {
            return Ok(());
        }
        if self.directory(number).is_none() {
            return self.remove(parent, name);
        }
        self.take_all_away(number)?;
        let is_declared = self.declared.contains(&number);
        let has_any = self
            .directory(number)
            .is_some_and(|own| !own.entries.is_empty());
        if !is_declared && !has_any {
            return self.remove(parent, name);
        }
        // From now on it is a directory of this layer, and the one below is gone.
        self.inodes[number].layer = self.layer;
        if !is_declared {
            self.inodes[number].attributes = Attributes::new(0o755);
        }
        Ok(())
    }

    fn take_all_away(&mut self, directory: Number) -> io::Result<()> {
        let names: Vec<Box<[u8]>> = self.entries_mut(directory)?.keys().cloned().collect();
        names
            .iter()
            .try_for_each(|name| self.take_away(directory, name))
    }
}

#[cfg(test)]
#[path = "whiteout/tests.rs"]
mod tests;
