//! The package, in a Slurm that is running: installing it restarts nothing, removing it breaks nothing.

use std::path::Path;
use std::process::Command;

use crate::{site, skip, support, with_text};

const CONF: &str = "/etc/slurm/plugstack.conf.d/chariot.conf";

#[track_caller]
fn dpkg(arguments: &[&str]) {
    let output = Command::new("dpkg").args(arguments).output().unwrap();
    assert!(output.status.success(), "dpkg {arguments:?}: {output:?}");
}

/// Removes the package at the end, also when the test fails; or installs it, where it was before.
struct AsBefore(Option<String>);

impl AsBefore {
    /// From now on it is not there.
    fn of(package: &str) -> AsBefore {
        let was_there = Path::new(CONF).exists();
        dpkg(&["--purge", "chariot"]);
        AsBefore(was_there.then(|| package.to_owned()))
    }
}

impl Drop for AsBefore {
    fn drop(&mut self) {
        let _ = Command::new("dpkg").args(["--purge", "chariot"]).output();
        if let Some(package) = &self.0 {
            let _ = Command::new("dpkg").args(["-i", package]).output();
        }
    }
}

/// A cluster that has this machine's own configuration, and the package; or a skip.
macro_rules! installable {
    () => {{
        let site = site!();
        let Some(package) = std::env::var("CHARIOT_TEST_DEB")
            .ok()
            .filter(|_| support::user().is_some())
        else {
            skip!("tests/matrix makes the package and a cluster for it");
        };
        (site, package)
    }};
}

#[test]
#[ignore = "alone: installs the package on this machine"]
fn the_package_serves_the_next_step_and_leaves_a_slurm_that_works() {
    let (site, package) = installable!();
    let _as_before = AsBefore::of(&package);
    let inside = "srun -N$(sinfo -h -o %D) --ch-image=$I sh -c 'echo $CH_RUNNING' | sort -u";
    assert_ne!(
        site.run("srun --ch-image=$I true").code,
        0,
        "there before it is installed"
    );
    assert_eq!(site.run("srun echo plain").ok(), "plain");
    dpkg(&["-i", &package]);
    assert_eq!(site.run(inside).ok(), site.image);
    for file in [
        "/usr/bin/chariot",
        "/etc/chariot/chariot.toml",
        "/usr/share/bash-completion/completions/chariot",
        "/usr/share/chariot/apparmor",
    ] {
        assert!(Path::new(file).exists(), "{file}");
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

    let removed = || {
        let plain = "srun -N$(sinfo -h -o %D) echo plain | sort -u";
        assert_eq!(site.run(plain).ok(), "plain");
        assert_ne!(site.run("srun --ch-image=$I true").code, 0);
    };
    dpkg(&["-r", "chariot"]);
    removed();
    assert!(!Path::new(CONF).exists());
    dpkg(&["-i", &package]);
    assert_eq!(site.run(inside).ok(), site.image);
    dpkg(&["--purge", "chariot"]);
    assert_eq!(left(), Vec::<String>::new());
    removed();
    site.nodes_are_fine();
}

/// What of Chariot's is in the directories for configuration.
fn left() -> Vec<String> {
    let found = Command::new("find")
        .args([
            "/etc",
            "/usr/share",
            "/var/lib/chariot",
            "-not",
            "-path",
            "*/dpkg/*",
        ])
        // A machine of the tests' own has a service that runs them.
        .args(["-iname", "*chariot*", "-not", "-name", "chariot-tests*"])
        .output()
        .unwrap();
    let found = String::from_utf8(found.stdout).unwrap();
    found.lines().map(String::from).collect()
}

#[test]
#[ignore = "alone: installs the package on this machine"]
fn what_the_administrator_has_taken_out_does_not_come_back_by_an_upgrade() {
    let (site, package) = installable!();
    let works = || site.run("srun --ch-image=$I true").code == 0;
    let conf = || std::fs::read_to_string(CONF).unwrap();
    let _as_before = AsBefore::of(&package);
    dpkg(&["-i", &package]);
    assert!(works());
    let as_shipped = conf();
    assert!(as_shipped.contains("\nrequired /"), "{as_shipped}");

    // The line, and then the file. What dpkg is given is what it has: an upgrade, to the same version.
    let without = as_shipped.replace("\nrequired ", "\n# required ");
    std::fs::write(CONF, &without).unwrap();
    dpkg(&["-i", &package]);
    assert_eq!(conf(), without);
    dpkg(&["-r", "chariot"]);
    dpkg(&["-i", &package]);
    assert_eq!(conf(), without, "back as it was before it was removed");
    std::fs::remove_file(CONF).unwrap();
    dpkg(&["-i", &package]);
    assert!(!Path::new(CONF).exists());
    assert_eq!(site.run("srun echo plain").ok(), "plain");
    dpkg(&["-r", "chariot"]);
    dpkg(&["-i", &package]);
    assert!(!Path::new(CONF).exists());
    assert!(!works());

    // Who wants it again says so.
    dpkg(&["--purge", "chariot"]);
    dpkg(&["-i", &package]);
    assert!(works());
    dpkg(&["--purge", "chariot"]);
    assert_eq!(left(), Vec::<String>::new());
    site.nodes_are_fine();
}

#[test]
#[ignore = "alone: installs the package on this machine"]
fn where_slurm_does_not_read_the_line_the_package_says_what_to_do() {
    let (site, package) = installable!();
    let plugstack = Path::new("/etc/slurm/plugstack.conf").to_owned();
    let _as_before = AsBefore::of(&package);
    with_text(plugstack, "# nothing\n", || {
        let output = Command::new("dpkg")
            .args(["-i", &package])
            .env("SLURM_CONF", site.cluster.join("slurm.conf"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{output:?}");
        assert!(said.contains("Slurm here does not use it yet"), "{said}");
        assert!(
            said.contains("include /etc/slurm/plugstack.conf.d/*.conf"),
            "{said}"
        );
    });
    assert_eq!(site.run("srun --ch-image=$I echo ran").ok(), "ran");
}
