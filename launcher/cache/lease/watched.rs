//! Looking after a lease that somebody else holds, by this machine's own clock.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags, openat, statx};
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
    glanced: Option<(OwnedFd, Glance)>,
    number: u64,
    pub(super) text: String,
    since: Option<Instant>,
}

/// What tells without reading a lease that somebody has written into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Glance {
    length: u64,
    modified: (i64, u32),
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
            && let Ok(is_new) = self.glance(&path)
        {
            match is_new {
                Some(true) => self.since = Some(Instant::now()),
                Some(false) if since.elapsed() <= self.silence => {}
                // What it says it has said since then.
                Some(false) => {
                    self.text = read(&path)?.unwrap_or_default();
                    return Ok(false);
                }
                None => return Ok(false),
            }
            return Ok(true);
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

    /// Whether the lease has changed since the last glance; none if it has ended.
    fn glance(&mut self, path: &Path) -> rustix::io::Result<Option<bool>> {
        let (file, last) = match self.glanced.take() {
            Some((file, last)) => (Ok(file), Some(last)),
            None => (open_known(path), None),
        };
        match file.and_then(|file| Ok((glance_at(&file)?, file))) {
            Ok((Some(now), file)) => {
                self.glanced = Some((file, now));
                Ok(Some(last != Some(now)))
            }
            Ok((None, _)) | Err(Errno::NOENT | Errno::STALE) => Ok(None),
            Err(errno) => Err(errno),
        }
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
            self.glanced = None;
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

/// Opened without the file server hearing of it, and known from then on whatever its name leads to.
fn open_known(path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty())
}

/// Asks the file server itself, once, and nothing that this machine remembers. None if the file is gone, or its holder has
/// given up.
fn glance_at(file: &OwnedFd) -> rustix::io::Result<Option<Glance>> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_FORCE_SYNC;
    let data = statx(file, "", flags, StatxFlags::BASIC_STATS)?;
    let is_writable = Mode::from_raw_mode(data.stx_mode.into()).contains(Mode::WUSR);
    Ok((data.stx_nlink > 0 && is_writable).then_some(Glance {
        length: data.stx_size,
        modified: (data.stx_mtime.tv_sec, data.stx_mtime.tv_nsec),
    }))
}
