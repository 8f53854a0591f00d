//! Joining a container that another process of the same user has made, and what comes last before the command.

use crate::sys::rights;
use std::path::Path;

use crate::error::{Error, Explain, Result};
use crate::sys::namespaces::{self, Namespaces};
use crate::sys::seccomp;

/// What could not be done.
pub const CANT_JOIN: &str = "can't join the container";

/// Joins a container that another process made: both namespaces, the working directory, and no new
/// privileges. The process must have one thread.
///
/// # Errors
/// The call that failed.
pub fn container(namespaces: &Namespaces, workdir: &Path) -> Result<()> {
    let what = || CANT_JOIN.to_owned();
    let owner = namespaces.owner().explain(what)?;
    if owner != rights::user() {
        return Err(
            Error::new(format!("{}: it belongs to user {owner}", what()))
                .hint("only its owner can join a container"),
        );
    }
    namespaces.join().explain(what)?;
    namespaces::change_directory(workdir)
        .explain(|| format!("can't start in {}", workdir.display()))?;
    namespaces::no_new_privileges().explain(what)
}

/// Has this process and what it starts believe that owners were changed, if that is wanted. The last thing before
/// the command.
///
/// # Errors
/// The kernel has no filters.
pub fn pretend(is_wanted: bool) -> Result<()> {
    match is_wanted {
        true => seccomp::pretend_to_change_owners()
            .explain(|| "can't set up --fakeroot".into())
            .map_err(|error| error.hint("the kernel needs CONFIG_SECCOMP_FILTER")),
        false => Ok(()),
    }
}
