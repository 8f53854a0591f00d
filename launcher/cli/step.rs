//! `chariot step`: makes the container of a Slurm step. Not for people: the first task of the step
//! executes it, hands a [`Request`] in, and hears what is [`Said`].
//!
//! This process was freshly executed, and holds nothing of slurmstepd's memory. It is the user, with
//! none of the user's variables: everything comes from the request.

use chariot_core::sys::descriptors;
use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Arg, ArgMatches, Command, value_parser};

use super::asked::refuse_disabled;
use super::progress::{Sum, line};
use crate::cache::Access;
use crate::enter::{self, Clock, Entered};
use crate::host::{Host, refuse_old_kernel};
use crate::host_commands::Agent;
use crate::locate;
use crate::log::{self, Reader};
use crate::plan::{Plan, Task};
use crate::print::{refuse, say};
use crate::work::Progress;
use chariot_core::config::Config;
use chariot_core::error::{Error, Explain, Result};
use chariot_core::handover::{self, Record, Request, Said, Told};
use chariot_core::options::{Dialect, Options, given};
use chariot_core::sys::namespaces::Namespaces;
use chariot_core::sys::{self, process, sharing};

/// How often a fetch shows that it goes on, and how often the user hears of it.
const BEAT: Duration = Duration::from_secs(1);
const TELL: Duration = Duration::from_secs(10);

pub(super) fn command() -> Command {
    Command::new("step")
        .hide(true)
        .about("Make the container of a Slurm step")
        .arg(parent())
        .arg(
            Arg::new("socket")
                .long("socket")
                .required(true)
                .value_parser(value_parser!(i32).range(3..))
                .help("the descriptor to send into"),
        )
}

/// What a task passes to a helper: who it is.
pub(super) fn parent() -> Arg {
    Arg::new("parent")
        .long("parent")
        .required(true)
        .value_parser(value_parser!(u32).range(1..))
        .help("the process to end with")
}

/// Sees to it that this process ends with the task.
pub(super) fn end_with_parent(matches: &ArgMatches) -> Result<()> {
    let parent = matches.get_one::<u32>("parent").copied();
    process::end_with(parent.unwrap_or_default()).explain(|| CANT_HELP.into())
}

const CANT_HELP: &str = "can't help the task";

/// Takes the socket.
fn socket(matches: &ArgMatches) -> Result<OwnedFd> {
    let what = || CANT_HELP.to_owned();
    end_with_parent(matches)?;
    let socket = matches.get_one::<i32>("socket").copied().unwrap_or(-1);
    descriptors::passed(socket).explain(what)
}

/// What the request asks for, with the site's defaults under it.
pub(super) fn options(request: &Request, config: &Config) -> Result<Options> {
    let givens = given::decode(&request.options)?;
    Options::resolve(config.under(givens), Dialect::Slurm)
}

/// Makes the container and sends its namespaces, or says why not.
pub(super) fn step(matches: &ArgMatches) -> ExitCode {
    let mut asked = Vec::new();
    match make(matches, &mut asked) {
        Ok(()) => {
            say(&Said::Ready);
            ExitCode::SUCCESS
        }
        Err(error) => {
            refuse(&asked, &error);
            ExitCode::from(error.exit_code())
        }
    }
}

/// What the task has asked, in bytes, is put into `asked`.
fn make(matches: &ArgMatches, asked: &mut Vec<u8>) -> Result<()> {
    let mut clock = Clock::start();
    let socket = socket(matches)?;
    let request = request(asked)?;
    let config = Config::load(&request.config)?;
    let options = options(&request, &config)?;
    let level = if options.verbose {
        tracing::Level::DEBUG
    } else {
        log::level(&config.log_level)
    };
    log::start(Reader::Task, level);
    refuse_disabled(&config)?;
    refuse_old_kernel()?;
    clock.lap("options");
    let plan = plan(request, &options, &config, &mut clock)?;
    for warning in &plan.warnings {
        say(&Said::Warning(Told::from(warning)));
    }
    // The end of the pipe that is not read goes where the namespaces are kept: with the step.
    let (life, held) = descriptors::pipe().explain(|| "can't see when the step ends".into())?;
    let agent = Agent::of_step(&plan, life)?;
    clock.lap("agent");
    let entered = enter::create(&plan)?;
    Agent::begin(agent, &entered)?;
    hand_over(&plan, &entered, &held, &socket)
}

/// What the task wants, on standard input; its bytes are put into `asked`.
pub(super) fn request(asked: &mut Vec<u8>) -> Result<Request> {
    let what = || "can't read the request of the task".to_owned();
    io::stdin().read_to_end(asked).explain(what)?;
    let writer = handover::writer(asked).unwrap_or_default();
    let request = handover::open(asked).map_err(|error| error.within(&what()))?;
    let version = handover::version();
    if writer != version {
        say(&Said::Log(format!(
            "chariot.so has version {writer}, and chariot {version}"
        )));
    }
    Ok(request)
}

fn plan(request: Request, options: &Options, config: &Config, clock: &mut Clock) -> Result<Plan> {
    let Some(image) = &options.image else {
        return Err(Error::new("a container was requested without an image"));
    };
    // The task's PWD, not this process's, which has no variables.
    let directory = directory(&request);
    let host = Host::look(request.environment, directory);
    let is_first = host.variable("SLURM_NODEID").is_none_or(|id| id == "0");
    let mut access = Access {
        may_fetch: true,
        may_ask: true,
        pull: options.pull,
        see: &mut tell_progress(is_first),
    };
    let mut image = locate::image(&image.value, config, &host, &mut access)?;
    if let Some(identity) = &request.mounted {
        image.mounted_by_root(identity);
    }
    clock.lap("image");
    let task = Task {
        command: request.command,
        script: request.script,
        scratch: request.scratch,
        slurm: request.slurm,
        is_of_step: true,
        is_interactive: false,
    };
    let plan = Plan::resolve(options, config, &host, image, task);
    clock.lap("plan");
    plan
}

/// Passes on how far a fetch is: every second, so that whoever waits knows that it goes on, and now and then for the
/// user. Of the nodes that wait for another, the first alone says so: there can be a thousand.
fn tell_progress(is_first: bool) -> impl FnMut(&Progress) {
    let mut sum = Sum::default();
    let mut last: Option<Instant> = None;
    let mut told: Option<Instant> = None;
    move |progress| {
        let now = Instant::now();
        let progress = sum.add(progress);
        if last.is_some_and(|last| now - last < BEAT) {
            return;
        }
        last = Some(now);
        let is_time = told.is_none_or(|told| now - told >= TELL);
        let is_for_user = is_time && (is_first || !progress.elsewhere) && !progress.what.is_empty();
        if is_for_user {
            told = Some(now);
        }
        say(&Said::GoesOn(is_for_user.then(|| line(&progress))));
    }
}

/// The directory that Slurm started the task in, which this process inherited.
fn directory(request: &Request) -> Option<PathBuf> {
    let variable = |name: &str| chariot_core::environment::find(&request.environment, name);
    given::named_like_variable(variable("PWD").map(OsString::from))
}

fn hand_over(plan: &Plan, entered: &Entered, held: &OwnedFd, socket: &OwnedFd) -> Result<()> {
    let what = || "can't hand the container over to the tasks".to_owned();
    let record = Record {
        workdir: entered.workdir.clone(),
        edits: entered.environment.clone(),
        entrypoint: plan.entrypoint.iter().map(OsString::from).collect(),
        fakeroot: plan.fakeroot,
        image: plan.image.path.clone(),
        digest: plan.image.metadata.digest().map(str::to_owned),
        kind: plan.image.kind().to_owned(),
    };
    let file = sys::memory_file_of(c"chariot", &handover::seal(&record)).explain(what)?;
    let namespaces = Namespaces::in_directory(&entered.process).explain(what)?;
    let files = [
        namespaces.user.as_fd(),
        namespaces.mount.as_fd(),
        file.as_fd(),
        held.as_fd(),
    ];
    sharing::send(socket.as_fd(), &files).explain(what)
}
