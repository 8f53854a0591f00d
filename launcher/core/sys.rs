//! Every system call that Chariot makes beyond the standard library's, and the only place of the
//! library that may be `unsafe`.
//!
//! A wrapper exists so that its error reads as strace(1) would print the call, and so that file
//! descriptors are close-on-exec without anybody thinking of it.

#![allow(unsafe_code, reason = "this is the module that makes system calls")]

mod clock;
pub mod descriptors;
pub mod detached;
pub mod fork;
pub mod helper;
pub mod lease;
pub mod lock;
pub mod loopback;
pub mod message;
pub mod mounts;
pub mod namespaces;
pub mod process;
pub mod rights;
pub mod seccomp;
pub mod sharing;
pub mod signals;

use std::fmt::Display;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;

use crate::error::CallError;

/// The result of a system call.
pub type Call<T> = std::result::Result<T, CallError>;

/// Gives what a library says of a failed call the text of the call: nix, rustix and the standard library have an error type
/// each, and all become the last one's.
///
/// # Errors
/// The result's.
pub fn called<T>(
    result: Result<T, impl Into<std::io::Error>>,
    call: impl FnOnce() -> String,
) -> Call<T> {
    result.map_err(|error| {
        let errno = error.into().raw_os_error();
        CallError::new(call(), errno.map_or(Errno::EIO, Errno::from_raw))
    })
}

/// How many bytes a page of the kernel's has, sysconf(3).
pub fn page_size() -> u32 {
    let size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE);
    size.ok()
        .flatten()
        .and_then(|size| size.try_into().ok())
        .unwrap_or(4096)
}

/// A path as strace(1) quotes it.
fn quoted(path: &Path) -> impl Display + '_ {
    format!("\"{}\"", path.display())
}

/// With a process that does nothing but rename on each processor, one of a thousand names took more than this.
const MOST_TRIES: u32 = 128;

/// `openat2(root, path, {flags, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS})`, openat2(2): opens a path
/// inside an image. Whatever symbolic links the image has, the result lies below `root`.
///
/// # Errors
/// The kernel's answer.
pub fn open_in_root(root: impl AsFd, path: &Path, flags: rustix::fs::OFlags) -> Call<OwnedFd> {
    use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    // The kernel refuses it beside O_PATH, which opens nothing.
    let terminal = match flags.contains(OFlags::PATH) {
        true => OFlags::empty(),
        false => OFlags::NOCTTY,
    };
    let mut tries = 0;
    loop {
        let flags = flags | OFlags::CLOEXEC | terminal;
        match openat2(root.as_fd(), path, flags, Mode::empty(), resolve) {
            // A rename or mount happened meanwhile, which `..` of a link does not survive; openat2(2) asks to try again.
            Err(rustix::io::Errno::AGAIN) if tries < MOST_TRIES => tries += 1,
            result => return called(result, || format!("openat2({})", quoted(path))),
        }
    }
}

/// `open(path, flags | O_CLOEXEC)`, open(2).
///
/// # Errors
/// The kernel's answer.
pub fn open(path: &Path, flags: rustix::fs::OFlags) -> Call<OwnedFd> {
    let flags = flags | rustix::fs::OFlags::CLOEXEC | rustix::fs::OFlags::NOCTTY;
    let result = rustix::fs::open(path, flags, rustix::fs::Mode::empty());
    called(result, || format!("open({})", quoted(path)))
}

/// The number of the mount that an open file lies on: `statx(fd, STATX_MNT_ID)`, statx(2).
///
/// # Errors
/// The kernel's answer.
pub fn mount_of(file: impl AsFd) -> Call<u64> {
    place_of(file).map(|place| place.mount)
}

/// What tells files apart that are known by descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileIdentity {
    /// The number of the mount.
    pub mount: u64,
    /// The file system, as major and minor number of a device.
    pub device: (u32, u32),
    /// The file's number there.
    pub inode: u64,
}

/// Where an open file is: `statx(fd, STATX_MNT_ID)`, statx(2).
///
/// # Errors
/// The kernel's answer.
pub fn place_of(file: impl AsFd) -> Call<FileIdentity> {
    use rustix::fs::{AtFlags, StatxFlags, statx};
    let wanted = StatxFlags::MNT_ID | StatxFlags::INO;
    let result = statx(file, "", AtFlags::EMPTY_PATH, wanted);
    let data = called(result, || "statx(STATX_MNT_ID)".into())?;
    Ok(FileIdentity {
        mount: data.stx_mnt_id,
        device: (data.stx_dev_major, data.stx_dev_minor),
        inode: data.stx_ino,
    })
}

/// `memfd_create(name, MFD_CLOEXEC)`, memfd_create(2): a file that has no name anywhere.
///
/// # Errors
/// The kernel's answer.
pub fn memory_file(name: &std::ffi::CStr) -> Call<OwnedFd> {
    use nix::sys::memfd::{MFdFlags, memfd_create};
    called(memfd_create(name, MFdFlags::MFD_CLOEXEC), || {
        format!("memfd_create({name:?})")
    })
}

/// The same with something in it, to be read from the start.
///
/// # Errors
/// The kernel's answer.
pub fn memory_file_of(name: &std::ffi::CStr, bytes: &[u8]) -> Call<OwnedFd> {
    mounts::fill(memory_file(name)?, bytes)
}

/// The release of the kernel that runs: uname(2).
///
/// # Errors
/// The kernel's answer.
pub fn kernel() -> Call<String> {
    let names = called(nix::sys::utsname::uname(), || "uname()".into())?;
    Ok(names.release().to_string_lossy().into_owned())
}

/// Whether this process may execute the file at `path`, as its real user: `access(path, X_OK)`, access(2).
///
/// # Errors
/// The kernel's answer.
pub fn may_execute(path: &Path) -> Call<()> {
    let may = nix::unistd::access(path, nix::unistd::AccessFlags::X_OK);
    called(may, || format!("access({}, X_OK)", quoted(path)))
}

/// The name of this machine, empty if it has none: gethostname(2).
pub fn host_name() -> std::ffi::OsString {
    nix::unistd::gethostname().unwrap_or_default()
}
