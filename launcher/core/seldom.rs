//! Saying something to a log that a thousand processes of a machine would say: once in a while, and by one of them.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{CWD, FileType, FlockOperation, Mode, OFlags, flock, fstat, openat};

/// Where root alone can make files, which a restart of the machine takes away.
const PLACE: &str = "/run";

/// Whether it is time for `what` again: nobody on this machine was told so within `pause`. To whoever is not root it
/// always is time.
pub fn is_time(what: &str, pause: Duration) -> bool {
    let is_allowed = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
    let plain = |letter| if is_allowed(letter) { letter } else { '-' };
    let name: String = what.chars().take(200).map(plain).collect();
    is_time_by(&Path::new(PLACE).join(format!("chariot-{name}")), pause)
}

fn is_time_by(stamp: &Path, pause: Duration) -> bool {
    // Better once too often than not at all.
    open(stamp)
        .and_then(|file| take_turn(&file, pause))
        .unwrap_or(true)
}

fn open(stamp: &Path) -> io::Result<File> {
    let flags =
        OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat(CWD, stamp, flags, Mode::RUSR | Mode::WUSR)?;
    match FileType::from_raw_mode(fstat(&file)?.st_mode) {
        FileType::RegularFile => Ok(File::from(file)),
        kind => Err(super::open::not_regular(kind)),
    }
}

fn take_turn(file: &File, pause: Duration) -> io::Result<bool> {
    if flock(file, FlockOperation::NonBlockingLockExclusive).is_err() {
        // Somebody is just saying it.
        return Ok(false);
    }
    let data = file.metadata()?;
    let now = SystemTime::now();
    // A stamp of the future is one of a clock that was wrong.
    let is_recent = now
        .duration_since(data.modified()?)
        .is_ok_and(|age| age < pause);
    if data.len() > 0 && is_recent {
        return Ok(false);
    }
    file.write_at(b"\n", 0)?;
    file.set_modified(now)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_time_once_in_a_pause_whoever_asks() {
        let place = tempfile::tempdir().unwrap();
        let stamp = place.path().join("stamp");
        let hour = Duration::from_secs(3600);
        let told = (0..50).filter(|_| is_time_by(&stamp, hour)).count();
        assert_eq!(told, 1);
        let file = File::options().write(true).open(&stamp).unwrap();
        // Another test's child can have the lock for a moment, until it executes something.
        let is_time_soon = || {
            (0..500).any(|_| {
                is_time_by(&stamp, hour) || {
                    std::thread::sleep(Duration::from_millis(10));
                    false
                }
            })
        };
        file.set_modified(SystemTime::now() - 2 * hour).unwrap();
        assert!(is_time_soon() && !is_time_by(&stamp, hour));
        file.set_modified(SystemTime::now() + 2 * hour).unwrap();
        assert!(is_time_soon() && !is_time_by(&stamp, hour));
        // Where there can be no stamp, nothing is kept back.
        assert!(is_time_by(Path::new("/nonexistent/stamp"), hour));
    }
}
