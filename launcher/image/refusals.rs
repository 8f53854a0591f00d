//! Words that name no image that can be run, and what is said then.

use std::path::Path;

use crate::config::Config;
use crate::error::{Error, Explain, Result, io_reason};

/// What to take instead.
pub(super) const WHAT_AN_IMAGE_IS: &str = "an image is a SquashFS or SIF file, or a directory that holds a whole file \
                                system, such as `chariot unpack` makes";

pub(super) fn refuse_scheme(word: &str) -> Result<()> {
    for scheme in ["oci:", "docker:", "docker-archive:", "oci-archive:"] {
        if word.starts_with(scheme) {
            return Err(Error::new(format!(
                "can't use the image {word}: this version of Chariot runs directory trees, SquashFS and SIF files only"
            ))
            .hint("export it to a tar file and run `chariot unpack FILE DIR`"));
        }
    }
    Ok(())
}

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

/// Says what a file is that was given as an image.
#[cfg(feature = "launcher")]
pub(super) fn refuse_file(word: &str, start: &[u8]) -> Error {
    if !is_archive(start) {
        return not_an_image(word);
    }
    Error::new(format!(
        "can't use the image {word}: it is an archive, and this version of Chariot runs directory trees, SquashFS \
         and SIF files only"
    ))
    .hint(format!("make a directory of it: chariot unpack {word} DIR"))
}

/// Says that a SIF file holds nothing that could be run in.
#[cfg(feature = "launcher")]
pub(super) fn no_partition(word: &str) -> Error {
    Error::new(format!(
        "can't use the image {word}: this SIF file has no SquashFS partition to run in"
    ))
    .hint(
        "encrypted ones and those of Singularity 2 cannot be read: build it again, or as SquashFS",
    )
}

#[cfg(feature = "launcher")]
fn is_archive(start: &[u8]) -> bool {
    let magics: [&[u8]; 4] = [b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"];
    magics.iter().any(|magic| start.starts_with(magic))
}

pub(super) fn not_an_image(word: &str) -> Error {
    Error::new(format!(
        "can't use the image {word}: it is neither a directory nor a known file"
    ))
    .hint(WHAT_AN_IMAGE_IS)
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
