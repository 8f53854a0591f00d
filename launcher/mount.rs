//! What can be mounted in a container, and the names that Chariot has there: the words of a plan, of devices and of entry.

use std::path::{Path, PathBuf};

use chariot_core::sys::mounts::Restrictions;

/// Where an overlay's directory has its changes; `work` beside it is the kernel's.
pub const UPPER: &str = "upper";

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountSource {
    /// A file or directory of the host, with all that is mounted below it.
    Host(PathBuf),
    /// An empty file system in memory, of at most so many bytes.
    Tmpfs(Option<u64>),
    /// A file with this text.
    Text(String),
    /// A file with these bytes.
    Data(Vec<u8>),
    /// A file with these bytes that is written into a root that can be changed, since programs of the image give another its
    /// name; it is mounted where the user may not write.
    Written(Vec<u8>),
    /// A symbolic link that says this.
    Link(PathBuf),
    /// What is in a SquashFS file.
    SquashFs(PathBuf),
    /// A directory with these commands of the host.
    Commands(Vec<String>),
    /// A symbolic link that says this, where that takes no mount of its own and hides nothing: it can be missed.
    Name(PathBuf),
}

/// Settings for apt(8) while owners are pretended, and where they are: it looks whether it has become its own user,
/// and there is no way to pretend that. apt.conf(5) says what names the file: a variable.
pub const APT_CONFIG: &str = "/.chariot/apt.conf";

/// The files of /etc that containers have for the user's convenience.
const FILES_OF_ETC: [&str; 6] = [
    "/etc/hosts",
    "/etc/resolv.conf",
    "/etc/machine-id",
    "/etc/localtime",
    "/etc/passwd",
    "/etc/group",
];

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// What is mounted.
    pub source: MountSource,
    /// Where.
    pub destination: PathBuf,
    /// What the mount forbids.
    pub restrictions: Restrictions,
    /// Whether a symbolic link at the destination is followed (inside the image) or mounted on.
    /// Mounted on where Chariot chose the place: /etc/localtime usually is a link to the description of
    /// some time zone, which must stay what it is.
    pub follow: bool,
    /// Who wanted it, as `chariot explain` shows it.
    pub origin: String,
}

impl Mount {
    /// Something of Chariot's own choice, at a place of its own choice.
    pub(crate) fn own(source: MountSource, destination: impl Into<PathBuf>, origin: &str) -> Mount {
        Mount {
            source,
            destination: destination.into(),
            restrictions: Restrictions::default(),
            follow: false,
            origin: origin.to_owned(),
        }
    }

    /// Whether a container is of use without it: a file of Chariot's choice, where an image may have something else.
    pub(crate) fn can_be_missed(&self) -> bool {
        !self.follow
            && FILES_OF_ETC
                .iter()
                .any(|path| self.destination == Path::new(path))
    }

    /// A part of the host at its own path.
    pub(crate) fn same(path: impl Into<PathBuf>, origin: &str) -> Mount {
        let path = path.into();
        Mount::own(MountSource::Host(path.clone()), path, origin)
    }
}
