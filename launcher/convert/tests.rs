//! From one form into another, and back: what comes out is what went in.

mod ends;
mod hostile;
mod kinds;
mod layers;
mod random;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use std::sync::Arc;

use super::archive::Archive;
use super::directory::Directory;
use super::member::{Kind, Member, Source};
use super::to_archive::ToArchive;
use super::to_directory::ToDirectory;
use super::{Bounds, Layers, Summary, Target, convert, squashfs};
use crate::convert::to_squashfs::{Compression, Writer};
use crate::image::metadata::Mark;
use crate::image::squashfs::SquashFs;

/// A tar archive that is written member by member.
fn archive(write: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    write(&mut builder);
    builder.into_inner().unwrap()
}

fn header(kind: tar::EntryType, size: usize) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(if kind == tar::EntryType::Directory {
        0o755
    } else {
        0o644
    });
    header.set_mtime(1_000_000);
    header.set_size(size as u64);
    header
}

fn add(builder: &mut tar::Builder<Vec<u8>>, path: &str, contents: &str) {
    let mut header = header(tar::EntryType::Regular, contents.len());
    // As it stands: the crate itself refuses names that archives can have.
    header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
    header.set_cksum();
    builder.append(&header, contents.as_bytes()).unwrap();
}

fn add_link(builder: &mut tar::Builder<Vec<u8>>, kind: tar::EntryType, path: &str, target: &str) {
    let mut header = header(kind, 0);
    header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
    header.as_gnu_mut().unwrap().linkname[..target.len()].copy_from_slice(target.as_bytes());
    header.set_cksum();
    builder.append(&header, io::empty()).unwrap();
}

fn memory(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    file
}

fn layers(archives: &[Vec<u8>], are_oci: bool) -> Layers {
    let source = |bytes: &Vec<u8>| -> Box<dyn Source> {
        let length = bytes.len() as u64;
        Box::new(Archive::new(memory(bytes), 0, Some(length), Arc::default()))
    };
    Layers {
        sources: archives.iter().map(source).collect(),
        are_oci,
        changes: None,
    }
}

fn run(layers: &Layers, target: &mut dyn Target) -> io::Result<Summary> {
    let bounds = Bounds {
        most_bytes: 8 << 20,
        tick: &mut |_| Ok(()),
    };
    convert(layers, &Mark::default(), target, bounds)
}

/// What an image holds: each path with what is there, links with their targets, files with contents.
type Contents = BTreeMap<String, String>;

fn contents(source: &dyn Source) -> Contents {
    let mut all = Contents::new();
    source
        .each(&mut |member: Member, reader: &mut dyn Read| {
            let path = String::from_utf8_lossy(&member.path)
                .trim_start_matches('/')
                .to_owned();
            let shown = match member.kind {
                Kind::Directory => format!("d {:o}", member.attributes.permissions),
                Kind::File => {
                    let mut text = Vec::new();
                    reader.read_to_end(&mut text)?;
                    assert_eq!(text.len() as u64, member.length);
                    format!("f {:o} {}", member.attributes.permissions, told(&text))
                }
                Kind::Symlink(target) => format!("l {}", String::from_utf8_lossy(&target)),
                Kind::Link(target) => {
                    let target = String::from_utf8_lossy(&target)
                        .trim_start_matches('/')
                        .to_owned();
                    all[&target].clone()
                }
                kind => format!("{kind:?}"),
            };
            all.insert(path, shown);
            Ok(())
        })
        .unwrap();
    all.retain(|path, _| !path.starts_with(".chariot/image") && !matches!(path.as_str(), "" | "."));
    all
}

/// Text as it is, or how long it is if it is no pleasure to read.
fn told(text: &[u8]) -> String {
    match text.len() {
        0..100 => String::from_utf8_lossy(text).into_owned(),
        length => format!("{length} bytes, {}", crate::oci::Digest::of(text)),
    }
}

fn as_squashfs(layers: &Layers) -> io::Result<Contents> {
    let file = tempfile::tempfile().unwrap();
    run(
        layers,
        &mut Writer::new(file.try_clone()?, Compression::parse("zstd:1").unwrap())?,
    )?;
    let length = file.metadata()?.len();
    let image = SquashFs::open(file, 0, length, 64 << 20).unwrap();
    Ok(contents(&squashfs::Image::new(
        Arc::new(image),
        Path::new("image"),
    )))
}

fn as_directory(layers: &Layers, root: &Path) -> io::Result<Contents> {
    let confined = crate::files::confined::Confined::pretend(root);
    run(layers, &mut ToDirectory::new(confined, 0))?;
    Ok(contents(&Directory::new(root)))
}

fn as_archive(layers: &Layers) -> io::Result<Contents> {
    let mut target = ToArchive::new(Vec::new());
    run(layers, &mut target)?;
    let bytes = target.into_inner()?;
    Ok(contents(layers_of(&bytes).as_ref()))
}

fn layers_of(bytes: &[u8]) -> Box<dyn Source> {
    layers(&[bytes.to_vec()], false).sources.remove(0)
}

/// The same from every target.
#[track_caller]
fn everywhere(layers: &Layers) -> Contents {
    let place = tempfile::tempdir().unwrap();
    let tree = as_directory(layers, place.path()).unwrap();
    assert_eq!(tree, as_squashfs(layers).unwrap());
    assert_eq!(tree, as_archive(layers).unwrap());
    tree
}

#[test]
fn every_target_gets_the_same_files() {
    let bytes = archive(|tar| {
        add(tar, "./usr/bin/a", "one");
        add(tar, "etc/empty", "");
        add(tar, "big", &"block ".repeat(100_000));
        add_link(tar, tar::EntryType::Link, "usr/bin/b", "usr/bin/a");
        add_link(tar, tar::EntryType::Symlink, "bin", "usr/bin");
        add(tar, "twice", "first");
        add(tar, "twice", "last");
        add(tar, "was-file", "x");
        add_link(tar, tar::EntryType::Symlink, "was-file", "big");
        add_link(tar, tar::EntryType::Char, "dev/null", "");
    });
    let found = everywhere(&layers(&[bytes], false));
    assert_eq!(found["usr/bin/a"], "f 644 one");
    assert_eq!(found["usr/bin/b"], "f 644 one");
    assert_eq!(found["bin"], "l usr/bin");
    assert_eq!(found["twice"], "f 644 last");
    assert_eq!(found["was-file"], "l big");
    assert_eq!(found["tmp"], "d 1777");
    assert_eq!(found["etc/hosts"], "f 644 ");
    assert!(found["big"].starts_with("f 644 600000 bytes"));
    assert!(!found.contains_key("dev/null"));
}

#[test]
fn whiteouts_take_away_what_is_below_and_nothing_else() {
    let lower = archive(|tar| {
        add(tar, "a/gone", "1");
        add(tar, "a/stays", "1");
        add(tar, "b/all", "1");
        add(tar, "b/of/it", "1");
        add(tar, "c/linked", "below");
        add_link(tar, tar::EntryType::Symlink, "lib", "usr/lib");
        add(tar, "usr/lib/x", "1");
    });
    let upper = archive(|tar| {
        add(tar, "a/.wh.gone", "");
        add(tar, "b/new", "2");
        add(tar, "b/.wh..wh..opq", "");
        add_link(tar, tar::EntryType::Link, "c/other", "c/linked");
        add(tar, "c/.wh.linked", "");
        // As some builders write them: below a path that a lower layer has as a link.
        add(tar, "lib/y", "2");
        add(tar, ".wh.nothing", "");
    });
    let found = everywhere(&layers(&[lower.clone(), upper], true));
    for gone in ["a/gone", "b/all", "b/of", "c/linked", ".wh.nothing"] {
        assert!(!found.contains_key(gone), "{gone}: {found:?}");
    }
    assert_eq!(found["a/stays"], "f 644 1");
    assert_eq!(found["b/new"], "f 644 2");
    assert_eq!(found["c/other"], "f 644 below");
    assert_eq!(found["usr/lib/y"], "f 644 2");
    assert_eq!(found["lib"], "l usr/lib");
    // Three layers, and a directory in the place of a file.
    let third = archive(|tar| add(tar, "a/stays/deep", "3"));
    let error = as_squashfs(&layers(&[lower, third], true)).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("a/stays/deep: a file is in the place"),
        "{error}"
    );
}

#[test]
fn holes_of_sparse_files_are_zeroes_in_every_form_of_them() {
    let place = tempfile::tempdir().unwrap();
    let sparse = File::create(place.path().join("sparse")).unwrap();
    use std::os::unix::fs::FileExt;
    sparse.write_all_at(b"start", 0).unwrap();
    sparse.write_all_at(b"middle", 3 << 20).unwrap();
    sparse.set_len(5 << 20).unwrap();
    for format in [
        "gnu",
        "posix",
        "posix --sparse-version=0.1",
        "posix --sparse-version=0.0",
    ] {
        let script = format!(
            "tar -C {} --format={format} -Scf - sparse",
            place.path().display()
        );
        let output = std::process::Command::new("sh")
            .args(["-c", &script])
            .output()
            .unwrap();
        assert!(
            output.status.success() && output.stdout.len() < 200_000,
            "{format}"
        );
        let found = as_squashfs(&layers(&[output.stdout], false)).unwrap();
        let whole = fs::read(place.path().join("sparse")).unwrap();
        assert_eq!(
            found["sparse"],
            format!("f 644 {}", told(&whole)),
            "{format}"
        );
    }
}

#[test]
fn an_archive_that_was_made_one_level_too_high_is_lifted() {
    let bytes = archive(|tar| {
        add(tar, "image/image/x", "1");
        add(tar, "image/etc/y", "2");
    });
    let found = everywhere(&layers(&[bytes], false));
    assert_eq!(found["image/x"], "f 644 1");
    assert_eq!(found["etc/y"], "f 644 2");
}

#[test]
fn a_mark_survives_conversions_and_says_where_the_image_came_from() {
    let mark = Mark {
        source: "docker://h/a:1".into(),
        entrypoint: vec!["/run".into()],
        ..Mark::default()
    };
    let text = serde_json::to_string(&mark).unwrap();
    let bytes = archive(|tar| add(tar, ".chariot/image.json", &text));
    let place = tempfile::tempdir().unwrap();
    as_directory(&layers(&[bytes], false), place.path()).unwrap();
    let read = fs::read(place.path().join(crate::image::metadata::MARK)).unwrap();
    let read: Mark = serde_json::from_slice(&read).unwrap();
    let expected = Mark {
        time: read.time,
        tree: read.tree.clone(),
        ..mark
    };
    assert_eq!(read, expected);
}

#[test]
fn images_of_each_compression_can_be_read_and_large_directories_have_an_index() {
    let bytes = archive(|tar| {
        (0..5000)
            .for_each(|number| add(tar, &format!("many/file-with-a-long-name-{number:05}"), "x"));
        add(tar, "blocks", &"0123456789abcdef".repeat(40_000));
    });
    for name in ["zstd:1", "gzip:1", "xz:1", "lz4"] {
        let file = tempfile::tempfile().unwrap();
        let how = Compression::parse(name).unwrap();
        run(
            &layers(std::slice::from_ref(&bytes), false),
            &mut Writer::new(file.try_clone().unwrap(), how).unwrap(),
        )
        .unwrap();
        let length = file.metadata().unwrap().len();
        let image = SquashFs::open(file, 0, length, 64 << 20).unwrap();
        for path in [
            "many/file-with-a-long-name-00000",
            "many/file-with-a-long-name-04321",
            "many/file-with-a-long-name-04999",
        ] {
            let inode = image.find(Path::new(path), true).unwrap().unwrap();
            assert_eq!(image.read(&inode, 0, 10).unwrap(), b"x", "{name} {path}");
        }
        assert!(
            image
                .find(Path::new("many/file-with-a-long-name-05000"), true)
                .unwrap()
                .is_none()
        );
        let inode = image.find(Path::new("blocks"), true).unwrap().unwrap();
        assert_eq!(
            image.read(&inode, 639_990, 100).unwrap(),
            b"6789abcdef",
            "{name}"
        );
    }
}

#[test]
fn extended_attributes_go_along() {
    let bytes = archive(|tar| {
        tar.append_pax_extensions([
            ("SCHILY.xattr.user.note", b"kept".as_slice()),
            ("SCHILY.xattr.security.capability", b"not"),
        ])
        .unwrap();
        add(tar, "file", "x");
    });
    let file = tempfile::tempfile().unwrap();
    let how = Compression::default();
    run(
        &layers(&[bytes], false),
        &mut Writer::new(file.try_clone().unwrap(), how).unwrap(),
    )
    .unwrap();
    let length = file.metadata().unwrap().len();
    let image = Arc::new(SquashFs::open(file, 0, length, 64 << 20).unwrap());
    let inode = image.find(Path::new("file"), true).unwrap().unwrap();
    assert_eq!(
        image.xattrs(&inode).unwrap(),
        [(b"user.note".to_vec(), b"kept".to_vec())]
    );
    let again = Layers {
        sources: vec![Box::new(squashfs::Image::new(image, Path::new("image")))],
        are_oci: false,
        changes: None,
    };
    let mut target = ToArchive::new(Vec::new());
    run(&again, &mut target).unwrap();
    let mut found = Vec::new();
    layers_of(&target.into_inner().unwrap())
        .each(&mut |member, _| {
            found.extend(member.attributes.xattrs);
            Ok(())
        })
        .unwrap();
    assert_eq!(found, [(b"user.note".to_vec(), b"kept".to_vec())]);
}
