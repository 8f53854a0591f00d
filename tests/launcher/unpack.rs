//! `chariot unpack`: safe, complete, all or nothing.

use crate::{Place, place};

/// Nothing but these names may be in the test's directory.
#[track_caller]
fn only(place: &Place, expected: &[&str]) {
    let mut names: Vec<String> = std::fs::read_dir(place.here())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert_eq!(names, expected);
}

#[test]
fn every_compression_is_told_by_content_and_a_single_directory_is_lifted() {
    let place = place!();
    for compress in ["cat", "gzip", "xz", "zstd", "bzip2"] {
        let said = place.run(&format!(
            "tar cf - img | {compress} > archive && $C unpack archive new && $C run ./new ls /bin/busybox; \
             rm -rf new archive"
        ));
        assert_eq!(said.ok(), "/bin/busybox", "{compress}");
        assert!(said.err.contains("unpacked archive to new"), "{said:#?}");
    }
    let said = place
        .run("cd img; tar cf ../flat bin etc; cd ..; $C unpack flat new; ls -A new; ls new/etc");
    for name in [
        ".chariot",
        "bin",
        "dev",
        "proc",
        "sys",
        "tmp",
        "hosts",
        "resolv.conf",
    ] {
        assert!(
            said.ok().lines().any(|line| line == name),
            "{name}: {said:#?}"
        );
    }
}

#[test]
fn no_member_is_written_outside_whatever_its_name_or_links() {
    let place = place!();
    let said = place.run(
        r#"python3 - <<'EOF'
import tarfile, io
archive = tarfile.open("evil.tar", "w")
def add(name, kind=tarfile.REGTYPE, link="", data=b"evil", mode=0o644):
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.mode, member.size = kind, link, mode, len(data)
    if kind != tarfile.REGTYPE: member.size = 0
    archive.addfile(member, io.BytesIO(data) if member.size else None)
add("../dotdot"); add("/absolute"); add("up", tarfile.SYMTYPE, "../.."); add("up/through-link")
add("abs", tarfile.SYMTYPE, "/"); add("abs/tmp/chariot-evil"); add("hard", tarfile.LNKTYPE, "/etc/shadow2")
archive.close()
archive = tarfile.open("odd.tar", "w")
add("bin", tarfile.DIRTYPE, mode=0o555); add("bin/suid", mode=0o6755); add("dev/inside")
add("null", tarfile.CHRTYPE); add("a/dev/keep"); add("pipe", tarfile.FIFOTYPE); add("../x")
add("etc", tarfile.DIRTYPE, mode=0o755)
archive.close()
EOF
$C unpack evil.tar evil; echo $?; ls -A
$C unpack odd.tar odd && stat -c %a odd/bin odd/bin/suid && ls -A odd/dev odd/a/dev; ls odd; rm -rf odd && echo removable"#,
    );
    // A hard link to what is not there fails the whole; nothing of it stays.
    assert!(said.out.starts_with("125\n"), "{said:#?}");
    assert!(!std::path::Path::new("/tmp/chariot-evil").exists());
    assert!(
        !said.out.contains("dotdot") && !said.out.contains("through-link"),
        "{said:#?}"
    );
    assert!(
        said.out.contains("755\n755\n") || said.out.contains("755\n"),
        "{said:#?}"
    );
    assert!(
        !said.out.contains("inside") && said.out.contains("keep"),
        "{said:#?}"
    );
    assert!(
        !said.out.contains("pipe") && !said.out.contains("null"),
        "{said:#?}"
    );
    assert!(said.out.contains("removable"), "{said:#?}");
    assert!(
        said.err.contains(
            "; skipped: 1 device, 1 FIFO, 1 name with .., 1 name in /dev, set-user-ID of 1 file"
        ),
        "{said:#?}"
    );
    only(&place, &["evil.tar", "img", "odd.tar"]);
}

#[test]
fn only_what_chariot_made_is_replaced() {
    let place = place!();
    let said = place.run(
        "tar cf a.tar img; tar cf b.tar -C img bin; mkdir mine; touch mine/precious; $C unpack a.tar mine; echo $?; ls mine; \
         tar -rf a.tar -C mine --transform s,precious,img/old, precious; rm -rf new; $C unpack a.tar new && ls new/old && $C unpack b.tar new && ls new",
    );
    assert!(said.out.starts_with("125\nprecious\n"), "{said:#?}");
    assert!(
        said.err.contains("is not an image that Chariot made"),
        "{said:#?}"
    );
    assert_eq!(said.out.matches("old").count(), 1, "{said:#?}");
    only(&place, &["a.tar", "b.tar", "img", "mine", "new"]);
}

#[test]
fn what_was_changed_in_a_tree_since_is_not_replaced() {
    let place = place!();
    let made = "rm -rf new; $C unpack --quiet a.tar new || echo failed; ";
    let said = place.run("cp -r img own; mkdir -p own/srv/d; echo text >own/srv/d/file; ln -s file own/srv/d/link; tar cf a.tar -C own .");
    assert_eq!(said.code, 0, "{said:#?}");
    let compose = "ln -s ${C%% *} ch-run; USER=me ./ch-run -w ./new -- sh -c";
    for (change, newest) in [
        ("touch new/precious", "precious"),
        ("touch -d @1000000000 new/srv/d/old", "srv/d"),
        ("echo more >>new/srv/d/file", "srv/d/file"),
        ("echo TEXT >new/srv/d/file", "srv/d/file"),
        ("mkdir new/srv/empty", "srv"),
        ("rm new/srv/d/file", "srv/d"),
        ("mv new/srv/d/file new/srv/d/elif", "srv/d"),
        ("ln -sfn elif new/srv/d/link", "srv/d"),
        ("rm new/srv/d/file; mkdir new/srv/d/file", "srv/d"),
        ("mkfifo new/srv/fifo", "srv"),
        (
            "sed -i 's/\"source\": \"/&x/' new/.chariot/image.json",
            ".chariot",
        ),
        // Mount points are made in it too.
        (&format!("{compose} 'echo written >/srv/written'"), ""),
    ] {
        let said = place.run(&format!(
            "{made} {change}; (cd new; find . -printf '%p %T@ %s %l\\n') >before; $C unpack a.tar new; echo $?; \
             (cd new; find . -printf '%p %T@ %s %l\\n') | diff before -; rm -f ch-run before"
        ));
        assert_eq!(said.out, "125\n", "{change}: {said:#?}");
        let sentence = "can't unpack to new: it was changed since Chariot made it, most recently ";
        assert!(
            said.err.contains(&format!("{sentence}{newest}")),
            "{change}: {said:#?}"
        );
    }
    // Before anything is fetched.
    let said = place.run(&format!(
        "{made} touch new/precious; $C pull localhost:1/none ./new; ls new/precious"
    ));
    assert_eq!(said.out, "new/precious\n", "{said:#?}");
    assert!(said.err.contains("it was changed since"), "{said:#?}");
    // And what became of it while it was being made anew.
    let said = place.run(&format!(
        "{made} mkfifo pipe; $C unpack --quiet ./pipe new & exec 9>pipe; sleep 0.5; touch new/late; cat a.tar >&9; exec 9>&-; wait $!; \
         echo $?; ls new/late; rm pipe"
    ));
    assert_eq!(said.out, "125\nnew/late\n", "{said:#?}");
}

#[test]
fn a_tree_that_was_only_used_moved_or_copied_is_replaced() {
    let place = place!();
    let said = place.run(
        "umask 022; cp -r img own; mkdir -p own/srv; echo text >own/srv/file; tar cf a.tar -C own .; tar czf b.tgz own; same() { $C unpack --quiet $1 $2 && echo same || echo changed; }; \
         same a.tar new; same b.tgz new; same a.tar new; \
         $C run ./new -- sh -c 'cat /srv/file >/dev/null; echo x >/tmp/x-$$; rm /tmp/x-$$'; same a.tar new; \
         $C run --writable ./new -- sh -c 'echo x >/srv/new'; same a.tar new; \
         chmod -R go-rwx new; touch new new/srv; same a.tar new; \
         cp -a new copy; same a.tar copy; mv copy moved; same a.tar moved; \
         $C pack --quiet ./new new.sqfs; $C unpack --quiet new.sqfs again; same a.tar again; \
         grep -c '\"tree\"' new/.chariot/image.json; $C run ./new.sqfs -- cat /.chariot/image.json | grep -c '\"tree\"'; \
         chmod u+w new/.chariot/image.json; sed -i '/\"tree\"/d' new/.chariot/image.json; $C unpack a.tar new; echo $?",
    );
    assert_eq!(
        said.out,
        format!("{}1\n0\n125\n", "same\n".repeat(9)),
        "{said:#?}"
    );
    assert!(
        said.err.contains("does not say how Chariot made it"),
        "{said:#?}"
    );
}

#[test]
fn a_damaged_archive_leaves_nothing() {
    let place = place!();
    let said = place.run(
        "tar czf good.tgz img; head -c 100000 good.tgz > cut.tgz; $C unpack cut.tgz new; echo $?; \
         head -c 5000 /dev/urandom > noise; $C unpack noise new; echo $?; : > empty; $C unpack empty new; echo $?",
    );
    assert_eq!(said.out, "125\n125\n125\n", "{said:#?}");
    only(&place, &["cut.tgz", "empty", "good.tgz", "img", "noise"]);
}

#[test]
fn a_killed_unpack_leaves_nothing() {
    let place = place!();
    for signals in ["kill -KILL $!", "kill -INT $!; kill -TERM $!"] {
        place.run(&format!(
            "rm -f pipe; mkfifo pipe; (tar cf - img | head -c 300000; sleep 4) >pipe & $C unpack pipe new & sleep 1; {signals}; \
             for i in {{1..100}}; do [ $(ls -A | grep -c .) = 2 ] && break; sleep 0.1; done"
        ));
        only(&place, &["img", "pipe"]);
    }
}
