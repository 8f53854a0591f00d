//! Which image files root may have the kernel mount. Root gets a descriptor that the user's process opened, and
//! believes only what the kernel says of that: the user may have opened anything, by any name, and may be
//! renaming things while this looks.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::error::{Error, Explain, Result};
use crate::sys::{self, lease};

/// Where root mounts the image, in a mount namespace of the step's own. Not over "/": the mount is locked to
/// what it lies on, and could not be taken away from there when the old root goes.
pub const MOUNT_POINT: &str = "/run/chariot";

/// Write permission for others than the owner.
const WRITABLE: u32 = 0o022;

/// The file system of FUSE, linux/magic.h: whoever serves it changes the file as he likes.
const FUSE: i64 = 0x6573_5546;

/// Checks that only root can have written the file, and that only root can replace it.
///
/// # Errors
/// What is not as it should be.
pub fn check(file: &File, directories: &[PathBuf]) -> Result<()> {
    let what = || "can't trust the image".to_owned();
    let refuse = |reason: String| Err(Error::new(format!("{}: {reason}", what())));
    let data = file.metadata().explain(what)?;
    if !data.is_file() {
        return refuse("it is no regular file".into());
    }
    if data.uid() != 0 || data.mode() & WRITABLE != 0 {
        return refuse("others than root can write it".into());
    }
    let system = rustix::fs::fstatfs(file)
        .map_err(std::io::Error::from)
        .explain(what)?;
    if system.f_type == FUSE {
        return refuse("it lies on FUSE".into());
    }
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    let path = std::fs::read_link(link).explain(what)?;
    let is_listed = |directory: &PathBuf| {
        directory
            .canonicalize()
            .is_ok_and(|directory| path.starts_with(&directory) && path != directory)
    };
    if !directories.iter().any(is_listed) {
        return refuse(format!(
            "{} lies in no directory of kernel_mount",
            path.display()
        ));
    }
    refuse_changeable(&path)?;
    // The name leads to this file: nobody but root can have it lead elsewhere by now.
    let named = path.symlink_metadata().explain(what)?;
    if (named.dev(), named.ino()) != (data.dev(), data.ino()) {
        return refuse(format!("{} is another file by now", path.display()));
    }
    match lease::is_open_for_writing(file) {
        true => refuse("a process has it open for writing".into()),
        false => Ok(()),
    }
}

/// Refuses a path on which somebody else than root can put something else. From the root down, so that what was
/// looked at stays what it was.
fn refuse_changeable(path: &Path) -> Result<()> {
    let mut parents: Vec<&Path> = path.ancestors().skip(1).collect();
    parents.reverse();
    for parent in parents {
        let data = parent
            .symlink_metadata()
            .explain(|| format!("can't trust the image: {}", parent.display()))?;
        if !data.is_dir() || data.uid() != 0 || data.mode() & WRITABLE != 0 {
            return Err(Error::new(format!(
                "can't trust the image: others than root can write {}",
                parent.display()
            )));
        }
    }
    Ok(())
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
        _ => refuse_changeable(&path.join("."))?,
    }
    sys::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW).explain(what)
}

/// Where in its file the image lies, as the user's process says it: start and length in bytes.
///
/// # Errors
/// It is no such line, or lies outside of the file.
pub fn place(text: &[u8], file: &File) -> Result<(u64, u64)> {
    let wrong = || Error::new("can't understand where in its file the image lies");
    let text = std::str::from_utf8(text).map_err(|_| wrong())?;
    let (start, length) = text.trim_end().split_once(' ').ok_or_else(wrong)?;
    let (start, length): (u64, u64) = (
        start.parse().map_err(|_| wrong())?,
        length.parse().map_err(|_| wrong())?,
    );
    let all = file
        .metadata()
        .explain(|| "can't look at the image".into())?
        .len();
    match start.checked_add(length) {
        Some(end) if end <= all && length > 0 => Ok((start, length)),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    /// A directory that only root can write, below no other: /tmp is everybody's.
    struct Images(PathBuf);

    impl Images {
        fn new(name: &str) -> Option<Images> {
            if !nix::unistd::geteuid().is_root() {
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

        fn check(&self, name: &str) -> std::result::Result<(), String> {
            let file = File::open(self.path(name)).unwrap();
            check(&file, &[self.path("listed")]).map_err(|error| error.to_string())
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
        assert_eq!(images.check("listed/deep/image"), Ok(()));
        images.refused("outside", "lies in no directory");
        images.refused("listed/deep", "no regular file");
        mode(&image, 0o664);
        images.refused("listed/deep/image", "others than root can write it");
        mode(&image, 0o644);
        chown(&image, Some(12), None).unwrap();
        images.refused("listed/deep/image", "others than root can write it");
        chown(&image, Some(0), None).unwrap();
        mode(&images.path("listed/deep"), 0o1777);
        images.refused("listed/deep/image", "others than root can write /var/lib");
        mode(&images.path("listed/deep"), 0o755);
        chown(images.path("listed"), Some(12), None).unwrap();
        images.refused("listed/deep/image", "others than root can write /var/lib");
        chown(images.path("listed"), Some(0), None).unwrap();
        assert_eq!(images.check("listed/deep/image"), Ok(()));
    }

    #[test]
    fn names_do_not_make_a_file_trusted() {
        let Some(images) = Images::new("names") else {
            return;
        };
        symlink(images.path("outside"), images.path("listed/link")).unwrap();
        images.refused("listed/link", "lies in no directory");
        // A hard link is as much a name as the first; only its owner counts.
        std::fs::hard_link(images.path("outside"), images.path("listed/hard")).unwrap();
        chown(images.path("outside"), Some(12), None).unwrap();
        images.refused("listed/hard", "others than root can write it");
        chown(images.path("outside"), Some(0), None).unwrap();
        // Renamed and replaced after it was opened.
        let opened = File::open(images.path("listed/deep/image")).unwrap();
        std::fs::rename(images.path("listed/deep/image"), images.path("elsewhere")).unwrap();
        std::fs::write(images.path("listed/deep/image"), "another").unwrap();
        let error = check(&opened, &[images.path("listed")])
            .unwrap_err()
            .to_string();
        assert!(error.contains("lies in no directory"), "{error}");
        let opened = File::open(images.path("listed/deep/image")).unwrap();
        std::fs::remove_file(images.path("listed/deep/image")).unwrap();
        assert!(check(&opened, &[images.path("listed")]).is_err());
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
        assert_eq!(images.check("listed/deep/image"), Ok(()));
    }

    #[test]
    fn a_place_outside_of_the_file_is_not_taken() {
        let file = File::from(crate::sys::memory_file(c"file").unwrap());
        file.set_len(100).unwrap();
        assert_eq!(place(b"10 90\n", &file), Ok((10, 90)));
        for text in [
            "",
            "1",
            "0 101",
            "10 91",
            "0 0",
            "-1 5",
            "18446744073709551615 2",
            "a b",
        ] {
            assert!(place(text.as_bytes(), &file).is_err(), "{text}");
        }
    }
}
