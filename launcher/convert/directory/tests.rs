//! Trees of this machine, and what an overlay keeps, as members.

use std::fs;

use super::*;

fn members(of: &Directory) -> Vec<(String, Kind)> {
    let mut all = Vec::new();
    of.each(&mut |member, _| {
        all.push((String::from_utf8(member.path).unwrap(), member.kind));
        Ok(())
    })
    .unwrap();
    all
}

fn path(text: &str) -> String {
    text.to_owned()
}

#[test]
fn what_an_image_does_not_get_has_as_many_names_as_it_has_and_none_is_a_link() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    nix::unistd::mkfifo(&at("a"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    fs::hard_link(at("a"), at("b")).unwrap();
    std::os::unix::fs::symlink("nowhere", at("c")).unwrap();
    fs::hard_link(at("c"), at("d")).unwrap();
    let expected = vec![
        (path(""), Kind::Directory),
        (path("a"), Kind::Special),
        (path("b"), Kind::Special),
        (path("c"), Kind::Symlink(b"nowhere".to_vec())),
        (path("d"), Kind::Link(b"c".to_vec())),
    ];
    assert_eq!(members(&Directory::new(place.path())), expected);
    // A FIFO is none of the devices by which an overlay takes a name away.
    assert_eq!(members(&Directory::changes(place.path())), expected);
}

#[test]
fn names_that_an_overlay_takes_away_are_told_however_it_says_so() {
    let place = tempfile::tempdir_in("/var/tmp").unwrap();
    let at = |name: &str| place.path().join(name);
    fs::write(at("gone"), "").unwrap();
    fs::write(at("kept"), "").unwrap();
    fs::create_dir(at("new")).unwrap();
    fs::create_dir(at("merged")).unwrap();
    let set = |name: &str, attribute: &str, value: &[u8]| {
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(at(name), attribute, value, flags)
    };
    if set("gone", "user.overlay.whiteout", b"y").is_err() {
        return;
    }
    set("new", "user.overlay.opaque", b"y").unwrap();
    // Its value says that whiteouts are files, and not that nothing shows through.
    set("merged", "user.overlay.opaque", b"x").unwrap();
    set("kept", "user.overlay.origin", b"x").unwrap();
    set("kept", "user.mine", b"x").unwrap();
    let changes = Directory::changes(place.path());
    assert_eq!(
        members(&changes),
        [
            (path(""), Kind::Directory),
            (path("gone"), Kind::Whiteout),
            (path("kept"), Kind::File),
            (path("merged"), Kind::Directory),
            (path("new"), Kind::Directory),
            (path("new"), Kind::Opaque),
        ]
    );
    changes
        .each(&mut |member, _| {
            let names: Vec<_> = member
                .attributes
                .xattrs
                .iter()
                .map(|(name, _)| name.clone())
                .collect();
            assert!(names.iter().all(|name| name == b"user.mine"), "{names:?}");
            Ok(())
        })
        .unwrap();
    set("kept", "user.overlay.metacopy", b"").unwrap();
    let error = changes.each(&mut |_, _| Ok(())).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("kept: another program's overlay"),
        "{error}"
    );
}

#[test]
fn a_tree_may_be_deeper_than_a_process_may_have_files_open_and_paths_be_long() {
    let place = tempfile::tempdir().unwrap();
    let mut here = rustix::fs::open(place.path(), DIRECTORY, Mode::empty()).unwrap();
    for _ in 0..4095 {
        rustix::fs::mkdirat(&here, "deep", Mode::RWXU).unwrap();
        here = openat(&here, "deep", DIRECTORY, Mode::empty()).unwrap();
    }
    let all = members(&Directory::new(place.path()));
    assert_eq!(all.len(), 4096);
    assert_eq!(all.last().unwrap().0.len(), 4095 * 5 - 1);
}
