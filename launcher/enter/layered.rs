//! Mount points that directories of the image lack, added to each directory by one mount, before anything else is
//! mounted: an overlay of a layer in memory, with all its points, and the directory; or the layer alone, where the
//! directory is empty. Covering a directory of 200 entries, as [`super::points`] does, takes a mount for each.
//!
//! What is not done here, is done there: points in the root itself, since the whole image should not be seen
//! through an overlay, and points where the kernel has no overlay for us.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use rustix::fs::OFlags;

use super::points::{Points, mode};
use crate::image;
use crate::mount::{Mount, MountSource};
use chariot_core::sys::mounts;
use chariot_core::sys::{self, Call, FileIdentity};

/// Adds the points that `mounts` will need. `memory` is a tmpfs in which each directory gets a layer.
///
/// # Errors
/// The kernel's answer, where it was one to the look around and not to the overlay.
pub(super) fn add_points(
    points: &mut Points,
    mounts: &[Mount],
    memory: BorrowedFd<'_>,
) -> Call<()> {
    let mut lacking = lacking(points, mounts)?;
    // What is above another comes first, or would hide it.
    lacking.sort_by_key(|lacking| lacking.path.components().count());
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    for (number, lacking) in lacking.iter_mut().enumerate() {
        let name = PathBuf::from(format!("layer{number}"));
        lacking.directory = sys::open_in_root(points.root(), &lacking.path, flags)?;
        match with_points(lacking, memory, &name) {
            Ok(tree) => {
                mounts::attach(&tree, &lacking.directory, &lacking.path)?;
                points.add(&tree)?;
            }
            // The other way is left.
            Err(error) => tracing::debug!("no overlay of {}: {error}", lacking.path.display()),
        }
    }
    Ok(())
}

/// A directory of the image, and the points that it lacks.
struct Lacking<'a> {
    directory: OwnedFd,
    path: PathBuf,
    place: FileIdentity,
    /// As paths from the directory on.
    points: Vec<(PathBuf, Point<'a>)>,
}

/// The directories below the root that lack points.
fn lacking<'a>(points: &Points, mounts: &'a [Mount]) -> Call<Vec<Lacking<'a>>> {
    let mut found: Vec<Lacking<'a>> = Vec::new();
    for (index, mount) in mounts.iter().enumerate() {
        let destination = &mount.destination;
        let is_in_another = |before: &Mount| destination.starts_with(&before.destination);
        if mounts[..index].iter().any(is_in_another) {
            continue;
        }
        let point = Point::of(mount);
        let is_there = match point {
            _ if matches!(mount.source, MountSource::Name(_)) => points.is_taken(destination),
            Point::Link(target) => points.has_link(destination, target),
            _ => points.has(destination, mount.follow),
        };
        if is_there {
            continue;
        }
        let Some((vacancy, place)) = points.vacancy(destination)? else {
            continue;
        };
        let point = (vacancy.rest, point);
        match found.iter_mut().find(|lacking| lacking.place == place) {
            Some(lacking) => lacking.points.push(point),
            None => found.push(Lacking {
                directory: vacancy.directory,
                path: vacancy.path,
                place,
                points: vec![point],
            }),
        }
    }
    Ok(found)
}

/// What is added to a directory.
#[derive(Clone, Copy)]
pub(super) enum Point<'a> {
    /// A file to mount on.
    File,
    /// A directory to mount on.
    Directory,
    /// A symbolic link.
    Link(&'a Path),
}

impl Point<'_> {
    pub(super) fn of(mount: &Mount) -> Point<'_> {
        match &mount.source {
            MountSource::Host(path) if path.is_dir() => Point::Directory,
            MountSource::Host(_)
            | MountSource::Text(_)
            | MountSource::Data(_)
            | MountSource::Written(_) => Point::File,
            MountSource::Tmpfs(_) | MountSource::SquashFs(_) | MountSource::Commands(_) => {
                Point::Directory
            }
            MountSource::Link(target) | MountSource::Name(target) => Point::Link(target),
        }
    }
}

/// The directory with its points.
fn with_points(lacking: &Lacking<'_>, memory: BorrowedFd<'_>, name: &Path) -> Call<OwnedFd> {
    let layer = directory_in(memory, name)?;
    for (path, point) in &lacking.points {
        add(layer.as_fd(), path, *point)?;
    }
    // The overlay shows the mode of its top layer.
    mounts::change_mode(memory, name, mode(&lacking.directory))?;
    if is_empty(&lacking.directory) {
        let tree = mounts::clone_entry(memory, name)?;
        mounts::seal(&tree)?;
        return Ok(tree);
    }
    mounts::layered(&layer, &lacking.directory)
}

/// Whether there is nothing that a mount would hide; a directory that cannot be listed may have something.
pub(super) fn is_empty(directory: &OwnedFd) -> bool {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    sys::open_in_root(directory, Path::new("."), flags).is_ok_and(image::is_empty)
}

/// Makes a point and the directories above it.
pub(super) fn add(layer: BorrowedFd<'_>, path: &Path, point: Point<'_>) -> Call<()> {
    let mut parent = None::<OwnedFd>;
    let mut parts = path.iter().map(Path::new).peekable();
    while let Some(part) = parts.next() {
        let above = parent.as_ref().map_or(layer, AsFd::as_fd);
        match point {
            _ if parts.peek().is_some() => parent = Some(directory_in(above, part)?),
            Point::Directory => parent = Some(directory_in(above, part)?),
            Point::File => drop(mounts::make_file(above, part)?),
            Point::Link(target) => mounts::make_link(above, part, target)?,
        }
    }
    Ok(())
}

/// A directory in another; one that is there will do.
pub(super) fn directory_in(parent: BorrowedFd<'_>, name: &Path) -> Call<OwnedFd> {
    match mounts::make_directory(parent, name) {
        Err(error) if error.errno() != Errno::EEXIST => Err(error),
        _ => sys::open_in_root(parent, name, OFlags::PATH | OFlags::DIRECTORY),
    }
}
