//! Images that can be run in: telling their kind by content, and reading what an image says of itself. Everything inside an image is hostile: what a directory holds is opened with
//! `RESOLVE_IN_ROOT`, a file is read by parsers that check every bound, and only so much of it.

pub mod metadata;
pub(crate) mod refusals;
pub mod squashfs;

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use rustix::fs::OFlags;

use chariot_core::config::Config;
use chariot_core::error::{Error, Explain, Result};
use chariot_core::memory;
use chariot_core::open;
use chariot_core::sif;
use chariot_core::sys;
use metadata::Metadata;
use refusals::{WHAT_AN_IMAGE_IS, missing, not_an_image};
use squashfs::SquashFs;

/// An image that was found and can be entered.
#[derive(Debug)]
pub struct Image {
    /// The word that the user typed.
    pub word: String,
    /// Where it lies.
    pub path: PathBuf,
    /// Its files.
    contents: Contents,
    /// What it says of itself.
    pub metadata: Metadata,
}

/// What an image is made of.
#[derive(Debug)]
enum Contents {
    /// A directory, open for looking around.
    Tree(OwnedFd),
    /// SquashFS, in a file of its own or in a SIF file.
    SquashFs(Arc<SquashFs>),
    /// The same, which root has mounted for the step.
    Mounted(Arc<SquashFs>),
}

/// The largest file of metadata that is read from an image, in bytes.
const LARGEST: usize = 4 << 20;

impl Image {
    /// Opens a directory, SquashFS or SIF file.
    ///
    /// # Errors
    /// It is something else, or damaged.
    pub(crate) fn open(word: &str, path: &Path, config: &Config) -> Result<Image> {
        let data = path
            .metadata()
            .map_err(|error| missing(word, path, &error))?;
        let contents = match data.file_type() {
            kind if kind.is_dir() => open_tree(word, path)?,
            kind if kind.is_file() => open_file(word, path, config)?,
            _ => return Err(not_an_image(word)),
        };
        let mut image = Image {
            word: word.to_owned(),
            path: path.to_owned(),
            contents,
            metadata: Metadata::default(),
        };
        refuse_empty(&image)?;
        image.metadata = Metadata::read(&image)?;
        Ok(image)
    }

    /// What this process is running in, when it has joined a container.
    ///
    /// # Errors
    /// The root cannot be opened, or what it says of itself not be read.
    pub fn around_us(word: &str) -> Result<Image> {
        let path = PathBuf::from("/");
        let tree = sys::open(&path, OFlags::PATH | OFlags::DIRECTORY)
            .explain(|| "can't look around in the container".into())?;
        let mut image = Image {
            word: word.to_owned(),
            path,
            contents: Contents::Tree(tree),
            metadata: Metadata::default(),
        };
        image.metadata = Metadata::read(&image)?;
        Ok(image)
    }

    /// Its kind, as `chariot explain` and the audit line name it.
    pub fn kind(&self) -> &'static str {
        match &self.contents {
            Contents::Tree(_) => "directory",
            Contents::SquashFs(_) => "squashfs",
            Contents::Mounted(_) => "kernel",
        }
    }

    /// Takes it that root has mounted the file `identity`, if the image is that file.
    pub fn mounted_by_root(&mut self, identity: &str) {
        if let Contents::SquashFs(image) = &self.contents
            && chariot_core::open::identity(image.file()).is_ok_and(|own| own == identity)
        {
            self.contents = Contents::Mounted(Arc::clone(image));
        }
    }

    /// Whether root has mounted it.
    pub fn is_mounted_by_root(&self) -> bool {
        self.kind() == "kernel"
    }

    /// Whether it is a directory, whose files belong to whom they belong on the host.
    pub fn is_tree(&self) -> bool {
        matches!(self.contents, Contents::Tree(_))
    }

    /// The reader of a SquashFS image.
    pub fn squashfs(&self) -> Option<&Arc<SquashFs>> {
        match &self.contents {
            Contents::Tree(_) => None,
            Contents::SquashFs(image) | Contents::Mounted(image) => Some(image),
        }
    }

    /// Whether the image has something at `path`; symbolic links are followed inside it.
    pub fn has(&self, path: &Path) -> bool {
        match &self.contents {
            Contents::Tree(tree) => sys::open_in_root(tree, path, OFlags::PATH).is_ok(),
            Contents::SquashFs(image) | Contents::Mounted(image) => {
                matches!(image.find(path, true), Ok(Some(_)))
            }
        }
    }

    /// Whether the image has a directory at `path` with something in it, or something else.
    pub fn has_own(&self, path: &Path) -> bool {
        match &self.contents {
            Contents::Tree(tree) => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK;
                match sys::open_in_root(tree, path, flags) {
                    Ok(directory) => !is_empty(directory),
                    Err(error) => error.errno() != Errno::ENOENT,
                }
            }
            Contents::SquashFs(image) | Contents::Mounted(image) => match image.find(path, true) {
                Ok(Some(inode)) => !is_empty_directory(image, &inode),
                Ok(None) => false,
                Err(_) => true,
            },
        }
    }

    /// The names in a directory of the image; none if there is no such directory.
    pub fn names(&self, path: &Path) -> Vec<OsString> {
        match &self.contents {
            Contents::Tree(tree) => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK;
                let opened = sys::open_in_root(tree, path, flags).ok();
                let entries = opened.and_then(|directory| rustix::fs::Dir::new(directory).ok());
                let name = |entry: rustix::fs::DirEntry| {
                    OsString::from_vec(entry.file_name().to_bytes().to_vec())
                };
                entries.into_iter().flatten().flatten().map(name).collect()
            }
            Contents::SquashFs(image) | Contents::Mounted(image) => {
                let Ok(Some(inode)) = image.find(path, true) else {
                    return Vec::new();
                };
                let entries = image.entries(&inode, squashfs::Position::default());
                let entries = entries.into_iter().flatten().flatten();
                entries
                    .map(|entry| OsString::from_vec(entry.name))
                    .collect()
            }
        }
    }

    /// Where a symbolic link of the image points, if `path` is one.
    pub fn link(&self, path: &Path) -> Option<PathBuf> {
        match &self.contents {
            Contents::Tree(tree) => {
                let flags = OFlags::PATH | OFlags::NOFOLLOW;
                let link = sys::open_in_root(tree, path, flags).ok()?;
                sys::mounts::target_of(link).ok()
            }
            Contents::SquashFs(image) | Contents::Mounted(image) => {
                let target = image.target(&image.find(path, false).ok()??).ok()?;
                Some(PathBuf::from(OsString::from_vec(target)))
            }
        }
    }

    /// The contents of a regular file of the image, if there is one.
    ///
    /// # Errors
    /// A file that is too large to be what it should be.
    pub fn read(&self, path: &Path) -> Result<Option<Vec<u8>>> {
        let what = || format!("can't read {} in the image {}", path.display(), self.word);
        let contents = match &self.contents {
            Contents::Tree(tree) => read_in_tree(tree, path).explain(what)?,
            Contents::SquashFs(image) | Contents::Mounted(image) => read_in_file(image, path)
                .map_err(|damage| {
                    Error::new(format!("{}: {damage}", what())).hint(damage.advice)
                })?,
        };
        match contents {
            Some(contents) if contents.len() > LARGEST => Err(Error::new(format!(
                "{}: it is larger than {LARGEST} bytes",
                what()
            ))),
            contents => Ok(contents),
        }
    }
}

/// A regular file's first bytes, one more than there should be at most.
fn read_in_tree(tree: &OwnedFd, path: &Path) -> std::io::Result<Option<Vec<u8>>> {
    // O_NONBLOCK: an image could have a FIFO there, and wait for ever.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let Ok(file) = sys::open_in_root(tree, path, flags) else {
        return Ok(None);
    };
    let file = File::from(file);
    let Some(data) = file.metadata().ok().filter(std::fs::Metadata::is_file) else {
        return Ok(None);
    };
    let size = usize::try_from(data.len()).map_or(LARGEST, |size| size.min(LARGEST));
    // One more than there should be, so that the end shows in the same read.
    let mut contents = Vec::with_capacity(size + 1);
    file.take(LARGEST as u64 + 1).read_to_end(&mut contents)?;
    Ok(Some(contents))
}

fn read_in_file(image: &SquashFs, path: &Path) -> squashfs::Result<Option<Vec<u8>>> {
    match image.find(path, true)? {
        Some(inode) if inode.kind == squashfs::Kind::File => {
            image.read(&inode, 0, LARGEST + 1).map(Some)
        }
        _ => Ok(None),
    }
}

fn is_empty_directory(image: &SquashFs, inode: &squashfs::Inode) -> bool {
    inode.kind == squashfs::Kind::Directory
        && image
            .entries(inode, squashfs::Position::default())
            .is_ok_and(|mut entries| entries.next().is_none())
}

fn open_tree(word: &str, path: &Path) -> Result<Contents> {
    let what = || format!("can't use the image {word}");
    let tree = sys::open(path, OFlags::PATH | OFlags::DIRECTORY).explain(what)?;
    // Opening with O_PATH asks for no permission on the directory itself; looking inside does.
    path.join(".")
        .metadata()
        .explain(what)
        .map_err(|error| error.hint(format!("you need permission to search {}", path.display())))?;
    Ok(Contents::Tree(tree))
}

/// Opens a file by what it holds.
fn open_file(word: &str, path: &Path, config: &Config) -> Result<Contents> {
    // What somebody typed may be a name, and not of a place.
    let what = || match Path::new(word).file_name() == path.file_name() {
        true => format!("can't use the image {word}"),
        false => format!("can't use the image {word}: {}", path.display()),
    };
    let file = open::regular(path).explain(what)?;
    let length = file.metadata().explain(what)?.len();
    let mut start = [0; 64];
    std::os::unix::fs::FileExt::read_at(&file, &mut start, 0).explain(what)?;
    let (at, length) = if start.starts_with(b"hsqs") {
        (0, length)
    } else if sif::is_sif(&start) {
        let place = sif::system_partition(&file).explain(what)?;
        // What the file says of a length that it does not have shows when the image is opened.
        let (at, size) = place.ok_or_else(|| refusals::no_partition(word))?;
        (at, size.min(length.saturating_sub(at)))
    } else {
        return Err(not_an_image(word));
    };
    let memory = memory_of_server(config.server_memory, memory::limit());
    let image = SquashFs::open(file, at, length, memory)
        .map_err(|damage| Error::new(format!("{}: {damage}", what())).hint(damage.advice))?;
    Ok(Contents::SquashFs(Arc::new(image)))
}

/// Under a limit of memory the server takes a part of it: what it keeps, the kernel's page cache has too, and gives
/// away when programs want memory.
fn memory_of_server(most: u64, limit: Option<u64>) -> u64 {
    const PART: u64 = 16;
    const LEAST: u64 = 4 << 20;
    limit.map_or(most, |limit| most.min((limit / PART).max(LEAST)))
}

fn refuse_empty(image: &Image) -> Result<()> {
    // A directory that may be searched and not listed can be run in.
    if image.has_own(Path::new("/")) {
        return Ok(());
    }
    Err(Error::new(format!(
        "can't use the image {}: the directory is empty",
        image.word
    ))
    .hint(WHAT_AN_IMAGE_IS))
}

/// Whether an open directory has no entries.
pub(crate) fn is_empty(directory: OwnedFd) -> bool {
    let Ok(entries) = rustix::fs::Dir::new(directory) else {
        return false;
    };
    entries
        .flatten()
        .all(|entry| matches!(entry.file_name().to_bytes(), b"." | b".."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_a_server_follows_the_limit_that_it_runs_under() {
        let most = 64 << 20;
        assert_eq!(memory_of_server(most, None), most);
        assert_eq!(memory_of_server(most, Some(100 << 30)), most);
        assert_eq!(memory_of_server(most, Some(160 << 20)), 10 << 20);
        assert_eq!(memory_of_server(most, Some(1 << 20)), 4 << 20);
    }
}
