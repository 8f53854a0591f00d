//! Looking after a lease that somebody else holds, by this machine's own clock.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, Mode, StatxFlags, statx};
use rustix::io::Errno;

use super::{FAILED, SHOWN, failure, is_dead, path, read};
use crate::work::Progress;
use chariot_core::error::Result;

/// The lease that one waits for.
#[derive(Debug)]
pub(super) struct Watched {
    silence: Duration,
    /// Whether it is looked at, and read only when nothing has changed for too long.
    glances: bool,
    glanced: Option<Glance>,
    number: u64,
    pub(super) text: String,
    since: Option<Instant>,
}

/// What tells without reading a lease that somebody has written into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Glance {
    inode: u64,
    length: u64,
    modified: (i64, u32),
    /// Not any more if its holder has given up.
    is_writable: bool,
}

impl Watched {
    pub(super) fn new(silence: Duration, glances: bool) -> Watched {
        Watched {
            silence,
            glances,
            glanced: None,
            number: 0,
            text: String::new(),
            since: None,
        }
    }

    /// Whether the lease that is known is still its holder's, who is working. If not, all has to be looked at.
    pub(super) fn goes_on(&mut self, directory: &Path, name: &str) -> io::Result<bool> {
        let Some(since) = self.since else {
            return Ok(false);
        };
        let path = path(directory, name, self.number);
        if self.glances
            && let Ok(glance) = glance(&path)
        {
            let Some(glance) = glance.filter(|glance| glance.is_writable) else {
                return Ok(false);
            };
            if self.glanced.replace(glance) != Some(glance) {
                self.since = Some(Instant::now());
                return Ok(true);
            }
            if since.elapsed() <= self.silence {
                return Ok(true);
            }
            // What it says it has said since then.
            self.text = read(&path)?.unwrap_or_default();
            return Ok(false);
        }
        let Some(text) = read(&path)? else {
            return Ok(false);
        };
        if text.starts_with(FAILED) {
            return Ok(false);
        }
        if text != self.text {
            self.text = text;
            self.since = Some(Instant::now());
            return Ok(true);
        }
        Ok(since.elapsed() <= self.silence && !is_dead(&text))
    }

    /// Looks at the newest lease, and gives the number of the one to create if nobody holds it any more.
    pub(super) fn look(
        &mut self,
        directory: &Path,
        name: &str,
        number: u64,
        word: &str,
    ) -> io::Result<Result<Option<u64>>> {
        let Some(text) = read(&path(directory, name, number))? else {
            // It has just ended; the image is there, or the next look tells.
            return Ok(Ok(None));
        };
        let is_new = self.since.is_none() || self.number != number;
        if let Some(said) = text.strip_prefix(FAILED) {
            // What failed before this one came may work now.
            return Ok(match is_new {
                true => Ok(Some(number + 1)),
                false => Err(failure(said, word)),
            });
        }
        if is_new || self.text != text {
            self.number = number;
            self.since = Some(Instant::now());
        }
        let is_silent = self
            .since
            .is_some_and(|since| since.elapsed() > self.silence);
        let next = (is_silent || is_dead(&text)).then_some(number + 1);
        self.text = text;
        Ok(Ok(next))
    }

    /// Waits, and shows all the while that this one is waiting, and not dead.
    pub(super) fn wait(&self, pause: Duration, see: &mut dyn FnMut(&Progress)) {
        let end = Instant::now() + pause;
        loop {
            if self.since.is_some() {
                see(&self.progress());
            }
            let left = end.saturating_duration_since(Instant::now());
            std::thread::sleep(left.min(SHOWN));
            if left <= SHOWN {
                return;
            }
        }
    }

    pub(super) fn holder(&self) -> Option<&str> {
        self.text.split(' ').next().filter(|host| !host.is_empty())
    }

    pub(super) fn progress(&self) -> Progress {
        let line = self.text.lines().next().unwrap_or_default();
        let mut parts = line.splitn(6, ' ').skip(3);
        let mut number = || parts.next().and_then(|text| text.parse().ok()).unwrap_or(0);
        let (done, total) = (number(), number());
        let holder = self.holder().unwrap_or("another process");
        let what = match parts.next().filter(|what| !what.is_empty()) {
            Some(what) => format!("{holder} is working: {what}"),
            None => format!("{holder} is working"),
        };
        Progress {
            what,
            done,
            total,
            elsewhere: true,
        }
    }
}

/// Asks the file server itself, once, and nothing that this machine remembers: no open(2) with all that it brings. None
/// if it is gone.
fn glance(path: &Path) -> rustix::io::Result<Option<Glance>> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::STATX_FORCE_SYNC;
    match statx(CWD, path, flags, StatxFlags::BASIC_STATS) {
        Ok(data) => Ok(Some(Glance {
            inode: data.stx_ino,
            length: data.stx_size,
            modified: (data.stx_mtime.tv_sec, data.stx_mtime.tv_nsec),
            is_writable: Mode::from_raw_mode(data.stx_mode.into()).contains(Mode::WUSR),
        })),
        Err(Errno::NOENT | Errno::STALE) => Ok(None),
        Err(errno) => Err(errno),
    }
}
