//! `chariot check` on machines that lack something, each in namespaces of the test's own.

use crate::support::{Said, shell_as};
use crate::{Place, place, skip};

fn check(place: &Place, prepare: &str, inside: &str) -> Said {
    place.run(&format!("{inside} sh -c '{prepare} exec $C check'"))
}

/// The same as root, in a mount namespace of its own.
fn as_root(place: &Place, prepare: &str) -> Option<Said> {
    if !chariot_core::sys::rights::is_root() {
        return None;
    }
    let launcher = format!("{} --config /dev/null", place.launcher);
    let script = format!("unshare --mount --propagation private sh -ec '{prepare} exec $C check'");
    Some(shell_as(None, &script, place.here(), &[("C", &launcher)]))
}

/// The line that a topic has, and the one below it.
fn line(said: &Said, topic: &str) -> (String, String) {
    let mut lines = said
        .out
        .lines()
        .skip_while(|line| !line.contains(&format!(" {topic} ")));
    let mut next = || lines.next().unwrap_or_default().to_owned();
    (next(), next())
}

#[test]
fn without_user_namespaces_the_setting_is_named_and_nothing_else_is_to_be_done() {
    let place = place!();
    let prepare = "echo 0 >/proc/sys/user/max_user_namespaces;";
    let said = check(&place, prepare, "unshare --user --map-root-user");
    assert_eq!(said.code, 1, "{said:#?}");
    let (found, advice) = line(&said, "user namespaces");
    assert!(
        found.starts_with("MISSING") && found.contains("user.max_user_namespaces = 0"),
        "{said:#?}"
    );
    assert!(
        advice.contains("sysctl -w user.max_user_namespaces=65536"),
        "{said:#?}"
    );
    assert!(!said.out.contains("modprobe"), "{said:#?}");
    assert!(
        line(&said, "overlayfs").0.contains("not tried"),
        "{said:#?}"
    );
    assert_eq!(said.out.matches("MISSING").count(), 1, "{said:#?}");
    // A login node need not have them.
    let said = place.run(&format!(
        "unshare --user --map-root-user sh -c '{prepare} exec $C check --login --json'"
    ));
    assert!(
        !said
            .out
            .contains("\"needed\": true,\n      \"found\": \"No space"),
        "{said:#?}"
    );
}

#[test]
fn a_chroot_in_which_the_kernel_makes_no_user_namespace_is_guessed() {
    let place = place!();
    let prepare = "mkdir -p r/proc r/dev; mount --bind r r; mount --bind /proc r/proc; mount --bind /dev r/dev;";
    let launcher = place.launcher.clone();
    if !chariot_core::sys::rights::is_root() {
        skip!("chroot(2) is for root");
    }
    // The launcher of tests/run is static, another needs its libraries.
    let script = format!(
        "unshare --mount --propagation private sh -ec '{prepare} cp {launcher} r/chariot; exec chroot r /chariot check'"
    );
    let said = shell_as(None, &script, place.here(), &[]);
    if said.code == 127 || said.err.contains("failed to run command") {
        return;
    }
    let (found, advice) = line(&said, "user namespaces");
    assert!(
        said.code == 1 && found.starts_with("MISSING") && advice.contains("chroot"),
        "{said:#?}"
    );
}

#[test]
fn a_restriction_that_does_not_hold_for_chariot_is_no_failure() {
    let place = place!();
    let prepare = "mount -t tmpfs none /proc/sys/kernel; \
                   echo 1 >/proc/sys/kernel/apparmor_restrict_unprivileged_userns; \
                   echo 0 >/proc/sys/kernel/unprivileged_userns_clone;";
    let Some(said) = as_root(&place, prepare) else {
        skip!("only root can put a setting there that this kernel does not have")
    };
    assert!(
        line(&said, "user namespaces").0.starts_with("ok"),
        "{said:#?}"
    );
    said.ok();
}

#[test]
fn a_fuse_device_that_is_missing_or_closed_costs_files_and_no_exit_status() {
    let place = place!();
    for (prepare, found, advice) in [
        (
            "mount -t tmpfs none /dev; mknod -m 666 /dev/null c 1 3;",
            "No such file",
            "modprobe fuse",
        ),
        (
            "mount -t tmpfs none /dev; mknod -m 666 /dev/null c 1 3; mknod -m 600 /dev/fuse c 10 229;",
            "Permission denied",
            "chmod 666 /dev/fuse",
        ),
    ] {
        let Some(said) = as_root(&place, prepare) else {
            skip!("only root can take a device away")
        };
        let (line, next) = line(&said, "FUSE");
        assert!(
            line.starts_with("without") && line.contains(found),
            "{said:#?}"
        );
        assert!(next.contains(advice), "{said:#?}");
        said.ok();
    }
}

#[test]
fn a_machine_without_slurm_is_fine_unless_it_is_to_be_a_node() {
    let place = place!();
    let run = |role: &str| {
        place.run(&format!(
            "mkdir -p none; SLURM_CONF=/nosuch/slurm.conf PATH=$PWD/none $C check {role}"
        ))
    };
    let said = run("");
    assert!(
        line(&said, "Slurm plugin")
            .0
            .contains("this machine has no Slurm"),
        "{said:#?}"
    );
    said.ok();
    for role in ["--node", "--login"] {
        let said = run(role);
        assert_eq!(said.code, 1, "{said:#?}");
        assert!(
            line(&said, "Slurm plugin").0.starts_with("MISSING"),
            "{said:#?}"
        );
    }
}

/// What a program finds in JSON.
#[test]
fn names_in_json_are_those_that_are_documented() {
    let place = place!();
    let said = place.run("$C check --json");
    let report: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(report["ok"], said.code == 0);
    assert_eq!(report["role"], "any");
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/admin/verify.md");
    let page = std::fs::read_to_string(page).unwrap();
    let findings = report["findings"].as_array().unwrap();
    assert!(findings.len() >= 9);
    for finding in findings {
        let key = finding["key"].as_str().unwrap();
        assert!(
            page.contains(&format!("| `{key}` |")),
            "docs/admin/verify.md: {key}"
        );
        for name in ["what", "ok", "needed", "found"] {
            assert!(!finding[name].is_null(), "{finding}");
            assert!(
                page.contains(&format!("`{name}`")),
                "docs/admin/verify.md: {name}"
            );
        }
    }
}

/// Slurm's commands, as far as `--cluster` calls them: `answers` is what the nodes print, and how each ends is a variable.
const CLUSTER: &str = r#"mkdir slurm
printf '#!/bin/sh\ncat answers\nexit $SRUN_ENDS\n' >slurm/srun
printf '#!/bin/sh\n[ $SCONTROL_ENDS = 0 ] && printf "n1\\nn2\\n"\nexit $SCONTROL_ENDS\n' >slurm/scontrol
chmod +x slurm/*
answer() {
    printf '{"name":"%s","plugin":"1","launcher":"1","list":"n[1-2]"}\n\377 what a prolog prints\n' $1
}
{ printf '\377\n'; answer n1; answer n2; answer n2; } >answers
answer n1 >fewer"#;

#[test]
fn nodes_are_only_well_if_all_have_said_so_and_it_is_known_who_all_are() {
    let place = place!();
    place.run(CLUSTER).ok();
    let check = |answers: &str, srun: &str, scontrol: &str| {
        let script = format!(
            "cp {answers} now; sed -i 's/answers/now/' slurm/srun; PATH=$PWD/slurm:$PATH $C check --cluster -- -N2"
        );
        place.run_with(&script, &[("SRUN_ENDS", srun), ("SCONTROL_ENDS", scontrol)])
    };
    let said = check("answers", "0", "0");
    assert!(said.ok().contains("\nn[1-2]  1 "), "{said:#?}");
    for (answers, srun, scontrol, told) in [
        ("fewer", "0", "0", "n2 did not answer"),
        ("answers", "3", "0", "srun ended with exit status: 3"),
        ("answers", "0", "1", "which nodes were asked is not known"),
    ] {
        let said = check(answers, srun, scontrol);
        assert_eq!(said.code, 1, "{told}: {said:#?}");
        assert!(said.out.contains(told), "{told}: {said:#?}");
    }
}
