//! What the plugin remembers from one callback to the next.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chariot::config::{Audit, Config, TaskProlog};
use chariot::error::Error;
use chariot::options::Given;
use chariot::options::table::OptionRow;
use chariot::sys::sharing::MeetingPlace;

/// The plugin's memory in one process.
pub(crate) struct State {
    /// Uses of options so far; in slurmstepd those that Slurm itself carried.
    pub(crate) givens: Vec<Given>,
    /// The same in slurmstepd, not looked at until it is a task's turn.
    pub(crate) raw: Vec<(&'static OptionRow, Option<String>)>,
    /// Where plugstack.conf says that the launcher and the site's file are.
    pub(crate) paths: Paths,
    /// The tasks' meeting place, if a container may be wanted.
    pub(crate) meeting: Option<MeetingPlace>,
    /// Where the tasks meet to have the image mounted by the kernel, if the site trusts any.
    pub(crate) trusted: Option<MeetingPlace>,
    /// The directories of images that the site trusts.
    pub(crate) kernel_mount: Vec<PathBuf>,
    /// Whether the site says what GPUs of a step are called, so that a container has those of all its tasks.
    pub(crate) counts_gpus: bool,
    /// In a task: the file of the image that root has mounted.
    pub(crate) mounted: Option<String>,
    /// How long a task waits.
    pub(crate) patience: Duration,
    /// How much longer if the image has to be fetched.
    pub(crate) wait_fetch: Duration,
    /// Slurm's directory for temporary files, with `%n` in it.
    pub(crate) scratch: Option<String>,
    /// How the line on the step is written, and whether it was.
    pub(crate) audit: Audit,
    pub(crate) is_audited: bool,
    /// Where TaskProlog runs.
    pub(crate) task_prolog: TaskProlog,
    /// What went wrong where it must not be told yet: an error from slurmstepd's own callbacks would
    /// drain the node.
    pub(crate) problem: Option<Error>,
}

/// The plugin's arguments.
#[derive(Debug, Clone)]
pub(crate) struct Paths {
    /// The program that makes containers.
    pub(crate) launcher: PathBuf,
    /// The site's file.
    pub(crate) config: PathBuf,
}

impl Default for Paths {
    fn default() -> Paths {
        Paths {
            launcher: PathBuf::from("/usr/bin/chariot"),
            config: PathBuf::from(chariot::config::PATH),
        }
    }
}

impl Paths {
    /// Reads the words after the plugin's name in plugstack.conf.
    pub(crate) fn read(words: &[String]) -> Result<Paths, Error> {
        let mut paths = Paths::default();
        for word in words {
            match word.split_once('=') {
                Some(("launcher", path)) if path.starts_with('/') => paths.launcher = path.into(),
                Some(("config", path)) if path.starts_with('/') => paths.config = path.into(),
                _ => {
                    return Err(Error::new(format!(
                        "plugstack.conf gives chariot.so the argument \"{word}\""
                    ))
                    .hint("it takes launcher=PATH and config=PATH, both absolute"));
                }
            }
        }
        Ok(paths)
    }
}

static STATE: Mutex<Option<State>> = Mutex::new(None);

/// The memory, locked. Slurm calls one callback at a time; a panic in one leaves no half-done change
/// that matters, since the callback that follows ends the task or the command.
pub(crate) fn with<T>(work: impl FnOnce(&mut State) -> T) -> T {
    let mut guard: MutexGuard<'_, _> = STATE.lock().unwrap_or_else(PoisonError::into_inner);
    work(guard.get_or_insert_with(|| State {
        givens: Vec::new(),
        raw: Vec::new(),
        paths: Paths::default(),
        meeting: None,
        trusted: None,
        kernel_mount: Vec::new(),
        counts_gpus: false,
        mounted: None,
        patience: Config::default().wait_container,
        wait_fetch: Config::default().wait_fetch,
        scratch: None,
        audit: Audit::default(),
        is_audited: false,
        task_prolog: TaskProlog::default(),
        problem: None,
    }))
}
