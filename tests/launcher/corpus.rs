//! Archives and images as other tools write them by default, against a reader that is not Chariot's: `tests/corpus/make` made
//! them and says how, `tests/corpus/listing` reads them.

use std::path::Path;

use crate::{Place, place};

/// A function of a script: `same WORD KIND WHERE [NUMBER]` unpacks what a word names and compares it with what the
/// other reader finds. No umask, since the other reader has none.
const SAME: &str = "umask 0; same() { word=$1; shift; rm -rf tree; $C unpack --quiet \"$word\" tree && $L \"$@\" >theirs && \
     $L tree tree >ours && [ -s theirs ] && diff theirs ours >differences || { echo \"$word is not what $* is:\"; cat differences; }; }; ";

fn corpus() -> String {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.join("tests/corpus").display().to_string()
}

/// All archives of a kind, by path.
fn archives(kind: &str) -> Vec<String> {
    let place = format!("{}/archives", corpus());
    let entries = std::fs::read_dir(place).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path().display().to_string());
    let mut paths: Vec<_> = paths
        .filter(|path| path.contains(&format!("/archives/{kind}.")))
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "{kind}");
    paths
}

/// Compares, and says nothing if all is the same.
#[track_caller]
fn compare(place: &Place, script: &str) {
    let said = place.run(&format!("L={}/listing; {SAME}{script}", corpus()));
    assert_eq!(
        (said.out.as_str(), said.err.as_str()),
        ("", ""),
        "{said:#?}"
    );
}

/// The first of an archive's images, if it has several.
fn first(path: &str) -> &'static str {
    match path.contains("of-two") {
        true => ":@0",
        false => "",
    }
}

#[test]
fn archives_of_file_systems_are_what_another_reader_finds_in_them() {
    let place = place!();
    for path in archives("flat") {
        compare(&place, &format!("same {path} flat {path}"));
    }
}

#[test]
fn images_that_enroot_packs_are_what_another_reader_finds_in_them() {
    let place = place!();
    for path in archives("squashfs") {
        compare(&place, &format!("same {path} squashfs {path}"));
    }
}

#[test]
fn archives_of_images_are_read_with_the_word_that_says_what_they_are_and_without() {
    let place = place!();
    for kind in ["docker-archive", "oci-archive"] {
        for path in archives(kind) {
            compare(
                &place,
                &format!("same {kind}:{path}{} {kind} {path}", first(&path)),
            );
            if first(&path).is_empty() {
                compare(&place, &format!("same {path} {kind} {path}"));
            }
        }
    }
}

#[test]
fn directories_of_images_are_read_with_the_word_that_says_what_they_are_and_without() {
    let place = place!();
    for (kind, word) in [("layout", "oci"), ("dir", "dir")] {
        for path in archives(kind) {
            let unpack = format!("rm -rf place; mkdir place; tar -C place -xf {path}; ");
            compare(&place, &format!("{unpack}same {word}:place {kind} place"));
            compare(&place, &format!("{unpack}same ./place {kind} place"));
            if word == "oci" {
                let name = "example.org/team/app:1";
                compare(
                    &place,
                    &format!("{unpack}same {word}:place:{name} {kind} place"),
                );
            }
        }
    }
}

#[test]
fn archives_of_each_kind_can_come_through_a_pipe() {
    let place = place!();
    for kind in ["flat", "docker-archive", "oci-archive"] {
        for path in archives(kind) {
            if !first(&path).is_empty() {
                continue;
            }
            let pipe = "rm -rf pipes; mkdir pipes; mkfifo pipes/pipe; cat";
            compare(
                &place,
                &format!("{pipe} {path} >pipes/pipe & same ./pipes/pipe {kind} {path}"),
            );
            if kind != "flat" {
                compare(
                    &place,
                    &format!("{pipe} {path} >pipes/pipe & same {kind}:pipes/pipe {kind} {path}"),
                );
            }
        }
    }
}

#[test]
fn a_name_or_a_number_behind_the_path_chooses_among_several_images() {
    let place = place!();
    let [docker, podman] = ["docker-new-of-two.tar.gz", "podman-of-two.tar"]
        .map(|name| format!("{}/archives/docker-archive.{name}", corpus()));
    for (word, number) in [
        (format!("docker-archive:{docker}:example.org/team/app:1"), 0),
        (
            format!("docker-archive:{docker}:example.org/team/app1:1"),
            1,
        ),
        (format!("oci-archive:{docker}:example.org/team/app1:1"), 1),
        (format!("oci-archive:{docker}:@1"), 1),
        (format!("docker-archive:{podman}:localhost/app0:latest"), 0),
        (format!("docker-archive:{podman}:localhost/app1"), 1),
        (format!("docker-archive:{podman}:@1"), 1),
    ] {
        let said = place.run(&format!("$C inspect {word} | grep -o NUMBER=."));
        assert_eq!(said.ok(), format!("NUMBER={number}"), "{word}");
    }
    for (word, sentence) in [
        (docker.clone(), "there are several images in it"),
        (
            format!("docker-archive:{podman}"),
            "there are several images in it",
        ),
        (
            format!("docker-archive:{podman}:@2"),
            "there is no image @2 in it",
        ),
        (
            format!("docker-archive:{podman}:other"),
            "there is no image other in it",
        ),
        (
            format!("oci-archive:{docker}:1"),
            "there is more than one image 1 in it",
        ),
    ] {
        let said = place.run(&format!("$C pack --quiet {word} out.sqfs"));
        said.failed(125, sentence, 1);
    }
}

#[test]
fn the_word_before_the_colon_is_believed_and_not_overruled() {
    let place = place!();
    let at = |name: &str| format!("{}/archives/{name}", corpus());
    for (word, sentence) in [
        (
            format!("oci-archive:{}", at("docker-archive.crane.tar")),
            "not oci-archive",
        ),
        (
            format!("docker-archive:{}", at("oci-archive.skopeo.tar")),
            "not docker-archive",
        ),
        (
            format!("docker-archive:{}", at("flat.bsdtar.tar.gz")),
            "can't understand manifest.json",
        ),
        ("docker-archive:img".into(), "is a directory"),
        ("dir:img".into(), "not a directory made by dir:"),
        ("oci:img".into(), "it is not an OCI layout"),
        (
            format!("oci:{}", at("oci-archive.skopeo.tar")),
            "is not a directory",
        ),
        (
            "docker-archive:missing.tar:a/b:1".into(),
            "missing.tar\"): No such file",
        ),
        (
            "library://sylabs/alpine".into(),
            "does not know what library: means",
        ),
        (
            "containers-storage:localhost/a".into(),
            "does not know what containers-storage:",
        ),
    ] {
        let said = place.run(&format!("$C pack --quiet {word} out.sqfs"));
        said.failed(125, sentence, 1);
        let said = place.run(&format!("$C run {word} -- echo ran"));
        said.failed(125, sentence, 1);
    }
}

#[test]
fn what_comes_through_a_pipe_can_become_an_archive_too() {
    let place = place!();
    for path in archives("flat") {
        // An archive says where everything is before the first file, so its source is read twice.
        let script = format!(
            "cat {path} | $C export --quiet /dev/stdin out.tar; same ./out.tar flat {path}"
        );
        compare(&place, &script);
    }
}
