//! The variables that the command sees: the host's, then the image's, then what was asked for.

pub mod table;

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::host::{Host, Known};
use crate::image::{Image, metadata};
use crate::mount::APT_CONFIG;
use chariot_core::environment::{Edit, Environment, apply, expanded, find};
use chariot_core::error::{Error, Explain, Result};
use chariot_core::open;
use chariot_core::options::{Assignment, Options, Sourced};
use table::{Rule, place};

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
) -> Result<Planned> {
    let assigned = assigned(&options.set_env)?;
    let edits = decide(
        options,
        &host.environment,
        &image.word,
        &image.metadata,
        devices,
        &assigned,
    );
    let mut open = Open::of(options, &host.environment, &host.user.home, &assigned);
    open.own_homes = homes(&host.environment, &edits, &host.user.home);
    open.own_homes.retain(|home| image.has(home));
    Ok(Planned {
        edits,
        open,
        path_was_asked: path_was_asked(&assigned),
    })
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
    for (name, value, origin) in assigned {
        let now = apply(environment, &edits);
        edits.push(assign(name, value, origin, &now));
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

/// What was asked for, with the variables that its value names, as they are `now`.
fn assign(name: &str, value: &str, origin: &str, now: &Environment) -> Edit {
    let path = || find(now, "PATH").map_or_else(|| PATH.into(), OsStr::to_string_lossy);
    match name {
        BEFORE_PATH => Edit::set("PATH", format!("{value}:{}", path()), origin),
        BEHIND_PATH => Edit::set("PATH", format!("{}:{value}", path()), origin),
        _ => Edit::set(name, expanded(value, now), origin),
    }
}

/// Whether somebody has said what PATH is, and not what is added to it.
fn path_was_asked(assigned: &[Assigned]) -> bool {
    let last = assigned.iter().rfind(|(name, ..)| name == "PATH");
    last.is_some_and(|(_, value, _)| !value.split(':').any(|item| item == "$PATH"))
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

/// What depends on what is seen inside, and the facts of the host that decide it.
#[derive(Debug, Clone, Default)]
pub struct Open {
    /// Variables of which somebody has said what they are to be, or that they are to be as on the host.
    said: Vec<String>,
    /// The places that the caller's variables name, as they are on the host.
    places: Vec<Known>,
    /// The user's home directory.
    home: PathBuf,
    /// The directories that HOME may name which the image has itself.
    own_homes: Vec<PathBuf>,
    /// Whether the table is of no matter, but for where HOME and TMPDIR are: Charliecloud's way.
    is_for_charliecloud: bool,
}

impl Open {
    /// What the host says now.
    pub(crate) fn of(
        options: &Options,
        environment: &Environment,
        home: &Path,
        assigned: &[Assigned],
    ) -> Open {
        let kept = options.keep_env.iter();
        let kept = kept
            .filter(|name| find(environment, name).is_some())
            .cloned();
        let patterns = options.unset_env.iter();
        let patterns: Vec<_> = patterns
            .filter_map(|glob| glob::Pattern::new(&glob.value).ok())
            .collect();
        let names = table::TABLE.iter().flat_map(|row| row.names);
        let unset = names.filter(|name| patterns.iter().any(|pattern| pattern.matches(name)));
        let assigned = assigned.iter().map(|(name, ..)| name.clone());
        Open {
            said: assigned
                .chain(kept)
                .chain(unset.map(|name| (*name).to_owned()))
                .collect(),
            places: places(environment, home),
            home: home.to_owned(),
            ..Open::default()
        }
    }

    /// The same in Charliecloud's way, where `said` was said.
    pub(crate) fn for_charliecloud(environment: &Environment, said: Vec<String>) -> Open {
        Open {
            said,
            places: places(environment, Path::new("/")),
            home: PathBuf::from("/"),
            is_for_charliecloud: true,
            ..Open::default()
        }
    }

    /// Whether the container shows at this path what the host has there.
    fn shows(&self, path: &Path) -> bool {
        self.places
            .iter()
            .any(|known| known.path == path && known.is_here())
    }
}

/// All places that variables of the table name, and the home directory.
fn places(environment: &Environment, home: &Path) -> Vec<Known> {
    let mut places: Vec<Known> = Known::anything(home).into_iter().collect();
    for (name, value) in environment {
        let (name, value) = (name.to_string_lossy(), value.to_string_lossy());
        match table::find(&name).map(|row| row.rule) {
            None | Some(Rule::Outside) => {}
            Some(Rule::Entries) => places.extend(
                value
                    .split(':')
                    .filter_map(place)
                    .filter_map(Known::anything),
            ),
            Some(_) => places.extend(place(&value).and_then(Known::anything)),
        }
    }
    places
}

/// What HOME may say in the end.
fn homes(environment: &Environment, edits: &[Edit], home: &Path) -> Vec<PathBuf> {
    let now = apply(environment, edits);
    let said = find(&now, "HOME").map(PathBuf::from);
    said.into_iter().chain([home.to_owned()]).collect()
}

/// What follows from looking around inside. `is_directory` tells whether one is there, whosever.
pub fn settle(
    plan: &[Edit],
    before: &Environment,
    open: &Open,
    is_root: bool,
    is_directory: impl Fn(&Path) -> bool,
) -> Vec<Edit> {
    let now = apply(before, plan);
    let mut edits = Vec::new();
    for row in table::TABLE {
        for name in row
            .names
            .iter()
            .filter(|name| !open.said.iter().any(|said| said == *name))
        {
            let is_callers = plan.iter().all(|edit| edit.name != *name);
            let value = find(&now, name).map(|value| value.to_string_lossy());
            let value = value.as_deref().filter(|value| !value.is_empty());
            let edit = match (row.rule, value) {
                (Rule::Home, value) => home(value, is_callers, open, is_root, &is_directory),
                (Rule::Temporary, Some(value)) => temporary(value, is_callers, open, &is_directory),
                _ if open.is_for_charliecloud || !is_callers => None,
                (Rule::Shown, Some(value)) => match place(value) {
                    Some(path) if !open.shows(path) => Some(None),
                    _ => None,
                },
                (Rule::Entries, Some(value)) => entries(value, open),
                _ => None,
            };
            edits.extend(edit.map(|value| Edit {
                name: (*name).into(),
                value: value.map(OsString::from),
                origin: row.why.to_owned(),
            }));
        }
    }
    edits
}

/// A new value, none in the place of one, or no change.
type Change = Option<Option<String>>;

/// HOME: what it says, if that is the caller's own or the image's own; else the user's home directory where it is shown. A
/// directory of that name that only holds mount points is neither: programs would try to write there.
fn home(
    value: Option<&str>,
    is_callers: bool,
    open: &Open,
    is_root: bool,
    is_directory: &dyn Fn(&Path) -> bool,
) -> Change {
    let is_own = |path: &Path| open.own_homes.iter().any(|own| own == path) && is_directory(path);
    let is_home = |path: &Path| open.shows(path) || is_own(path);
    let will_do = |path: &Path| is_home(path) || !is_callers && is_directory(path);
    if value.is_some_and(|value| will_do(Path::new(value))) {
        return None;
    }
    let root = Some(Path::new("/root")).filter(|root| is_root && is_directory(root));
    let found = Some(open.home.as_path())
        .filter(|home| is_home(home))
        .or(root);
    let home = found.map_or("/".into(), Path::to_string_lossy);
    (value != Some(&home)).then(|| Some(home.into_owned()))
}

fn temporary(
    value: &str,
    is_callers: bool,
    open: &Open,
    is_directory: &dyn Fn(&Path) -> bool,
) -> Change {
    let path = Path::new(value);
    let is_there = match is_callers {
        true => open.shows(path) && is_directory(path),
        false => is_directory(path),
    };
    (!is_there && value != "/tmp").then(|| Some("/tmp".to_owned()))
}

fn entries(value: &str, open: &Open) -> Change {
    let stays = |item: &&str| place(item).is_none_or(|path| open.shows(path));
    let left: Vec<&str> = value.split(':').filter(stays).collect();
    if left.len() == value.split(':').count() {
        return None;
    }
    let left = left.join(":");
    Some(Some(left).filter(|left| !left.is_empty()))
}

#[cfg(test)]
mod tests;
