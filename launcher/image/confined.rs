//! Places for images that are being made: a directory as the root of the process that fills it, so that no
//! name, symbolic link or hard link of an archive can lead anywhere else, and removing what was made.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::sys::{Call, mounts, namespaces};

/// Makes `directory` the root of this process, in namespaces of its own.
///
/// # Errors
/// The kernel's answer.
pub fn confine(directory: &Path) -> Call<()> {
    let (user, group) = (
        nix::unistd::geteuid().as_raw(),
        nix::unistd::getegid().as_raw(),
    );
    namespaces::unshare_user()?;
    namespaces::write_id_maps((user, user), (group, group))?;
    namespaces::unshare_mounts()?;
    mounts::receive_only()?;
    let tree = mounts::clone_tree(directory)?;
    mounts::attach_over_root(&tree)?;
    mounts::change_root(&tree)?;
    namespaces::no_new_privileges()
}

/// Removes whatever is at a path; nothing there is no failure.
///
/// # Errors
/// What could not be removed.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(data) if data.is_dir() => remove_tree(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => Ok(()),
    }
}

/// Removes a tree of the user's, whatever modes its directories have.
///
/// # Errors
/// What could not be removed.
pub fn remove_tree(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            make_removable(directory)?;
            fs::remove_dir_all(directory)
        }
        result => result,
    }
}

fn make_removable(directory: &Path) -> io::Result<()> {
    fs::set_permissions(directory, Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            make_removable(&entry.path())?;
        }
    }
    Ok(())
}
