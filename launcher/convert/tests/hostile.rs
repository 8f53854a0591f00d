//! Archives that somebody made to do harm, or that are damaged.

use super::*;

#[test]
fn names_cannot_lead_out_and_hostile_members_are_left_out_or_refused() {
    let place = tempfile::tempdir().unwrap();
    let (inside, outside) = (place.path().join("in"), place.path().join("out"));
    fs::create_dir(&inside).unwrap();
    fs::create_dir(&outside).unwrap();
    let target = outside.to_str().unwrap();
    let bytes = archive(|tar| {
        add(tar, "ok", "1");
        add(tar, "../out/evil", "1");
        add(tar, "/absolute", "1");
        add_link(tar, tar::EntryType::Symlink, "way", target);
        add(tar, "way/evil", "1");
        add_link(tar, tar::EntryType::Symlink, "up", "../../../out");
        add(tar, "up/evil", "1");
    });
    let found = as_directory(&layers(&[bytes], false), &inside).unwrap();
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    assert_eq!(found["absolute"], "f 644 1");
    assert_eq!(found["out/evil"], "f 644 1");
    for (name, write) in [
        (
            "it is a link to a file that is not there",
            &(|tar: &mut tar::Builder<Vec<u8>>| {
                add_link(tar, tar::EntryType::Link, "x", "/etc/passwd");
            }) as &dyn Fn(&mut tar::Builder<Vec<u8>>),
        ),
        ("too many symbolic links", &|tar| {
            add_link(tar, tar::EntryType::Symlink, "a", "b");
            add_link(tar, tar::EntryType::Symlink, "b", "a");
            add(tar, "a/x", "1");
        }),
        ("it is a link to a directory", &|tar| {
            add(tar, "d/x", "1");
            add_link(tar, tar::EntryType::Link, "y", "d");
        }),
    ] {
        let bytes = archive(|tar| write(tar));
        let error = as_squashfs(&layers(&[bytes], false)).unwrap_err();
        assert!(error.to_string().contains(name), "{name}: {error}");
    }
}

#[test]
fn a_bomb_and_a_truncated_archive_end_in_an_error() {
    let mut zeroes = header(tar::EntryType::Regular, 1 << 40);
    zeroes.set_path("zeroes").unwrap();
    zeroes.set_cksum();
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    bomb.write_all(zeroes.as_bytes()).unwrap();
    let chunk = vec![0; 1 << 20];
    (0..20).for_each(|_| bomb.write_all(&chunk).unwrap());
    let error = as_squashfs(&layers(&[bomb.finish().unwrap()], false)).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("zeroes: the image is larger than"),
        "{error}"
    );

    let whole = archive(|tar| add(tar, "file", &"x".repeat(5000)));
    for length in [600, 2000, 5000] {
        let error = as_squashfs(&layers(&[whole[..length].to_vec()], false)).unwrap_err();
        assert!(!error.to_string().is_empty());
    }
}

#[test]
fn damage_in_a_compressed_archive_is_found_wherever_it_is() {
    let plain = archive(|tar| {
        (0..50).for_each(|number| {
            add(
                tar,
                &format!("file-{number}"),
                &format!("{number} ").repeat(500),
            )
        });
    });
    for program in ["gzip", "bzip2", "xz", "zstd --no-progress"] {
        let mut child = std::process::Command::new("sh")
            .args(["-c", &format!("{program} -c")])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        let bytes = plain.clone();
        let writer = std::thread::spawn(move || input.write_all(&bytes));
        let whole = child.wait_with_output().unwrap().stdout;
        writer.join().unwrap().unwrap();
        let good = as_squashfs(&layers(std::slice::from_ref(&whole), false)).unwrap();
        // Not in the first bytes, which say when gzip made it, and by which system.
        for place in (whole.len() / 3..whole.len() - 12).step_by(whole.len() / 40) {
            let mut damaged = whole.clone();
            damaged[place] ^= 0x10;
            // Some bits mean nothing; gzip -t does not mind them either.
            if let Ok(found) = as_squashfs(&layers(&[damaged], false)) {
                assert_eq!(found, good, "{program}: byte {place} of {}", whole.len());
            }
            assert!(
                as_squashfs(&layers(&[whole[..place].to_vec()], false)).is_err(),
                "{program}: {place}"
            );
        }
    }
}

#[test]
fn a_million_members_are_no_more_than_the_tree_may_have() {
    let mut tree = crate::convert::tree::Tree::new(1000);
    let one = |number: u32| Member {
        path: format!("d/{number}").into_bytes(),
        kind: Kind::File,
        length: 0,
        attributes: crate::convert::member::Attributes::new(0o644),
    };
    let error = (0..1_000_000)
        .find_map(|number| tree.apply(&one(number)).err())
        .unwrap();
    assert_eq!(error.to_string(), "the image has too many files");
    assert!(tree.len() <= 1000);
}

#[test]
fn a_header_that_would_fill_the_memory_is_refused() {
    let mut long = header(tar::EntryType::GNULongName, 1 << 33);
    long.set_path("././@LongLink").unwrap();
    long.set_cksum();
    let mut bytes = long.as_bytes().to_vec();
    bytes.resize(16 << 20, b'x');
    for are_oci in [false, true] {
        let error = as_squashfs(&layers(&[bytes.clone(), bytes.clone()], are_oci)).unwrap_err();
        assert!(
            error.to_string().contains("a header in it is too long"),
            "{error}"
        );
    }
}
