//! What layers take away, change into something else, or leave out.

use super::*;
use tar::EntryType::{Char, Directory as Dir, Fifo, Link, Symlink};

/// Adds a member.
type Say = dyn Fn(&mut tar::Builder<Vec<u8>>);

/// One layer as a tree and as SquashFS, read as it comes; the archive reads it twice.
#[track_caller]
fn one(write: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Contents {
    everywhere(&layers(&[archive(write)], false))
}

#[test]
fn directories_become_links_and_files_and_back_in_one_archive() {
    let found = one(|tar| {
        add(tar, "d/x", "1");
        add(tar, "d/deep/y", "1");
        add_link(tar, Symlink, "d", "e");
        add(tar, "d/z", "2");
        add_link(tar, Symlink, "l", "e");
        add_link(tar, Dir, "l", "");
        add(tar, "l/own", "3");
        add(tar, "f", "4");
        add_link(tar, Dir, "f", "");
        add(tar, "f/in", "5");
        add(tar, "g/in/deep", "6");
        add(tar, "g", "7");
    });
    assert_eq!(found["d"], "l e");
    assert_eq!(found["e/z"], "f 644 2");
    assert_eq!(found["l/own"], "f 644 3");
    assert_eq!(found["f/in"], "f 644 5");
    assert_eq!(found["g"], "f 644 7");
    assert!(!found.contains_key("d/x") && !found.contains_key("e/own"));
}

#[test]
fn a_file_survives_the_directory_of_its_first_name() {
    let found = one(|tar| {
        add(tar, "top/d/x", "1");
        add_link(tar, Link, "top/y", "top/d/x");
        add_link(tar, Symlink, "top/d", "y");
        add(tar, "top/etc/own", "2");
        add(tar, "top/.chariot-aside/7", "3");
        add(tar, "top/top/x", "4");
    });
    assert_eq!(found["y"], "f 644 1");
    assert_eq!(found["d"], "l y");
    assert_eq!(found["etc/own"], "f 644 2");
    assert_eq!(found[".chariot-aside/7"], "f 644 3");
    assert_eq!(found["top/x"], "f 644 4");
    let found = one(|tar| {
        add(tar, ".chariot-aside", "1");
        add(tar, "twice", "2");
        add(tar, "twice", "3");
    });
    assert_eq!(found[".chariot-aside"], "f 644 1");
    assert_eq!(found["twice"], "f 644 3");
}

#[test]
fn whiteouts_are_for_lower_layers_whatever_the_order() {
    let lower = archive(|tar| {
        add(tar, "d/old", "1");
        add(tar, "e/old", "1");
        add(tar, "e/sub/old", "1");
        add(tar, "f", "1");
        add(tar, "usr/lib/x", "1");
        add_link(tar, Symlink, "lib", "usr/lib");
    });
    let said: [&Say; 11] = [
        &|tar| add(tar, "d/new", "2"),
        &|tar| add(tar, ".wh.d", ""),
        &|tar| add(tar, "e/sub/new", "2"),
        &|tar| add(tar, "e/.wh..wh..opq", ""),
        &|tar| add_link(tar, Link, "kept", "d/old"),
        &|tar| add(tar, "f", "2"),
        &|tar| add(tar, ".wh.f", ""),
        &|tar| add(tar, "f2/.wh.x", ""),
        &|tar| add_link(tar, Dir, "lib", ""),
        &|tar| add(tar, "lib/.wh.x", ""),
        &|tar| add(tar, ".wh..wh.plnk/1", ""),
    ];
    let forwards = archive(|tar| said.iter().for_each(|say| say(tar)));
    let backwards = archive(|tar| said.iter().rev().for_each(|say| say(tar)));
    let found = everywhere(&layers(&[lower.clone(), forwards], true));
    assert_eq!(found, everywhere(&layers(&[lower, backwards], true)));
    assert_eq!(found["d/new"], "f 644 2");
    assert_eq!(found["e/sub/new"], "f 644 2");
    assert_eq!(found["kept"], "f 644 1");
    assert_eq!(found["f"], "f 644 2");
    assert_eq!(found["usr/lib/x"], "f 644 1");
    assert_eq!(found["lib"], "d 755");
    for gone in ["d/old", "e/old", "e/sub/old", "f2", ".wh..wh.plnk"] {
        assert!(!found.contains_key(gone), "{gone}: {found:?}");
    }
}

#[test]
fn what_is_left_out_is_left_out_with_all_its_names_and_counted() {
    let bytes = archive(|tar| {
        add(tar, "was", "file");
        add_link(tar, Fifo, "was", "");
        add_link(tar, Link, "another", "was");
        add_link(tar, Char, "null", "");
        add(tar, "../x", "1");
        add_link(tar, Link, "y", "../x");
        let mut set_id = header(tar::EntryType::Regular, 0);
        set_id.set_mode(0o6755);
        set_id.set_path("su").unwrap();
        set_id.set_cksum();
        tar.append(&set_id, io::empty()).unwrap();
        tar.append_pax_extensions([("SCHILY.xattr.security.capability", b"c".as_slice())])
            .unwrap();
        add(tar, "ping", "1");
    });
    let found = everywhere(&layers(std::slice::from_ref(&bytes), false));
    for gone in ["was", "another", "null", "x", "y"] {
        assert!(!found.contains_key(gone), "{gone}: {found:?}");
    }
    let summary = run(&layers(&[bytes], false), &mut ToArchive::new(Vec::new())).unwrap();
    assert_eq!(
        summary.left_out.to_string(),
        "1 device, 1 FIFO, 1 name with .., set-user-ID of 1 file, set-group-ID of 1 file, capabilities of 1 file"
    );
}

#[test]
fn four_thousand_levels_are_an_image_and_more_are_not() {
    let place = tempfile::tempdir().unwrap();
    let name = "d";
    let deep = |levels: usize| {
        let path = vec![name; levels].join("/");
        archive(|tar| {
            let mut file = header(tar::EntryType::Regular, 1);
            tar.append_data(&mut file, format!("etc/{path}/file"), b"x".as_slice())
                .unwrap();
            let mut link = header(Symlink, 0);
            tar.append_link(&mut link, format!("etc/{path}/link"), "file")
                .unwrap();
        })
    };
    let found = layers(&[deep(4094)], false);
    let squashed = as_squashfs(&found).unwrap();
    let path = format!("etc/{}/file", vec![name; 4094].join("/"));
    assert_eq!(squashed[&path], "f 644 x");
    assert_eq!(as_archive(&found).unwrap(), squashed);
    assert_eq!(as_directory(&found, place.path()).unwrap(), squashed);
    let again = Layers {
        sources: vec![Box::new(Directory::new(place.path()))],
        are_oci: false,
        changes: None,
    };
    assert_eq!(as_squashfs(&again).unwrap(), squashed);
    // The standard library's own removal recurses.
    let mut rm = std::process::Command::new("rm");
    assert!(rm.arg("-rf").arg(place.path()).status().unwrap().success());
    let error = as_squashfs(&layers(&[deep(4096)], false)).unwrap_err();
    assert!(error.to_string().contains("too many directories deep"));
}

#[test]
fn an_overlay_s_notes_are_for_the_overlay_alone() {
    let place = tempfile::tempdir().unwrap();
    let (lower, upper) = (place.path().join("lower"), place.path().join("upper"));
    for path in ["lower/d", "lower/w", "upper/d", "upper/w"] {
        fs::create_dir_all(place.path().join(path)).unwrap();
    }
    for path in ["d/old", "w/gone", "w/stays", "a", "b"] {
        fs::write(lower.join(path), "1").unwrap();
    }
    fs::write(upper.join("d/new"), "2").unwrap();
    fs::write(upper.join("w/gone"), "").unwrap();
    let set = |path: &str, name: &str, value: &[u8]| {
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(upper.join(path), name, value, flags).is_ok()
    };
    if !set("d", "user.overlay.opaque", b"y") {
        return;
    }
    set("w", "user.overlay.opaque", b"x");
    set("w/gone", "user.overlay.whiteout", b"");
    set("d/new", "user.overlay.origin", b"?");
    set("d/new", "user.overlay.overlay.opaque", b"own");
    let changed = || Layers {
        sources: vec![Box::new(Directory::new(&lower))],
        are_oci: false,
        changes: Some(Directory::changes(&upper)),
    };
    let mknod = |name: &str| {
        let mode = nix::sys::stat::SFlag::S_IFCHR;
        nix::sys::stat::mknod(&upper.join(name), mode, nix::sys::stat::Mode::empty(), 0).is_ok()
    };
    let has_devices = mknod("a") && fs::hard_link(upper.join("a"), upper.join("b")).is_ok();
    let found = everywhere(&changed());
    assert_eq!(found["d/new"], "f 644 2");
    assert_eq!(found["w/stays"], "f 644 1");
    assert!(!found.contains_key("d/old") && !found.contains_key("w/gone"));
    assert!(!has_devices || !found.contains_key("a") && !found.contains_key("b"));
    set("d", "user.overlay.redirect", b"/elsewhere");
    let error = as_squashfs(&changed()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("d: the overlay was not made by Chariot"),
        "{error}"
    );
}

#[test]
fn the_same_files_give_the_same_bytes() {
    let bytes = archive(|tar| {
        (0..300).for_each(|number| add(tar, &format!("d/{number}"), &"x".repeat(number * 999)));
    });
    let mark = |date| Mark {
        source_date: date,
        ..Mark::default()
    };
    let packed = |date| {
        let file = tempfile::tempfile().unwrap();
        let mut writer = Writer::new(file.try_clone().unwrap(), Compression::default()).unwrap();
        let bounds = Bounds {
            most_bytes: 1 << 30,
            tick: &mut |_| Ok(()),
        };
        convert(
            &layers(std::slice::from_ref(&bytes), false),
            &mark(date),
            &mut writer,
            bounds,
        )
        .unwrap();
        let mut all = Vec::new();
        let mut file = file;
        file.rewind().unwrap();
        file.read_to_end(&mut all).unwrap();
        all
    };
    let made = |image: &[u8]| u32::from_le_bytes(image[8..12].try_into().unwrap());
    let first = packed(None);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    assert!(first == packed(None), "a second later the bytes are others");
    assert_eq!(made(&first), 1_000_000);
    assert_eq!(made(&packed(Some(2_000_000))), 2_000_000);
    assert_eq!(made(&packed(Some(5))), 5);
}

#[test]
fn symbolic_links_with_several_names_keep_them() {
    use std::os::unix::fs::MetadataExt;
    let bytes = archive(|tar| {
        add(tar, "usr/file", "1");
        add_link(tar, Symlink, "usr/link", "file");
        add_link(tar, Link, "usr/other", "usr/link");
        add_link(tar, Link, "usr/d/third", "usr/file");
    });
    let image = layers(&[bytes], false);
    let place = tempfile::tempdir().unwrap();
    let found = as_directory(&image, place.path()).unwrap();
    assert_eq!(found["usr/other"], "l file");
    let inode = |path: &str| {
        let data = fs::symlink_metadata(place.path().join(path)).unwrap();
        (data.ino(), data.nlink())
    };
    assert_eq!(inode("usr/link"), inode("usr/other"));
    assert_eq!(inode("usr/file"), inode("usr/d/third"));
    assert_eq!(inode("usr/link").1, 2);
    let mut target = ToArchive::new(Vec::new());
    run(&image, &mut target).unwrap();
    let mut kinds = Vec::new();
    layers_of(&target.into_inner().unwrap())
        .each(&mut |member, _| {
            kinds.push((member.path, member.kind));
            Ok(())
        })
        .unwrap();
    assert!(kinds.contains(&(b"usr/other".to_vec(), Kind::Link(b"usr/link".to_vec()))));
}
