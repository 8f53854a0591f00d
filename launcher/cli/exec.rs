//! `chariot exec PID -- COMMAND`: a second command in the container of a running process.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command, value_parser};
use nix::errno::Errno;

use super::asked::{Asked, words};
use super::run::become_command;
use super::{command_words, named};
use crate::enter::{self, settle::find_program};
use crate::error::{Error, Explain, Result};
use crate::image::Image;
use crate::plan::environment;
use crate::sys::namespaces::Namespaces;

/// Its arguments.
pub(super) fn arguments(exec: Command) -> Command {
    exec.arg(
        Arg::new("pid")
            .value_name("PID")
            .required(true)
            .value_parser(value_parser!(u32).range(1..))
            .help("the number of a process in the container"),
    )
    .args(["workdir", "set-env", "unset-env", "keep-env"].map(named))
    .arg(command_words())
}

/// Joins and becomes the command. The environment is the caller's with what the image wants, and not
/// that of the process: that may have changed its own in any way.
pub(super) fn exec(matches: &ArgMatches) -> Result<ExitCode> {
    let pid = matches
        .get_one::<u32>("pid")
        .copied()
        .unwrap_or_default()
        .to_string();
    let asked = Asked::read(matches)?;
    let what = || format!("can't enter the container of process {pid}");
    let namespaces = Namespaces::of(&pid).map_err(|error| {
        let hint = match error.errno() {
            Errno::ENOENT => "there is no such process",
            _ => "only processes of your own can be joined",
        };
        Error::new(format!("{}: {error}", what())).hint(hint)
    })?;
    if is_own(namespaces, &what)? {
        return Err(Error::new(format!("{}: it is in no container", what()))
            .hint("PID is the number of a process inside, as ps shows it on this machine"));
    }
    let namespaces = Namespaces::of(&pid).explain(what)?;
    let workdir = match &asked.options.workdir {
        Some(asked) => asked.value.clone(),
        None => working_directory_of(&pid),
    };
    // Files of variables are the host's: to be read while the host is still there.
    let assigned = environment::assigned(&asked.options.set_env)?;
    enter::join(&namespaces, &workdir)?;
    let image = Image::around_us(&format!("of process {pid}"))?;
    let before = &asked.host.environment;
    let mut edits = environment::decide(
        &asked.options,
        before,
        &image.word,
        &image.metadata,
        &[],
        &assigned,
    );
    let is_directory = |path: &OsStr| Path::new(path).is_dir();
    edits.extend(environment::settle(&edits, before, false, is_directory));
    let now = environment::apply(before, &edits);
    let words: Vec<OsString> = words(matches);
    let program = words
        .first()
        .map(|word| find_program(word, &now, &image.word))
        .transpose()?;
    become_command(&program.unwrap_or_default(), &words, now)
}

/// Whether these are the namespaces that this process is in already.
fn is_own(namespaces: Namespaces, what: &impl Fn() -> String) -> Result<bool> {
    let identity = |namespaces: Namespaces| -> Result<(u64, u64)> {
        let data = File::from(namespaces.user).metadata().explain(what)?;
        Ok((data.dev(), data.ino()))
    };
    Ok(identity(namespaces)? == identity(Namespaces::of("self").explain(what)?)?)
}

fn working_directory_of(pid: &str) -> PathBuf {
    let link = Path::new("/proc").join(pid).join("cwd").read_link();
    link.ok()
        .filter(|path| path.is_absolute())
        .unwrap_or_else(|| PathBuf::from("/"))
}
