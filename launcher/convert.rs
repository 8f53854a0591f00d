//! Turning one form of an image into another: any [`Source`] into any [`Target`], through a [`Tree`] that
//! decides what is where. Nothing of what a source says is a path of this machine until a target writes it,
//! and the one that writes trees does so confined to the new directory.

pub mod archive;
pub(crate) mod blobs;
mod complete;
pub mod compression;
mod counted;
pub mod directory;
mod failure;
mod holes;
mod kind;
pub mod layout;
pub mod make;
pub mod member;
mod names;
pub mod origin;
mod pipe;
mod ration;
mod saved;
mod sparse;
pub mod squashfs;
#[cfg(test)]
mod tests;
pub mod to_archive;
pub mod to_directory;
pub mod to_squashfs;
pub mod tree;
pub mod unpacked;
mod which;
mod workers;

use std::io::{self, Cursor, Read};

use serde::{Deserialize, Serialize};

use crate::image::metadata::{MARK, Mark};
use counted::Counted;
use directory::Directory;
use failure::{NotRead, NotWritten, changed, shown, within};
use member::{Kind, Member, Source};
use tree::{Applied, Body, LeftOut, Number, ROOT, Tree};

/// The most files of an image; each takes some memory while it is made.
const MOST_FILES: usize = 20_000_000;

/// The largest mark that is believed, in bytes.
const LARGEST_MARK: u64 = 4 << 20;

/// What an image is made into.
pub trait Target {
    /// Whether it has to know where everything is in the end before it is given the first file.
    fn wants_to_know(&self) -> bool {
        false
    }

    /// A directory or symbolic link, at a path without a slash in front; what it lies in came before.
    ///
    /// # Errors
    /// It cannot be written.
    fn entry(&mut self, tree: &Tree, number: Number, path: &[u8]) -> io::Result<()>;

    /// A regular file. It can come before the directory that it lies in, and be taken away again later.
    ///
    /// # Errors
    /// It cannot be read or written.
    fn file(
        &mut self,
        tree: &Tree,
        number: Number,
        path: &[u8],
        length: u64,
        contents: &mut dyn Read,
    ) -> io::Result<()>;

    /// What is in the directory `name` at the top will lie at the top.
    ///
    /// # Errors
    /// It cannot be moved.
    fn lift(&mut self, _tree: &Tree, _name: &[u8]) -> io::Result<()> {
        Ok(())
    }

    /// All has been said; names that files have beside their first are in the tree.
    ///
    /// # Errors
    /// It cannot be written.
    fn finish(&mut self, tree: &Tree) -> io::Result<()>;
}

/// How much an image may be, and who is told how it goes on.
pub struct Bounds<'a> {
    /// The most bytes of contents, uncompressed: an archive of some kilobytes can hold a petabyte of zeroes.
    pub most_bytes: u64,
    /// Is told of the bytes so far; an error ends the work.
    pub tick: &'a mut dyn FnMut(u64) -> io::Result<()>,
}

impl std::fmt::Debug for Bounds<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Bounds")
            .field("most_bytes", &self.most_bytes)
            .finish_non_exhaustive()
    }
}

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Members that are in the image.
    pub members: u64,
    /// Bytes of contents.
    pub bytes: u64,
    /// What of the source is not in the image.
    pub left_out: LeftOut,
}

impl std::fmt::Display for Summary {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} files", self.members)?;
        match self.left_out.is_empty() {
            true => Ok(()),
            false => write!(out, "; skipped: {}", self.left_out),
        }
    }
}

/// What an image is made from.
pub struct Layers {
    /// The lowest first.
    pub sources: Vec<Box<dyn Source>>,
    /// Whether they are an OCI image's: names that begin with `.wh.` take something away.
    pub are_oci: bool,
    /// What was changed in an overlay, on top of them.
    pub changes: Option<Directory>,
}

impl Layers {
    /// All of them with whether they are an OCI image's, the lowest first.
    fn all(&self) -> impl Iterator<Item = (&dyn Source, bool)> {
        let changes = self
            .changes
            .iter()
            .map(|layer| (layer as &dyn Source, false));
        let sources = self.sources.iter();
        sources
            .map(|layer| (layer.as_ref(), self.are_oci))
            .chain(changes)
    }
}

impl std::fmt::Debug for Layers {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} layers, oci: {}", self.sources.len(), self.are_oci)
    }
}

/// Makes an image of `layers`, with `mark` in it unless they have one from an earlier conversion. The same layers
/// give the same bytes: the image's time is that of its newest file, unless the mark says another.
///
/// # Errors
/// A source cannot be read or understood, or the target not be written.
pub fn convert(
    layers: &Layers,
    mark: &Mark,
    target: &mut dyn Target,
    bounds: Bounds<'_>,
) -> io::Result<Summary> {
    let mut work = Work {
        tree: Tree::new(MOST_FILES).no_later_than(mark.source_date.unwrap_or(u64::MAX)),
        bounds,
        summary: Summary::default(),
        // What an OCI image says of itself is newer than what a layer of it says.
        earlier: layers.are_oci.then(|| mark.clone()),
        failed: None,
    };
    let read = match layers.sources.as_slice() {
        [only] if layers.changes.is_none() && !target.wants_to_know() => {
            work.single(only.as_ref(), layers.are_oci, target)
        }
        _ => work.layered(layers, target),
    };
    read.map_err(|error| match work.failed {
        Some(number) => io::Error::from_raw_os_error(number),
        None => error,
    })?;
    if work.tree.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "there is nothing in it",
        ));
    }
    work.complete(mark, target)?;
    target.finish(&work.tree)?;
    Ok(Summary {
        left_out: work.tree.what_was_left_out(),
        ..work.summary
    })
}

struct Work<'a> {
    tree: Tree,
    bounds: Bounds<'a>,
    summary: Summary,
    /// The mark that the image has from an earlier conversion.
    earlier: Option<Mark>,
    /// What the system said when the target could not be written: sources put names of their own around it.
    failed: Option<i32>,
}

impl Work<'_> {
    /// One layer: everything is written as it comes.
    fn single(
        &mut self,
        source: &dyn Source,
        is_oci: bool,
        target: &mut dyn Target,
    ) -> io::Result<()> {
        if is_oci {
            self.tree.next_layer(true);
        }
        source.each(&mut |member, contents| {
            (self.bounds.tick)(self.summary.bytes)?;
            let Some((number, path)) = self.apply(&member, None)? else {
                return Ok(());
            };
            match member.kind {
                Kind::File => self.file(target, number, &path, member.length, contents),
                Kind::Link(_) => Ok(()),
                _ => target.entry(&self.tree, number, &path),
            }
        })?;
        if let Some((number, name)) = self.tree.single_directory() {
            target.lift(&self.tree, &name)?;
            self.tree.become_root(number);
        }
        Ok(())
    }

    fn apply(
        &mut self,
        member: &Member,
        taken: Option<Number>,
    ) -> io::Result<Option<(Number, Vec<u8>)>> {
        match self.tree.apply_or(member, taken)? {
            Applied::At(number, path) => {
                self.summary.members += 1;
                Ok(Some((number, path)))
            }
            Applied::LeftOut | Applied::TookAway => Ok(None),
        }
    }

    /// Reads all members of a layer, and applies them when it is known what the layer takes away. Gives its files.
    fn read_layer(&mut self, layer: &dyn Source, is_oci: bool) -> io::Result<Vec<LayerFile>> {
        self.tree.next_layer(is_oci);
        let mut members = Vec::new();
        layer.each(&mut |member, _| {
            (self.bounds.tick)(self.summary.bytes)?;
            if members.len() >= MOST_FILES {
                return Err(names::wrong("the image has too many files"));
            }
            members.push(member);
            Ok(())
        })?;
        let mut taken = self.tree.take_away(&members)?.into_iter().peekable();
        let mut files = Vec::new();
        for (at, member) in members.iter().enumerate() {
            let taken = taken.next_if(|(index, _)| *index == at);
            let applied = self
                .apply(member, taken.map(|(_, number)| number))
                .map_err(|error| within(&member.path, &error))?;
            if member.kind == Kind::File {
                files.push(LayerFile {
                    name: hash(&member.path),
                    number: applied.map(|(number, _)| number),
                });
            }
        }
        Ok(files)
    }

    /// Several layers are read twice: first to learn what is left of each in the end, then to copy that alone.
    fn layered(&mut self, layers: &Layers, target: &mut dyn Target) -> io::Result<()> {
        let mut files = Vec::new();
        for (layer, is_oci) in layers.all() {
            layer.keep()?;
            files.push(self.read_layer(layer, is_oci)?);
        }
        if let Some((number, _)) = self.tree.single_directory() {
            self.tree.become_root(number);
        }
        let mut paths = vec![None; self.tree.len()];
        target.entry(&self.tree, ROOT, b"")?;
        self.tree
            .walk_all(&mut |number, path| match self.tree.inode(number).body {
                Body::File => {
                    paths[number].get_or_insert_with(|| path.to_vec());
                    Ok(())
                }
                _ => target.entry(&self.tree, number, path),
            })?;
        for ((layer, _), files) in layers.all().zip(files) {
            let mut files = files.into_iter();
            layer.each(&mut |member, contents| {
                if member.kind != Kind::File {
                    return Ok(());
                }
                // A directory can have changed since it was read for the first time.
                let known = files.next().filter(|file| file.name == hash(&member.path));
                let number = known.ok_or_else(changed)?.number;
                match number.and_then(|number| Some((number, paths.get_mut(number)?.take()?))) {
                    Some((number, path)) => {
                        self.file(target, number, &path, member.length, contents)
                    }
                    None => Ok(()),
                }
            })?;
            if files.next().is_some() {
                return Err(changed());
            }
        }
        Ok(())
    }

    fn file(
        &mut self,
        target: &mut dyn Target,
        number: Number,
        path: &[u8],
        length: u64,
        contents: &mut dyn Read,
    ) -> io::Result<()> {
        let mut counted = Counted {
            left: length,
            contents,
            bytes: &mut self.summary.bytes,
            bounds: &mut self.bounds,
            has_failed: false,
        };
        if path == MARK.as_bytes() && length < LARGEST_MARK && self.earlier.is_none() {
            let mut text = Vec::new();
            counted.read_to_end(&mut text)?;
            // One that is not understood is replaced.
            self.earlier = serde_json::from_slice(&text).ok();
            return target.file(&self.tree, number, path, length, &mut text.as_slice());
        }
        let written = target.file(&self.tree, number, path, length, &mut counted);
        let is_targets = !counted.has_failed;
        written.inspect_err(|error| {
            if is_targets {
                self.failed = error.raw_os_error();
            }
        })
    }

    /// Adds what each image has.
    fn complete(&mut self, mark: &Mark, target: &mut dyn Target) -> io::Result<()> {
        let before = self.tree.len();
        for (number, path) in self.tree.complete()? {
            target.file(&self.tree, number, &path, 0, &mut io::empty())?;
        }
        let own = self.earlier.take().unwrap_or_else(|| mark.clone());
        let known = (own.time > 0).then_some(own.time);
        let time = mark.source_date.or(known);
        let time = time.unwrap_or_else(|| self.tree.newest());
        self.tree.set_made(time);
        // How a directory was says nothing of what is made of it.
        let mark = Mark {
            time,
            tree: None,
            ..own
        };
        let text = serde_json::to_vec_pretty(&mark)?;
        let file = complete::own(MARK, Kind::File, 0o644);
        if let Applied::At(number, path) = self.tree.apply(&file)? {
            let length = text.len() as u64;
            target.file(&self.tree, number, &path, length, &mut Cursor::new(text))?;
        }
        let mut added = Vec::new();
        self.tree.walk_all(&mut |number, path| {
            if number >= before && self.tree.directory(number).is_some() {
                added.push((number, path.to_vec()));
            }
            Ok(())
        })?;
        added
            .iter()
            .try_for_each(|(number, path)| target.entry(&self.tree, *number, path))
    }
}

/// A file of a layer that is read twice: a hash of its name there, and what it became, if anything.
struct LayerFile {
    name: u64,
    number: Option<Number>,
}

fn hash(path: &[u8]) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    hasher.finish()
}
