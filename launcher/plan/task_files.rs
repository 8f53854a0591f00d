//! Files of the host that belong to one task, which its container has to show.

use std::path::{Path, PathBuf};

use super::Task;
use crate::host::Host;

/// What the task's environment names on this node: PMIx's directories, X11's authority file, the
/// batch script.
pub(super) fn of_the_task(host: &Host, task: &Task) -> Vec<(PathBuf, &'static str)> {
    let mut paths = Vec::new();
    for (name, value) in &host.environment {
        let name = name.to_string_lossy();
        let origin = match name.as_ref() {
            "XAUTHORITY" => "XAUTHORITY",
            name if name.starts_with("PMIX_") && name.ends_with("DIR") => "PMIx",
            _ => continue,
        };
        let path = PathBuf::from(value);
        if path.is_absolute() && path != Path::new("/") && path.exists() {
            paths.push((path, origin));
        }
    }
    paths.extend(
        task.scratch
            .iter()
            .flat_map(|scratch| of_pmix(scratch, host))
            .map(|path| (path, "PMIx")),
    );
    paths.sort();
    paths.dedup();
    paths.extend(
        task.script
            .iter()
            .map(|script| (script.clone(), "the batch script")),
    );
    paths
}

/// The directories that Slurm's PMIx made for this step, which no variable names:
/// `spmix_appdir_JOB.STEP`, with the user's ID in newer releases.
fn of_pmix(scratch: &Path, host: &Host) -> Vec<PathBuf> {
    let number = |name| host.variable(name).unwrap_or_default().to_string_lossy();
    let step = format!("_{}.{}", number("SLURM_JOB_ID"), number("SLURM_STEP_ID"));
    let entries = std::fs::read_dir(scratch).into_iter().flatten().flatten();
    entries
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.starts_with("spmix_appdir_") && name.ends_with(&step)
        })
        .map(|entry| entry.path())
        .collect()
}
