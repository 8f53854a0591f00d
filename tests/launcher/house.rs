//! What the folders promise: doors open one way, calls are made where they are said to be, and nothing that Slurm loads
//! depends on how it is built.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The crates, by the folder that each has; what lies in one lies in none above it.
const CRATES: [&str; 3] = ["launcher/core", "spank-plugin", "launcher"];

/// One file of the program, without its tests and comments.
struct Source {
    path: PathBuf,
    /// The first folder or file below its crate's: the room that it is in.
    room: String,
    text: String,
}

/// All files of a crate.
fn sources(folder: &str) -> Vec<Source> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let top = repository.join(folder);
    let mut found = Vec::new();
    let mut folders = vec![top.clone()];
    while let Some(place) = folders.pop() {
        for entry in std::fs::read_dir(place).unwrap() {
            let path = entry.unwrap().path();
            let is_of_another = CRATES.iter().any(|other| {
                *other != folder && path == repository.join(other) && path.starts_with(&top)
            });
            if path.is_dir() {
                if !is_of_another && !path.ends_with("tests") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|kind| kind == "rs")
                && !path.ends_with("tests.rs")
            {
                let text = std::fs::read_to_string(&path).unwrap();
                let text = text
                    .split("#[cfg(test)]\nmod tests")
                    .next()
                    .unwrap_or_default();
                let uncommented =
                    |line: &str| line.split("//").next().unwrap_or_default().to_owned();
                let below = path.strip_prefix(&top).unwrap();
                let room = below.iter().next().unwrap().to_string_lossy();
                found.push(Source {
                    room: room.trim_end_matches(".rs").to_owned(),
                    text: text.lines().map(uncommented).collect::<Vec<_>>().join("\n"),
                    path: path.strip_prefix(repository).unwrap().to_owned(),
                });
            }
        }
    }
    assert!(found.len() > 10, "{folder}");
    found
}

/// The rooms of its crate that a file names: `crate::ROOM…` and `crate::{ROOM…, ROOM…}`.
fn doors(text: &str) -> BTreeSet<String> {
    let mut doors = BTreeSet::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        let is_whole =
            !text[..at].ends_with(|letter: char| letter.is_alphanumeric() || letter == '_');
        if !is_whole {
            continue;
        }
        let name = |text: &str| -> String {
            let is_part = |letter: &char| letter.is_alphanumeric() || *letter == '_';
            text.trim_start().chars().take_while(is_part).collect()
        };
        match rest.strip_prefix('{') {
            None => doors.extend([name(rest)]),
            Some(group) => {
                let mut depth = 0;
                let end = group.find('}').map_or(group.len(), |_| {
                    group
                        .char_indices()
                        .find(|(_, letter)| {
                            depth += i32::from(*letter == '{') - i32::from(*letter == '}');
                            depth < 0
                        })
                        .map_or(group.len(), |(at, _)| at)
                });
                let mut inner = 0;
                let parts = group[..end].split(|letter: char| {
                    inner += i32::from(letter == '{') - i32::from(letter == '}');
                    letter == ',' && inner == 0
                });
                doors.extend(parts.map(name));
            }
        }
    }
    doors
}

/// A circle that `room` is on, if there is one.
fn circle(room: &str, rooms: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    let mut ways = vec![vec![room.to_owned()]];
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop() {
        for next in way
            .last()
            .and_then(|last| rooms.get(last))
            .into_iter()
            .flatten()
        {
            if next == room {
                return Some(way);
            }
            if rooms.contains_key(next) && seen.insert(next.clone()) {
                ways.push([&way[..], std::slice::from_ref(next)].concat());
            }
        }
    }
    None
}

#[test]
fn no_two_rooms_need_each_other() {
    for folder in CRATES {
        let mut rooms: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for source in sources(folder) {
            if matches!(source.room.as_str(), "lib" | "main") {
                continue;
            }
            let mut doors = doors(&source.text);
            doors.remove(&source.room);
            rooms.entry(source.room).or_default().extend(doors);
        }
        let circles: Vec<_> = rooms
            .keys()
            .filter_map(|room| circle(room, &rooms))
            .collect();
        assert!(circles.is_empty(), "{folder}: {circles:?}");
    }
}

#[test]
fn a_circle_would_be_seen() {
    let room = |name: &str, text: &str| (name.to_owned(), doors(text));
    let rooms = BTreeMap::from([
        room("a", "use crate::{b::{self, d}, c};"),
        room("b", "use chariot_core::a; crate::c::call()"),
        room("c", "use crate::a::X;"),
    ]);
    assert_eq!(rooms["a"], BTreeSet::from(["b".to_owned(), "c".to_owned()]));
    assert_eq!(rooms["b"], BTreeSet::from(["c".to_owned()]));
    assert!(circle("a", &rooms).is_some());
    assert!(
        circle(
            "a",
            &BTreeMap::from([room("a", "crate::b::x()"), room("b", "")])
        )
        .is_none()
    );
}

#[test]
fn what_slurm_loads_is_the_same_however_it_is_built() {
    for source in CRATES.iter().flat_map(|folder| sources(folder)) {
        let text = source.text.replace("target_feature", "");
        let is_free = !text.contains("feature = ");
        assert!(is_free, "{}", source.path.display());
    }
}

#[test]
fn only_the_rooms_of_calls_are_unsafe() {
    let may = |path: &Path| {
        path.starts_with("launcher/core/sys")
            || path.starts_with("spank-plugin/spank")
            || [
                "launcher/core/sys.rs",
                "spank-plugin/spank.rs",
                "spank-plugin/hooks.rs",
            ]
            .iter()
            .any(|allowed| path == Path::new(allowed))
    };
    for source in CRATES.iter().flat_map(|folder| sources(folder)) {
        let is_unsafe = source.text.contains("unsafe {") || source.text.contains("unsafe_code");
        assert!(!is_unsafe || may(&source.path), "{}", source.path.display());
        // hooks.rs exports symbols, which takes the lint away and no block.
        let has_block = source.text.contains("unsafe {");
        assert!(!(has_block && source.path.ends_with("hooks.rs")));
    }
}

/// All paths that a file's `use` declarations name, without groups: `use a::{b::{c, d}, e};` is a::b::c, a::b::d, a::e.
fn used(text: &str) -> Vec<String> {
    let declarations = text.split("use ").skip(1);
    let mut paths = Vec::new();
    for declaration in declarations {
        let declaration = declaration.split(';').next().unwrap_or_default();
        let flat: String = declaration.split_whitespace().collect();
        let (mut prefixes, mut part) = (vec![String::new()], String::new());
        for letter in flat.chars() {
            let prefix = prefixes.last().cloned().unwrap_or_default();
            match letter {
                '{' => prefixes.push(prefix + &std::mem::take(&mut part)),
                ',' | '}' => {
                    if !part.is_empty() {
                        paths.push(prefix + &std::mem::take(&mut part));
                    }
                    if letter == '}' {
                        prefixes.pop();
                    }
                }
                _ => part.push(letter),
            }
        }
        paths.extend((!part.is_empty()).then_some(part));
    }
    paths
}

#[test]
fn a_call_in_a_group_would_be_seen() {
    assert_eq!(
        used("use nix::{\n    sys::{socket, stat::Mode},\n    unistd::{self},\n};\nuse a::b;"),
        [
            "nix::sys::socket",
            "nix::sys::stat::Mode",
            "nix::unistd::self",
            "a::b"
        ]
    );
}

/// Of the crates for system calls, what may be named outside of the rooms that make them: errors, signals, and looking at
/// files by descriptor.
#[test]
fn processes_namespaces_and_mounts_are_changed_in_sys_alone() {
    let calls = [
        "nix::unistd::",
        "nix::sys::socket",
        "nix::sys::stat",
        "nix::sys::wait",
        "nix::sys::prctl",
        "nix::mount",
        "nix::sched",
        "rustix::process::",
        "rustix::thread::",
        "rustix::mount",
        "rustix::net",
        "libc::syscall",
    ];
    // A number of a process, as a type.
    let type_of_numbers = "nix::unistd::Pid";
    for source in CRATES.iter().flat_map(|folder| sources(folder)) {
        if source.path.starts_with("launcher/core/sys") || source.path.ends_with("sys.rs") {
            continue;
        }
        let text = source.text.clone() + &used(&source.text).join("\n");
        let text = text.replace(type_of_numbers, "");
        let called: Vec<_> = calls.iter().filter(|call| text.contains(**call)).collect();
        assert!(called.is_empty(), "{}: {called:?}", source.path.display());
    }
}

/// The crates that a package of this workspace is built with, without those of the workspace.
fn crates(package: &str) -> Option<usize> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = std::process::Command::new(cargo)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args([
            "tree",
            "--offline",
            "--locked",
            "--edges",
            "normal",
            "--prefix",
            "none",
        ])
        .args(["--package", package])
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let names = text.lines().filter_map(|line| line.split(' ').next());
    let names: BTreeSet<_> = names
        .filter(|name| !name.is_empty() && !name.starts_with("chariot"))
        .collect();
    output.status.success().then_some(names.len())
}

#[test]
fn what_an_auditor_has_to_read_is_as_much_as_the_document_says() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/architecture.md");
    let page = std::fs::read_to_string(page).unwrap();
    let number_before = |what: &str| -> usize {
        let at = page.find(what).unwrap_or_else(|| panic!("no \"{what}\""));
        let word = page[..at].split_whitespace().next_back().unwrap();
        word.replace(',', "").parse().unwrap()
    };
    let lines = |folder| -> usize {
        sources(folder)
            .iter()
            .map(|source| {
                std::fs::read_to_string(&source.path)
                    .unwrap()
                    .lines()
                    .count()
            })
            .sum()
    };
    let counted = lines("launcher/core") + lines("spank-plugin");
    let said = number_before("lines, their own tests");
    assert!(
        counted.abs_diff(said) * 20 < said,
        "{counted} lines, not {said}"
    );
    let (Some(plugin), Some(launcher), Some(spank)) = (
        crates("chariot-spank"),
        crates("chariot"),
        crates("slurm-spank"),
    ) else {
        crate::skip!("cargo cannot say which crates there are")
    };
    assert_eq!(number_before("other crates"), plugin);
    assert!(
        page.contains(&format!("slurm-spank brings {spank},")),
        "{spank}"
    );
    assert!(
        page.contains(&format!("The launcher has {launcher}.")),
        "{launcher}"
    );
}

#[test]
fn every_file_that_the_document_names_is_there() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(repository.join("docs/architecture.md")).unwrap();
    let is_part = |letter: char| letter.is_alphanumeric() || "/_-.".contains(letter);
    let words = page.split(|letter| !is_part(letter));
    let named: BTreeSet<_> = words
        .filter(|word| word.starts_with("launcher/") || word.starts_with("spank-plugin/"))
        .collect();
    assert!(named.len() > 30);
    for path in named {
        let is_there =
            repository.join(path).exists() || repository.join(format!("{path}.rs")).exists();
        assert!(is_there, "{path}");
    }
}
