//! What the plugin believes of Slurm's interface, held against the headers of the installed Slurm
//! when it is built. A number that differs is a build that fails, not a job that does.

use slurm_spank::spank_sys as sys;

/// The installed headers' numbers, none where there are no headers; build.rs.
mod installed {
    include!(concat!(env!("OUT_DIR"), "/slurm_abi.rs"));
}
use installed::INSTALLED;

/// What the plugin uses, as slurm-spank bundles it.
const BUNDLED: &[(&str, u64)] = &[
    ("spank_item_S_JOB_ID", sys::spank_item_S_JOB_ID as u64),
    ("spank_item_S_JOB_UID", sys::spank_item_S_JOB_UID as u64),
    ("spank_item_S_JOB_GID", sys::spank_item_S_JOB_GID as u64),
    (
        "spank_item_S_JOB_STEPID",
        sys::spank_item_S_JOB_STEPID as u64,
    ),
    ("spank_item_S_JOB_ARGV", sys::spank_item_S_JOB_ARGV as u64),
    ("spank_item_S_JOB_ENV", sys::spank_item_S_JOB_ENV as u64),
    (
        "spank_context_S_CTX_LOCAL",
        sys::spank_context_S_CTX_LOCAL as u64,
    ),
    (
        "spank_context_S_CTX_REMOTE",
        sys::spank_context_S_CTX_REMOTE as u64,
    ),
    (
        "spank_context_S_CTX_ALLOCATOR",
        sys::spank_context_S_CTX_ALLOCATOR as u64,
    ),
    (
        "spank_item_S_SLURM_VERSION_MAJOR",
        sys::spank_item_S_SLURM_VERSION_MAJOR as u64,
    ),
    (
        "spank_item_S_SLURM_VERSION_MINOR",
        sys::spank_item_S_SLURM_VERSION_MINOR as u64,
    ),
    (
        "spank_item_S_SLURM_VERSION_MICRO",
        sys::spank_item_S_SLURM_VERSION_MICRO as u64,
    ),
    ("ESPANK_SUCCESS", sys::ESPANK_SUCCESS as u64),
    (
        "size of spank_option",
        size_of::<sys::spank_option>() as u64,
    ),
];

const fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut index = 0;
    while index < a.len() && index < b.len() && a[index] == b[index] {
        index += 1;
    }
    index == a.len() && index == b.len()
}

/// Whether the installed headers, if there are any, have each of our names with our number.
const fn agrees() -> bool {
    let mut ours = 0;
    while ours < BUNDLED.len() && !INSTALLED.is_empty() {
        let mut theirs = 0;
        let mut found = false;
        while theirs < INSTALLED.len() {
            if same(BUNDLED[ours].0, INSTALLED[theirs].0) {
                found = BUNDLED[ours].1 == INSTALLED[theirs].1;
            }
            theirs += 1;
        }
        if !found {
            return false;
        }
        ours += 1;
    }
    true
}

const _: () = assert!(
    agrees(),
    "the installed Slurm's spank.h differs from what slurm-spank bundles"
);
