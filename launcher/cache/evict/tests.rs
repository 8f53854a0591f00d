//! What goes from a cache, and that nothing else does.

use std::fs::{self, FileTimes};
use std::os::unix::fs::symlink;

use super::*;
use crate::config::Config;
use crate::host::Host;

const DAY: Duration = Duration::from_secs(86_400);

fn hex(letter: char) -> String {
    letter.to_string().repeat(64)
}

fn image(letter: char) -> String {
    format!("images/{}.sqfs", hex(letter))
}

fn blob(letter: char) -> String {
    format!("blobs/sha256/{}", hex(letter))
}

/// Writes a file of 100 bytes, last used so many days ago.
fn aged(path: &Path, days: u32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, [0; 100]).unwrap();
    let used = SystemTime::now() - DAY * days;
    let times = FileTimes::new().set_accessed(used).set_modified(used);
    let file = File::options().write(true).open(path).unwrap();
    file.set_times(times).unwrap();
}

fn config(place: &Path) -> Config {
    Config {
        cache: place.display().to_string(),
        ..Config::default()
    }
}

/// All files below a directory, but for the mark.
fn left(place: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let mut directories = vec![place.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap().flatten() {
            match entry.file_type().unwrap().is_dir() {
                true => directories.push(entry.path()),
                false => names.push(
                    entry
                        .path()
                        .strip_prefix(place)
                        .unwrap()
                        .display()
                        .to_string(),
                ),
            }
        }
    }
    names.retain(|name| name != ".chariot-directory");
    names.sort();
    names
}

const ALL: Wanted = Wanted {
    size: 0,
    age: Some(Duration::ZERO),
    keep: Duration::ZERO,
};

#[test]
fn what_was_not_used_for_the_longest_time_goes_first_and_what_is_needed_stays() {
    let place = tempfile::tempdir().unwrap();
    let (config, host) = (config(place.path()), Host::look(Vec::new(), None));
    let cache = Cache::of(&config, &host);
    cache.prepare().unwrap();
    let (young, old) = (
        "images/.x.part.elsewhere.0badcafe-1.1.1-0",
        "images/.y.part.elsewhere.0badcafe-1.1.1-0",
    );
    for (name, days) in [
        (image('a'), 30),
        (image('b'), 20),
        (image('c'), 1),
        (young.into(), 0),
        (old.into(), 3),
        (blob('f'), 2),
        (blob('e'), 0),
    ] {
        aged(&place.path().join(name), days);
    }
    let wanted = Wanted {
        size: 450,
        age: None,
        keep: RECENT,
    };
    let removed = evict(&cache, wanted).unwrap();
    assert_eq!((removed.files, removed.bytes), (2, 200));
    let here = |names: &[String]| {
        let mut names = names.to_vec();
        names.push(young.into());
        names.sort();
        names
    };
    assert_eq!(
        left(place.path()),
        here(&[blob('e'), blob('f'), image('b'), image('c')])
    );
    let nothing = Wanted { size: 0, ..wanted };
    let removed = evict(&cache, nothing).unwrap();
    assert_eq!((removed.files, removed.in_use), (2, 2));
    assert_eq!(left(place.path()), here(&[blob('e'), image('c')]));
    let old = Wanted {
        size: u64::MAX,
        age: Some(DAY),
        keep: RECENT,
    };
    evict(&cache, old).unwrap();
    assert_eq!(left(place.path()), here(&[blob('e')]));
}

#[test]
fn a_directory_that_is_no_cache_loses_nothing_whatever_its_directories_are_called() {
    let place = tempfile::tempdir().unwrap();
    let (config, host) = (config(place.path()), Host::look(Vec::new(), None));
    for name in ["jobs/thesis", "files/data", "images/photo.jpg"] {
        aged(&place.path().join(name), 400);
    }
    aged(&place.path().join(image('a')), 400);
    let cache = Cache::of(&config, &host);
    assert!(evict(&cache, ALL).is_err());
    assert!(cache.prepare().is_err());
    assert_eq!(left(place.path()).len(), 4);
}

#[test]
fn what_somebody_put_into_a_cache_stays_and_links_are_not_followed() {
    let place = tempfile::tempdir().unwrap();
    let (config, host) = (config(place.path()), Host::look(Vec::new(), None));
    let elsewhere = tempfile::tempdir().unwrap();
    let cache = Cache::of(&config, &host);
    cache.prepare().unwrap();
    for name in [
        "images/photo.jpg",
        "jobs/2024/result",
        "jobs/thesis",
        "leases/flat.pdf",
        "files/thesis",
    ] {
        aged(&place.path().join(name), 400);
    }
    fs::create_dir_all(place.path().join(image('d')).join("mine")).unwrap();
    nix::unistd::mkfifo(
        &place.path().join(image('e')),
        nix::sys::stat::Mode::S_IRWXU,
    )
    .unwrap();
    aged(&elsewhere.path().join(hex('a')), 400);
    symlink(elsewhere.path(), place.path().join("jobs/c.1")).unwrap();
    symlink(
        elsewhere.path().join(hex('a')),
        place.path().join(image('f')),
    )
    .unwrap();
    let before = left(place.path());
    evict(&cache, ALL).unwrap();
    assert_eq!(left(place.path()), before);
    assert!(elsewhere.path().join(hex('a')).exists());
    // A whole directory of it that is a link to somebody else's.
    fs::remove_dir_all(place.path().join("blobs/sha256")).unwrap();
    symlink(elsewhere.path(), place.path().join("blobs/sha256")).unwrap();
    evict(&cache, ALL).unwrap();
    assert!(elsewhere.path().join(hex('a')).exists());
}

#[test]
fn what_jobs_and_failed_fetches_left_goes_when_it_is_old() {
    let place = tempfile::tempdir().unwrap();
    let (config, host) = (config(place.path()), Host::look(Vec::new(), None));
    let cache = Cache::of(&config, &host);
    cache.prepare().unwrap();
    let pin = format!("jobs/c.1/{}", hex('a'));
    for name in [
        pin,
        format!("leases/{}.3", hex('a')),
        format!("files/{}", hex('b')),
    ] {
        aged(&place.path().join(name), 400);
    }
    let young = format!("leases/{}.4", hex('a'));
    aged(&place.path().join(&young), 0);
    evict(&cache, ALL).unwrap();
    assert_eq!(left(place.path()), [young]);
}

#[test]
fn what_a_process_has_open_stays() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("x");
    fs::write(&path, "x").unwrap();
    let ask = || is_in_use(&File::open(&path).unwrap());
    assert!(!ask());
    let open = File::open(&path).unwrap();
    assert!(ask());
    drop(open);
    assert!(!ask());
}
