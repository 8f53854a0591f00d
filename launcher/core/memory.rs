//! The memory that this process's control group may have, cgroups(7): of version 2, or of version 1 where that has
//! memory, as Slurm mounts or finds them.

pub mod spare;

use std::path::{Path, PathBuf};

use crate::open;

const ROOT: &str = "/sys/fs/cgroup";

/// Files of the kernel's are short.
const LONGEST: u64 = 64 << 10;

/// Version 1 says "no limit" by the largest number of pages there is.
const NO_LIMIT: u64 = 1 << 60;

/// The limit of memory of this process's group, in bytes, with those of the groups that it is in; none if there is none.
pub fn limit() -> Option<u64> {
    let groups = open::read_text(Path::new("/proc/self/cgroup"), LONGEST).ok()?;
    limit_of(&groups)
}

/// The same of a process of which proc_pid_cgroup(5) says this.
pub fn limit_of(groups: &str) -> Option<u64> {
    limit_below(Path::new(ROOT), groups)
}

/// The group by which memory is counted, of what proc_pid_cgroup(5) says, without the part that tells a step's tasks apart.
pub fn group(groups: &str) -> Option<&str> {
    let (_, group) = find(groups)?;
    Some(group.rsplit_once("/task_").map_or(group, |(step, _)| step))
}

/// Whether it is of version 1, and its path.
fn find(groups: &str) -> Option<(bool, &str)> {
    let lines = groups
        .lines()
        .filter_map(|line| line.split_once(':')?.1.split_once(':'));
    let of_version_1 = lines.clone().find(|(controllers, _)| {
        controllers
            .split(',')
            .any(|controller| controller == "memory")
    });
    let of_version_2 = || {
        lines
            .clone()
            .find(|(controllers, _)| controllers.is_empty())
    };
    match of_version_1 {
        Some((_, path)) => Some((true, path)),
        None => of_version_2().map(|(_, path)| (false, path)),
    }
}

fn limit_below(root: &Path, groups: &str) -> Option<u64> {
    let (is_version_1, path) = find(groups)?;
    let (top, file) = match is_version_1 {
        true => (root.join("memory"), "memory.limit_in_bytes"),
        false => (root.to_owned(), "memory.max"),
    };
    let own: PathBuf = top.join(path.trim_start_matches('/'));
    let groups = own.ancestors().take_while(|group| group.starts_with(&top));
    let limit = |group: &Path| {
        let text = open::read_text(&group.join(file), LONGEST).ok()?;
        let limit = text.trim().parse::<u64>().ok()?;
        (limit < NO_LIMIT).then_some(limit)
    };
    groups.filter_map(limit).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_limit_of_all_groups_around_counts_in_both_versions() {
        let place = tempfile::tempdir().unwrap();
        let put = |file: &str, text: &str| {
            let path = place.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let limit = |groups: &str| limit_below(place.path(), groups);
        put(
            "memory/slurm/job_1/memory.limit_in_bytes",
            "9223372036854771712\n",
        );
        put("memory/slurm/memory.limit_in_bytes", "1000\n");
        put("memory/memory.limit_in_bytes", "5000\n");
        let first = "8:pids:/x\n4:memory:/slurm/job_1\n0::/y\n";
        assert_eq!(limit(first), Some(1000));
        put("a/b/memory.max", "300\n");
        put("a/memory.max", "max\n");
        assert_eq!(limit("0::/a/b\n"), Some(300));
        assert_eq!(limit("0::/a\n"), None);
        assert_eq!(limit(""), None);
    }

    #[test]
    fn tasks_of_a_step_are_in_one_group() {
        let of = |path: &str| {
            let groups = format!("4:memory:{path}\n0::/\n");
            group(&groups).map(str::to_owned)
        };
        assert_eq!(of("/slurm/job_1/step_0/task_3"), of("/slurm/job_1/step_0"));
        assert_ne!(
            of("/slurm/job_1/step_0/task_3"),
            of("/slurm/job_1/step_1/task_3")
        );
    }
}
