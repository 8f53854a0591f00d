//! Limits of memory, where the cluster has them: the server of an image takes its part of a step's memory and is not
//! what the step loses first.

use std::process::Command;

use crate::{Site, site, support};

/// An image with thousands of small files, as a directory and as a SquashFS file.
pub(crate) fn image_of_many_files(site: &Site) {
    let launcher = std::env::var("CHARIOT").unwrap();
    let script = "cp -r $I many && mkdir many/data && \
         head -c 36000000 /dev/urandom | split -a 4 -b 9000 - many/data/ && \
         LAUNCHER pack --quiet many many.sqfs";
    site.run(&script.replace("LAUNCHER", &launcher)).ok();
}

/// The servers that this user has, and what the kernel says of each: bytes that nothing but it holds, and its score.
pub(crate) fn servers(user: &str) -> Vec<(u64, String)> {
    let list = Command::new("pgrep")
        .args(["-u", user, "-x", "chariot-serve"])
        .output()
        .unwrap();
    let read = |pid: &str, file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).ok();
    let server = |pid: &str| {
        let status = read(pid, "status")?;
        let own = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"))?;
        let kilobytes: u64 = own.trim().trim_end_matches(" kB").parse().ok()?;
        Some((
            kilobytes << 10,
            read(pid, "oom_score_adj")?.trim().to_owned(),
        ))
    };
    String::from_utf8(list.stdout)
        .unwrap()
        .lines()
        .filter_map(server)
        .collect()
}

#[test]
#[ignore = "alone: looks at all servers of this user"]
fn a_server_takes_a_part_of_the_memory_that_its_step_may_have() {
    let site = site!();
    let Some(user) = support::user().filter(|_| site.has_cgroups()) else {
        // Only there has a step a limit, and nobody but root may look.
        return;
    };
    image_of_many_files(&site);
    let script = "srun -n1 --mem=140 --ch-image=./many.sqfs sh -c \
                  'cat /data/* | wc -c; touch up; while [ ! -e go ]; do sleep 0.1; done'";
    let said = site.run_while(script, || {
        for (bytes, _) in servers(&user) {
            assert!(bytes < 20 << 20, "{bytes}");
        }
    });
    assert_eq!(said.ok(), "36000000");
}

#[test]
#[ignore = "alone: uses up its memory"]
fn a_step_that_uses_up_its_memory_loses_a_process_of_its_own_and_not_its_images_server() {
    let site = site!();
    if !site.has_cgroups() || !may_lower_scores() {
        return;
    }
    image_of_many_files(&site);
    // 24 processes of 6 MB.
    site.script(
        "work",
        "#!/bin/sh\ncat /data/* | wc -c\nfor i in $(seq 24); do sh -c 'x=$(head -c 6000000 /dev/zero | tr \"\\0\" x); \
         sleep 2' & done\nwait\n",
    );
    let said = site.run("srun -n1 --mem=140 --ch-image=./many.sqfs ./work");
    assert!(!said.err.contains("the server of the image"), "{said:#?}");
    site.nodes_are_fine();
}

/// Whether this machine's root may tell the kernel whom to kill last; in some containers it may not, nor may slurmd.
fn may_lower_scores() -> bool {
    let file = "/proc/self/oom_score_adj";
    let before = std::fs::read_to_string(file).unwrap();
    let lowered = std::fs::write(file, "-1").is_ok();
    std::fs::write(file, before.trim()).unwrap();
    lowered
}

#[test]
#[ignore = "alone: looks at all servers of this user"]
fn under_a_limit_the_kernel_takes_a_server_after_the_tasks_and_nothing_else_of_the_user() {
    let site = site!();
    let Some(user) = support::user().filter(|_| site.has_cgroups() && may_lower_scores()) else {
        return;
    };
    let image = format!("{}.sqfs", site.image);
    let script = format!(
        "srun -n2 --mem=200 --ch-image={image} sh -c \
         '[ $SLURM_PROCID = 0 ] && touch up; while [ ! -e go ]; do sleep 0.1; done'"
    );
    let said = site.run_while(&script, || {
        support::until("the server is spared", || {
            servers(&user).iter().any(|(_, score)| score == "-999")
        });
        let tasks = Command::new("sh")
            .args([
                "-c",
                &format!("cat $(pgrep -u {user} -x sh | sed 's|.*|/proc/&/oom_score_adj|')"),
            ])
            .output()
            .unwrap();
        let scores = String::from_utf8(tasks.stdout).unwrap();
        assert!(scores.lines().all(|score| score == "0"), "{scores}");
    });
    said.ok();
}
