//! Memory as cgroup v2 counts it: the server of an image is charged to its step, and is not what the step loses when that
//! has used up what it may have.

use super::root;
use crate::memory::{image_of_many_files, servers};
use crate::support::Said;
use crate::{site, support};

/// Takes more than a step of 100 megabytes has.
const TOO_MUCH: &str = "dd if=/dev/zero of=/dev/null bs=150M count=1";

/// What the user reads of it, with all numbers alike.
fn told(said: &Said) -> (i32, Vec<String>) {
    let alike = |line: &str| {
        let parts = line.split(|letter: char| letter.is_ascii_digit());
        let parts = parts.filter(|part| !part.is_empty());
        parts
            .collect::<Vec<_>>()
            .join("#")
            .replace(" events ", " event ")
    };
    let is_of_it = |line: &&str| {
        ["chariot", "oom", "Out Of Memory"]
            .iter()
            .any(|word| line.contains(word))
    };
    let mut lines: Vec<_> = said.err.lines().filter(is_of_it).map(alike).collect();
    lines.sort_unstable();
    lines.dedup();
    (said.code, lines)
}

#[test]
#[ignore = "alone: uses up its memory"]
fn who_takes_more_memory_than_the_step_has_reads_the_same_as_on_the_host() {
    let site = site!();
    let on_host = site.run(&format!("srun --mem=100 $I/bin/busybox {TOO_MUCH}"));
    println!("{on_host:#?}");
    assert_ne!(on_host.code, 0);
    assert!(on_host.err.to_lowercase().contains("oom"), "{on_host:#?}");
    for image in ["$I", "$I.sqfs"] {
        let inside = site.run(&format!("srun --mem=100 --ch-image={image} {TOO_MUCH}"));
        println!("{image}: {inside:#?}");
        assert_eq!(told(&inside), told(&on_host), "{image}");
    }
    site.nodes_are_fine();
}

#[test]
#[ignore = "alone: uses up its memory"]
fn of_many_small_processes_the_step_loses_some_and_reads_its_image_on() {
    let site = site!();
    image_of_many_files(&site);
    // Each holds what it has read until nobody hears it any more.
    site.script(
        "work",
        "#!/bin/sh\ncat /data/* | wc -c\n\
         for i in $(seq 24); do busybox dd if=/dev/zero bs=7M count=1 2>/dev/null | sleep 25 & done\n\
         wait\ncat /data/aa* | wc -c; cat /etc/motd\n",
    );
    for image in ["./many", "./many.sqfs"] {
        let said = site.run(&format!("srun -n1 --mem=140 --ch-image={image} ./work"));
        println!("{image}: {said:#?}");
        let killed = said.err.to_lowercase();
        assert!(
            killed.contains("oom") || killed.contains("out of memory"),
            "{image}: {said:#?}"
        );
        assert!(!said.err.contains("chariot"), "{image}: {said:#?}");
        assert_eq!(
            said.out, "36000000\n6084000\nan image in a file\n",
            "{image}: {said:#?}"
        );
        site.nodes_are_fine();
    }
}

/// A number of a file of a group, in bytes; none where this kernel has no such file.
fn number(group: &str, file: &str, key: &str) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/sys/fs/cgroup{group}/{file}")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().parse().ok()
}

#[test]
#[ignore = "alone: looks at all servers of this user"]
fn what_the_server_of_an_image_takes_is_charged_to_its_step() {
    let site = site!();
    let user = support::user().unwrap();
    image_of_many_files(&site);
    for image in ["./many", "./many.sqfs"] {
        let script = format!(
            "srun -n1 --mem=300 --ch-image={image} sh -c \
             'cat /data/* | wc -c; touch up; while [ ! -e go ]; do sleep 0.1; done'"
        );
        site.run("rm -f go up").ok();
        let said = site.run_while(&script, || {
            let task = root(&format!("cat /proc/$(pgrep -u {user} -x sh | head -1)/cgroup"));
            let group = task.ok().trim_start_matches("0::").to_owned();
            let at = group.find("/step_").unwrap();
            let end = group[at + 1..].find('/').map_or(group.len(), |end| at + 1 + end);
            let step = &group[..end];
            let own: u64 = servers(&user).iter().map(|(bytes, _)| bytes).sum();
            let anonymous = number(step, "memory.stat", "anon ").unwrap();
            println!(
                "{image}: of the step's memory.current of {} kB (memory.peak {:?} kB) {} kB are no file's; the image's server has {} kB",
                number(step, "memory.current", "").unwrap() >> 10,
                number(step, "memory.peak", "").map(|bytes| bytes >> 10),
                anonymous >> 10,
                own >> 10,
            );
            assert_eq!(own == 0, image == "./many");
            assert!(anonymous >= own, "{anonymous} {own}");
        });
        assert_eq!(said.ok(), "36000000");
    }
}
