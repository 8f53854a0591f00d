//! Words that name no image that can be run, and what is said then.

use std::path::Path;

use chariot_core::error::{Error, io_reason};
use chariot_core::open;

/// What to take instead.
pub(crate) const WHAT_AN_IMAGE_IS: &str = "an image is a SquashFS, SIF or tar file, an OCI layout, docker://NAME, or a \
                                directory that holds a whole file system";

pub(crate) fn missing(word: &str, path: &Path, error: &std::io::Error) -> Error {
    let told = Error::new(format!(
        "can't use the image {word}: stat(\"{}\"): {}",
        path.display(),
        io_reason(error)
    ));
    match error.kind() {
        std::io::ErrorKind::NotFound => told.hint(open::where_it_ends(path)),
        std::io::ErrorKind::PermissionDenied => {
            told.hint("you need permission to search every directory on the way to it")
        }
        _ => told,
    }
}

/// Says that a SIF file holds nothing that could be run in.
pub(crate) fn no_partition(word: &str) -> Error {
    Error::new(format!(
        "can't use the image {word}: this SIF file has no SquashFS partition to run in"
    ))
    .hint(
        "encrypted ones and those of Singularity 2 cannot be read: build it again, or as SquashFS",
    )
}

pub(crate) fn not_an_image(word: &str) -> Error {
    Error::new(format!(
        "can't use the image {word}: it is not in a format that Chariot knows"
    ))
    .hint(WHAT_AN_IMAGE_IS)
}
