//! SquashFS images: served by Chariot itself, for exactly as long as somebody is in the container.

use std::process::Command;

use crate::{Place, place, skip, support};

/// Packs the place's image, with something of every kind in it, into `img.sqfs`.
fn pack(place: &Place, options: &[&str]) -> bool {
    let image = place.here().join("img");
    let more = "mkdir -p d/many && i=0 && while [ $i -lt 3000 ]; do : >d/many/a-name-of-some-length-$i; i=$((i+1)); done; \
                seq 500000 >d/large; rm -f d/again d/link d/fifo; ln d/large d/again; mkfifo d/fifo; ln -s ../bin/busybox d/link; \
                printf 'x' >d/small; chmod 711 d/small; mkdir -p -m 700 d/mine; touch -d @1000000000 d/small; chown -R ${U:-$(id -un)} d";
    let made = Command::new("sh")
        .args(["-c", more])
        .envs(support::user().map(|user| ("U", user)))
        .current_dir(&image)
        .status();
    assert!(made.unwrap().success());
    let packed = Command::new("mksquashfs")
        .args([&image, &place.here().join("img.sqfs")])
        .args(["-quiet", "-no-progress", "-noappend"])
        .args(options)
        .output();
    packed.is_ok_and(|packed| packed.status.success())
}

/// The servers of the image in `place` that are running.
fn servers(place: &Place) -> Vec<u32> {
    support::servers(&place.here().join("img.sqfs").to_string_lossy())
}

#[track_caller]
fn gone_soon(place: &Place) {
    support::until("the server is gone", || servers(place).is_empty());
}

#[test]
fn a_mounted_image_shows_what_was_packed() {
    let place = place!();
    // Names, kinds, modes, times, link counts, contents and targets; owners are the user's.
    let list = |at: &str| {
        format!(
            "$C run --bind=$PWD/img:/mnt/tree --workdir=/ ./img.sqfs -- sh -c 'cd {at} && \
             busybox find . -exec busybox stat -c \"%n %F %a %Y %h\" {{}} + | busybox sort && \
             busybox find . -type f -exec busybox md5sum {{}} + | busybox sort && \
             busybox find . -type l -exec busybox readlink {{}} \\;'"
        )
    };
    for options in [
        &["-comp", "zstd"][..],
        &["-comp", "gzip", "-b", "4K"],
        &["-comp", "lz4", "-b", "1M"],
        &["-comp", "xz", "-no-exports"],
        &["-comp", "lzo"],
    ] {
        if !pack(&place, options) {
            skip!("mksquashfs is not installed (package squashfs-tools)");
        }
        for directory in ["bin", "d"] {
            let packed = place.run(&list(&format!("/{directory}")));
            let source = place.run(&list(&format!("/mnt/tree/{directory}")));
            assert!(packed.ok().lines().count() > 10, "{packed:#?}");
            assert_eq!(packed.ok(), source.ok(), "{options:?}");
        }
        gone_soon(&place);
    }
}

#[test]
fn an_image_as_enroot_packs_it_is_read_by_each_command() {
    let place = place!();
    if !pack(&place, &["-comp", "lzo", "-noD", "-all-root"]) {
        skip!("mksquashfs is not installed (package squashfs-tools)");
    }
    // Everything that an image can become, held against what unsquashfs(1) finds in the first.
    let said = place.run(
        "umask 0; same() { (cd $1; find bin d -type d -printf '%p %m\\n' -o -printf '%p %y %m %s %l %n\\n' | sort; find bin d -type f -exec md5sum {} + | sort) >$2; }; \
         mkdir by; unsquashfs -q -n -d by/other img.sqfs >/dev/null; rm by/other/d/fifo; same by/other $PWD/other; \
         $C inspect ./img.sqfs | grep '^compression'; $C run ./img.sqfs busybox tail -n 1 /d/large; \
         $C unpack --quiet ./img.sqfs by/unpacked; \
         $C pack --quiet ./img.sqfs new.sqfs; $C unpack --quiet new.sqfs by/packed; \
         $C export --quiet ./img.sqfs new.tar; mkdir by/exported; tar -C by/exported -xf new.tar; \
         for how in unpacked packed exported; do same by/$how $PWD/$how; diff other $how && echo $how; done",
    );
    assert_eq!(
        said.out, "compression  lzo\n500000\nunpacked\npacked\nexported\n",
        "{said:#?}"
    );
    let said = place.run("$C pack --compression lzo ./img again.sqfs");
    assert!(
        said.err.contains("lzo is read, and not written"),
        "{said:#?}"
    );
}

#[test]
fn files_are_the_users_own_and_can_be_changed_in_an_overlay() {
    let place = place!();
    if !pack(&place, &["-comp", "zstd"]) {
        skip!("mksquashfs is not installed (package squashfs-tools)");
    }
    let said = place.run(
        "$C run ./img.sqfs -- sh -c 'stat -c %u:%g / /bin/busybox; id -u; id -g; touch /bin/x'",
    );
    let id = place.run("id -u; id -g");
    let ids: Vec<&str> = id.ok().lines().collect();
    let owner = format!("{}:{}", ids[0], ids[1]);
    assert_eq!(
        said.out.trim_end(),
        format!("{owner}\n{owner}\n{}\n{}", ids[0], ids[1]),
        "{said:#?}"
    );
    assert!(said.err.contains("Read-only file system"), "{said:#?}");
    let said = place.run("$C run --writable ./img.sqfs -- sh -c 'echo new >>/d/small; cat /d/small; touch /bin/x; ls /bin/x'");
    assert_eq!(said.ok(), "xnew\n/bin/x");
    assert_eq!(said.complaints(), "");
    let said = place.run(
        "mkdir o; $C run --overlay=o ./img.sqfs -- sh -c 'echo kept >/d/kept'; \
         $C run --overlay=o ./img.sqfs -- cat /d/kept",
    );
    assert_eq!(said.ok(), "kept");
    gone_soon(&place);
}

#[test]
fn the_server_lives_as_long_as_something_in_the_container_does() {
    let place = place!();
    if !pack(&place, &["-comp", "zstd"]) {
        skip!("mksquashfs is not installed (package squashfs-tools)");
    }
    let said = place.run(
        "$C run ./img.sqfs -- sh -c '(until [ -e go ]; do sleep 0.1; done; cat /d/small >late) >/dev/null 2>&1 & echo first is gone'",
    );
    assert_eq!(said.ok(), "first is gone");
    assert_eq!(servers(&place).len(), 1);
    std::fs::write(place.here().join("go"), "").unwrap();
    support::until("the child that was left behind reads the image", || {
        std::fs::read(place.here().join("late")).is_ok_and(|late| late == b"x")
    });
    gone_soon(&place);
}

#[test]
fn the_server_holds_nothing_of_the_program_and_hears_none_of_its_signals() {
    let place = place!();
    if !pack(&place, &["-comp", "zstd"]) {
        skip!("mksquashfs is not installed (package squashfs-tools)");
    }
    // A pipe that a caller reads to its end, and a descriptor such as PMI's.
    let look = "p=$(pgrep -f \"^chariot-serve $PWD/img.sqfs\"); ls -l /proc/$p/fd | grep -c -E 'pipe7|pipe:'; \
                readlink /proc/$p/fd/0 /proc/$p/fd/1 /proc/$p/fd/2 /proc/$p/cwd";
    let said = std::thread::scope(|scope| {
        let run = scope.spawn(|| {
            place.run(&format!(
                "{} {}",
                support::SERVERS,
                "exec 7<>pipe7; (echo started; exec $C run ./img.sqfs -- sh -c 'touch up; while [ ! -e go ]; do sleep 0.1; done' 7<&7) & \
                 while [ ! -e up ]; do sleep 0.05; done; \
                 p=$(servers $PWD/img.sqfs); \
                 for s in HUP INT QUIT TERM USR1 USR2 ALRM TSTP; do kill -$s $p; done; \
                 sleep 0.2; kill -0 $p && echo alive; touch tried; while [ ! -e go ]; do sleep 0.1; done; wait",
            ))
        });
        support::until("signals were sent", || place.here().join("tried").exists());
        // Not the user: nobody but root may look.
        let looked = support::shell_as(None, look, place.here(), &[]);
        std::fs::write(place.here().join("go"), "").unwrap();
        if looked.code == 0 || support::user().is_some() {
            assert_eq!(
                looked.out, "0\n/dev/null\n/dev/null\n/dev/null\n/\n",
                "{looked:#?}"
            );
        }
        run.join().unwrap()
    });
    assert_eq!(said.ok(), "started\nalive", "{said:#?}");
    gone_soon(&place);
}

#[test]
fn a_killed_server_is_an_error_for_readers_and_a_sentence_for_the_user() {
    let place = place!();
    if !pack(&place, &["-comp", "zstd"]) {
        skip!("mksquashfs is not installed (package squashfs-tools)");
    }
    let said = place.run(&format!(
        "{} {}",
        support::SERVERS,
        "$C run ./img.sqfs -- sh -c 'touch up; while [ ! -e go ]; do sleep 0.1; done; read x </d/small || exit 9' 2>err & \
         while [ ! -e up ]; do sleep 0.05; done; \
         kill -9 $(servers $PWD/img.sqfs); \
         until grep -q hint err; do sleep 0.1; done; touch go; wait $!; code=$?; cat err >&2; exit $code",
    ));
    assert_ne!(said.code, 0, "{said:#?}");
    assert_eq!(
        said.err.matches("img.sqfs was killed by signal 9").count(),
        1,
        "{said:#?}"
    );
    assert!(said.err.contains("hint: "), "{said:#?}");
    gone_soon(&place);
}

#[test]
fn a_server_that_is_killed_while_files_are_read_leaves_nobody_waiting_for_ever() {
    let place = place!();
    // The kernel lets some who wait for a page not even be killed. A few tries: it depends on the moment.
    let said = place.run(&format!(
        "{} {}",
        support::SERVERS,
        "cp -a img own; for i in 1 2 3 4 5 6 7 8; do seq ${i}000000 $((i+1))000000 >own/file$i; done; \
         $C pack --quiet --compression zstd:1 ./own own.sqfs; \
         for i in {1..15}; do touch here; \
           $C run ./own.sqfs -- sh -c 'for i in 1 2; do for f in /file*; do cat $f & done; done; wait; \
             while [ -e here ]; do sleep 0.1; done' >/dev/null 2>&1 & \
           until p=$(servers $PWD/own.sqfs); [ -n \"$p\" ]; do sleep 0.01; done; sleep 0.$((i % 3))5; kill -KILL $p; rm here; \
           while [ -e /proc/$p ]; do sleep 0.05; done; wait; \
         done; echo ended",
    ));
    assert_eq!(said.ok(), "ended", "{said:#?}");
}

#[test]
fn a_damaged_image_is_refused_or_an_error_that_says_where() {
    let place = place!();
    // The contents of d/large come first in the file.
    let sort = place.here().join("sort");
    std::fs::write(&sort, "d/large 32767\n").unwrap();
    if !pack(&place, &["-comp", "gzip", "-sort", sort.to_str().unwrap()]) {
        skip!("mksquashfs is not installed (package squashfs-tools)");
    }
    let bytes = std::fs::read(place.here().join("img.sqfs")).unwrap();
    std::fs::write(
        place.here().join("short.sqfs"),
        &bytes[..bytes.len() - 5000],
    )
    .unwrap();
    let said = place.run("$C run ./short.sqfs -- true");
    said.failed(
        125,
        "short.sqfs: the file ends before the image does (at offset",
        1,
    );
    let mut foreign = bytes.clone();
    foreign[20] = 2;
    std::fs::write(place.here().join("lzma.sqfs"), foreign).unwrap();
    let said = place.run("$C run ./lzma.sqfs -- true");
    said.failed(
        125,
        "it is compressed by lzma, which Chariot cannot read",
        1,
    );
    assert!(!said.err.contains("damaged"), "{said:#?}");
    let mut broken = bytes.clone();
    broken[200..20_000].fill(0x55);
    std::fs::write(place.here().join("broken.sqfs"), broken).unwrap();
    // The sentence comes from another process, which looks for one in the container to tell it by.
    let said = place.run(
        "$C run ./broken.sqfs -- sh -c 'cat /d/large >/dev/null; cat /d/small; until grep -q hint: err; do sleep 0.1; done' 2>err; \
         cat err >&2",
    );
    assert_eq!(said.out, "x", "{said:#?}");
    assert_eq!(
        said.err
            .matches("broken.sqfs: a block cannot be decompressed (at offset")
            .count(),
        1,
        "{said:#?}"
    );
    assert!(
        said.err.contains("at offset") && said.err.contains("Input/output error"),
        "{said:#?}"
    );
    let hint = "hint: the image is damaged: copy or make it again";
    assert_eq!(said.err.matches(hint).count(), 1, "{said:#?}");
}

#[test]
fn setuid_bits_and_devices_of_an_image_have_no_effect() {
    let place = place!();
    if support::user().is_none() {
        skip!("only root can make a device node");
    }
    let image = place.here().join("img");
    let made = Command::new("sh")
        .args([
            "-c",
            "mknod null c 1 3; cp bin/busybox su; chown 0 su; chmod 4755 su",
        ])
        .current_dir(&image)
        .status();
    assert!(made.unwrap().success());
    if !pack(&place, &["-comp", "zstd"]) {
        skip!("mksquashfs is not installed (package squashfs-tools)");
    }
    let said = place.run(
        "$C run ./img.sqfs -- sh -c 'stat -c %F /null; cat </null; /su id -u; stat -c %a /su'",
    );
    assert!(
        said.out.starts_with("character special file\n"),
        "{said:#?}"
    );
    assert!(said.err.contains("Permission denied"), "{said:#?}");
    assert!(
        said.out.ends_with("4755\n") && !said.out.contains("\n0\n"),
        "{said:#?}"
    );
}

/// Writes a SIF file around img.sqfs, laid out as Apptainer does it.
const SIF: &str = "import struct, sys
image = open('img.sqfs', 'rb').read()
header = b'#!/usr/bin/env run-singularity\\n'.ljust(32, b'\\0') + b'SIF_MAGIC\\0' + b'01\\0' + b'02\\0' + bytes(16)
header += struct.pack('<8q', 0, 0, 47, 48, 4096, 48 * 585, 32768, len(image))
one = struct.pack('<i?III7q', 0x4004, True, 1, 1, 0, 32768, len(image), len(image), 0, 0, 0, 0) + bytes(128)
one += struct.pack('<ii', 1, 2).ljust(384, b'\\0')
open('img.sif', 'wb').write(header.ljust(4096, b'\\0') + one.ljust(28672, b'\\0') + image)";

#[test]
fn the_squashfs_partition_of_a_sif_file_is_served_where_it_lies() {
    let place = place!();
    if !pack(&place, &["-comp", "gzip"]) {
        skip!("mksquashfs is not installed (package squashfs-tools)");
    }
    std::fs::write(place.here().join("sif.py"), SIF).unwrap();
    let said = place.run(
        "python3 sif.py && $C run ./img.sif -- sh -c 'cat /d/small; busybox tail -n 1 /d/large'",
    );
    assert_eq!(said.ok(), "x500000");
    let said = place.run("head -c 20000 img.sif >short.sif; $C run ./short.sif -- true");
    said.failed(
        125,
        "short.sif: the file ends before the superblock does",
        1,
    );
    let said = place.run("head -c 200 img.sif >head.sif; $C run ./head.sif -- true");
    assert_eq!(said.code, 125, "{said:#?}");
    assert!(said.err.contains("can't use the image"), "{said:#?}");
}

#[test]
fn what_is_in_a_file_can_be_mounted_at_a_place_and_goes_with_the_container() {
    let place = place!();
    let said = place.run(
        "mkdir -p data/sub data/more; echo text >data/sub/file; $C pack --quiet data data.sqfs; \
         $C run --bind ./data.sqfs:/opt/data:sqsh,./data.sqfs:/other:ro+sqsh ./img sh -c \
         'cat /opt/data/sub/file /other/sub/file; touch /opt/data/x'; \
         $C explain --bind ./data.sqfs:/opt/data:sqsh ./img true | grep -c 'from what is in'",
    );
    assert_eq!(said.out, "text\ntext\n1\n", "{said:#?}");
    assert!(said.err.contains("Read-only file system"), "{said:#?}");
    for wrong in ["./data", "./img/bin/busybox", "./nothing"] {
        let said = place.run(&format!("$C run --bind {wrong}:/x:sqsh ./img true"));
        assert_eq!(said.code, 125, "{said:#?}");
        assert!(said.err.contains("/x"), "{said:#?}");
    }
    let said = place.run("$C run --bind ./data.sqfs:/x:optional+sqsh,./nothing.sqfs:/y:optional+sqsh ./img ls /x/sub");
    assert_eq!(said.ok(), "file");
}
