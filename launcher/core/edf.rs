//! Environment definition files (EDF): options in a TOML file that users share, as the CSCS Container Engine and
//! Sarus Suite have them. One is read where the command is typed, by the user's own process, and becomes uses of
//! options, so that no node reads it. Nothing in it is given to a shell.

mod expand;
mod read;
mod row;

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::error::{Error, Explain, Result};
use crate::escape;
use crate::open;
use crate::options::given::{Given, Source, is_file_of_options};
use crate::options::table;
use crate::options::{Dialect, Options};
use crate::private::{self, Whose};

/// So many files build on each other at most.
const MOST_LEVELS: usize = 10;

/// The largest file that is read, in bytes.
const LARGEST: u64 = 1 << 20;

/// Where files are looked for by name, and what their variables are.
pub struct Surroundings<'a> {
    /// After `EDF_PATH` and `~/.edf`: the site's.
    pub directories: &'a [PathBuf],
    /// The caller's directory, from which relative paths start.
    pub here: &'a Path,
    /// A variable of the caller's environment.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// Whether the image's entrypoint runs if nobody says: the two programs that read these files differ.
    pub entrypoint: bool,
}

impl<'a> Surroundings<'a> {
    /// Those of this process, in a directory.
    pub fn of(config: &'a Config, here: &'a Path) -> Surroundings<'a> {
        Surroundings {
            directories: &config.edf_dirs,
            here,
            variable: &|name| env::var(name).ok(),
            entrypoint: config.edf_entrypoint,
        }
    }

    /// Where files are looked for by name, the first first.
    pub fn places(&self) -> Vec<PathBuf> {
        let mut directories: Vec<PathBuf> = Vec::new();
        if let Some(path) = (self.variable)("EDF_PATH") {
            let parts = path.split(':').filter(|part| !part.is_empty());
            directories.extend(parts.map(PathBuf::from));
        }
        if let Some(home) = (self.variable)("HOME").filter(|home| !home.is_empty()) {
            directories.push(Path::new(&home).join(".edf"));
        }
        directories.extend(self.directories.iter().cloned());
        let here = directories
            .into_iter()
            .map(|directory| self.here.join(directory));
        here.collect()
    }
}

impl fmt::Debug for Surroundings<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Surroundings({}, …)", self.here.display())
    }
}

/// Where something stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The file.
    pub file: PathBuf,
    /// Its line and column, from 1 on.
    pub line: usize,
    /// See `line`.
    pub column: usize,
}

impl Position {
    fn error(&self, reason: &str) -> Error {
        Error::new(format!(
            "{}:{}:{}: {reason}",
            self.file.display(),
            self.line,
            self.column
        ))
    }
}

/// One value, with its variables replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// `image`, `mounts`, `env.NAME`, `annotations.a.b` and so on.
    pub key: String,
    /// A string, or `true` or `false`.
    pub value: String,
    /// Where it stands.
    pub at: Position,
}

impl Entry {
    /// Lists add up; of all else the last word counts.
    fn adds_up(&self) -> bool {
        matches!(self.key.as_str(), "mounts" | "devices")
    }
}

/// A line of `chariot explain`.
impl fmt::Display for Entry {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Position { file, line, .. } = &self.at;
        let key = self.key.trim_start_matches("annotations.");
        write!(out, "{key} = {} ({}:{line})", self.value, file.display())
    }
}

/// A file with all that it builds on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// The file that was asked for.
    pub file: PathBuf,
    /// What holds, with the files that it builds on before it.
    pub entries: Vec<Entry>,
}

impl Definition {
    /// Reads what `word` names: a path if it begins with `.` or `/` or ends in `.toml`, else the name of a file in one
    /// of the directories, without `.toml`.
    ///
    /// # Errors
    /// There is none, or it says something that cannot be understood; with file, line and column.
    pub fn load(word: &str, around: &Surroundings<'_>) -> Result<Definition> {
        let file = find(word, around)?;
        let mut entries = Vec::new();
        add(&file, around, 1, &mut entries)?;
        Ok(Definition { file, entries })
    }

    /// Its values as uses of options.
    ///
    /// # Errors
    /// A value that its option does not take.
    pub fn givens(&self, around: &Surroundings<'_>) -> Result<Vec<Given>> {
        let mut givens = Vec::new();
        let says = |key: &str| self.entries.iter().any(|entry| entry.key == key);
        let mut add = |name: &str, value: &str| -> Result<()> {
            let Some(row) = table::find(name) else {
                return Err(Error::new(format!("{name} is not built in")));
            };
            let (source, dialect) = (Source::Definition, Dialect::Launcher);
            let given = Given::new(row, Some(value), source, around.here, dialect)?;
            Options::resolve(vec![given.clone()], dialect)?;
            givens.push(given);
            Ok(())
        };
        if !says("writable") {
            add("writable", "yes")?;
        }
        if !says("entrypoint") && around.entrypoint {
            add("entrypoint", "yes")?;
        }
        for entry in &self.entries {
            let Some((name, value)) =
                row::option(entry).map_err(|reason| entry.at.error(&reason))?
            else {
                continue;
            };
            add(name, &value).map_err(|error| entry.at.error(&error.to_string()))?;
        }
        Ok(givens)
    }

    /// Annotations, which nothing here acts on.
    pub fn annotations(&self) -> impl Iterator<Item = &Entry> {
        let is_annotation = |entry: &&Entry| entry.key.starts_with("annotations.");
        self.entries.iter().filter(is_annotation)
    }
}

/// Replaces what `givens` have of an environment by what the strongest of them names one says, and gives that. One
/// that the job was started with was replaced then; `none` takes it away.
///
/// # Errors
/// As [`Definition::load`] and [`Definition::givens`].
pub fn replace(givens: &mut Vec<Given>, around: &Surroundings<'_>) -> Result<Option<Definition>> {
    let names = givens.iter().filter(|given| given.row.name == "edf");
    let Some(strongest) = names.max_by_key(|given| given.source) else {
        return Ok(None);
    };
    if strongest.source == Source::Inherited {
        return Ok(None);
    }
    let word = strongest.value.clone();
    givens.retain(|given| given.source != Source::Definition);
    if word == "none" {
        return Ok(None);
    }
    let definition = Definition::load(&word, around)?;
    givens.extend(definition.givens(around)?);
    Ok(Some(definition))
}

impl Definition {
    /// The result as a file of its own, each line with where it came from.
    pub fn lines(&self) -> Vec<String> {
        let origin = |entry: &Entry| format!("# {}:{}", entry.at.file.display(), entry.at.line);
        let is_plain = |entry: &&Entry| !entry.key.contains('.') && !entry.adds_up();
        let plain = self.entries.iter().filter(is_plain);
        let mut lines: Vec<String> = plain
            .map(|entry| format!("{} = {}  {}", entry.key, shown(entry), origin(entry)))
            .collect();
        for list in ["mounts", "devices"] {
            let items: Vec<_> = self
                .entries
                .iter()
                .filter(|entry| entry.key == list)
                .map(|entry| format!("    {},  {}", quoted(&entry.value), origin(entry)))
                .collect();
            if !items.is_empty() {
                lines.push(format!("{list} = ["));
                lines.extend(items);
                lines.push("]".to_owned());
            }
        }
        for table in ["env", "annotations"] {
            let in_table = |entry: &Entry| {
                let key = entry.key.strip_prefix(table)?.strip_prefix('.')?;
                let (key, value) = (quoted_key(key), quoted(&entry.value));
                Some(format!("{key} = {value}  {}", origin(entry)))
            };
            let items: Vec<_> = self.entries.iter().filter_map(in_table).collect();
            if !items.is_empty() {
                lines.extend([String::new(), format!("[{table}]")]);
                lines.extend(items);
            }
        }
        lines
    }
}

fn shown(entry: &Entry) -> String {
    match entry.key.as_str() {
        "writable" | "entrypoint" => entry.value.clone(),
        _ => quoted(&entry.value),
    }
}

/// As a TOML string that is read back the same where variables are replaced, as they are in values.
fn quoted(value: &str) -> String {
    string(&value.replace('$', "$$"))
}

/// As a TOML string.
fn string(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            other if escape::acts(other) => quoted += &format!("\\u{:04x}", u32::from(other)),
            other => quoted.push(other),
        }
    }
    quoted + "\""
}

fn quoted_key(key: &str) -> String {
    let is_bare = |character: char| character.is_ascii_alphanumeric() || "_-".contains(character);
    match !key.is_empty() && key.chars().all(is_bare) {
        true => key.to_owned(),
        false => string(key),
    }
}

/// The file that a word means.
fn find(word: &str, around: &Surroundings<'_>) -> Result<PathBuf> {
    if is_file_of_options(word) {
        return Ok(around.here.join(word));
    }
    let file = format!("{word}.toml");
    let mut searched = Vec::new();
    for directory in around.places() {
        // A name means what this user or root has given it to, and not who was first in a place where all may write.
        if let Err(refusal) = private::refuse_foreign(&directory, Whose::Shared) {
            searched.push(format!("not searched: {refusal}"));
            continue;
        }
        let path = directory.join(&file);
        if path.is_file() {
            return Ok(path);
        }
        searched.push(directory.display().to_string());
    }
    Err(Error::new(format!(
        "can't find an environment named {word}: there is no {file} in {}",
        searched.join(", ")
    ))
    .hint("a file given by path begins with . or /, or ends in .toml; EDF_PATH names more directories"))
}

/// Adds a file's values after those of the files that it builds on.
fn add(
    file: &Path,
    around: &Surroundings<'_>,
    level: usize,
    entries: &mut Vec<Entry>,
) -> Result<()> {
    let what = || format!("can't use the environment {}", file.display());
    if level > MOST_LEVELS {
        return Err(Error::new(format!(
            "{}: more than {MOST_LEVELS} files build on each other",
            what()
        ))
        .hint("does a file name itself in base_environment, by way of others?"));
    }
    let opened = open::typed(file)
        .explain(what)
        .map_err(|error| error.hint(open::where_it_ends(file)))?;
    let text = open::text_of(&opened, LARGEST).explain(what)?;
    let own = read::entries(file, &text, around.variable)?;
    for base in own.iter().filter(|entry| entry.key == read::BASE) {
        let path = find(&base.value, around).map_err(|error| base.at.error(&error.to_string()))?;
        add(&path, around, level + 1, entries)?;
    }
    for entry in own.into_iter().filter(|entry| entry.key != read::BASE) {
        if !entry.adds_up() {
            entries.retain(|earlier| earlier.key != entry.key);
        }
        entries.push(entry);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
