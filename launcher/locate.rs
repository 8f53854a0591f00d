//! What a word can name, and getting from there to an image that can be run in. Kinds are told by what is there,
//! never by a file's name.

mod bundle;
mod names;
mod refusals;
pub mod remote;

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::{Path, PathBuf};

use crate::cache::{Access, Cache, stage};
use crate::convert::archive::is_archive;
use crate::convert::layout::{self, is_flat, is_layout};
use crate::convert::make::{self, Form};
use crate::convert::origin::Origin;
use crate::convert::to_squashfs::Compression;
use crate::files::Output;
use crate::host::Host;
use crate::image::Image;
use crate::image::refusals::{missing, not_an_image};
use crate::oci::{self, Configuration, Digest, Reference};
use crate::registry::Resolved;
use crate::work::Reporter;
pub use bundle::Bundle;
use bundle::Kind;
use chariot_core::config::{Config, Stage};
use chariot_core::error::{Error, Explain, Result};
use chariot_core::open;
use chariot_core::options::word::{self, Word};
use chariot_core::sif;
pub use names::places;
use refusals::{foreign, refuse_outside};

/// Something of which an image is, or can be made.
#[derive(Debug)]
pub enum Source {
    /// A directory, SquashFS or SIF file, which can be run in.
    Image(Box<Image>),
    /// A tar archive of a file system or of an image.
    Archive(Bundle),
    /// An OCI layout in a directory, or a directory of skopeo's.
    Layout(Bundle),
    /// An image in a registry.
    Registry(Reference),
    /// One that has been fetched from there.
    Fetched(Box<Resolved>),
}

/// Finds the image that `settled` names, a word of the options; one that is not in a form to be run in is fetched or converted
/// into the cache, as far as `access` allows.
///
/// # Errors
/// The word names nothing, nothing readable, or no image.
pub fn image(
    settled: &str,
    config: &Config,
    host: &Host,
    access: &mut Access<'_>,
) -> Result<Image> {
    let word = word::typed(settled).unwrap_or(settled);
    image_shown_as(word, settled, config, host, access)
}

/// The same of a word that somebody has typed here.
///
/// # Errors
/// As [`image`].
pub fn image_typed(
    word: &str,
    config: &Config,
    host: &Host,
    access: &mut Access<'_>,
) -> Result<Image> {
    image_shown_as(word, &settle(word, host)?, config, host, access)
}

/// A path stays as it was typed, for messages to show it so.
fn settle(word: &str, host: &Host) -> Result<String> {
    let here = host.directory.as_deref().unwrap_or(Path::new("/"));
    let settled = word::settled(word, here)
        .map_err(|reason| Error::new(format!("can't use the image {word}: {reason}")))?;
    let is_expanded = word.contains(['~', '$']);
    Ok(match (Word::parse(word), Word::parse(&settled)) {
        (Word::Path(_), Word::Path(_)) | (Word::Bundle(..), _) if !is_expanded => {
            match word::typed(&settled) {
                Some(_) => settled,
                None => word.to_owned(),
            }
        }
        (Word::Name(_), Word::Path(_)) if !is_expanded && word::typed(&settled).is_none() => {
            format!("./{word}")
        }
        _ => settled,
    })
}

fn image_shown_as(
    word: &str,
    settled: &str,
    config: &Config,
    host: &Host,
    access: &mut Access<'_>,
) -> Result<Image> {
    // Not before it is needed: most images are there, and looking at the cache is I/O on each node.
    let cache = || Cache::of(config, host);
    let mut image = match find_settled(word, settled, config, host)? {
        Source::Image(image) => *image,
        other => {
            let path = other.in_cache(&cache(), access)?;
            let mut image = Image::open(word, &path, config)?;
            image.metadata.verified = other.verified_digest(&path);
            image
        }
    };
    verify(&mut image, &cache);
    let is_staged = config.stage == Stage::Node
        && access.may_fetch
        && !image.is_tree()
        && host.variable("SLURM_JOB_ID").is_some();
    let copy = match is_staged {
        true => stage::stage(&image.path, word, &cache(), access)?,
        false => None,
    };
    let Some(path) = copy else { return Ok(image) };
    let mut staged = Image::open(word, &path, config)?;
    staged.metadata.verified = image.metadata.verified;
    Ok(staged)
}

/// Holds the digest that an image says it was made from against what the cache knows of the file.
pub(crate) fn verify<'a>(image: &mut Image, cache: &impl Fn() -> Cache<'a>) {
    let claim = image
        .metadata
        .mark
        .as_ref()
        .and_then(|mark| mark.digest.as_deref());
    let claim = claim.filter(|_| !image.is_tree() && image.metadata.verified.is_none());
    let known = claim.and_then(|claim| cache().verified(&image.path, claim));
    if let Some(digest) = known {
        image.metadata.verified = Some(digest.to_string());
    }
}

/// Finds what `word` names, as somebody has typed it here.
///
/// # Errors
/// The word names nothing, nothing readable, or no image.
pub fn find(word: &str, config: &Config, host: &Host) -> Result<Source> {
    find_settled(word, &settle(word, host)?, config, host)
}

/// The same of a word that is settled already, and shown as it was typed.
fn find_settled(word: &str, settled: &str, config: &Config, host: &Host) -> Result<Source> {
    let source = match Word::parse(settled) {
        Word::Registry(name) => return from_registry(word, name, config),
        Word::Bundle(scheme, rest) => Bundle::parse(word, scheme, rest).source(),
        Word::Foreign(scheme, advice) => return Err(foreign(word, scheme, advice)),
        Word::Path(path) => match word::typed(path) {
            Some(name) => {
                let path: PathBuf = Path::new(path).components().collect();
                by_path(word, &names::unsettled(name, path, config, host)?, config)?
            }
            None => by_path(word, &names::at(word, path, config, host)?, config)?,
        },
        Word::Name(name) => by_path(word, &names::by_name(name, config, host)?, config)?,
    };
    if let Source::Archive(place) | Source::Layout(place) = &source {
        place
            .path
            .metadata()
            .map_err(|error| missing(word, &place.path, &error))?;
        refuse_outside(word, &place.path, config)?;
        place.refuse_other_kind()?;
    }
    Ok(source)
}

fn from_registry(word: &str, name: &str, config: &Config) -> Result<Source> {
    if config.only_image_dirs {
        return Err(Error::new(format!(
            "can't use the image {word}: this site allows only its own images"
        ))
        .hint("`chariot images` lists them"));
    }
    Reference::parse(name)
        .map(Source::Registry)
        .map_err(|reason| {
            Error::new(format!("can't use the image {word}: {reason}")).hint(
                "an image in a registry is docker://HOST/NAME:TAG or docker://HOST/NAME@sha256:…",
            )
        })
}

fn by_path(word: &str, path: &Path, config: &Config) -> Result<Source> {
    let data = path
        .metadata()
        .map_err(|error| missing(word, path, &error))?;
    refuse_outside(word, path, config)?;
    let place = |kind| Bundle::new(word, path, kind);
    if data.is_dir() && is_layout(path) {
        return Ok(Source::Layout(place(Kind::Layout)));
    }
    if data.is_dir() && is_flat(path) {
        return Ok(Source::Layout(place(Kind::Flat)));
    }
    // Who makes something else of it can read a pipe.
    if data.file_type().is_fifo() {
        return Ok(Source::Archive(place(Kind::Archive(None))));
    }
    // Images are opened once; only what is none is looked at for an archive.
    let error = match Image::open(word, path, config) {
        Ok(image) => return Ok(Source::Image(Box::new(image))),
        Err(error) if !data.is_file() => return Err(error),
        Err(error) => error,
    };
    match start_of(path) {
        Ok(start) if is_archive(&start) && !sif::is_sif(&start) => {
            Ok(Source::Archive(place(Kind::Archive(None))))
        }
        Ok(start) if start.starts_with(b"\x7fELF") || start.starts_with(b"#!") => Err(error
            .hinted_anew(
                "it is a program: the image stands before the command, and --entrypoint takes no value",
            )),
        // A file server that fails says nothing of what the file is.
        Err(failed) if failed.raw_os_error().is_some() && failed.kind() != DENIED => {
            Err(failed).explain(|| format!("can't use the image {word}"))
        }
        _ => Err(error),
    }
}

const DENIED: io::ErrorKind = io::ErrorKind::PermissionDenied;

fn start_of(path: &Path) -> io::Result<Vec<u8>> {
    let mut start = vec![0; 512];
    let count = open::regular(path)?.read_at(&mut start, 0)?;
    start.truncate(count);
    Ok(start)
}

/// Whether a file begins as an image or an archive does.
///
/// # Errors
/// It cannot be read.
pub fn looks_like_an_image(path: &Path) -> io::Result<bool> {
    let start = start_of(path)?;
    Ok(start.starts_with(b"hsqs") || sif::is_sif(&start) || is_archive(&start))
}

impl Source {
    /// Whether it is a directory tree, which needs no unpacking.
    pub fn is_directory(&self) -> bool {
        matches!(self, Source::Image(image) if image.is_tree())
    }

    /// Where it lies, if it is a file or a directory.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Source::Image(image) => Some(&image.path),
            Source::Archive(place) | Source::Layout(place) => Some(&place.path),
            Source::Registry(_) | Source::Fetched(_) => None,
        }
    }

    /// The same, of which an image remembers another name than a passing file's.
    #[must_use]
    pub fn called(self, word: &str) -> Source {
        let called = |place: Bundle| place.called(word);
        match self {
            Source::Archive(place) => Source::Archive(called(place)),
            Source::Layout(place) => Source::Layout(called(place)),
            other => other,
        }
    }

    /// Opens it to make something else of it.
    ///
    /// # Errors
    /// It cannot be read, or holds no image.
    pub fn open(&self, cache: &Cache<'_>) -> Result<Origin> {
        match self {
            // The same tree is the same image, wherever it lies.
            Source::Image(image) if image.is_tree() => Ok(Origin::of_image(image)),
            Source::Image(image) => Ok(named(Origin::of_image(image), &without_place(&image.word))),
            Source::Archive(place) | Source::Layout(place) => {
                let origin = place.open(&|| scratch(cache), cache.config.image_size)?;
                warn_of_another_machine(&origin, &place.word);
                Ok(named(origin, &without_place(&place.word)))
            }
            Source::Registry(reference) => {
                Err(Error::new(format!("{reference} has not been fetched")))
            }
            Source::Fetched(resolved) => {
                let origin = layout::of_blobs(cache.root()?, &resolved.digest, &resolved.manifest)?;
                Ok(named(origin, &resolved.reference.to_string()))
            }
        }
    }

    /// The path of an image in the cache that is made of it.
    ///
    /// # Errors
    /// It cannot be fetched or converted, or may not be.
    pub fn in_cache(&self, cache: &Cache<'_>, access: &mut Access<'_>) -> Result<PathBuf> {
        match self {
            Source::Image(image) => Ok(image.path.clone()),
            Source::Archive(place) => {
                if !place.path.is_file() {
                    return Err(not_an_image(&place.word));
                }
                let digest = archive_digest(place, cache, access)?;
                self.converted(&digest, &place.word, cache, access)
            }
            Source::Layout(place) => {
                let what = || format!("can't use the image {}", place.word);
                let origin = place
                    .open(&|| scratch(cache), cache.config.image_size)
                    .map_err(|error| error.within(&what()))?;
                let digest = origin.mark.digest.as_deref().and_then(Digest::parse);
                let digest =
                    digest.ok_or_else(|| Error::new(format!("{}: it has no digest", what())))?;
                self.converted(&digest, &place.word, cache, access)
            }
            Source::Registry(reference) => remote::from_cache(reference, cache, access),
            Source::Fetched(resolved) => remote::from_cache(&resolved.reference, cache, access),
        }
    }

    /// The digest of what `image` in the cache was made of, which is its name there.
    fn verified_digest(&self, image: &Path) -> Option<String> {
        let is_of_a_part = match self {
            Source::Archive(place) => place.selection().is_some(),
            Source::Image(_) => true,
            _ => false,
        };
        let hex = image.file_stem().filter(|_| !is_of_a_part)?.to_str()?;
        ["sha256", "sha512"]
            .iter()
            .find_map(|algorithm| Digest::parse(&format!("{algorithm}:{hex}")))
            .map(|digest| digest.to_string())
    }

    fn converted(
        &self,
        digest: &Digest,
        word: &str,
        cache: &Cache<'_>,
        access: &mut Access<'_>,
    ) -> Result<PathBuf> {
        cache.ensure(digest, word, access, |reporter, output| {
            let what = format!("can't use the image {word}");
            self.open(cache)
                .and_then(|origin| convert(origin, output, cache.config, reporter))
                .map_err(|error| error.within(&what))
        })
    }
}

/// For what has to be written out before it can be read.
fn scratch(cache: &Cache<'_>) -> PathBuf {
    match cache.prepare() {
        Ok(own) => own.root().path().to_owned(),
        Err(_) => std::env::temp_dir(),
    }
}

/// A word without the directory of the path in it: `docker-archive:image.tar`. Where a file lay changes no image of it.
fn without_place(word: &str) -> String {
    let Some(slash) = word.rfind('/') else {
        return word.to_owned();
    };
    let start = word[..slash].rfind([':', ' ']).map_or(0, |at| at + 1);
    format!("{}{}", &word[..start], &word[slash + 1..])
}

/// What an image was made from, unless it knows better.
fn named(mut origin: Origin, word: &str) -> Origin {
    if origin.mark.source.is_empty() {
        origin.mark.source = word.to_owned();
    }
    origin
}

/// An image that lies here may be for another machine: it can be packed for that one, and is not refused.
fn warn_of_another_machine(origin: &Origin, word: &str) {
    let configuration = Configuration {
        architecture: origin.mark.architecture.clone().unwrap_or_default(),
        ..Configuration::default()
    };
    if let Err(reason) = oci::refuse_another(&configuration) {
        tracing::warn!("the image {word} cannot be run here: {reason}");
    }
}

fn convert(origin: Origin, output: &Output, config: &Config, reporter: &Reporter) -> Result<()> {
    let form = Form::SquashFs(Compression::default());
    make::file(origin, output, form, config, reporter).map(|_| ())
}

fn archive_digest(place: &Bundle, cache: &Cache<'_>, access: &mut Access<'_>) -> Result<Digest> {
    let digest = match cache.archive_digest(&place.path) {
        Some(digest) => digest,
        None => {
            let digest = stage::digest_of(&place.path, &place.word, access)?;
            if access.may_fetch {
                cache.set_archive_digest(&place.path, &digest)?;
            }
            digest
        }
    };
    // The same file can be several images, by what its word says of it.
    Ok(match place.selection() {
        Some(selection) => Digest::of(format!("{digest} {selection}").as_bytes()),
        None => digest,
    })
}

/// All names in a place where images are found by name.
pub fn list(place: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(place).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| {
            !path
                .file_name()
                .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
        })
        .collect();
    paths.sort();
    paths
}

/// The name by which an image in such a place is called.
pub fn name_of(path: &Path) -> String {
    let name = path
        .file_name()
        .unwrap_or(OsStr::new(""))
        .to_string_lossy()
        .into_owned();
    name.strip_suffix(".sqfs")
        .map_or(name.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::without_place;

    #[test]
    fn where_a_file_lay_is_no_part_of_what_it_is() {
        for (word, rest) in [
            ("./image.tar", "image.tar"),
            ("/data/x/image.tar.gz", "image.tar.gz"),
            ("docker-archive:/data/image.tar", "docker-archive:image.tar"),
            ("buildah build ./context", "buildah build context"),
            ("image", "image"),
        ] {
            assert_eq!(without_place(word), rest);
        }
    }
}
