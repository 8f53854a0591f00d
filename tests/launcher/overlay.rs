//! Containers that may change their root: what is written in them, and what Chariot has to mount there.

use std::os::unix::fs::symlink;
use std::path::Path;

use crate::devices::{run_image, specify};
use crate::support::{Said, user};
use crate::{Place, place, skip};

/// Where Chariot mounts something, in images that have links there: to what is there, to what is not, to themselves.
const LINKS: [(&str, &str); 8] = [
    ("/usr/share/zoneinfo/Nowhere/City", "etc/localtime"),
    ("../run/systemd/resolve/stub-resolv.conf", "etc/resolv.conf"),
    ("hosts", "etc/hosts"),
    ("other", "etc/machine-id"),
    ("../usr/lib/passwd", "etc/passwd"),
    ("/nowhere/group", "etc/group"),
    ("scratch/tmp", "tmp"),
    ("../nowhere/deep/er", "opt/link"),
];

/// The user's own image `own/img` with links at all mount points, and one in a file of the same.
fn with_links(place: &Place) {
    place
        .run("mkdir -p own && cp -a img own && mkdir own/img/opt own/img/usr own/img/usr/lib && touch own/img/etc/other && \
              echo 'root:x:0:0:root:/root:/bin/sh' >own/img/usr/lib/passwd && echo bound >file && mkdir dir && echo in >dir/in")
        .ok();
    let image = place.here().join("own/img");
    for (target, link) in LINKS {
        symlink(target, image.join(link)).unwrap();
    }
    let said = place.run("chmod -R u+w own; $C pack --quiet own/img own/img.sqfs");
    said.ok();
}

/// Writes and renames beside every link, and says how many mounts lie in /etc.
const WRITE: &str = "set -e; busybox ls -d /opt/link /data >/dev/null; cat /opt/link /data/in; head -n 1 /etc/hosts >/dev/null 2>&1 || true; \
    for d in /etc /opt /usr/lib; do echo new >$d/new~; busybox mv $d/new~ $d/new; done; \
    grep -c \" /etc/\" /proc/self/mountinfo; grep -c \" /etc \" /proc/self/mountinfo || true; cat /etc/new /opt/new";

fn write(place: &Place, options: &str, image: &str) -> Said {
    place.run(&format!(
        "$C run {options} --bind file:/opt/link --bind dir:/data {image} sh -c '{WRITE}'"
    ))
}

#[track_caller]
fn assert_written(said: &Said) {
    let lines: Vec<_> = said.ok().lines().collect();
    let [bound, inside, mounts, covers, rest @ ..] = &lines[..] else {
        panic!("{said:#?}");
    };
    assert_eq!([*bound, *inside], ["bound", "in"], "{said:#?}");
    assert!(mounts.parse::<u32>().unwrap() <= 6, "{said:#?}");
    assert_eq!(*covers, "0", "{said:#?}");
    assert_eq!(rest, ["new", "new"], "{said:#?}");
}

#[test]
fn what_is_written_beside_links_is_there_afterwards_and_nothing_else() {
    let place = place!();
    with_links(&place);
    for (number, image) in ["own/img", "own/img.sqfs"].into_iter().enumerate() {
        let kept = format!("own/kept{number}");
        place.run(&format!("mkdir {kept}")).ok();
        assert_written(&write(&place, &format!("--overlay {kept}"), image));
        let said = place.run(&format!(
            "$C run --overlay {kept} {image} cat /etc/new /opt/new /usr/lib/new; find {kept}/upper | sort | cut -d/ -f4-; \
             $C pack --quiet --overlay {kept} {image} new{number}.sqfs && $C run ./new{number}.sqfs cat /etc/new && \
             $C pack --quiet --overlay {kept} {image} new{number}.tar && $C unpack --quiet new{number}.tar tree{number} && \
             readlink tree{number}/etc/localtime tree{number}/etc/resolv.conf tree{number}/opt/link tree{number}/tmp"
        ));
        // Not a mount point is among the changes.
        assert_eq!(
            said.ok(),
            "new\nnew\nnew\n\netc\netc/new\nopt\nopt/new\nusr\nusr/lib\nusr/lib/new\nnew\n\
             /usr/share/zoneinfo/Nowhere/City\n../run/systemd/resolve/stub-resolv.conf\n../nowhere/deep/er\nscratch/tmp",
            "{said:#?}"
        );
    }
}

#[test]
fn what_is_written_goes_into_memory_or_into_the_image_itself_if_that_was_asked_for() {
    let place = place!();
    with_links(&place);
    std::fs::write(
        place.here().join("job.toml"),
        "image = './own/img.sqfs'\nmounts = ['./file:/opt/link', './dir:/data']\n",
    )
    .unwrap();
    assert_written(&write(&place, "--writable", "own/img.sqfs"));
    assert_written(&write(&place, "--writable", "own/img"));
    assert_written(&write(&place, "--root --fakeroot --writable", "own/img"));
    assert_written(&place.run(&format!("$C run --edf ./job.toml -- sh -c '{WRITE}'")));
    let links = "readlink own/img/etc/* own/img/opt/link own/img/tmp";
    let before = place.run(links);
    let said = place.run(&format!(
        "mkdir bin; ln -s {} bin/ch-run; touch own/img/etc/other; \
         USER=u bin/ch-run -w --bind file:/opt/link --bind dir:/data ./own/img -- /bin/busybox sh -c '{WRITE}'",
        place.launcher
    ));
    assert_written(&said);
    assert_eq!(
        place.run("cat own/img/etc/new own/img/opt/new").ok(),
        "new\nnew"
    );
    assert_eq!(place.run(links).out, before.out);
}

#[test]
fn a_place_that_changes_hide_or_link_elsewhere_is_found_in_them() {
    let place = place!();
    place
        .run("mkdir -p own/kept own/img/a/b; cp -a img own; touch own/img/a/b/c; echo bound >file; mkdir dir; echo in >dir/in")
        .ok();
    // What these changes hide, no layer below them shows.
    let said = place.run(
        "chmod -R u+w own; $C run --root --overlay own/kept own/img sh -c \
         'busybox rm -r /a; mkdir /a; busybox ln -s ../nowhere/x /etc/localtime; busybox ln -s /new/place /data; echo kept >/a/kept' && \
         for i in 1 2; do $C run --overlay own/kept --bind file:/a/b/c --bind dir:/data own/img sh -c \
         'cat /a/b/c /data/in /a/kept; busybox readlink /data; ls -d /new/place; ls /nowhere 2>/dev/null'; done; \
         $C run --root --overlay own/kept own/img readlink /etc/localtime",
    );
    let one = "bound\nin\nkept\n/new/place\n/new/place";
    assert_eq!(
        said.out,
        format!("{one}\n{one}\n../nowhere/x\n"),
        "{said:#?}"
    );
}

#[test]
fn directories_of_an_image_keep_their_modes_and_owners_beside_mount_points() {
    let place = place!();
    let said = place.run(
        "mkdir -p own/kept; cp -a img own; mkdir -m 750 own/img/full; mkdir -m 711 own/img/full/sub; touch own/img/full/sub/old; echo bound >file; \
         $C run --overlay own/kept --bind file:/full/sub/new --bind file:/full/made/new own/img sh -c \
         'stat -c \"%a %u\" /full /full/sub; cat /full/sub/new /full/made/new; echo x >/full/sub/old; stat -c \"%a\" /full /full/sub; id -u'; \
         find own/kept/upper | sort",
    );
    let lines: Vec<_> = said.ok().lines().collect();
    let number = lines[6];
    assert_eq!(
        lines[..6],
        [
            format!("750 {number}").as_str(),
            format!("711 {number}").as_str(),
            "bound",
            "bound",
            "750",
            "711"
        ],
        "{said:#?}"
    );
    assert_eq!(
        lines[7..],
        [
            "own/kept/upper",
            "own/kept/upper/full",
            "own/kept/upper/full/sub",
            "own/kept/upper/full/sub/old"
        ]
    );
}

#[test]
fn where_somebody_else_owns_the_image_a_write_fails_and_is_not_lost() {
    let place = place!();
    if user().is_none() {
        skip!("not root, who could own an image that is not the user's");
    }
    // `img` is root's.
    let image = place.here().join("img");
    std::fs::create_dir(image.join("opt")).unwrap();
    symlink("../nowhere/x", image.join("opt/link")).unwrap();
    symlink("../nowhere/x", image.join("etc/localtime")).unwrap();
    let said = place.run(
        "mkdir kept bin; echo bound >file; ln -s $L bin/ch-run; B='--bind file:/opt/link --bind file:/opt/new --bind file:/etc/new'; \
         W='cat /opt/link /opt/new /etc/new; echo lost >/etc/lost; echo lost >/opt/lost; ls /etc/lost /opt/lost'; \
         $C run --overlay kept $B ./img sh -c \"$W\"; $C run --writable $B ./img sh -c \"$W\"; \
         B='--bind file:/opt/link --bind file:/opt/new'; USER=u bin/ch-run -w $B ./img -- /bin/sh -c \"$W\"; find kept/upper"
            .replace("$L", &place.launcher)
            .as_str(),
    );
    // ch-run makes no point for the last file.
    assert_eq!(said.out, "bound\n".repeat(8) + "kept/upper\n", "{said:#?}");
    for sentence in [
        "belongs to somebody else",
        "can't create /etc/lost",
        "nothing can be made in /opt, which is covered",
    ] {
        assert!(said.err.contains(sentence), "{said:#?}");
    }
}

#[test]
fn links_that_a_device_wants_are_no_change_and_take_nothing_away() {
    let place = place!();
    let library = |name: &str| {
        let path = format!("/lib/{name}");
        format!("{{hostPath: HERE/driver/{name}, containerPath: {path}}}")
    };
    let spec = format!(
        "cdiVersion: \"0.6.0\"\nkind: example.com/gpu\ndevices:\n- name: all\n  containerEdits:\n    mounts: [{}, {}]\n    \
         hooks:\n    - hookName: createContainer\n      path: /usr/bin/nvidia-cdi-hook\n      args: [nvidia-cdi-hook, create-symlinks, \
         --link, 'liba.so.2::/lib/liba.so', --link, 'libb.so.2::/lib/libb.so']\n",
        library("liba.so.2"),
        library("libb.so.2")
    );
    specify(&place, &[("strong/gpu.yaml", &spec)], "");
    place
        .run("mkdir -p driver own/kept; echo a2 >driver/liba.so.2; echo b2 >driver/libb.so.2; cp -a img own; mkdir own/img/lib; \
              echo a1 >own/img/lib/liba.so.1; ln -s liba.so.1 own/img/lib/liba.so; chmod -R u+w own; $C pack --quiet own/img own/img.sqfs")
        .ok();
    let script = "cat /lib/liba.so /lib/libb.so; cat /lib/liba.so.1; echo new >/lib/new";
    for (options, image) in [
        ("--overlay own/kept", "own/img.sqfs"),
        ("--writable", "own/img"),
        ("--overlay own/kept", "own/img"),
        ("", "own/img"),
    ] {
        let options = format!("--device example.com/gpu=all {options}");
        let said = run_image(&place, &options, image, &format!("sh -c '{script}'"));
        assert_eq!(said.out, "a2\nb2\na1\n", "{options} {image}: {said:#?}");
    }
    let said = place.run("find own/kept/upper | sort; $C run --overlay own/kept own/img.sqfs sh -c 'readlink /lib/liba.so; cat /lib/new'");
    assert_eq!(
        said.ok(),
        "own/kept/upper\nown/kept/upper/lib\nown/kept/upper/lib/new\nliba.so.1\nnew",
        "{said:#?}"
    );
}

#[test]
fn a_killed_container_leaves_nothing_of_chariots_among_the_changes() {
    let place = place!();
    with_links(&place);
    let said = place.run(
        "mkdir own/kept; for i in 1 2 3; do \
         $C run --overlay own/kept --bind dir:/data own/img.sqfs sh -c 'echo '$i' >/etc/new; touch up; sleep 60' & \
         until [ -e dir/../up ]; do sleep 0.05; done; kill -KILL $!; wait $! 2>/dev/null; rm up; done; \
         until $C run --overlay own/kept own/img.sqfs cat /etc/new 2>/dev/null; do sleep 0.1; done; find own/kept/upper | sort",
    );
    assert_eq!(
        said.ok(),
        "3\nown/kept/upper\nown/kept/upper/etc\nown/kept/upper/etc/new",
        "{said:#?}"
    );
}

#[test]
fn changes_that_another_container_is_about_to_leave_are_waited_for_and_no_others() {
    let place = place!();
    // One ends a while after its successor has come, the other does not.
    let said = place.run(
        "mkdir kept; hold() { rm -f up; $C run --overlay kept ./img sh -c \"touch up; exec sleep $1\" & \
         until [ -e up ]; do sleep 0.05; done; }; \
         hold 2; $C run --overlay kept ./img echo ran; wait; \
         hold 60; $C run --overlay kept ./img echo RAN; echo $?; kill $!",
    );
    assert_eq!(said.ok(), "ran\n125", "{said:#?}");
    said.failed(0, "can't keep changes in ", 1);
    assert!(
        said.err.contains("hint: another container is using it"),
        "{said:#?}"
    );
}

#[test]
fn a_kernel_that_mounts_nothing_on_a_link_has_it_mounted_where_the_link_leads() {
    let place = place!();
    if !Path::new("/usr/bin/strace").exists() {
        skip!("no strace (package strace)");
    }
    let said = place.run(
        "mkdir own; cp -a img own; mkdir own/img/opt; ln -s ../target/deep own/img/opt/link; echo bound >file; \
         for i in $(seq 30); do mkdir own/kept$i; \
            strace -f -o /dev/null -e trace=move_mount -e inject=move_mount:error=EINVAL:when=$i \
            $C run --root --overlay own/kept$i --bind file:/opt/link own/img sh -c \
            'cat /opt/link; grep -c \"/target/deep \" /proc/self/mountinfo; echo >/opt/log' 2>>errors; done; \
         cat own/kept*/upper/opt/log | grep -c ''; sort -u errors >&2",
    );
    let lines: Vec<_> = said.ok().lines().collect();
    let count = |wanted: &str| lines.iter().filter(|line| **line == wanted).count();
    assert_eq!(count("1"), 1, "{said:#?}");
    // The rest failed with a sentence, or had nothing to fail, and what they wrote is there.
    let runs = count("bound");
    assert_eq!(lines[2 * runs..], [runs.to_string()], "{said:#?}");
}

#[test]
fn why_a_directory_cannot_keep_changes_is_said_by_what_it_is() {
    let place = place!();
    place
        .run("mkdir -p own/kept/upper own/kept/work own/full own/file own/on; cp -a img own; touch own/file/upper; \
              mksquashfs own/kept own/kept.sqfs -quiet -no-progress")
        .ok();
    let inside = |script: &str| {
        place.run(&format!(
            "unshare --user --map-root-user --mount sh -c '{script} && $C run --overlay own/on own/img true'"
        ))
    };
    let cases = [
        (
            "mount -t tmpfs -o ro none own/on",
            "is on a file system that is mounted read-only",
        ),
        ("mount -t tmpfs -o nr_inodes=2 none own/on", "is full"),
        (
            "squashfuse own/kept.sqfs own/on",
            "is on a FUSE file system, and overlayfs needs a local file system there",
        ),
        (
            "bindfs own/full own/on",
            "is on a FUSE file system, and overlayfs needs a local file system there",
        ),
        ("mount --bind own/file own/on", "is not a directory"),
    ];
    for (script, hint) in cases {
        let said = inside(script);
        assert_eq!(said.code, 125, "{script}: {said:#?}");
        said.failed(125, "can't keep changes in", 1);
        assert!(said.err.contains(hint), "{script}: {said:#?}");
    }
    let said = place.run("$C run --overlay /usr own/img true");
    if user().is_some() {
        said.failed(125, "can't keep changes in /usr", 1);
        assert!(
            said.err.contains("you need permission to write in /usr"),
            "{said:#?}"
        );
    }
}

#[test]
fn what_is_written_to_the_hosts_own_files_of_etc_never_reaches_them() {
    let place = place!();
    // In namespaces in which these files are the caller's own, as they are root's on the machine.
    let said = place.run(
        "for f in hosts resolv.conf machine-id; do echo mine >$f; done; \
         unshare -Urm sh -euc 'for f in hosts resolv.conf machine-id; do mount --bind $f /etc/$f; done; \
             for how in --writable \"--overlay $PWD/changes\" \"--writable --root\" --root \"\"; do \
                 $C run $how ./img sh -c \"for f in hosts resolv.conf machine-id; do echo lost >/etc/\\$f; done\" 2>/dev/null || true; \
             done'; cat hosts resolv.conf machine-id",
    );
    assert_eq!(said.ok(), "mine\nmine\nmine", "{said:#?}");
}
