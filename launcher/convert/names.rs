//! Names and attributes that an image can have, whatever its source says.

use std::io;

use super::member::Attributes;

/// The longest name, in bytes; NAME_MAX.
const LONGEST_NAME: usize = 255;

/// How many directories deep an image may be.
pub(super) const DEEPEST: usize = 4096;

/// Set-user-ID and set-group-ID: nobody's identity but the user's is in the image.
const SET_ID: u16 = 0o6000;

/// The attributes that an ordinary user may set, and the only ones that mean the same wherever the image goes.
const USER: &[u8] = b"user.";

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

/// What of a member's attributes an image does not get; a bit for each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Lost(u8);

impl Lost {
    pub(super) const SET_USER: Lost = Lost(1);
    pub(super) const SET_GROUP: Lost = Lost(2);
    pub(super) const CAPABILITY: Lost = Lost(4);
    pub(super) const XATTRS: Lost = Lost(8);

    pub(super) fn of(attributes: &Attributes) -> Lost {
        let named = |prefix: &[u8]| {
            let mut names = attributes.xattrs.iter().map(|(name, _)| name);
            names.any(|name| name.starts_with(prefix))
        };
        // SELinux labels every file of a machine, and the label is the machine's.
        let known: [&[u8]; 3] = [USER, b"security.capability", b"security.selinux"];
        let is_known = |name: &[u8]| known.iter().any(|known| name.starts_with(known));
        let mut lost = 0;
        for (is_so, kind) in [
            (attributes.permissions & 0o4000 != 0, Lost::SET_USER),
            (attributes.permissions & 0o2000 != 0, Lost::SET_GROUP),
            (named(b"security.capability"), Lost::CAPABILITY),
            (
                attributes.xattrs.iter().any(|(name, _)| !is_known(name)),
                Lost::XATTRS,
            ),
        ] {
            lost |= if is_so { kind.0 } else { 0 };
        }
        Lost(lost)
    }

    pub(super) fn has(self, kind: Lost) -> bool {
        self.0 & kind.0 != 0
    }
}

/// A directory that its owner cannot write could not be removed with the image later. Attributes are sorted: in
/// which order a file system lists them is nobody's business.
pub(super) fn safe(attributes: &Attributes, is_directory: bool) -> Attributes {
    let more = if is_directory { 0o700 } else { 0 };
    let mut xattrs: Vec<_> = attributes
        .xattrs
        .iter()
        .filter(|(name, _)| name.starts_with(USER))
        .cloned()
        .collect();
    xattrs.sort();
    Attributes {
        permissions: attributes.permissions & 0o7777 & !SET_ID | more,
        xattrs,
        ..*attributes
    }
}
