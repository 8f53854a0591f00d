//! What a layer takes away of those below it, and of those alone: it is taken away before anything of the layer itself
//! is there, so that the order in which a layer says things does not matter.

use std::collections::HashSet;
use std::io;

use super::{Body, Number, Tree};
use crate::convert::member::{Kind, Member};
use crate::convert::names::{check_names, split};

/// What a layer names a thing that it takes away from the layers below, and a directory of which it takes
/// away everything.
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What a member takes away, as paths: a name, or all in a directory.
enum Gone<'a> {
    Name(Vec<&'a [u8]>),
    AllIn(Vec<&'a [u8]>),
}

impl Tree {
    /// Whether a member is there to say something of the layers below, or for a file system that stored layers.
    pub(super) fn is_about_layers(&self, components: &[&[u8]], kind: &Kind) -> bool {
        matches!(kind, Kind::Whiteout | Kind::Opaque)
            || self.has_names_of_whiteouts
                && components.iter().any(|name| name.starts_with(WHITEOUT))
    }

    /// Takes away what a layer of these members says is not there. Gives for each of its links what that leads to
    /// in the layers below, if they have it.
    ///
    /// # Errors
    /// A name that cannot be.
    pub fn take_away(&mut self, members: &[Member]) -> io::Result<Vec<(usize, Number)>> {
        let gone: Vec<Gone<'_>> = members
            .iter()
            .filter_map(|member| self.gone(member))
            .collect();
        if gone.is_empty() {
            return Ok(Vec::new());
        }
        let taken = members
            .iter()
            .enumerate()
            .filter_map(|(at, member)| Some((at, self.target_below(&member.kind)?)))
            .collect();
        // A link that this layer replaces is nothing that a path of this layer leads through.
        let mut replaced: HashSet<Vec<&[u8]>> = gone
            .iter()
            .filter_map(|gone| match gone {
                Gone::Name(path) => Some(path.clone()),
                Gone::AllIn(_) => None,
            })
            .collect();
        let directories = members
            .iter()
            .filter(|member| member.kind == Kind::Directory);
        replaced.extend(directories.map(|member| split(&member.path).collect::<Vec<_>>()));
        let is_replaced = |path: &[&[u8]]| replaced.contains(path);
        // All are looked up before the first is taken away, so that none is in the way of another.
        let found: Vec<(Number, Option<&[u8]>)> = gone
            .iter()
            .filter_map(|gone| match gone {
                Gone::Name(path) => {
                    let (name, above) = path.split_last()?;
                    Some((self.find(above, &is_replaced)?, Some(*name)))
                }
                Gone::AllIn(path) => Some((self.find(path, &is_replaced)?, None)),
            })
            .collect();
        for (directory, name) in found {
            match name {
                Some(name) => self.remove(directory, name)?,
                None => self.empty(directory),
            }
        }
        Ok(taken)
    }

    /// What a member takes away of the layers below, if that is what it is for.
    fn gone<'a>(&self, member: &'a Member) -> Option<Gone<'a>> {
        let mut path: Vec<&[u8]> = split(&member.path).collect();
        if path.contains(&b"..".as_slice()) || check_names(&path, &member.path).is_err() {
            return None;
        }
        match member.kind {
            Kind::Whiteout => return Some(Gone::Name(path)),
            Kind::Opaque => return Some(Gone::AllIn(path)),
            _ if !self.has_names_of_whiteouts => return None,
            _ => {}
        }
        let name = path.pop()?;
        if path.iter().any(|name| name.starts_with(WHITEOUT)) {
            return None;
        }
        if name == OPAQUE {
            return Some(Gone::AllIn(path));
        }
        path.push(name.strip_prefix(WHITEOUT)?);
        Some(Gone::Name(path))
    }

    fn target_below(&self, kind: &Kind) -> Option<Number> {
        let Kind::Link(target) = kind else {
            return None;
        };
        let components: Vec<&[u8]> = split(target).collect();
        let (name, above) = components.split_last()?;
        let number = self.lookup(self.find(above, &|_| false)?, name)?;
        let is_directory = matches!(self.inodes[number].body, Body::Directory(_));
        (!is_directory).then_some(number)
    }
}
