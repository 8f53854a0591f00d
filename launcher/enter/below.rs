//! Mount points that an overlay lacks, in a layer of their own below the image: everything that the image or its
//! changes have lies above it, so that it adds what is missing and changes nothing, not a directory's mode either; and
//! since nothing has to be made in the overlay, no change has a trace of it, nor does it matter whose the image's
//! directories are.
//!
//! Above the image it could hide links too, where [`super::points`] mounts on them; but then its directories would show
//! their own owners, modes and attributes in place of the image's. In the changes themselves points would be packed,
//! and left there by whoever is killed.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::layered::{self, Point};
use super::reach::reach;
use crate::mount::Mount;
use chariot_core::sys::Call;

/// A layer with the points for `mounts` that are missing in `view`; none if nothing is. It is made in `memory`, a
/// tmpfs that is mounted.
///
/// # Errors
/// The kernel's answer.
pub(super) fn layer(
    view: BorrowedFd<'_>,
    mounts: &[Mount],
    memory: BorrowedFd<'_>,
) -> Call<Option<OwnedFd>> {
    let missing = missing(view, mounts);
    if missing.is_empty() {
        return Ok(None);
    }
    let layer = layered::directory_in(memory, Path::new("below"))?;
    for (path, point) in missing {
        // Two points that exclude each other: the later has none, and its mount says so.
        if let Err(error) = layered::add(layer.as_fd(), &path, point) {
            tracing::debug!("no point at {}: {error}", path.display());
        }
    }
    Ok(Some(layer))
}

/// The ways from the root to points that are not there. What cannot be looked at is left to the mount, which says why.
fn missing<'a>(view: BorrowedFd<'_>, mounts: &'a [Mount]) -> Vec<(PathBuf, Point<'a>)> {
    let mut covered: Vec<PathBuf> = Vec::new();
    let mut missing = Vec::new();
    for mount in mounts {
        let point = Point::of(mount);
        let is_directory = matches!(point, Point::Directory);
        let Ok(reached) = reach(view, &mount.destination, is_directory) else {
            continue;
        };
        if covered.iter().any(|path| reached.path.starts_with(path)) {
            continue;
        }
        if reached.found.is_none()
            && let Ok(path) = reached.path.strip_prefix("/")
        {
            missing.push((path.to_owned(), point));
        }
        covered.push(reached.path);
    }
    missing
}
