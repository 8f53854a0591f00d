use std::fs::{self, File, FileTimes};
use std::os::unix::fs::symlink;

use super::*;
use crate::files::own::Purpose;
use crate::host::Host;

const DAY: Duration = Duration::from_secs(86_400);

fn hex(letter: char) -> String {
    letter.to_string().repeat(64)
}

/// A file of 100 bytes for each name, last used so many days ago.
fn fill(place: &Path, files: &[(String, u32)]) {
    for (name, days) in files {
        let path = place.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, [0; 100]).unwrap();
        let used = SystemTime::now() - DAY * *days;
        let times = FileTimes::new().set_accessed(used).set_modified(used);
        let file = File::options().write(true).open(path).unwrap();
        file.set_times(times).unwrap();
    }
}

/// Everything in a directory, as find(1) shows it, but for directories.
fn left(place: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let mut todo = vec![place.to_owned()];
    while let Some(directory) = todo.pop() {
        for entry in fs::read_dir(directory).unwrap().flatten() {
            match entry.file_type().unwrap().is_dir() {
                true => todo.push(entry.path()),
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

fn config(place: &Path) -> Config {
    Config {
        cache: place.display().to_string(),
        keep_layers: true,
        ..Config::default()
    }
}

const ALL: Wanted = Wanted {
    size: 0,
    age: Some(Duration::ZERO),
    keep: Duration::ZERO,
    is_asked: true,
};

#[test]
fn what_was_not_used_for_the_longest_time_goes_first_and_what_is_needed_stays() {
    let place = tempfile::tempdir().unwrap();
    let config = config(place.path());
    let host = Host::look(Vec::new(), None);
    let cache = Cache::of(&config, &host);
    cache.prepare().unwrap();
    let image = |letter| format!("images/{}.sqfs", hex(letter));
    let blob = |letter| format!("blobs/sha256/{}", hex(letter));
    let files = [
        (image('a'), 30),
        (image('b'), 20),
        (image('c'), 1),
        (blob('f'), 2),
        (blob('e'), 0),
    ];
    fill(place.path(), &files);
    let wanted = Wanted {
        size: 450,
        age: None,
        keep: RECENT,
        is_asked: false,
    };
    let removed = evict(&cache, wanted).unwrap();
    assert_eq!((removed.files, removed.bytes), (1, 100));
    assert_eq!(
        left(place.path()),
        [blob('e'), blob('f'), image('b'), image('c')]
    );
    let removed = evict(&cache, Wanted { size: 0, ..wanted }).unwrap();
    assert_eq!((removed.files, removed.in_use), (2, 2));
    assert_eq!(left(place.path()), [blob('e'), image('c')]);
    let old = Wanted {
        size: u64::MAX,
        age: Some(DAY),
        ..wanted
    };
    evict(&cache, old).unwrap();
    assert_eq!(left(place.path()), [blob('e')]);
}

#[test]
fn only_what_chariot_names_is_ever_collected_and_links_lead_nowhere() {
    let place = tempfile::tempdir().unwrap();
    let (root, canary) = (place.path().join("cache"), place.path().join("canary"));
    let config = config(&root);
    let host = Host::look(Vec::new(), None);
    let cache = Cache::of(&config, &host);
    cache.prepare().unwrap();
    let theirs = [
        "images/photo.jpg".to_owned(),
        "images/my image.sqfs".into(),
        "images/a\nb".into(),
        format!("images/{}.sqfs/inner", hex('d')),
        "images/album/photo.jpg".into(),
        format!("images/{}", hex('a')),
        "blobs/notes".into(),
        "blobs/sha256/short".into(),
        "jobs/novel.txt".into(),
        "jobs/thesis/chapter".into(),
        "jobs/c.1/chapter".into(),
        format!("files/{}/deep", hex('b')),
        "files/taxes".into(),
        "leases/contract.1".into(),
        "letter".into(),
    ];
    let theirs = theirs.map(|name| (name, 400));
    fill(&root, &theirs);
    fill(
        &canary,
        &[(format!("{}.sqfs", hex('c')), 400), (hex('c'), 400)],
    );
    symlink(
        canary.join(format!("{}.sqfs", hex('c'))),
        root.join(format!("images/{}.sqfs", hex('e'))),
    )
    .unwrap();
    fs::remove_dir(root.join("blobs/sha512")).unwrap();
    symlink(&canary, root.join("blobs/sha512")).unwrap();
    symlink(&canary, root.join("jobs/c.2")).unwrap();
    let fifo = root.join(format!("images/{}.sqfs", hex('f')));
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let before = (left(&root), left(&canary));
    assert_eq!(evict(&cache, ALL).unwrap(), Removed::default());
    assert_eq!((left(&root), left(&canary)), before);
    // The same where whole directories of the cache are links.
    for name in ["images", "files", "leases"] {
        fs::rename(root.join(name), root.join(format!("{name}-"))).unwrap();
        symlink(&canary, root.join(name)).unwrap();
    }
    evict(&cache, ALL).unwrap();
    assert_eq!(left(&canary), before.1);
}

#[test]
fn a_directory_that_somebody_else_made_is_refused_and_nothing_in_it_goes() {
    let place = tempfile::tempdir().unwrap();
    let files = [
        (format!("images/{}.sqfs", hex('a')), 400),
        ("jobs/c.1/x".into(), 400),
        ("thesis".into(), 400),
    ];
    fill(place.path(), &files);
    let config = config(place.path());
    let host = Host::look(Vec::new(), None);
    let cache = Cache::of(&config, &host);
    let before = left(place.path());
    let error = evict(&cache, ALL).unwrap_err();
    assert!(
        error.to_string().ends_with("Chariot did not make it"),
        "{error}"
    );
    assert!(cache.prepare().is_err());
    assert_eq!(left(place.path()), before);
}

#[test]
fn parts_of_makers_that_are_gone_go_everywhere_and_those_at_work_stay() {
    use crate::files::maker::{Maker, Role};
    let place = tempfile::tempdir().unwrap();
    let config = config(place.path());
    let host = Host::look(Vec::new(), None);
    let cache = Cache::of(&config, &host);
    cache.prepare().unwrap();
    let name = Maker::this().name(std::ffi::OsStr::new(&hex('a')), Role::Part);
    let name = name.to_str().unwrap();
    let ended = std::process::Command::new("/bin/true").spawn().unwrap();
    let dead = name.replace(
        &format!(".{}.", std::process::id()),
        &format!(".{}.", ended.id()),
    );
    ended.wait_with_output().unwrap();
    let mut alive = Vec::new();
    for directory in ["images", "blobs/sha256", "leases", "files", "jobs/c.1"] {
        fill(place.path(), &[(format!("{directory}/{dead}"), 0)]);
        alive.push(format!("{directory}/{name}"));
        fill(place.path(), &[(format!("{directory}/{name}"), 0)]);
    }
    alive.sort();
    evict(&cache, ALL).unwrap();
    assert_eq!(left(place.path()), alive);
}

#[test]
fn collectors_do_not_mind_each_other_and_layers_of_a_fetch_stay() {
    let place = tempfile::tempdir().unwrap();
    let config = config(place.path());
    let host = Host::look(Vec::new(), None);
    let cache = Cache::of(&config, &host);
    let own = cache.prepare().unwrap();
    let files: Vec<_> = ('a'..='f')
        .flat_map(|letter| {
            [
                (format!("images/{}.sqfs", hex(letter)), 9),
                (format!("blobs/sha256/{}", hex(letter)), 0),
            ]
        })
        .collect();
    fill(place.path(), &files);
    let leases = own.root().enter(Path::new("leases")).unwrap();
    let take = || {
        let want = lease::Want {
            directory: leases.path(),
            name: &hex('0'),
            word: "I",
            patience: Duration::from_secs(1),
            crowd: lease::Crowd::ALONE,
        };
        lease::take(&want, || false, &mut |_| {}).unwrap()
    };
    let lease::Turn::Mine(lease) = take() else {
        panic!()
    };
    let removed: u64 = std::thread::scope(|scope| {
        let one = || evict(&cache, ALL).unwrap().files;
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(one)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    });
    assert!(removed <= 24);
    evict(&cache, ALL).unwrap();
    assert_eq!(left(place.path()).len(), 7);
    lease.end();
    evict(&cache, ALL).unwrap();
    assert!(left(place.path()).is_empty());
}

#[test]
fn a_stage_is_no_cache() {
    let place = tempfile::tempdir().unwrap();
    Own::prepare(place.path(), Purpose::Stage, 0o700).unwrap();
    let config = config(place.path());
    let host = Host::look(Vec::new(), None);
    assert!(evict(&Cache::of(&config, &host), ALL).is_err());
}

#[test]
fn what_a_process_has_open_stays() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("x");
    fs::write(&path, "x").unwrap();
    assert!(!is_in_use(&path));
    let open = File::open(&path).unwrap();
    assert!(is_in_use(&path));
    drop(open);
    assert!(!is_in_use(&path));
}
