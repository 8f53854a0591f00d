//! `chariot df`: what images take, and where.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{ArgMatches, Command};
use indicatif::HumanBytes;
use serde::Serialize;

use super::columns::{self, Column};
use super::flag;
use super::images::as_text;
use super::tool::Tool;
use crate::cache::Cache;
use crate::print;
use chariot_core::error::{Result, io_reason};

pub(super) fn command() -> Command {
    Command::new("df")
        .about("Show how much your images take, and where")
        .long_about(
            "Show how much your images take, and where. `chariot rm` removes from the store, `chariot gc` from the cache; copies on \
             a node make room for each other.",
        )
        .arg(flag("json", "print it as JSON"))
}

/// A place.
#[derive(Debug, Serialize)]
struct Used {
    what: &'static str,
    #[serde(serialize_with = "as_text")]
    path: Option<PathBuf>,
    /// Bytes on the disk.
    size: u64,
    files: u64,
    /// Bytes that the file system has left for you.
    free: Option<u64>,
}

/// `chariot df`.
pub(super) fn df(matches: &ArgMatches) -> Result<ExitCode> {
    let tool = Tool::read(matches)?;
    let (config, host) = (&tool.config, &tool.host);
    let cache = Cache::of(config, host);
    let places = [
        ("store", host.expand("store", &config.store).ok()),
        ("cache", cache.root().ok().map(Path::to_owned)),
        (
            "copies on this node",
            host.expand("stage_dir", &config.stage_dir).ok(),
        ),
    ];
    // A file of the store and one of the cache can be the same one.
    let mut seen = HashSet::new();
    let used: Vec<Used> = places
        .into_iter()
        .filter_map(|(what, path)| Some((what, path.filter(|path| path.is_dir())?)))
        .map(|(what, path)| measure(what, path, &mut seen))
        .collect();
    if matches.get_flag("json") {
        return print::json(&used);
    }
    if used.is_empty() {
        tracing::info!("there are no images yet: chariot pull NAME, or chariot build -t NAME DIR");
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<_> = used.iter().map(Used::row).collect();
    print::lines(columns::lines(&COLUMNS, &rows, print::width()))
}

/// The columns of [`Used::row`].
const COLUMNS: [Column; 5] = [
    Column::text("WHAT", 0),
    Column::number("SIZE", 0),
    Column::number("FILES", 2),
    Column::number("FREE", 1),
    Column::text("WHERE", 0),
];

impl Used {
    fn row(&self) -> Vec<String> {
        let free = self.free.map(|free| HumanBytes(free).to_string());
        vec![
            self.what.to_owned(),
            HumanBytes(self.size).to_string(),
            self.files.to_string(),
            free.unwrap_or_else(|| "-".to_owned()),
            self.path
                .as_deref()
                .map_or_else(String::new, |path| path.display().to_string()),
        ]
    }
}

/// What lies below a directory; where somebody else's directories cannot be read, without what is in them.
fn measure(what: &'static str, path: PathBuf, seen: &mut HashSet<(u64, u64)>) -> Used {
    let (mut size, mut files) = (0, 0);
    let mut left = vec![path.clone()];
    while let Some(directory) = left.pop() {
        let entries = std::fs::read_dir(&directory);
        if let Err(error) = &entries {
            let reason = io_reason(error);
            tracing::warn!("warning: {} is not counted: {reason}", directory.display());
        }
        for entry in entries.into_iter().flatten().flatten() {
            let Ok(data) = entry.metadata() else { continue };
            if data.nlink() > 1 && !data.is_dir() && !seen.insert((data.dev(), data.ino())) {
                continue;
            }
            // stat(2): blocks are 512 bytes, whatever the file system's are.
            size += data.blocks() * 512;
            match data.is_dir() {
                true => left.push(entry.path()),
                false => files += 1,
            }
        }
    }
    let system = rustix::fs::statvfs(&path).ok();
    Used {
        what,
        size,
        files,
        free: system.map(|system| system.f_bavail * system.f_frsize),
        path: Some(path),
    }
}
