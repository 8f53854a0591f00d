//! Making room in a cache: what was not used for the longest time goes first. Never what is in use: a file that
//! some process of this machine has open, or that was used lately, since another machine may have it open.
//!
//! All of it happens below a directory that carries Chariot's mark, by descriptor, and to regular files that have a
//! name as Chariot gives them. Whatever else lies there is somebody's, and stays.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{FileType, Stat};

use super::{Cache, lease};
use crate::files::own::{Below, Entry, Own};
use crate::image::Image;
use crate::oci::Digest;
use chariot_core::config::Config;
use chariot_core::error::Result;
use chariot_core::open;
use chariot_core::sys::lease::is_open_elsewhere;

/// What was used so lately stays, unless somebody says otherwise.
pub const RECENT: Duration = Duration::from_secs(7 * 86_400);

/// Layers that were used so lately may be some node's that is working on an image.
const LAYERS: Duration = Duration::from_secs(3600);

/// Layers that a failed fetch has left are of use to the next try, and that comes soon or not at all.
const LEFT: Duration = Duration::from_secs(86_400);

/// How long it is remembered what a job takes a name for, and which digest an archive has.
const REMEMBERED: Duration = Duration::from_secs(90 * 86_400);

/// Where layers and manifests lie, with the number of digits of their names.
const BLOBS: [(&str, usize); 2] = [("sha256", 64), ("sha512", 128)];

/// A file of a cache.
#[derive(Debug, Clone)]
struct Kept {
    /// Which of the directories it is in.
    place: usize,
    name: PathBuf,
    size: u64,
    used: SystemTime,
    is_image: bool,
}

/// What was removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Removed {
    /// Files.
    pub files: u64,
    /// Their bytes, but for those that have another name elsewhere.
    pub bytes: u64,
    /// Files that would have gone if nobody were using them.
    pub in_use: u64,
}

impl Removed {
    fn add(&mut self, (files, bytes): (u64, u64)) {
        self.files += files;
        self.bytes += bytes;
    }
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
    /// Whether somebody asked for it, who wants to see all gone that nobody needs.
    pub is_asked: bool,
}

/// Removes what is not wanted any more.
///
/// # Errors
/// The cache is somebody else's directory.
pub fn evict(cache: &Cache<'_>, wanted: Wanted) -> Result<Removed> {
    let mut removed = Removed::default();
    let Some(own) = Own::open(cache.root()?, cache.purpose)? else {
        return Ok(removed);
    };
    removed.add(own.root().sweep());
    let is_busy = below(&own, "leases").is_some_and(|leases| {
        lease::sweep(&leases, wanted.is_asked);
        lease::is_busy(&leases)
    });
    let places = Places::of(&own);
    for place in &places.all {
        removed.add(place.sweep());
    }
    let all = places.files();
    let mut left: u64 = all.iter().map(|kept| kept.size).sum();
    for kept in all {
        match wanted.of(&kept, left, is_busy, cache.config) {
            Fate::Stays => {}
            Fate::Goes => match places.remove(&kept) {
                Outcome::Removed(bytes) => {
                    removed.add((1, bytes));
                    left -= kept.size;
                }
                Outcome::InUse => removed.in_use += 1,
                Outcome::Stays => {}
            },
            Fate::IsNeeded => removed.in_use += 1,
        }
    }
    forget(&own, &mut removed);
    Ok(removed)
}

/// How much `chariot gc --all` could remove now, in bytes; none if that is nobody's cache.
pub fn could_remove(cache: &Cache<'_>) -> u64 {
    let own = cache.root().and_then(|root| Own::open(root, cache.purpose));
    let Ok(Some(own)) = own else { return 0 };
    let places = Places::of(&own);
    let files = places.files().into_iter();
    files
        .filter(|kept| kept.is_image && !places.is_in_use(kept))
        .map(|kept| kept.size)
        .sum()
}

/// A directory of a cache, if it is there and one.
fn below(own: &Own, name: &str) -> Option<Below> {
    own.root().enter(Path::new(name)).ok()
}

/// The directories whose files take room.
struct Places {
    all: Vec<Below>,
    digits: Vec<Option<usize>>,
}

enum Outcome {
    Removed(u64),
    InUse,
    Stays,
}

impl Places {
    fn of(own: &Own) -> Places {
        let (mut all, mut digits) = (Vec::new(), Vec::new());
        if let Some(images) = below(own, "images") {
            all.push(images);
            digits.push(None);
        }
        let blobs = below(own, "blobs");
        for (name, count) in BLOBS {
            let place = blobs.as_ref();
            if let Some(place) = place.and_then(|blobs| blobs.enter(Path::new(name)).ok()) {
                all.push(place);
                digits.push(Some(count));
            }
        }
        Places { all, digits }
    }

    /// The files that take room, those first that were not used for the longest time.
    fn files(&self) -> Vec<Kept> {
        let mut files = Vec::new();
        for (place, (directory, digits)) in self.all.iter().zip(&self.digits).enumerate() {
            for entry in directory.entries().unwrap_or_default() {
                let is_ours = match digits {
                    None => is_image(&entry),
                    Some(digits) => is_hex(&entry.name, *digits),
                };
                if is_ours && is_regular(&entry.data) {
                    files.push(Kept {
                        place,
                        size: u64::try_from(entry.data.st_size).unwrap_or(0),
                        used: used(&entry.data),
                        name: entry.name,
                        is_image: digits.is_none(),
                    });
                }
            }
        }
        files.sort_by_key(|kept| kept.used);
        files
    }

    fn is_in_use(&self, kept: &Kept) -> bool {
        let place = self.all.get(kept.place);
        place.is_some_and(|place| {
            place
                .open(&kept.name)
                .is_ok_and(|(file, _)| is_open_elsewhere(&file))
        })
    }

    fn remove(&self, kept: &Kept) -> Outcome {
        let Some(place) = self.all.get(kept.place) else {
            return Outcome::Stays;
        };
        // What is gone by now, or is something else, is nobody's loss.
        let Ok((file, data)) = place.open(&kept.name) else {
            return Outcome::Stays;
        };
        if is_open_elsewhere(&file) {
            return Outcome::InUse;
        }
        match place.remove(&kept.name) {
            // The store has it too.
            Ok(()) if data.st_nlink > 1 => Outcome::Removed(0),
            Ok(()) => Outcome::Removed(kept.size),
            Err(_) => Outcome::Stays,
        }
    }
}

fn is_regular(data: &Stat) -> bool {
    FileType::from_raw_mode(data.st_mode).is_file()
}

pub(super) fn is_hex(name: &Path, digits: usize) -> bool {
    let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let name = name.as_os_str().as_encoded_bytes();
    name.len() == digits && name.iter().all(is_digit)
}

fn is_image(entry: &Entry) -> bool {
    entry.name.extension().is_some_and(|end| end == "sqfs")
        && is_hex(Path::new(entry.name.file_stem().unwrap_or_default()), 64)
}

/// When it was last used, by the later of both times: some file systems keep no time of access.
fn used(data: &Stat) -> SystemTime {
    let seconds = u64::try_from(data.st_atime.max(data.st_mtime)).unwrap_or(0);
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

/// What becomes of a file.
enum Fate {
    Stays,
    Goes,
    IsNeeded,
}

impl Wanted {
    fn of(&self, kept: &Kept, left: u64, is_busy: bool, config: &Config) -> Fate {
        let unused = kept.used.elapsed().unwrap_or_default();
        let is_old = self.age.is_some_and(|age| unused >= age)
            || (!kept.is_image && !config.keep_layers && unused > LEFT);
        // Layers are needed until an image is made of them, and later only by one that shares them.
        let keep = match kept.is_image {
            true => self.keep,
            false => self.keep.min(LAYERS),
        };
        let is_fetched = is_busy && !kept.is_image && unused < LAYERS;
        match (is_old, left > self.size) {
            (false, false) => Fate::Stays,
            _ if is_fetched => Fate::IsNeeded,
            (true, _) => Fate::Goes,
            (false, true) if unused < keep => Fate::IsNeeded,
            (false, true) => Fate::Goes,
        }
    }
}

/// Forgets what jobs took names for, and digests of archives, long after they were of use. A job that waits for so
/// long to be queued again asks anew.
fn forget(own: &Own, removed: &mut Removed) {
    if let Some(files) = below(own, "files") {
        forget_in(&files, removed);
    }
    let Some(jobs) = below(own, "jobs") else {
        return;
    };
    for entry in jobs.entries().unwrap_or_default() {
        let is_job = entry.name.to_str().is_some_and(super::names::is_job);
        if !is_job || !entry.is_directory() {
            continue;
        }
        if let Ok(job) = jobs.enter(&entry.name) {
            forget_in(&job, removed);
        }
        if is_forgotten(&entry) {
            // It stays if anything is left in it.
            let _ = jobs.remove_empty(&entry);
        }
    }
}

fn is_forgotten(entry: &Entry) -> bool {
    entry.modified().elapsed().is_ok_and(|age| age > REMEMBERED)
}

fn forget_in(directory: &Below, removed: &mut Removed) {
    removed.add(directory.sweep());
    for entry in directory.entries().unwrap_or_default() {
        if is_hex(&entry.name, 64) && is_regular(&entry.data) && is_forgotten(&entry) {
            // What cannot be removed takes no room to speak of.
            let _ = directory.remove(&entry.name);
        }
    }
}

/// Keeps a cache to its size, now that `image` was made; what cannot be done now can be done after the next fetch.
pub(super) fn after_fetch(cache: &Cache<'_>, image: &Path) {
    drop_layers(cache, image);
    let wanted = Wanted {
        size: cache.config.cache_size,
        age: None,
        keep: RECENT,
        is_asked: false,
    };
    let _ = evict(cache, wanted);
}

/// Removes the layers that an image was made of, unless the site keeps them or somebody is working, who may need them.
pub fn drop_layers(cache: &Cache<'_>, image: &Path) {
    if cache.config.keep_layers {
        return;
    }
    let own = cache.root().and_then(|root| Own::open(root, cache.purpose));
    let Ok(Some(own)) = own else { return };
    let Some(blobs) = below(&own, "blobs").and_then(|blobs| blobs.enter(Path::new("sha256")).ok())
    else {
        return;
    };
    if below(&own, "leases").is_some_and(|leases| lease::is_busy(&leases)) {
        return;
    }
    let mark = Image::open("", image, cache.config).map(|image| image.metadata.mark);
    let Ok(Some(mark)) = mark else { return };
    for layer in mark.layers {
        if let Some(digest) = Digest::parse(&layer.digest) {
            let _ = blobs.remove(Path::new(digest.hex()));
        }
    }
}

/// Whether a process of this machine has it open.
pub fn is_in_use(path: &Path) -> bool {
    open::regular(path).is_ok_and(|file| is_open_elsewhere(&file))
}

#[cfg(test)]
#[path = "evict/tests.rs"]
mod tests;
