//! How archives end, how they are cut short, and what they have to be.

use super::*;
use sha2::Digest as _;

use crate::oci::Digest;

/// Without what ends an archive: no blocks of zeroes, and no filling of the last block.
fn without_padding(mut bytes: Vec<u8>, left: usize) -> Vec<u8> {
    while bytes.last() == Some(&0) {
        bytes.pop();
    }
    bytes.truncate(bytes.len() - left);
    bytes
}

#[test]
fn an_archive_may_end_with_its_last_file() {
    let whole = archive(|tar| {
        add(tar, "a", "first");
        add(tar, "b", &"x".repeat(700));
    });
    for bytes in [
        without_padding(whole.clone(), 0),
        // The last block whole, and one block of zeroes where there should be two.
        whole[..512 * 5].to_vec(),
        whole[..512 * 6].to_vec(),
    ] {
        let found = everywhere(&layers(&[bytes], false));
        assert_eq!(found["a"], "f 644 first");
        assert!(found["b"].starts_with("f 644 700 bytes"));
    }
}

#[test]
fn a_file_that_is_cut_short_is_never_filled_up() {
    let whole = archive(|tar| add(tar, "b", &"x".repeat(700)));
    for missing in [1, 100, 188, 189, 700] {
        let bytes = without_padding(whole.clone(), missing);
        let error = as_squashfs(&layers(&[bytes], false)).unwrap_err();
        assert_eq!(
            error.kind(),
            io::ErrorKind::UnexpectedEof,
            "{missing}: {error}"
        );
    }
    // Nor is a header.
    let bytes = whole[..300].to_vec();
    let error = as_squashfs(&layers(&[bytes], false)).unwrap_err();
    assert!(error.to_string().contains("ends too early"), "{error}");
}

fn checked(bytes: &[u8], digest: &Digest, diff_id: &Digest) -> io::Result<Contents> {
    let layer = Archive::new(memory(bytes), 0, Some(bytes.len() as u64), Arc::default());
    let layer = layer
        .named("the layer x")
        .verified(digest.clone())
        .holding(Some(diff_id.clone()));
    as_squashfs(&Layers {
        sources: vec![Box::new(layer)],
        are_oci: true,
        changes: None,
    })
}

#[test]
fn a_layer_is_what_its_digest_and_the_configuration_say() {
    let plain = archive(|tar| add(tar, "a", "contents"));
    let compressed = zstd::encode_all(plain.as_slice(), 1).unwrap();
    let wide = Digest::parse(&format!(
        "sha512:{}",
        sha2::Sha512::digest(&compressed)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    ))
    .unwrap();
    let (digest, diff_id) = (Digest::of(&compressed), Digest::of(&plain));
    for digest in [&digest, &wide] {
        let found = checked(&compressed, digest, &diff_id).unwrap();
        assert_eq!(found["a"], "f 644 contents");
    }
    let error = checked(&compressed, &digest, &digest).unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("the layer x: ") && text.contains("configuration"),
        "{text}"
    );
    let error = checked(&compressed, &diff_id, &diff_id).unwrap_err();
    assert!(error.to_string().contains("is damaged"), "{error}");
}

#[test]
fn what_is_no_archive_is_told_with_the_name_of_the_layer() {
    let chart = b"apiVersion: v2\nname: chart\n".repeat(30);
    let digest = Digest::of(&chart);
    let error = checked(&chart, &digest, &digest).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the layer x: it is not a tar archive, or damaged"
    );
}

#[test]
fn the_kinds_of_members_that_only_gnu_tar_has_are_understood() {
    let bytes = archive(|tar| {
        add_link(tar, tar::EntryType::new(b'V'), "a label", "");
        let mut header = header(tar::EntryType::new(b'D'), 5);
        header.set_path("dir/").unwrap();
        header.set_cksum();
        tar.append(&header, &b"Yfile"[..]).unwrap();
        add(tar, "dir/file", "x");
        add(tar, "beside", "y");
    });
    let found = everywhere(&layers(&[bytes], false));
    assert!(found["dir"].starts_with("d "), "{found:?}");
    assert_eq!(found["dir/file"], "f 644 x");
    assert!(!found.contains_key("a label"));
}
