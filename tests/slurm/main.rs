//! Chariot in a real Slurm. `tests/run` starts the clusters, in two configurations, and makes the
//! user and the images; without it these tests skip by name.

#![allow(clippy::disallowed_methods, reason = "tests make what they need")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that cannot go on fails"
)]
#![allow(clippy::panic, reason = "a test that cannot go on fails")]

#[path = "../support/mod.rs"]
mod support;

mod audit;
mod check;
mod closed;
mod coming_from;
mod devices;
mod edf;
mod ends;
mod entering;
mod failures;
mod host_commands;
mod job_scripts;
mod jobs;
mod memory;
mod package;
mod places;
mod prepared;
mod prolog;
mod registry;
mod releases;
mod running;
mod squashfs;
mod steps;
mod told;
mod trusted;
mod upgrade;
mod vm;

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

    /// Whether the daemons are an ordinary user's, who is the only one that can run jobs.
    fn is_rootless(&self) -> bool {
        self.cluster.ends_with("rootless")
    }

    /// Whether each job has a /tmp of its own.
    fn has_private_tmp(&self) -> bool {
        self.cluster.join("job_container.conf").exists()
    }

    /// Runs a script as the ordinary user; `$I` is the small image. What srun says of its place in the queue, which
    /// depends on what the last test has left, is left out.
    fn run(&self, script: &str) -> Said {
        let conf = self.cluster.join("slurm.conf");
        let variables = [("SLURM_CONF", conf.to_str().unwrap()), ("I", &self.image)];
        let mut said = support::shell(script, self.here(), &variables);
        let is_of_queue = |line: &str| {
            line.starts_with("srun: job ")
                && (line.ends_with(" queued and waiting for resources")
                    || line.ends_with(" has been allocated resources"))
        };
        let lines = said.err.split_inclusive('\n');
        said.err = lines.filter(|line| !is_of_queue(line.trim_end())).collect();
        said
    }

    /// Runs a script that makes a file `up` when it has come so far, then `work`, and makes the file `go`
    /// for which the script waits.
    #[track_caller]
    fn run_while(&self, script: &str, work: impl FnOnce()) -> Said {
        std::thread::scope(|scope| {
            let step = scope.spawn(|| self.run(script));
            support::until("the step starts", || self.here().join("up").exists());
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            std::fs::write(self.here().join("go"), "").unwrap();
            let said = step.join().unwrap();
            result.unwrap();
            said
        })
    }

    /// Writes a file into the test's directory that everybody may execute.
    fn script(&self, name: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.here().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// The cluster's site file; where a package has installed one, that.
    fn file(&self) -> PathBuf {
        let file = self.cluster.join("chariot.toml");
        file.canonicalize().unwrap_or(file)
    }

    /// Runs `work` with the cluster's site file replaced, and puts it back.
    fn with_file(&self, text: &str, work: impl FnOnce()) {
        with_text(self.file(), text, work);
    }

    /// No node may be drained, whatever a user did. One that is is put back, so that this test alone fails, and
    /// what its slurmd wrote of the steps that it could not end is shown.
    #[track_caller]
    fn nodes_are_fine(&self) {
        let said = self.run("sinfo -h -R -o '%n %E'");
        let reasons = said.ok();
        if reasons.is_empty() {
            return;
        }
        let mut log = String::new();
        for node in reasons.lines().filter_map(|line| line.split(' ').next()) {
            let _ = std::process::Command::new("scontrol")
                .env("SLURM_CONF", self.cluster.join("slurm.conf"))
                .args(["update", &format!("nodename={node}"), "state=resume"])
                .status();
            let file = self.cluster.join(format!("log/slurmd-{node}.log"));
            log += &std::fs::read_to_string(file).unwrap_or_default();
        }
        let stuck: Vec<_> = log
            .lines()
            .filter_map(|line| line.split_once("*** STEP ")?.1.split(' ').next())
            .collect();
        let of_stuck = |line: &&str| {
            stuck.iter().any(|step| {
                line.contains(&format!("[{step}]")) || line.contains(&format!("={step} "))
            })
        };
        let lines: Vec<_> = log.lines().filter(of_stuck).collect();
        panic!("a node is drained: {reasons}\n{}", lines.join("\n"));
    }
}

/// Runs `work` with another text in a file, and puts back what it said.
fn with_text(file: PathBuf, text: &str, work: impl FnOnce()) {
    struct Restore(PathBuf, Vec<u8>);
    impl Drop for Restore {
        fn drop(&mut self) {
            // Whatever lies there by now.
            let _ = std::fs::remove_file(&self.0);
            let _ = std::fs::remove_dir(&self.0);
            let _ = std::fs::write(&self.0, &self.1);
        }
    }
    let restore = Restore(file.clone(), std::fs::read(&file).unwrap());
    std::fs::write(&file, text).unwrap();
    work();
    drop(restore);
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
