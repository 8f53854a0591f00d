//! Foreign bytes into every parser, for a bounded time: nothing may panic, hang or take much memory. `cargo test`
//! makes them at random from good examples; `cargo bolero test NAME` has a fuzzer that learns, where one is
//! installed.

#![allow(clippy::disallowed_methods, reason = "tests make what they need")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{Cursor, Seek, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bolero::check;
use chariot::convert::archive::{self, Archive};
use chariot::convert::member::Source;
use chariot::convert::origin::{Origin, Which};
use chariot::convert::tree::Tree;
use chariot::convert::{Bounds, Layers, convert};
use chariot::image::metadata::{self, Mark};
use chariot::image::sif;
use chariot::image::squashfs::write::{Compression, Writer};
use chariot::oci::{self, Configuration, Digest, Document, SavedImage};
use chariot::options::edf::{Definition, Surroundings};
use chariot::registry::Reference;

/// How long each parser is tried.
const TIME: Duration = Duration::from_secs(3);

/// Changes to a good example: bytes at places, and a length to cut it to.
type Changes = (Vec<(u16, u8)>, Option<u16>);

fn changed(example: &[u8], (bytes, length): &Changes) -> Vec<u8> {
    let mut changed = example.to_vec();
    if let Some(length) = length {
        changed.truncate(usize::from(*length) % (example.len() + 1));
    }
    for (place, byte) in bytes {
        let place = usize::from(*place) % example.len();
        if let Some(slot) = changed.get_mut(place) {
            *slot = *byte;
        }
    }
    changed
}

fn file(bytes: &[u8]) -> std::fs::File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    file
}

#[test]
fn references() {
    check!()
        .with_test_time(TIME)
        .with_type::<String>()
        .for_each(|text| {
            if let Ok(reference) = Reference::parse(text) {
                let again =
                    Reference::parse(reference.to_string().trim_start_matches("docker:")).unwrap();
                assert_eq!(again, reference);
                assert!(
                    !reference.file_name().contains('/') && !reference.file_name().starts_with('.')
                );
            }
        });
    let example = format!(
        "//registry.example.org:5000/team/app-1.x:v1.2@sha256:{}",
        "0a".repeat(32)
    );
    check!()
        .with_test_time(TIME)
        .with_type::<Changes>()
        .for_each(|changes| {
            if let Ok(text) = String::from_utf8(changed(example.as_bytes(), changes)) {
                let _ = Reference::parse(&text);
            }
        });
}

#[test]
fn documents() {
    let digest = format!("sha256:{}", "1".repeat(64));
    let blob = format!(
        "{{\"digest\":\"{digest}\",\"size\":12,\"platform\":{{\"os\":\"linux\",\"architecture\":\"amd64\"}}}}"
    );
    let example = format!(
        "{{\"config\":{blob},\"layers\":[{blob},{blob}],\"manifests\":[{blob}],\"Config\":\"a.json\",\"Layers\":[\"x/layer.tar\"],\
         \"RepoTags\":[\"a:b\"],\"architecture\":\"amd64\"}}"
    );
    check!()
        .with_test_time(TIME)
        .with_type::<Changes>()
        .for_each(|changes| {
            let bytes = changed(example.as_bytes(), changes);
            if let Ok(Document::Index(manifests)) = Document::parse(&bytes) {
                let _ = oci::choose(&manifests);
            }
            let _ = serde_json::from_slice::<Configuration>(&bytes)
                .map(|read| Mark::of_configuration(&read));
            let _ = serde_json::from_slice::<SavedImage>(&bytes);
            let _ = serde_json::from_slice::<Mark>(&bytes);
            let _ = Digest::parse(&String::from_utf8_lossy(&bytes));
            let _ = metadata::assignments(&bytes);
        });
}

/// What an environment file says, sorted, and its rendering.
fn values_of(place: &Path, text: &[u8]) -> Option<(Vec<(String, String)>, String)> {
    let around = Surroundings {
        directories: &[],
        here: place,
        variable: &|name| (name == "Y").then(|| "y".to_owned()),
        entrypoint: false,
    };
    std::fs::write(place.join("e.toml"), text).unwrap();
    let definition = Definition::load("./e.toml", &around).ok()?;
    let values = definition.entries.iter();
    let mut values: Vec<_> = values
        .map(|entry| (entry.key.clone(), entry.value.clone()))
        .collect();
    values.sort();
    Some((values, definition.lines().join("\n")))
}

#[test]
fn environment_files() {
    let example = "image = 'a\\b\"c'\nbase_environment = ''\nmounts = [\"/a${X:-y}:/b:ro\", './c:/d$$']\nwritable = true\n\
                   [env]\nA = \"t\\tab\"\n'b c' = 'é'\n[annotations.x.y]\nz = 'w'\n";
    let place = tempfile::tempdir().unwrap();
    let path = place.path().to_owned();
    let load = move |text: &[u8]| values_of(&path, text);
    assert!(load(example.as_bytes()).is_some());
    check!()
        .with_test_time(TIME)
        .with_type::<Changes>()
        .for_each(|changes| {
            if let Some((values, rendered)) = load(&changed(example.as_bytes(), changes)) {
                let (again, _) = load(rendered.as_bytes()).unwrap();
                assert_eq!(again, values, "{rendered}");
            }
        });
}

#[test]
fn sif_headers() {
    let mut example = b"#!/usr/bin/env run-singularity\n\0SIF_MAGIC\x0001\x0002\0".to_vec();
    example.resize(4096, 0);
    check!()
        .with_test_time(TIME)
        .with_type::<Changes>()
        .for_each(|changes| {
            let bytes = changed(&example, changes);
            let _ = sif::is_sif(&bytes);
            let _ = sif::system_partition(&file(&bytes));
        });
}

/// An archive with one member of each kind.
fn example_archive() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |name: &str, kind: tar::EntryType, link: &str, contents: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o755);
        header.set_size(contents.len() as u64);
        match link {
            "" => tar
                .append_data(&mut header, name, Cursor::new(contents))
                .unwrap(),
            link => tar.append_link(&mut header, name, link).unwrap(),
        }
    };
    add("dir/", tar::EntryType::Directory, "", b"");
    add("dir/file", tar::EntryType::Regular, "", b"contents");
    add("hard", tar::EntryType::Link, "dir/file", b"");
    add("soft", tar::EntryType::Symlink, "dir", b"");
    add("soft/below", tar::EntryType::Regular, "", b"x");
    add(&"long/".repeat(40), tar::EntryType::Regular, "", b"long");
    add("dir/.wh.file", tar::EntryType::Regular, "", b"");
    tar.append_pax_extensions([
        ("SCHILY.xattr.user.a", b"b".as_slice()),
        ("GNU.sparse.map", b"0,1,5,1"),
    ])
    .unwrap();
    tar.into_inner().unwrap()
}

#[test]
fn archives() {
    let example = example_archive();
    check!()
        .with_test_time(TIME)
        .with_type::<Changes>()
        .for_each(|changes| {
            let bytes = changed(&example, changes);
            let _ = archive::is_archive(&bytes);
            for are_oci in [false, true] {
                let length = bytes.len() as u64;
                let source = || -> Box<dyn Source> {
                    Box::new(Archive::new(file(&bytes), 0, Some(length), Arc::default()))
                };
                let layers = Layers {
                    sources: vec![source(), source()],
                    are_oci,
                    changes: None,
                };
                let mut target = Writer::new(
                    tempfile::tempfile().unwrap(),
                    Compression::parse("lz4").unwrap(),
                )
                .unwrap();
                let bounds = Bounds {
                    most_bytes: 1 << 20,
                    tick: &mut |_| Ok(()),
                };
                let _ = convert(&layers, &Mark::default(), &mut target, bounds);
            }
        });
}

#[test]
fn what_an_archive_is_taken_for() {
    let example = {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, text) in [
            ("oci-layout", "{}".to_owned()),
            (
                "index.json",
                format!(
                    "{{\"manifests\":[{{\"digest\":\"sha256:{}\",\"size\":3}}]}}",
                    "2".repeat(64)
                ),
            ),
            (
                "manifest.json",
                "[{\"Config\":\"c.json\",\"Layers\":[\"l\"]}]".to_owned(),
            ),
            ("c.json", "{\"config\":{\"Env\":[\"A=1\"]}}".to_owned()),
            ("l", "x".to_owned()),
        ] {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, name, Cursor::new(text))
                .unwrap();
        }
        tar.into_inner().unwrap()
    };
    check!()
        .with_test_time(TIME)
        .with_type::<Changes>()
        .for_each(|changes| {
            let _ = Origin::of_archive(
                file(&changed(&example, changes)),
                None,
                &Which::Only,
                &std::env::temp_dir,
                1 << 20,
            );
        });
}

#[test]
fn trees_stay_trees() {
    use chariot::convert::member::{Attributes, Kind, Member};
    type Given = Vec<(u8, Vec<u8>, Vec<u8>)>;
    check!()
        .with_test_time(TIME)
        .with_type::<Given>()
        .for_each(|members| {
            let mut tree = Tree::new(1000);
            for (kind, path, target) in members {
                // Few names, so that they meet.
                let words = |bytes: &[u8]| -> Vec<u8> {
                    let word = |byte: &u8| {
                        [
                            b"a".as_slice(),
                            b"b",
                            b"..",
                            b".wh.a",
                            b".wh..wh..opq",
                            b"",
                            b"c",
                        ][usize::from(byte % 7)]
                    };
                    bytes
                        .iter()
                        .take(6)
                        .map(word)
                        .collect::<Vec<_>>()
                        .join(&b'/')
                };
                let member = Member {
                    path: words(path),
                    kind: match kind % 4 {
                        0 => Kind::Directory,
                        1 => Kind::File,
                        2 => Kind::Symlink(words(target)),
                        _ => Kind::Link(words(target)),
                    },
                    length: 0,
                    attributes: Attributes::default(),
                };
                if kind % 11 == 0 {
                    tree.next_layer(true);
                }
                let _ = tree.apply(&member);
            }
            let mut seen = 0;
            tree.walk_all(&mut |number, path| {
                assert!(tree.inode(number).links > 0);
                assert!(
                    !path
                        .split(|byte| *byte == b'/')
                        .any(|name| name.is_empty() || name == b"..")
                );
                seen += 1;
                assert!(seen <= 100_000, "a circle");
                Ok(())
            })
            .unwrap();
        });
}
