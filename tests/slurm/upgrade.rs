//! Replacing the plugin and the launcher while jobs run.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::{site, skip, support};

/// Writes `bytes` beside `path` and renames them over it, as a package manager does.
pub(crate) fn replace(path: &Path, bytes: &[u8]) {
    let new = path.with_extension("new");
    let mode = path.metadata().unwrap().permissions().mode();
    std::fs::write(&new, bytes).unwrap();
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(mode)).unwrap();
    std::fs::rename(new, path).unwrap();
}

/// A file with what it held, which it holds again at the end of a test.
pub(crate) struct Restore(pub(crate) PathBuf, pub(crate) Vec<u8>);

impl Drop for Restore {
    fn drop(&mut self) {
        replace(&self.0, &self.1);
    }
}

/// A step that runs while something happens, and says at its end that it is still in its container.
const LONG: &str = "srun -N2 -n4 --ch-image=$I sh -c \
                    'touch up; while [ ! -e go ]; do sleep 0.1; done; cat /proc/self/comm'";

#[test]
#[ignore = "alone: replaces the plugin and the launcher"]
fn replacing_both_parts_harms_no_running_step_and_no_new_one() {
    let site = site!();
    if support::user().is_none() {
        skip!("tests/run installs them for the test");
    }
    let parts =
        ["CHARIOT", "CHARIOT_SO"].map(|name| PathBuf::from(std::env::var_os(name).unwrap()));
    let said = site.run_while(LONG, || {
        for part in &parts {
            replace(part, &std::fs::read(part).unwrap());
            assert_eq!(
                site.run("srun --ch-image=$I sh -c 'echo $CH_RUNNING'").ok(),
                site.image
            );
        }
    });
    assert_eq!(said.ok(), ["cat"; 4].join("\n"));
    site.nodes_are_fine();
}

#[test]
#[ignore = "alone: replaces the launcher"]
fn a_launcher_that_speaks_otherwise_is_told_from_one_that_was_killed() {
    let site = site!();
    if support::user().is_none() {
        skip!("tests/run installs it for the test");
    }
    let launcher = PathBuf::from(std::env::var_os("CHARIOT").unwrap());
    let _restore = Restore(launcher.clone(), std::fs::read(&launcher).unwrap());
    // As 0.1.0 refuses what it does not understand.
    replace(
        &launcher,
        b"#!/bin/sh\necho 'Ecannot read the request'\necho X125\nexit 125\n",
    );
    let said = site.run("srun -w n1 --ch-image=$I echo RAN");
    said.failed(125, "the launcher's words are not understood", 1);
    assert!(
        said.err.contains("of one version on this node"),
        "{said:#?}"
    );
    assert!(!said.err.contains("memory limit"), "{said:#?}");
    assert!(!said.out.contains("RAN"), "{said:#?}");
    // Nor is a name that stays unpinned passed over in silence.
    let said = site.run("sbatch --ch-image=docker://localhost:1/x:1 --wrap true -o /dev/null -H");
    assert!(said.err.contains("the job's first node asks"), "{said:#?}");
    site.run("scancel -u $USER");
    site.nodes_are_fine();
}

/// Changes the version that a file says it is of, in place: it is written to the other part.
fn of_version(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = bytes.to_vec();
    let positions: Vec<usize> = (0..bytes.len() - from.len())
        .filter(|at| bytes[*at..].starts_with(from.as_bytes()))
        .collect();
    assert!(!positions.is_empty(), "{from} is not in the file");
    for at in positions {
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    }
    bytes
}

#[test]
#[ignore = "alone: replaces the launcher"]
fn a_launcher_of_another_version_is_noticed() {
    let site = site!();
    if support::user().is_none() {
        skip!("tests/run installs it for the test");
    }
    let launcher = PathBuf::from(std::env::var_os("CHARIOT").unwrap());
    let original = std::fs::read(&launcher).unwrap();
    let _restore = Restore(launcher.clone(), original.clone());
    let version = env!("CARGO_PKG_VERSION");
    let stamp = format!("chariot-handover 4 {version}");
    let other = version.replace('0', "9");
    // The same form: it works, and the log says it.
    replace(
        &launcher,
        &of_version(&original, &stamp, &format!("chariot-handover 4 {other}")),
    );
    let said = site.run("srun -w n1 --ch-image=$I sh -c 'echo $CH_RUNNING'");
    assert_eq!((said.ok(), said.err.as_str()), (site.image.as_str(), ""));
    let log = std::fs::read_to_string(site.cluster.join("log/slurmd-n1.log")).unwrap();
    let expected = format!("chariot.so has version {version}, and chariot {other}");
    assert!(log.contains(&expected), "{expected}");
    // Another form: the step ends with a sentence.
    replace(
        &launcher,
        &of_version(&original, &stamp, &format!("chariot-handover 5 {other}")),
    );
    let said = site.run("srun -N2 -n4 --ch-image=$I echo RAN");
    let sentence = format!("Chariot {other} does not understand what Chariot {version} wrote");
    said.failed(125, &sentence, 2);
    assert!(!said.out.contains("RAN"), "{said:#?}");
    site.nodes_are_fine();
}
