//! `chariot ps` and `chariot exec --job` where there is no Slurm: what /proc shows, and what processes say of themselves.

use crate::{place, skip, support};

/// Of what processes claim root hears nothing.
fn is_root() -> bool {
    support::user().is_none() && support::shell("id -u", "/".as_ref(), &[]).ok() == "0"
}

#[test]
fn a_container_is_listed_while_it_runs_and_entered_by_the_number_that_is_shown() {
    let place = place!();
    let said = place.run(
        "$C run ./img -- sh -c ': >up; exec sleep 60' & p=$!; until [ -e up ]; do sleep 0.1; done; \
         $C ps | grep \"^$p \" | tr -s ' ' | cut -d' ' -f1,2 | sed s/$p/PID/; \
         $C ps --json | grep -A1 '\"pid\": '$p | grep -c job; $C exec $($C ps | grep \"^$p \" | cut -d' ' -f1) -- echo in; \
         kill $p; wait; $C ps | grep -c \"^$p \"; true",
    );
    assert_eq!(said.ok(), "PID -\n1\nin\n0", "{said:#?}");
}

#[test]
fn what_a_process_says_of_itself_stays_one_line_of_eighty_characters() {
    if is_root() {
        skip!("this is root: tests/run has an ordinary user");
    }
    let place = place!();
    std::fs::write(
        place.here().join("hostile"),
        "export CH_RUNNING=\"$(printf 'x\\n4242  9.0 \\033[2J\\342\\200\\256'; head -c 20000 /dev/zero | od -v -A n -c)\"\n\
         export SLURM_STEP_ID=4294967291 SLURM_JOB_ID=42 SLURM_ARRAY_JOB_ID=x SLURMD_NODENAME=\"$(printf 'n\\n1')\"\n\
         : >up; exec sleep 60\n",
    )
    .unwrap();
    let said = place.run(
        "export LC_ALL=C.UTF-8; $C run ./img -- sh ./hostile & p=$!; until [ -e up ]; do sleep 0.1; done; sleep 0.3; \
         $C ps >list; $C ps --json >json; $C exec --job 42.batch -- echo in; kill $p; wait; cat list",
    );
    let lines: Vec<&str> = said.ok().lines().collect();
    assert_eq!(lines[0], "in", "{said:#?}");
    let ours: Vec<&&str> = lines
        .iter()
        .filter(|line| line.contains("42.batch"))
        .collect();
    assert!(
        ours.len() == 1 && !lines.iter().any(|line| line.starts_with("4242")),
        "{said:#?}"
    );
    assert!(
        lines.iter().all(|line| line.chars().count() <= 80),
        "{said:#?}"
    );
    let acts = |text: &str| {
        text.chars()
            .any(|one| one != '\n' && chariot_core::escape::acts(one))
    };
    let json = std::fs::read_to_string(place.here().join("json")).unwrap();
    assert!(!acts(&json) && !acts(&said.out), "{said:#?}");
    let read: serde_json::Value = serde_json::from_str(&json).unwrap();
    let all = read.as_array().unwrap();
    let image = all.iter().find(|one| one["job"] == "42.batch").unwrap()["image"].as_str();
    assert!(image.unwrap().starts_with("x\n4242"), "{image:?}");
}

#[test]
fn a_container_that_has_ended_and_a_job_that_nobody_knows_are_said_in_a_sentence() {
    if is_root() {
        skip!("this is root: tests/run has an ordinary user");
    }
    let place = place!();
    let said = place.run(
        "SLURM_JOB_ID=43 SLURM_STEP_ID=0 $C run ./img -- true; PATH=/nowhere; $C exec --job 43 -- true",
    );
    said.failed(127, "this machine has no squeue", 1);
    for (words, sentence) in [
        ("exec --job 43", "there is no command to run"),
        (
            "exec --job 43..0 -- true",
            "it is not the number of a job or a step",
        ),
        ("exec --node n1 4242 true", "needs --job"),
    ] {
        place.run(&format!("$C {words}")).failed(125, sentence, 1);
    }
}
