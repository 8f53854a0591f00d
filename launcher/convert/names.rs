//! Names and attributes that an image can have, whatever its source says.

use std::io;

use super::member::Attributes;

/// The longest name, in bytes; NAME_MAX.
const LONGEST_NAME: usize = 255;

/// How many directories deep an image may be.
const DEEPEST: usize = 4096;

/// Set-user-ID and set-group-ID: nobody's identity but the user's is in the image.
const SET_ID: u16 = 0o6000;

/// A member that cannot be.
pub(super) fn wrong(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

/// The components of a path.
pub(super) fn split(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/')
        .filter(|name| !name.is_empty() && *name != b".")
}

pub(super) fn check_names(components: &[&[u8]], path: &[u8]) -> io::Result<()> {
    if path.contains(&0) {
        return Err(wrong("its name has a NUL byte"));
    }
    if components.len() > DEEPEST {
        return Err(wrong("it is too many directories deep"));
    }
    match components.iter().any(|name| name.len() > LONGEST_NAME) {
        true => Err(wrong("its name is too long")),
        false => Ok(()),
    }
}

/// A directory that its owner cannot write could not be removed with the image later.
pub(super) fn safe(attributes: &Attributes, is_directory: bool) -> Attributes {
    let more = if is_directory { 0o700 } else { 0 };
    Attributes {
        permissions: attributes.permissions & 0o7777 & !SET_ID | more,
        ..attributes.clone()
    }
}
