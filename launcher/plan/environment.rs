//! The variables that the command sees: the host's, then the image's, then what was asked for.

mod open;
mod prompt;
mod ranks;
pub mod table;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::host::Host;
use crate::image::{Image, metadata};
use crate::mount::APT_CONFIG;
use crate::plan::Task;
use chariot_core::environment::{
    Edit, Environment, LONGEST_VALUE, apply, expanded, find, literal, name_in,
};
use chariot_core::error::{Error, Explain, Result};
use chariot_core::open as files;
use chariot_core::options::{Assignment, Options, Sourced};
use table::Rule;

pub use open::{Open, settle};

/// The longest file of variables, in bytes.
const LARGEST: u64 = 4 << 20;

/// Set inside, so that a program can tell; its value is the image as it was named.
pub const RUNNING: &str = "CH_RUNNING";

/// Where programs are looked for if nobody says.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// In Apptainer's way, in the place of a variable's name: what comes before the image's PATH, and behind it.
const BEFORE_PATH: &str = "PREPEND_PATH";
const BEHIND_PATH: &str = "APPEND_PATH";

/// What becomes of the variables, as far as that is known before the container is there.
#[derive(Debug, Default)]
pub(super) struct Planned {
    /// What changes, in order; a later edit of a variable replaces an earlier one.
    pub(super) edits: Vec<Edit>,
    /// What depends on what is seen inside.
    pub(super) open: Open,
    /// Whether PATH is to be just what was asked for.
    pub(super) path_was_asked: bool,
}

/// Decides what changes.
///
/// # Errors
/// A file of assignments that cannot be read.
pub(super) fn plan(
    options: &Options,
    host: &Host,
    image: &Image,
    devices: &[Assigned],
    task: &Task,
) -> Result<Planned> {
    let assigned = assigned(&options.set_env)?;
    let unasked = unasked(options, &host.environment, &image.metadata, devices);
    let mut edits = decide(options, &host.environment, &image.word, &unasked, &assigned);
    refuse_too_long(&edits)?;
    // A batch script is no rank, and what it has comes to those that it starts.
    if Options::on(&options.pytorch) && task.script.is_none() {
        edits.extend(ranks::edits(&host.environment, &edits));
    }
    if task.is_interactive || prompt::is_for_a_person(&host.environment) {
        let is_root = Options::on(&options.root) || host.is_root;
        edits.extend(prompt::edits(&image.word, is_root, &edits));
    }
    let mut open = Open::of(options, &host.environment, &host.user.home, &assigned);
    open.add_own_homes(&host.environment, [&edits, &unasked], |home| {
        image.has(home)
    });
    Ok(Planned {
        edits,
        open: open.with_unasked(unasked),
        path_was_asked: path_was_asked(&assigned),
    })
}

/// What changes, whatever is asked for by `--set-env`. `devices` is what devices set.
pub(crate) fn unasked(
    options: &Options,
    environment: &Environment,
    metadata: &metadata::Metadata,
    devices: &[Assigned],
) -> Vec<Edit> {
    let has = |name: &str| find(environment, name).is_some();
    let kept = |name: &str| options.keep_env.iter().any(|kept| kept == name);
    let mut edits = Vec::new();
    for row in table::TABLE.iter().filter(|row| row.rule == Rule::Outside) {
        let outside = row.names.iter().filter(|name| has(name) && !kept(name));
        edits.extend(outside.map(|name| Edit::unset(*name, row.why)));
    }
    // Who asks for their home directory does not want the one of an image's root.
    let is_asked = |name: &str| name == "HOME" && Options::on(&options.home);
    for (name, value) in &metadata.environment {
        if !(belongs_to_task(name) || kept(name) && has(name) || is_asked(name)) {
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
    edits
}

/// All that changes: what does whatever is asked for, then what is `assigned`.
pub(crate) fn decide(
    options: &Options,
    environment: &Environment,
    word: &str,
    unasked: &[Edit],
    assigned: &[Assigned],
) -> Vec<Edit> {
    let mut edits = unasked.to_vec();
    for assigned in assigned {
        edits.extend(assign(assigned, environment, &edits));
    }
    if Options::on(&options.fakeroot) && !assigned.iter().any(|(name, ..)| name == "APT_CONFIG") {
        edits.push(Edit::set("APT_CONFIG", APT_CONFIG, "fakeroot"));
    }
    if !path_was_asked(assigned) {
        edits.extend(path(&apply(environment, &edits)));
    }
    edits.push(Edit::set(RUNNING, word, "so that programs can tell"));
    last_word_only(edits)
}

/// What was asked for, with the variables that its value names, as they are after the `edits`. To PATH only entries are added
/// that are something: an empty one would be the current directory.
fn assign((name, value, origin): &Assigned, before: &Environment, edits: &[Edit]) -> Option<Edit> {
    let mut now = apply(before, edits);
    if find(&now, "PATH").is_none_or(OsStr::is_empty) {
        now = apply(&now, &[Edit::set("PATH", PATH, "")]);
    }
    let is_path = ["PATH", BEFORE_PATH, BEHIND_PATH].contains(&name.as_str());
    if let Some(value) = left_to_tasks(value, &now, edits).filter(|_| !is_path) {
        return Some(Edit::set(name, value, origin).by_each_task());
    }
    let value = expanded(value, &now);
    if name != BEFORE_PATH && name != BEHIND_PATH {
        return Some(Edit::set(name, value, origin));
    }
    let path = find(&now, "PATH").unwrap_or_default();
    let entries = value.as_bytes().split(|byte| *byte == b':');
    let entries = entries.filter(|entry| !entry.is_empty());
    let mut items: Vec<_> = entries.map(OsStr::from_bytes).collect();
    let at = if name == BEFORE_PATH { items.len() } else { 0 };
    items.insert(at, path);
    (items.len() > 1).then(|| Edit::set("PATH", items.join(OsStr::new(":")), origin))
}

/// Refuses what no program could be started with: lines that name each other grow without end.
fn refuse_too_long(edits: &[Edit]) -> Result<()> {
    let length = |edit: &Edit| edit.value.as_ref().map_or(0, |value| value.len());
    match edits.iter().find(|edit| length(edit) > LONGEST_VALUE) {
        None => Ok(()),
        Some(edit) => Err(Error::new(format!(
            "can't set {} ({}): the value is longer than {LONGEST_VALUE} bytes",
            edit.name.display(),
            edit.origin
        ))
        .hint("the kernel starts no program with such a variable")),
    }
}

/// A value that names what each task of a step has for itself, as SLURM_PROCID: the tasks share the plan, and the one that
/// makes it may not decide for all of them. Variables that are the same for all are expanded.
fn left_to_tasks(value: &str, now: &Environment, edits: &[Edit]) -> Option<String> {
    let left = |item| {
        let name = name_in(item)?;
        match edits.iter().rfind(|edit| edit.name == name) {
            Some(edit) if edit.is_each_tasks => edit.value.as_ref()?.to_str().map(str::to_owned),
            Some(_) => None,
            None => differs_by_task(name).then(|| item.to_owned()),
        }
    };
    value.split(':').find_map(left)?;
    let mut all = String::new();
    for item in value.split(':') {
        let kept = left(item).or_else(|| {
            let value = expanded(item, now);
            let is_nothing = value.is_empty() && name_in(item).is_some();
            (!is_nothing).then(|| literal(&value.to_string_lossy()))
        });
        let Some(kept) = kept.filter(|_| all.len() <= LONGEST_VALUE) else {
            continue;
        };
        if !all.is_empty() {
            all.push(':');
        }
        all.push_str(&kept);
    }
    Some(all)
}

/// Whether somebody has said what PATH is, and not what is added to it.
fn path_was_asked(assigned: &[Assigned]) -> bool {
    let last = assigned.iter().rfind(|(name, ..)| name == "PATH");
    last.is_some_and(|(_, value, _)| !value.split(':').any(|item| name_in(item) == Some("PATH")))
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
    name.starts_with("SLURM_") || is_of_starter(name) || NAMES.contains(&name)
}

/// Variables that two tasks of one step on one node have with different values.
fn differs_by_task(name: &str) -> bool {
    const NAMES: [&str; 8] = [
        "SLURM_PROCID",
        "SLURM_LOCALID",
        "SLURM_TASK_PID",
        "SLURM_STEP_GPUS",
        "CUDA_VISIBLE_DEVICES",
        "GPU_DEVICE_ORDINAL",
        "ROCR_VISIBLE_DEVICES",
        "ZE_AFFINITY_MASK",
    ];
    is_of_starter(name) || NAMES.contains(&name)
}

/// Variables by which a rank finds the others: PMI-1, PMI-2 and PMIx, and Cray's PALS.
pub(crate) fn is_of_starter(name: &str) -> bool {
    name.starts_with("PMI") || name.starts_with("PALS_")
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
                let text = files::typed(path).and_then(|file| files::all_of(&file, LARGEST));
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

#[cfg(test)]
mod tests;
