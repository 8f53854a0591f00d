//! `chariot` called as `ch-run`: what scripts that were written for Charliecloud's command rely on.

use crate::support::Said;
use crate::{Place, place, skip};

/// Runs a script in which `ch-run` is Chariot.
fn run(place: &Place, script: &str) -> Said {
    let script = format!(
        "mkdir -p bin; ln -sfn {} bin/ch-run; PATH=$PWD/bin:$PATH; {script}",
        place.launcher
    );
    place.run_with(&script, &[("USER", "somebody")])
}

#[test]
fn a_command_starts_in_the_root_with_charlieclouds_environment() {
    let place = place!();
    let said = run(
        &place,
        "mkdir own; cp -a img own/img; mkdir own/img/root; cd own; export TMPDIR=/tmp LD_PRELOAD= A=a X1=1 X2=2; printf \"F='from file'\\n\" >file; \
         ch-run ./img -- sh -c 'busybox pwd; echo $HOME ${TMPDIR-unset} $CH_RUNNING'; \
         ch-run -c /bin ./img busybox pwd; \
         ch-run --set-env=B='$A:$NONE:x' --unset-env='!(A|B|PATH)' --set-env=X3=3 --set-env=file ./img -- sh -c 'echo $B ${X1-none} $X3 $F'; \
         ch-run --env-no-expand --set-env=B='$A' ./img -- sh -c 'echo $B'; \
         ch-run -u 0 -g 0 ./img -- sh -c 'id -u; cat /etc/passwd | grep -c .'; \
         ch-run -u 4567 ./img -- id -u; ch-run --home ./img -- sh -c '[ $HOME = /home/$USER ] && ls -d $HOME/own >/dev/null && echo HOME'",
    );
    assert_eq!(
        said.ok(),
        "/\n/root unset Weird Al Yankovic\n/bin\na:x none 3 from file\n$A\n0\n2\n4567\nHOME",
        "{said:#?}"
    );
}

#[test]
fn binds_and_writing_follow_charlieclouds_rules() {
    let place = place!();
    let said = run(
        &place,
        "mkdir own; cp -a img own; mkdir own/img/mnt; \
         ch-run -b /usr:/mnt own/img -- ls -d /mnt/bin; ch-run -b /usr/share own/img -- ls -d /usr/share/doc; \
         ch-run own/img -- touch /new 2>/dev/null || echo read-only; \
         ch-run -w own/img -- touch /new; ls own/img/new; \
         ch-run -W own/img -- sh -c 'touch /fake; ls /fake'; ls own/img/fake 2>/dev/null || echo gone; \
         ch-run -t own/img -- sh -c 'ls -A /tmp | busybox wc -l'",
    );
    assert_eq!(
        said.ok(),
        "/mnt/bin\n/usr/share/doc\nread-only\nown/img/new\n/fake\ngone\n0",
        "{said:#?}"
    );
}

#[test]
fn exit_codes_and_messages_are_those_that_scripts_look_for() {
    let place = place!();
    for (arguments, code, message) in [
        ("./img -- sh -c 'exit 7'", 7, ""),
        (
            "./img -- nosuch",
            49,
            "can't execve(2): nosuch: No such file or directory",
        ),
        (
            "./nowhere -- true",
            31,
            "can't stat: ./nowhere: No such file or directory",
        ),
        (
            "-b /nonexistent:/mnt ./img -- true",
            31,
            "can't bind: source not found: /nonexistent",
        ),
        ("-b :/x ./img -- true", 31, "--bind: no source provided"),
        (
            "-b /usr: ./img -- true",
            31,
            "--bind: no destination provided",
        ),
        (
            "-b /usr:rel ./img -- true",
            31,
            "--bind: destination must be absolute",
        ),
        ("-c /nowhere ./img -- true", 31, "/nowhere"),
        (
            "--unset-env= ./img -- true",
            31,
            "GLOB must have non-zero length",
        ),
        (
            "--set-env=/nowhere ./img -- true",
            31,
            "can't open: /nowhere",
        ),
        ("-q -v ./img -- true", 31, "--quiet incompatible"),
        ("-qqqq ./img -- true", 31, "at most thrice"),
        (
            "-m /nowhere ./img -- true",
            31,
            "can't find mount point: /nowhere",
        ),
        ("-qqq ./img -- nosuch", 49, "can't execve(2): nosuch"),
        ("--feature=seccomp", 0, ""),
        ("--feature=tmpfs-xattrs", 1, ""),
        ("--feature=nosuch", 31, "unknown feature: nosuch"),
        ("--nosuch", 64, "--nosuch"),
        ("", 1, ""),
    ] {
        let said = run(&place, &format!("ch-run {arguments}"));
        assert_eq!(said.code, code, "{arguments}: {said:#?}");
        assert!(said.err.contains(message), "{arguments}: {said:#?}");
        if code == 31 || code == 49 {
            assert!(said.err.starts_with("ch-run["), "{arguments}: {said:#?}");
        }
    }
}

#[test]
fn quiet_takes_the_commands_output_too() {
    let place = place!();
    for (quiet, out, err) in [
        ("-qq", "", "err\n"),
        ("-qqq", "", ""),
        ("", "out\n", "err\n"),
    ] {
        let said = run(
            &place,
            &format!("ch-run {quiet} ./img -- sh -c 'echo out; echo err >&2'"),
        );
        assert_eq!(
            (said.code, said.out.as_str(), said.complaints().as_str()),
            (0, out, err),
            "{quiet}"
        );
    }
}

#[test]
fn peers_share_a_container_whoever_comes_first_and_leave_nothing() {
    let place = place!();
    let said = run(
        &place,
        // All four are there at once: a namespace can have the number of one that has ended.
        "here=\"-b $PWD -c $PWD\"; echo 'until [ $(grep -c x came) -ge $1 ]; do sleep 0.1; done' >wait; : >came; \
         peer='readlink /proc/self/ns/mnt; echo x >>came; sh ./wait 4'; \
         for i in 1 2 3; do ch-run $here --join --join-ct=3 --join-tag=$$ ./img -- sh -c \"$peer\" & done; \
         ch-run $here --join-ct=1 --join-tag=$$.2 ./img -- sh -c \"sh ./wait 3; $peer\"; wait; \
         ch-run $here ./img -- sh -c 'touch up; exec sleep 100' & until [ -e up ]; do sleep 0.1; done; ch-run --join-pid=$! ./img -- readlink /proc/self/ns/mnt; readlink /proc/$!/ns/mnt; kill $!; \
         ls /dev/shm | grep -c ch-run",
    );
    let lines: Vec<_> = said.out.lines().collect();
    assert_eq!(lines.len(), 7, "{said:#?}");
    assert!(lines[0] == lines[1] && lines[1] == lines[2], "{said:#?}");
    assert_ne!(lines[2], lines[3], "{said:#?}");
    assert_eq!(lines[4], lines[5], "{said:#?}");
    assert_eq!(lines[6], "0", "{said:#?}");
}

#[test]
fn ch_image_builds_with_it() {
    let place = place!();
    if !std::path::Path::new("/usr/bin/ch-image").exists() {
        skip!("no ch-image (package charliecloud)");
    }
    std::fs::write(
        place.here().join("Dockerfile"),
        "FROM base\nENV GREETING=hello\nRUN echo $GREETING >/built && id -u >>/built\n",
    )
    .unwrap();
    let said = run(
        &place,
        "export CH_IMAGE_STORAGE=$PWD/storage GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b; \
         ln -s /usr/bin/ch-image bin; ln -s /usr/lib lib; mkdir own; cp -a img own; mkdir -p own/img/usr own/img/dev; \
         bin/ch-image import own/img base >log 2>&1 && bin/ch-image build -t app -f Dockerfile . >>log 2>&1 || cat log; \
         ch-run app -- cat /built; ch-run -w app -- true",
    );
    assert_eq!(said.out, "hello\n0\n", "{said:#?}");
    assert!(
        said.err.contains("--write invalid when running by name"),
        "{said:#?}"
    );
}

#[test]
fn whole_kinds_of_devices_come_along_with_d() {
    let place = place!();
    let spec = "cdiVersion: 0.5.0\nkind: example.com/KIND\ncontainerEdits: {env: [KIND=all]}\ndevices:\n\
                - {name: a, containerEdits: {deviceNodes: [{path: /opt/KIND, hostPath: /dev/null}]}}\n";
    std::fs::create_dir(place.here().join("cdi")).unwrap();
    for (file, kind) in [("cdi/x.yaml", "x"), ("y.yaml", "y")] {
        std::fs::write(place.here().join(file), spec.replace("KIND", kind)).unwrap();
    }
    let show = "./img -- sh -c 'echo $x $y; ls /opt'";
    let said = run(&place, &format!("ch-run -d --cdi-dirs=$PWD/cdi {show}"));
    assert_eq!(said.ok(), "all\nx");
    let said = run(
        &place,
        &format!("CH_RUN_CDI_DIRS=$PWD/cdi ch-run --device=example.com/x --device=./y.yaml {show}"),
    );
    assert_eq!(said.ok(), "all all\nx\ny");
    let said = run(&place, "ch-run --device=example.com/z ./img -- true");
    assert_eq!(said.code, 31, "{said:#?}");
}
