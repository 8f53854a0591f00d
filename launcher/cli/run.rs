//! `chariot run`, `chariot shell` and `chariot explain`.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use clap::ArgMatches;

use super::{Asked, print, words};
use crate::enter;
use crate::error::{Error, Exit, Result, io_reason};
use crate::host::{Environment, refuse_old_kernel};
use crate::image::Image;
use crate::plan::environment::apply;
use crate::plan::{Plan, Task};

/// `chariot run IMAGE COMMAND`: this process becomes the command.
pub(super) fn run(matches: &ArgMatches) -> Result<ExitCode> {
    become_planned(&plan(matches, words(matches))?)
}

/// `chariot shell IMAGE`: the user's shell where the image has it, else one that it has.
pub(super) fn shell(matches: &ArgMatches) -> Result<ExitCode> {
    let mut plan = plan(matches, Vec::new())?;
    plan.task.command = vec![plan.identity.shell.clone().into()];
    become_planned(&plan)
}

/// `chariot explain IMAGE COMMAND`.
pub(super) fn explain(matches: &ArgMatches) -> Result<ExitCode> {
    print(&plan(matches, words(matches))?.to_string())
}

fn plan(matches: &ArgMatches, command: Vec<OsString>) -> Result<Plan> {
    let asked = Asked::read(matches)?;
    refuse_old_kernel()?;
    let Some(image) = &asked.options.image else {
        return Err(Error::new(
            "the image is \"none\": there is nothing to run in",
        ));
    };
    let image = Image::locate(&image.value, &asked.config, &asked.host)?;
    let task = Task {
        command,
        ..Task::default()
    };
    Plan::resolve(&asked.options, &asked.config, &asked.host, image, task)
}

fn become_planned(plan: &Plan) -> Result<ExitCode> {
    for warning in &plan.warnings {
        tracing::warn!("warning: {warning}");
        if let Some(advice) = warning.advice() {
            tracing::warn!("hint: {advice}");
        }
    }
    let entered = enter::create(plan)?;
    let environment = apply(&plan.before, &entered.environment);
    let program = entered.program.unwrap_or_default();
    become_command(&program, &plan.task.command, environment)
}

/// Executes `program` in place of this process, with the name that the user typed for it.
pub(super) fn become_command(
    program: &Path,
    words: &[OsString],
    environment: Environment,
) -> Result<ExitCode> {
    let Some((name, arguments)) = words.split_first() else {
        return Err(Error::new("there is no command to run"));
    };
    let mut command = Command::new(program);
    let error = command
        .arg0(name)
        .args(arguments)
        .env_clear()
        .envs(environment)
        .exec();
    Err(Error::new(format!(
        "can't run {}: execve(\"{}\"): {}",
        name.to_string_lossy(),
        program.display(),
        io_reason(&error)
    ))
    .exit(Exit::CannotRun)
    .hint("is it a program for this machine, and is its loader (ld.so) in the image?"))
}
