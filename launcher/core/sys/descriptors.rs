//! File descriptors: which of them a program that is executed gets, and under which numbers.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::{Call, called};

/// A pipe, the end to read and the end to write: pipe2(2).
///
/// # Errors
/// The kernel's answer.
pub fn pipe() -> Call<(OwnedFd, OwnedFd)> {
    called(nix::unistd::pipe2(OFlag::O_CLOEXEC), || "pipe2()".into())
}

/// A path to what a descriptor stands for, as long as it is open, for calls that take no descriptor: proc_pid_fd(5).
pub fn path_of(file: impl AsFd) -> String {
    format!("/proc/self/fd/{}", file.as_fd().as_raw_fd())
}

/// Leaves a descriptor open in the program that this process executes next: `fcntl(fd, F_SETFD, 0)`,
/// fcntl(2).
///
/// # Errors
/// The kernel's answer.
pub fn pass_on(file: impl AsFd) -> Call<()> {
    let result = rustix::io::fcntl_setfd(file, rustix::io::FdFlags::empty());
    called(result, || "fcntl(F_SETFD, 0)".into())
}

/// The descriptor that the parent passed under this number. The caller must be the process that it
/// was passed to, and ask once.
///
/// # Errors
/// EBADF if there is none.
pub fn passed(number: i32) -> Call<OwnedFd> {
    // SAFETY: fcntl(2) with F_SETFD takes any number, open or not.
    let result = unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    called(Errno::result(result).map(drop), || {
        format!("fcntl({number}, F_SETFD, FD_CLOEXEC)")
    })?;
    // SAFETY: the descriptor is open, as fcntl(2) just said, and our parent left it to us.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Whether a descriptor is open, and stays so in a program that this process executes: `fcntl(fd, F_GETFD)`, fcntl(2).
pub fn is_open_for_children(number: i32) -> bool {
    // SAFETY: fcntl(2) with F_GETFD takes any number, open or not.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    flags >= 0 && flags & libc::FD_CLOEXEC == 0
}

/// Has every descriptor but the standard streams close when this process executes a program:
/// `close_range(3, ~0U, CLOSE_RANGE_CLOEXEC)`, close_range(2).
///
/// # Errors
/// The kernel's answer.
pub fn pass_on_standard_streams_only() -> Call<()> {
    let flag = libc::CLOSE_RANGE_CLOEXEC;
    // SAFETY: it closes nothing now.
    let result = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, flag) };
    called(Errno::result(result).map(drop), || {
        "close_range(3, CLOSE_RANGE_CLOEXEC)".into()
    })
}

/// A copy of the descriptor of that number, whoever owns it: `fcntl(fd, F_DUPFD_CLOEXEC)`, fcntl(2).
///
/// # Errors
/// EBADF if there is none.
pub fn copy_of(number: i32) -> Call<OwnedFd> {
    // SAFETY: fcntl(2) with F_DUPFD_CLOEXEC takes any number, open or not.
    let copy = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) };
    let copy = called(Errno::result(copy), || {
        format!("fcntl({number}, F_DUPFD_CLOEXEC)")
    })?;
    // SAFETY: the kernel has just made this descriptor for this process; nobody else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Puts an open file under a number, and leaves it open there in programs that are executed: dup2(2). What has that
/// number must be nobody's in this process, as a standard stream is.
pub(super) fn redirect(file: &OwnedFd, number: i32) -> Call<()> {
    // SAFETY: dup2(2) takes any numbers; the caller sees to it that nobody owns this one.
    let result = unsafe { libc::dup2(file.as_raw_fd(), number) };
    called(Errno::result(result).map(drop), || {
        format!("dup2({number})")
    })
}

/// A standard stream that leads nowhere until this is dropped, or for ever in a program that is executed meanwhile.
#[derive(Debug)]
pub struct Silenced {
    number: i32,
    kept: OwnedFd,
}

impl Silenced {
    /// Silences the standard stream of that number: dup2(2) of /dev/null.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn new(number: i32) -> Call<Silenced> {
        let kept = copy_of(number)?;
        let nowhere = super::open(std::path::Path::new("/dev/null"), rustix::fs::OFlags::RDWR)?;
        redirect(&nowhere, number)?;
        Ok(Silenced { number, kept })
    }
}

impl Drop for Silenced {
    fn drop(&mut self) {
        // It worked the other way.
        let _ = redirect(&self.kept, self.number);
    }
}
