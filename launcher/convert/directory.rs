//! Directory trees.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::plan::mounts::APT_CONFIG;

use super::member::{Attributes, Kind, Member, Source, Visitor, Xattr};

/// A directory with everything below it.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    is_overlay: bool,
}

/// What overlayfs notes in attributes of its own, in a user namespace: kernel.org, filesystems/overlayfs.
const OVERLAY: &[u8] = b"user.overlay.";
const OPAQUE: &[u8] = b"user.overlay.opaque";

impl Directory {
    /// The tree at `path`.
    pub fn new(path: &Path) -> Directory {
        Directory {
            path: path.into(),
            is_overlay: false,
        }
    }

    /// The changes that an overlay keeps at `path`: a device 0:0 takes a name away, and an attribute of a directory
    /// says that the one below it does not show through.
    pub fn changes(path: &Path) -> Directory {
        Directory {
            path: path.into(),
            is_overlay: true,
        }
    }

    /// Translates a member of an overlay's changes, of which some are for the overlay alone.
    fn visit_change(
        &self,
        mut member: Member,
        device: u64,
        contents: &mut dyn Read,
        visit: &mut Visitor<'_>,
    ) -> io::Result<()> {
        if member.path == APT_CONFIG.trim_start_matches('/').as_bytes() {
            // A mount point of Chariot's own.
            return Ok(());
        }
        if member.kind == Kind::Special && device == 0 {
            member.kind = Kind::Whiteout;
        }
        let is_opaque = |(name, value): &Xattr| name == OPAQUE && value == b"y";
        let opaque = member
            .attributes
            .xattrs
            .iter()
            .any(is_opaque)
            .then(|| Member {
                kind: Kind::Opaque,
                ..member.clone()
            });
        let xattrs = &mut member.attributes.xattrs;
        xattrs.retain(|(name, _)| !name.starts_with(OVERLAY));
        visit(member, contents)?;
        opaque.map_or(Ok(()), |opaque| visit(opaque, &mut io::empty()))
    }

    fn visit_one(
        &self,
        full: &Path,
        path: &Path,
        data: &Metadata,
        seen: &mut Seen,
        visit: &mut Visitor<'_>,
    ) -> io::Result<()> {
        let what = |error: io::Error| named(full, &error);
        let member = member(full, path, data, seen).map_err(what)?;
        let mut file = match member.kind {
            Kind::File => Some(File::open(full).map_err(what)?),
            _ => None,
        };
        let mut nothing = io::empty();
        let contents = match &mut file {
            Some(file) => file as &mut dyn Read,
            None => &mut nothing,
        };
        match self.is_overlay {
            true => self.visit_change(member, data.rdev(), contents, visit),
            false => visit(member, contents),
        }
        .map_err(what)
    }
}

/// Names of files that have several, by device and inode.
type Seen = HashMap<(u64, u64), Vec<u8>>;

impl Source for Directory {
    fn each(&self, visit: &mut Visitor<'_>) -> io::Result<()> {
        let mut seen = Seen::new();
        let mut left = vec![PathBuf::new()];
        let data = self.path.metadata()?;
        self.visit_one(&self.path, Path::new(""), &data, &mut seen, visit)?;
        while let Some(directory) = left.pop() {
            let here = self.path.join(&directory);
            let entries = fs::read_dir(&here).map_err(|error| named(&here, &error))?;
            let mut names = entries
                .map(|entry| Ok(entry?.file_name()))
                .collect::<io::Result<Vec<_>>>()?;
            // The same tree gives the same image.
            names.sort();
            for name in names {
                let path = directory.join(&name);
                let full = self.path.join(&path);
                let data = fs::symlink_metadata(&full).map_err(|error| named(&full, &error))?;
                self.visit_one(&full, &path, &data, &mut seen, visit)?;
                if data.is_dir() {
                    left.push(path);
                }
            }
        }
        Ok(())
    }
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    let reason = crate::error::io_reason(error);
    io::Error::new(error.kind(), format!("{}: {reason}", path.display()))
}

fn member(full: &Path, path: &Path, data: &Metadata, seen: &mut Seen) -> io::Result<Member> {
    let path = path.as_os_str().as_bytes().to_vec();
    let kind = data.file_type();
    let identity = (data.dev(), data.ino());
    let earlier = seen
        .get(&identity)
        .filter(|_| data.nlink() > 1 && !kind.is_dir());
    let member_kind = if let Some(earlier) = earlier {
        Kind::Link(earlier.clone())
    } else if kind.is_dir() {
        Kind::Directory
    } else if kind.is_symlink() {
        Kind::Symlink(full.read_link()?.into_os_string().into_vec())
    } else if kind.is_file() {
        Kind::File
    } else {
        debug_assert!(
            kind.is_fifo() || kind.is_socket() || kind.is_char_device() || kind.is_block_device()
        );
        Kind::Special
    };
    if data.nlink() > 1 && !kind.is_dir() {
        seen.entry(identity).or_insert_with(|| path.clone());
    }
    Ok(Member {
        path,
        length: data.len(),
        attributes: Attributes {
            permissions: u16::try_from(data.mode() & 0o7777).unwrap_or_default(),
            user: data.uid(),
            group: data.gid(),
            modified: data.mtime().try_into().unwrap_or_default(),
            xattrs: xattrs(full),
        },
        kind: member_kind,
    })
}

/// Extended attributes, where the file system has any.
fn xattrs(path: &Path) -> Vec<Xattr> {
    let mut names = vec![0; 64 << 10];
    let Ok(count) = rustix::fs::llistxattr(path, &mut names) else {
        return Vec::new();
    };
    let names = names[..count]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty());
    let mut value = vec![0; 64 << 10];
    names
        .filter_map(|name| {
            let count = rustix::fs::lgetxattr(path, OsStr::from_bytes(name), &mut value).ok()?;
            Some((name.to_vec(), value[..count].to_vec()))
        })
        .collect()
}
