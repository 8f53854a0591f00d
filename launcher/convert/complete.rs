//! What makes an image of any tree of files: a top that is one, and the mount points that each container
//! needs.

use super::member::{Attributes, Kind, Member};
use super::tree::{Applied, Number, ROOT, Tree};
use std::io;

/// The names that a file system has at its top. An image that holds only one of them is small, and
/// not an archive that was made one level too high.
const TOP: [&[u8]; 20] = [
    b"bin", b"boot", b"dev", b"etc", b"home", b"lib", b"lib32", b"lib64", b"media", b"mnt", b"opt",
    b"proc", b"root", b"run", b"sbin", b"srv", b"sys", b"tmp", b"usr", b"var",
];

impl Tree {
    /// Makes an image of what is there. Gives files that it added, which are empty.
    ///
    /// # Errors
    /// There is no room for more files.
    pub fn complete(&mut self) -> io::Result<Vec<(Number, Vec<u8>)>> {
        self.empty_dev();
        for directory in ["dev", "proc", "sys", "tmp", "etc"] {
            let permissions = if directory == "tmp" { 0o1777 } else { 0o755 };
            if !self.has_at_top(directory) {
                self.apply(&own(directory, Kind::Directory, permissions))?;
            }
        }
        let mut added = Vec::new();
        for file in ["hosts", "machine-id", "resolv.conf"] {
            // An image with a file or a dangling link for /etc is odd and still an image.
            let Some(etc) = self.top("etc").filter(|etc| self.directory(*etc).is_some()) else {
                continue;
            };
            let has = |own: &super::tree::Directory| own.entries.contains_key(file.as_bytes());
            if !self.directory(etc).is_some_and(has)
                && let Applied::At(number, path) =
                    self.apply(&own(&format!("etc/{file}"), Kind::File, 0o644))?
            {
                added.push((number, path));
            }
        }
        Ok(added)
    }

    fn top(&self, name: &str) -> Option<Number> {
        self.directory(ROOT)?.entries.get(name.as_bytes()).copied()
    }

    fn has_at_top(&self, name: &str) -> bool {
        self.top(name).is_some()
    }

    /// `tar czf image.tgz image/` makes an archive with one directory; what is in it is meant. Gives that
    /// directory and its name.
    pub fn single_directory(&self) -> Option<(Number, Box<[u8]>)> {
        let mut entries = self.directory(ROOT)?.entries.iter();
        let (Some((name, only)), None) = (entries.next(), entries.next()) else {
            return None;
        };
        let is_top = TOP.contains(&&**name) || self.directory(*only).is_none();
        (!is_top).then(|| (*only, name.clone()))
    }

    /// What an archive has in /dev means nothing: the host's is mounted there.
    fn empty_dev(&mut self) {
        if let Some(dev) = self.top("dev").filter(|dev| self.directory(*dev).is_some()) {
            let names = self.directory(dev).map_or(0, |own| own.entries.len());
            self.in_dev += names as u64;
            self.empty(dev);
        }
    }
}

/// A member that Chariot adds.
pub(super) fn own(path: &str, kind: Kind, permissions: u16) -> Member {
    Member {
        path: path.into(),
        kind,
        length: 0,
        attributes: Attributes::new(permissions),
    }
}
