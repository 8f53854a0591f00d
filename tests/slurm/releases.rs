//! What differs between releases of Slurm: the list of what one does not have, and tests that what it
//! has instead behaves the same.

use std::process::Command;

use crate::{site, skip, support};

/// A release as a number that can be compared: 24.11.5 is 241105.
type Release = u32;

/// Something that not every release has.
pub(crate) struct Feature {
    name: &'static str,
    missing: fn(Release) -> bool,
}

// The list: what a release does not have. Nothing else is left out where everything must work.

/// Debian has built 26.05 without it.
pub(crate) const PMIX: Feature = Feature {
    name: "PMIx",
    missing: |release| release >= 26_05_00,
};
pub(crate) const PREPEND: Feature = Feature {
    name: "spank_prepend_task_argv",
    missing: |release| release < 23_11_00,
};
pub(crate) const CONTAIN_SPANK: Feature = Feature {
    name: "SlurmdParameters=contain_spank",
    missing: |release| release < 24_05_00,
};
/// A user's environment for `sbatch --export=NONE` or `=NAME` is asked of su(1), which wants a password of a slurmd that
/// is not root; older releases go on without it, 26.05 holds the job.
pub(crate) const EXPORT_WITHOUT_ROOT: Feature = Feature {
    name: "sbatch --export=NONE and --export=NAME where slurmd is not root",
    missing: |release| release >= 26_05_00,
};
pub(crate) const AUTH_SLURM: Feature = Feature {
    name: "auth/slurm",
    missing: |release| release < 23_11_00,
};

impl Feature {
    /// Whether this machine's Slurm lacks it, which is then said.
    pub(crate) fn is_missing(&self) -> bool {
        let missing = (self.missing)(release());
        if missing {
            eprintln!("this release does not have it: {}", self.name);
        }
        missing
    }
}

/// Ends a test of something that this release does not have.
#[macro_export]
macro_rules! lacks {
    ($site:expr, $feature:expr) => {
        if $feature.is_missing() {
            return;
        }
    };
}

/// The release that is running: `slurm-wlm 24.11.5`.
pub(crate) fn release() -> Release {
    let said = Command::new("slurmctld").arg("-V").output().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    let version = said.trim().rsplit(' ').next().unwrap();
    version.split('.').take(3).fold(0, |number, part| {
        number * 100 + part.parse::<u32>().unwrap()
    })
}

#[test]
fn a_private_tmp_of_the_job_is_what_the_container_shows() {
    let site = site!();
    if !site.has_private_tmp() {
        return;
    }
    let name = format!("chariot-private-{}", std::process::id());
    let said = site.run(&format!(
        "cd /; salloc -n1 bash -c 'srun sh -c \"echo mine >/tmp/{name}\"; \
         srun --ch-image=$I cat /tmp/{name}'; cat /tmp/{name}"
    ));
    assert_eq!(said.out.trim_end(), "mine", "{said:#?}");
    assert_ne!(said.code, 0, "the host sees the job's /tmp: {said:#?}");
}

#[test]
fn the_mounts_of_a_private_tmp_are_gone_when_the_job_is() {
    let site = site!();
    if !site.has_private_tmp() {
        return;
    }
    let said =
        site.run("cd /; salloc -n1 -w n2 bash -c 'srun --ch-image=$I true; echo $SLURM_JOB_ID'");
    let place = site.cluster.join("private-n2");
    let place = match release() {
        ..22_06_00 => place,
        _ => place.join("n2"),
    }
    .join(said.ok());
    // Each slurmd of this cluster has a mount namespace of its own.
    let is_mounted = || {
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let mounts =
            processes.map(|process| std::fs::read_to_string(process.path().join("mountinfo")));
        mounts
            .flatten()
            .any(|mounts| mounts.contains(place.to_str().unwrap()))
    };
    support::until("the private /tmp is unmounted", || !is_mounted());
}

#[test]
fn hooks_that_slurm_runs_in_the_jobs_namespaces_do_not_disturb() {
    let site = site!();
    lacks!(site, CONTAIN_SPANK);
    if !site.has_private_tmp() {
        return;
    }
    let parameters = site.run("scontrol show config | grep SlurmdParameters");
    assert!(parameters.ok().contains("contain_spank"));
    let said = site.run("srun -N2 -n8 --ch-image=$I sh -c 'echo $SLURM_NODEID $(readlink /proc/self/ns/mnt)' | sort -u");
    assert_eq!(said.ok().lines().count(), 2, "{said:#?}");
}

#[test]
fn containers_work_where_slurm_authenticates_by_itself() {
    let site = site!();
    lacks!(site, AUTH_SLURM);
    if !site.has_private_tmp() {
        return;
    }
    let said = site.run(
        "scontrol show config | grep AuthType; srun -N4 --ch-image=$I sh -c 'echo $CH_RUNNING'",
    );
    assert!(said.ok().contains("auth/slurm"), "{said:#?}");
    assert_eq!(said.out.matches(&site.image).count(), 4, "{said:#?}");
}

#[test]
fn where_nobody_is_root_containers_work_too() {
    let site = site!();
    if !site.is_rootless() {
        return;
    }
    let Some(user) = support::user() else {
        skip!("tests/run names the user");
    };
    let daemons = Command::new("ps")
        .args(["-C", "slurmd", "-o", "user:32="])
        .output()
        .unwrap();
    let daemons = String::from_utf8(daemons.stdout).unwrap();
    assert!(
        daemons.lines().all(|owner| owner.trim() == user),
        "{daemons}"
    );
    let said = site.run("srun -N4 --ch-image=$I sh -c 'echo $CH_RUNNING'");
    assert_eq!(said.ok().lines().count(), 4, "{said:#?}");
}
