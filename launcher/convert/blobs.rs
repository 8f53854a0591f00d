//! Where the files of an image in layers lie: in a directory, or in a tar archive. Their names are an image's own
//! choice, so what is opened may be anything.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use tar::{Archive as Tar, EntryType};

use super::archive;
use super::compression::{decompressed, is_compressed};
use super::kind::{self, Evidence};
use super::names::split;
use super::ration::{Ration, Rationed};
use super::sparse::Dense;
use crate::oci::{self, Digest};
use chariot_core::error::innermost;
use chariot_core::open;

/// The most members of an archive of layers; each layer has three at most.
const MOST_MEMBERS: usize = 10_000;

/// How many links lead from one name in an archive to another.
const MOST_LINKS: usize = 40;

/// Where the files of an image are.
#[derive(Debug)]
pub(super) enum Blobs {
    /// In a directory, where blobs are called so.
    Directory(PathBuf, Naming),
    /// In a tar archive: where each member's contents begin, and their length.
    Archive(File, HashMap<Vec<u8>, Found>),
}

/// How blobs are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Naming {
    /// `blobs/sha256/HEX`, as the image specification has it.
    Layout,
    /// `HEX` beside `manifest.json`, as skopeo's `dir:` has it.
    Flat,
}

/// What an archive has under a name.
#[derive(Debug)]
pub(super) enum Found {
    /// Contents that begin there and are so long.
    Contents(u64, u64),
    /// Contents that lie there with holes, and here without.
    Written(File, u64),
    /// The same as under another name.
    Link(Vec<u8>),
}

/// An archive that has been looked through.
#[derive(Debug)]
pub(super) struct Listed {
    /// Its files.
    pub(super) place: Blobs,
    /// The archive, uncompressed.
    pub(super) plain: File,
    /// Whether it holds something that only a file system does.
    pub(super) is_file_system: bool,
}

/// Looks through an archive; a compressed one is written out first, into `scratch`. If it `is_image` for sure, all
/// of it is read; else only until it is clear that it is none.
pub(super) fn list(
    file: File,
    scratch: &dyn Fn() -> PathBuf,
    most: u64,
    is_image: bool,
) -> io::Result<Listed> {
    let mut start = [0; 512];
    let count = file.read_at(&mut start, 0)?;
    let plain = match is_compressed(&start[..count]) {
        true => write_out(FromStart(file, 0), &scratch(), most)?,
        false => file,
    };
    let mut members = HashMap::new();
    let mut is_file_system = false;
    let ration = Ration::default();
    let mut archive = Tar::new(Rationed::new(FromStart(plain.try_clone()?, 0), &ration));
    let mut entries = archive.entries_with_seek()?;
    loop {
        ration.headers();
        let Some(entry) = entries.next() else { break };
        let mut entry = entry.map_err(archive::unreadable)?;
        ration.contents();
        let mut path = entry.path_bytes().into_owned();
        let kind = entry.header().entry_type();
        is_file_system |= kind::evidence(&path, kind) == Evidence::FileSystem;
        // So many files have no image, but a file system may.
        is_file_system |= !is_image && members.len() > MOST_MEMBERS;
        if is_file_system && !is_image {
            break;
        }
        if members.len() > MOST_MEMBERS {
            return Err(io::Error::other("it has too many files for an image"));
        }
        let found = match kind {
            EntryType::Link => {
                Found::Link(plain_name(&entry.link_name_bytes().unwrap_or_default()))
            }
            EntryType::Symlink => {
                let target = entry.link_name_bytes().unwrap_or_default();
                Found::Link(beside(&plain_name(&path), &target))
            }
            _ => {
                let (name, found) = contents(&mut entry, scratch, most)?;
                path = name;
                found
            }
        };
        members.insert(plain_name(&path), found);
    }
    Ok(Listed {
        place: Blobs::Archive(plain.try_clone()?, members),
        plain,
        is_file_system,
    })
}

/// What a member is called, and where its contents lie. Those of a sparse file are not all there, and are written out.
fn contents<R: Read>(
    entry: &mut tar::Entry<'_, R>,
    scratch: &dyn Fn() -> PathBuf,
    most: u64,
) -> io::Result<(Vec<u8>, Found)> {
    let (member, map) = archive::member(entry)?;
    let is_sparse = map.is_some() || entry.header().entry_type() == EntryType::GNUSparse;
    if !is_sparse {
        let found = Found::Contents(entry.raw_file_position(), entry.size());
        return Ok((member.path, found));
    }
    let mut file = tempfile::tempfile_in(scratch())?;
    let count = match map {
        None => io::copy(&mut entry.take(most), &mut file)?,
        Some(map) => {
            let map = map.read(entry)?;
            io::copy(
                &mut Dense::new(entry, map, member.length).take(most),
                &mut file,
            )?
        }
    };
    Ok((member.path, Found::Written(file, count)))
}

/// A name without what means nothing in it.
fn plain_name(path: &[u8]) -> Vec<u8> {
    split(path).collect::<Vec<_>>().join(&b'/')
}

/// The name that a symbolic link beside `name` means.
fn beside(name: &[u8], target: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = match target.first() {
        Some(b'/') => Vec::new(),
        _ => split(name).collect(),
    };
    parts.pop();
    for part in split(target) {
        match part {
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join(&b'/')
}

impl Blobs {
    /// A file of the image: where it begins and how long it is.
    pub(super) fn open(&self, name: &str) -> io::Result<(File, u64, u64)> {
        match self {
            Blobs::Directory(directory, _) => {
                let file = open::regular(&directory.join(name))?;
                let length = file.metadata()?.len();
                Ok((file, 0, length))
            }
            Blobs::Archive(file, members) => {
                let missing = || io::Error::from(io::ErrorKind::NotFound);
                let mut name = plain_name(name.as_bytes());
                for _ in 0..MOST_LINKS {
                    match members.get(&name).ok_or_else(missing)? {
                        Found::Contents(start, length) => {
                            let end = start.checked_add(*length);
                            let is_there = file.metadata()?.len() >= end.unwrap_or(u64::MAX);
                            return match is_there {
                                true => Ok((file.try_clone()?, *start, *length)),
                                false => Err(io::Error::new(
                                    io::ErrorKind::UnexpectedEof,
                                    "the archive ends before it does",
                                )),
                            };
                        }
                        Found::Written(file, length) => return Ok((file.try_clone()?, 0, *length)),
                        Found::Link(target) => name.clone_from(target),
                    }
                }
                Err(missing())
            }
        }
    }

    /// A blob, with its name.
    pub(super) fn blob(&self, digest: &Digest) -> (String, io::Result<(File, u64, u64)>) {
        let Blobs::Directory(_, Naming::Flat) = self else {
            let name = oci::blob(digest);
            let opened = self.open(&name);
            return (name, opened);
        };
        // Lists name manifests, which have an ending of their own; another algorithm's name is in front.
        let hex = digest.hex();
        let names = [
            hex.to_owned(),
            format!("{hex}.manifest.json"),
            format!("{}-{hex}", digest.algorithm()),
            format!("{}-{hex}.manifest.json", digest.algorithm()),
        ];
        for name in names {
            match self.open(&name) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                opened => return (name, opened),
            }
        }
        (hex.to_owned(), Err(io::ErrorKind::NotFound.into()))
    }

    /// Where a file of the image lies, unless that is in an archive.
    pub(super) fn path(&self, name: &str) -> Option<PathBuf> {
        match self {
            Blobs::Directory(directory, _) => Some(directory.join(name)),
            Blobs::Archive(..) => None,
        }
    }

    /// A document.
    pub(super) fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        contents_of(self.open(name)?)
    }

    /// Whether it has a file of this name, readable or not.
    pub(super) fn has(&self, name: &str) -> bool {
        !matches!(self.open(name), Err(error) if error.kind() == io::ErrorKind::NotFound)
    }

    /// Whether it has layers by the names of its files.
    pub(super) fn has_layers(&self) -> bool {
        match self {
            Blobs::Directory(..) => false,
            Blobs::Archive(_, members) => members.keys().any(|name| kind::is_of_a_layer(name)),
        }
    }
}

/// The contents of an opened document.
pub(super) fn contents_of((file, start, length): (File, u64, u64)) -> io::Result<Vec<u8>> {
    if length > oci::LARGEST {
        return Err(io::Error::other("it is too large"));
    }
    let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
    file.read_exact_at(&mut bytes, start)?;
    Ok(bytes)
}

/// Writes a compressed archive out, so that its members can be found.
fn write_out(file: FromStart, scratch: &Path, most: u64) -> io::Result<File> {
    let full = |error: io::Error| match error.raw_os_error() {
        Some(_) => io::Error::new(
            error.kind(),
            format!(
                "can't write to {}: {}",
                scratch.display(),
                innermost(&error)
            ),
        ),
        None => error,
    };
    let mut plain = tempfile::tempfile_in(scratch).map_err(full)?;
    let count = io::copy(&mut decompressed(file)?.take(most), &mut plain).map_err(full)?;
    match count < most {
        true => Ok(plain),
        false => Err(io::Error::other(format!(
            "it is larger than {most} bytes uncompressed"
        ))),
    }
}

/// Reads a file from its start, whatever others have read of it.
#[derive(Debug)]
pub(super) struct FromStart(pub(super) File, pub(super) u64);

impl Read for FromStart {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.0.read_at(buffer, self.1)?;
        self.1 += count as u64;
        Ok(count)
    }
}

impl Seek for FromStart {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.1.checked_add_signed(by),
            SeekFrom::End(by) => self.0.metadata()?.len().checked_add_signed(by),
        };
        self.1 = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_in_an_archive_lead_where_they_would_in_a_directory() {
        for (name, target, expected) in [
            ("a/layer.tar", "../b/layer.tar", "b/layer.tar"),
            ("a/layer.tar", "/b/layer.tar", "b/layer.tar"),
            ("layer.tar", "./other.tar", "other.tar"),
            ("a/b/c", "../../../d", "d"),
        ] {
            let found = beside(name.as_bytes(), target.as_bytes());
            assert_eq!(String::from_utf8(found).unwrap(), expected, "{name}");
        }
    }
}
