//! Tar archives: plain, or compressed by gzip, bzip2, xz or zstd, which is told by content.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest as _, Sha256};
use tar::{Archive as Tar, EntryType};

use super::member::{Attributes, Kind, Member, Source, Visitor};
use super::pipe;
use super::ration::{Ration, Rationed};
use super::sparse::{self, Dense};
use crate::oci::Digest;

/// In a PAX header: what follows is the name of an extended attribute.
const XATTR: &str = "SCHILY.xattr.";

/// How much is read of a source at a time, in bytes.
const CHUNK: usize = 1 << 18;

/// How much may follow the end of an archive, in bytes, uncompressed; tar(1) fills up to 10 KiB.
const PADDING: u64 = 64 << 20;

/// An archive in a stretch of a file.
#[derive(Debug)]
pub struct Archive {
    file: File,
    start: u64,
    length: u64,
    meter: Arc<AtomicU64>,
    /// What it has to be, compressed as it is.
    digest: Option<Digest>,
    is_verified: Cell<bool>,
}

impl Archive {
    /// The archive that lies in `length` bytes of a file from `start` on; a pipe has no length. `meter` counts
    /// what has been read.
    pub fn new(file: File, start: u64, length: Option<u64>, meter: Arc<AtomicU64>) -> Archive {
        Archive {
            file,
            start,
            length: length.unwrap_or(u64::MAX),
            meter,
            digest: None,
            is_verified: Cell::new(false),
        }
    }

    /// The same, which is good only if it has this digest.
    #[must_use]
    pub fn verified(mut self, digest: Digest) -> Archive {
        self.digest = Some(digest);
        self
    }

    /// What is in it, uncompressed.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn uncompressed(&self) -> io::Result<Box<dyn Read + Send>> {
        decompressed(self.stretch()?)
    }

    fn stretch(&self) -> io::Result<Stretch> {
        Ok(Stretch {
            file: self.file.try_clone()?,
            at: self.start,
            end: self.start.saturating_add(self.length),
            meter: Arc::clone(&self.meter),
        })
    }

    /// Whether it is what it has to be. It is read for that once more, mostly from memory: decompressors do not
    /// read to the end.
    fn verify(&self) -> io::Result<()> {
        let Some(expected) = self.digest.as_ref().filter(|_| !self.is_verified.get()) else {
            return Ok(());
        };
        let mut hash = Sha256::new();
        let unmetered = Stretch {
            meter: Arc::default(),
            ..self.stretch()?
        };
        io::copy(
            &mut BufReader::with_capacity(CHUNK, unmetered),
            &mut HashWriter(&mut hash),
        )?;
        match Digest::from_hash(&hash.finalize()) {
            found if found == *expected => {
                self.is_verified.set(true);
                Ok(())
            }
            found => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("the layer {expected} is damaged: its digest is {found}"),
            )),
        }
    }
}

/// Feeds a hash.
pub(crate) struct HashWriter<'a>(pub(crate) &'a mut Sha256);

impl io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Source for Archive {
    fn each(&self, visit: &mut Visitor<'_>) -> io::Result<()> {
        self.verify()?;
        // A second thread decompresses.
        pipe::through(self.uncompressed()?, |reader| each_member(reader, visit))
    }
}

fn each_member(reader: impl Read, visit: &mut Visitor<'_>) -> io::Result<()> {
    let ration = Ration::default();
    let mut archive = Tar::new(Rationed::new(reader, &ration));
    let mut entries = archive.entries()?;
    loop {
        ration.headers();
        let Some(entry) = entries.next() else { break };
        let mut entry = entry?;
        ration.contents();
        if entry.header().entry_type() != EntryType::XGlobalHeader {
            each_entry(&mut entry, visit)?;
        }
        // Whoever did not want it has not read it.
        io::copy(&mut entry, &mut io::sink())?;
    }
    // A decompressor finds damage at the end, behind what ends the archive.
    ration.contents();
    io::copy(&mut archive.into_inner().take(PADDING), &mut io::sink())?;
    Ok(())
}

fn each_entry<R: Read>(entry: &mut tar::Entry<'_, R>, visit: &mut Visitor<'_>) -> io::Result<()> {
    let (member, map) = member(entry)?;
    let path = String::from_utf8_lossy(&member.path).into_owned();
    let result = match map {
        None => visit(member, entry),
        Some(map) => {
            let map = match map {
                sparse::Map::Known(map) => map,
                sparse::Map::InFront => sparse::read_map(entry)?,
            };
            let length = member.length;
            visit(member, &mut Dense::new(entry, map, length))
        }
    };
    result.map_err(|error| within(&path, &error))
}

/// Puts a member's path in front of what is wrong with it.
fn within(path: &str, error: &io::Error) -> io::Error {
    let reason = crate::error::innermost(error);
    io::Error::new(error.kind(), format!("{path}: {reason}"))
}

/// What a header says, with the map of a sparse file in PAX's form.
fn member<R: Read>(entry: &mut tar::Entry<'_, R>) -> io::Result<(Member, Option<sparse::Map>)> {
    let mut path = entry.path_bytes().into_owned();
    let mut length = entry.size();
    let mut sparse = sparse::Header::default();
    let mut xattrs = Vec::new();
    if let Some(extensions) = entry.pax_extensions()? {
        for extension in extensions {
            let extension = extension?;
            // A key that is no text is none of those that are known.
            let Ok(key) = extension.key() else { continue };
            if let Some(name) = key.strip_prefix(XATTR) {
                xattrs.push((name.as_bytes().to_vec(), extension.value_bytes().to_vec()));
            } else {
                sparse.take(key, extension.value_bytes());
            }
        }
    }
    let map = sparse.map()?;
    if map.is_some() {
        length = sparse.length.unwrap_or(length);
        path = sparse.name.take().unwrap_or(path);
    }
    let header = entry.header();
    let target = || {
        entry
            .link_name_bytes()
            .map(|name| name.into_owned())
            .unwrap_or_default()
    };
    let kind = match header.entry_type() {
        EntryType::Directory => Kind::Directory,
        EntryType::Symlink => Kind::Symlink(target()),
        EntryType::Link => Kind::Link(target()),
        EntryType::Block | EntryType::Char => Kind::Special,
        EntryType::Fifo => Kind::Fifo,
        // Before POSIX, a directory was a file whose name ends in a slash.
        EntryType::Regular if path.ends_with(b"/") => Kind::Directory,
        _ => Kind::File,
    };
    let number = |number: io::Result<u64>| number.ok().and_then(|number| number.try_into().ok());
    let attributes = Attributes {
        permissions: u16::try_from(header.mode()? & 0o7777).unwrap_or_default(),
        user: number(header.uid()).unwrap_or_default(),
        group: number(header.gid()).unwrap_or_default(),
        modified: header.mtime().unwrap_or_default(),
        xattrs,
    };
    let member = Member {
        path,
        kind,
        length,
        attributes,
    };
    Ok((member, map))
}

/// A stretch of a file, read by position, so that several readers do not disturb each other; a pipe is read as
/// it comes.
struct Stretch {
    file: File,
    at: u64,
    end: u64,
    meter: Arc<AtomicU64>,
}

impl Read for Stretch {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.end - self.at)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let count = match self.end {
            u64::MAX => self.file.read(&mut buffer[..most])?,
            _ => self.file.read_at(&mut buffer[..most], self.at)?,
        };
        self.at += count as u64;
        self.meter.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// Undoes the compression, which is told by content.
///
/// # Errors
/// The first bytes cannot be read.
pub fn decompressed(source: impl Read + Send + 'static) -> io::Result<Box<dyn Read + Send>> {
    let mut source = BufReader::with_capacity(CHUNK, source);
    let start = source.fill_buf()?;
    Ok(match start {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
        [b'B', b'Z', b'h', ..] => Box::new(bzip2::bufread::MultiBzDecoder::new(source)),
        [0xfd, b'7', b'z', b'X', b'Z', ..] => {
            Box::new(liblzma::bufread::XzDecoder::new_multi_decoder(source))
        }
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(zstd::Decoder::with_buffer(source)?),
        _ => Box::new(source),
    })
}

/// Whether a file begins as a tar archive does, compressed or not.
pub fn is_archive(start: &[u8]) -> bool {
    let magics: [&[u8]; 4] = [b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"];
    magics.iter().any(|magic| start.starts_with(magic)) || is_plain_tar(start)
}

/// A header's sum, which every tar since the first has.
fn is_plain_tar(start: &[u8]) -> bool {
    let Some(block) = start.get(..512) else {
        return false;
    };
    let said = std::str::from_utf8(&block[148..156])
        .ok()
        .and_then(|text| u32::from_str_radix(text.trim_matches(['\0', ' ']), 8).ok());
    let sum: u32 = block
        .iter()
        .enumerate()
        .map(|(at, byte)| {
            if (148..156).contains(&at) {
                32
            } else {
                u32::from(*byte)
            }
        })
        .sum();
    block[0] != 0 && said == Some(sum)
}
