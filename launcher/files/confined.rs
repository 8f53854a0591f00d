//! A directory that is being made as the root of the process that fills it, so that no name, symbolic link or hard link
//! of an archive can lead anywhere else.
//!
//! That a process is confined is a value of the type [`Confined`], which nothing else gives. What writes names of
//! the new directory, and takes them away, asks for it, so that it cannot run in a process whose root is the host's.

use chariot_core::sys::rights;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::OFlags;

use super::{Identity, Output};
use chariot_core::error::{Error, Explain, Result};
use chariot_core::sys::{self, Call, mounts, namespaces, process};

/// Says that this process has nothing but a new directory, and gives access to it.
#[derive(Debug)]
pub struct Confined {
    root: OwnedFd,
}

impl Confined {
    /// Makes the directory that `output` is the root of this process, in namespaces of its own. This process must
    /// have one thread.
    ///
    /// # Errors
    /// The kernel's answer, or something else has the directory's name by now.
    pub fn enter(output: &Output) -> Result<Confined> {
        let what = || format!("can't unpack to {}", output.destination().display());
        change_root(&output.temporary()).explain(what)?;
        let root = sys::open(Path::new("/"), OFlags::RDONLY | OFlags::DIRECTORY).explain(what)?;
        match Identity::of(&root) {
            Ok(identity) if identity == output.identity() => Ok(Confined { root }),
            _ => Err(Error::new(format!(
                "{}: something else has the name {} by now",
                what(),
                output.temporary().display()
            ))
            .hint("try again")),
        }
    }

    /// The new directory.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
}

fn change_root(directory: &Path) -> Call<()> {
    let (user, group) = (rights::user(), rights::group());
    namespaces::unshare_user()?;
    namespaces::write_id_maps(process::own_directory()?, (user, user), (group, group))?;
    namespaces::unshare_mounts()?;
    mounts::receive_only()?;
    let tree = mounts::clone_tree(directory)?;
    mounts::attach_over_root(&tree)?;
    mounts::change_root(&tree)?;
    namespaces::no_new_privileges()
}

#[cfg(test)]
impl Confined {
    /// For tests of what is written, which run unconfined in a directory of their own.
    pub(crate) fn pretend(directory: &Path) -> Confined {
        Confined {
            root: sys::open(directory, OFlags::RDONLY | OFlags::DIRECTORY).unwrap(),
        }
    }
}
