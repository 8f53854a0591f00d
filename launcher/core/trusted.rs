//! Which image files root may have the kernel mount, and which bytes of them. The user's process says a path and no
//! more: it is the user's, and can be made to say anything. Root opens the file itself, on a way that is root's alone and
//! with the rights that the user has on files, so that no file system of the user's is touched and nothing is seen that
//! the user may not see; and reads in the file itself, which root alone has written, where the image lies.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::OFlags;

use crate::error::{Error, Explain, Result};
use crate::private::{self, Whose};
use crate::sif;
use crate::sys::rights::{Ids, Rights};
use crate::sys::{self, descriptors, lease};

/// Where root mounts the image, in a mount namespace of the step's own. Not over "/": the mount is locked to
/// what it lies on, and could not be taken away from there when the old root goes.
pub const MOUNT_POINT: &str = "/run/chariot";

/// Write permission for others than the owner.
const WRITABLE: u32 = 0o022;

/// The file system of FUSE, linux/magic.h: whoever serves it changes the file as he likes.
const FUSE: i64 = 0x6573_5546;

/// A file that root alone can have written, with an image in it.
#[derive(Debug)]
pub struct Trusted {
    /// The file.
    pub file: File,
    /// Where in it the image starts.
    pub start: u64,
    /// How long the image is.
    pub length: u64,
}

/// Opens the image at a path that the user's process says, if only root can have written the file, and only root can
/// replace it.
///
/// # Errors
/// What is not as it should be.
pub fn open(path: &Path, directories: &[PathBuf], user: &Ids) -> Result<Trusted> {
    let what = || format!("can't trust the image {}", path.display());
    // Before anything at that path is touched: elsewhere may be a file system that the user serves, and lets hang.
    let is_plain = path
        .components()
        .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if !is_plain || !path.is_absolute() || !is_listed(path, directories) {
        return Err(Error::new(format!(
            "{}: it lies in no directory of kernel_mount",
            what()
        )));
    }
    let rights = Rights::of(user).explain(what)?;
    let file = private::open_file(path, Whose::Roots).map_err(|refusal| refusal.told(&what()))?;
    drop(rights);
    check(&file, directories)?;
    let (start, length) = place(&file).explain(what)?.ok_or_else(|| {
        Error::new(format!(
            "{}: it is not an image that the kernel could mount",
            what()
        ))
    })?;
    Ok(Trusted {
        file,
        start,
        length,
    })
}

fn is_listed(path: &Path, directories: &[PathBuf]) -> bool {
    directories.iter().any(|directory| {
        directory
            .canonicalize()
            .is_ok_and(|directory| path.starts_with(&directory) && path != directory)
    })
}

/// Checks that only root can have written the file, and that only root can replace it.
fn check(file: &File, directories: &[PathBuf]) -> Result<()> {
    let what = || "can't trust the image".to_owned();
    let refuse = |reason: String| Err(Error::new(format!("{}: {reason}", what())));
    let data = file.metadata().explain(what)?;
    if data.uid() != 0 || data.mode() & WRITABLE != 0 {
        return refuse("others than root can write it".into());
    }
    let system = rustix::fs::fstatfs(file)
        .map_err(std::io::Error::from)
        .explain(what)?;
    if system.f_type == FUSE {
        return refuse("it lies on FUSE".into());
    }
    // Links of root's may have led there.
    let path = std::fs::read_link(descriptors::path_of(file)).explain(what)?;
    if !is_listed(&path, directories) {
        return refuse(format!(
            "{} lies in no directory of kernel_mount",
            path.display()
        ));
    }
    match lease::is_open_for_writing(file) {
        true => refuse("a process has it open for writing".into()),
        false => Ok(()),
    }
}

/// Makes the directory on which the image is mounted, and gives it.
///
/// # Errors
/// It cannot be made, or others than root can replace it.
#[allow(
    clippy::disallowed_methods,
    reason = "root's own place, whose name nobody chooses"
)]
pub fn mount_point() -> Result<OwnedFd> {
    let path = Path::new(MOUNT_POINT);
    let what = || format!("can't mount on {MOUNT_POINT}");
    match std::fs::create_dir(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(error).explain(what)?
        }
        _ => private::look(path, Whose::Roots).map_err(|refusal| refusal.told(&what()))?,
    }
    sys::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW).explain(what)
}

/// Where in its file the image lies: start and length in bytes. None if it is no image, or lies outside of the file.
fn place(file: &File) -> std::io::Result<Option<(u64, u64)>> {
    let all = file.metadata()?.len();
    let mut begin = [0; 64];
    file.read_at(&mut begin, 0)?;
    let place = match begin.starts_with(b"hsqs") {
        true => Some((0, all)),
        false if sif::is_sif(&begin) => sif::system_partition(file)?,
        false => None,
    };
    Ok(place.filter(|(start, length)| {
        *length > 0 && start.checked_add(*length).is_some_and(|end| end <= all)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    /// A directory that only root can write, below no other: /tmp is everybody's.
    struct Images(PathBuf);

    impl Images {
        fn new(name: &str) -> Option<Images> {
            if !crate::sys::rights::is_root() {
                return None;
            }
            let place = PathBuf::from(format!(
                "/var/lib/chariot-test-{name}-{}",
                std::process::id()
            ));
            std::fs::create_dir_all(place.join("listed/deep")).unwrap();
            std::fs::write(place.join("listed/deep/image"), "hsqs").unwrap();
            std::fs::write(place.join("outside"), "hsqs").unwrap();
            Some(Images(place))
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.join(name)
        }

        fn check(&self, name: &str) -> std::result::Result<(u64, u64), String> {
            self.check_for(name, &[])
        }

        fn check_for(&self, name: &str, groups: &[u32]) -> std::result::Result<(u64, u64), String> {
            let user = Ids {
                user: 4711,
                group: 4711,
                groups: groups.to_vec(),
            };
            open(&self.path(name), &[self.path("listed")], &user)
                .map(|trusted| (trusted.start, trusted.length))
                .map_err(|error| error.to_string())
        }

        #[track_caller]
        fn refused(&self, name: &str, reason: &str) {
            let error = self.check(name).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }

    impl Drop for Images {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_file_of_roots_below_a_listed_directory_is_trusted_and_no_other() {
        let Some(images) = Images::new("trust") else {
            return;
        };
        let image = images.path("listed/deep/image");
        assert_eq!(images.check("listed/deep/image"), Ok((0, 4)));
        images.refused("outside", "lies in no directory");
        images.refused("listed/deep", "Is a directory");
        mode(&image, 0o664);
        images.refused("listed/deep/image", "others than root can write it");
        mode(&image, 0o644);
        chown(&image, Some(12), None).unwrap();
        images.refused("listed/deep/image", "others than root can write it");
        chown(&image, Some(0), None).unwrap();
        mode(&images.path("listed/deep"), 0o1777);
        images.refused("listed/deep/image", "deep can be written by everybody");
        mode(&images.path("listed/deep"), 0o755);
        chown(images.path("listed"), Some(12), None).unwrap();
        images.refused("listed/deep/image", "listed belongs to user 12");
        chown(images.path("listed"), Some(0), None).unwrap();
        assert_eq!(images.check("listed/deep/image"), Ok((0, 4)));
    }

    #[test]
    fn names_do_not_make_a_file_trusted() {
        let Some(images) = Images::new("names") else {
            return;
        };
        symlink(images.path("outside"), images.path("listed/link")).unwrap();
        images.refused("listed/link", "symbolic links");
        images.refused("listed/../outside", "lies in no directory");
        symlink(&images.0, images.path("listed/up")).unwrap();
        images.refused("listed/up/outside", "lies in no directory");
        // A hard link is as much a name as the first; only its owner counts.
        std::fs::hard_link(images.path("outside"), images.path("listed/hard")).unwrap();
        assert_eq!(images.check("listed/hard"), Ok((0, 4)));
        chown(images.path("outside"), Some(12), None).unwrap();
        images.refused("listed/hard", "others than root can write it");
    }

    #[test]
    fn root_sees_no_file_that_the_user_may_not_read() {
        let Some(images) = Images::new("rights") else {
            return;
        };
        let image = images.path("listed/deep/image");
        mode(&image, 0o600);
        images.refused("listed/deep/image", "Permission denied");
        chown(&image, None, Some(4712)).unwrap();
        mode(&image, 0o640);
        images.refused("listed/deep/image", "Permission denied");
        assert_eq!(images.check_for("listed/deep/image", &[4712]), Ok((0, 4)));
        // Everybody but a group.
        mode(&image, 0o604);
        assert_eq!(images.check("listed/deep/image"), Ok((0, 4)));
        let error = images.check_for("listed/deep/image", &[4712]).unwrap_err();
        assert!(error.contains("Permission denied"), "{error}");
        mode(&image, 0o644);
        mode(&images.path("listed"), 0o700);
        images.refused("listed/deep/image", "Permission denied");
    }

    #[test]
    fn a_file_that_somebody_writes_is_not_trusted() {
        let Some(images) = Images::new("writer") else {
            return;
        };
        let writer = std::fs::OpenOptions::new()
            .append(true)
            .open(images.path("listed/deep/image"))
            .unwrap();
        images.refused("listed/deep/image", "open for writing");
        drop(writer);
        assert_eq!(images.check("listed/deep/image"), Ok((0, 4)));
    }

    #[test]
    fn where_an_image_lies_is_read_in_the_file_and_never_outside_of_it() {
        let found = |bytes: &[u8]| {
            let file = sys::memory_file_of(c"file", bytes).unwrap();
            place(&File::from(file)).ok().flatten()
        };
        assert_eq!(found(b"hsqs and more"), Some((0, 13)));
        assert_eq!(found(b""), None);
        assert_eq!(found(&[0; 5000]), None);
        let file = sif::tests::wrap(&[7; 5000]);
        assert_eq!(found(&file), Some((32_768, 5000)));
        assert_eq!(found(&file[..file.len() - 1]), None);
    }
}
