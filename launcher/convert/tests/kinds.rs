//! What an archive is taken for, by all that is in it.

use super::*;
use crate::convert::origin::{Form, Origin, Which};
use crate::oci::Digest;

fn origin(bytes: &[u8], form: Option<Form>) -> chariot_core::error::Result<Origin> {
    let scratch = std::env::temp_dir;
    Origin::of_archive(memory(bytes), form, &Which::Only, &scratch, 64 << 20)
}

/// What is in an archive, and whether it was an image in layers.
#[track_caller]
fn found(bytes: &[u8]) -> (Contents, bool) {
    let layers = origin(bytes, None).unwrap().layers;
    (as_squashfs(&layers).unwrap(), layers.are_oci)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

fn add_bytes(tar: &mut tar::Builder<Vec<u8>>, path: &str, contents: &[u8]) {
    let mut header = header(tar::EntryType::Regular, contents.len());
    header.set_path(path).unwrap();
    header.set_cksum();
    tar.append(&header, contents).unwrap();
}

fn manifest(layer: &str) -> String {
    format!("[{{\"Config\":\"config\",\"RepoTags\":null,\"Layers\":[\"{layer}\"]}}]")
}

#[test]
fn a_file_system_with_the_files_of_an_image_is_a_file_system() {
    let layer = archive(|tar| add(tar, "file", "in a layer"));
    let lists = |tar: &mut tar::Builder<Vec<u8>>| {
        add(tar, "oci-layout", "{}");
        add(tar, "index.json", "{\"manifests\":[]}");
        add(tar, "manifest.json", &manifest("layer.tar"));
        add(tar, "config", "{}");
        add_bytes(tar, "layer.tar", &layer);
        add(tar, &format!("{}.json", "0a".repeat(32)), "{}");
    };
    for is_first in [true, false] {
        let bytes = archive(|tar| {
            if is_first {
                lists(tar);
            }
            add(tar, "./etc/hosts", "1");
            if !is_first {
                lists(tar);
            }
        });
        for bytes in [gzip(&bytes), bytes] {
            let (found, is_image) = found(&bytes);
            assert!(!is_image && found.contains_key("layer.tar"), "{found:?}");
            assert_eq!(found["etc/hosts"], "f 644 1");
        }
    }
    // Files that are only called so, and more of them than an image has.
    let bytes = archive(|tar| {
        add(tar, "manifest.json", "{\"short_name\": \"page\"}");
        add(tar, "index.json", "[]");
        (0..10_100).for_each(|number| add(tar, &format!("data-{number}"), ""));
    });
    let (found, is_image) = found(&bytes);
    assert!(!is_image && found.len() > 10_100);
}

#[test]
fn layers_may_have_any_name_and_be_links_to_others() {
    let layer = archive(|tar| add(tar, "file", "in a layer"));
    for (kind, target) in [
        (tar::EntryType::Link, "deep/one"),
        (tar::EntryType::Link, "./deep/one"),
        (tar::EntryType::Symlink, "one"),
        (tar::EntryType::Symlink, "../deep/./one"),
        (tar::EntryType::Symlink, "/deep/one"),
    ] {
        let bytes = archive(|tar| {
            add_bytes(tar, "deep/one", &layer);
            add_link(tar, kind, "deep/two", target);
            add(tar, "config", "{\"architecture\":\"\"}");
            add(tar, "manifest.json", &manifest("deep/two"));
        });
        for bytes in [gzip(&bytes), bytes] {
            let (found, is_image) = found(&bytes);
            assert!(is_image, "{target}");
            assert_eq!(found["file"], "f 644 in a layer");
        }
    }
}

#[test]
fn a_layer_with_holes_is_read_without() {
    let layer = archive(|tar| {
        add(tar, "file", "in a layer");
        add_bytes(tar, "zeroes", &vec![0; 300_000]);
    });
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    let diff_id = Digest::of(&layer);
    fs::write(at("dense"), &layer).unwrap();
    let config = format!("{{\"rootfs\":{{\"diff_ids\":[\"{diff_id}\"]}}}}");
    fs::write(at("config"), config).unwrap();
    fs::write(at("manifest.json"), manifest("layer.tar")).unwrap();
    for form in ["gnu", "posix"] {
        let script = format!(
            "cd {} && cp --sparse=always dense layer.tar && tar --format={form} -Scf - config layer.tar manifest.json",
            place.path().display()
        );
        let output = std::process::Command::new("sh")
            .args(["-c", &script])
            .output()
            .unwrap();
        assert!(output.stdout.len() < 100_000, "{form}: {output:?}");
        let (found, is_image) = found(&output.stdout);
        assert!(
            is_image && found["zeroes"].contains("300000 bytes"),
            "{form}"
        );
    }
}

#[test]
fn a_layer_that_the_archive_does_not_hold_whole_is_told() {
    let layer = archive(|tar| add(tar, "file", &"x".repeat(5000)));
    let whole = archive(|tar| {
        add(tar, "config", "{}");
        add(tar, "manifest.json", &manifest("layer.tar"));
        add_bytes(tar, "layer.tar", &layer);
    });
    let error = origin(&whole[..whole.len() - 4096], None).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("can't read layer.tar: the archive ends"),
        "{error}"
    );
    let error = origin(&layer, Some(Form::Layout)).unwrap_err();
    assert!(
        error.to_string().contains("there is no index.json in it"),
        "{error}"
    );
}
