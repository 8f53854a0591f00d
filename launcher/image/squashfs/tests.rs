//! The reader against trees that mksquashfs(1) packed.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

mod damaged;
mod lzo;

use super::*;

const MEMORY: u64 = 16 << 20;

fn open(path: &Path) -> Result<SquashFs> {
    let file = File::open(path).unwrap();
    let length = file.metadata().unwrap().len();
    SquashFs::open(file, 0, length, MEMORY)
}

fn corpus(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/corpus")
        .join(name)
}

/// A file that lies in memory.
fn in_memory(bytes: &[u8]) -> File {
    File::from(chariot_core::sys::memory_file_of(c"image", bytes).unwrap())
}

/// Looks at everything in an image, as far as it can be read; gives the number of files. A damaged image can
/// have a directory in itself, so a file is looked at once.
fn walk(image: &SquashFs) -> usize {
    let mut seen = HashSet::new();
    let mut waiting: Vec<Inode> = image.root().into_iter().collect();
    let mut files = 0;
    while let Some(inode) = waiting.pop() {
        files += 1;
        let _ = image.owner(&inode);
        let _ = image.xattrs(&inode);
        match inode.kind {
            Kind::Directory => {
                for entry in image
                    .entries(&inode, Position::default())
                    .into_iter()
                    .flatten()
                    .flatten()
                {
                    let _ = image.inode(image.number_of(&entry));
                    if let Ok(inode) = image.inode_of(&entry)
                        && seen.insert(entry.reference.0)
                    {
                        waiting.push(inode);
                    }
                }
                let _ = image.lookup(&inode, b"file-with-a-longer-name-150");
            }
            Kind::File => {
                for offset in [0, 4096, 8191, inode.size / 2, inode.size.saturating_sub(1)] {
                    let _ = image.read(&inode, offset, 8192);
                }
            }
            Kind::Symlink => drop(image.target(&inode)),
            _ => {}
        }
    }
    files
}

#[test]
fn images_of_every_compressor_hold_what_was_packed() {
    for name in ["gzip", "lzo", "xz", "lz4", "zstd", "plain"] {
        let image = open(&corpus(&format!("{name}.sqfs"))).unwrap();
        assert_eq!(walk(&image), 311, "{name}");
        let find = |path: &str, follow| image.find(Path::new(path), follow).unwrap().unwrap();
        let hello = find("/a/hello", true);
        assert_eq!(image.read(&hello, 0, 100).unwrap(), b"hello\n");
        assert_eq!(
            (hello.links, hello.modified, hello.permissions),
            (2, 1_000_000_000, 0o644)
        );
        assert_eq!(image.owner(&hello).unwrap(), (12, 34));
        assert_eq!(
            image.xattrs(&hello).unwrap(),
            [(b"user.note".to_vec(), b"value".to_vec())]
        );
        for path in ["/a/b/again", "/a/b/link", "/abs", "../../a/../abs"] {
            assert_eq!(find(path, true).number, hello.number, "{path}");
        }
        assert_eq!(find("/abs", false).kind, Kind::Symlink);
        assert_eq!(
            image.target(&find("/a/b/link", false)).unwrap(),
            b"../hello"
        );
        assert_eq!(find("/a/random", true).permissions, 0o4755);
        assert_eq!(
            image.xattrs(&find("/a/random", true)).unwrap()[0].1.len(),
            3000
        );
        let sparse = image.read(&find("/a/sparse", true), 0, 30_000).unwrap();
        assert_eq!((sparse.len(), sparse[20_000]), (20_001, b'x'));
        assert!(sparse[..20_000].iter().all(|byte| *byte == 0));
        let null = find("/a/null", true);
        assert_eq!((null.kind, null.device), (Kind::CharacterDevice, 0x103));
        assert_eq!(find("/a/fifo", true).kind, Kind::Fifo);
        for path in [
            "/a/nothing",
            "/a/hello/below",
            "/many/file-with-a-longer-name-301",
        ] {
            assert!(
                image.find(Path::new(path), true).unwrap().is_none(),
                "{path}"
            );
        }
        for number in 1..=300 {
            let file = find(&format!("/many/file-with-a-longer-name-{number}"), true);
            assert_eq!(
                image.read(&file, 0, 10).unwrap(),
                format!("{number}\n").into_bytes()
            );
        }
    }
}

#[test]
fn a_directory_can_be_read_on_from_each_of_its_positions() {
    let image = open(&corpus("gzip.sqfs")).unwrap();
    let many = image.find(Path::new("/many"), true).unwrap().unwrap();
    let all: Vec<Entry> = image
        .entries(&many, Position::default())
        .unwrap()
        .map(|entry| entry.unwrap())
        .collect();
    assert_eq!(all.len(), 300);
    for (index, entry) in all.iter().enumerate() {
        let rest: Vec<Entry> = image
            .entries(&many, entry.after)
            .unwrap()
            .map(|entry| entry.unwrap())
            .collect();
        assert_eq!(rest, all[index + 1..], "after {index}");
    }
}

/// Packs a tree; false where mksquashfs(1) is not installed.
fn packed(tree: &Path, path: &Path, options: &[&str]) -> bool {
    let packed = Command::new("mksquashfs")
        .args([tree, path])
        .args(["-quiet", "-no-progress", "-noappend"])
        .args(options)
        .output();
    let Ok(packed) = packed else {
        assert!(
            std::env::var_os("CHARIOT_MUST_WORK").is_none(),
            "mksquashfs is not installed"
        );
        return false;
    };
    assert!(packed.status.success(), "{packed:?}");
    true
}

/// Compares a tree with what the reader finds.
fn compare(image: &SquashFs, tree: &Path, path: &Path, inode: &Inode) {
    let data = tree.join(path).symlink_metadata().unwrap();
    let shown = path.display();
    assert_eq!(
        u32::from(inode.permissions),
        data.mode() & 0o7777,
        "{shown}"
    );
    assert_eq!(i64::from(inode.modified), data.mtime(), "{shown}");
    assert_eq!(
        image.owner(inode).unwrap(),
        (data.uid(), data.gid()),
        "{shown}"
    );
    match inode.kind {
        Kind::Directory => {
            let mut names: Vec<_> = std::fs::read_dir(tree.join(path))
                .unwrap()
                .map(|entry| entry.unwrap().file_name())
                .collect();
            names.sort();
            let entries = image.entries(inode, Position::default()).unwrap();
            let entries: Vec<Entry> = entries.map(|entry| entry.unwrap()).collect();
            let found: Vec<_> = entries.iter().map(|entry| entry.name.clone()).collect();
            let names: Vec<_> = names
                .iter()
                .map(|name| name.as_encoded_bytes().to_vec())
                .collect();
            assert_eq!(found, names, "{shown}");
            for entry in entries {
                use std::os::unix::ffi::OsStrExt;
                let path = path.join(std::ffi::OsStr::from_bytes(&entry.name));
                let inode = image.inode_of(&entry).unwrap();
                assert_eq!(
                    image.inode(image.number_of(&entry)).unwrap().number,
                    inode.number
                );
                compare(image, tree, &path, &inode);
            }
        }
        Kind::File => {
            assert_eq!(u64::from(inode.links), data.nlink(), "{shown}");
            let bytes = image.read(inode, 0, usize::MAX).unwrap();
            assert!(bytes == std::fs::read(tree.join(path)).unwrap(), "{shown}");
        }
        Kind::Symlink => {
            let target = std::fs::read_link(tree.join(path)).unwrap();
            assert_eq!(
                image.target(inode).unwrap(),
                target.as_os_str().as_encoded_bytes(),
                "{shown}"
            );
        }
        _ => {}
    }
}

#[test]
fn every_file_of_a_packed_tree_is_read_as_it_was() {
    let place = tempfile::tempdir().unwrap();
    let tree = place.path().join("tree");
    std::fs::create_dir_all(tree.join("deep/er")).unwrap();
    let text = |length: usize, seed: usize| -> Vec<u8> {
        (0..length)
            .map(|at| ((at * at / 7 + at / 97 * seed) % 251) as u8)
            .collect()
    };
    // Around the sizes of blocks and fragments, and large enough for several segments of a list of blocks.
    for (seed, length) in [
        0, 1, 4095, 4096, 4097, 131_071, 131_072, 131_073, 300_000, 9_000_000,
    ]
    .into_iter()
    .enumerate()
    {
        std::fs::write(tree.join(format!("file-{length}")), text(length, seed)).unwrap();
    }
    std::fs::hard_link(tree.join("file-1"), tree.join("deep/er/one")).unwrap();
    std::os::unix::fs::symlink("../file-4096", tree.join("deep/link")).unwrap();
    let mut sparse = text(50_000, 3);
    sparse.resize(1_000_000, 0);
    sparse.extend(text(10, 4));
    std::fs::write(tree.join("sparse"), sparse).unwrap();
    for number in 0..2000 {
        std::fs::write(tree.join(format!("deep/er/{number}")), number.to_string()).unwrap();
    }
    let options: [&[&str]; 9] = [
        &["-comp", "gzip"],
        // As enroot packs.
        &["-comp", "lzo", "-noD"],
        &["-comp", "xz"],
        &["-comp", "lz4"],
        &["-comp", "zstd"],
        &["-comp", "zstd", "-b", "1M"],
        &["-comp", "gzip", "-b", "4K"],
        &["-comp", "zstd", "-no-fragments"],
        &["-comp", "lz4", "-tailends", "-no-exports"],
    ];
    for (index, options) in options.into_iter().enumerate() {
        let path = place.path().join(format!("{index}.sqfs"));
        if !packed(&tree, &path, options) {
            return;
        }
        let image = open(&path).unwrap();
        compare(&image, &tree, Path::new(""), &image.root().unwrap());
    }
}

#[test]
fn a_directory_of_a_hundred_thousand_entries_is_listed_and_searched() {
    let place = tempfile::tempdir().unwrap();
    let names: Vec<String> = (0..100_000)
        .map(|number| format!("entry-{number}"))
        .collect();
    let tree = place.path().join("tree");
    std::fs::create_dir(&tree).unwrap();
    for name in &names {
        File::create(tree.join(name)).unwrap();
    }
    let path = place.path().join("large.sqfs");
    if !packed(&tree, &path, &[]) {
        return;
    }
    let image = open(&path).unwrap();
    let root = image.root().unwrap();
    assert_eq!(
        image
            .entries(&root, Position::default())
            .unwrap()
            .flatten()
            .count(),
        names.len()
    );
    for name in names.iter().step_by(997) {
        assert!(
            image.lookup(&root, name.as_bytes()).unwrap().is_some(),
            "{name}"
        );
    }
    assert!(image.lookup(&root, b"entry-100000").unwrap().is_none());
}

#[test]
fn an_image_inside_of_another_file_is_read_as_one_by_itself() {
    let inner = std::fs::read(corpus("zstd.sqfs")).unwrap();
    let mut outer = vec![0x7f; 32_768];
    outer.extend(&inner);
    outer.extend([0x7f; 5000]);
    let image = SquashFs::open(in_memory(&outer), 32_768, inner.len() as u64, MEMORY).unwrap();
    assert_eq!(walk(&image), 311);
}
