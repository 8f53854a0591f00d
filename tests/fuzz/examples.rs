//! What each parser is made for: bytes to begin with.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::ffi::OsStr;
use std::io::{Cursor, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use chariot::cdi::ld_cache;
use chariot::files::maker::{Maker, Role};
use chariot::host_commands::call::Call;
use chariot_core::handover::{Record, Request, seal};

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// The top of the repository, of whichever of its packages this is.
pub(crate) fn top() -> &'static Path {
    let place = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut above = place.ancestors();
    above
        .find(|path| path.join("tests/corpus").is_dir())
        .unwrap()
}

/// Files of the repository, from its top on.
fn files(names: &[&str]) -> Vec<Vec<u8>> {
    let read = |name: &&str| std::fs::read(top().join(name)).unwrap();
    names.iter().map(read).collect()
}

/// An archive with one member of each kind.
pub(crate) fn archives() -> Vec<Vec<u8>> {
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
    vec![tar.into_inner().unwrap()]
}

pub(crate) fn cdi() -> Vec<Vec<u8>> {
    texts(&[
        "{\"cdiVersion\":\"1.1.0\",\"kind\":\"example.org/net\",\"annotations\":{\"a\":\"b\"},\"devices\":[{\"name\":\"a\",\
         \"containerEdits\":{\"env\":[\"A=1\"],\"deviceNodes\":[{\"path\":\"/dev/a\",\"hostPath\":\"/dev/null\",\"permissions\":\"rw\"}],\
         \"mounts\":[{\"hostPath\":\"/a\",\"containerPath\":\"/b\",\"options\":[\"ro\",\"bind\"]}]}}],\
         \"containerEdits\":{\"hooks\":[{\"hookName\":\"createContainer\",\"path\":\"/h\",\"args\":[\"h\",\"x\"],\"timeout\":3}]}}",
        "cdiVersion: 0.6.0\nkind: nvidia.com/gpu\ndevices:\n- name: all\n  containerEdits:\n    deviceNodes:\n    - path: /dev/nvidia0\n\
         containerEdits:\n  env: [A=b]\n  hooks:\n  - {hookName: createContainer, path: /usr/bin/x, args: [x, update-ldcache, --folder, /l]}\n",
    ])
}

pub(crate) fn compressed() -> Vec<Vec<u8>> {
    let text = "what is compressed, and compressed again. ".repeat(20);
    let text = text.as_bytes();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(text).unwrap();
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bzip2.write_all(text).unwrap();
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 6);
    xz.write_all(text).unwrap();
    let mut skippable = b"\x50\x2a\x4d\x18\x04\0\0\0skip".to_vec();
    let zstd = zstd::encode_all(text, 3).unwrap();
    skippable.extend(&zstd);
    vec![
        gzip.finish().unwrap(),
        bzip2.finish().unwrap(),
        xz.finish().unwrap(),
        zstd,
        skippable,
    ]
}

pub(crate) fn documents() -> Vec<Vec<u8>> {
    let digest = format!("sha256:{}", "1".repeat(64));
    let blob = format!(
        "{{\"digest\":\"{digest}\",\"size\":12,\"platform\":{{\"os\":\"linux\",\"architecture\":\"amd64\"}}}}"
    );
    texts(&[
        &format!(
            "{{\"config\":{blob},\"layers\":[{blob},{blob}],\"manifests\":[{blob}],\"Config\":\"a.json\",\"Layers\":[\"x/layer.tar\"],\
             \"RepoTags\":[\"a:b\"],\"architecture\":\"amd64\"}}"
        ),
        &format!("{{\"schemaVersion\":2,\"manifests\":[{blob},{blob}]}}"),
        &format!(
            "{{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":{{\"Env\":[\"A=b\"],\"Entrypoint\":[\"/e\"],\
                  \"Cmd\":[\"x\"],\"WorkingDir\":\"/w\",\"Labels\":{{\"a\":\"b\"}}}},\"rootfs\":{{\"type\":\"layers\",\
                  \"diff_ids\":[\"{digest}\",\"{digest}\"]}},\"history\":[{{\"empty_layer\":true}}]}}"
        ),
        "A=b\nexport C='d e'\n# no\nF=\"g\\\"h\"\n",
    ])
}

pub(crate) fn edf() -> Vec<Vec<u8>> {
    texts(&[
        "image = 'a\\b\"c'\nbase_environment = ''\nmounts = [\"/a${X:-y}:/b:ro\", './c:/d$$']\nwritable = true\n\
         [env]\nA = \"t\\tab\"\n'b c' = 'é'\n[annotations.x.y]\nz = 'w'\n",
    ])
}

/// A shared library with a name, as small as one can be: headers, a dynamic section and its strings.
pub(crate) fn elf() -> Vec<Vec<u8>> {
    let mut bytes = vec![0; 64 + 2 * 56];
    bytes[..20].copy_from_slice(&[
        0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 62, 0,
    ]);
    bytes[20] = 1;
    bytes[32] = 64;
    bytes[52..58].copy_from_slice(&[64, 0, 56, 0, 2, 0]);
    let dynamic = bytes.len() as u64;
    let strings = dynamic + 4 * 16;
    let end = strings + 16;
    let mut segment = |number: usize, kind: u32, start: u64, length: u64| {
        let at = 64 + number * 56;
        bytes[at..at + 4].copy_from_slice(&kind.to_le_bytes());
        for (place, value) in [
            (8, start),
            (16, start),
            (24, start),
            (32, length),
            (40, length),
        ] {
            bytes[at + place..at + place + 8].copy_from_slice(&value.to_le_bytes());
        }
    };
    segment(0, 1, 0, end);
    segment(1, 2, dynamic, 4 * 16);
    for (tag, value) in [(5_u64, strings), (10, 16), (14, 1), (0, 0)] {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(value.to_le_bytes());
    }
    bytes.extend(b"\0libexample.so.1");
    vec![bytes]
}

pub(crate) fn handover() -> Vec<Vec<u8>> {
    let request = Request {
        options: "image\t/i.sqfs".into(),
        config: "/etc/chariot.toml".into(),
        script: Some("/s".into()),
        scratch: Some("/t".into()),
        slurm: Some("/u".into()),
        mounted: Some("1 2".into()),
        command: vec!["true".into()],
        environment: vec![("A".into(), "b".into())],
    };
    let record = Record {
        workdir: "/w".into(),
        entrypoint: vec!["/e".into()],
        fakeroot: true,
        image: "/i".into(),
        digest: Some("sha256:1".into()),
        kind: "squashfs".into(),
        ..Record::default()
    };
    // Its other fields are nobody's but the caller's.
    let mut messages = vec![seal(&request), seal(&record), seal(&Call::default())];
    messages.push(br#"{"failed":{"sentence":"a","hint":null,"code":125}}"#.to_vec());
    messages
}

pub(crate) fn ld_cache() -> Vec<Vec<u8>> {
    let mut cache = ld_cache::Cache::default();
    cache.prepend(vec![
        ld_cache::Entry::new("liba.so.1", "/usr/lib/liba.so.1", 0x0303),
        ld_cache::Entry::new("libb.so", "/usr/lib/libb.so", 0x0303),
    ]);
    vec![cache.encode()]
}

pub(crate) fn makers() -> Vec<Vec<u8>> {
    [Role::Part, Role::Old]
        .map(|role| Maker::this().name(OsStr::new("image.sqfs"), role))
        .map(|name| name.as_bytes().to_vec())
        .to_vec()
}

pub(crate) fn options() -> Vec<Vec<u8>> {
    texts(&[
        "/a:/b:ro,tmpfs:/c:size=1G,./d:/e,/f.sqfs:/g:sqsh,/h?:/i",
        "nvidia.com/gpu=all",
        "16G",
        "image\t/i.sqfs\nbind\t/a:/b\n",
    ])
}

pub(crate) fn references() -> Vec<Vec<u8>> {
    let digest = "0a".repeat(32);
    texts(&[
        &format!("//registry.example.org:5000/team/app-1.x:v1.2@sha256:{digest}"),
        "debian:13",
        "docker://team/app",
    ])
}

pub(crate) fn registry() -> Vec<Vec<u8>> {
    let digest = format!("sha256:{}", "1".repeat(64));
    let blob = format!("{{\"digest\":\"{digest}\",\"size\":7}}");
    texts(&[
        "Bearer realm=\"https://a.example/token\",service=\"a, b\",scope=\"repository:x:pull\"",
        &format!("+{digest} {{\"config\":{blob},\"layers\":[{blob}]}}"),
        "-no such image\tlook elsewhere",
        "?no answer\t",
    ])
}

/// An archive as docker and an OCI layout's have it, in one.
pub(crate) fn saved() -> Vec<Vec<u8>> {
    let index = format!(
        "{{\"manifests\":[{{\"digest\":\"sha256:{}\",\"size\":3}}]}}",
        "2".repeat(64)
    );
    let mut tar = tar::Builder::new(Vec::new());
    for (name, text) in [
        ("oci-layout", "{}"),
        ("index.json", &index),
        (
            "manifest.json",
            "[{\"Config\":\"c.json\",\"Layers\":[\"l\"]}]",
        ),
        ("c.json", "{\"config\":{\"Env\":[\"A=1\"]}}"),
        ("l", "x"),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, Cursor::new(text))
            .unwrap();
    }
    vec![tar.into_inner().unwrap()]
}

/// The head with one descriptor: a file system on the system's partition.
pub(crate) fn sif() -> Vec<Vec<u8>> {
    let mut bytes = b"#!/usr/bin/env run-singularity\n\0SIF_MAGIC\x0001\x0002\0".to_vec();
    bytes.resize(128 + 585, 0);
    let mut put = |at: usize, number: u64| bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
    put(88, 1);
    put(96, 128);
    put(128, 1 << 32 | 0x4004);
    put(128 + 17, 600);
    put(128 + 25, 64);
    put(128 + 201, 1);
    put(128 + 205, 2);
    vec![bytes]
}

pub(crate) fn site() -> Vec<Vec<u8>> {
    files(&["etc/chariot.toml"])
}

pub(crate) fn squashfs() -> Vec<Vec<u8>> {
    ["gzip", "lz4", "lzo", "plain", "zstd"]
        .map(|name| files(&[&format!("tests/corpus/{name}.sqfs")]).remove(0))
        .to_vec()
}
