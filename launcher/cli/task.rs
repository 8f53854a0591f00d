//! `chariot task`: the last step of a Slurm task whose prolog ran on the host. Not for people: the plugin
//! puts it in front of the task's command, with descriptors of the container that the step's first task
//! made. It joins, and becomes the command.

use chariot_core::sys::descriptors;
use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use super::asked::words;
use super::command_words;
use crate::enter::program::{become_command, find_program};
use chariot_core::environment::{Edit, apply};
use chariot_core::environment::{Environment, find};
use chariot_core::error::{Explain, Result};
use chariot_core::handover::{self, Before, Record};
use chariot_core::join;
use chariot_core::sys::Call;
use chariot_core::sys::namespaces::Namespaces;

/// The descriptors, in the order in which the plugin passes them.
const DESCRIPTORS: [&str; 4] = ["user", "mount", "record", "before"];

pub(super) fn command() -> Command {
    let descriptors = DESCRIPTORS.map(|name| {
        Arg::new(name)
            .long(name)
            .required(true)
            .value_parser(value_parser!(i32).range(3..))
    });
    Command::new("task")
        .hide(true)
        .about("Join the container of a Slurm step")
        .args(descriptors)
        .arg(
            Arg::new("quiet")
                .long("quiet")
                .action(ArgAction::SetTrue)
                .help("another task of this node says why the command cannot be run"),
        )
        .arg(command_words())
}

/// Joins and becomes the command.
pub(super) fn task(matches: &ArgMatches) -> Result<ExitCode> {
    let what = || join::CANT_JOIN.to_owned();
    let passed = |name: &str| -> Call<_> {
        descriptors::passed(matches.get_one::<i32>(name).copied().unwrap_or(-1))
    };
    let namespaces = Namespaces {
        user: passed("user").explain(what)?,
        mount: passed("mount").explain(what)?,
    };
    let record = Record::read(&File::from(passed("record").explain(what)?))?;
    let before = handover::read(&File::from(passed("before").explain(what)?)).explain(what)?;
    let before: Before = handover::open(&before).map_err(|error| error.within(&what()))?;
    let before = before.environment;
    join::container(&namespaces, &record.workdir)?;
    let environment = after_prolog(&before, env::vars_os().collect(), &record.edits);
    let words: Vec<OsString> = record
        .entrypoint
        .iter()
        .cloned()
        .chain(words(matches))
        .collect();
    let image = record.image.display().to_string();
    let program = words
        .first()
        .map(|word| find_program(word, &environment, &image))
        .transpose()
        .map_err(|error| match matches.get_flag("quiet") {
            true => error.told_elsewhere(),
            false => error,
        })?;
    join::pretend(record.fakeroot)?;
    become_command(&program.unwrap_or_default(), &words, environment)
}

/// The container's changes of the environment, but for variables that the prolog has changed: what it
/// exports comes last, as where it runs in the container.
fn after_prolog(before: &Environment, now: Environment, edits: &[Edit]) -> Environment {
    let untouched = |edit: &&Edit| {
        let name = edit.name.to_string_lossy();
        find(before, &name) == find(&now, &name)
    };
    let edits: Vec<Edit> = edits.iter().filter(untouched).cloned().collect();
    apply(&now, &edits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_prolog_exported_outdoes_what_the_container_wants() {
        let before = vec![("A".into(), "1".into()), ("B".into(), "1".into())];
        let now = vec![("A".into(), "2".into()), ("B".into(), "1".into())];
        let edits = [Edit::set("A", "image", ""), Edit::set("B", "image", "")];
        let after = after_prolog(&before, now, &edits);
        assert_eq!(find(&after, "A"), Some("2".as_ref()));
        assert_eq!(find(&after, "B"), Some("image".as_ref()));
    }
}
