//! Directory trees.

use std::collections::{HashMap, hash_map};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, fstat, openat, readlinkat, statat};

use crate::files::open;
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
const WHITEOUT: &[u8] = b"user.overlay.whiteout";
const ELSEWHERE: [&[u8]; 2] = [b"user.overlay.redirect", b"user.overlay.metacopy"];

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
        takes_away: bool,
        contents: &mut dyn Read,
        visit: &mut Visitor<'_>,
    ) -> io::Result<()> {
        if member.path == APT_CONFIG.trim_start_matches('/').as_bytes() {
            // A mount point of Chariot's own.
            return Ok(());
        }
        let xattrs = &mut member.attributes.xattrs;
        refuse_elsewhere(xattrs)?;
        let has = |wanted: &[u8], set: &[u8]| {
            let mut own = xattrs.iter();
            own.any(|(name, value)| name == wanted && (set.is_empty() || value == set))
        };
        let is_opaque = member.kind == Kind::Directory && has(OPAQUE, b"y");
        if takes_away || member.kind == Kind::File && member.length == 0 && has(WHITEOUT, b"") {
            member.kind = Kind::Whiteout;
        }
        xattrs.retain(|(name, _)| !name.starts_with(OVERLAY));
        let opaque = is_opaque.then(|| Member {
            kind: Kind::Opaque,
            ..member.clone()
        });
        visit(member, contents)?;
        opaque.map_or(Ok(()), |opaque| visit(opaque, &mut io::empty()))
    }

    fn visit_one(
        &self,
        level: &Level,
        name: &OsStr,
        seen: &mut Seen,
        visit: &mut Visitor<'_>,
    ) -> io::Result<Option<Level>> {
        let path = level.path_of(name);
        let what = |error: io::Error| named(&self.path.join(OsStr::from_bytes(&path)), &error);
        let entry = Entry::look(level, name).map_err(what)?;
        let member = entry.member(path.clone(), seen);
        let takes_away = self.is_overlay && entry.is_whiteout();
        let mut nothing = io::empty();
        let mut file = entry.file.as_ref();
        let contents = match &mut file {
            Some(file) if member.kind == Kind::File => file as &mut dyn Read,
            _ => &mut nothing,
        };
        match self.is_overlay {
            true => self.visit_change(member, takes_away, contents, visit),
            false => visit(member, contents),
        }
        .map_err(what)?;
        match entry.kind {
            FileType::Directory => Level::of(entry, path.clone()).map(Some).map_err(what),
            _ => Ok(None),
        }
    }
}

/// An overlay can have a file's contents, or a directory's, under another name of the layer below: those that Chariot
/// mounts never do, and here would be something else in their place.
fn refuse_elsewhere(xattrs: &[Xattr]) -> io::Result<()> {
    match xattrs
        .iter()
        .any(|(name, _)| ELSEWHERE.contains(&name.as_slice()))
    {
        true => Err(io::Error::other(
            "another program's overlay keeps its contents in the layer below, under another name",
        )),
        false => Ok(()),
    }
}

/// Names of files that have several, by device and inode.
type Seen = HashMap<(u64, u64), Vec<u8>>;

/// A directory that is being read. So few of them are open at a time that it may be as deep as it likes; the rest are
/// opened again by their last component, and have to be the same.
struct Level {
    path: Vec<u8>,
    directory: Option<OwnedFd>,
    identity: (u64, u64),
    /// What is left of it, the first name last.
    left: Vec<OsString>,
}

/// How many directories above the one that is read stay open.
const OPEN: usize = 16;

impl Level {
    fn of(entry: Entry, path: Vec<u8>) -> io::Result<Level> {
        let directory = entry
            .file
            .map(OwnedFd::from)
            .ok_or(io::ErrorKind::NotADirectory)?;
        let mut left = Vec::new();
        for name in Dir::read_from(&directory)? {
            let name = OsStr::from_bytes(name?.file_name().to_bytes()).to_owned();
            if name != "." && name != ".." {
                left.push(name);
            }
        }
        // The same tree gives the same image.
        left.sort_by(|a, b| b.cmp(a));
        Ok(Level {
            path,
            directory: Some(directory),
            identity: (entry.data.st_dev, entry.data.st_ino),
            left,
        })
    }

    fn path_of(&self, name: &OsStr) -> Vec<u8> {
        match self.path.is_empty() {
            true => name.as_bytes().to_vec(),
            false => [&self.path, name.as_bytes()].join(&b'/'),
        }
    }

    fn directory(&self) -> io::Result<&OwnedFd> {
        self.directory
            .as_ref()
            .ok_or_else(|| io::Error::other("it is closed"))
    }

    /// Opens it again, from one that is in it.
    fn open_from(&mut self, below: &Level) -> io::Result<()> {
        let above = openat(below.directory()?, "..", DIRECTORY, Mode::empty())?;
        let data = fstat(&above)?;
        if (data.st_dev, data.st_ino) != self.identity {
            return Err(io::Error::other("it was moved meanwhile"));
        }
        self.directory = Some(above);
        Ok(())
    }
}

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// What has a name in a directory. A file or a directory is open.
struct Entry {
    data: Stat,
    kind: FileType,
    file: Option<File>,
    target: Vec<u8>,
    xattrs: Vec<Xattr>,
}

impl Entry {
    fn look(level: &Level, name: &OsStr) -> io::Result<Entry> {
        let directory = level.directory()?;
        let data = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let mut entry = Entry {
            kind: FileType::from_raw_mode(data.st_mode),
            data,
            file: None,
            target: Vec::new(),
            xattrs: Vec::new(),
        };
        match entry.kind {
            FileType::Directory => {
                let opened = openat(directory, name, DIRECTORY, Mode::empty())?;
                entry.opened(opened)?;
            }
            FileType::RegularFile => {
                let (file, _) = open::regular_at(directory, Path::new(name))?;
                entry.opened(file.into())?;
            }
            FileType::Symlink => {
                entry.target = readlinkat(directory, name, Vec::new())?.into_bytes();
            }
            _ => {}
        }
        Ok(entry)
    }

    fn opened(&mut self, file: OwnedFd) -> io::Result<()> {
        let data = fstat(&file)?;
        if (data.st_dev, data.st_ino) != (self.data.st_dev, self.data.st_ino) {
            return Err(io::Error::other("something else has its name by now"));
        }
        self.data = data;
        self.xattrs = xattrs(&file);
        self.file = Some(File::from(file));
        Ok(())
    }

    /// Whether it is what an overlay takes a name away by. All of them are names of one device.
    fn is_whiteout(&self) -> bool {
        self.kind == FileType::CharacterDevice && self.data.st_rdev == 0
    }

    fn member(&self, path: Vec<u8>, seen: &mut Seen) -> Member {
        let data = &self.data;
        let kind = match self.kind {
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::Symlink(self.target.clone()),
            FileType::RegularFile => Kind::File,
            _ => Kind::Special,
        };
        let has_names = data.st_nlink > 1 && matches!(kind, Kind::File | Kind::Symlink(_));
        let earlier = match has_names {
            true => match seen.entry((data.st_dev, data.st_ino)) {
                hash_map::Entry::Occupied(earlier) => Some(earlier.get().clone()),
                hash_map::Entry::Vacant(first) => {
                    first.insert(path.clone());
                    None
                }
            },
            false => None,
        };
        Member {
            path,
            length: u64::try_from(data.st_size).unwrap_or(0),
            attributes: Attributes {
                permissions: u16::try_from(data.st_mode & 0o7777).unwrap_or_default(),
                user: data.st_uid,
                group: data.st_gid,
                modified: data.st_mtime.try_into().unwrap_or_default(),
                xattrs: self.xattrs.clone(),
            },
            kind: earlier.map_or(kind, Kind::Link),
        }
    }
}

impl Source for Directory {
    fn each(&self, visit: &mut Visitor<'_>) -> io::Result<()> {
        let mut seen = Seen::new();
        let what = |error: io::Error| named(&self.path, &error);
        let flags = DIRECTORY.difference(OFlags::NOFOLLOW);
        let opened = rustix::fs::open(&self.path, flags, Mode::empty()).map_err(io::Error::from);
        let top = opened.and_then(|directory| {
            let data = fstat(&directory)?;
            Ok(Entry {
                data,
                kind: FileType::Directory,
                xattrs: xattrs(&directory),
                file: Some(directory.into()),
                target: Vec::new(),
            })
        });
        let top = top.map_err(what)?;
        let member = top.member(Vec::new(), &mut seen);
        match self.is_overlay {
            true => self.visit_change(member, false, &mut io::empty(), visit),
            false => visit(member, &mut io::empty()),
        }
        .map_err(what)?;
        let mut levels = vec![Level::of(top, Vec::new()).map_err(what)?];
        while let Some(level) = levels.last_mut() {
            let Some(name) = level.left.pop() else {
                let below = levels.pop();
                if let (Some(above), Some(below)) = (levels.last_mut(), below)
                    && above.directory.is_none()
                {
                    above.open_from(&below).map_err(what)?;
                }
                continue;
            };
            if let Some(below) = self.visit_one(level, &name, &mut seen, visit)? {
                levels.push(below);
                if let Some(far) = levels.len().checked_sub(OPEN) {
                    levels[far].directory = None;
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

/// Extended attributes, where the file system has any.
fn xattrs(file: impl AsFd) -> Vec<Xattr> {
    let mut names = vec![0; 64 << 10];
    let Ok(count) = rustix::fs::flistxattr(&file, &mut names) else {
        return Vec::new();
    };
    let names = names[..count]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty());
    let mut value = vec![0; 64 << 10];
    names
        .filter_map(|name| {
            let count = rustix::fs::fgetxattr(&file, OsStr::from_bytes(name), &mut value).ok()?;
            Some((name.to_vec(), value[..count].to_vec()))
        })
        .collect()
}

#[cfg(test)]
#[path = "directory/tests.rs"]
mod tests;
