//! What only a machine of one's own can show: systemd's services and scopes, cgroup v2, limits of the kernel that a test
//! sets, file systems of a network. `tests/vm` boots one; elsewhere these tests do not run.

mod changes;
mod confined;
mod copied;
mod fetching;
mod killed;
mod life;
mod memory;
mod mpi;
mod nfs;
mod private_tmp;
mod scope;
mod second_boot;

use std::process::Command;

use crate::support::Said;

/// Runs a script as root.
fn root(script: &str) -> Said {
    Command::new("bash")
        .args(["-c", script])
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap()
        .into()
}
