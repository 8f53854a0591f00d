//! Who else has a file open, which the kernel says to whoever wants a lease of it: `fcntl(fd, F_SETLEASE, …)`,
//! F_SETLEASE(2const). Only the owner of the file and root may ask.

use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;

/// Of asm-generic/fcntl.h; the crate has it for no target.
const F_SETSIG: libc::c_int = 10;

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
    is_refused_or(file, lease, || {})
}

/// The same; `meanwhile` is called while the lease is held.
fn is_refused_or(file: impl AsFd, lease: libc::c_int, meanwhile: impl FnOnce()) -> bool {
    let number = file.as_fd().as_raw_fd();
    // Who opens the file meanwhile has the kernel send SIGIO, which ends a process that does not expect it. This signal
    // does nothing to one.
    // SAFETY: fcntl(2) on a descriptor that is borrowed for this function, with a plain number.
    let changed = unsafe { libc::fcntl(number, F_SETSIG, libc::SIGURG) };
    if changed != 0 {
        return true;
    }
    // SAFETY: as above.
    let taken = unsafe { libc::fcntl(number, libc::F_SETLEASE, lease) };
    if taken == 0 {
        meanwhile();
        // SAFETY: as above.
        unsafe { libc::fcntl(number, libc::F_SETLEASE, libc::F_UNLCK) };
        return false;
    }
    Errno::last() == Errno::EAGAIN
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{File, OpenOptions};
    use std::os::unix::fs::OpenOptionsExt;

    #[test]
    fn who_opens_a_file_while_it_is_asked_about_ends_nobody() {
        let file = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        let asked = File::open(&file).unwrap();
        let open = || {
            let mut options = OpenOptions::new();
            options.write(true).custom_flags(libc::O_NONBLOCK);
            options.open(&file).map(drop).map_err(|error| error.kind())
        };
        for lease in [libc::F_RDLCK, libc::F_WRLCK] {
            let mut opened = Ok(());
            assert!(!is_refused_or(&asked, lease, || opened = open()));
            assert_eq!(
                opened,
                Err(std::io::ErrorKind::WouldBlock),
                "it was in the way"
            );
            assert_eq!(open(), Ok(()));
        }
    }
}
