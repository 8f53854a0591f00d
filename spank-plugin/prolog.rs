//! Slurm's TaskProlog, which runs between our turn and the task's command: in the container that the task
//! has joined by then, or on the host, if the task joins only as it executes its command.

use chariot_core::sys::descriptors;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::os::fd::{IntoRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use chariot_core::config::{Config, TaskProlog};
use chariot_core::error::{Error, Explain};
use chariot_core::handover::{self, Before};
use chariot_core::join::CANT_JOIN;
use chariot_core::sys::namespaces::Namespaces;
use chariot_core::sys::{self, Call};

use crate::multi_prog;
use crate::spank::{self, NAME, Slurm};

/// Where TaskProlog is to run: where the site wants it, if this release of Slurm can do that.
pub(crate) fn place(config: &Config, release: Option<(u32, u32, u32)>) -> TaskProlog {
    let broken = release.is_some_and(starts_prologs_by_itself);
    match (config.task_prolog, spank::can_prepend()) {
        (TaskProlog::Container, true) if broken => TaskProlog::Host,
        (TaskProlog::Host, false) => {
            spank::log(&format!(
                "{NAME}: task_prolog = \"host\" needs Slurm 23.11 or newer; it runs in the container"
            ));
            TaskProlog::Container
        }
        (wanted, _) => wanted,
    }
}

/// Releases that start a prolog by way of slurmstepd's own file, which no container has.
fn starts_prologs_by_itself(release: (u32, u32, u32)) -> bool {
    match release {
        (24, 11, micro) => micro < 7,
        (25, 5, micro) => micro < 2,
        _ => false,
    }
}

/// Puts the launcher in front of the task's command, with the container's descriptors.
pub(crate) fn join_at_exec(
    slurm: &Slurm<'_>,
    launcher: &Path,
    namespaces: Namespaces,
    record: File,
) -> Result<(), Error> {
    let what = || CANT_JOIN.to_owned();
    let environment = slurm.environment();
    let variables = handover::seal(&Before { environment });
    let before = sys::memory_file_of(c"before", &variables).explain(what)?;
    let files = [
        ("--user", namespaces.user),
        ("--mount", namespaces.mount),
        ("--record", record.into()),
        ("--before", before),
    ];
    let mut words = vec![launcher.as_os_str().to_owned(), "task".into()];
    for (name, file) in files {
        words.extend([
            name.into(),
            leave_open(file).explain(what)?.to_string().into(),
        ]);
    }
    // Where all tasks have one command, one task of the node says what is wrong with it.
    let is_first = slurm.variable("SLURM_LOCALID").is_none_or(|id| id == "0");
    if !is_first && !multi_prog::is_set(slurm) {
        words.push("--quiet".into());
    }
    words.push("--".into());
    let words: Vec<CString> = words.iter().filter_map(|word| text(word)).collect();
    slurm.prepend(&words)
}

/// Leaves a descriptor to the program that this process will execute.
fn leave_open(file: OwnedFd) -> Call<i32> {
    descriptors::pass_on(&file)?;
    // Open for good: this process has nothing left to do but to execute the launcher.
    Ok(file.into_raw_fd())
}

fn text(word: &OsStr) -> Option<CString> {
    CString::new(word.as_bytes()).ok()
}
