//! The places of proc(5) and sysfs(5) by which a kernel is steered or tells what only root should know. They belong to
//! the machine's root, who needs no capability to use them: in a container of an ordinary user they are nobody's, in one
//! of root's they would be the image's. The lists are those of runc and crun, but for /proc/interrupts, which tools read
//! that place processes.

use std::path::Path;

use crate::image::Image;
use crate::mount::{Mount, MountSource};
use chariot_core::error::Error;
use chariot_core::sys::mounts::Restrictions;

const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

const HIDDEN: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/selinux",
];

/// The size of a file system that holds nothing, in bytes: none at all would be the kernel's default.
const NOTHING: u64 = 4096;

/// What keeps the image of root's container from steering the kernel; it comes right after /proc and /sys.
pub(crate) fn mounts() -> Vec<Mount> {
    let read_only =
        READ_ONLY.map(|path| Mount::same(path, "so that the image cannot change the kernel"));
    let hidden = HIDDEN.map(|path| {
        let nothing = match Path::new(path).is_dir() {
            true => MountSource::Tmpfs(Some(NOTHING)),
            false => MountSource::Text(String::new()),
        };
        Mount::own(
            nothing,
            path,
            "so that the image cannot look into the kernel",
        )
    });
    let all = read_only.into_iter().chain(hidden);
    all.filter(|mount| mount.destination.exists())
        .map(|mount| Mount {
            restrictions: Restrictions {
                read_only: true,
                ..Restrictions::default()
            },
            ..mount
        })
        .collect()
}

/// What root is told.
pub(crate) fn warning(image: &Image) -> Error {
    Error::new(format!(
        "the image {} runs as root on this machine: it can change the devices, and whatever is bound \
         from the host",
        image.word
    ))
    .hint("run by an ordinary user, it can change only that user's files")
}
