//! What goes from one form of an image into another: members, and where they come from.

use std::io::{self, Read};

/// An extended attribute: its name and its value.
pub type Xattr = (Vec<u8>, Vec<u8>);

/// One file, directory, link or device of an image, as its source has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its path as it stands in the source, which may be hostile.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// The length of a regular file, in bytes.
    pub length: u64,
    /// Who may do what with it, and when it was changed.
    pub attributes: Attributes,
}

/// What a member is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file; its contents come with the member.
    File,
    /// A symbolic link, with its target.
    Symlink(Vec<u8>),
    /// Another name of the file that came before under this path.
    Link(Vec<u8>),
    /// A device, which an image does not get.
    Special,
    /// A named pipe, which it does not get either.
    Fifo,
    /// Nor a socket.
    Socket,
    /// What the layers below have under this name is not there.
    Whiteout,
    /// What the layers below have in this directory is not there.
    Opaque,
}

/// Permissions, owner, time and extended attributes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attributes {
    /// Permission bits.
    pub permissions: u16,
    /// User ID.
    pub user: u32,
    /// Group ID.
    pub group: u32,
    /// Seconds since 1970.
    pub modified: u64,
    /// Extended attributes.
    pub xattrs: Vec<Xattr>,
}

impl Attributes {
    /// Those of what Chariot itself adds to an image.
    pub fn new(permissions: u16) -> Attributes {
        Attributes {
            permissions,
            ..Attributes::default()
        }
    }
}

/// Takes each member of a source, with the contents if it is a file.
pub type Visitor<'a> = dyn FnMut(Member, &mut dyn Read) -> io::Result<()> + 'a;

/// One layer of an image. After [`Source::keep`] it can be read more than once, and gives the same each time.
pub trait Source {
    /// Calls `visit` for each member, directories before what is in them where the source has them so.
    ///
    /// # Errors
    /// The source cannot be read or understood, or `visit` failed.
    fn each(&self, visit: &mut Visitor<'_>) -> io::Result<()>;

    /// Makes sure that it can be read more than once, if its bytes come only once.
    ///
    /// # Errors
    /// They cannot be read or kept.
    fn keep(&self) -> io::Result<()> {
        Ok(())
    }
}
