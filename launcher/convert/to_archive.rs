//! Writing a tar archive, compressed by gzip or zstd as its name says.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use tar::{Archive, Builder, EntryType, Header};

use super::Target;
use super::compression::decompressed;
use super::member::Attributes;
use super::tree::{Body, Number, Tree};
use crate::files::MARK;

/// Whether somebody's file is an archive that was written here: its root comes first, under a name that tar(1) does not
/// give it, and it has the mark. What cannot be read is none.
pub fn is_own(file: File) -> bool {
    let is_own = || {
        let mut archive = Archive::new(decompressed(file)?);
        for (number, entry) in archive.entries()?.enumerate() {
            let entry = entry?;
            match (number, entry.path_bytes().as_ref()) {
                (0, path) if path != ROOT.as_bytes() => return Ok(false),
                (_, path) if path == MARK.as_bytes() => return Ok(true),
                _ => {}
            }
        }
        io::Result::Ok(false)
    };
    is_own().unwrap_or(false)
}

/// What the root is called in an archive.
const ROOT: &str = ".";

/// A tar archive that is being written.
pub struct ToArchive<W: Write> {
    builder: Builder<W>,
    /// The first path of each file, and of each symbolic link that has several.
    written: HashMap<Number, Vec<u8>>,
}

impl<W: Write> std::fmt::Debug for ToArchive<W> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "an archive of {} files", self.written.len())
    }
}

impl<W: Write> ToArchive<W> {
    /// Writes into `writer`.
    pub fn new(writer: W) -> Self {
        ToArchive {
            builder: Builder::new(writer),
            written: HashMap::new(),
        }
    }

    /// What was written into, to be closed. To be called after the archive is finished.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn into_inner(self) -> io::Result<W> {
        self.builder.into_inner()
    }

    fn append(
        &mut self,
        tree: &Tree,
        number: Number,
        path: &[u8],
        kind: EntryType,
        contents: (u64, &mut dyn Read),
    ) -> io::Result<()> {
        let attributes = &tree.inode(number).attributes;
        let mut header = header(attributes, kind);
        header.set_size(contents.0);
        let texts: Vec<_> = attributes
            .xattrs
            .iter()
            .filter_map(|(name, value)| {
                Some((
                    format!("SCHILY.xattr.{}", std::str::from_utf8(name).ok()?),
                    value,
                ))
            })
            .collect();
        if !texts.is_empty() && kind != EntryType::Link {
            self.builder.append_pax_extensions(
                texts
                    .iter()
                    .map(|(key, value)| (key.as_str(), value.as_slice())),
            )?;
        }
        self.builder
            .append_data(&mut header, path_of(path), contents.1)
    }

    fn append_link(
        &mut self,
        tree: &Tree,
        number: Number,
        path: &[u8],
        kind: EntryType,
        target: &[u8],
    ) -> io::Result<()> {
        let mut header = header(&tree.inode(number).attributes, kind);
        header.set_size(0);
        self.builder
            .append_link(&mut header, path_of(path), path_of(target))
    }
}

fn header(attributes: &Attributes, kind: EntryType) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(attributes.permissions.into());
    header.set_uid(attributes.user.into());
    header.set_gid(attributes.group.into());
    header.set_mtime(attributes.modified);
    header
}

fn path_of(path: &[u8]) -> &Path {
    use std::os::unix::ffi::OsStrExt;
    match path {
        b"" => Path::new(ROOT),
        path => Path::new(std::ffi::OsStr::from_bytes(path)),
    }
}

impl<W: Write> Target for ToArchive<W> {
    fn wants_to_know(&self) -> bool {
        true
    }

    fn entry(&mut self, tree: &Tree, number: Number, path: &[u8]) -> io::Result<()> {
        match &tree.inode(number).body {
            Body::Directory(_) => self.append(
                tree,
                number,
                path,
                EntryType::Directory,
                (0, &mut io::empty()),
            ),
            // Its other names follow at the end, as those of files do.
            Body::Symlink(_) if self.written.contains_key(&number) => Ok(()),
            Body::Symlink(target) => {
                if tree.inode(number).links > 1 {
                    self.written.insert(number, path.to_vec());
                }
                self.append_link(tree, number, path, EntryType::Symlink, target)
            }
            Body::File => Ok(()),
        }
    }

    fn file(
        &mut self,
        tree: &Tree,
        number: Number,
        path: &[u8],
        length: u64,
        contents: &mut dyn Read,
    ) -> io::Result<()> {
        self.append(tree, number, path, EntryType::Regular, (length, contents))?;
        self.written.insert(number, path.to_vec());
        Ok(())
    }

    fn finish(&mut self, tree: &Tree) -> io::Result<()> {
        let mut links = Vec::new();
        tree.walk_all(&mut |number, path| {
            if let Some(first) = self.written.get(&number).filter(|first| *first != path) {
                links.push((number, path.to_vec(), first.clone()));
            }
            Ok(())
        })?;
        for (number, path, first) in links {
            self.append_link(tree, number, &path, EntryType::Link, &first)?;
        }
        self.builder.finish()
    }
}
