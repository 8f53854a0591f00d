//! Completion: `chariot completions SHELL` prints a script. Bash's asks this program for each word, which knows what images
//! there are; those of other shells have the words of the command line alone.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgMatches, Command};
use clap_complete::engine::{
    ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter,
};

use super::{command, documentation};
use crate::host::Host;
use crate::locate;
use crate::print;
use chariot_core::config::{self, Config};
use chariot_core::edf;
use chariot_core::error::{Error, Result};
use chariot_core::escape;
use chariot_core::options::given;
use chariot_core::options::table::OptionRow;

/// Bash splits words at colons and equals signs too, and puts what it is given in the place of the last part.
const BASH: &str = r#"_chariot() {
    local line=${COMP_LINE:0:COMP_POINT} words word before
    local IFS=$' \t\n'
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    word=${words[${#words[@]} - 1]}
    before=${word%"${word##*[:=]}"}
    IFS=$'\n'
    COMPREPLY=($(chariot complete -- "${words[@]:1}" 2>/dev/null))
    COMPREPLY=("${COMPREPLY[@]#"$before"}")
    if [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *[=/] ]]; then compopt -o nospace; fi
}
complete -o bashdefault -F _chariot chariot
"#;

pub(super) fn completions(matches: &ArgMatches) -> Result<ExitCode> {
    let shell = matches.get_one::<clap_complete::Shell>("shell");
    if shell == Some(&clap_complete::Shell::Bash) {
        return print::own_text(BASH);
    }
    let mut text = Vec::new();
    if let Some(shell) = shell {
        clap_complete::generate(*shell, &mut command(), "chariot", &mut text);
    }
    print::own_text(&String::from_utf8_lossy(&text))
}

pub(super) fn complete_command() -> Command {
    Command::new("complete")
        .hide(true)
        .about("Print what the last of these words can become")
        .arg(super::command_words().required(false))
}

/// Prints the words that the last one can become, a line each.
pub(super) fn complete(matches: &ArgMatches) -> Result<ExitCode> {
    let words = matches.get_many::<OsString>("command");
    let words: Vec<OsString> = words.into_iter().flatten().cloned().collect();
    let last = words.len();
    let all = ["chariot".into()].into_iter().chain(words).collect();
    let here = env::current_dir().ok();
    let found = clap_complete::engine::complete(&mut command(), all, last, here.as_deref())
        .map_err(|error| Error::new(format!("can't complete: {error}")))?;
    // What is hidden is offered by the engine if nothing else is.
    let own = command();
    let is_hidden = |name: &str| own.find_subcommand(name).is_some_and(Command::is_hide_set);
    let shown = found
        .iter()
        .map(|candidate| candidate.get_value().to_string_lossy());
    let shown = shown.filter(|word| last > 1 || !is_hidden(word));
    // A name that would have to be quoted is not offered.
    let plain = shown.filter(|word| {
        escape::line(word) == *word && !word.contains([' ', '\'', '"', '$', '`', '&', ';', '('])
    });
    print::lines(plain)
}

/// What an image can be called: those of the store and the site, and files.
pub(super) fn images() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let mut found = stored(current);
        found.extend(PathCompleter::any().complete(current));
        found
    })
}

/// Those of the store and the site.
pub(super) fn names() -> ArgValueCompleter {
    ArgValueCompleter::new(stored)
}

/// Subjects and commands that `chariot help` explains.
pub(super) fn topics() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let own = command();
        let commands = own
            .get_subcommands()
            .filter(|command| !command.is_hide_set());
        let commands = commands.map(|command| command.get_name().to_owned());
        beginning(
            current,
            documentation::topics().map(str::to_owned).chain(commands),
        )
    })
}

/// What a value of an option can be, if the table says it; files else.
pub(super) fn values(row: &'static OptionRow) -> ArgValueCompleter {
    ArgValueCompleter::new(move |current: &OsStr| {
        if row.name == "edf" {
            let mut found = beginning(current, definitions());
            found.extend(PathCompleter::any().complete(current));
            return found;
        }
        let words = row
            .value
            .split('|')
            .filter(|word| word.chars().all(|letter| letter.is_ascii_lowercase()));
        let words: Vec<String> = words.map(str::to_owned).collect();
        match words.is_empty() {
            false => beginning(current, words),
            true if row.name.ends_with("env") => Vec::new(),
            true => PathCompleter::any().complete(current),
        }
    })
}

fn beginning(current: &OsStr, words: impl IntoIterator<Item = String>) -> Vec<CompletionCandidate> {
    let current = current.to_string_lossy();
    let words = words
        .into_iter()
        .filter(|word| word.starts_with(current.as_ref()));
    words.map(CompletionCandidate::new).collect()
}

fn stored(current: &OsStr) -> Vec<CompletionCandidate> {
    let config = Config::load(config::PATH.as_ref()).unwrap_or_default();
    let host = Host::look(env::vars_os().collect(), given::working_directory());
    let places: Vec<PathBuf> = locate::places(&config, &host).unwrap_or_default();
    let paths = places.iter().flat_map(|place| locate::list(place));
    beginning(current, paths.map(|path| locate::name_of(&path)))
}

/// Names of environment definition files.
fn definitions() -> Vec<String> {
    let config = Config::load(config::PATH.as_ref()).unwrap_or_default();
    let here = given::working_directory().unwrap_or_else(|| PathBuf::from("/"));
    let places = edf::Surroundings::of(&config, &here).places();
    let paths = places.iter().flat_map(|place| locate::list(place));
    let names = paths.filter_map(|path| {
        Some(
            path.file_name()?
                .to_str()?
                .strip_suffix(".toml")?
                .to_owned(),
        )
    });
    names.collect()
}
