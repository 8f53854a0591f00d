//! What not every container needs: overlayfs and FUSE, each tried in one.

use std::os::fd::AsFd;
use std::path::Path;

use nix::errno::Errno;
use rustix::fs::OFlags;

use super::finding::{FUSE, Finding, OVERLAY};
use super::kernel::LARGEST;
use super::namespaces::{Outcome, try_inside, try_outside};
use chariot_core::open;
use chariot_core::sys::{self, mounts, rights};

const DEVICE: &str = "/dev/fuse";

/// Why neither could be tried.
const NO_CONTAINER: &str = "no user namespace can be made";

/// The most that is read at once of the file system that is mounted to see whether it can be.
const SMALL: u32 = 4096;

pub(super) fn overlay() -> Finding {
    let attempt = || {
        let memory = mounts::tmpfs(Some(1 << 20), "755")?;
        mounts::attach_over_root(&memory)?;
        let layer = |name: &str| {
            mounts::make_directory(&memory, Path::new(name))?;
            sys::open_in_root(&memory, Path::new(name), OFlags::PATH)
        };
        let lower = layer("lower")?;
        mounts::overlay(&[lower.as_fd()], layer("upper")?, layer("work")?, false).map(drop)
    };
    overlay_of(try_inside(attempt), kernel_has("overlay"))
}

fn overlay_of(outcome: Outcome, is_known: bool) -> Finding {
    let remedy = match is_known {
        false => "--writable and --overlay need it: load the kernel's module, modprobe overlay",
        true => {
            "--writable and --overlay need it: this kernel has it and does not let users mount it"
        }
    };
    match outcome {
        Outcome::Worked => Finding::good(OVERLAY, "can be mounted in a user namespace"),
        Outcome::NoContainer(_) => Finding::unknown(OVERLAY, NO_CONTAINER),
        Outcome::Failed(errno) => Finding::bad(OVERLAY, errno.desc(), remedy),
    }
    .optional()
}

pub(super) fn fuse() -> Finding {
    let open = || sys::open(Path::new(DEVICE), OFlags::RDWR);
    if let Outcome::Failed(errno) = try_outside(|| open().map(drop)) {
        return closed(errno);
    }
    let mount = || {
        let owner = (rights::user(), rights::group());
        mounts::fuse(open()?, owner, "chariot-check", SMALL).map(drop)
    };
    mounted(try_inside(mount))
}

/// The device cannot be opened.
fn closed(errno: Errno) -> Finding {
    let remedy = match errno {
        Errno::ENOENT | Errno::ENODEV | Errno::ENXIO => "modprobe fuse",
        Errno::EACCES => "chmod 666 /dev/fuse, as udev's rules do",
        Errno::EPERM => "the cgroup of this process has to allow the device, c 10:229",
        _ => "the kernel's log may say why",
    };
    Finding::bad(
        FUSE,
        format!("{DEVICE}: {}", errno.desc()),
        format!("images that are files need it, directories do not: {remedy}"),
    )
    .optional()
}

fn mounted(outcome: Outcome) -> Finding {
    match outcome {
        Outcome::Worked => Finding::good(FUSE, format!("{DEVICE} works in a user namespace")),
        Outcome::NoContainer(_) => Finding::unknown(FUSE, NO_CONTAINER),
        Outcome::Failed(errno) => Finding::bad(
            FUSE,
            format!("cannot be mounted in a user namespace: {}", errno.desc()),
            "images that are files need it, directories do not: the kernel's log may say why",
        ),
    }
    .optional()
}

/// Whether the kernel has a file system, as part of it or as a module that is loaded.
fn kernel_has(name: &str) -> bool {
    let list = open::read_text(Path::new("/proc/filesystems"), LARGEST).unwrap_or_default();
    list.split_whitespace().any(|word| word == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_has_its_own_remedy() {
        let advice = |finding: Finding| finding.advice.unwrap_or_default();
        let overlay = |errno, is_known| advice(overlay_of(Outcome::Failed(errno), is_known));
        assert!(overlay(Errno::ENODEV, false).contains("modprobe overlay"));
        assert!(!overlay(Errno::EPERM, true).contains("modprobe"));
        assert!(advice(closed(Errno::ENOENT)).contains("modprobe fuse"));
        assert!(advice(closed(Errno::EACCES)).contains("chmod 666"));
        assert!(advice(closed(Errno::EPERM)).contains("cgroup"));
    }

    #[test]
    fn without_user_namespaces_neither_has_a_remedy_of_its_own() {
        let outcome = Outcome::NoContainer(Errno::ENOSPC);
        for finding in [overlay_of(outcome, false), mounted(outcome)] {
            assert!(!finding.ok && !finding.is_fatal() && finding.advice.is_none());
        }
    }
}
