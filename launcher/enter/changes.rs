//! What makes an image writable: an overlay of the changes, which live in memory or in a directory of the user's.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::points::mode;
use super::root::Lower;
use super::{below, kept, layered};
use crate::mount::{Mount, UPPER};
use chariot_core::sys::{Call, mounts};

/// How long a container that is no more wanted may take to go, and how often that is looked at.
const ENDING: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_millis(50);

/// An overlay whose changes live in memory and go away with the container.
pub(super) fn throwaway(
    image: &Lower<'_>,
    bytes: u64,
    mounts: &[Mount],
    texts: BorrowedFd<'_>,
) -> Call<OwnedFd> {
    let memory = mounts::tmpfs(Some(bytes), "755")?;
    // overlayfs takes only layers that are mounted in this namespace.
    mounts::attach_over_root(&memory)?;
    let image = image.layer()?;
    Layers::in_directory(&memory, &image, false)?.overlay(&image, mounts, texts)
}

/// What makes an overlay of an image: the changes, and a directory for the kernel.
pub(super) struct Layers {
    upper: OwnedFd,
    work: OwnedFd,
    keep: bool,
}

impl Layers {
    /// Makes both in `directory`, where they may be already. The root that is seen is the upper one: it has the mode
    /// that `image` has, but that the user may write in it.
    pub(super) fn in_directory(directory: &OwnedFd, image: &OwnedFd, keep: bool) -> Call<Layers> {
        let upper = Path::new(UPPER);
        if mounts::make_directory(directory, upper).is_ok() {
            mounts::change_mode(directory, upper, mode(image) | 0o700)?;
        }
        Ok(Layers {
            upper: layered::directory_in(directory.as_fd(), upper)?,
            work: layered::directory_in(directory.as_fd(), Path::new(kept::WORK))?,
            keep,
        })
    }

    /// The image with the changes, and below it the points that are missing in both, made in `memory`.
    pub(super) fn overlay(
        self,
        image: &OwnedFd,
        mounts: &[Mount],
        memory: BorrowedFd<'_>,
    ) -> Call<OwnedFd> {
        let below = below::layer(self.view(image).as_fd(), mounts, memory)?;
        let mut lower = vec![image.as_fd()];
        lower.extend(below.as_ref().map(AsFd::as_fd));
        let overlay =
            self.when_free(|| mounts::overlay(&lower, &self.upper, &self.work, self.keep))?;
        if !mounts::can_be_opaque(&self.work) {
            warn_of_directories(self.keep);
        }
        Ok(overlay)
    }

    /// Waits a while where another container has the directory: one whose step the user has seen end goes when slurmstepd
    /// does, and what it has written has to reach the disk.
    fn when_free(&self, mount: impl Fn() -> Call<OwnedFd>) -> Call<OwnedFd> {
        let begin = Instant::now();
        loop {
            match mount() {
                Err(error) if error.errno() == Errno::EBUSY && begin.elapsed() < ENDING => {
                    std::thread::sleep(AGAIN);
                }
                result => return result,
            }
        }
    }

    /// What will be seen, to look at: a real overlay would write back the whole file system when it goes away.
    fn view<'a>(&self, image: &'a OwnedFd) -> View<'a> {
        if !self.keep || layered::is_empty(&self.upper) {
            return View::Image(image);
        }
        match mounts::layered(&self.upper, image) {
            Ok(both) => View::Both(both),
            // The overlay itself will say why.
            Err(_) => View::Image(image),
        }
    }
}

/// Without a note at a directory overlayfs hides none of the image's, and answers EIO to who removes one.
fn warn_of_directories(keep: bool) {
    tracing::warn!("warning: directories of the image can be written to, but not be removed");
    match keep {
        true => tracing::warn!(
            "hint: the changes are on a file system without extended attributes of users, as tmpfs is before Linux 6.6; \
             another can hold them"
        ),
        false => tracing::warn!(
            "hint: changes in memory have this limit before Linux 6.6; with `--overlay DIR` on a disk there is none"
        ),
    }
}

/// What an overlay will show.
enum View<'a> {
    Image(&'a OwnedFd),
    Both(OwnedFd),
}

impl AsFd for View<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            View::Image(image) => image.as_fd(),
            View::Both(both) => both.as_fd(),
        }
    }
}
