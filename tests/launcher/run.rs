//! `chariot run` and its relatives.

use crate::place;

#[test]
fn a_command_runs_as_the_user_in_the_callers_directory_and_its_exit_code_passes() {
    let place = place!();
    let here = place.here().display().to_string();
    let said = place.run("$C run ./img -- sh -c 'pwd; id -un; exit 7'; echo $?; id -un");
    let lines: Vec<_> = said.ok().lines().collect();
    assert_eq!(lines[0], here);
    assert_eq!(lines[1], lines[3]);
    assert_eq!(lines[2], "7");
}

#[test]
fn the_image_is_read_only_unless_it_is_made_writable_and_stays_as_it_was() {
    let place = place!();
    assert_ne!(place.run("$C run ./img touch /new").code, 0);
    assert_ne!(place.run("$C run ./img touch /bin/new").code, 0);
    let said = place.run("mkdir own; cp -a img own; $C run --writable own/img sh -c 'touch /new /bin/new; ls /bin/new'");
    assert_eq!(said.ok(), "/bin/new");
    assert!(!place.here().join("own/img/new").exists());
    assert!(!place.here().join("own/img/bin/new").exists());
    assert!(
        !place.here().join("img/dev").exists(),
        "mount points were made in the image"
    );
}

#[test]
fn an_overlay_keeps_changes_and_serves_one_container_at_a_time() {
    let place = place!();
    std::fs::create_dir(place.here().join("kept")).unwrap();
    let place_of_user = "mkdir -p own && cp -a img own/img && mkdir own/kept";
    let said = place.run(&format!(
        "{place_of_user}; $C run --overlay own/kept own/img touch /bin/new && \
         $C run --overlay own/kept own/img ls /bin/new"
    ));
    assert_eq!(said.ok(), "/bin/new");
    let said = place.run(
        "$C run --overlay own/kept own/img sh -c 'touch up; until [ -e go ]; do sleep 0.1; done' & \
         until [ -e up ]; do sleep 0.1; done; \
         $C run --overlay own/kept own/img ls; code=$?; touch go; wait; exit $code",
    );
    said.failed(125, "can't keep changes in", 1);
    let said = place.run("$C run --overlay ./nowhere ./img ls");
    said.failed(125, "can't keep changes in", 1);
}

#[test]
fn a_point_that_a_full_directory_lacks_takes_one_mount_and_hides_nothing() {
    let place = place!();
    let said = place.run(
        "mkdir own; cp -a img own; mkdir -p own/img/full/sub own/img/empty; for i in $(seq 300); do echo $i >own/img/full/$i; done; \
         ln -s nowhere own/img/full/link; echo text >file; \
         $C run --bind file:/full/new/er --bind file:/full/link --bind file:/empty/new --bind file:/full/sub/new own/img sh -c \
         'ls /full | grep -c .; cat /full/300 /full/new/er /full/link /empty/new /full/sub/new; \
          grep -c \" /full\" /proc/self/mountinfo; touch /full/x /empty/x; echo'",
    );
    let lines: Vec<_> = said.out.lines().collect();
    assert_eq!(
        lines[..6],
        ["303", "300", "text", "text", "text", "text"],
        "{said:#?}"
    );
    // The directories' own mounts, and the files.
    assert!(lines[6].parse::<u32>().unwrap() < 10, "{said:#?}");
    assert_eq!(
        said.err.matches("Read-only file system").count(),
        2,
        "{said:#?}"
    );
}

#[test]
fn what_is_mounted_in_a_directory_that_lacks_a_point_stays_in_sight() {
    let place = place!();
    // An overlay would hide it, so that each entry gets a mount, as where there is no overlay at all.
    let said = place.run(
        "mkdir own; cp -a img own; mkdir -p own/img/full/sub; touch own/img/full/other; echo text >file; \
         unshare --user --map-root-user --mount sh -c 'mount -t tmpfs none own/img/full/sub && touch own/img/full/sub/seen && \
         $C run --bind file:/full/new own/img ls /full /full/sub'",
    );
    assert_eq!(
        said.ok(),
        "/full:\nnew\nother\nsub\n\n/full/sub:\nseen",
        "{said:#?}"
    );
}

#[test]
fn a_mount_point_that_the_image_lacks_is_made_beside_what_is_there() {
    let place = place!();
    std::fs::write(place.here().join("file"), "text\n").unwrap();
    let said = place.run(
        "$C run --bind /usr:/opt/deep/er --bind file:/etc/new.conf ./img sh -c \
         'ls -d /opt/deep/er/bin; cat /etc/new.conf; ls /bin/busybox; ls / | grep -c .'",
    );
    let lines: Vec<_> = said.ok().lines().collect();
    assert_eq!(lines[..3], ["/opt/deep/er/bin", "text", "/bin/busybox"]);
    assert!(!place.here().join("img/opt").exists());
}

#[test]
fn binds_can_be_read_only_optional_and_in_memory() {
    let place = place!();
    let said = place.run(
        "mkdir d; $C run --bind d:/d:ro --bind /nonexistent:/n:optional --bind tmpfs:/m:size=1M ./img \
         sh -c 'touch /d/x 2>/dev/null || echo read-only; touch /m/x && ls /m; ls -d /n 2>&1'",
    );
    assert_eq!(
        said.out.lines().take(2).collect::<Vec<_>>(),
        ["read-only", "x"],
        "{said:#?}"
    );
    assert!(!place.here().join("d/x").exists());
}

#[test]
fn private_tmp_is_empty_and_home_is_bound_on_request() {
    let place = place!();
    let said = place.run("cd /; $C run --private-tmp $OLDPWD/img ls /tmp");
    assert_eq!(said.ok(), "");
}

#[test]
fn the_environment_is_the_hosts_then_the_images_then_what_was_asked() {
    let place = place!();
    std::fs::create_dir(place.here().join("img/ch")).unwrap();
    std::fs::write(
        place.here().join("img/ch/environment"),
        "A=image\nB=image\nSLURM_PROCID=9\n",
    )
    .unwrap();
    let said = place.run_with(
        "$C run --set-env B=asked --keep-env K ./img sh -c \
         'echo $A $B $H $K ${LD_PRELOAD-none} $SLURM_PROCID'",
        &[
            ("A", "host"),
            ("B", "host"),
            ("H", "host"),
            ("K", "host"),
            ("LD_PRELOAD", ""),
            ("SLURM_PROCID", "3"),
        ],
    );
    assert_eq!(said.ok(), "image asked host host none 3");
}

#[test]
fn failures_are_one_sentence_with_a_hint_and_the_right_code() {
    let place = place!();
    place
        .run("$C run ./nothing ls")
        .failed(125, "can't use the image", 1);
    place
        .run("$C run ./img nothing")
        .failed(127, "can't run nothing: not found", 1);
    place
        .run("$C run --workdir=/x ./img ls")
        .failed(125, "can't start in /x", 1);
    place
        .run("$C run --workdir=x ./img ls")
        .failed(125, "must be absolute", 1);
    place
        .run("$C run --bind /x:/y:q ./img ls")
        .failed(125, "not one of ro", 1);
    assert_eq!(place.run("$C run --nonsense ./img ls").code, 125);
}

#[test]
fn explain_prints_the_plan_and_runs_nothing() {
    let place = place!();
    let said = place.run("$C explain --bind /usr:/u:ro --set-env A=1 ./img touch ran");
    for expected in [
        "namespaces   user, mount",
        "/u from /usr, read-only (--bind)",
        "A=1 (--set-env)",
        "/etc/passwd with",
        "command      touch ran",
    ] {
        assert!(said.ok().contains(expected), "{expected}: {said:#?}");
    }
    assert!(!place.here().join("ran").exists());
}

#[test]
fn exec_joins_the_container_of_a_running_process() {
    let place = place!();
    let said = place.run(
        "$C run ./img sh -c 'touch up; exec sleep 100' & pid=$!; until [ -e up ]; do sleep 0.1; done; $C exec $pid -- readlink /proc/self/ns/mnt; \
         readlink /proc/$pid/ns/mnt; kill $pid",
    );
    let lines: Vec<_> = said.out.lines().collect();
    assert_eq!(lines.len(), 2, "{said:#?}");
    assert_eq!(lines[0], lines[1]);
    place
        .run("$C exec $$ -- ls")
        .failed(125, "it is not in a container", 1);
    place
        .run("$C exec 4194304 -- ls")
        .failed(125, "can't enter the container of process", 1);
}

#[test]
fn shell_starts_a_shell_of_the_image() {
    let place = place!();
    assert_eq!(
        place
            .run("echo 'echo in $CH_RUNNING' | $C shell ./img")
            .ok(),
        format!("in {}/img", place.here().display())
    );
}

#[test]
fn check_says_ok_where_containers_run() {
    let place = place!();
    let said = place.run("$C check");
    assert!(said.ok().contains("ok      user namespaces"), "{said:#?}");
    let said = place.run("$C check --json");
    assert!(said.ok().starts_with("{\n  \"ok\": true"), "{said:#?}");
}

#[test]
fn images_are_found_by_name_in_the_store() {
    let place = place!();
    let said = place.run("mkdir -p store/chariot && cp -a img store/chariot/small; XDG_DATA_HOME=$PWD/store $C run small ls /bin/busybox");
    assert_eq!(said.ok(), "/bin/busybox");
}

#[test]
fn help_and_manual_explain_subjects_and_commands() {
    let place = place!();
    let said = place.run("$C help mpi; $C help pack | head -n 1; $C help | grep -A1 ^Subjects; $C man chariot.toml | head -n 1; $C man chariot-slurm | grep -c ch");
    for expected in [
        "If every rank is rank 0",
        "Pack an image of any kind into one file",
        "\n  slurm ",
        ".TH chariot.toml 5",
    ] {
        assert!(said.out.contains(expected), "{expected}: {said:#?}");
    }
    let said = place.run("$C help nothing");
    said.failed(125, "there is no help on nothing", 1);
}

#[test]
fn check_names_the_mpi_of_an_image_and_what_srun_should_be_told() {
    let place = place!();
    let srun = "#!/bin/sh\\nprintf \"MPI plugin types are...\\\\n\\\\tnone\\\\n\\\\tpmi2\\\\n\\\\tpmix\\\\n\"\\n";
    let said = place.run(&format!(
        "mkdir -p own bin; cp -a img own; mkdir -p own/img/usr/lib64/mpich/lib; touch own/img/usr/lib64/mpich/lib/libmpi.so.12.1.0; \
         printf '{srun}' >bin/srun; chmod +x bin/srun; PATH=$PWD/bin:$PATH; \
         $C check own/img; $C pack --quiet own/img own.sqfs; $C check ./own.sqfs; $C check --json ./img; $C check ./nothing"
    ));
    let line = "MPICH, or one with its ABI (Intel MPI, MVAPICH2, Cray MPICH) (/usr/lib64/mpich/lib/libmpi.so.12.1.0)";
    assert_eq!(said.out.matches(line).count(), 2, "{said:#?}");
    assert_eq!(
        said.out
            .matches("--mpi=pmi2; with another, each rank is rank 0 of 1")
            .count(),
        2,
        "{said:#?}"
    );
    assert!(
        said.out
            .contains("\"found\": \"none in the usual directories\""),
        "{said:#?}"
    );
    assert!(
        said.err.contains("can't use the image ./nothing"),
        "{said:#?}"
    );
}

#[test]
fn a_bind_below_another_is_seen_whichever_was_typed_first() {
    let place = place!();
    let said = place.run(
        "mkdir -p a b/x; echo a >a/file; echo b >b/file; \
         for binds in '--bind ./a:/data/x --bind ./b:/data' '--bind ./b:/data --bind ./a:/data/x'; do \
         $C run $binds ./img -- cat /data/x/file /data/file; done",
    );
    assert_eq!(said.ok(), "a\nb\na\nb", "{said:#?}");
}

#[test]
fn a_shell_says_where_it_is_in_front_of_each_line() {
    let place = place!();
    let shell = |options: &str| {
        let script = format!(
            "(sleep 0.5; echo 'cd /bin; echo $debian_chroot'; sleep 0.5; echo exit) | \
             TERM=dumb script -qec \"$C shell {options} ./img\" /dev/null"
        );
        place.run(&script)
    };
    let said = shell("");
    assert_eq!(said.code, 0, "{said:#?}");
    assert!(said.out.contains("(img) "), "{said:#?}");
    assert!(said.out.contains("\nimg\r"), "{said:#?}");
    assert!(shell("--root").out.contains("(img) # "));
    assert!(shell("--set-env 'PS1=mine> '").out.contains("mine> "));
    // A command is not told what nobody sees.
    assert_eq!(
        place
            .run("$C run ./img sh -c 'echo ${debian_chroot-none}'")
            .ok(),
        "none"
    );
}

#[test]
fn a_bind_that_would_end_at_the_root_is_refused_and_not_lost() {
    let place = place!();
    std::os::unix::fs::symlink("/", place.here().join("img/self")).unwrap();
    for options in ["", "--writable"] {
        let said = place.run(&format!("$C run {options} --bind /usr:/self ./img -- true"));
        assert_eq!(said.code, 125, "{said:#?}");
        assert!(
            said.err
                .contains("/self is a link to the root in the image"),
            "{said:#?}"
        );
    }
}

#[test]
fn a_value_that_is_not_attached_is_no_image() {
    let place = place!();
    let said = place.run("$C run --root yes ./img true");
    assert!(
        said.err
            .contains("--root yes: the value has to be attached"),
        "{said:#?}"
    );
    assert_eq!(place.run("$C run ./img echo --root yes").ok(), "--root yes");
    let said =
        place.run("CH_WRITABLE=1 $C run --root=on --verbose=0 ./img sh -c 'touch /new && id -u'");
    assert_eq!(said.ok(), "0", "{said:#?}");
}
