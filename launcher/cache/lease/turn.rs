//! Whose turn it is to make an image: waiting for who makes it, or to be the one.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use super::pace::{Crowd, Pace};
use super::watched::Watched;
use super::{Lease, SILENCE, number_of};
use crate::files::space;
use crate::work::Progress;
use chariot_core::error::{Error, Explain, Result};

/// What somebody waits for.
#[derive(Debug, Clone, Copy)]
pub struct Want<'a> {
    /// Where leases are.
    pub directory: &'a Path,
    /// What the lease is called: a digest.
    pub name: &'a str,
    /// What the user calls the image.
    pub word: &'a str,
    /// How long to wait at most.
    pub patience: Duration,
    /// Who may be waiting as well.
    pub crowd: Crowd,
}

/// How a wait ended.
#[derive(Debug)]
pub enum Turn {
    /// The caller is to make the image.
    Mine(Lease),
    /// It is there.
    Made,
}

/// Waits until the image is there, or until it is the caller's turn to make it.
///
/// # Errors
/// Whoever made it failed while this one waited, or it takes longer than `patience`.
pub fn take(
    want: &Want<'_>,
    is_there: impl Fn() -> bool,
    see: &mut dyn FnMut(&Progress),
) -> Result<Turn> {
    let pace = Pace::of(want.crowd);
    let mut watched = Watched::new(SILENCE, pace.glances);
    watching(want, is_there, see, pace, &mut watched)
}

pub(super) fn watching(
    want: &Want<'_>,
    is_there: impl Fn() -> bool,
    see: &mut dyn FnMut(&Progress),
    pace: Pace,
    watched: &mut Watched,
) -> Result<Turn> {
    let &Want {
        directory, name, ..
    } = want;
    let what = || format!("can't use the cache's {}", directory.display());
    let start = Instant::now();
    let mut waited = None;
    loop {
        // One look, as long as the lease that is known shows that its holder is there.
        if !watched.goes_on(directory, name).explain(what)? {
            if is_there() {
                return Ok(Turn::Made);
            }
            let newest = newest(directory, name).explain(what)?;
            let next = match newest {
                None => Some(1),
                Some(number) => watched
                    .look(directory, name, number, want.word)
                    .explain(what)??,
            };
            if let Some(number) = next {
                let lease = Lease::new(directory, name, number);
                let created = lease.create();
                let created =
                    created.map_err(|error| space::explain(&error, &what(), "open", directory));
                if created? {
                    // Whoever held the last one may have finished just before.
                    return match is_there() {
                        true => {
                            lease.end();
                            Ok(Turn::Made)
                        }
                        false => Ok(Turn::Mine(lease)),
                    };
                }
                continue;
            }
        }
        let left = want.patience.checked_sub(start.elapsed());
        let left = left.ok_or_else(|| timed_out(want, watched))?;
        watched.wait(pace.pause(waited).min(left), see);
        waited = Some(start.elapsed());
    }
}

fn timed_out(want: &Want<'_>, watched: &Watched) -> Error {
    let holder = watched.holder().unwrap_or("another process");
    let (seconds, word) = (want.patience.as_secs(), want.word);
    Error::new(format!(
        "timed out after {seconds} s waiting for {holder} to convert {word}"
    ))
    .hint("the site configuration file sets the bound: waits.fetch")
}

/// The highest number among the leases of a name.
pub(super) fn newest(directory: &Path, name: &str) -> io::Result<Option<u64>> {
    let mut newest = None;
    for entry in fs::read_dir(directory)? {
        let file = entry?.file_name();
        let number = file
            .to_str()
            .and_then(number_of)
            .and_then(|(of, number)| (of == name).then_some(number));
        newest = newest.max(number);
    }
    Ok(newest)
}
