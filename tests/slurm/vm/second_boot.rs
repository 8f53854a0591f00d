//! A node that is started anew while a step runs in an image: nothing of it is left, and the package serves the next one.

use std::path::PathBuf;

use super::life::node_is_back;
use super::root;
use crate::{site, support};

const NAME: &str =
    "vm::second_boot::after_a_reboot_nothing_of_a_step_is_left_and_the_next_one_runs";

/// What `tests/tools/in-machine` looks for, on the disk that stays; it has the name of the test that goes on.
fn note() -> PathBuf {
    support::images()
        .unwrap()
        .parent()
        .unwrap()
        .join("second-boot")
}

#[test]
#[ignore = "alone: the machine is started anew"]
fn after_a_reboot_nothing_of_a_step_is_left_and_the_next_one_runs() {
    let site = site!();
    let spool = "find /run /var/spool /var/lib/chariot /tmp /var/tmp -xdev -user chariot-test -not -path '*/chariot-tests.*' 2>/dev/null";
    if !note().exists() {
        let place = support::images()
            .unwrap()
            .parent()
            .unwrap()
            .join("scratch/left");
        root(&format!("install -d -o chariot-test {}", place.display())).ok();
        let said = site.run(&format!(
            "cd {}; sbatch --no-requeue -J left --ch-image=$I.sqfs -o out --wrap 'touch up; sleep 900'",
            place.display()
        ));
        said.ok();
        support::until("the job runs", || place.join("up").exists());
        // It runs when the machine goes down.
        std::fs::write(note(), NAME).unwrap();
        root("sync").ok();
        return;
    }
    println!(
        "{}",
        root("ls /sys/kernel/security/apparmor && cat /sys/kernel/security/apparmor/profiles").out
    );
    println!("{:#?}", site.run("squeue; sinfo -R; chariot images"));
    root("scancel --name=left; scancel -t RUNNING,PENDING").ok();
    node_is_back(&site);
    support::until("nothing of the job is left", || {
        site.run("squeue -h").out.is_empty()
    });
    assert_eq!(root("pgrep chariot").out, root("pgrep chariot-tests").out);
    assert_eq!(root(spool).out, "");
    let said = site.run("srun --ch-image=$I.sqfs cat /etc/motd; chariot run $I.sqfs -- cat /etc/motd; srun --ch-image=$I cat /etc/motd");
    assert_eq!(said.ok(), "an image in a file\n".repeat(3).trim_end());
    assert_eq!(said.complaints(), "");
    let profile = std::path::Path::new("/etc/apparmor.d/chariot");
    let loaded = root("cat /sys/kernel/security/apparmor/profiles").out;
    assert_eq!(loaded.contains("chariot"), profile.exists(), "{loaded}");
    site.nodes_are_fine();
}
