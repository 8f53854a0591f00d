//! Unpacking an archive of a file system into a directory.
//!
//! The archive is an attacker's. So it is unpacked by a process whose root is the new directory: no
//! name, symbolic link or hard link in it can lead anywhere else, and nothing here has to compare
//! paths to be sure of that.

use std::fs::{self, File, Permissions};
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use tar::{Archive, EntryType};

use super::metadata::{MARK, Mark};
use crate::error::{Error, Explain, Result, io_reason};
use crate::sys::{Call, mounts, namespaces};

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Members that are in the directory now.
    pub members: u64,
    /// Device nodes, FIFOs and names with `..` that were left out.
    pub left_out: u64,
}

/// Makes `directory` the root of this process, in namespaces of its own.
///
/// # Errors
/// The kernel's answer.
pub fn confine(directory: &Path) -> Call<()> {
    let (user, group) = (
        nix::unistd::geteuid().as_raw(),
        nix::unistd::getegid().as_raw(),
    );
    namespaces::unshare_user()?;
    namespaces::write_id_maps((user, user), (group, group))?;
    namespaces::unshare_mounts()?;
    mounts::receive_only()?;
    let tree = mounts::clone_tree(directory)?;
    mounts::attach_over_root(&tree)?;
    mounts::change_root(&tree)?;
    namespaces::no_new_privileges()
}

/// Unpacks `archive` into `/`, which must be the new directory ([`confine`]), and makes an image of
/// what is there. `is_wanted` is asked often, and ends the work when it says no.
///
/// # Errors
/// The archive is damaged or of an unknown kind, or the file system is full; `name` is how the
/// archive was called.
pub fn unpack_here(archive: File, name: &str, is_wanted: impl Fn() -> bool) -> Result<Summary> {
    let what = || format!("can't unpack {name}");
    let reader = decompressed(Watched {
        inner: archive,
        is_wanted,
    })
    .explain(what)?;
    let mut archive = Archive::new(reader);
    archive.set_preserve_permissions(true);
    archive.set_preserve_mtime(true);
    archive.set_overwrite(true);
    // No set-user-ID or set-group-ID bits: nobody's identity but the user's is in the image.
    archive.set_mask(0o6000);
    let mut summary = Summary::default();
    let entries = archive
        .entries()
        .map_err(|error| damaged(&what(), &error))?;
    for entry in entries {
        let mut entry = entry.map_err(|error| damaged(&what(), &error))?;
        match unpack_member(&mut entry) {
            Ok(true) => summary.members += 1,
            Ok(false) => summary.left_out += 1,
            Err(error) => {
                let path = entry
                    .path()
                    .map(|path| path.display().to_string())
                    .unwrap_or_default();
                return Err(Error::new(format!(
                    "{}: {path}: {}",
                    what(),
                    innermost(&error)
                )));
            }
        }
    }
    if summary.members == 0 {
        return Err(Error::new(format!("{}: there is nothing in it", what())));
    }
    complete(name).explain(what)?;
    Ok(summary)
}

fn damaged(what: &str, error: &io::Error) -> Error {
    Error::new(format!("{what}: {}", innermost(error))).hint(
        "it should be a tar archive of a file system, plain or compressed by gzip, bzip2, xz or \
         zstd, and complete",
    )
}

/// The tar crate wraps the reason into what it was doing, with paths of its own view.
fn innermost(error: &io::Error) -> String {
    let mut source: &dyn std::error::Error = error;
    while let Some(inner) = source.source() {
        source = inner;
    }
    match source.downcast_ref::<io::Error>() {
        Some(inner) => io_reason(inner),
        None => source.to_string(),
    }
}

/// Unpacks one member; false if it is of a kind that an image does not get.
fn unpack_member<R: Read>(entry: &mut tar::Entry<'_, R>) -> io::Result<bool> {
    let kind = entry.header().entry_type();
    if matches!(kind, EntryType::Block | EntryType::Char | EntryType::Fifo) {
        return Ok(false);
    }
    if matches!(kind, EntryType::XGlobalHeader) {
        return Ok(true);
    }
    let path = entry.path()?.into_owned();
    if !entry.unpack_in("/")? {
        return Ok(false);
    }
    if kind.is_dir() {
        let path: PathBuf = std::iter::once(Component::RootDir)
            .chain(path.components())
            .collect();
        let mode = path.metadata()?.permissions().mode();
        // A directory that its owner cannot write could not be removed with the image later.
        fs::set_permissions(path, Permissions::from_mode(mode | 0o700))?;
    }
    Ok(true)
}

/// A reader that fails once its work is no longer wanted.
struct Watched<W> {
    inner: File,
    is_wanted: W,
}

impl<W: Fn() -> bool> Read for Watched<W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !(self.is_wanted)() {
            return Err(io::Error::other("interrupted"));
        }
        self.inner.read(buffer)
    }
}

/// Undoes the compression, which is told by content.
fn decompressed<'a>(source: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut source = BufReader::with_capacity(1 << 18, source);
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

/// Makes an image of what is in `/`.
fn complete(name: &str) -> io::Result<()> {
    lift_single_directory()?;
    empty_dev()?;
    for directory in ["/dev", "/proc", "/sys", "/tmp", "/etc"] {
        let mode = if directory == "/tmp" { 0o1777 } else { 0o755 };
        if fs::symlink_metadata(directory).is_err() {
            fs::DirBuilder::new().create(directory)?;
            fs::set_permissions(directory, Permissions::from_mode(mode))?;
        }
    }
    for file in ["/etc/hosts", "/etc/resolv.conf"] {
        // An image with a file or a dangling link for /etc is odd and still an image.
        if fs::symlink_metadata(file).is_err() && Path::new("/etc").is_dir() {
            File::create(file)?;
        }
    }
    leave_mark(name)
}

/// The names that a file system has at its top. An image that holds only one of them is small, and
/// not an archive that was made one level too high.
const TOP: [&str; 20] = [
    "bin", "boot", "dev", "etc", "home", "lib", "lib32", "lib64", "media", "mnt", "opt", "proc",
    "root", "run", "sbin", "srv", "sys", "tmp", "usr", "var",
];

/// `tar czf image.tgz image/` makes an archive with one directory; what is in it is meant.
fn lift_single_directory() -> io::Result<()> {
    let mut entries = fs::read_dir("/")?.collect::<io::Result<Vec<_>>>()?;
    let Some(only) = entries.pop().filter(|_| entries.is_empty()) else {
        return Ok(());
    };
    let is_top = TOP.iter().any(|name| only.file_name() == *name);
    if is_top || !only.file_type()?.is_dir() {
        return Ok(());
    }
    let mode = only.metadata()?.permissions().mode() | 0o700;
    // Out of the way first: it may hold an entry of its own name.
    let lifted = Path::new("/.chariot-lifted");
    fs::rename(only.path(), lifted)?;
    for entry in fs::read_dir(lifted)? {
        let entry = entry?;
        fs::rename(entry.path(), Path::new("/").join(entry.file_name()))?;
    }
    fs::remove_dir(lifted)?;
    fs::set_permissions("/", Permissions::from_mode(mode))
}

/// What an archive has in /dev means nothing: the host's is mounted there.
fn empty_dev() -> io::Result<()> {
    if !fs::symlink_metadata("/dev").is_ok_and(|data| data.is_dir()) {
        return Ok(());
    }
    for entry in fs::read_dir("/dev")? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => fs::remove_dir_all(entry.path())?,
            false => fs::remove_file(entry.path())?,
        }
    }
    Ok(())
}

/// Leaves the mark by which an image of Chariot's is known, with what an earlier one said.
fn leave_mark(name: &str) -> io::Result<()> {
    let path = Path::new("/").join(MARK);
    let directory = Path::new("/.chariot");
    if !fs::symlink_metadata(directory).is_ok_and(|data| data.is_dir()) {
        let _ = fs::remove_file(directory);
        fs::DirBuilder::new().mode(0o755).create(directory)?;
    }
    let earlier = fs::read(&path)
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok());
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let mark = Mark {
        source: name.to_owned(),
        time: now.as_secs(),
        ..earlier.unwrap_or_default()
    };
    let _ = fs::remove_file(&path);
    fs::write(path, serde_json::to_vec_pretty(&mark)?)
}

/// Removes a tree of the user's, whatever modes its directories have.
///
/// # Errors
/// What could not be removed.
pub fn remove_tree(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            make_removable(directory)?;
            fs::remove_dir_all(directory)
        }
        result => result,
    }
}

fn make_removable(directory: &Path) -> io::Result<()> {
    fs::set_permissions(directory, Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            make_removable(&entry.path())?;
        }
    }
    Ok(())
}

/// How much of the archive has been read; the unpacking process shares the position.
pub fn position(archive: &mut File) -> u64 {
    archive.stream_position().unwrap_or(0)
}
