//! Images that try to get out, or to have something mounted outside.

use std::os::unix::fs::symlink;

use crate::{place, skip};

#[test]
fn no_symbolic_link_of_an_image_aims_a_mount_outside_it() {
    let place = place!();
    let victim = place.here().join("victim");
    std::fs::create_dir(&victim).unwrap();
    let image = place.here().join("img");
    for name in ["dev", "proc", "sys", "tmp"] {
        symlink(&victim, image.join(name)).unwrap();
    }
    symlink("../../../../..", image.join("up")).unwrap();
    symlink("/proc/1/root", image.join("magic")).unwrap();
    let said = place.run(
        "$C run --bind /usr:/magic/y ./img true; echo $?; \
         $C run --bind /usr:/up/mnt/x ./img sh -c \
         'ls /dev/null /proc/self/status /up/mnt/x/bin >/dev/null && echo inside'",
    );
    assert_eq!(said.ok(), "125\ninside");
    assert_eq!(std::fs::read_dir(&victim).unwrap().count(), 0);
    assert!(!std::path::Path::new("/mnt/x").exists());
}

#[test]
fn dot_dot_of_the_root_is_the_root_and_no_mount_of_the_host_is_left_over_it() {
    let place = place!();
    for options in ["", "--writable", "--root"] {
        let said = place.run(&format!(
            "$C run {options} ./img sh -c 'stat -c %d:%i / /.. /../..; grep -c \" / / \" /proc/self/mountinfo; \
             ls -d /.. /../root/.cargo /../usr 2>/dev/null'"
        ));
        let lines: Vec<_> = said.out.lines().collect();
        assert_eq!(lines[0], lines[1], "{options}: {said:#?}");
        assert_eq!(lines[0], lines[2], "{options}: {said:#?}");
        assert_eq!(lines[4..], ["/.."], "{options}: {said:#?}");
    }
}

#[test]
fn no_descriptor_of_the_launcher_reaches_the_command() {
    let place = place!();
    let said = place.run(
        "$C run ./img sh -c 'ls /proc/self/fd' | wc -l; ./img/bin/busybox sh -c 'ls /proc/self/fd' | wc -l",
    );
    let lines: Vec<_> = said.ok().lines().collect();
    assert_eq!(lines[0], lines[1], "{said:#?}");
}

#[test]
fn a_fifo_in_place_of_metadata_does_not_hang_and_a_huge_one_is_refused() {
    let place = place!();
    let said = place.run("mkdir own; cp -a img own/img; mkdir own/img/ch; mkfifo own/img/ch/environment; $C run own/img sh -c 'echo ran'");
    assert_eq!(said.ok(), "ran");
    let said = place
        .run("rm own/img/ch/environment; truncate -s 5M own/img/ch/environment; $C run own/img ls");
    assert_eq!(said.code, 125, "{said:#?}");
}

#[test]
fn set_user_id_programs_give_nothing() {
    let place = place!();
    let said = place.run("$C run ./img grep -E 'NoNewPrivs|CapEff|Groups' /proc/self/status");
    assert!(said.ok().contains("NoNewPrivs:\t1"), "{said:#?}");
    assert!(said.out.contains("CapEff:\t0000000000000000"), "{said:#?}");
    let said =
        place.run("$C run --root ./img sh -c 'cat /proc/self/uid_map; cat /proc/self/setgroups'");
    assert!(said.ok().ends_with("deny"), "{said:#?}");
}

/// As it is where many containers of a node start at once: openat2(2) gives up where something is mounted meanwhile.
#[test]
fn a_path_that_changes_while_it_is_walked_is_walked_again() {
    let place = place!();
    if !std::path::Path::new("/usr/bin/strace").exists() {
        skip!("no strace (package strace)");
    }
    let said = |when: &str| {
        place.run(&format!(
            "strace -f -o /dev/null -e trace=openat2 -e inject=openat2:error=EAGAIN:when={when} \
             $C run --bind ./img:/opt/deep ./img echo ran"
        ))
    };
    assert_eq!(said("1..100").ok(), "ran");
    let never = said("1+");
    assert_eq!(never.code, 125, "{never:#?}");
    assert!(never.err.contains("openat2("), "{never:#?}");
}

/// Who stands in a directory where others write, as a group's, `/tmp` or somebody's home, types the names of images as anywhere.
#[test]
fn what_others_can_have_put_somewhere_is_not_taken_for_an_image_of_the_store() {
    let place = place!();
    let store = place.here().join("store");
    let site = format!("store = \"{}\"\n", store.display());
    std::fs::write(place.here().join("site.toml"), site).unwrap();
    place
        .run(
            "mkdir store open open/team open/127.0.0.1:1; cp -a img own; echo good >own/which; $C pack --quiet ./own store/debian.sqfs
             cp store/debian.sqfs store/team+small:1.sqfs; echo planted >own/which
             $C pack --quiet ./own open/x; cp open/x open/debian; cp open/x open/other
             cp open/x open/team/small:1; cp open/x open/127.0.0.1:1/app; cp open/x open/mine.sqfs
             cp -a own open/tree; chmod 777 open open/team open/127.0.0.1:1",
        )
        .ok();
    let run = |word: &str| {
        let script = format!("cd open; $R run {word} cat /which");
        let launcher = format!(
            "{} --config {}",
            place.launcher,
            place.here().join("site.toml").display()
        );
        place.run_with(&script, &[("R", &launcher)])
    };
    assert_eq!(run("debian").ok(), "good");
    for word in ["team/small:1", "127.0.0.1:1/app"] {
        run(word).failed(125, "can't tell which image", 1);
    }
    for word in ["other", "tree"] {
        run(word).failed(125, "others can have put there", 1);
    }
    // Who writes so means it.
    for word in [
        "./debian",
        "./team/small:1",
        "./other",
        "./tree",
        "mine.sqfs",
        "$PWD/./debian",
    ] {
        assert_eq!(run(word).ok(), "planted", "{word}");
    }
}
