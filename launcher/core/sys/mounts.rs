//! Mounts: the calls of mount(2) and of the newer interface that works on file descriptors.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags,
};

use super::descriptors::path_of;
use super::{Call, called, quoted};
use crate::error::CallError;

/// More mounts than this lie over no root that Chariot makes.
const MOST_OVER_ROOT: usize = 8;

/// What a mount forbids.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Restrictions {
    /// Writing.
    pub read_only: bool,
    /// Set-user-ID bits and device nodes.
    pub no_privilege: bool,
    /// Receiving later mounts and unmounts of the host.
    pub private: bool,
}

/// `mount(NULL, "/", NULL, MS_REC|MS_SLAVE, NULL)`, mount(2): nothing mounted here reaches the host;
/// what the host unmounts later goes away here too.
///
/// # Errors
/// The kernel's answer.
pub fn receive_only() -> Call<()> {
    let flags = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    called(rustix::mount::mount_change("/", flags), || {
        "mount(NULL, \"/\", NULL, MS_REC|MS_SLAVE)".into()
    })
}

/// `open_tree(AT_FDCWD, path, OPEN_TREE_CLONE|AT_RECURSIVE)`, open_tree(2): a copy of a directory or
/// file with all that is mounted below it, not yet mounted anywhere. Recursive because the kernel
/// forbids uncovering, in a user namespace, what a mount covers (EINVAL).
///
/// # Errors
/// The kernel's answer.
pub fn clone_tree(path: &Path) -> Call<OwnedFd> {
    clone_tree_at(rustix::fs::CWD, path, OpenTreeFlags::empty())
}

/// The same for an entry of an open directory; a symbolic link is not followed.
///
/// # Errors
/// The kernel's answer.
pub fn clone_entry(directory: impl AsFd, name: &Path) -> Call<OwnedFd> {
    clone_tree_at(directory, name, OpenTreeFlags::AT_SYMLINK_NOFOLLOW)
}

/// The same for what a file descriptor stands for, opened in this mount namespace.
///
/// # Errors
/// The kernel's answer.
pub fn clone_opened(file: impl AsFd) -> Call<OwnedFd> {
    clone_tree_at(file, Path::new(""), OpenTreeFlags::AT_EMPTY_PATH)
}

fn clone_tree_at(directory: impl AsFd, path: &Path, extra: OpenTreeFlags) -> Call<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    called(
        rustix::mount::open_tree(directory, path, flags | extra),
        || format!("open_tree({}, OPEN_TREE_CLONE|AT_RECURSIVE)", quoted(path)),
    )
}

/// `mount_setattr(tree, "", AT_EMPTY_PATH|AT_RECURSIVE, …)`, mount_setattr(2).
///
/// # Errors
/// The kernel's answer.
pub fn restrict(tree: impl AsFd, restrictions: Restrictions) -> Call<()> {
    let mut set = 0;
    if restrictions.read_only {
        set |= libc::MOUNT_ATTR_RDONLY;
    }
    if restrictions.no_privilege {
        set |= libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    }
    let propagation = if restrictions.private {
        libc::MS_PRIVATE
    } else {
        0
    };
    if set == 0 && propagation == 0 {
        return Ok(());
    }
    set_attributes(tree, set, propagation, libc::AT_RECURSIVE)
}

fn set_attributes(tree: impl AsFd, set: u64, propagation: u64, depth: i32) -> Call<()> {
    let attributes = libc::mount_attr {
        attr_set: set,
        attr_clr: 0,
        propagation,
        userns_fd: 0,
    };
    // SAFETY: mount_setattr(2) reads a NUL-terminated path and `size` bytes of the structure; both
    // outlive the call, the size is the structure's own, and the descriptor is borrowed and so open.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | depth,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    called(Errno::result(result).map(drop), || {
        format!("mount_setattr(attr_set={set:#x}, propagation={propagation:#x})")
    })
}

/// `move_mount(tree, "", point, "", …)`, move_mount(2): mounts a tree on what `point` stands for.
/// Both by descriptor, so that no path is looked up a second time.
///
/// # Errors
/// The kernel's answer; `point_name` is how the error calls the point.
pub fn attach(tree: impl AsFd, point: impl AsFd, point_name: &Path) -> Call<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    called(
        rustix::mount::move_mount(tree, "", point, "", flags),
        || format!("move_mount({})", quoted(point_name)),
    )
}

/// Mounts a tree on top of `/`, where paths of this process do not see it until pivot_root(2).
/// Any other place could hide a directory that a later bind needs.
///
/// # Errors
/// The kernel's answer.
pub fn attach_over_root(tree: impl AsFd) -> Call<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    called(
        rustix::mount::move_mount(tree, "", rustix::fs::CWD, "/", flags),
        || "move_mount(\"/\")".into(),
    )
}

/// A new tmpfs, not yet mounted anywhere: fsopen(2), fsconfig(2), fsmount(2). `size` in bytes; the
/// kernel's default is half of the memory. It belongs to the user, and has no set-user-ID bits and
/// no devices.
///
/// # Errors
/// The kernel's answer.
pub fn tmpfs(size: Option<u64>, mode: &str) -> Call<OwnedFd> {
    let mut options = vec![("mode", mode.to_owned())];
    if let Some(size) = size {
        options.push(("size", size.to_string()));
    }
    file_system(c"tmpfs", &options)
}

/// A new overlay of `upper` over `lower`, the topmost first. All are given by descriptor: a path could hold the commas
/// and colons that overlayfs splits at. `index=on` makes the kernel refuse an `upper` in use.
///
/// # Errors
/// The kernel's answer.
pub fn overlay(
    lower: &[BorrowedFd<'_>],
    upper: impl AsFd,
    work: impl AsFd,
    keep: bool,
) -> Call<OwnedFd> {
    let lower: Vec<_> = lower.iter().map(path_of).collect();
    let mut options = vec![
        ("lowerdir", lower.join(":")),
        ("upperdir", path_of(upper.as_fd())),
        ("workdir", path_of(work.as_fd())),
        ("userxattr", String::new()),
    ];
    if keep {
        options.push(("index", "on".to_owned()));
    } else {
        options.push(("volatile", String::new()));
    }
    file_system(c"overlay", &options)
}

/// Whether a directory can have what overlayfs notes at one that hides what is below it: `getxattr(directory,
/// "user.overlay.opaque")`, getxattr(2). tmpfs can since Linux 6.6.
pub fn can_be_opaque(directory: impl AsFd) -> bool {
    let path = path_of(directory);
    let note = rustix::fs::getxattr(path, "user.overlay.opaque", &mut [0_u8; 1]);
    note != Err(rustix::io::Errno::OPNOTSUPP)
}

/// A new overlay of two directories in which nothing can be changed: what `top` has, then what `bottom` has.
///
/// # Errors
/// The kernel's answer; EINVAL if something is mounted in `bottom`, which would be hidden.
pub fn layered(top: impl AsFd, bottom: impl AsFd) -> Call<OwnedFd> {
    let layers = format!("{}:{}", path_of(top.as_fd()), path_of(bottom.as_fd()));
    let options = [("lowerdir", layers), ("userxattr", String::new())];
    file_system(c"overlay", &options)
}

/// Whether a file is of proc(5): `fstatfs(file)`, statfs(2).
pub fn is_proc(file: impl AsFd) -> bool {
    rustix::fs::fstatfs(file).is_ok_and(|data| data.f_type == rustix::fs::PROC_SUPER_MAGIC)
}

/// A new FUSE file system, read-only, which the process that reads from `device` serves. `owner` are the
/// user and group IDs inside; `source` is what /proc/mounts shows; no request asks for more than `most` bytes of a
/// file. Whoever is in the user namespace may use it, by the permissions that the files have.
///
/// # Errors
/// The kernel's answer; EINVAL if `device` was opened in another user namespace than this process's.
pub fn fuse(device: impl AsFd, owner: (u32, u32), source: &str, most: u32) -> Call<OwnedFd> {
    let options = [
        ("source", source.to_owned()),
        ("subtype", "chariot".to_owned()),
        ("fd", device.as_fd().as_raw_fd().to_string()),
        ("rootmode", "40555".to_owned()),
        ("user_id", owner.0.to_string()),
        ("group_id", owner.1.to_string()),
        ("max_read", most.to_string()),
        ("default_permissions", String::new()),
        ("allow_other", String::new()),
        ("ro", String::new()),
    ];
    file_system(c"fuse", &options)
}

fn file_system(kind: &CStr, options: &[(&str, String)]) -> Call<OwnedFd> {
    let name = kind.to_string_lossy();
    let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC);
    let context = called(context, || format!("fsopen(\"{name}\")"))?;
    for (key, value) in options {
        let result = if value.is_empty() {
            rustix::mount::fsconfig_set_flag(context.as_fd(), *key)
        } else {
            rustix::mount::fsconfig_set_string(context.as_fd(), *key, value.as_str())
        };
        called(result, || {
            format!("fsconfig(\"{name}\", \"{key}\", \"{value}\")")
        })?;
    }
    let created = rustix::mount::fsconfig_create(context.as_fd());
    called(created, || {
        format!("fsconfig(\"{name}\", FSCONFIG_CMD_CREATE)")
    })?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let mount = rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes);
    called(mount, || format!("fsmount(\"{name}\")"))
}

/// A new mount of a device that holds SquashFS, not yet in any place: read-only, without set-user-ID bits and
/// devices. For root alone.
///
/// # Errors
/// The kernel's answer.
pub fn squashfs(device: &Path) -> Call<OwnedFd> {
    let options = [
        ("source", device.display().to_string()),
        ("ro", String::new()),
    ];
    let mount = file_system(c"squashfs", &options)?;
    seal(&mount)?;
    Ok(mount)
}

/// Makes `root` the root of this mount namespace and takes everything else away: `fchdir(root)`,
/// `pivot_root(".", ".")`, `umount2("/..", MNT_DETACH)`; pivot_root(2) explains the dots. What was
/// mounted over the old root lies, with the old root, on top of the new one; `..` of a root leads
/// to the topmost of such a pile, and would be the way out of the container.
///
/// # Errors
/// The kernel's answer to the call that failed; EBUSY if something of the host stays.
pub fn change_root(root: impl AsFd) -> Call<()> {
    called(rustix::process::fchdir(root.as_fd()), || {
        "fchdir(root)".into()
    })?;
    called(nix::unistd::pivot_root(".", "."), || {
        "pivot_root(\".\", \".\")".into()
    })?;
    let new_root = super::mount_of(&root)?;
    let call = || "umount2(\"/..\", MNT_DETACH)".to_owned();
    for _ in 0..MOST_OVER_ROOT {
        let above = super::open(Path::new("/.."), rustix::fs::OFlags::PATH)?;
        if super::mount_of(above)? == new_root {
            return called(nix::unistd::chdir("/"), || "chdir(\"/\")".into());
        }
        called(rustix::mount::unmount("/..", UnmountFlags::DETACH), call)?;
    }
    Err(CallError::new(call(), Errno::EBUSY))
}

/// Makes a directory in an open directory, mkdirat(2).
///
/// # Errors
/// The kernel's answer.
#[allow(
    clippy::disallowed_methods,
    reason = "in a file system of the container's own"
)]
pub fn make_directory(parent: impl AsFd, name: &Path) -> Call<()> {
    let result = rustix::fs::mkdirat(parent, name, rustix::fs::Mode::from_raw_mode(0o755));
    called(result, || format!("mkdir({})", quoted(name)))
}

/// Changes the mode of an entry of an open directory, fchmodat(2).
///
/// # Errors
/// The kernel's answer.
pub fn change_mode(parent: impl AsFd, name: &Path, mode: u32) -> Call<()> {
    let flags = rustix::fs::AtFlags::empty();
    let result = rustix::fs::chmodat(parent, name, rustix::fs::Mode::from_raw_mode(mode), flags);
    called(result, || format!("chmod({}, {mode:o})", quoted(name)))
}

/// Makes an empty file in an open directory, openat(2) with `O_EXCL`.
///
/// # Errors
/// The kernel's answer.
pub fn make_file(parent: impl AsFd, name: &Path) -> Call<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let result = rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o644));
    called(result, || format!("open({}, O_CREAT|O_EXCL)", quoted(name)))
}

/// Fills a file that has just been made, and gives it back to be read from the start: write(2), lseek(2).
///
/// # Errors
/// The kernel's answer.
pub fn fill(file: OwnedFd, bytes: &[u8]) -> Call<OwnedFd> {
    use std::io::{Seek, Write};
    let mut file = std::fs::File::from(file);
    let written = file.write_all(bytes).and_then(|()| file.rewind());
    called(written, || "write()".into())?;
    Ok(file.into())
}

/// Makes a symbolic link in an open directory, symlinkat(2).
///
/// # Errors
/// The kernel's answer.
#[allow(
    clippy::disallowed_methods,
    reason = "in a file system of the container's own"
)]
pub fn make_link(parent: impl AsFd, name: &Path, target: &Path) -> Call<()> {
    let result = rustix::fs::symlinkat(target, parent, name);
    called(result, || {
        format!("symlink({}, {})", quoted(target), quoted(name))
    })
}

/// Forbids writing to one mount and leaves those below it as they are: `mount_setattr(tree, "",
/// AT_EMPTY_PATH, MOUNT_ATTR_RDONLY)`, mount_setattr(2).
///
/// # Errors
/// The kernel's answer.
pub fn seal(tree: impl AsFd) -> Call<()> {
    set_attributes(tree, libc::MOUNT_ATTR_RDONLY, 0, 0)
}

/// What an open symbolic link says: `readlinkat(link, "")`, readlinkat(2).
///
/// # Errors
/// The kernel's answer, ENOENT or EINVAL if it is no link.
pub fn target_of(link: impl AsFd) -> Call<std::path::PathBuf> {
    use std::os::unix::ffi::OsStringExt;
    let target = rustix::fs::readlinkat(link, "", Vec::new());
    let target = called(target, || "readlinkat(\"\")".into())?;
    Ok(std::ffi::OsString::from_vec(target.into_bytes()).into())
}
