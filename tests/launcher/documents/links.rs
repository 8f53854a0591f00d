//! Links, anchors, included files, and the list of the book's pages.

use std::path::{Component, Path, PathBuf};

use super::{Page, pages, read, repository};

/// The text without fenced blocks and code in lines, in which brackets mean nothing.
fn prose(text: &str) -> String {
    let mut is_code = false;
    let lines = text.lines().filter(|line| {
        let is_fence = line.starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    });
    let lines = lines.map(|line| line.split('`').step_by(2).collect::<Vec<_>>().join("``"));
    lines.collect::<Vec<_>>().join("\n")
}

/// The targets of `[text](target)`.
fn targets(text: &str) -> Vec<String> {
    let prose = prose(text);
    let rest = prose.split("](").skip(1);
    rest.filter_map(|rest| Some(rest.split_once(')')?.0.to_owned()))
        .collect()
}

/// A heading's anchor, as hosting sites and mdBook make it.
fn slug(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept
        .chars()
        .filter(|character| character.is_alphanumeric() || " -_".contains(*character));
    kept.map(|character| if character == ' ' { '-' } else { character })
        .collect()
}

fn has_anchor(text: &str, anchor: &str) -> bool {
    let mut is_code = false;
    text.lines().any(|line| {
        is_code ^= line.starts_with("```");
        !is_code && line.starts_with('#') && slug(line.trim_start_matches('#')) == anchor
    })
}

/// A path without `.` and `..`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => assert!(
                normal.pop(),
                "{} leads out of the repository",
                path.display()
            ),
            Component::CurDir => {}
            other => normal.push(other),
        }
    }
    normal
}

#[test]
fn every_relative_link_and_anchor_leads_somewhere() {
    let mut followed = 0;
    for Page { path, text } in pages() {
        let here = path.parent().unwrap();
        for target in targets(&text) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let to = match file {
                "" => path.clone(),
                file => normal(&here.join(file)),
            };
            assert!(
                repository().join(&to).exists(),
                "{}: {target}",
                path.display()
            );
            let is_in_book = |path: &Path| path.starts_with("docs");
            assert!(
                !is_in_book(&path) || is_in_book(&to),
                "{}: {target} is not in the book",
                path.display()
            );
            assert!(
                anchor.is_empty() || has_anchor(&read(to.to_str().unwrap()), anchor),
                "{}: there is no heading {target}",
                path.display()
            );
            followed += 1;
        }
    }
    assert!(followed > 60, "{followed}");
}

#[test]
fn what_pages_include_is_there() {
    for Page { path, text } in pages() {
        for name in text.split("{{#include ").skip(1) {
            let name = name.split_once("}}").unwrap().0;
            let (file, part) = name.split_once(':').unwrap_or((name, ""));
            let file = normal(&path.parent().unwrap().join(file));
            let included = read(file.to_str().unwrap());
            for mark in ["ANCHOR", "ANCHOR_END"] {
                assert!(
                    part.is_empty() || included.contains(&format!("{mark}: {part}")),
                    "{}: {name}",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn the_book_has_every_page_once() {
    let summary = read("docs/SUMMARY.md");
    let mut listed: Vec<_> = targets(&summary)
        .iter()
        .map(|name| Path::new("docs").join(name))
        .collect();
    let mut there: Vec<_> = pages().into_iter().map(|page| page.path).collect();
    there.retain(|path| path.starts_with("docs") && !path.ends_with("SUMMARY.md"));
    listed.sort();
    there.sort();
    assert_eq!(listed, there);
}

#[test]
fn files_of_the_repository_that_are_named_exist() {
    let is_path = |word: &&str| {
        let rooms = [
            "launcher/",
            "spank-plugin/",
            "tests/",
            "etc/",
            "docs/",
            ".ci/",
        ];
        let plain = |character: char| character.is_alphanumeric() || "/-_.".contains(character);
        rooms.iter().any(|room| word.starts_with(room)) && word.chars().all(plain)
    };
    let mut named = 0;
    for Page { path, text } in pages() {
        let words = text.split('`').skip(1).step_by(2);
        let words = words.filter_map(|code| code.split("::").next()?.split(' ').next());
        for word in words.filter(is_path) {
            assert!(
                repository().join(word).exists(),
                "{}: {word}",
                path.display()
            );
            named += 1;
        }
    }
    assert!(named > 60, "{named}");
}
