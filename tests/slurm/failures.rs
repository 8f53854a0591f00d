//! Failures: one sentence per node, the right exit status, nothing runs on the host, no node drained.

use crate::{Site, site, support};

/// Runs a step on two nodes that must fail on both, and checks that the command did not run.
#[track_caller]
fn fails(site: &Site, options: &str, command: &str, code: i32, sentence: &str) {
    let said = site.run(&format!("srun -N2 -n4 {options} {command}"));
    said.failed(code, sentence, 2);
    assert!(!said.out.contains("RAN"), "{said:#?}");
    site.nodes_are_fine();
}

#[test]
fn an_image_that_cannot_be_used_is_named_with_the_reason() {
    let site = site!();
    fails(
        &site,
        "--ch-image=/nonexistent",
        "echo RAN",
        125,
        "can't use the image /nonexistent: stat",
    );
    fails(
        &site,
        "--ch-image=nosuchname",
        "echo RAN",
        125,
        "can't find an image named nosuchname",
    );
    fails(
        &site,
        "--ch-image=/etc/passwd",
        "echo RAN",
        125,
        "not in a format that Chariot knows",
    );
    std::fs::create_dir(site.here().join("empty")).unwrap();
    fails(
        &site,
        "--ch-image=./empty",
        "echo RAN",
        125,
        "the directory is empty",
    );
    std::fs::write(site.here().join("x.sqfs"), b"hsqs and more").unwrap();
    fails(
        &site,
        "--ch-image=./x.sqfs",
        "echo RAN",
        125,
        "the file ends before the superblock does (at offset 13)",
    );
    if support::user().is_some() {
        use std::os::unix::fs::PermissionsExt;
        let closed = site.here().join("closed");
        std::fs::create_dir(&closed).unwrap();
        std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o700)).unwrap();
        fails(
            &site,
            "--ch-image=./closed",
            "echo RAN",
            125,
            "Permission denied",
        );
    }
}

#[test]
fn a_command_that_is_not_there_ends_in_127_and_one_that_cannot_run_in_126() {
    let site = site!();
    fails(
        &site,
        "--ch-image=$I",
        "nothere RAN",
        127,
        "can't run nothere: not found in the image",
    );
    fails(
        &site,
        "--ch-image=$I",
        "/bin/nothere",
        127,
        "can't run /bin/nothere: not found",
    );
    std::fs::write(site.here().join("plain"), "").unwrap();
    fails(&site, "--ch-image=$I", "./plain", 126, "Permission denied");
}

#[test]
fn bad_binds_and_directories_are_named_as_they_were_typed() {
    let site = site!();
    let bind = "--ch-image=$I --ch-bind=/nonexistent:/mnt";
    fails(
        &site,
        bind,
        "echo RAN",
        125,
        "can't bind /nonexistent to /mnt: stat",
    );
    let workdir = "--ch-image=$I --ch-workdir=/nonexistent";
    fails(
        &site,
        workdir,
        "echo RAN",
        125,
        "can't start in /nonexistent: chdir",
    );
    let below = "--ch-image=$I --ch-bind=/etc:/tmp/chariot-is-not-here";
    fails(
        &site,
        below,
        "echo RAN",
        125,
        "it would have to be made on the host",
    );
    assert!(!std::path::Path::new("/tmp/chariot-is-not-here").exists());
}

#[test]
fn a_failing_batch_job_fails_and_drains_no_node() {
    let site = site!();
    site.script("job", "#!/bin/sh\necho RAN\n");
    let said =
        site.run("sbatch -W -o out --ch-image=/nonexistent job >&2; code=$?; cat out; exit $code");
    assert_eq!(said.code, 125, "{said:#?}");
    assert!(said.out.contains("can't use the image /nonexistent") && !said.out.contains("RAN"));
    site.nodes_are_fine();
}

#[test]
fn a_bad_image_on_one_node_stops_only_that_node() {
    let site = site!();
    // Each node sees another directory through its own link.
    for node in ["n1", "n2"] {
        let target = if node == "n1" {
            site.image.as_str()
        } else {
            "/nonexistent"
        };
        std::os::unix::fs::symlink(target, site.here().join(node)).unwrap();
    }
    let said = site.run(
        "salloc -N2 -w n1,n2 bash -c 'srun -N1 -w n1 --ch-image=./n1 echo fine; \
         srun -N1 -w n2 --ch-image=./n2 echo RAN; echo $?'",
    );
    assert_eq!(said.out, "fine\n125\n", "{said:#?}");
}

// The site's file is the whole cluster's, and would disturb tests that run beside: its tests are
// marked, and tests/run runs them alone.

#[test]
#[ignore = "alone: changes the site's file"]
fn a_broken_site_file_is_told_to_who_wants_a_container_and_to_nobody_else() {
    let site = site!();
    site.with_file("enabeld = true\n", || {
        fails(
            &site,
            "--ch-image=$I",
            "echo RAN",
            125,
            "line 1: unknown key \"enabeld\"",
        );
        assert_eq!(site.run("srun echo undisturbed").ok(), "undisturbed");
    });
}

#[test]
#[ignore = "alone: changes the site's file"]
fn a_site_that_turned_chariot_off_says_so() {
    let site = site!();
    site.with_file("enabled = false\n", || {
        fails(
            &site,
            "--ch-image=$I",
            "echo RAN",
            125,
            "this site has turned Chariot off",
        );
    });
}

#[test]
#[ignore = "alone: changes the site's file"]
fn a_sites_default_image_and_binds_hold_for_every_step_that_does_not_refuse_them() {
    let site = site!();
    let text = format!(
        "[defaults]\nimage = \"{}\"\nbind = [\"/usr:/site\"]\n",
        site.image
    );
    site.with_file(&text, || {
        assert_eq!(site.run("srun ls -d /site/bin").ok(), "/site/bin");
        assert_eq!(
            site.run("srun --ch-image=none sh -c 'echo ${CH_RUNNING-host}'")
                .ok(),
            "host"
        );
    });
}

/// Runs `work` with something else in the launcher's place, or nothing.
pub(crate) fn with_launcher(
    replacement: Option<&str>,
    work: impl FnOnce() + std::panic::UnwindSafe,
) {
    use std::os::unix::fs::PermissionsExt;
    let launcher = std::path::PathBuf::from(std::env::var_os("CHARIOT").unwrap());
    let away = launcher.with_extension("away");
    std::fs::rename(&launcher, &away).unwrap();
    if let Some(text) = replacement {
        std::fs::write(&launcher, text.replace("LAUNCHER", away.to_str().unwrap())).unwrap();
        std::fs::set_permissions(&launcher, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let result = std::panic::catch_unwind(work);
    std::fs::rename(&away, &launcher).unwrap();
    result.unwrap();
}

#[test]
#[ignore = "alone: replaces the launcher"]
fn a_node_without_user_namespaces_says_so() {
    let site = site!();
    // The limit counts for each user namespace, so that it can be set in one of our own.
    let limited = "#!/bin/sh\nexec /usr/bin/unshare -Uc --keep-caps /bin/sh -c \
                   'echo 0 >/proc/sys/user/max_user_namespaces; exec LAUNCHER \"$@\"' sh \"$@\"\n";
    let site = std::panic::AssertUnwindSafe(site);
    with_launcher(Some(limited), || {
        let sentence = "unshare(CLONE_NEWUSER): No space";
        fails(&site, "--ch-image=$I", "echo RAN", 125, sentence);
    });
}

#[test]
#[ignore = "alone: takes the launcher away"]
fn a_node_without_the_launcher_says_so() {
    let site = std::panic::AssertUnwindSafe(site!());
    with_launcher(None, || {
        fails(
            &site,
            "--ch-image=$I",
            "echo RAN",
            125,
            "can't create a container: can't run",
        );
    });
}

#[test]
#[ignore = "alone: replaces the launcher"]
fn a_launcher_that_dies_or_hangs_ends_the_step_with_a_sentence() {
    let site = std::panic::AssertUnwindSafe(site!());
    with_launcher(Some("#!/bin/sh\nkill -9 $$\n"), || {
        fails(
            &site,
            "--ch-image=$I",
            "echo RAN",
            125,
            "exited without reporting an error",
        );
    });
    site.with_file("[waits]\ncontainer = 2\n", || {
        with_launcher(Some("#!/bin/sh\nexec /bin/sleep 7100\n"), || {
            fails(
                &site,
                "--ch-image=$I",
                "echo RAN",
                125,
                "can't create a container within 2 s",
            );
        });
    });
}
