//! `chariot exec PID -- COMMAND`: a second command in the container of a running process.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command, value_parser};

use super::asked::{Asked, words};
use super::{command_words, named};
use crate::enter::{
    member::Member,
    program::{become_command, find_program},
};
use crate::image::Image;
use crate::plan::environment::{self, Open};
use chariot_core::environment::apply;
use chariot_core::error::{Explain, Result};
use chariot_core::join;
use chariot_core::sys::seccomp;

/// Its arguments.
pub(super) fn arguments(exec: Command) -> Command {
    exec.arg(
        Arg::new("pid")
            .value_name("PID")
            .required(true)
            .value_parser(value_parser!(i32).range(1..))
            .help("the number of a process in the container"),
    )
    .args(["workdir", "set-env", "unset-env", "keep-env"].map(named))
    .arg(command_words())
}

/// Joins and becomes the command. The environment is the caller's with what the image wants, and not
/// that of the process: that may have changed its own in any way. Root, which becomes the owner, has nothing better.
pub(super) fn exec(matches: &ArgMatches) -> Result<ExitCode> {
    let pid = matches.get_one::<i32>("pid").copied().unwrap_or_default();
    let asked = Asked::read(matches)?;
    let member = Member::find(pid)?;
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
    let image = Image::around_us(&format!("of process {pid}"))?;
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
    let words: Vec<OsString> = words(matches);
    let program = words
        .first()
        .map(|word| find_program(word, &now, &image.word))
        .transpose()?;
    become_command(&program.unwrap_or_default(), &words, now)
}
