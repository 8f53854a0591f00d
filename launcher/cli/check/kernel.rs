//! The kernel's release, and the calls that every container takes.

use std::path::Path;

use nix::errno::Errno;
use rustix::fs::OFlags;

use super::finding::{Finding, KERNEL, MEMORY, MOUNTS, OPENAT2};
use crate::host::{OLDEST_KERNEL, refuse_old_kernel};
use chariot_core::open;
use chariot_core::sys::{self, mounts};

/// The longest of the system's small files that is read, in bytes.
pub(super) const LARGEST: u64 = 1 << 20;

pub(super) fn findings() -> Vec<Finding> {
    vec![release(), mount_interface(), openat2()]
}

fn newer() -> String {
    let (major, minor) = OLDEST_KERNEL;
    format!("install Linux {major}.{minor} or newer")
}

fn release() -> Finding {
    match refuse_old_kernel() {
        Ok(()) => Finding::good(KERNEL, sys::kernel().unwrap_or_default()),
        Err(error) => Finding::bad(KERNEL, error.to_string(), newer()),
    }
}

fn mount_interface() -> Finding {
    // Cloning a tree needs privilege; a kernel without the call says ENOSYS instead of EPERM.
    match mounts::clone_tree(Path::new("/")) {
        Err(error) if error.errno() == Errno::ENOSYS => {
            Finding::bad(MOUNTS, error.to_string(), newer())
        }
        _ => Finding::good(MOUNTS, "open_tree, move_mount, mount_setattr"),
    }
}

fn openat2() -> Finding {
    let opened = sys::open(Path::new("/"), OFlags::PATH)
        .and_then(|root| sys::open_in_root(root, Path::new("/"), OFlags::PATH));
    match opened {
        Ok(_) => Finding::good(OPENAT2, "works"),
        Err(error) => Finding::bad(OPENAT2, error.to_string(), newer()),
    }
}

/// Whether processes of one user may read each other's memory, which MPI does between the ranks of a node
/// (process_vm_readv); it copies more slowly where they may not. No container needs it.
pub(super) fn memory_of_others() -> Option<Finding> {
    let path = Path::new("/proc/sys/kernel/yama/ptrace_scope");
    let text = open::read_text(path, LARGEST).ok()?;
    let value = text.trim();
    let found = format!("kernel.yama.ptrace_scope = {value}");
    let finding = match value {
        "0" => Finding::good(MEMORY, found),
        "1" => Finding::bad(
            MEMORY,
            format!("{found}: a process may be read by its parents, or by whom it names"),
            "MPI libraries that use CMA ask for that themselves or copy twice; with 0 they need not",
        ),
        _ => Finding::bad(
            MEMORY,
            format!("{found}: MPI ranks of one node cannot read each other's memory (CMA)"),
            "sysctl -w kernel.yama.ptrace_scope=0 on compute nodes",
        ),
    };
    Some(finding.optional())
}
