//! Directory trees. They are read by descriptors: paths in them can be longer than the kernel takes, and what is opened
//! is what was looked at.

mod changes;

use std::collections::HashMap;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, openat, readlinkat, statat};

use super::member::{Attributes, Kind, Member, Source, Visitor, Xattr};
use crate::files::paths::Paths;
use changes::Change;
use chariot_core::open;

/// A directory with everything below it.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    is_overlay: bool,
}

/// What is listed at first opens no device and waits for no FIFO's other end.
const CAREFULLY: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

impl Directory {
    /// The tree at `path`.
    pub fn new(path: &Path) -> Directory {
        Directory {
            path: path.into(),
            is_overlay: false,
        }
    }

    /// The changes that an overlay keeps at `path`.
    pub fn changes(path: &Path) -> Directory {
        Directory {
            path: path.into(),
            is_overlay: true,
        }
    }

    /// Puts the path, as the user knows it, in front of what is wrong there.
    fn named(&self, path: &[u8], error: &io::Error) -> io::Error {
        let reason = chariot_core::error::io_reason(error);
        let full = match path {
            b"" => self.path.clone(),
            path => self.path.join(OsStr::from_bytes(path)),
        };
        let full = super::shown(full.as_os_str().as_bytes());
        io::Error::new(error.kind(), format!("{full}: {reason}"))
    }

    fn visit_all(&self, visit: &mut Visitor<'_>) -> io::Result<()> {
        let root = open::directory(&self.path).map_err(|error| self.named(b"", &error))?;
        let mut walk = Walk {
            below: Paths::new(root),
            is_overlay: self.is_overlay,
            seen: Seen::new(),
        };
        let root = walk.below.root().try_clone_to_owned()?;
        let what = |error: io::Error| self.named(b"", &error);
        let data = rustix::fs::fstat(&root).map_err(|errno| what(errno.into()))?;
        let top = walk.directory(Vec::new(), &data, &root).map_err(what)?;
        let mut left = vec![(Vec::new(), top.has_whiteouts)];
        top.visit(visit, &mut io::empty()).map_err(what)?;
        while let Some((directory, has_whiteouts)) = left.pop() {
            let what = |error: io::Error| self.named(&directory, &error);
            let here = walk
                .below
                .open(&directory, CAREFULLY | OFlags::DIRECTORY)
                .map_err(what)?;
            for name in names(&here).map_err(what)? {
                let path = joined(&directory, name.as_bytes());
                let what = |error: io::Error| self.named(&path, &error);
                let (change, file) = walk
                    .entry(&here, &name, &path, has_whiteouts)
                    .map_err(what)?;
                if change.is_directory() {
                    left.push((path.clone(), change.has_whiteouts));
                }
                let mut contents = Contents {
                    left: change.length(),
                    file,
                };
                change.visit(visit, &mut contents).map_err(what)?;
            }
        }
        Ok(())
    }
}

impl Source for Directory {
    fn each(&self, visit: &mut Visitor<'_>) -> io::Result<()> {
        self.visit_all(visit)
    }
}

/// The same tree gives the same image, in whatever order it is listed.
pub(super) fn names(directory: &OwnedFd) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let name = entry?.file_name().to_owned();
        if !matches!(name.as_bytes(), b"." | b"..") {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

pub(super) fn joined(directory: &[u8], name: &[u8]) -> Vec<u8> {
    match directory {
        b"" => name.to_vec(),
        directory => [directory, name].join(&b'/'),
    }
}

/// Names of files that have several, by device and inode.
type Seen = HashMap<(u64, u64), Vec<u8>>;

struct Walk {
    below: Paths,
    is_overlay: bool,
    seen: Seen,
}

impl Walk {
    fn directory(&mut self, path: Vec<u8>, data: &Stat, file: &OwnedFd) -> io::Result<Change> {
        self.change(
            member(path, Kind::Directory, data, xattrs(file)),
            data,
            true,
        )
    }

    /// One entry of a directory, with its contents if it is a file.
    fn entry(
        &mut self,
        here: &OwnedFd,
        name: &CString,
        path: &[u8],
        has_whiteouts: bool,
    ) -> io::Result<(Change, Option<File>)> {
        let data = statat(here, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = match FileType::from_raw_mode(data.st_mode) {
            FileType::Directory | FileType::RegularFile => {
                return self.opened(here, name, path, has_whiteouts);
            }
            FileType::Symlink => Kind::Symlink(readlinkat(here, name, Vec::new())?.into_bytes()),
            FileType::Fifo => Kind::Fifo,
            FileType::Socket => Kind::Socket,
            _ => Kind::Special,
        };
        let change = self.change(
            member(path.to_vec(), kind, &data, Vec::new()),
            &data,
            has_whiteouts,
        )?;
        Ok((change, None))
    }

    /// A file or a directory, told by what was opened and not by what was listed.
    fn opened(
        &mut self,
        here: &OwnedFd,
        name: &CString,
        path: &[u8],
        has_whiteouts: bool,
    ) -> io::Result<(Change, Option<File>)> {
        let file = openat(here, name, CAREFULLY, Mode::empty())?;
        let data = rustix::fs::fstat(&file)?;
        match FileType::from_raw_mode(data.st_mode) {
            FileType::Directory => Ok((self.directory(path.to_vec(), &data, &file)?, None)),
            FileType::RegularFile => {
                let member = member(path.to_vec(), Kind::File, &data, xattrs(&file));
                let change = self.change(member, &data, has_whiteouts)?;
                Ok((change, Some(file.into())))
            }
            _ => Err(io::Error::other("it changed while it was read")),
        }
    }

    /// What a member is for the image, and which earlier name it is another of.
    fn change(&mut self, member: Member, data: &Stat, has_whiteouts: bool) -> io::Result<Change> {
        let mut change = match self.is_overlay {
            true => Change::of_overlay(member, data.st_rdev, has_whiteouts)?,
            false => Change::plain(member),
        };
        // An overlay's whiteouts are all names of one device, and each is a whiteout.
        let has_names = data.st_nlink > 1 && change.can_have_names();
        if has_names {
            let identity = (data.st_dev, data.st_ino);
            match self.seen.get(&identity) {
                Some(earlier) => change.member.kind = Kind::Link(earlier.clone()),
                None => drop(self.seen.insert(identity, change.member.path.clone())),
            }
        }
        Ok(change)
    }
}

fn member(path: Vec<u8>, kind: Kind, data: &Stat, xattrs: Vec<Xattr>) -> Member {
    Member {
        path,
        kind,
        length: u64::try_from(data.st_size).unwrap_or_default(),
        attributes: Attributes {
            permissions: u16::try_from(data.st_mode & 0o7777).unwrap_or_default(),
            user: data.st_uid,
            group: data.st_gid,
            // What is older than 1970 is as old as 1970: SquashFS has no number for it.
            modified: u64::try_from(data.st_mtime).unwrap_or_default(),
            xattrs,
        },
    }
}

/// Extended attributes, where the file system has any.
fn xattrs(file: &OwnedFd) -> Vec<Xattr> {
    let mut names = vec![0; 64 << 10];
    let Ok(count) = rustix::fs::flistxattr(file, &mut names) else {
        return Vec::new();
    };
    let names = names[..count]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty());
    let mut value = vec![0; 64 << 10];
    names
        .filter_map(|name| {
            let name_of = OsStr::from_bytes(name);
            let count = rustix::fs::fgetxattr(file.as_fd(), name_of, &mut value).ok()?;
            Some((name.to_vec(), value[..count].to_vec()))
        })
        .collect()
}

/// The contents of a file, which somebody may be shortening.
struct Contents {
    left: u64,
    file: Option<File>,
}

impl Read for Contents {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(file) = self.file.as_mut().filter(|_| self.left > 0) else {
            return Ok(0);
        };
        let count = file.read(buffer)?;
        if count == 0 && !buffer.is_empty() {
            return Err(io::Error::other("it became shorter while it was read"));
        }
        self.left = self.left.saturating_sub(count as u64);
        Ok(count)
    }
}
