//! Outside: a command of the host, started as its caller would have started it there.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;

use super::call::Call;
use super::environment::outside;
use crate::enter::program::become_command;
use crate::plan::environment::RUNNING;
use crate::print;
use chariot_core::environment::{self, Environment};
use chariot_core::environment::{Edit, apply};
use chariot_core::error::{Error, Exit, Explain, Result};
use chariot_core::options::given::CALLED_IN;
use chariot_core::options::table;
use chariot_core::sys;
use chariot_core::sys::fork::{self, Forked};
use chariot_core::sys::{namespaces::change_directory, signals};

/// What an agent knows of its container.
pub(super) struct Outside {
    /// The commands that may be called.
    pub(super) names: Vec<String>,
    /// The variables with which the container was asked for.
    pub(super) before: Environment,
    /// What became of them inside.
    pub(super) edits: Vec<Edit>,
    /// Where the container was asked for.
    pub(super) directory: PathBuf,
    /// Where Slurm's commands are, if PATH does not say.
    pub(super) slurm: Option<PathBuf>,
}

/// Starts a command. The first of `files` is the caller's directory, the others are the call's descriptors.
///
/// # Errors
/// It is none that may be called, or the host has none of that name.
pub(super) fn start(call: &Call, files: Vec<OwnedFd>, surroundings: &Outside) -> Result<Forked> {
    let name = call
        .words
        .first()
        .map(OsString::as_os_str)
        .unwrap_or_default();
    let what = format!("can't run {} on the host", name.to_string_lossy());
    if !surroundings
        .names
        .iter()
        .any(|known| name == OsStr::new(known))
    {
        return Err(Error::new(format!(
            "{what}: the site does not let it be called from a container"
        ))
        .hint(format!(
            "host_commands in the site configuration file has {}",
            surroundings.names.join(", ")
        )));
    }
    let program = find(name, surroundings, &what)?;
    let mut files = files.into_iter();
    let directory = files.next().ok_or_else(|| {
        Error::new(format!(
            "{what}: the caller's directory was not passed along"
        ))
    })?;
    let place = Start::of(call, &directory, &surroundings.directory);
    drop(directory);
    let environment = outside(
        call.environment.clone(),
        &surroundings.before,
        &surroundings.edits,
    );
    let environment = apply(&environment, &place.edits);
    let image = surroundings.edits.iter().find(|edit| edit.name == RUNNING);
    let image = image
        .and_then(|edit| edit.value.clone())
        .unwrap_or_default();
    let environment = apply(
        &environment,
        &[Edit::set(CALLED_IN, image, "the container")],
    );
    let placed: Vec<_> = files.zip(call.descriptors.iter().copied()).collect();
    let child = fork::fork(move || {
        match prepare(call, &place.directory, placed) {
            Ok(()) => {}
            Err(error) => return complain(&error),
        }
        // It returns only with an error.
        become_command(&program, &call.words, environment)
            .map_or_else(|error| complain(&error), |_| 0)
    })
    .explain(|| what.clone())?;
    child.lead_group();
    Ok(child)
}

/// Where commands of the host are looked for besides: `srun --export=NONE` leaves no PATH.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// The host's file of that name, with the PATH with which the container was asked for.
fn find(name: &OsStr, surroundings: &Outside, what: &str) -> Result<PathBuf> {
    let search = environment::find(&surroundings.before, "PATH").unwrap_or_default();
    let can_run = |path: &PathBuf| path.is_file() && sys::may_execute(path).is_ok();
    std::env::split_paths(search)
        .chain(surroundings.slurm.clone())
        .chain(std::env::split_paths(PATH))
        .map(|directory| directory.join(name))
        .find(can_run)
        .ok_or_else(|| {
            Error::new(format!("{what}: it is not installed on this node"))
                .exit(Exit::NotFound)
                .hint(format!("PATH outside is {}", search.to_string_lossy()))
        })
}

/// Makes this new process what the caller is.
fn prepare(call: &Call, directory: &Path, files: Vec<(OwnedFd, i32)>) -> Result<()> {
    let what = || "can't run a command of the host".to_owned();
    fork::lead_own_group();
    // First, so that what goes wrong is seen; and before limits on how many there may be.
    fork::place(files).explain(what)?;
    change_directory(directory).explain(what)?;
    fork::set_umask(call.umask);
    fork::set_limits(&call.limits);
    let ignored: Vec<Signal> = call
        .ignored
        .iter()
        .filter_map(|number| Signal::try_from(*number).ok())
        .collect();
    signals::settle(&ignored);
    Ok(())
}

/// Says what went wrong on the caller's standard error, which this process has by now.
fn complain(error: &Error) -> u8 {
    print::message(&format!("chariot: {error}"));
    error.exit_code()
}

/// Where the command starts.
struct Start {
    directory: PathBuf,
    /// How it is told.
    edits: Vec<Edit>,
}

impl Start {
    /// The caller's directory, if its name leads to it outside too. Where it is one of the image, the command starts
    /// where the container was asked for, and steps that it starts in a container start in the caller's directory.
    fn of(call: &Call, directory: &OwnedFd, fallback: &Path) -> Start {
        let set = |name: &str, value: &Path| Edit::set(name, value, "the caller's directory");
        let inside = rustix::fs::fstat(directory).ok();
        let outside = call.directory.metadata().ok();
        let is_same = inside.zip(outside).is_some_and(|(inside, outside)| {
            inside.st_dev == outside.dev() && inside.st_ino == outside.ino()
        });
        if is_same {
            return Start {
                directory: call.directory.clone(),
                edits: Vec::new(),
            };
        }
        let mut edits = vec![set("PWD", fallback)];
        let variable = table::find("workdir").map(table::OptionRow::variable);
        if let Some(variable) = variable
            && environment::find(&call.environment, &variable).is_none()
        {
            edits.push(set(&variable, &call.directory));
        }
        Start {
            directory: fallback.to_owned(),
            edits,
        }
    }
}
