//! What an archive holds, as far as the names in it tell: a file system, or an image in layers. No single member
//! decides. Some tools write what says that it is an image first, some last, behind layers that have any name.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use tar::{Archive as Tar, EntryType};

use super::compression::decompressed;
use super::names::split;
use super::ration::{Ration, Rationed};

/// What one member says of the archive that it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub(super) enum Evidence {
    /// Nothing.
    None,
    /// An image can have it, and so can a file system.
    Weak,
    /// Images have it; a file system would have it by chance.
    Strong,
    /// Only file systems have it.
    FileSystem,
}

/// What lies at the top of file systems and of no image in layers.
const DIRECTORIES: [&[u8]; 24] = [
    b"bin",
    b"boot",
    b"dev",
    b"etc",
    b"home",
    b"lib",
    b"lib32",
    b"lib64",
    b"libx32",
    b"media",
    b"mnt",
    b"opt",
    b"proc",
    b"root",
    b"run",
    b"sbin",
    b"srv",
    b"sys",
    b"tmp",
    b"usr",
    b"var",
    b"ch",
    b".chariot",
    b".singularity.d",
];

/// The files by which an image in layers is known.
const LISTS: [&[u8]; 4] = [
    b"oci-layout",
    b"index.json",
    b"manifest.json",
    b"repositories",
];

/// How names of layers and configurations end, and what a layer has in a directory of its own.
const ENDINGS: [&[u8]; 8] = [
    b".json",
    b".tar",
    b".tar.gz",
    b".tgz",
    b".tar.zst",
    b".tar.xz",
    b".tar.bz2",
    b".gz",
];
const OF_A_LAYER: [&[u8]; 3] = [b"layer.tar", b"json", b"VERSION"];

/// How much of a compressed archive is read to see what it holds, if nothing has told; then it is a file system's.
const LONGEST: u64 = 256 << 20;

/// How many members are looked at for that.
const MOST: usize = 10_000;

/// Whether a name is made of a digest, as names of layers and configurations are.
fn is_of_a_digest(name: &[u8]) -> bool {
    let name = name.strip_prefix(b"sha256:").unwrap_or(name);
    let digits = name.split(|byte| *byte == b'.').next().unwrap_or_default();
    digits.len() == 64 && digits.iter().all(u8::is_ascii_hexdigit)
}

/// What a member says.
pub(super) fn evidence(path: &[u8], kind: EntryType) -> Evidence {
    // GNU tar puts a directory of its own into the names of files with holes.
    let components: Vec<&[u8]> = split(path)
        .filter(|name| !name.starts_with(b"GNUSparseFile."))
        .collect();
    let is_directory = kind == EntryType::Directory || path.ends_with(b"/");
    match components.as_slice() {
        [] => Evidence::None,
        [top, rest @ ..] if DIRECTORIES.contains(top) => {
            match is_directory || kind == EntryType::Symlink || !rest.is_empty() {
                true => Evidence::FileSystem,
                false => Evidence::None,
            }
        }
        [b"blobs"] | [b"blobs", b"sha256" | b"sha512"] if is_directory => Evidence::Strong,
        [b"blobs", b"sha256" | b"sha512", _] => Evidence::Strong,
        [name] if LISTS.contains(name) && !is_directory => Evidence::Strong,
        [name] if is_of_a_digest(name) => Evidence::Strong,
        [name] if ENDINGS.iter().any(|ending| name.ends_with(ending)) && !is_directory => {
            Evidence::Weak
        }
        [_, name] if OF_A_LAYER.contains(name) => Evidence::Weak,
        [_] | [_, _] => Evidence::None,
        _ => Evidence::FileSystem,
    }
}

/// Whether a member is one that only an image has whose list of layers must be there too.
pub(super) fn is_of_a_layer(path: &[u8]) -> bool {
    split(path).next().is_some_and(is_of_a_digest)
}

/// Whether what `source` holds may be an image in layers, by the first members that tell. Whoever knows that it is may
/// read it from a file; a file system's archive need not be read twice. What is no archive is told by whoever reads it
/// then.
///
/// # Errors
/// It cannot be read, so that nothing is known of it.
pub(super) fn is_perhaps_an_image(source: impl Read + Send + 'static) -> io::Result<bool> {
    let failed = Arc::new(AtomicI32::new(0));
    let reader = decompressed(Watched(source, Arc::clone(&failed)));
    let answer = reader.map(judged);
    match failed.load(Ordering::Relaxed) {
        // What cannot be decompressed is no image.
        0 => Ok(answer.unwrap_or(false)),
        number => Err(io::Error::from_raw_os_error(number)),
    }
}

/// Remembers the system's own errors, which decompressors and the reader of archives tell like damage.
struct Watched<R>(R, Arc<AtomicI32>);

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).inspect_err(|error| {
            let number = error.raw_os_error().unwrap_or(0);
            if error.kind() != io::ErrorKind::Interrupted {
                self.1.store(number, Ordering::Relaxed);
            }
        })
    }
}

fn judged(reader: impl Read) -> bool {
    let ration = Ration::default();
    let mut archive = Tar::new(Rationed::new(reader, &ration));
    let mut most = Evidence::None;
    let mut skipped = 0;
    let Ok(mut entries) = archive.entries() else {
        return false;
    };
    for _ in 0..MOST {
        ration.headers();
        let Some(Ok(mut entry)) = entries.next() else {
            break;
        };
        ration.contents();
        match evidence(&entry.path_bytes(), entry.header().entry_type()) {
            Evidence::FileSystem => return false,
            Evidence::Strong => return true,
            Evidence::Weak => most = Evidence::Weak,
            Evidence::None => {}
        }
        let count = io::copy(&mut entry.by_ref().take(LONGEST), &mut io::sink());
        skipped += count.unwrap_or(LONGEST);
        if skipped >= LONGEST {
            break;
        }
    }
    most == Evidence::Weak
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_what_an_archive_holds() {
        let digest = "0a".repeat(32);
        for (path, expected) in [
            ("./", Evidence::None),
            ("./bin/", Evidence::FileSystem),
            ("etc/passwd", Evidence::FileSystem),
            ("image/usr/bin/env", Evidence::FileSystem),
            ("blobs/", Evidence::Strong),
            (&format!("./blobs/sha256/{digest}"), Evidence::Strong),
            ("./manifest.json", Evidence::Strong),
            (&format!("sha256:{digest}"), Evidence::Strong),
            (&format!("{digest}.tar.gz"), Evidence::Strong),
            (&format!("{digest}/layer.tar"), Evidence::Weak),
            ("config.json", Evidence::Weak),
            ("layer-1.tar", Evidence::Weak),
            ("one/layer.tar", Evidence::Weak),
            ("README", Evidence::None),
            ("bin", Evidence::None),
        ] {
            let found = evidence(path.as_bytes(), EntryType::Regular);
            assert_eq!(found, expected, "{path}");
        }
    }
}
