//! The package, in a Slurm that is running: installing it restarts nothing, removing it breaks nothing.

use std::process::Command;

use crate::{site, skip, support};

const CONF: &str = "/etc/slurm/plugstack.conf.d/chariot.conf";

#[track_caller]
fn dpkg(arguments: &[&str]) {
    let output = Command::new("dpkg").args(arguments).output().unwrap();
    assert!(output.status.success(), "dpkg {arguments:?}: {output:?}");
}

/// Removes the package at the end, also when the test fails.
struct Installed;

impl Drop for Installed {
    fn drop(&mut self) {
        let _ = Command::new("dpkg").args(["--purge", "chariot"]).output();
    }
}

#[test]
#[ignore = "alone: installs the package on this machine"]
fn the_package_serves_the_next_step_and_leaves_a_slurm_that_works() {
    let site = site!();
    let Some(package) = std::env::var("CHARIOT_TEST_DEB")
        .ok()
        .filter(|_| support::user().is_some())
    else {
        skip!("tests/matrix makes the package and a cluster for it");
    };
    let inside = "srun -N4 --ch-image=$I sh -c 'echo $CH_RUNNING' | sort -u";
    assert_ne!(
        site.run("srun --ch-image=$I true").code,
        0,
        "there before it is installed"
    );
    assert_eq!(site.run("srun echo plain").ok(), "plain");
    let _installed = Installed;
    dpkg(&["-i", &package]);
    assert_eq!(site.run(inside).ok(), site.image);
    for file in [
        "/usr/bin/chariot",
        "/etc/chariot/chariot.toml",
        "/usr/share/bash-completion/completions/chariot",
        "/usr/share/chariot/apparmor",
    ] {
        assert!(std::path::Path::new(file).exists(), "{file}");
    }
    assert_eq!(
        site.run("chariot run $I -- cat /proc/self/comm").ok(),
        "cat"
    );

    // The same package over itself is what an upgrade does: new files, renamed over the old ones.
    let said = site.run_while(
        "srun --ch-image=$I sh -c 'touch up; while [ ! -e go ]; do sleep 0.1; done; echo $CH_RUNNING'",
        || dpkg(&["-i", &package]),
    );
    assert_eq!(said.ok(), site.image);
    assert_eq!(site.run(inside).ok(), site.image);

    dpkg(&["-r", "chariot"]);
    assert_eq!(site.run("srun -N4 echo plain | sort -u").ok(), "plain");
    assert_ne!(site.run("srun --ch-image=$I true").code, 0);
    assert!(!std::path::Path::new(CONF).exists());
    dpkg(&["-i", &package]);
    assert_eq!(site.run(inside).ok(), site.image);
    dpkg(&["--purge", "chariot"]);
    let left = std::fs::read_dir("/etc/slurm/plugstack.conf.d")
        .unwrap()
        .flatten();
    let left: Vec<_> = left
        .filter(|file| file.file_name().to_string_lossy().contains("chariot"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(site.run("srun echo plain").ok(), "plain");
    site.nodes_are_fine();
}
