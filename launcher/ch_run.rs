//! `chariot` called as `ch-run`, Charliecloud's command, for scripts that are full of it: its options, its rules for the
//! environment, its default binds, its exit codes. The container is made as always; what differs is the plan.
//!
//! The link is not installed by default: `ln -s /usr/bin/chariot /usr/local/bin/ch-run`.

mod command;
mod devices;
mod environment;
mod join;
mod plan;

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ArgMatches;

use crate::cli::become_entered;
use crate::enter::{self, member::Member, program};
use crate::host::{Host, refuse_old_kernel};
use crate::log::{self, Reader};
use crate::plan::Plan;
use crate::print;
use chariot_core::config::{self, Config};
use chariot_core::environment::Environment;
use chariot_core::environment::apply;
use chariot_core::error::{Error, Exit, Explain, Result};
use chariot_core::open;
use chariot_core::sys::descriptors::Silenced;
use chariot_core::sys::namespaces::Namespaces;
use environment::{Change, assignment, assignments};

/// The longest file of variables, in bytes.
const LARGEST: u64 = 4 << 20;

/// Anything that went wrong before the command.
const FAILED: u8 = 31;
/// The command could not be executed.
const NO_COMMAND: u8 = 49;
/// The command line could not be read, as argp(3) ends then.
const USAGE: u8 = 64;

/// What `--feature` knows, and the status that says whether it is there: 1 if not, whatever the manual says.
const FEATURES: [(&str, u8); 5] = [
    ("extglob", 0),
    ("overlayfs", 0),
    ("seccomp", 0),
    ("squash", 0),
    ("tmpfs-xattrs", 1),
];

/// Whether this process was started by that name.
pub fn is_called() -> bool {
    let name = env::args_os().next().map(PathBuf::from);
    name.is_some_and(|name| name.file_name() == Some(OsStr::new("ch-run")))
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let words: Vec<OsString> = env::args_os().collect();
    if words.len() < 2 {
        print::help(&mut command::command());
        return ExitCode::FAILURE;
    }
    let matches = match command::command().try_get_matches_from(words) {
        Ok(matches) => matches,
        Err(error) => {
            return match print::usage(error) {
                true => ExitCode::from(USAGE),
                false => ExitCode::SUCCESS,
            };
        }
    };
    run(&matches).unwrap_or_else(|error| {
        let number = std::process::id();
        let sentence = format!("error: {error}");
        print::failure(&format!("ch-run[{number}]"), &sentence, error.advice());
        match error.exit_code() == Exit::Container.code() {
            true => ExitCode::from(FAILED),
            false => ExitCode::from(NO_COMMAND),
        }
    })
}

fn run(matches: &ArgMatches) -> Result<ExitCode> {
    if let Some(feature) = matches.get_one::<String>("feature") {
        let found = FEATURES.iter().find(|(name, _)| name == feature);
        let (_, status) = found.ok_or_else(|| Error::new(format!("unknown feature: {feature}")))?;
        return Ok(ExitCode::from(*status));
    }
    let config = Config::load(Path::new(config::PATH))?;
    let (quiet, level) = loudness(matches, &config)?;
    log::start(Reader::ChRun, level);
    refuse_old_kernel()?;
    let environment: Environment = env::vars_os().collect();
    let host = Host::look(environment, None);
    let words: Vec<OsString> = matches
        .get_many("command")
        .into_iter()
        .flatten()
        .cloned()
        .collect();
    if words.is_empty() {
        return Err(Error::new("can't run: no command given"));
    }
    let name = words[0].to_string_lossy().into_owned();
    refuse_missing_mount_point(matches)?;
    let planned = plan::plan(matches, &config, &host, words)?;
    if matches.contains_id("mount") && planned.image.is_tree() {
        tracing::warn!("warning: --mount ignored: the image is a directory");
    }
    for warning in &planned.warnings {
        tracing::warn!("warning: {warning}");
    }
    // The command's output, not this program's: that has to be able to say why there is no command.
    let silenced = silence(quiet)?;
    let result = start(matches, &host, &planned).map_err(|error| in_its_words(error, &name));
    drop(silenced);
    result
}

/// How quiet the command is to be, and how much this program says.
fn loudness(matches: &ArgMatches, config: &Config) -> Result<(u8, tracing::Level)> {
    let (quiet, verbose) = (matches.get_count("quiet"), matches.get_count("verbose"));
    match (quiet, verbose) {
        (1.., 1..) => Err(Error::new("--quiet incompatible with --verbose")),
        (4.., _) => Err(Error::new("--quiet can be specified at most thrice")),
        (_, 4..) => Err(Error::new("--verbose can be specified at most thrice")),
        (0, 0) => Ok((0, log::level(&config.log_level))),
        (0, _) => Ok((0, tracing::Level::DEBUG)),
        (1, _) => Ok((1, tracing::Level::WARN)),
        _ => Ok((quiet, tracing::Level::ERROR)),
    }
}

/// `-q` takes away the command's standard output, and `-qqq` its standard error too.
fn silence(quiet: u8) -> Result<Vec<Silenced>> {
    let streams: &[i32] = match quiet {
        0 => &[],
        1 | 2 => &[1],
        _ => &[1, 2],
    };
    let silenced = streams.iter().map(|number| Silenced::new(*number));
    silenced
        .collect::<chariot_core::sys::Call<_>>()
        .explain(|| "can't silence the command".into())
}

/// A SquashFS image is mounted where nobody has to have a directory for it; who names one expects it to be looked at.
fn refuse_missing_mount_point(matches: &ArgMatches) -> Result<()> {
    let Some(directory) = matches.get_one::<String>("mount") else {
        return Ok(());
    };
    match Path::new(directory).canonicalize() {
        Ok(_) => Ok(()),
        Err(error) => {
            let reason = chariot_core::error::io_reason(&error);
            Err(Error::new(format!(
                "can't find mount point: {directory}: {reason}"
            )))
        }
    }
}

/// A command that cannot be run is told as scripts know it.
fn in_its_words(error: Error, name: &str) -> Error {
    let (reason, exit) = match error.exit_code() {
        127 => ("No such file or directory", Exit::NotFound),
        // Its loader, or its interpreter.
        126 if error.to_string().ends_with("No such file or directory") => {
            ("No such file or directory", Exit::CannotRun)
        }
        126 => ("Permission denied", Exit::CannotRun),
        _ => return error,
    };
    let told = Error::new(format!("can't execve(2): {name}: {reason}")).exit(exit);
    told.hint(error.to_string())
}

fn start(matches: &ArgMatches, host: &Host, planned: &Plan) -> Result<ExitCode> {
    match matches.get_one::<u32>("join-pid") {
        Some(pid) => {
            let member = Member::find(i32::try_from(*pid).unwrap_or(i32::MAX))
                .map_err(|error| error.within("can't join"))?;
            member.refuse_foreign()?;
            joined(planned, member.namespaces())
        }
        None if join::is_wanted(matches) => match join::meet(matches, host)? {
            join::Turn::First(room) => {
                let door = room.open()?;
                let entered = enter::create(planned)?;
                door.let_in(&entered)?;
                become_entered(planned, entered)
            }
            join::Turn::Later(namespaces) => joined(planned, &namespaces),
        },
        None => become_entered(planned, enter::create(planned)?),
    }
}

/// Becomes the command in a container that another process has made.
fn joined(plan: &Plan, namespaces: &Namespaces) -> Result<ExitCode> {
    let workdir = plan
        .workdir
        .asked
        .as_ref()
        .map_or(Path::new("/"), |asked| asked.value.as_path());
    chariot_core::join::container(namespaces, workdir)?;
    let environment = apply(&plan.before, &plan.environment);
    let program = plan
        .task
        .command
        .first()
        .map(|word| program::find_program(word, &environment, &plan.image.word));
    chariot_core::join::pretend(plan.fakeroot)?;
    program::become_command(
        &program.transpose()?.unwrap_or_default(),
        &plan.task.command,
        environment,
    )
}

/// The changes of the environment in the order in which they were typed. `image` reads the image's own file.
fn changes(
    matches: &ArgMatches,
    image: impl Fn() -> Result<Option<Vec<u8>>>,
) -> Result<Vec<Change>> {
    let mut found: Vec<(usize, Vec<Change>)> = Vec::new();
    for (name, separator) in [("set-env", b'\n'), ("set-env0", 0)] {
        for (index, value) in uses(matches, name) {
            found.push((index, set(&value, separator, &image)?));
        }
    }
    for (index, value) in uses(matches, "unset-env") {
        let glob = value.to_string_lossy().into_owned();
        if glob.is_empty() {
            return Err(Error::new("--unset-env: GLOB must have non-zero length"));
        }
        found.push((index, vec![Change::Unset(glob)]));
    }
    found.sort_by_key(|(index, _)| *index);
    Ok(found.into_iter().flat_map(|(_, changes)| changes).collect())
}

fn uses(matches: &ArgMatches, name: &str) -> Vec<(usize, OsString)> {
    let values = matches
        .get_many::<OsString>(name)
        .into_iter()
        .flatten()
        .cloned();
    let indices = matches.indices_of(name).into_iter().flatten();
    indices.zip(values).collect()
}

fn set(
    value: &OsStr,
    separator: u8,
    image: &impl Fn() -> Result<Option<Vec<u8>>>,
) -> Result<Vec<Change>> {
    let text = value.as_encoded_bytes();
    if text.contains(&b'=') {
        let change = assignment(text).map_err(|reason| {
            Error::new(format!("--set-env: {reason}: {}", value.to_string_lossy()))
        })?;
        return Ok(vec![change]);
    }
    let (name, bytes) = match text.is_empty() {
        true => (
            "/ch/environment".to_owned(),
            image()?.ok_or_else(|| Error::new("--set-env: the image has no /ch/environment"))?,
        ),
        false => {
            let name = value.to_string_lossy().into_owned();
            let file = open::typed(Path::new(value));
            let bytes = file
                .and_then(|file| open::all_of(&file, LARGEST))
                .map_err(|error| {
                    Error::new(format!(
                        "can't open: {name}: {}",
                        chariot_core::error::io_reason(&error)
                    ))
                })?;
            (name, bytes)
        }
    };
    assignments(&bytes, separator)
        .map_err(|reason| Error::new(format!("can't parse variable: {name}:{reason}")))
}
