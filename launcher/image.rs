//! Images: finding what a word names, telling its kind by content, and reading what the image says
//! of itself. Everything inside an image is hostile: it is opened with `RESOLVE_IN_ROOT`, and only
//! so much of it is read.

pub mod metadata;
#[cfg(feature = "launcher")]
pub mod unpack;

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use rustix::fs::OFlags;

use crate::config::Config;
use crate::error::{Error, Explain, Result, io_reason};
use crate::host::Host;
use crate::options::given::is_path;
use crate::sys;
use metadata::Metadata;

/// An image that was found and can be entered.
#[derive(Debug)]
pub struct Image {
    /// The word that the user typed.
    pub word: String,
    /// Where it lies.
    pub path: PathBuf,
    /// Its root directory, open for looking around.
    tree: OwnedFd,
    /// What it says of itself.
    pub metadata: Metadata,
}

const WHAT_AN_IMAGE_IS: &str =
    "an image is a directory that holds a whole file system, such as `chariot unpack` makes";

/// The largest file of metadata that is read from an image, in bytes.
const LARGEST: u64 = 4 << 20;

impl Image {
    /// Finds the image that `word` names.
    ///
    /// # Errors
    /// The word names nothing, nothing readable, or no image.
    pub fn locate(word: &str, config: &Config, host: &Host) -> Result<Image> {
        refuse_scheme(word)?;
        let path = if is_path(word) {
            PathBuf::from(word)
        } else {
            by_name(word, config, host)?
        };
        let what = || format!("can't use the image {word}");
        let data = path
            .metadata()
            .map_err(|error| missing(word, &path, &error))?;
        if !data.is_dir() {
            let fifo = data.file_type().is_fifo() || data.file_type().is_socket();
            return Err(if fifo {
                not_an_image(word)
            } else {
                refuse_file(word, &path)?
            });
        }
        refuse_outside(word, &path, config)?;
        let tree = sys::open(&path, OFlags::PATH | OFlags::DIRECTORY).explain(what)?;
        // Opening with O_PATH asks for no permission on the directory itself; looking inside does.
        path.join(".").metadata().explain(what).map_err(|error| {
            error.hint(format!("you need permission to search {}", path.display()))
        })?;
        let mut image = Image {
            word: word.to_owned(),
            path,
            tree,
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
            tree,
            metadata: Metadata::default(),
        };
        image.metadata = Metadata::read(&image)?;
        Ok(image)
    }

    /// Whether the image has something at `path`; symbolic links are followed inside it.
    pub fn has(&self, path: &Path) -> bool {
        sys::open_in_root(&self.tree, path, OFlags::PATH).is_ok()
    }

    /// Whether the image has a directory at `path` with something in it, or something else.
    pub fn has_own(&self, path: &Path) -> bool {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK;
        match sys::open_in_root(&self.tree, path, flags) {
            Ok(directory) => !is_empty(directory),
            Err(error) => error.errno() != Errno::ENOENT,
        }
    }

    /// Where a symbolic link of the image points, if `path` is one.
    pub fn link(&self, path: &Path) -> Option<PathBuf> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        let link = sys::open_in_root(&self.tree, path, flags).ok()?;
        let target = rustix::fs::readlinkat(link, "", Vec::new()).ok()?;
        Some(PathBuf::from(target.to_string_lossy().into_owned()))
    }

    /// The contents of a regular file of the image, if there is one.
    ///
    /// # Errors
    /// A file that is too large to be what it should be.
    pub fn read(&self, path: &Path) -> Result<Option<Vec<u8>>> {
        // O_NONBLOCK: an image could have a FIFO there, and wait for ever.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let Ok(file) = sys::open_in_root(&self.tree, path, flags) else {
            return Ok(None);
        };
        let file = File::from(file);
        if !file.metadata().is_ok_and(|data| data.is_file()) {
            return Ok(None);
        }
        let mut contents = Vec::new();
        let what = || format!("can't read {} in the image {}", path.display(), self.word);
        file.take(LARGEST + 1)
            .read_to_end(&mut contents)
            .explain(what)?;
        if contents.len() as u64 > LARGEST {
            return Err(Error::new(format!(
                "{}: it is larger than {LARGEST} bytes",
                what()
            )));
        }
        Ok(Some(contents))
    }
}

fn refuse_scheme(word: &str) -> Result<()> {
    for scheme in ["oci:", "docker:", "docker-archive:", "oci-archive:"] {
        if word.starts_with(scheme) {
            return Err(Error::new(format!(
                "can't use the image {word}: this version of Chariot runs directory trees only"
            ))
            .hint("export it to a tar file and run `chariot unpack FILE DIR`"));
        }
    }
    Ok(())
}

fn by_name(word: &str, config: &Config, host: &Host) -> Result<PathBuf> {
    let store = host.expand(&config.store);
    let places: Vec<PathBuf> = std::iter::once(store)
        .chain(config.image_dirs.iter().cloned())
        .collect();
    let found = places
        .iter()
        .map(|place| place.join(word))
        .find(|path| path.exists());
    found
        .filter(|_| !matches!(word, "." | ".."))
        .ok_or_else(|| {
            let places: Vec<_> = places
                .iter()
                .map(|place| place.display().to_string())
                .collect();
            Error::new(format!(
                "can't find an image named {word} in {}",
                places.join(" or ")
            ))
            .hint(format!(
                "an image given by path has a slash in it: ./{word}"
            ))
        })
}

fn missing(word: &str, path: &Path, error: &std::io::Error) -> Error {
    let told = Error::new(format!(
        "can't use the image {word}: stat(\"{}\"): {}",
        path.display(),
        io_reason(error)
    ));
    match error.kind() {
        std::io::ErrorKind::NotFound => {
            told.hint("is it on a file system that this machine has mounted?")
        }
        std::io::ErrorKind::PermissionDenied => {
            told.hint("you need permission to search every directory on the way to it")
        }
        _ => told,
    }
}

/// Says what a file is that was given as an image.
fn refuse_file(word: &str, path: &Path) -> Result<Error> {
    let mut start = [0; 64];
    let what = || format!("can't use the image {word}");
    let mut file = File::open(path).explain(what)?;
    let length = file.read(&mut start).explain(what)?;
    let start = &start[..length];
    let (kind, command) = if start.starts_with(b"hsqs") {
        ("a SquashFS file", "unsquashfs -d DIR")
    } else if start.get(32..42) == Some(b"SIF_MAGIC\0") {
        ("a SIF file", "apptainer build --sandbox DIR")
    } else if is_archive(start) {
        ("an archive", "chariot unpack")
    } else {
        return Ok(not_an_image(word));
    };
    let command = if command.starts_with("chariot") {
        format!("{command} {word} DIR")
    } else {
        format!("{command} {word}")
    };
    Ok(Error::new(format!(
        "can't use the image {word}: it is {kind}, and this version of Chariot runs directory trees \
         only"
    ))
    .hint(format!("make a directory of it: {command}")))
}

fn is_archive(start: &[u8]) -> bool {
    let magics: [&[u8]; 4] = [b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"];
    magics.iter().any(|magic| start.starts_with(magic))
}

fn not_an_image(word: &str) -> Error {
    Error::new(format!(
        "can't use the image {word}: it is neither a directory nor a known file"
    ))
    .hint(WHAT_AN_IMAGE_IS)
}

fn refuse_outside(word: &str, path: &Path, config: &Config) -> Result<()> {
    if !config.only_image_dirs {
        return Ok(());
    }
    let real = path
        .canonicalize()
        .explain(|| format!("can't use the image {word}"))?;
    // Path::starts_with compares whole components: /images2 does not lie in /images.
    let allowed = config.image_dirs.iter().any(|directory| {
        directory
            .canonicalize()
            .is_ok_and(|place| real.starts_with(place))
    });
    if allowed {
        return Ok(());
    }
    let places: Vec<_> = config
        .image_dirs
        .iter()
        .map(|directory| directory.display().to_string())
        .collect();
    Err(Error::new(format!(
        "can't use the image {word}: the site runs only its own images"
    ))
    .hint(format!("these lie in {}", places.join(" and "))))
}

fn refuse_empty(image: &Image) -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    // A directory that may be searched and not listed can be run in.
    let listed = sys::open_in_root(&image.tree, Path::new("/"), flags);
    if !listed.is_ok_and(is_empty) {
        return Ok(());
    }
    Err(Error::new(format!(
        "can't use the image {}: the directory is empty",
        image.word
    ))
    .hint(WHAT_AN_IMAGE_IS))
}

fn is_empty(directory: OwnedFd) -> bool {
    let Ok(entries) = rustix::fs::Dir::new(directory) else {
        return false;
    };
    entries
        .flatten()
        .all(|entry| matches!(entry.file_name().to_bytes(), b"." | b".."))
}
