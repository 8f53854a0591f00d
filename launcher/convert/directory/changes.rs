//! What an overlay notes of its changes, for itself: kernel.org, filesystems/overlayfs. None of it is for the image.

use std::io::{self, Read};

use crate::convert::member::{Kind, Member, Visitor, Xattr};
use crate::mount::APT_CONFIG;

/// How the names of its attributes begin, mounted in a user namespace and by root.
const PREFIXES: [&[u8]; 2] = [b"user.overlay.", b"trusted.overlay."];

/// In front of the rest of a name: somebody in the overlay set an attribute of such a name.
const ESCAPED: &[u8] = b"overlay.";

/// A member, and what an overlay says with it beside.
pub(super) struct Change {
    pub(super) member: Member,
    is_opaque: bool,
    /// Files in this directory can be whiteouts by an attribute.
    pub(super) has_whiteouts: bool,
    is_skipped: bool,
}

impl Change {
    pub(super) fn plain(member: Member) -> Change {
        Change {
            member,
            is_opaque: false,
            has_whiteouts: false,
            is_skipped: false,
        }
    }

    /// Reads what the overlay says: a device 0:0, or an empty file with an attribute where the directory says that
    /// there are such, takes a name away; another attribute says that what is below a directory does not show through.
    pub(super) fn of_overlay(
        mut member: Member,
        device: u64,
        may_be_whiteout: bool,
    ) -> io::Result<Change> {
        let mut change = Change::plain(member.clone());
        // A mount point of Chariot's own.
        change.is_skipped = member.path == APT_CONFIG.trim_start_matches('/').as_bytes();
        let mut is_whiteout = member.kind == Kind::Special && device == 0;
        let mut xattrs = Vec::new();
        for (name, value) in member.attributes.xattrs.drain(..) {
            let Some((prefix, own)) = own_part(&name) else {
                xattrs.push((name, value));
                continue;
            };
            match (own, value.as_slice()) {
                (b"opaque", b"y") => change.is_opaque = true,
                (b"opaque", b"x") => change.has_whiteouts = true,
                (b"whiteout", _) => {
                    is_whiteout |=
                        may_be_whiteout && member.kind == Kind::File && member.length == 0;
                }
                (b"redirect" | b"metacopy", _) => return Err(refused(own)),
                _ => xattrs.extend(unescaped(prefix, own, value)),
            }
        }
        member.attributes.xattrs = xattrs;
        if is_whiteout {
            member.kind = Kind::Whiteout;
        }
        change.member = member;
        Ok(change)
    }

    pub(super) fn is_directory(&self) -> bool {
        self.member.kind == Kind::Directory
    }

    pub(super) fn length(&self) -> u64 {
        self.member.length
    }

    /// Whether it can be one of several names of a file.
    pub(super) fn can_have_names(&self) -> bool {
        !self.is_skipped && !matches!(self.member.kind, Kind::Directory | Kind::Whiteout)
    }

    pub(super) fn visit(self, visit: &mut Visitor<'_>, contents: &mut dyn Read) -> io::Result<()> {
        if self.is_skipped {
            return Ok(());
        }
        let opaque = self.is_opaque.then(|| Member {
            kind: Kind::Opaque,
            ..self.member.clone()
        });
        visit(self.member, contents)?;
        opaque.map_or(Ok(()), |opaque| visit(opaque, &mut io::empty()))
    }
}

/// The part of an attribute's name that is overlayfs's own, if it is one of its.
fn own_part(name: &[u8]) -> Option<(&'static [u8], &[u8])> {
    let mut prefixes = PREFIXES.into_iter();
    prefixes.find_map(|prefix| Some((prefix, name.strip_prefix(prefix)?)))
}

fn unescaped(prefix: &[u8], own: &[u8], value: Vec<u8>) -> Option<Xattr> {
    let rest = own.strip_prefix(ESCAPED)?;
    Some(([prefix, rest].concat(), value))
}

/// Chariot mounts overlays so that they never do this; what another program mounted holds less than it shows.
fn refused(own: &[u8]) -> io::Error {
    let what = match own {
        b"redirect" => "its contents are where another directory was (overlay.redirect)",
        _ => "its contents are in the layer below (overlay.metacopy)",
    };
    io::Error::new(
        io::ErrorKind::Unsupported,
        format!("the overlay was not made by Chariot: {what}"),
    )
}
