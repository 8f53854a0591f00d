//! Work that is interrupted, and file systems that lack what others have: nothing that is not Chariot's own is ever
//! touched, and what was there before is there afterwards. `tests/attack` does the same by the hundred.

use crate::place;

/// Runs `$1` in a root of its own, in which everything belongs to the caller, as a home does. The launcher is /chariot.
const DISPOSABLE: &str = r#"
disposable() {
    mkdir -p root
    unshare -Urm --propagation private bash -euc '
        mount -t tmpfs -o mode=755 none root
        cd root
        mkdir usr etc proc dev tmp home home/canary data old
        for link in bin lib lib64 sbin; do [ ! -L /$link ] || ln -s usr/$link $link; done
        for directory in usr etc proc dev; do mount --rbind /$directory $directory; done
        cp "$2" chariot; chmod 755 chariot
        echo mine >home/canary/file; echo mine >data/file
        [ ! -e "$3" ] || cp -r "$3" data/given
        pivot_root . old
        umount -l old
        cd /data
        eval "$1"
        sleep 2.5
        cat /home/canary/file /data/file
    ' bash "$1" "$LAUNCHER" "${2:-/nonexistent}"
}
"#;

#[test]
fn an_interrupted_unpack_touches_nothing_outside_of_what_it_makes() {
    let place = place!();
    for (name, source) in [
        // It waits for somebody to write, and is not confined to anything yet.
        ("waiting", "mkfifo source"),
        // It cannot be opened once somebody has written: it is no archive.
        (
            "refused",
            r#"mkfifo source; timeout 3 sh -c "sleep 1; echo noise >source" &"#,
        ),
    ] {
        let script = format!(
            "{DISPOSABLE} disposable '{source}
             /chariot --config /dev/null unpack ./source new & \
             sleep 0.7; kill -INT $!; sleep 0.2; (timeout 1 sh -c \": >source\" || true)'"
        );
        let said = place.run_with(&script, &[("LAUNCHER", &place.launcher)]);
        assert_eq!(said.out, "mine\nmine\n", "{name}: {said:#?}");
    }
}

#[test]
fn whoever_works_ends_when_the_launcher_is_gone_wherever_it_is() {
    let place = place!();
    for signal in ["KILL", "TERM", "HUP"] {
        // The worker waits in open(2), or in read(2): nobody ever writes, or nobody goes on.
        for writer in ["true", "(head -c 200000 a.tar; sleep 20) >pipe"] {
            let said = place.run(&format!(
                "tar cf a.tar img; rm -f pipe; mkfifo pipe; ({writer}) & writer=$!; $C unpack ./pipe new & launcher=$!; sleep 0.7; \
                 guard=$(pgrep -P $launcher); worker=$(pgrep -P $guard); kill -{signal} $launcher; sleep 1.9; \
                 for p in $launcher $guard $worker; do grep -qs '^State:.[^ZX]' /proc/$p/status && echo alive; done; ls -A; \
                 pkill -P $writer; true"
            ));
            assert_eq!(
                said.ok(),
                "a.tar\nimg\npipe",
                "{signal}, {writer}: {said:#?}"
            );
        }
    }
}

#[test]
fn a_worker_or_its_guard_that_is_killed_is_said_and_leaves_nothing() {
    let place = place!();
    for (victims, by) in [
        ("$worker", "was killed by SIGKILL"),
        ("$guard", "was killed"),
        ("$guard $worker", "was killed"),
    ] {
        let said = place.run(&format!(
            "rm -f pipe; mkfifo pipe; (sleep 20; true) >pipe & writer=$!; $C unpack ./pipe new & launcher=$!; sleep 0.7; \
             guard=$(pgrep -P $launcher); worker=$(pgrep -P $guard); kill -KILL {victims}; wait $launcher; \
             echo $?; sleep 0.2; ls -A; pkill -P $writer; true"
        ));
        assert_eq!(said.ok(), "125\nimg\npipe", "{victims}: {said:#?}");
        assert_eq!(said.err.matches("can't unpack").count(), 1, "{said:#?}");
        assert!(said.err.contains(by), "{victims}: {said:#?}");
    }
}

/// What a file system or a kernel may not have.
const LACKING: [&str; 4] = [
    // Lustre without `-o flock`.
    "flock:error=ENOSYS",
    // NFS, bindfs; and a filter of system calls.
    "renameat2:error=EINVAL",
    "renameat2:error=EPERM",
    "fsync,fdatasync,syncfs:error=EINVAL",
];

#[test]
fn images_are_written_and_replaced_on_file_systems_without_locks_or_the_exchange_of_names() {
    let place = place!();
    if !std::path::Path::new("/usr/bin/strace").exists() {
        crate::skip!("no strace");
    }
    for lacking in LACKING {
        let said = place.run(&format!(
            "rm -rf t *.sqfs; tar cf a.tar img; X=\"strace -f -qq -o /dev/null -e inject={lacking} $C\"; \
             for i in 1 2; do $X pack --quiet ./img a.sqfs && $X unpack --quiet ./a.tar t && $C run ./t echo $i; done; \
             $C run ./a.sqfs echo packed; ls -A"
        ));
        assert_eq!(
            said.ok(),
            "1\n2\npacked\na.sqfs\na.tar\nimg\nt",
            "{lacking}: {said:#?}"
        );
    }
}

#[test]
fn what_cannot_be_exchanged_comes_back_if_the_new_one_cannot_have_its_name() {
    let place = place!();
    if !std::path::Path::new("/usr/bin/strace").exists() {
        crate::skip!("no strace");
    }
    // The second rename of the fallback fails, and the third puts back what was there.
    let said = place.run(
        "tar cf a.tar -C img .; cp a.tar b.tar; touch old; tar -rf b.tar old; $C unpack --quiet ./b.tar t; rm b.tar old; \
         strace -f -qq -o /dev/null -e inject=renameat2:error=EINVAL:when=1 -e inject=renameat,rename:error=EIO:when=2 \
             $C unpack ./a.tar t; echo $?; ls -A; ls t/old",
    );
    assert_eq!(said.ok(), "125\na.tar\nimg\nt\nt/old", "{said:#?}");
    said.failed(0, "can't write t: rename(", 1);
}

#[test]
fn a_fifo_where_a_file_should_be_is_said_and_not_waited_for() {
    let place = place!();
    let said = place.run(
        "mkfifo fifo; chmod 755 fifo; mkdir cdi; mkfifo cdi/a.json; cp -r img own; mkfifo -m 755 own/bin/fifo; \
         timeout 10 $C run ./own /bin/fifo; echo $?; timeout 10 $C run ./own fifo; echo $?; \
         timeout 10 $C run --set-env ./fifo ./img true; echo $?; timeout 10 ${C%% *} --config ./fifo run ./img true; echo $?; \
         timeout 10 $C run --set-env <(echo A=from-a-pipe) ./img sh -c 'echo $A'; \
         timeout 10 $C pack --quiet ./img out.sqfs; echo $?",
    );
    assert_eq!(said.ok(), "126\n126\n125\n125\nfrom-a-pipe\n0", "{said:#?}");
    assert!(said.err.contains("it is a FIFO"), "{said:#?}");
}
