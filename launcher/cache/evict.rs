//! Making room in a cache: what was not used for the longest time goes first. Never what is in use: a file that
//! some process of this machine has open, or that was used lately, since another machine may have it open.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::Cache;
use crate::sys::lease;

/// What was used so lately stays, unless somebody says otherwise.
pub const RECENT: Duration = Duration::from_secs(7 * 86_400);

/// What an interrupted fetch leaves goes after so long.
const ABANDONED: Duration = Duration::from_secs(86_400);

/// Layers that were used so lately may be some node's that is at work on an image.
const LAYERS: Duration = Duration::from_secs(3600);

/// How long it is remembered what a job takes a name for, and which digest an archive has.
const REMEMBERED: Duration = Duration::from_secs(90 * 86_400);

/// A file of a cache.
#[derive(Debug, Clone)]
pub struct Kept {
    /// Where it is.
    pub path: PathBuf,
    /// Its length in bytes.
    pub size: u64,
    /// When it was last used.
    pub used: SystemTime,
}

/// What was removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Removed {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that would have gone if nobody were using them.
    pub in_use: u64,
}

/// The files that take room in a cache, those first that were not used for the longest time.
pub fn files(cache: &Path) -> Vec<Kept> {
    let mut all: Vec<Kept> = ["blobs/sha256", "images"]
        .iter()
        .flat_map(|directory| {
            fs::read_dir(cache.join(directory))
                .into_iter()
                .flatten()
                .flatten()
        })
        .filter_map(|entry| {
            let data = entry.metadata().ok()?;
            let used = data.accessed().ok()?.max(data.modified().ok()?);
            Some(Kept {
                path: entry.path(),
                size: data.len(),
                used,
            })
        })
        .collect();
    all.sort_by_key(|kept| kept.used);
    all
}

/// How a cache is to be emptied.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// So many bytes may stay.
    pub size: u64,
    /// What was not used for so long goes in any case.
    pub age: Option<Duration>,
    /// What was used more lately stays, unless it goes by age.
    pub keep: Duration,
}

/// Removes what is not wanted any more.
pub fn evict(cache: &Cache<'_>, wanted: Wanted) -> Removed {
    let all = files(cache.root());
    let mut left: u64 = all.iter().map(|kept| kept.size).sum();
    let mut removed = Removed::default();
    for kept in all {
        match wanted.of(&kept, left) {
            Fate::Stays => {}
            Fate::Goes if !is_in_use(&kept.path) => {
                if fs::remove_file(&kept.path).is_ok() {
                    removed.files += 1;
                    removed.bytes += kept.size;
                    left -= kept.size;
                }
            }
            Fate::Goes | Fate::IsNeeded => removed.in_use += 1,
        }
    }
    sweep(&cache.root().join("leases"), ABANDONED);
    // A job that waits for so long to be queued again asks anew.
    sweep(&cache.root().join("jobs"), REMEMBERED);
    sweep(&cache.root().join("files"), REMEMBERED);
    removed
}

/// What becomes of a file.
enum Fate {
    Stays,
    Goes,
    IsNeeded,
}

impl Wanted {
    fn of(&self, kept: &Kept, left: u64) -> Fate {
        let unused = kept.used.elapsed().unwrap_or_default();
        let is_old = self.age.is_some_and(|age| unused >= age);
        let name = kept.path.file_name().unwrap_or_default();
        if name.as_encoded_bytes().starts_with(b".") {
            // Somebody is writing it, or died over it.
            return if unused > ABANDONED {
                Fate::Goes
            } else {
                Fate::Stays
            };
        }
        // Layers are needed until an image is made of them, and later only by one that shares them.
        let is_image = kept.path.extension().is_some();
        let keep = if is_image {
            self.keep
        } else {
            self.keep.min(LAYERS)
        };
        match (is_old, left > self.size) {
            (true, _) => Fate::Goes,
            (false, false) => Fate::Stays,
            (false, true) if unused < keep => Fate::IsNeeded,
            (false, true) => Fate::Goes,
        }
    }
}

/// Small files that nobody has written for so long.
fn sweep(directory: &Path, age: Duration) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let modified = entry.metadata().and_then(|data| data.modified());
        if !modified.is_ok_and(|modified| modified.elapsed().is_ok_and(|old| old > age)) {
            continue;
        }
        // What cannot be removed takes no room to speak of.
        let _ = match entry.path().is_dir() {
            true => fs::remove_dir_all(entry.path()),
            false => fs::remove_file(entry.path()),
        };
    }
}

/// Keeps a cache to its size; what cannot be done now can be done after the next fetch.
pub(super) fn after_fetch(cache: &Cache<'_>) {
    let wanted = Wanted {
        size: cache.config.cache_size,
        age: None,
        keep: RECENT,
    };
    evict(cache, wanted);
}

/// Whether a process of this machine has it open.
pub fn is_in_use(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| lease::is_open_elsewhere(&file))
}

#[cfg(test)]
mod tests {
    use std::fs::FileTimes;

    use super::*;
    use crate::config::Config;
    use crate::host::Host;

    const DAY: Duration = Duration::from_secs(86_400);

    /// A cache with a file of 100 bytes for each name, last used so many days ago.
    fn cache_with(place: &Path, files: &[(&str, u32)]) {
        for (name, days) in files {
            let path = place.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, [0; 100]).unwrap();
            let used = SystemTime::now() - DAY * *days;
            let times = FileTimes::new().set_accessed(used).set_modified(used);
            File::options()
                .write(true)
                .open(path)
                .unwrap()
                .set_times(times)
                .unwrap();
        }
    }

    fn left(place: &Path) -> Vec<String> {
        let mut names: Vec<_> = files(place)
            .iter()
            .map(|kept| {
                kept.path
                    .file_name()
                    .unwrap()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        names.sort();
        names
    }

    #[test]
    fn what_was_not_used_for_the_longest_time_goes_first_and_what_is_needed_stays() {
        let place = tempfile::tempdir().unwrap();
        let config = Config {
            cache: place.path().display().to_string(),
            ..Config::default()
        };
        let host = Host::look(Vec::new(), None);
        let cache = Cache::of(&config, &host);
        cache_with(
            place.path(),
            &[
                ("images/a.sqfs", 30),
                ("images/b.sqfs", 20),
                ("images/c.sqfs", 1),
                ("images/.d.sqfs.part.h.1", 0),
                ("images/.e.sqfs.part.h.2", 3),
                ("blobs/sha256/f", 2),
                ("blobs/sha256/g", 0),
            ],
        );
        let wanted = Wanted {
            size: 650,
            age: None,
            keep: RECENT,
        };
        let removed = evict(&cache, wanted);
        assert_eq!((removed.files, removed.bytes), (2, 200));
        assert_eq!(
            left(place.path()),
            [".d.sqfs.part.h.1", "b.sqfs", "c.sqfs", "f", "g"]
        );
        let nothing = Wanted { size: 0, ..wanted };
        let removed = evict(&cache, nothing);
        assert_eq!((removed.files, removed.in_use), (2, 2));
        assert_eq!(left(place.path()), [".d.sqfs.part.h.1", "c.sqfs", "g"]);
        let old = Wanted {
            size: u64::MAX,
            age: Some(DAY),
            keep: RECENT,
        };
        evict(&cache, old);
        assert_eq!(left(place.path()), [".d.sqfs.part.h.1", "g"]);
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
}
