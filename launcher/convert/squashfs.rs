//! SquashFS images as a source.

use std::collections::HashMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::NotRead;
use super::member::{Attributes, Kind, Member, Source, Visitor};
use crate::image::squashfs::{self, Damage, Inode, Position, SquashFs};

/// A SquashFS image, in a file of its own or in a SIF file.
#[derive(Debug)]
pub struct Image {
    image: Arc<SquashFs>,
    /// Only to be told.
    path: PathBuf,
}

/// Directories that are deeper than an image may have them are a circle of a damaged one.
const DEEPEST: usize = super::names::DEEPEST;

impl Source for Image {
    fn each(&self, visit: &mut Visitor<'_>) -> io::Result<()> {
        let image = &self.image;
        let damaged = |damage| self.damaged(damage);
        let mut seen = HashMap::new();
        let root = image.root().map_err(damaged)?;
        visit(self.member(&root, Vec::new())?, &mut io::empty())?;
        let mut left = vec![(root, Vec::new(), 0)];
        while let Some((directory, path, depth)) = left.pop() {
            if depth > DEEPEST {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "directories contain each other",
                ));
            }
            for entry in image
                .entries(&directory, Position::default())
                .map_err(damaged)?
            {
                let entry = entry.map_err(damaged)?;
                let inode = image.inode_of(&entry).map_err(damaged)?;
                let mut own = path.clone();
                own.push(b'/');
                own.extend(&entry.name);
                let mut member = self.member(&inode, own.clone())?;
                if inode.links > 1 && inode.kind != squashfs::Kind::Directory {
                    match seen.get(&inode.number) {
                        Some(earlier) => member.kind = Kind::Link(Vec::clone(earlier)),
                        None => drop(seen.insert(inode.number, own.clone())),
                    }
                }
                let mut contents = Contents {
                    source: self,
                    inode: &inode,
                    at: 0,
                };
                visit(member, &mut contents)?;
                if inode.kind == squashfs::Kind::Directory {
                    left.push((inode, own, depth + 1));
                }
            }
        }
        Ok(())
    }
}

impl Image {
    /// `path` is where it lies.
    pub fn new(image: Arc<SquashFs>, path: &Path) -> Image {
        let path = path.to_owned();
        Image { image, path }
    }

    fn damaged(&self, damage: Damage) -> io::Error {
        let path = self.path.display();
        let reason = damage.errno.map(|errno| format!(": {}", errno.desc()));
        let text = format!("can't read {path}: {damage}{}", reason.unwrap_or_default());
        let advice = damage.advice;
        io::Error::new(io::ErrorKind::InvalidData, NotRead { text, advice })
    }

    fn member(&self, inode: &Inode, path: Vec<u8>) -> io::Result<Member> {
        let damaged = |damage| self.damaged(damage);
        let (user, group) = self.image.owner(inode).map_err(damaged)?;
        let kind = match inode.kind {
            squashfs::Kind::Directory => Kind::Directory,
            squashfs::Kind::File => Kind::File,
            squashfs::Kind::Symlink => Kind::Symlink(self.image.target(inode).map_err(damaged)?),
            squashfs::Kind::Fifo => Kind::Fifo,
            squashfs::Kind::Socket => Kind::Socket,
            _ => Kind::Special,
        };
        Ok(Member {
            path,
            kind,
            length: inode.size,
            attributes: Attributes {
                permissions: inode.permissions,
                user,
                group,
                modified: inode.modified.into(),
                xattrs: self.image.xattrs(inode).map_err(damaged)?,
            },
        })
    }
}

/// The contents of a file.
struct Contents<'a> {
    source: &'a Image,
    inode: &'a Inode,
    at: u64,
}

impl Read for Contents<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.inode.kind != squashfs::Kind::File
            || self.at >= self.inode.size
            || buffer.is_empty()
        {
            return Ok(0);
        }
        let piece = self.source.image.piece(self.inode, self.at);
        let piece = piece.map_err(|damage| self.source.damaged(damage))?;
        let count = piece.len().min(buffer.len());
        match piece.bytes() {
            Some(bytes) => buffer[..count].copy_from_slice(&bytes[..count]),
            None => buffer[..count].fill(0),
        }
        self.at += count as u64;
        Ok(count)
    }
}
