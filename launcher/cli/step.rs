//! `chariot step`: makes the container of a Slurm step. Not for people: the first task of the step
//! executes it, hands a [`Request`] in, and reads lines that begin with a letter:
//!
//! | letter | line |
//! |---|---|
//! | `E` | the sentence that says why there is no container |
//! | `H` | what to do about it |
//! | `W` | a warning |
//! | `I` | a message that was asked for |
//! | `L` | a message for the administrator's log |
//! | `X` | the exit status that the tasks should end with |
//! | `R` | ready: the namespaces have been sent |
//!
//! This process was freshly executed, and holds nothing of slurmstepd's memory. It is the user, with
//! none of the user's variables: everything comes from the request.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command, value_parser};

use super::refuse_disabled;
use crate::config::Config;
use crate::enter::{self, Clock, Entered};
use crate::error::{Error, Explain, Result};
use crate::handover::{self, Record, Request};
use crate::host::{Host, refuse_old_kernel};
use crate::image::Image;
use crate::log::{self, Reader};
use crate::options::{Dialect, Options, given};
use crate::plan::{Plan, Task};
use crate::sys::{self, process, sharing};

pub(super) fn command() -> Command {
    Command::new("step")
        .hide(true)
        .about("Make the container of a Slurm step")
        .arg(socket_argument())
}

/// The socket by which a task gets what it asked for.
pub(super) fn socket_argument() -> Arg {
    Arg::new("socket")
        .long("socket")
        .required(true)
        .value_parser(value_parser!(i32).range(3..))
        .help("the descriptor to send into")
}

/// What the request asks for, with the site's defaults under it.
pub(super) fn options(request: &Request, config: &Config) -> Result<Options> {
    let mut givens = config.defaults.clone();
    givens.extend(given::decode(&request.options)?);
    Options::resolve(givens, Dialect::Slurm)
}

/// Makes the container and sends its namespaces, or says why not.
pub(super) fn step(matches: &ArgMatches) -> ExitCode {
    let socket = matches.get_one::<i32>("socket").copied().unwrap_or(-1);
    match make(socket) {
        Ok(()) => {
            report('R', "");
            ExitCode::SUCCESS
        }
        Err(error) => {
            report('E', &error.to_string());
            if let Some(advice) = error.advice() {
                report('H', advice);
            }
            report('X', &error.exit_code().to_string());
            ExitCode::from(error.exit_code())
        }
    }
}

fn report(letter: char, text: &str) {
    let line = text.replace('\n', " ");
    // If the task that reads this is gone, so is everybody who could be told.
    let _ = writeln!(io::stdout(), "{letter}{line}");
}

fn make(socket: i32) -> Result<()> {
    let socket = process::passed(socket).explain(|| "can't use the step's socket".into())?;
    let request = request()?;
    let config = Config::load(&request.config)?;
    let options = options(&request, &config)?;
    let level = if options.verbose {
        tracing::Level::DEBUG
    } else {
        log::level(&config.log_level)
    };
    log::start(Reader::Task, level);
    let mut clock = Clock::start();
    refuse_disabled(&config)?;
    refuse_old_kernel()?;
    let plan = plan(request, &options, &config)?;
    clock.lap("plan");
    for warning in &plan.warnings {
        report('W', &warning.to_string());
        if let Some(advice) = warning.advice() {
            report('H', advice);
        }
    }
    let entered = enter::create(&plan)?;
    hand_over(&plan, &entered, &socket)
}

/// What the task wants, on standard input.
pub(super) fn request() -> Result<Request> {
    let what = || "can't read the request of the task".to_owned();
    let mut bytes = Vec::new();
    io::stdin().read_to_end(&mut bytes).explain(what)?;
    let writer = handover::writer(&bytes).unwrap_or_default();
    let request = Request::decode(&bytes).map_err(|error| error.within(&what()))?;
    let version = handover::version();
    if writer != version {
        report(
            'L',
            &format!("chariot.so is of version {writer}, and chariot of {version}"),
        );
    }
    Ok(request)
}

fn plan(request: Request, options: &Options, config: &Config) -> Result<Plan> {
    let Some(image) = &options.image else {
        return Err(Error::new("a container was asked for, and no image for it"));
    };
    // The task's PWD, not this process's, which has no variables.
    let directory = directory(&request);
    let host = Host::look(request.environment, directory);
    let mut image = Image::locate(&image.value, config, &host)?;
    if let Some(identity) = &request.mounted {
        image.mounted_by_root(identity);
    }
    let task = Task {
        command: request.command,
        script: request.script,
        scratch: request.scratch,
    };
    Plan::resolve(options, config, &host, image, task)
}

/// The directory that Slurm started the task in, which this process inherited.
fn directory(request: &Request) -> Option<PathBuf> {
    let variable = |name: &str| crate::host::find(&request.environment, name);
    given::named_like_variable(variable("PWD").map(OsString::from))
}

fn hand_over(plan: &Plan, entered: &Entered, socket: &OwnedFd) -> Result<()> {
    let what = || "can't hand the container over to the tasks".to_owned();
    let record = Record {
        workdir: entered.workdir.clone(),
        edits: entered.environment.clone(),
        image: plan.image.path.clone(),
        digest: plan.image.metadata.digest.clone(),
        kind: plan.image.kind().to_owned(),
    };
    let mut file = File::from(sys::memory_file(c"chariot").explain(what)?);
    file.write_all(&record.encode()).explain(what)?;
    let namespaces = &entered.namespaces;
    let files = [
        namespaces.user.as_fd(),
        namespaces.mount.as_fd(),
        file.as_fd(),
    ];
    sharing::send(socket.as_fd(), &files).explain(what)
}
