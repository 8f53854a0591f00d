//! Who else has a file open, which the kernel says to whoever wants a lease of it: `fcntl(fd, F_SETLEASE, …)`,
//! F_SETLEASE(2const). Only the owner of the file and root may ask.

use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;

/// Whether any other descriptor of this machine has the file open. Where nobody can tell, none has.
pub fn is_open_elsewhere(file: impl AsFd) -> bool {
    is_refused(file, libc::F_WRLCK)
}

/// Whether a process has the file open for writing. File systems without leases have no way to tell.
pub fn is_open_for_writing(file: impl AsFd) -> bool {
    is_refused(file, libc::F_RDLCK)
}

/// Whether somebody is in the way of a lease, which is given back.
fn is_refused(file: impl AsFd, lease: libc::c_int) -> bool {
    let number = file.as_fd().as_raw_fd();
    // SAFETY: fcntl(2) on a descriptor that is borrowed for this function, with a plain number.
    let taken = unsafe { libc::fcntl(number, libc::F_SETLEASE, lease) };
    if taken == 0 {
        // SAFETY: as above.
        unsafe { libc::fcntl(number, libc::F_SETLEASE, libc::F_UNLCK) };
        return false;
    }
    Errno::last() == Errno::EAGAIN
}
