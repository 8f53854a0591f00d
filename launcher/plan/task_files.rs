//! Files of the host that belong to one task, which its container has to show.

use std::path::{Path, PathBuf};

use super::Task;
use crate::host::Host;
use chariot_core::private::{self, Refusal, Whose};

/// What the task's environment names on this node: PMIx's directories, X11's authority file, the
/// batch script.
pub(super) fn of_the_task(host: &Host, task: &Task) -> Vec<(PathBuf, &'static str)> {
    let mut paths = Vec::new();
    for (name, value) in &host.environment {
        let name = name.to_string_lossy();
        let path = PathBuf::from(value);
        if !path.is_absolute() || path == Path::new("/") {
            continue;
        }
        match name.as_ref() {
            "XAUTHORITY" if path.exists() => paths.push((path, "XAUTHORITY")),
            name if name.starts_with("PMIX_") && name.ends_with("DIR") => paths.push((path, PMIX)),
            _ => {}
        }
    }
    let scratch = task.scratch.iter();
    paths.extend(
        scratch
            .flat_map(|scratch| of_pmix(scratch, host))
            .map(|path| (path, PMIX)),
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

/// Who wanted a directory of PMIx's. A container without it is better than none: what needs it says so.
pub(super) const PMIX: &str = "PMIx";

/// Whether Slurm made it, as root, or for the user, and no link leads to it. Its names can be foretold, and lie where all
/// may write: another user can lay a link or a directory there for jobs to come. Slurm's own user may own the spool.
pub(super) fn is_slurms(path: &Path) -> bool {
    match private::look(path, Whose::Slurms) {
        Ok(()) => path.symlink_metadata().is_ok_and(|data| data.is_dir()),
        Err(Refusal::Foreign { place, reason }) if place != path => {
            let (path, place) = (path.display(), place.display());
            tracing::warn!("{path} is not in the container: {place} {reason}");
            false
        }
        Err(_) => false,
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{lchown, symlink};

    #[test]
    fn what_another_user_has_put_where_slurm_makes_directories_is_none_of_the_tasks() {
        let place = tempfile::tempdir().unwrap();
        let path = |user: u32| place.path().join(format!("spmix_appdir_{user}_42.0"));
        let variables = [("SLURM_JOB_ID", "42"), ("SLURM_STEP_ID", "0")];
        let mut variables = variables
            .map(|(name, value)| (name.into(), value.into()))
            .to_vec();
        variables.push((
            "PMIX_SERVER_TMPDIR".into(),
            place.path().join("pmix.42.0").into(),
        ));
        let host = Host::look(variables, None);
        let task = Task {
            scratch: Some(place.path().to_owned()),
            ..Task::default()
        };
        let shown = || -> Vec<PathBuf> {
            let all = of_the_task(&host, &task).into_iter();
            all.map(|(path, _)| path)
                .filter(|path| is_slurms(path))
                .collect()
        };
        std::fs::create_dir(path(1)).unwrap();
        assert_eq!(shown(), [path(1)]);
        symlink("/nonexistent", path(2)).unwrap();
        symlink("/etc", path(3)).unwrap();
        std::fs::write(path(4), "").unwrap();
        symlink(path(1), place.path().join("pmix.42.0")).unwrap();
        assert_eq!(shown(), [path(1)]);
        assert!(
            is_slurms(Path::new("/tmp")),
            "where all may write, and Slurm has made nothing"
        );
        if chariot_core::sys::rights::is_root() {
            // The spool is Slurm's user's, as distributions have it.
            lchown(place.path(), Some(4712), None).unwrap();
            assert_eq!(shown(), [path(1)]);
            lchown(path(1), Some(4711), None).unwrap();
            assert!(shown().is_empty());
            // Nor is it Slurm's user's own: Slurm makes them for the user.
            lchown(path(1), Some(4712), None).unwrap();
            assert!(shown().is_empty());
            // And a link that leads to what is the user's is none either, whoever laid it.
            lchown(path(1), Some(0), None).unwrap();
            lchown(path(2), Some(4712), None).unwrap();
            assert_eq!(shown(), [path(1)]);
        }
    }
}
