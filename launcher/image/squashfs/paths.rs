//! Paths inside an image, with its symbolic links, none of which leads out of it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use super::inode::{Inode, Kind};
use super::{Result, SquashFs};

/// As many links are followed as Linux follows, path_resolution(7).
const MOST_LINKS: usize = 40;

impl SquashFs {
    /// What a path leads to, if anything. `follow` says whether a link at its end is followed.
    ///
    /// # Errors
    /// A damaged image.
    pub fn find(&self, path: &Path, follow: bool) -> Result<Option<Inode>> {
        let mut way = vec![self.root()?];
        let mut links = 0;
        let mut rest: Vec<PathBuf> = parts(path);
        while let Some(name) = rest.pop() {
            if name.as_os_str() == ".." {
                // The root's parent is the root.
                way.truncate(way.len().saturating_sub(1).max(1));
                continue;
            }
            let Some(here) = way.last().filter(|here| here.kind == Kind::Directory) else {
                return Ok(None);
            };
            let Some(entry) = self.lookup(here, name.as_os_str().as_bytes())? else {
                return Ok(None);
            };
            let inode = self.inode_of(&entry)?;
            if inode.kind != Kind::Symlink || rest.is_empty() && !follow {
                way.push(inode);
                continue;
            }
            links += 1;
            if links > MOST_LINKS {
                return Ok(None);
            }
            let target = self.target(&inode)?;
            let target = Path::new(OsStr::from_bytes(&target));
            if target.is_absolute() {
                way.truncate(1);
            }
            rest.extend(parts(target));
        }
        Ok(way.pop())
    }
}

/// The names in a path, the last one first.
fn parts(path: &Path) -> Vec<PathBuf> {
    path.components()
        .rev()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir))
        .map(|part| PathBuf::from(part.as_os_str()))
        .collect()
}
