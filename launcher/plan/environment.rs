//! The variables that the command sees: the host's, then the image's, then what was asked for.

use std::ffi::OsStr;
use std::path::Path;

use crate::host::Host;
use crate::image::{Image, metadata};
use crate::mount::APT_CONFIG;
use chariot_core::environment::{Edit, Environment, apply, find};
use chariot_core::error::{Error, Explain, Result};
use chariot_core::open;
use chariot_core::options::{Assignment, Options, Sourced};

/// The longest file of variables, in bytes.
const LARGEST: u64 = 4 << 20;

/// Set inside, so that a program can tell; its value is the image as it was named.
pub const RUNNING: &str = "CH_RUNNING";

/// Where programs are looked for if nobody says.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The host's libraries are built for the host's libc: preloading them inside breaks every program.
const STAYS_OUTSIDE: [&str; 2] = ["LD_PRELOAD", "LD_LIBRARY_PATH"];

/// Decides what changes, in order; a later edit of a variable replaces an earlier one.
///
/// # Errors
/// A file of assignments that cannot be read.
pub(super) fn plan(
    options: &Options,
    host: &Host,
    image: &Image,
    devices: &[Assigned],
) -> Result<Vec<Edit>> {
    let assigned = assigned(&options.set_env)?;
    Ok(decide(
        options,
        &host.environment,
        &image.word,
        &image.metadata,
        devices,
        &assigned,
    ))
}

/// The same from facts alone. `devices` is what devices set, and `assigned` what [`assigned`] read.
pub(crate) fn decide(
    options: &Options,
    environment: &Environment,
    word: &str,
    metadata: &metadata::Metadata,
    devices: &[Assigned],
    assigned: &[Assigned],
) -> Vec<Edit> {
    let has = |name: &str| find(environment, name).is_some();
    let kept = |name: &str| options.keep_env.iter().any(|kept| kept == name);
    let mut edits = Vec::new();
    for name in STAYS_OUTSIDE {
        if has(name) && !kept(name) {
            edits.push(Edit::unset(name, "the host's libraries stay outside"));
        }
    }
    for (name, value) in &metadata.environment {
        if !(belongs_to_task(name) || kept(name) && has(name)) {
            edits.push(Edit::set(name, value, metadata.environment_from));
        }
    }
    for (name, value, origin) in devices {
        if !belongs_to_task(name) {
            edits.push(Edit::set(name, value, origin));
        }
    }
    for glob in &options.unset_env {
        edits.extend(unset(glob, &apply(environment, &edits)));
    }
    for (name, value, origin) in assigned {
        edits.push(Edit::set(name, value, origin));
    }
    if Options::on(&options.fakeroot) && !assigned.iter().any(|(name, ..)| name == "APT_CONFIG") {
        edits.push(Edit::set("APT_CONFIG", APT_CONFIG, "fakeroot"));
    }
    edits.extend(path(&apply(environment, &edits)));
    edits.push(Edit::set(RUNNING, word, "so that programs can tell"));
    last_word_only(edits)
}

/// Variables that Slurm gives each task, or that name what a task was given; an image that sets them
/// would make every rank the same rank.
fn belongs_to_task(name: &str) -> bool {
    const NAMES: [&str; 5] = [
        "CUDA_VISIBLE_DEVICES",
        "ROCR_VISIBLE_DEVICES",
        "ZE_AFFINITY_MASK",
        "DISPLAY",
        "XAUTHORITY",
    ];
    name.starts_with("SLURM_") || name.starts_with("PMI") || NAMES.contains(&name)
}

fn unset(glob: &Sourced<String>, environment: &Environment) -> Vec<Edit> {
    let Ok(pattern) = glob::Pattern::new(&glob.value) else {
        return Vec::new();
    };
    environment
        .iter()
        .filter(|(name, _)| pattern.matches(&name.to_string_lossy()))
        .map(|(name, _)| Edit::unset(name, &glob.origin))
        .collect()
}

/// `PATH` never lacks /bin: an image for which the host's PATH makes no sense could not even run sh.
fn path(environment: &Environment) -> Option<Edit> {
    let origin = "PATH always has /bin";
    let Some(path) = find(environment, "PATH").filter(|path| !path.is_empty()) else {
        return Some(Edit::set("PATH", PATH, origin));
    };
    if std::env::split_paths(path).any(|directory| directory == Path::new("/bin")) {
        return None;
    }
    let mut longer = path.to_owned();
    longer.push(":/bin");
    Some(Edit::set("PATH", longer, origin))
}

/// Makes a directory the last of `PATH`, so that a command of that name in the image wins.
pub(super) fn end_path_in(directory: &Path, before: &Environment, edits: &mut Vec<Edit>) {
    let now = apply(before, edits);
    let mut path = find(&now, "PATH").unwrap_or_default().to_owned();
    path.push(":");
    path.push(directory);
    edits.retain(|edit| edit.name != "PATH");
    edits.push(Edit::set(
        "PATH",
        path,
        "the host's Slurm commands come last",
    ));
}

/// A name, a value, and who wanted it.
pub(crate) type Assigned = (String, String, String);

/// The variables of `--set-env`, those of files read.
///
/// # Errors
/// A file that cannot be read or understood.
pub(crate) fn assigned(given: &[Sourced<Assignment>]) -> Result<Vec<Assigned>> {
    let mut assigned = Vec::new();
    for Sourced { value, origin } in given {
        match value {
            Assignment::Variable(name, value) => {
                assigned.push((name.clone(), value.clone(), origin.clone()));
            }
            Assignment::File(path) => {
                let what = || format!("can't set variables from {}", path.display());
                let text = open::typed(path).and_then(|file| open::all_of(&file, LARGEST));
                let text = text.explain(what)?;
                let variables = metadata::assignments(&text).map_err(|(line, reason)| {
                    Error::new(format!("{}: line {line}: {reason}", what()))
                        .hint("the file has one NAME=VALUE per line")
                })?;
                let origin = format!("{origin}={}", path.display());
                assigned.extend(variables.into_iter().map(|(a, b)| (a, b, origin.clone())));
            }
        }
    }
    Ok(assigned)
}

fn last_word_only(edits: Vec<Edit>) -> Vec<Edit> {
    let mut result: Vec<Edit> = Vec::new();
    for edit in edits {
        result.retain(|earlier| earlier.name != edit.name);
        result.push(edit);
    }
    result
}

/// What follows from looking around inside: HOME and TMPDIR must be directories that exist, unless
/// somebody asked for that value.
pub fn settle(
    plan: &[Edit],
    before: &Environment,
    is_root: bool,
    is_directory: impl Fn(&OsStr) -> bool,
) -> Vec<Edit> {
    let mut edits = Vec::new();
    let asked = |name: &str| {
        plan.iter()
            .any(|edit| edit.name == name && edit.origin.contains("set-env"))
    };
    let now = apply(before, plan);
    let visible = |name: &str| find(&now, name).is_some_and(&is_directory);
    if !asked("HOME") && !visible("HOME") {
        let root_home = is_root && is_directory(OsStr::new("/root"));
        let home = if root_home { "/root" } else { "/" };
        edits.push(Edit::set(
            "HOME",
            home,
            "the home directory is not visible inside",
        ));
    }
    if !asked("TMPDIR") && find(&now, "TMPDIR").is_some() && !visible("TMPDIR") {
        edits.push(Edit::set(
            "TMPDIR",
            "/tmp",
            "the host's TMPDIR is not visible inside",
        ));
    }
    edits
}

#[cfg(test)]
mod tests;
