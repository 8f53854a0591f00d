//! `chariot exec`: a second command in the container of a running process, or of a job.

mod job;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use super::asked::{Asked, words};
use super::{command_words, flag, named};
use crate::enter::{
    member::Member,
    program::{become_command, find_program},
};
use crate::image::Image;
use crate::plan::environment::{self, Open};
use crate::running::job::Wanted;
use chariot_core::environment::apply;
use chariot_core::error::{Explain, Result};
use chariot_core::join;
use chariot_core::sys::seccomp;

/// The options of the table that it has.
const OPTIONS: [&str; 4] = ["workdir", "set-env", "unset-env", "keep-env"];

/// Its arguments.
pub(super) fn arguments(exec: Command) -> Command {
    // Who knows docker's types these. The command has the caller's terminal and input anyway.
    let nothing = |letter, name: &'static str| {
        let argument = Arg::new(name).short(letter).long(name);
        argument.action(ArgAction::SetTrue).hide(true)
    };
    exec.override_usage(
        "chariot exec [OPTIONS] <PID> <COMMAND>...\n       \
         chariot exec [OPTIONS] --job <JOB[.STEP]> [--node <NODE>] -- <COMMAND>...",
    )
    .arg(
        Arg::new("pid")
            .value_name("PID")
            .required_unless_present("job")
            .value_parser(value_parser!(OsString))
            .help("the number of a process in the container"),
    )
    .arg(job_argument().help(
        "a job of yours that runs, or one of its steps, in place of PID: 42, 42.0, 42_3, 42+1",
    ))
    .arg(
        Arg::new("node")
            .long("node")
            .value_name("NODE")
            .requires("job")
            .help("on which of the job's nodes; left out, this one, or the first"),
    )
    .arg(flag("here", "look on this node alone").hide(true))
    .args([nothing('i', "interactive"), nothing('t', "tty")])
    .args(OPTIONS.map(named))
    .arg(
        command_words()
            .required(false)
            .required_unless_present("job"),
    )
}

/// Which job is meant.
pub(super) fn job_argument() -> Arg {
    Arg::new("job")
        .long("job")
        .value_name("JOB[.STEP]")
        .value_parser(|text: &str| text.parse::<Wanted>())
}

/// What is wrong with the first word, which is a number unless a job is named: then it is the command's.
pub(super) fn refused(matches: &ArgMatches) -> Option<clap::Error> {
    let exec = matches.subcommand_matches("exec")?;
    if exec.contains_id("job") || pid(exec).is_some() {
        return None;
    }
    let word = exec.get_one::<OsString>("pid")?.to_string_lossy();
    let mut error = clap::Error::new(ErrorKind::ValueValidation);
    let text = |text: &str| ContextValue::String(text.to_owned());
    error.insert(ContextKind::InvalidArg, text("<PID>"));
    error.insert(ContextKind::InvalidValue, text(&word));
    Some(error)
}

fn pid(matches: &ArgMatches) -> Option<i32> {
    let word = matches.get_one::<OsString>("pid")?.to_str()?;
    word.parse().ok().filter(|number| *number > 0)
}

/// Joins and becomes the command.
pub(super) fn exec(matches: &ArgMatches) -> Result<ExitCode> {
    match matches.get_one::<Wanted>("job") {
        Some(wanted) => job::exec(matches, wanted),
        None => {
            let member = Member::find(pid(matches).unwrap_or_default())?;
            enter(&member, matches, &words(matches))
        }
    }
}

/// Joins the container of a process and becomes the command. The environment is the caller's with what the image wants,
/// and not that of the process: that may have changed its own in any way. Root, which becomes the owner, has nothing better.
fn enter(member: &Member, matches: &ArgMatches, words: &[OsString]) -> Result<ExitCode> {
    let asked = Asked::read(matches)?;
    // Files of variables are the host's: to be read while the host is still there.
    let assigned = environment::assigned(&asked.options.set_env)?;
    let is_own = member.is_own();
    let before = match is_own {
        true => asked.host.environment,
        false => member.become_owner()?,
    };
    let home = asked.host.user.home.clone();
    let open = Open::of(&asked.options, &before, &home, &assigned);
    let workdir = match &asked.options.workdir {
        Some(asked) => asked.value.clone(),
        None => member.working_directory(),
    };
    join::container(member.namespaces(), &workdir)?;
    if !is_own {
        seccomp::refuse_typing()
            .explain(|| "can't keep a user's command from root's terminal".into())?;
    }
    let image = Image::around_us(&format!("of process {}", member.number()))?;
    let unasked = environment::unasked(&asked.options, &before, &image.metadata, &[]);
    let mut edits = environment::decide(&asked.options, &before, &image.word, &unasked, &assigned);
    let open = open.with_unasked(unasked);
    let is_directory = |path: &Path| path.is_dir();
    edits.extend(environment::settle(
        &edits,
        &before,
        &open,
        false,
        is_directory,
    ));
    let now = apply(&before, &edits);
    let program = words
        .first()
        .map(|word| find_program(word, &now, &image.word))
        .transpose()?;
    become_command(&program.unwrap_or_default(), words, now)
}
