//! Chariot in a real Slurm. `tests/run` starts the clusters, in two configurations, and makes the
//! user and the images; without it these tests skip by name.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that cannot go on fails"
)]
#![allow(clippy::panic, reason = "a test that cannot go on fails")]

#[path = "../support/mod.rs"]
mod support;

mod ends;
mod failures;
mod jobs;
mod steps;

use std::path::{Path, PathBuf};

use support::Said;
use tempfile::TempDir;

/// One test's view of the cluster: a user in a directory of their own.
struct Site {
    cluster: PathBuf,
    image: String,
    place: TempDir,
}

impl Site {
    fn new() -> Option<Site> {
        let cluster = PathBuf::from(std::env::var_os("CHARIOT_TEST_CLUSTER")?);
        Some(Site {
            cluster,
            image: support::busybox()?,
            place: support::scratch(),
        })
    }

    fn here(&self) -> &Path {
        self.place.path()
    }

    /// Whether this is the cluster of the kind that sites run.
    fn has_cgroups(&self) -> bool {
        self.cluster.join("cgroup.conf").exists()
    }

    /// Runs a script as the ordinary user; `$I` is the small image.
    fn run(&self, script: &str) -> Said {
        let conf = self.cluster.join("slurm.conf");
        let variables = [("SLURM_CONF", conf.to_str().unwrap()), ("I", &self.image)];
        support::shell(script, self.here(), &variables)
    }

    /// Writes a file into the test's directory that everybody may execute.
    fn script(&self, name: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.here().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// No node may be drained, whatever a user did.
    #[track_caller]
    fn nodes_are_fine(&self) {
        let reasons = self.run("sinfo -h -R");
        assert_eq!(reasons.ok(), "", "a node is drained");
    }
}

/// The site, or a skip.
#[macro_export]
macro_rules! site {
    () => {
        match $crate::Site::new() {
            Some(site) => site,
            None => $crate::skip!("no Slurm: tests/run starts one"),
        }
    };
}

#[test]
fn the_plugin_exports_what_slurm_looks_for_and_asks_for_what_22_05_has() {
    let Some(plugin) = std::env::var_os("CHARIOT_SO") else {
        skip!("CHARIOT_SO names no plugin")
    };
    let symbols = |flag: &str| {
        let output = std::process::Command::new("nm")
            .args(["-D", flag])
            .arg(&plugin)
            .output();
        let output = String::from_utf8(output.unwrap().stdout).unwrap();
        let mut names: Vec<String> = output
            .lines()
            .filter_map(|line| line.split_whitespace().last())
            .map(str::to_owned)
            .collect();
        names.sort();
        names
    };
    // spank_option_callback is slurm-spank's own and unused; every other hook would make slurmd start
    // a process for each job, or run code where none is needed.
    assert_eq!(
        symbols("--defined-only"),
        [
            "plugin_name",
            "plugin_type",
            "plugin_version",
            "slurm_spank_init",
            "slurm_spank_init_post_opt",
            "slurm_spank_task_init",
            "spank_option_callback",
        ]
    );
    let of_slurm: Vec<String> = symbols("--undefined-only")
        .into_iter()
        .filter(|name| name.contains("slurm") || name.contains("spank"))
        .collect();
    let since_22_05 = [
        "slurm_debug",
        "slurm_debug2",
        "slurm_debug3",
        "slurm_error",
        "slurm_info",
        "slurm_spank_log",
        "slurm_verbose",
        "spank_context",
        "spank_get_item",
        "spank_getenv",
        "spank_option_register",
        "spank_setenv",
        "spank_unsetenv",
    ];
    assert_eq!(of_slurm, since_22_05);
}
