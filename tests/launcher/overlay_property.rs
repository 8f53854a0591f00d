//! What is in an overlay is the same wherever one looks: inside before the container's end, in the next container, and
//! in an image that is packed of it and unpacked again, after any sequence of changes.
//!
//! The changes are made by chance, from a seed that a failure names; `CHARIOT_TEST_SEED` has one made again, and
//! `CHARIOT_TEST_SECONDS` says how long to go on. `tree.c` makes them and lists what there is.
//!
//! Not compared is what Chariot mounts, with what lies in it, and the directory `/.chariot`. What the image has at a
//! mount point, link or file, must still be there in what is packed. (Packing adds empty mount points where there is none.)

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use crate::{Place, place, skip};

/// splitmix64, which is enough to choose by.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = self.0;
        number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((number ^ (number >> 31)) % limit as u64).unwrap()
    }

    fn of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }
}

/// Few names, so that changes meet.
const DIRECTORIES: [&str; 8] = ["", "/etc", "/opt", "/d", "/d/e", "/d/e/f", "/x", "/opt/y"];
const NAMES: [&str; 8] = ["a", "b", "d", "e", "f", "x", "y", "new"];
/// Where Chariot mounts something.
const POINTS: [&str; 6] = [
    "/etc/hosts",
    "/etc/resolv.conf",
    "/etc/machine-id",
    "/etc/localtime",
    "/etc/passwd",
    "/etc/group",
];
/// Everything can be read by its owner, who is to pack it.
const MODES: [&str; 6] = ["600", "644", "755", "700", "666", "1777"];
const WORDS: [&str; 15] = [
    "write", "write", "append", "mkdir", "mkdir", "rename", "rename", "swap", "link", "symlink",
    "remove", "remove", "chmod", "mark", "unmark",
];

fn way(chance: &mut Chance) -> String {
    match chance.below(12) {
        0 => chance.of(&POINTS).to_owned(),
        1 => chance.of(&["/etc", "/opt", "/d", "/d/e"]).to_owned(),
        _ => format!("{}/{}", chance.of(&DIRECTORIES), chance.of(&NAMES)),
    }
}

fn changes(chance: &mut Chance, count: usize) -> String {
    let mut text = String::new();
    for number in 0..count {
        let word = chance.of(&WORDS);
        let second = match word {
            "rename" | "swap" | "link" | "symlink" => way(chance),
            "chmod" => chance.of(&MODES).to_owned(),
            _ => format!("text{number}"),
        };
        writeln!(text, "{word} {} {second}", way(chance)).unwrap();
    }
    text
}

/// What makes an image: directories, some files with other names, and something at most of the mount points.
fn image(chance: &mut Chance) -> String {
    let mut text = String::from("mkdir /etc -\nmkdir /opt -\nmkdir /d -\nmkdir /d/e -\n");
    for point in POINTS {
        match chance.below(5) {
            0 => writeln!(text, "symlink {point} //usr/share/nowhere").unwrap(),
            1 => writeln!(text, "symlink {point} /../run/nothing/there").unwrap(),
            2 => writeln!(text, "symlink {point} /b").unwrap(),
            3 => writeln!(text, "write {point} root:x:0:0:root:/root:/bin/sh").unwrap(),
            _ => {}
        }
    }
    // Without /etc there would be a directory for mount points alone.
    let more = changes(chance, 60);
    let is_other = |line: &&str| line.split(' ').all(|part| part != "/etc");
    for line in more.lines().filter(is_other) {
        writeln!(text, "{line}").unwrap();
    }
    text
}

/// What a tree has, by its way.
type Listing = BTreeMap<String, String>;

fn listing(text: &str) -> Listing {
    let entry = |line: &str| {
        let path = line.split(' ').find(|part| part.starts_with('/'));
        (path.unwrap_or_default().to_owned(), line.to_owned())
    };
    text.lines().map(entry).collect()
}

fn points(of: &Listing) -> Vec<String> {
    let is_mount = |(_, line): &(&String, &String)| line.starts_with("M ");
    of.iter()
        .filter(is_mount)
        .map(|(path, _)| path.clone())
        .collect()
}

/// A listing without mount points, in which a file is known by the first of its names and not by its number.
fn without(of: &Listing, points: &[String]) -> Listing {
    let is_in = |path: &str| {
        points
            .iter()
            .any(|point| path == point || path.starts_with(&format!("{point}/")))
    };
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    let mut kept = Listing::new();
    for (path, line) in of.iter().filter(|(path, _)| !is_in(path)) {
        let line = match line.split_once(" = ") {
            Some((front, rest)) => {
                let (number, rest) = rest.split_once(' ').unwrap_or((rest, ""));
                let name = names
                    .entry(number.to_owned())
                    .or_insert_with(|| path.clone());
                format!("{front} = {name} {rest}")
            }
            None => line.clone(),
        };
        kept.insert(path.clone(), line);
    }
    kept
}

/// A listing that does not say which names are one file's: the kernel can give names of one file different numbers in
/// the container that made the second.
fn without_names(of: &Listing) -> Listing {
    let one = |(path, line): (&String, &String)| {
        let line = match line.split_once(" = ") {
            Some((front, rest)) => {
                let rest = rest.split_once(' ').map_or("", |(_, rest)| rest);
                format!("{front} {rest}")
            }
            None => line.clone(),
        };
        (path.clone(), line)
    };
    of.iter().map(one).collect()
}

#[track_caller]
fn assert_equal(what: &str, story: &str, left: &Listing, right: &Listing, but: &[String]) {
    let (left, right) = (without(left, but), without(right, but));
    let mut difference = String::new();
    for path in left.keys().chain(right.keys()) {
        if left.get(path) != right.get(path) && !difference.contains(&format!("{path}:")) {
            let (left, right) = (left.get(path), right.get(path));
            writeln!(difference, "{path}: {left:?}, and {what}: {right:?}").unwrap();
        }
    }
    assert!(difference.is_empty(), "{story}\n{difference}");
}

/// One image, its changes in several containers, and what is packed of them.
fn one(place: &Place, seed: u64) {
    let mut chance = Chance(seed);
    let here = place.here().to_str().unwrap();
    let run = |script: &str| {
        place.run(&format!(
            "H={here}; umask 0; cd / && C=\"$C\" && set -e; {script}"
        ))
    };
    let mut story = format!("CHARIOT_TEST_SEED={seed} has it made again");
    let file = |name: &str, text: &str| std::fs::write(place.here().join(name), text).unwrap();
    file("changes", &image(&mut chance));
    let kind = chance.of(&["img", "img.sqfs"]);
    run("mkdir $H/one $H/one/img $H/one/kept; $H/tools/tree do $H/one/img <$H/changes >/dev/null; cd $H/one; $C pack --quiet ./img img.sqfs").ok();
    let original = listing(&run("$H/tools/tree list $H/one/img").out);
    write!(story, "; in an image ({kind}) with\n{original:#?}").unwrap();
    let mut last = original.clone();
    let mut always: Option<Vec<String>> = None;
    for _ in 0..=chance.below(3) {
        let options = chance.of(&["", "--root", "--root --fakeroot"]);
        let text = changes(&mut chance, 30);
        write!(story, "\nwith {options} \n{text}").unwrap();
        file("changes", &text);
        let command = format!(
            "$C run {options} --overlay $H/one/kept --bind $H/tools:/tools $H/one/{kind} -- /tools/tree"
        );
        let said = run(&format!(
            "{command} list /; echo; {command} do / <$H/changes; echo; {command} list /"
        ));
        let seen: Vec<Listing> = said.ok().split("\n\n").map(listing).collect();
        let [before, after, next] = &seen[..] else {
            panic!("{said:#?} {story}");
        };
        // A directory at a mount point has nothing mounted on it, and may have been one only before.
        let mounted: Vec<String> = seen.iter().flat_map(points).collect();
        assert_equal("in the next container", &story, &last, before, &mounted);
        let (now, then) = (without_names(after), without_names(next));
        assert_equal("in the next container", &story, &now, &then, &mounted);
        last = listing(&packed(place, &story, kind));
        assert_equal("packed and unpacked", &story, next, &last, &mounted);
        for listing in &seen {
            let of_this = points(listing);
            let known = always.get_or_insert_with(|| of_this.clone());
            known.retain(|path| of_this.contains(path));
        }
    }
    for path in always.unwrap_or_default() {
        let name = |line: &String| line.split(" = ").next().unwrap_or_default().to_owned();
        // Where the image has nothing, what is packed has an empty mount point.
        if let Some(was) = original.get(&path).map(name) {
            assert_eq!(Some(was), last.get(&path).map(name), "{path}: {story}");
        }
    }
    run("chmod -R u+rwX $H/one; rm -rf $H/one $H/new.sqfs $H/new.tar").ok();
}

/// What is in an image that is packed of the overlay, by both ways.
fn packed(place: &Place, story: &str, kind: &str) -> String {
    let here = place.here().to_str().unwrap();
    let said = place.run(&format!(
        "H={here}; umask 0; cd / && set -e; for kind in sqfs tar; do \
         $C pack --quiet --overlay $H/one/kept $H/one/{kind} $H/new.$kind; \
         $C unpack --quiet $H/new.$kind $H/one/$kind; $H/tools/tree list $H/one/$kind; echo; \
         chmod -R u+rwX $H/one/$kind; rm -rf $H/one/$kind $H/new.$kind; done"
    ));
    assert_eq!(said.code, 0, "{said:#?} {story}");
    let (squashfs, tar) = said.out.trim_end().split_once("\n\n").unwrap();
    let (one, other) = (listing(squashfs), listing(tar));
    assert_equal("packed to tar", story, &one, &other, &[]);
    squashfs.to_owned()
}

#[test]
fn what_is_in_an_overlay_is_the_same_wherever_one_looks() {
    let place = place!();
    let tools = place.here().join("tools");
    std::fs::create_dir(&tools).unwrap();
    let built = Command::new("cc")
        .args(["-static", "-O1", "-w", "-o"])
        .arg(tools.join("tree"))
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/launcher/tree.c"
        ))
        .status();
    if !built.is_ok_and(|status| status.success()) {
        skip!("no C compiler (packages gcc and libc6-dev)");
    }
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    if let Some(seed) = number("CHARIOT_TEST_SEED") {
        one(&place, seed);
        return;
    }
    let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let first = clock.unwrap().as_secs();
    let end = Instant::now() + Duration::from_secs(number("CHARIOT_TEST_SECONDS").unwrap_or(25));
    for seed in first.. {
        one(&place, seed);
        if Instant::now() > end {
            eprintln!("{} images were changed", seed + 1 - first);
            break;
        }
    }
}
