//! GPUs of a step, where its tasks have different ones (`--gpus-per-task`, `--gpu-bind`): Slurm tells each task its own,
//! and their one container has to have them all.

use std::time::{Duration, Instant};

use chariot_core::environment::Environment;
use chariot_core::sys::sharing::MeetingPlace;

use crate::spank::Slurm;

/// The GPUs of a task, by their numbers on the node.
const VARIABLE: &str = "SLURM_STEP_GPUS";

/// How long the others may take to say which GPUs they have. They come at the same time; one that was killed on its way
/// never does, and needs none.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often to look.
const PAUSE: Duration = Duration::from_micros(200);

/// The GPUs of this task.
pub(crate) fn of_task(slurm: &Slurm<'_>) -> Vec<usize> {
    let value = slurm.variable(VARIABLE).unwrap_or_default();
    let value = value.to_string_lossy();
    value
        .split(',')
        .filter_map(|number| number.parse().ok())
        .collect()
}

/// Puts the GPUs of all tasks of this node in the place of this task's own.
pub(crate) fn put_together(
    slurm: &Slurm<'_>,
    meeting: &MeetingPlace,
    environment: &mut Environment,
) {
    let tasks = slurm.local_tasks().unwrap_or(1);
    let deadline = Instant::now() + PATIENCE;
    let mut gpus = meeting.gpus();
    while gpus.0 < tasks && Instant::now() < deadline {
        std::thread::sleep(PAUSE);
        gpus = meeting.gpus();
    }
    let numbers: Vec<String> = gpus.1.iter().map(usize::to_string).collect();
    let value = environment.iter_mut().find(|(name, _)| name == VARIABLE);
    match value {
        _ if numbers.is_empty() => {}
        Some((_, value)) => *value = numbers.join(",").into(),
        None => environment.push((VARIABLE.into(), numbers.join(",").into())),
    }
}
