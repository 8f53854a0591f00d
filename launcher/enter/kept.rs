//! The overlay whose changes stay in a directory of the user's, and why there can be none.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use rustix::fs::{Access, AtFlags, OFlags, StatVfsMountFlags};

use super::changes::Layers;
use super::root::Lower;
use crate::mount::Mount;
use crate::mount::UPPER;
use chariot_core::error::{CallError, Error, Explain, Result, general_advice};
use chariot_core::sys::{self, Call};

/// The kernel's own directory beside the changes.
pub(super) const WORK: &str = "work";

/// An overlay of the image with the changes in `directory`.
pub(super) fn overlay(
    image: &Lower<'_>,
    directory: &Path,
    mounts: &[Mount],
    memory: BorrowedFd<'_>,
) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let opened = sys::open(directory, flags).map_err(|error| refused(&error, directory, None))?;
    let image = image
        .layer()
        .explain(|| "can't take the image for an overlay".into())?;
    let made = Layers::in_directory(&opened, &image, true)
        .and_then(|layers| layers.overlay(&image, mounts, memory))
        .and_then(writable);
    made.map_err(|error| refused(&error, directory, Some(opened.as_fd())))
}

/// Refuses an overlay that the kernel mounted to be read only, of which it tells nobody but its log: there was no room
/// for its directory, or no right to make it.
fn writable(tree: OwnedFd) -> Call<OwnedFd> {
    let call = "fsconfig(\"overlay\", FSCONFIG_CMD_CREATE)";
    let system = sys::called(rustix::fs::fstatvfs(&tree), || call.to_owned())?;
    match system.f_flag.contains(StatVfsMountFlags::RDONLY) {
        true => Err(CallError::new(call, Errno::EROFS)),
        false => Ok(tree),
    }
}

fn refused(error: &CallError, directory: &Path, opened: Option<BorrowedFd<'_>>) -> Error {
    let name = directory.display();
    let told = Error::new(format!("can't keep changes in {name}: {error}"));
    told.hint(match error.errno() {
        Errno::EBUSY => {
            "another container is using it; give each container its own directory".into()
        }
        Errno::ENOTDIR | Errno::ENOENT | Errno::ELOOP => {
            format!("what it has for {UPPER} or {WORK} is not a directory; use an empty directory")
        }
        errno @ Errno::ENOSYS => general_advice(&errno.into()).unwrap_or_default().into(),
        Errno::ESTALE => "its changes were made to another image; use an empty directory".into(),
        errno => opened.map_or_else(
            || "you need permission to use the directory".into(),
            |opened| advice(errno, directory, opened),
        ),
    })
}

/// What to do, by what is found in the directory: the kernel says EINVAL, EACCES, EOPNOTSUPP or nothing at all of a
/// file system that cannot hold changes.
fn advice(errno: Errno, directory: &Path, opened: BorrowedFd<'_>) -> String {
    let name = directory.display();
    if let Some(kind) = unfit(opened) {
        return format!(
            "{name} is on {kind}, and overlayfs needs a local file system there, such as ext4, xfs or tmpfs"
        );
    }
    if errno == Errno::EROFS && is_read_only(opened) {
        return format!("{name} is on a file system that is mounted read-only");
    }
    if errno == Errno::ENOSPC || is_full(opened) {
        return format!("the file system of {name} is full");
    }
    if errno == Errno::EDQUOT {
        return format!("your quota on the file system of {name} is used up");
    }
    for part in ["", UPPER, WORK] {
        let path = if part.is_empty() { "." } else { part };
        let access = rustix::fs::accessat(
            opened,
            path,
            Access::WRITE_OK | Access::EXEC_OK,
            AtFlags::EACCESS,
        );
        if access == Err(rustix::io::Errno::ACCESS) {
            return format!(
                "you need permission to write in {}",
                directory.join(part).display()
            );
        }
    }
    "overlayfs needs a local file system there, such as ext4, xfs or tmpfs".into()
}

/// The name of a file system that overlayfs takes no changes on: what is found there can change without this kernel,
/// or it cannot hold overlayfs's notes. The numbers are those of statfs(2) and the file systems' own sources.
fn unfit(opened: BorrowedFd<'_>) -> Option<&'static str> {
    let system = rustix::fs::fstatfs(opened).ok()?;
    // The C library's types differ between machines; all of these have 32 bits.
    let number = u32::try_from(system.f_type & 0xffff_ffff).ok()?;
    Some(match number {
        0x6969 => "NFS",
        0x6573_5546 => "a FUSE file system",
        0x0bd0_0bd0 => "Lustre",
        0x4750_4653 => "GPFS",
        0x1983_0326 => "BeeGFS",
        0x00c3_6400 => "Ceph",
        0xff53_4d42 | 0xfe53_4d42 | 0x517b => "an SMB share",
        0x0102_1997 => "9P",
        0x5346_414f | 0x6b41_4653 => "AFS",
        0x2003_0528 => "OrangeFS",
        0xaad7_aaea => "PanFS",
        0x794c_7630 => "another overlay",
        0x4d44 | 0x2011_bab0 => "a FAT file system",
        0xf15f => "eCryptfs",
        _ => return None,
    })
}

fn is_read_only(opened: BorrowedFd<'_>) -> bool {
    let system = rustix::fs::fstatvfs(opened);
    system.is_ok_and(|system| system.f_flag.contains(StatVfsMountFlags::RDONLY))
}

/// Whether there is no room for a directory. Some file systems count no files, which is no sign of it.
fn is_full(opened: BorrowedFd<'_>) -> bool {
    let system = rustix::fs::fstatvfs(opened);
    system.is_ok_and(|system| {
        (system.f_blocks > 0 && system.f_bavail == 0)
            || (system.f_files > 0 && system.f_favail == 0)
    })
}
