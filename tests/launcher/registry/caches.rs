//! What caches and stores keep, share, verify and give up.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::lying::Lying;
use super::run;
use crate::support::registry::{Answer, plain};
use crate::support::{Said, until};
use crate::{Place, place};

/// Files below a directory, but for marks.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut todo = vec![directory.to_owned()];
    while let Some(directory) = todo.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            match entry.file_type().unwrap().is_dir() {
                true => todo.push(entry.path()),
                false => files.push(entry.path()),
            }
        }
    }
    files.retain(|file| !file.ends_with(".chariot-directory"));
    files.sort();
    files
}

fn cache(place: &Place) -> PathBuf {
    place.here().join(".cache/chariot")
}

fn layers(lying: &Lying) -> usize {
    let digest = super::lying::digest(&lying.layer);
    let paths = lying.server.paths();
    paths.iter().filter(|path| path.ends_with(&digest)).count()
}

fn with(place: &Place, lying: &Lying, more: &str, script: &str) -> Said {
    let site = format!("{more}\n{}", plain(&lying.server.host));
    run(place, &site, &lying.server.host, script)
}

/// The image of the lying registry has no program: only what the launcher says and keeps is of interest.
const EXPLAIN: &str = "$R inspect --json docker://$H/team/app:1 >/dev/null";

#[test]
fn a_changed_byte_in_a_cached_layer_is_never_used() {
    let place = place!();
    let lying = Lying::start(|_, _, answer| answer);
    let pull = "$R pull --quiet $H/team/app:1 ./i.sqfs";
    with(&place, &lying, "keep_layers = true\n", pull).ok();
    assert_eq!(layers(&lying), 1);
    with(&place, &lying, "keep_layers = true\n", pull).ok();
    assert_eq!(layers(&lying), 1);
    let digest = super::lying::digest(&lying.layer);
    let blob = cache(&place).join("blobs/sha256").join(&digest[7..]);
    let mut bytes = std::fs::read(&blob).unwrap();
    bytes[200_000] ^= 1;
    std::fs::write(&blob, bytes).unwrap();
    with(
        &place,
        &lying,
        "keep_layers = true\n",
        &format!("rm i.sqfs; {pull}"),
    )
    .ok();
    assert_eq!(layers(&lying), 2);
    let said = with(
        &place,
        &lying,
        "",
        "$R export --quiet ./i.sqfs i.tar && tar -xOf i.tar bin/file | tr -d '\\007' | wc -c",
    );
    assert_eq!(said.out.trim(), "0", "{said:#?}");
}

#[test]
fn what_the_store_has_is_what_a_job_gets_and_it_is_kept_once_without_its_layers() {
    let place = place!();
    let lying = Lying::start(|_, _, answer| answer);
    with(&place, &lying, "", "$R pull --quiet $H/team/app:1").ok();
    // The launcher does not find a program in it, which it says after it has the image.
    let said = with(
        &place,
        &lying,
        "",
        "$R run docker://$H/team/app:1 -- /bin/nothing",
    );
    assert!(!said.err.contains("registry"), "{said:#?}");
    assert_eq!(layers(&lying), 1);
    let images = files(&cache(&place).join("images"));
    let stored = place.here().join(".local/share/chariot/team+app:1.sqfs");
    let (one, two) = (images[0].metadata().unwrap(), stored.metadata().unwrap());
    assert_eq!((images.len(), one.ino()), (1, two.ino()));
    let kept: u64 = files(&cache(&place).join("blobs"))
        .iter()
        .map(|file| file.metadata().unwrap().len())
        .sum();
    assert!(kept < 5000, "{kept}");
    for directory in [cache(&place), place.here().join(".local/share/chariot")] {
        assert_eq!(directory.metadata().unwrap().mode() & 0o777, 0o700);
    }
    assert!(files(&cache(&place).join("leases")).is_empty());
}

#[test]
fn what_a_job_has_made_is_pulled_into_the_store_without_a_second_copy() {
    let place = place!();
    let lying = Lying::start(|_, _, answer| answer);
    with(
        &place,
        &lying,
        "",
        "$R run docker://$H/team/app:1 -- /bin/nothing",
    );
    let said = with(
        &place,
        &lying,
        "",
        "$R pull $H/team/app:1 && $R inspect team+app:1 && $R pull $H/team/app:1",
    );
    assert!(said.err.contains("is in your store already"), "{said:#?}");
    assert!(said.out.contains("\ndigest       sha256:"), "{said:#?}");
    assert_eq!(layers(&lying), 1);
    let images = files(&cache(&place).join("images"));
    assert_eq!(images[0].metadata().unwrap().nlink(), 2);
}

/// A layer that takes its time.
fn slow() -> Lying {
    Lying::start(|kind, _, answer| {
        if kind == "layer" {
            std::thread::sleep(std::time::Duration::from_secs(2));
        }
        answer
    })
}

#[test]
fn whatever_asks_for_an_image_at_the_same_time_it_is_fetched_once() {
    let run = "$R run docker://$H/team/app:1 -- /bin/nothing";
    let asking = "for i in {1..40}; do ls .cache/chariot/leases/* >/dev/null 2>&1 && break; sleep 0.05; done";
    for (first, second) in [
        ("$R pull --quiet $H/team/app:1", run),
        (run, "$R pull --quiet $H/team/app:1"),
        (
            "$R pull --quiet $H/team/app:1",
            "$R pull --quiet $H/team/app:1",
        ),
        ("$R pull --quiet $H/team/app:1 ./tree", run),
        (
            "$R pull --quiet $H/team/app:1 ./i.sqfs",
            "$R pull --quiet --compression gzip $H/team/app:1",
        ),
        (
            "$R pack --quiet docker://$H/team/app:1 i.sqfs",
            "$R unpack --quiet docker://$H/team/app:1 tree",
        ),
    ] {
        let place = place!();
        let lying = slow();
        let script = format!(
            "{first} & {asking}; {second}; echo $?; wait $!; echo $?; ls .cache/chariot/leases"
        );
        let said = with(&place, &lying, "", &script);
        // The image has no program.
        let code = |command: &str| if command == run { 127 } else { 0 };
        let expected = format!("{}\n{}\n", code(second), code(first));
        assert_eq!(said.out, expected, "{first}; {second}: {said:#?}");
        assert_eq!(layers(&lying), 1, "{first}; {second}: {said:#?}");
    }
}

#[test]
fn a_pull_that_is_killed_while_others_wait_for_it_does_not_hold_them_up() {
    let place = place!();
    let lying = beginning_first();
    let script = format!(
        "{BEGINS} $R pull --quiet $H/team/app:1 ./tree & wait_for; $R pull --quiet $H/team/app:1 & sleep 0.5; kill -9 %1; wait %2; echo $?; \
         ls -A tree .cache/chariot/leases; find . -name '.*.part.*'"
    );
    let start = std::time::Instant::now();
    let said = with(&place, &lying, "", &script);
    assert_eq!(said.out, "0\n.cache/chariot/leases:\n", "{said:#?}");
    assert!(start.elapsed().as_secs() < 12, "{said:#?}");
    assert_eq!(ranges(&lying), ["bytes=200000-"], "{said:#?}");
}

#[test]
fn a_store_on_another_file_system_is_found_by_jobs_too() {
    let place = place!();
    let Some(elsewhere) = another_file_system(&place) else {
        crate::skip!("no second file system (/dev/shm)");
    };
    let lying = Lying::start(|_, _, answer| answer);
    let site = format!("store = \"{}/store\"\n", elsewhere.path().display());
    with(&place, &lying, &site, "$R pull --quiet $H/team/app:1").ok();
    with(
        &place,
        &lying,
        &site,
        "$R run docker://$H/team/app:1 -- /bin/nothing",
    );
    assert_eq!(layers(&lying), 1);
    assert!(files(&cache(&place).join("images")).is_empty());
    // Once it is gone, it is made anew.
    with(
        &place,
        &lying,
        &site,
        // What served it a moment ago may have it open still.
        "for i in {1..50}; do $R rm team+app:1 && break; sleep 0.1; done; $R run docker://$H/team/app:1 -- /bin/nothing",
    );
    assert_eq!(layers(&lying), 2);
    let said = with(
        &place,
        &lying,
        &site,
        "$R pull --quiet $H/team/app:1 && $R inspect team+app:1",
    );
    assert!(said.ok().contains("\ndigest       sha256:"), "{said:#?}");
    assert_eq!(layers(&lying), 2);
}

fn another_file_system(place: &Place) -> Option<tempfile::TempDir> {
    let other = tempfile::tempdir_in("/dev/shm").ok()?;
    let device = |path: &Path| path.metadata().map(|data| data.dev()).ok();
    std::os::unix::fs::chown(
        other.path(),
        Some(place.here().metadata().ok()?.uid()),
        None,
    )
    .ok()?;
    (device(other.path()) != device(place.here())).then_some(other)
}

#[test]
fn a_digest_that_an_image_only_says_it_has_is_called_that() {
    let place = place!();
    let lying = Lying::start(|_, _, answer| answer);
    let script = "$R pull --quiet $H/team/app:1 ./i.sqfs; mkdir -p .local/share/chariot; cp i.sqfs .local/share/chariot/forged.sqfs; \
                  $R inspect forged; $R inspect --json forged; $R images";
    let said = with(&place, &lying, "", script);
    assert!(said.out.contains("\nsays digest  sha256:"), "{said:#?}");
    assert!(
        !said.out.contains("\ndigest ") && !said.out.contains("\n  \"digest\""),
        "{said:#?}"
    );
}

#[test]
fn directories_of_somebody_else_are_refused_as_a_cache_and_nothing_in_them_goes() {
    let place = place!();
    let lying = Lying::start(|_, _, answer| answer);
    let old = "mkdir -p home/images home/jobs/old home/files && for f in home/images/photo.jpg home/jobs/old/thesis home/files/x; do echo mine > $f; done; \
               find home -exec touch -d '400 days ago' {} +; ";
    let site = format!("cache = \"{}/home\"\n", place.here().display());
    let said = with(&place, &lying, &site, &format!("{old} $R gc --age 0"));
    said.failed(125, "Chariot did not make it", 1);
    with(&place, &lying, &site, EXPLAIN);
    with(&place, &lying, &site, "$R pull $H/team/app:1").failed(125, "Chariot did not make it", 1);
    let said = with(
        &place,
        &lying,
        &site,
        "$R gc --size 0 --all; find home -type f | wc -l; ls -A home",
    );
    assert_eq!(said.out, "3\nfiles\nimages\njobs\n", "{said:#?}");
}

#[test]
fn a_variable_that_is_not_set_is_an_error_and_no_directory() {
    let place = place!();
    let lying = Lying::start(|_, _, answer| answer);
    let pull = "$R pull --quiet $H/team/app:1; code=$?; ls; exit $code";
    for key in ["cache", "store"] {
        let said = with(&place, &lying, &format!("{key} = \"$SCRATCH/c\"\n"), pull);
        said.failed(125, "the variable SCRATCH is not set", 1);
        assert!(said.err.contains(&format!("{key} = ")), "{said:#?}");
        assert!(!said.out.contains("SCRATCH"), "{said:#?}");
    }
    // What needs neither goes on.
    let said = with(
        &place,
        &lying,
        "cache = \"$SCRATCH/c\"\n",
        "$R run ./img -- echo ran && $R pack --quiet ./img i.sqfs",
    );
    assert_eq!(said.ok(), "ran");
    let said = with(
        &place,
        &lying,
        "cache = \"~/a-$SLURM_JOB_ID/c\"\n",
        "export SLURM_JOB_ID=7; $R pull --quiet $H/team/app:1; ls a-7/c",
    );
    assert!(said.ok().contains("images"), "{said:#?}");
}

#[test]
fn failed_fetches_leave_nothing_that_a_collection_leaves() {
    let place = place!();
    let lying = Lying::start(|kind, _, answer| match kind {
        "layer" => Answer::ok(vec![8; answer.body.len()]),
        _ => answer,
    });
    let script = "for i in {1..5}; do $R run docker://$H/team/app:1 -- true & $R run docker://$H/team/app:1 -- true; wait; done; \
                  ls -A .cache/chariot/leases | wc -l; $R gc --quiet; ls -A .cache/chariot/leases | wc -l; find .cache -name '.*.part.*' | wc -l";
    let said = with(&place, &lying, "", script);
    let counts: Vec<u32> = said
        .ok()
        .lines()
        .map(|line| line.parse().unwrap())
        .collect();
    assert!(counts[0] <= 1, "{said:#?}");
    assert_eq!(counts[1..], [0, 0], "{said:#?}");
}

/// Answers a layer's first request with its beginning only, and is silent then; later ones by range.
fn beginning_first() -> Lying {
    let asked_before = std::sync::atomic::AtomicBool::new(false);
    Lying::start(move |kind, asked, answer| {
        if kind != "layer" {
            return answer;
        }
        let length = answer.body.len();
        if !asked_before.swap(true, std::sync::atomic::Ordering::SeqCst) {
            return Answer {
                claimed: Some(length),
                body: answer.body[..200_000].to_vec(),
                hangs: true,
                ..answer
            };
        }
        let from = asked.headers.get("range");
        let from = from.and_then(|range| {
            range
                .strip_prefix("bytes=")?
                .strip_suffix('-')?
                .parse()
                .ok()
        });
        let from: usize = from.unwrap_or(0);
        Answer {
            status: if from > 0 { 206 } else { 200 },
            body: answer.body[from..].to_vec(),
            ..answer
        }
    })
}

fn ranges(lying: &Lying) -> Vec<String> {
    let seen = lying.server.seen.lock().unwrap();
    seen.iter()
        .filter_map(|asked| asked.headers.get("range").cloned())
        .collect()
}

const BEGINS: &str = "part() { find .cache -name '.*.part.*' -size +150k | grep -q blobs; }; wait_for() { for i in {1..300}; do part && return; sleep 0.1; done; }; ";

#[test]
fn what_a_killed_fetch_has_got_is_not_fetched_again() {
    let place = place!();
    let lying = beginning_first();
    let script = format!(
        "{BEGINS} $R pull --quiet $H/team/app:1 & wait_for; kill -9 $!; sleep 1; $R pull --quiet $H/team/app:1 && find .cache -name '.*.part.*'"
    );
    let said = with(&place, &lying, "", &script);
    assert_eq!(said.ok(), "", "{said:#?}");
    assert_eq!(ranges(&lying), ["bytes=200000-"]);
}

#[test]
fn who_was_suspended_while_others_did_its_work_finds_it_done() {
    let place = place!();
    let lying = beginning_first();
    let image = "docker://$H/team/app:1";
    // Launcher, guard and worker of the first stop as a suspended job's do.
    let script = format!(
        "{BEGINS} tree() {{ echo $1; for c in $(pgrep -P $1); do tree $c; done; }}; \
         $R run {image} -- /bin/nothing 2> first & first=$!; wait_for; all=$(tree $first); kill -STOP $all; \
         $R run {image} -- /bin/nothing 2> second; ls .cache/chariot/leases; kill -CONT $all; wait $first; \
         cat first; echo; cat second; find .cache -name '.*.part.*' -o -path '*/leases/*'; ls .cache/chariot/images | wc -l"
    );
    let said = with(&place, &lying, "[waits]\nbyte = 20\n", &script);
    let lines: Vec<&str> = said.out.lines().collect();
    let ends = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
    assert_eq!(
        ends("can't run /bin/nothing: not found in the image"),
        2,
        "{said:#?}"
    );
    assert_eq!(lines.last(), Some(&"1"), "{said:#?}");
    assert!(
        !said.out.contains(".part.") && !said.out.contains("leases"),
        "{said:#?}"
    );
    // What the first had got was copied.
    assert_eq!(ranges(&lying), ["bytes=200000-"], "{said:#?}");
    until("nobody is left", || {
        files(&cache(&place).join("leases")).is_empty()
    });
}

/// In a mount namespace of its own, with a small file system for the cache.
fn small_cache(place: &Place, lying: &Lying, options: &str, script: &str) -> Said {
    let inner =
        format!("mkdir -p .cache; mount -t tmpfs -o {options},mode=700 none .cache && {script}");
    let script = format!(
        "unshare -rm true || exit 77; cp site.toml own; mv -f own site.toml; export R H; unshare -rm bash -c \"{inner}\""
    );
    with(place, lying, "", &script)
}

#[test]
fn room_is_asked_for_what_is_missing_of_a_layer_and_not_for_all_of_it() {
    let place = place!();
    let lying = beginning_first();
    // Of 300 kB, 200 are there: room for them once more is enough, since they go when they were copied.
    let script = format!(
        "{BEGINS} $R pull --quiet $H/team/app:1 & wait_for; kill -9 $!; sleep 1; find .cache -name '.*.part.*' | wc -l; \
         $R pull --quiet $H/team/app:1; echo $?; find .cache -name '.*.part.*'"
    );
    let said = small_cache(&place, &lying, "size=460k", &script.replace('$', "\\$"));
    if said.code == 77 {
        crate::skip!("no user namespaces for unshare(1)");
    }
    assert_eq!(said.out, "1\n0\n", "{said:#?}");
    assert_eq!(ranges(&lying), ["bytes=200000-"]);
}

#[test]
fn a_full_cache_is_one_sentence_with_its_place_and_a_hint_that_is_true() {
    let place = place!();
    let lying = Lying::start(|_, _, answer| answer);
    let on = |options: &str, script: &str| small_cache(&place, &lying, options, script);
    let pull = "$R pull --quiet $H/team/app:1; code=$?; find .cache -name '.*.part.*' -o -name '*.sqfs'; exit $code";
    let said = on("size=200k", &pull.replace('$', "\\$"));
    if said.code == 77 {
        crate::skip!("no user namespaces for unshare(1)");
    }
    said.failed(125, ".cache/chariot", 2);
    assert!(
        said.err.contains("make room on the file system of") && !said.err.contains("chariot gc"),
        "{said:#?}"
    );
    assert_eq!(said.out, "", "{said:#?}");
    // Once more, with an image there that can go.
    // What serves it has it open for a moment longer.
    let fill = "$R run docker://$H/team/app:1 -- /bin/nothing; sleep 1; head -c 300000 /dev/zero > .cache/ballast; $R pull --quiet --compression gzip $H/team/app:1";
    let said = on("size=500k", &fill.replace('$', "\\$"));
    assert!(
        said.err.contains("`chariot gc --all` can remove"),
        "{said:#?}"
    );
    for inodes in 9..14 {
        let said = on(
            &format!("size=9M,nr_inodes={inodes}"),
            &pull.replace('$', "\\$"),
        );
        assert!(
            said.code == 0 || said.err.contains("(df -i)"),
            "{inodes}: {said:#?}"
        );
        assert!(!said.out.contains(".part."), "{inodes}: {said:#?}");
    }
}

#[test]
fn copies_on_a_node_are_kept_in_a_directory_of_chariots_own_and_nothing_else_goes_there() {
    let place = place!();
    let here = place.here().display();
    let run_there = |name: &str, script: &str| {
        let site =
            format!("stage = \"node\"\nstage_dir = \"{here}/{name}\"\nstage_size = \"16M\"\n");
        super::run(&place, &site, "", script)
    };
    let start = "export SLURM_JOB_ID=7; $R run ./own.sqfs -- echo ran";
    let files = "mkdir -p project/images; for name in $(printf %064d 1).sqfs photo.jpg; do head -c 20M /dev/zero > project/images/$name; done; \
                 find project -exec touch -d '400 days ago' {} +; ln -s project link; ";
    run_there("x", &format!("{files} $R pack --quiet ./img own.sqfs")).ok();
    for name in ["link", "project"] {
        run_there(name, start).failed(125, "Chariot did not make it", 1);
    }
    let said = run_there(
        "stage",
        &format!(
            "{start}; {start}; stat -c %a stage; ls stage/images | wc -l; ls project/images | wc -l"
        ),
    );
    assert_eq!(said.ok(), "ran\nran\n700\n1\n2");
}

#[test]
fn a_registry_is_asked_as_it_was_said_and_what_is_here_runs_where_it_does_not_answer() {
    let place = place!();
    let is_down = Arc::new(AtomicBool::new(false));
    let down = Arc::clone(&is_down);
    let lying = Lying::start(move |_, _, answer| match down.load(Ordering::SeqCst) {
        true => Answer::status(503),
        false => answer,
    });
    let asked = || {
        let paths = lying.server.paths();
        paths
            .iter()
            .filter(|path| path.contains("/manifests/"))
            .count()
    };
    // It is there where the command is what is missing.
    let run_it = |more: &str| {
        let script = format!("$R run {more} docker://$H/team/app:1 -- /bin/nothing");
        with(&place, &lying, "[waits]\nlook_up = 1\n", &script)
    };
    let never = run_it("--pull=never");
    never.failed(125, "is not here, and nothing may be fetched", 1);
    assert_eq!((asked(), run_it("").code), (0, 127));
    let known = asked();
    assert_eq!((run_it("--pull=missing").code, asked()), (127, known));
    assert_eq!((run_it("--pull=never").code, asked()), (127, known));
    assert_eq!(run_it("--pull=always").code, 127);
    assert!(asked() > known);
    is_down.store(true, Ordering::SeqCst);
    let offline = run_it("");
    offline.failed(127, "meant when it was last asked for is run", 1);
    run_it("--pull=always").failed(125, "503", 1);
    assert_eq!(run_it("--pull=missing").code, 127);
    let by_digest = "$R run $($R images | grep -o 'sha256:[0-9a-f]*' | head -n1) -- /bin/nothing";
    assert_eq!(with(&place, &lying, "", by_digest).code, 127);
}

/// A member of a group that may write to a store could change there what its owner's cache has under a digest.
#[test]
fn what_a_group_can_write_to_is_no_image_of_a_digest() {
    let place = place!();
    let lying = Lying::start(|_, _, answer| answer);
    let pull = |script: &str| with(&place, &lying, "", &format!("umask 0; {script}"));
    pull("$R pull --quiet $H/team/app:1").ok();
    let stored = place.here().join(".local/share/chariot/team+app:1.sqfs");
    assert_eq!(stored.metadata().unwrap().mode() & 0o777, 0o644);
    let digest = pull("$R inspect --json team+app:1 | grep -o 'sha256:[0-9a-f]*' | head -n1");
    // As versions before left it.
    std::fs::set_permissions(&stored, std::fs::Permissions::from_mode(0o664)).unwrap();
    let script = format!(
        "$R run --pull=never docker://$H/team/app@{} -- /bin/nothing",
        digest.ok()
    );
    pull(&script).failed(125, "others can write to it", 1);
}
