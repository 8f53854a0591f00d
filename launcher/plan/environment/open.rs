//! What depends on what is seen inside, and how it is settled there.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::table::{self, Rule, place};
use super::{Assigned, assign, last_word_only};
use crate::host::Known;
use chariot_core::environment::{Edit, Environment, apply, find};
use chariot_core::options::Options;

/// What depends on what is seen inside, and the facts of the host that decide it.
#[derive(Debug, Clone, Default)]
pub struct Open {
    /// Variables of which somebody has said that they are to be as on the host, or not to be.
    said: Vec<String>,
    /// What was asked for, by `--set-env`.
    assigned: Vec<Assigned>,
    /// What changes without that.
    unasked: Vec<Edit>,
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
        Open {
            said: kept.chain(unset.map(|name| (*name).to_owned())).collect(),
            assigned: assigned.to_vec(),
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

    /// The same where it is known what changes without what was asked for.
    pub(crate) fn with_unasked(self, unasked: Vec<Edit>) -> Open {
        Open { unasked, ..self }
    }

    /// What HOME may say in the end, of the directories that the image `has`.
    pub(super) fn add_own_homes(
        &mut self,
        environment: &Environment,
        plans: [&[Edit]; 2],
        has: impl Fn(&Path) -> bool,
    ) {
        let said = plans.map(|edits| find(&apply(environment, edits), "HOME").map(PathBuf::from));
        let homes = said.into_iter().flatten().chain([self.home.clone()]);
        self.own_homes = homes.filter(|home| has(home)).collect();
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

/// What follows from looking around inside. `is_directory` tells whether one is there, whosever.
pub fn settle(
    plan: &[Edit],
    before: &Environment,
    open: &Open,
    is_root: bool,
    is_directory: impl Fn(&Path) -> bool,
) -> Vec<Edit> {
    let is_said = |name: &str| open.said.iter().any(|said| said == name);
    let is_asked = |name: &str| open.assigned.iter().any(|(asked, ..)| asked == name);
    let rules = |plan: &[Edit], leaves: &dyn Fn(&str) -> bool| {
        rules(plan, before, open, is_root, &is_directory, leaves)
    };
    let mut edits = rules(plan, &|name| is_said(name) || is_asked(name));
    if !open.assigned.is_empty() {
        let unasked = rules(&open.unasked, &is_said);
        edits.extend(values(plan, before, open, &unasked));
    }
    edits
}

/// What was asked for where it names variables of which the rules make something else; `unasked` is what they make of them.
fn values(plan: &[Edit], before: &Environment, open: &Open, unasked: &[Edit]) -> Vec<Edit> {
    let mut was = open.unasked.clone();
    let mut is = [&open.unasked[..], unasked].concat();
    let settled_from = is.len();
    for assigned in &open.assigned {
        was.extend(assign(assigned, before, &was));
        is.extend(assign(assigned, before, &is));
    }
    let value = |edits: &[Edit], name: &OsStr| {
        let edit = edits.iter().rfind(|edit| edit.name == name);
        edit.and_then(|edit| edit.value.clone()).unwrap_or_default()
    };
    let mut edits = last_word_only(is.split_off(settled_from));
    edits.retain_mut(|edit| {
        let (was, planned) = (value(&was, &edit.name), value(plan, &edit.name));
        let is = edit.value.clone().unwrap_or_default();
        // The plan adds to PATH.
        let added = planned.as_bytes().strip_prefix(was.as_bytes());
        let mut settled = is.clone();
        settled.push(OsStr::from_bytes(added.unwrap_or_default()));
        edit.value = Some(settled);
        was != is && added.is_some()
    });
    edits
}

/// What the table makes of the variables, but for those that a rule `leaves`.
fn rules(
    plan: &[Edit],
    before: &Environment,
    open: &Open,
    is_root: bool,
    is_directory: &dyn Fn(&Path) -> bool,
    leaves: &dyn Fn(&str) -> bool,
) -> Vec<Edit> {
    let now = apply(before, plan);
    let mut edits = Vec::new();
    for row in table::TABLE {
        for name in row.names.iter().filter(|name| !leaves(name)) {
            let is_callers = plan.iter().all(|edit| edit.name != *name);
            let value = find(&now, name).map(|value| value.to_string_lossy());
            let value = value.as_deref().filter(|value| !value.is_empty());
            let edit = match (row.rule, value) {
                (Rule::Home, value) => home(value, is_callers, open, is_root, is_directory),
                (Rule::Temporary, Some(value)) => temporary(value, is_callers, open, is_directory),
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
                is_each_tasks: false,
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
