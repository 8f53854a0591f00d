//! Making room in a cache: what was not used for the longest time goes first. Never what is in use: a file that
//! some process of this machine has open, or that was used lately, since another machine may have it open.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{BLOBS, Cache};
use crate::error::Result;
use crate::files::own::{Below, Entry, Own};
use crate::sys::lease;

/// What was used so lately stays, unless somebody says otherwise.
pub const RECENT: Duration = Duration::from_secs(7 * 86_400);

/// A lease that nobody has written for so long is nobody's.
const ABANDONED: Duration = Duration::from_secs(86_400);

/// Layers that were used so lately may be some node's that is at work on an image.
const LAYERS: Duration = Duration::from_secs(3600);

/// How long it is remembered what a job takes a name for, and which digest an archive has.
const REMEMBERED: Duration = Duration::from_secs(90 * 86_400);

/// A file of a cache.
#[derive(Debug)]
struct Kept {
    directory: usize,
    name: PathBuf,
    is_image: bool,
    /// Its length in bytes.
    size: u64,
    /// When it was last used.
    used: SystemTime,
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

/// The directories with what takes room: images, and layers.
fn directories(own: &Own) -> Vec<(Below, bool)> {
    let images = own
        .root()
        .enter(Path::new("images"))
        .map(|images| (images, true));
    let blobs = own.root().enter(Path::new("blobs"));
    let blobs = blobs.into_iter().flat_map(|blobs| {
        let below = |name: &&str| Some((blobs.enter(Path::new(name)).ok()?, false));
        BLOBS.iter().filter_map(below).collect::<Vec<_>>()
    });
    images.into_iter().chain(blobs).collect()
}

/// The files that take room in a cache, those first that were not used for the longest time. Names that are not of
/// Chariot's own form are somebody else's.
fn files(directories: &[(Below, bool)]) -> Vec<Kept> {
    let mut all = Vec::new();
    for (directory, (below, is_image)) in directories.iter().enumerate() {
        let entries = below.entries().unwrap_or_default().into_iter();
        all.extend(entries.filter_map(|entry| {
            let name = entry.name.to_str()?;
            let hex = match is_image {
                true => name.strip_suffix(".sqfs")?,
                false => name,
            };
            (is_hex(hex) && entry.is_file()).then(|| Kept {
                directory,
                name: entry.name.clone(),
                is_image: *is_image,
                size: entry.size(),
                used: used(&entry),
            })
        }));
    }
    all.sort_by_key(|kept| kept.used);
    all
}

fn used(entry: &Entry) -> SystemTime {
    let seconds = u64::try_from(entry.data.st_atime).unwrap_or(0);
    (UNIX_EPOCH + Duration::from_secs(seconds)).max(entry.modified())
}

/// Whether a name is a digest's, as file names of a cache are.
fn is_hex(name: &str) -> bool {
    matches!(name.len(), 64 | 128)
        && name
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
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

/// Removes what is not wanted any more, and what interrupted work has left.
///
/// # Errors
/// The directory is no cache of this user's; then nothing is touched.
pub fn evict(cache: &Cache<'_>, wanted: Wanted) -> Result<Removed> {
    let Some(own) = cache.own()? else {
        return Ok(Removed::default());
    };
    let directories = directories(&own);
    let mut removed = Removed::default();
    for (below, _) in &directories {
        let (files, bytes) = below.sweep();
        removed.files += files;
        removed.bytes += bytes;
    }
    let all = files(&directories);
    let mut left: u64 = all.iter().map(|kept| kept.size).sum();
    for kept in all {
        let (below, _) = &directories[kept.directory];
        match wanted.of(&kept, left) {
            Fate::Stays => {}
            Fate::Goes if !is_used(below, &kept.name) => {
                if below.remove(&kept.name).is_ok() {
                    removed.files += 1;
                    removed.bytes += kept.size;
                    left -= kept.size;
                }
            }
            Fate::Goes | Fate::IsNeeded => removed.in_use += 1,
        }
    }
    sweep_small(&own);
    Ok(removed)
}

/// Removes the small files that nobody needs any more. What cannot be removed takes no room to speak of.
fn sweep_small(own: &Own) {
    let enter = |name: &str| own.root().enter(Path::new(name));
    let is_lease = |name: &str| {
        name.split_once('.').is_some_and(|(hex, number)| {
            is_hex(hex) && !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
        })
    };
    for (name, age, is_ours) in [
        ("leases", ABANDONED, &is_lease as &dyn Fn(&str) -> bool),
        ("files", REMEMBERED, &is_hex),
        ("stored", REMEMBERED, &is_hex),
    ] {
        let _ = enter(name).and_then(|below| sweep(&below, age, is_ours));
    }
    // A job that waits for so long to be queued again asks anew.
    let _ = enter("jobs").and_then(|jobs| {
        for job in jobs.entries()?.iter().filter(|job| job.is_directory()) {
            let _ = jobs
                .enter(&job.name)
                .and_then(|below| sweep(&below, REMEMBERED, &is_hex));
            if is_old(job, REMEMBERED) {
                let _ = jobs.remove_empty(job);
            }
        }
        Ok(())
    });
}

/// Removes files of Chariot's own names that nobody has written for so long.
fn sweep(below: &Below, age: Duration, is_ours: &dyn Fn(&str) -> bool) -> io::Result<()> {
    below.sweep();
    for entry in below.entries()? {
        let is_ours = entry.name.to_str().is_some_and(is_ours);
        if is_ours && entry.is_file() && is_old(&entry, age) {
            let _ = below.remove(&entry.name);
        }
    }
    Ok(())
}

fn is_old(entry: &Entry, age: Duration) -> bool {
    entry.modified().elapsed().is_ok_and(|old| old > age)
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
        // Layers are needed until an image is made of them, and later only by one that shares them.
        let keep = if kept.is_image {
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

/// Keeps a cache to its size; what cannot be done now can be done after the next fetch.
pub(super) fn after_fetch(cache: &Cache<'_>) {
    let wanted = Wanted {
        size: cache.config.cache_size,
        age: None,
        keep: RECENT,
    };
    // What went wrong here is said by whoever needs the room.
    let _ = evict(cache, wanted);
}

/// Whether a process of this machine has it open. Where nobody can tell, none has.
pub fn is_in_use(file: &File) -> bool {
    lease::is_open_elsewhere(file)
}

fn is_used(below: &Below, name: &Path) -> bool {
    below.open(name).is_ok_and(|(file, _)| is_in_use(&file))
}

#[cfg(test)]
#[path = "evict/tests.rs"]
mod tests;
