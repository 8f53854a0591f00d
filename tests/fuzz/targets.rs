//! The parsers, each as a function of bytes with examples of what it is for. Who calls it says which bytes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chariot::cdi::{elf, ld_cache, spec};
use chariot::convert::archive::{self, Archive};
use chariot::convert::compression;
use chariot::convert::member::Source;
use chariot::convert::origin::{Origin, Which};
use chariot::convert::to_squashfs::{Compression, Writer};
use chariot::convert::{Bounds, Layers, convert};
use chariot::files::maker;
use chariot::host_commands::call::Call;
use chariot::image::metadata::{self, Mark};
use chariot::image::squashfs::{Kind, Position, SquashFs};
use chariot::oci::{self, Configuration, Digest, Document, Reference, SavedImage};
use chariot::registry::{answer::Answer, challenge};
use chariot_core::config::Config;
use chariot_core::edf::{Definition, Surroundings};
use chariot_core::handover::{self, Said};
use chariot_core::options::{bind, device, given, size};
use chariot_core::sif;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;

use crate::examples;

/// A parser.
pub(crate) struct Target {
    /// Also of the directory in which its seeds lie.
    pub(crate) name: &'static str,
    /// Must come back, whatever the bytes are.
    pub(crate) run: fn(&[u8]),
    /// What it is made for.
    pub(crate) examples: fn() -> Vec<Vec<u8>>,
}

impl Target {
    /// Examples, and what was found in earlier runs.
    pub(crate) fn seeds(&self) -> Vec<Vec<u8>> {
        let seeds = examples::top().join("tests/corpus/fuzz").join(self.name);
        let files = fs::read_dir(seeds).into_iter().flatten();
        let mut paths: Vec<PathBuf> = files.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        let mut seeds = (self.examples)();
        seeds.extend(paths.iter().map(|path| fs::read(path).unwrap()));
        seeds
    }
}

/// Each of them.
pub(crate) const ALL: &[Target] = &[
    Target {
        name: "archive",
        run: archive,
        examples: examples::archives,
    },
    Target {
        name: "cdi",
        run: cdi,
        examples: examples::cdi,
    },
    Target {
        name: "compression",
        run: compression,
        examples: examples::compressed,
    },
    Target {
        name: "documents",
        run: documents,
        examples: examples::documents,
    },
    Target {
        name: "edf",
        run: edf,
        examples: examples::edf,
    },
    Target {
        name: "elf",
        run: elf,
        examples: examples::elf,
    },
    Target {
        name: "handover",
        run: handover,
        examples: examples::handover,
    },
    Target {
        name: "ld_cache",
        run: ld_cache,
        examples: examples::ld_cache,
    },
    Target {
        name: "makers",
        run: makers,
        examples: examples::makers,
    },
    Target {
        name: "options",
        run: options,
        examples: examples::options,
    },
    Target {
        name: "references",
        run: references,
        examples: examples::references,
    },
    Target {
        name: "registry",
        run: registry,
        examples: examples::registry,
    },
    Target {
        name: "saved",
        run: saved,
        examples: examples::saved,
    },
    Target {
        name: "sif",
        run: sif,
        examples: examples::sif,
    },
    Target {
        name: "site",
        run: site,
        examples: examples::site,
    },
    Target {
        name: "squashfs",
        run: squashfs,
        examples: examples::squashfs,
    },
];

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    file
}

fn archive(bytes: &[u8]) {
    let _ = archive::is_archive(bytes);
    for are_oci in [false, true] {
        let source = || -> Box<dyn Source> {
            let length = bytes.len() as u64;
            Box::new(Archive::new(file(bytes), 0, Some(length), Arc::default()))
        };
        let layers = Layers {
            sources: vec![source(), source()],
            are_oci,
            changes: None,
        };
        let how = Compression::parse("lz4").unwrap();
        let mut target = Writer::new(tempfile::tempfile().unwrap(), how).unwrap();
        let bounds = Bounds {
            most_bytes: 1 << 20,
            tick: &mut |_| Ok(()),
        };
        let _ = convert(&layers, &Mark::default(), &mut target, bounds);
    }
}

fn cdi(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        for is_json in [false, true] {
            let _ = spec::Spec::parse(text, is_json);
        }
    }
}

fn compression(bytes: &[u8]) {
    if let Ok(source) = compression::decompressed(std::io::Cursor::new(bytes.to_vec())) {
        let _ = source.take(1 << 20).read_to_end(&mut Vec::new());
    }
}

fn documents(bytes: &[u8]) {
    if let Ok(Document::Index(manifests)) = Document::parse(bytes) {
        let _ = oci::choose(&manifests);
    }
    let _ = serde_json::from_slice::<Configuration>(bytes)
        .map(|read| (Mark::of_configuration(&read), read.layers(2)));
    let _ = serde_json::from_slice::<SavedImage>(bytes);
    let _ = serde_json::from_slice::<Mark>(bytes);
    let _ = Digest::parse(&String::from_utf8_lossy(bytes));
    let _ = metadata::assignments(bytes);
}

/// What is read and printed again says the same.
fn edf(bytes: &[u8]) {
    let place = tempfile::tempdir().unwrap();
    let load = |text: &[u8]| {
        let around = Surroundings {
            directories: &[],
            here: place.path(),
            variable: &|name| (name == "Y").then(|| "y".to_owned()),
            entrypoint: false,
        };
        fs::write(place.path().join("e.toml"), text).unwrap();
        let definition = Definition::load("./e.toml", &around).ok()?;
        let values = definition.entries.iter();
        let mut values: Vec<_> = values
            .map(|entry| (entry.key.clone(), entry.value.clone()))
            .collect();
        values.sort();
        Some((values, definition.lines().join("\n")))
    };
    if let Some((values, rendered)) = load(bytes) {
        let (again, _) = load(rendered.as_bytes()).unwrap();
        assert_eq!(again, values, "{rendered}");
    }
}

fn elf(bytes: &[u8]) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    let _ = elf::read(file.path());
}

/// What was written is read as it was.
fn handover(bytes: &[u8]) {
    fn again<T: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) {
        if let Ok(message) = handover::open::<T>(bytes) {
            assert_eq!(
                handover::open::<T>(&handover::seal(&message)).unwrap(),
                message
            );
        }
    }
    again::<handover::Request>(bytes);
    again::<handover::Record>(bytes);
    again::<handover::Before>(bytes);
    again::<Call>(bytes);
    let _ = handover::writer(bytes);
    if let Some(said) = std::str::from_utf8(bytes)
        .ok()
        .and_then(handover::read_line::<Said>)
    {
        assert_eq!(handover::read_line(&handover::line(&said)), Some(said));
    }
}

fn ld_cache(bytes: &[u8]) {
    if let Some(mut cache) = ld_cache::Cache::parse(bytes) {
        cache.prepend(vec![ld_cache::Entry::new("libx.so.1", "/lib/libx.so.1", 3)]);
        assert_eq!(ld_cache::Cache::parse(&cache.encode()).unwrap(), cache);
    }
}

fn makers(bytes: &[u8]) {
    if let Some((role, maker)) = maker::read(OsStr::from_bytes(bytes), None) {
        let now = std::time::SystemTime::now();
        let _ = maker.is_gone(now, now);
        let name = maker.name(OsStr::new("x"), role);
        assert_eq!(
            maker::read(&name, Some(OsStr::new("x"))),
            Some((role, maker))
        );
    }
}

fn options(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let _ = bind::parse_list(text, Path::new("/here"));
    let _ = device::parse(text);
    let _ = size::parse(text);
    let _ = given::decode(text);
}

fn references(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(reference) = Reference::parse(text) {
        let again = reference.to_string();
        let again = again.trim_start_matches("docker:");
        assert_eq!(Reference::parse(again).unwrap(), reference);
        let name = reference.file_name();
        assert!(!name.contains('/') && !name.starts_with('.'));
    }
}

fn registry(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let _ = challenge::offered(text.lines());
    if let Some(answer) = handover::read_line::<Answer>(text) {
        let _ = answer.of(&Reference::parse("//h.example/a:1").unwrap());
    }
}

fn saved(bytes: &[u8]) {
    let place = std::env::temp_dir;
    let _ = Origin::of_archive(file(bytes), None, &Which::Only, &place, 1 << 20);
}

fn sif(bytes: &[u8]) {
    let _ = sif::is_sif(bytes);
    let _ = sif::system_partition(&file(bytes));
}

fn site(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = Config::parse(text);
    }
}

/// How many entries of directories are looked at in one image.
const MOST_LISTED: u32 = 20_000;

/// Looks at everything in an image, as far as it can be read. A damaged one can have a directory in itself.
fn squashfs(bytes: &[u8]) {
    let Ok(image) = SquashFs::open(file(bytes), 0, bytes.len() as u64, 16 << 20) else {
        return;
    };
    let mut waiting: Vec<_> = image.root().into_iter().collect();
    let mut seen = std::collections::HashSet::new();
    let mut listed = 0;
    while let Some(inode) = waiting.pop() {
        let _ = image.owner(&inode);
        let _ = image.xattrs(&inode);
        match inode.kind {
            Kind::Directory => {
                let entries = image.entries(&inode, Position::default());
                // A thousand directories can all have the same ten thousand entries.
                for entry in entries.into_iter().flatten().flatten() {
                    listed += 1;
                    if listed > MOST_LISTED {
                        return;
                    }
                    let number = image.number_of(&entry);
                    let _ = image.inode(number);
                    if let Ok(inode) = image.inode_of(&entry)
                        && seen.len() < 1000
                        && seen.insert(number)
                    {
                        waiting.push(inode);
                    }
                }
                let _ = image.lookup(&inode, b"file");
            }
            Kind::File => {
                for offset in [0, 4096, inode.size / 2, inode.size.saturating_sub(1)] {
                    let _ = image.read(&inode, offset, 8192);
                }
            }
            Kind::Symlink => drop(image.target(&inode)),
            _ => {}
        }
    }
}
