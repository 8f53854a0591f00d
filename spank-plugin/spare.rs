//! Where a step has a limit of memory: a process of root's that waits until the container is there, has the kernel kill
//! the servers of its images after the step's own processes, and ends. Nobody else may say that to the kernel, and it
//! is only after the tasks have become the user that there is a server.

use std::os::fd::{AsFd, AsRawFd};

use chariot_core::memory::spare;
use chariot_core::sys::sharing::{MeetingPlace, Readiness};
use chariot_core::sys::{detached, process, signals};

use crate::spank::Slurm;
use crate::state;

/// How often it looks whether making the container has failed.
const LOOK: std::time::Duration = std::time::Duration::from_secs(1);

/// As root, in the task: starts that process. Without it, servers are killed as any other process.
pub(crate) fn prepare(slurm: &Slurm<'_>) {
    if !slurm.is_first_local_task() || !slurm.has_memory_limit() {
        return;
    }
    state::with(|state| {
        let (Some(meeting), Some(ids)) = (&state.meeting, slurm.user()) else {
            return;
        };
        // slurmstepd, whose child a task is; and the task, which comes to its control group about now. Where that is killed
        // before it has a container, slurmstepd waits for this process, for which it may drain the node. If another task makes
        // the container then, its servers are killed as any other process.
        let (Ok(step), Ok(own), Ok(task)) = (
            process::handle_of_parent(),
            process::handle_of_self(),
            process::own_directory(),
        ) else {
            return;
        };
        let launcher = state.paths.launcher.clone();
        let files = [meeting.receiver(), step.as_fd(), own.as_fd(), task.as_fd()];
        let keep = files.iter().map(AsRawFd::as_raw_fd).collect();
        let work = || {
            if is_made(meeting, &step, &own) {
                // A server that has ended, or none.
                let _ = spare::spare_servers(ids.user, &launcher, &task);
            }
            0
        };
        let _ = detached::start(c"chariot-spare", keep, work);
    });
}

/// Waits until the container is there; false if there will be none, or the step or its task is over.
fn is_made(meeting: &MeetingPlace, step: &impl AsFd, task: &impl AsFd) -> bool {
    loop {
        let files = [meeting.receiver(), step.as_fd(), task.as_fd()];
        let ready = signals::wait_for(&files, Some(LOOK)).unwrap_or_default();
        match ready[..] {
            [_, true, _] => return false,
            [true, ..] => return true,
            [false, false, false] if !matches!(meeting.state(), Readiness::Failed(_)) => {}
            _ => return false,
        }
    }
}
