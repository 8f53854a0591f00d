//! Words that name no image that can be run, and what is said then.

use std::path::Path;

use crate::config::Config;
use crate::error::{Error, Explain, Result, io_reason};
use crate::options::given;

/// What to take instead.
pub(super) const WHAT_AN_IMAGE_IS: &str = "an image is a SquashFS, SIF or tar file, an OCI layout, docker://NAME, or a \
                                directory that holds a whole file system";

pub(super) fn missing(word: &str, path: &Path, error: &std::io::Error) -> Error {
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

/// Says that a SIF file holds nothing that could be run in.
pub(super) fn no_partition(word: &str) -> Error {
    Error::new(format!(
        "can't use the image {word}: this SIF file has no SquashFS partition to run in"
    ))
    .hint(
        "encrypted ones and those of Singularity 2 cannot be read: build it again, or as SquashFS",
    )
}

pub(super) fn not_an_image(word: &str) -> Error {
    Error::new(format!(
        "can't use the image {word}: it is neither a directory nor a known file"
    ))
    .hint(WHAT_AN_IMAGE_IS)
}

/// Says what to write instead of what other tools understand.
pub(super) fn refuse_foreign(word: &str) -> Result<()> {
    match given::foreign_scheme(word) {
        Some((scheme, advice)) => Err(Error::new(format!(
            "can't use the image {word}: Chariot does not know what {scheme}: means"
        ))
        .hint(advice)),
        None => Ok(()),
    }
}

pub(super) fn refuse_outside(word: &str, path: &Path, config: &Config) -> Result<()> {
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
