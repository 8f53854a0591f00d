//! Looking around inside: what can be known only there. Where the command starts, which file it is,
//! whether the home directory is visible.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::Entered;
use super::program::find_program;
use super::ranks;
use crate::plan::environment::settle;
use crate::plan::{Plan, Workdir};
use chariot_core::environment::apply;
use chariot_core::error::{Explain, Result};
use chariot_core::sys::namespaces::change_directory;

/// Settles what the plan had to leave open.
pub(super) fn look_around(
    plan: &Plan,
    listener: Option<OwnedFd>,
    process: OwnedFd,
) -> Result<Entered> {
    let workdir = start_directory(&plan.workdir, &plan.image.word)?;
    let is_root = plan.identity.user.0 == 0;
    let is_directory = |path: &Path| path.is_absolute() && path.is_dir();
    let mut environment = plan.environment.clone();
    let settled = settle(
        &environment,
        &plan.before,
        &plan.open,
        is_root,
        is_directory,
    );
    environment.extend(settled);
    let program = match plan.task.command.first() {
        Some(command) => {
            let now = apply(&plan.before, &environment);
            Some(find_program(command, &now, &plan.image.word)?)
        }
        None => None,
    };
    if let Some(warning) = program
        .as_deref()
        .and_then(|program| ranks::alone(plan, program))
    {
        tracing::warn!("warning: {warning}");
        tracing::warn!("hint: {}", ranks::ADVICE);
    }
    Ok(Entered {
        workdir,
        environment,
        program,
        listener,
        process,
    })
}

/// Goes to the first directory that will do.
fn start_directory(workdir: &Workdir, image: &str) -> Result<PathBuf> {
    if let Some(asked) = &workdir.asked {
        let directory = &asked.value;
        change_directory(directory)
            .explain(|| format!("can't start in {}", directory.display()))
            .map_err(|error| {
                error.hint(format!(
                    "{}: is the directory in the image {image}, or bound into the container?",
                    asked.origin
                ))
            })?;
        return Ok(directory.clone());
    }
    let callers = workdir.caller.iter().chain(&workdir.also);
    let shown = callers.filter(|caller| caller.is_here());
    let named = workdir.caller.as_ref().filter(|_| workdir.is_named);
    let candidates = shown.chain(named).map(|caller| &caller.path);
    let found = candidates
        .chain(&workdir.image)
        .find(|path| change_directory(path).is_ok());
    let start = found.cloned().unwrap_or_else(|| PathBuf::from("/"));
    if found.is_none() {
        change_directory(&start).explain(|| "can't start in /".into())?;
    }
    if let Some(named) = named.filter(|_| found.is_none() || found == workdir.image.as_ref()) {
        tracing::warn!(
            "warning: {} (--chdir) is not visible in the container: the command starts in {}",
            named.path.display(),
            start.display()
        );
    }
    Ok(start)
}
