//! Words of other tools: docker, podman, apptainer, ch-run, enroot and pyxis. Options that mean the same simply work; of the
//! rest, and of commands that Chariot does not have, one sentence says how it is done here.

mod values;
mod words;

use std::path::Path;

use clap::{Arg, ArgAction, ArgMatches};

use chariot_core::error::{Error, Result};
use chariot_core::options::table;
use chariot_core::options::{Dialect, Given, Source};
use words::{COMMANDS, Foreign, Means, OPTIONS, Value};

/// The id that one of them has in the parser.
fn id(option: &Foreign) -> String {
    let name = option.names.iter().max_by_key(|name| name.len());
    format!("foreign {}", name.unwrap_or(&""))
}

/// As it can have been typed: which of its names it was, the parser does not say.
fn dashed(option: &Foreign) -> String {
    let dashed = |name: &&str| match name.len() {
        1 => format!("-{name}"),
        _ => format!("--{name}"),
    };
    option
        .names
        .iter()
        .map(dashed)
        .collect::<Vec<_>>()
        .join(", ")
}

/// The arguments of a command that runs something in an image. Help does not show them.
pub(super) fn arguments() -> impl Iterator<Item = Arg> {
    OPTIONS.iter().map(|option| {
        let argument = Arg::new(id(option)).hide(true).action(ArgAction::Append);
        let argument = match option.value {
            Value::None => argument.num_args(0).default_missing_value(""),
            Value::Needed => argument.num_args(1).allow_hyphen_values(false),
        };
        option.names.iter().fold(argument, |argument, name| {
            match (name.chars().next(), name.len()) {
                // It is help's.
                (Some('h'), 1) => argument,
                (Some(letter), 1) if argument.get_short().is_none() => argument.short(letter),
                (Some(letter), 1) => argument.short_alias(letter),
                _ if argument.get_long().is_none() => argument.long(*name),
                _ => argument.alias(*name),
            }
        })
    })
}

/// What was typed of them, as uses of Chariot's own, each with its place on the command line.
pub(super) fn typed(matches: &ArgMatches, directory: &Path) -> Result<Vec<(usize, Given)>> {
    let mut givens = Vec::new();
    for option in OPTIONS {
        let id = id(option);
        let Ok(Some(values)) = matches.try_get_many::<String>(&id) else {
            continue;
        };
        refuse_behind_image(option, matches, &id)?;
        let places = matches.indices_of(&id).into_iter().flatten();
        for (place, value) in places.zip(values) {
            for (name, value) in uses(option, value)? {
                let Some(row) = table::find(name) else {
                    continue;
                };
                let (source, dialect) = (Source::Typed, Dialect::Launcher);
                let given = Given::new(row, Some(&value), source, directory, dialect)?;
                givens.push((place, given));
            }
        }
    }
    Ok(givens)
}

/// Behind the image it can be the command's: which, is for the user to say.
fn refuse_behind_image(option: &Foreign, matches: &ArgMatches, id: &str) -> Result<()> {
    let image = matches.index_of("image-word");
    let mut indices = matches.indices_of(id).into_iter().flatten();
    if image.is_none_or(|image| indices.all(|index| index < image)) {
        return Ok(());
    }
    let option = dashed(option);
    Err(Error::new(format!(
        "{option} stands behind the image, where the command's words are"
    ))
    .hint(format!(
        "put it before the image; or -- before the command, if {option} is its own"
    )))
}

fn uses(option: &Foreign, value: &str) -> Result<Vec<(&'static str, String)>> {
    match &option.means {
        Means::Nothing => Ok(Vec::new()),
        Means::Not(instead) => Err(refused(&dashed(option), instead)),
        Means::Own(means) => means(value).map_err(|reason| {
            let shown = if value.is_empty() {
                String::new()
            } else {
                format!(" {value}")
            };
            Error::new(format!("{}{shown}: {reason}", dashed(option)))
                .hint("`chariot run --help` has Chariot's own options")
        }),
    }
}

fn refused(word: &str, instead: &str) -> Error {
    Error::new(format!("Chariot has nothing like {word}")).hint(instead)
}

/// What is said of an option that a command does not take.
pub(super) fn option(typed: &str) -> Option<Error> {
    let name = typed.split('=').next()?;
    let bare = name.trim_start_matches('-');
    let found = OPTIONS.iter().find(|option| option.names.contains(&bare))?;
    match &found.means {
        Means::Not(instead) => Some(refused(name, instead)),
        Means::Nothing => Some(refused(name, "it is so anyway: leave it out")),
        Means::Own(_) => None,
    }
}

/// What is said of a command that there is not.
pub(super) fn command(word: &str) -> Option<Error> {
    let (_, instead) = COMMANDS.iter().find(|(names, _)| names.contains(&word))?;
    Some(Error::new(format!("Chariot has no command {word}")).hint(*instead))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_word_stands_twice_and_none_is_chariots_own() {
        let mut names: Vec<_> = OPTIONS.iter().flat_map(|option| option.names).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(names.iter().all(|name| table::find(name).is_none()));
        let commands: Vec<_> = COMMANDS.iter().flat_map(|(names, _)| *names).collect();
        let own = super::super::command();
        assert!(
            commands
                .iter()
                .all(|name| own.find_subcommand(name).is_none()),
            "{commands:?}"
        );
    }
}
