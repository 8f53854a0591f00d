//! `chariot run`, `chariot shell` and `chariot explain`.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::ArgMatches;

use super::asked::{Asked, words};
use super::progress::Display;
use crate::cache::Access;
use crate::enter::{self, Clock, Entered, program};
use crate::host::{Host, refuse_old_kernel};
use crate::host_commands::Agent;
use crate::image::Image;
use crate::locate;
use crate::plan::{Plan, Task};
use crate::print;
use chariot_core::config::Config;
use chariot_core::environment::apply;
use chariot_core::error::{Error, Result};
use chariot_core::join;
use chariot_core::options::Pull;

/// `chariot run IMAGE COMMAND`: this process becomes the command.
pub(super) fn run(matches: &ArgMatches) -> Result<ExitCode> {
    become_planned(&plan(matches, Wanted::Words(words(matches)), true)?)
}

/// `chariot shell IMAGE`: the user's shell where the image has it, else one that it has.
pub(super) fn shell(matches: &ArgMatches) -> Result<ExitCode> {
    let mut plan = plan(matches, Wanted::Shell, true)?;
    plan.task.command = vec![plan.identity.shell.clone().into()];
    become_planned(&plan)
}

/// `chariot explain IMAGE COMMAND`.
pub(super) fn explain(matches: &ArgMatches) -> Result<ExitCode> {
    print::lines(plan(matches, Wanted::AnyWords(words(matches)), false)?.explained())
}

/// What Apptainer runs of an image: a program, which the image's own shell interprets.
const RUNSCRIPT: &str = "/.singularity.d/runscript";

/// What is to be run.
enum Wanted {
    /// A command; none means the image's own.
    Words(Vec<OsString>),
    /// The same, if there is one at all.
    AnyWords(Vec<OsString>),
    /// The user's shell, which is known later.
    Shell,
}

impl Wanted {
    fn command(self, image: &Image) -> Result<Vec<OsString>> {
        let (words, is_needed) = match self {
            Wanted::Words(words) => (words, true),
            Wanted::AnyWords(words) => (words, false),
            Wanted::Shell => return Ok(Vec::new()),
        };
        if !words.is_empty() {
            return Ok(words);
        }
        let own = image
            .metadata
            .entrypoint
            .iter()
            .chain(&image.metadata.command);
        let own: Vec<OsString> = own.map(OsString::from).collect();
        let runscript = Path::new(RUNSCRIPT);
        match own.is_empty() {
            false => Ok(own),
            true if image.has(runscript) => Ok(vec![runscript.into()]),
            true if !is_needed => Ok(own),
            true => Err(Error::new(format!(
                "there is no command, and the image {} has neither an entrypoint nor a command of its own",
                image.word
            ))
            .hint(format!("chariot run {0} -- COMMAND, or chariot shell {0}", image.word))),
        }
    }
}

fn plan(matches: &ArgMatches, wanted: Wanted, may_fetch: bool) -> Result<Plan> {
    let mut clock = Clock::start();
    let mut asked = Asked::read(matches)?;
    refuse_old_kernel()?;
    clock.lap("options");
    let Some(image) = &asked.options.image else {
        return Err(match &asked.definition {
            Some(definition) => Error::new(format!(
                "the environment {} names no image: there is nothing to run in",
                definition.file.display()
            )),
            None => Error::new("the image is \"none\": there is nothing to run in"),
        });
    };
    let image = locate(
        &image.value,
        &asked.config,
        &asked.host,
        may_fetch,
        asked.options.pull,
    )?;
    clock.lap("image");
    let is_interactive = matches!(wanted, Wanted::Shell);
    let command = wanted.command(&image)?;
    if words(matches).is_empty() {
        // The entrypoint is in it.
        asked.options.entrypoint = None;
    }
    let task = Task {
        command,
        is_interactive,
        ..Task::default()
    };
    let plan = Plan::resolve(&asked.options, &asked.config, &asked.host, image, task);
    clock.lap("plan");
    plan
}

/// Finds an image, and shows how far it is if it has to be fetched.
fn locate(word: &str, config: &Config, host: &Host, may_fetch: bool, pull: Pull) -> Result<Image> {
    let mut display = Display::new(false);
    let mut access = Access {
        may_fetch,
        may_ask: true,
        pull,
        see: &mut |progress| display.see(progress),
    };
    let image = locate::image(word, config, host, &mut access);
    display.end();
    image
}

fn become_planned(plan: &Plan) -> Result<ExitCode> {
    for warning in &plan.warnings {
        tracing::warn!("warning: {warning}");
        if let Some(advice) = warning.advice() {
            tracing::warn!("hint: {advice}");
        }
    }
    let mut clock = Clock::start();
    let agent = Agent::of_command(plan)?;
    clock.lap("agent");
    let entered = enter::create(plan)?;
    Agent::begin(agent, &entered)?;
    become_entered(plan, entered)
}

/// Becomes the command in the container that this process has made.
pub(crate) fn become_entered(plan: &Plan, entered: Entered) -> Result<ExitCode> {
    let environment = apply(&plan.before, &entered.environment);
    let program = entered.program.unwrap_or_default();
    join::pretend(plan.fakeroot)?;
    program::become_command(&program, &plan.task.command, environment)
}
