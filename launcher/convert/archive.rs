//! Tar archives, plain or compressed.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, BufReader, Cursor, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tar::{Archive as Tar, EntryType};

use super::compression::CHUNK;
pub use super::compression::{decompressed, is_archive};
use super::member::{Attributes, Kind, Member, Source, Visitor};
use super::pipe;
use super::ration::{Ration, Rationed};
use super::sparse::{self, Dense};
use crate::oci::{Digest, Hasher};

/// In a PAX header: what follows is the name of an extended attribute.
const XATTR: &str = "SCHILY.xattr.";

/// How much may follow the end of an archive, in bytes, uncompressed; tar(1) fills up to 10 KiB.
const PADDING: u64 = 64 << 20;

/// GNU tar's own kinds of members: a directory in an incremental archive, the archive's label, and the rest of a
/// file that begins in another volume.
const DIRECTORY_OF_AN_INCREMENT: u8 = b'D';
const LABEL: u8 = b'V';
const CONTINUED: u8 = b'M';

/// An archive in a stretch of a file.
#[derive(Debug)]
pub struct Archive {
    file: File,
    start: u64,
    length: u64,
    /// What was read of a pipe already, to see what comes out of it.
    head: Vec<u8>,
    meter: Arc<AtomicU64>,
    /// What it is called if it is damaged.
    name: Option<String>,
    /// Where it lies, if the user's word for the image does not say it.
    path: Option<Arc<Path>>,
    /// What it has to be, compressed as it is.
    digest: Option<Digest>,
    /// What it has to be uncompressed.
    diff_id: Option<Digest>,
    is_verified: Cell<bool>,
    /// All that came through a pipe, if it will be read again.
    kept: RefCell<Option<File>>,
}

impl Archive {
    /// The archive that lies in `length` bytes of a file from `start` on; a pipe has no length. `meter` counts
    /// what has been read.
    pub fn new(file: File, start: u64, length: Option<u64>, meter: Arc<AtomicU64>) -> Archive {
        Archive {
            file,
            start,
            length: length.unwrap_or(u64::MAX),
            head: Vec::new(),
            meter,
            name: None,
            path: None,
            digest: None,
            diff_id: None,
            is_verified: Cell::new(false),
            kept: RefCell::new(None),
        }
    }

    /// The archive that comes through a pipe, of which `head` has been read.
    pub(super) fn of_pipe(head: Vec<u8>, pipe: File, meter: Arc<AtomicU64>) -> Archive {
        Archive {
            head,
            ..Archive::new(pipe, 0, None, meter)
        }
    }

    /// The same, called so in what is said of it.
    #[must_use]
    pub(super) fn named(mut self, name: &str) -> Archive {
        self.name = Some(name.to_owned());
        self
    }

    /// The same, which lies there.
    #[must_use]
    pub(super) fn lying_at(mut self, path: Option<PathBuf>) -> Archive {
        self.path = path.map(Arc::from);
        self
    }

    /// The same, which is good only if it has this digest.
    #[must_use]
    pub fn verified(mut self, digest: Digest) -> Archive {
        self.digest = Some(digest);
        self
    }

    /// The same, which is good only if it has this digest uncompressed, where one is known.
    #[must_use]
    pub(super) fn holding(mut self, diff_id: Option<Digest>) -> Archive {
        self.diff_id = diff_id;
        self
    }

    /// What is in it, uncompressed.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn uncompressed(&self) -> io::Result<Box<dyn Read + Send>> {
        match self.head.is_empty() {
            true => decompressed(self.stretch()?),
            false => decompressed(Cursor::new(self.head.clone()).chain(self.stretch()?)),
        }
    }

    fn is_pipe(&self) -> bool {
        self.length == u64::MAX
    }

    fn stretch(&self) -> io::Result<Stretch> {
        if let Some(kept) = self.kept.borrow().as_ref() {
            return Ok(Stretch {
                file: kept.try_clone()?,
                at: 0,
                end: kept.metadata()?.len(),
                meter: Arc::clone(&self.meter),
                path: None,
            });
        }
        Ok(Stretch {
            file: self.file.try_clone()?,
            at: self.start,
            end: self.start.saturating_add(self.length),
            meter: Arc::clone(&self.meter),
            path: self.path.clone(),
        })
    }

    /// Whether it is what it has to be. It is read for that once more, mostly from memory: decompressors do not
    /// read to the end.
    fn verify(&self) -> io::Result<()> {
        let Some(expected) = &self.digest else {
            return Ok(());
        };
        let mut hasher = expected.hasher();
        let unmetered = Stretch {
            meter: Arc::default(),
            ..self.stretch()?
        };
        io::copy(&mut BufReader::with_capacity(CHUNK, unmetered), &mut hasher)?;
        match hasher.finish() {
            found if found == *expected => Ok(()),
            found => Err(damaged(format!(
                "the layer {expected} is damaged: its digest is {found}"
            ))),
        }
    }

    /// Puts in front of what is wrong with it what it is called.
    fn told(&self, error: io::Error) -> io::Error {
        let is_its_own = matches!(
            error.kind(),
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
        );
        match &self.name {
            Some(name) if is_its_own => within(name, &error),
            _ => error,
        }
    }
}

fn damaged(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

impl Source for Archive {
    fn keep(&self) -> io::Result<()> {
        if self.is_pipe() && self.kept.borrow().is_none() {
            // In TMPDIR, where users expect what is large and passing.
            let mut file = tempfile::tempfile()?;
            io::copy(&mut self.stretch()?, &mut file)?;
            self.kept.replace(Some(file));
        }
        Ok(())
    }

    fn each(&self, visit: &mut Visitor<'_>) -> io::Result<()> {
        let is_new = !self.is_verified.get();
        if is_new {
            self.verify()?;
        }
        let mut reader = self.uncompressed()?;
        let diff_id = self.diff_id.as_ref().filter(|_| is_new);
        if let Some(expected) = diff_id {
            reader = Box::new(Hashed {
                inner: reader,
                expected: expected.clone(),
                hasher: Some(expected.hasher()),
            });
        }
        // A second thread decompresses.
        let must_end = diff_id.is_some();
        pipe::through(reader, |reader| each_member(reader, must_end, visit))
            .map_err(|error| self.told(error))?;
        self.is_verified.set(true);
        Ok(())
    }
}

/// A layer uncompressed, which at its end has to have been what the image's configuration says.
struct Hashed {
    inner: Box<dyn Read + Send>,
    expected: Digest,
    hasher: Option<Hasher>,
}

impl Read for Hashed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        if count > 0 || buffer.is_empty() {
            if let Some(hasher) = &mut self.hasher {
                hasher.update(&buffer[..count]);
            }
            return Ok(count);
        }
        match self.hasher.take().map(Hasher::finish) {
            Some(found) if found != self.expected => Err(damaged(format!(
                "it is not what the image's configuration names: its contents have the digest {found} \
                 instead of {}",
                self.expected
            ))),
            _ => Ok(0),
        }
    }
}

/// Visits all members. What `must_end` has to be read to its very end.
fn each_member(reader: impl Read, must_end: bool, visit: &mut Visitor<'_>) -> io::Result<()> {
    let ration = Ration::default();
    let mut archive = Tar::new(Rationed::new(reader, &ration));
    let mut entries = archive.entries()?;
    loop {
        ration.headers();
        let Some(entry) = entries.next() else { break };
        let mut entry = entry.map_err(unreadable)?;
        ration.contents();
        match entry.header().entry_type() {
            EntryType::XGlobalHeader => {}
            kind if kind.as_byte() == LABEL => {}
            kind if kind.as_byte() == CONTINUED => {
                let reason = "it is one volume of several, of which each holds only a part";
                return Err(damaged(reason.into()));
            }
            _ => each_entry(&mut entry, visit)?,
        }
        // Whoever did not want it has not read it.
        io::copy(&mut entry, &mut io::sink())?;
    }
    // A decompressor finds damage at the end, behind what ends the archive.
    ration.contents();
    let mut rest = archive.into_inner();
    io::copy(&mut rest.by_ref().take(PADDING), &mut io::sink())?;
    match must_end && rest.read(&mut [0])? > 0 {
        true => Err(damaged("too much follows its end".into())),
        false => Ok(()),
    }
}

/// What the tar crate says of bytes that are no archive, with all of them in it.
pub(super) fn unreadable(error: io::Error) -> io::Error {
    let reason = error.to_string();
    match error.kind() {
        io::ErrorKind::Other if reason == "failed to read entire block" => io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "it is not a tar archive, or ends too early",
        ),
        io::ErrorKind::Other
            if reason.starts_with("numeric field") || reason.contains("checksum mismatch") =>
        {
            damaged("it is not a tar archive, or damaged".into())
        }
        io::ErrorKind::Other => damaged(reason),
        _ => error,
    }
}

fn each_entry<R: Read>(entry: &mut tar::Entry<'_, R>, visit: &mut Visitor<'_>) -> io::Result<()> {
    let (member, map) = member(entry)?;
    let path = String::from_utf8_lossy(&member.path).into_owned();
    let result = match map {
        None => visit(member, entry),
        Some(map) => {
            let map = map.read(entry)?;
            let length = member.length;
            visit(member, &mut Dense::new(entry, map, length))
        }
    };
    result.map_err(|error| within(&path, &error))
}

/// Puts a member's path in front of what is wrong with it.
fn within(path: &str, error: &io::Error) -> io::Error {
    let reason = chariot_core::error::innermost(error);
    io::Error::new(error.kind(), format!("{path}: {reason}"))
}

/// What a header says, with the map of a sparse file in PAX's form.
pub(super) fn member<R: Read>(
    entry: &mut tar::Entry<'_, R>,
) -> io::Result<(Member, Option<sparse::Map>)> {
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
        kind if kind.as_byte() == DIRECTORY_OF_AN_INCREMENT => Kind::Directory,
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
    path: Option<Arc<Path>>,
}

impl Read for Stretch {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.end - self.at)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let read = match self.end {
            u64::MAX => self.file.read(&mut buffer[..most]),
            _ => self.file.read_at(&mut buffer[..most], self.at),
        };
        let count = read.map_err(|error| match &self.path {
            Some(path) => within(&format!("can't read {}", path.display()), &error),
            None => error,
        })?;
        self.at += count as u64;
        self.meter.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}
