//! What the plugin remembers from one callback to the next.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use chariot_core::arguments::Arguments;
use chariot_core::config::{Config, TaskProlog};
use chariot_core::error::Error;
use chariot_core::options::Given;
use chariot_core::options::table::OptionRow;
use chariot_core::sys::sharing::MeetingPlace;

use crate::components::Asked;

/// The plugin's memory in one process.
pub(crate) struct State {
    /// What the job was started with that the command is called in.
    pub(crate) inherited: Vec<Given>,
    /// In a command that was called in a container, the image.
    pub(crate) called_in: Option<String>,
    /// In srun, where the job was asked for.
    pub(crate) places: Vec<PathBuf>,
    /// In srun, sbatch and salloc, what `CH_*` variables say.
    pub(crate) variables: Vec<Given>,
    /// Uses of options so far, by this component of a heterogeneous job or step.
    pub(crate) typed: Vec<Given>,
    /// What the first component asked for.
    pub(crate) first: Option<Asked>,
    /// In slurmstepd, what the site's file says; the defaults of all, if it cannot be used.
    pub(crate) config: Config,
    /// The same in slurmstepd, not looked at until it is a task's turn.
    pub(crate) raw: Vec<(&'static OptionRow, Option<String>)>,
    /// Where plugstack.conf says that the launcher and the site's file are.
    pub(crate) paths: Arguments,
    /// The tasks' meeting place, if a container may be wanted.
    pub(crate) meeting: Option<MeetingPlace>,
    /// Where the tasks meet to have the image mounted by the kernel, if the site trusts any.
    pub(crate) trusted: Option<MeetingPlace>,
    /// In a task: the file of the image that root has mounted.
    pub(crate) mounted: Option<String>,
    /// Slurm's directory for temporary files, with `%n` in it.
    pub(crate) scratch: Option<String>,
    /// Whether the line on the step was written.
    pub(crate) is_audited: bool,
    /// Where TaskProlog runs, as far as this release of Slurm can do what the site wants.
    pub(crate) task_prolog: TaskProlog,
    /// What is wrong with the site's file or with the plugin's arguments, so that what the site decided is not known.
    pub(crate) broken: Option<Error>,
    /// What went wrong where it must not be told yet: an error from slurmstepd's own callbacks would
    /// drain the node.
    pub(crate) problem: Option<Error>,
}

static STATE: Mutex<Option<State>> = Mutex::new(None);

/// The memory, locked. Slurm calls one callback at a time; a panic in one leaves no half-done change
/// that matters, since the callback that follows ends the task or the command.
pub(crate) fn with<T>(work: impl FnOnce(&mut State) -> T) -> T {
    let mut guard: MutexGuard<'_, _> = STATE.lock().unwrap_or_else(PoisonError::into_inner);
    work(guard.get_or_insert_with(|| State {
        inherited: Vec::new(),
        places: Vec::new(),
        called_in: None,
        variables: Vec::new(),
        typed: Vec::new(),
        first: None,
        config: Config::default(),
        raw: Vec::new(),
        paths: Arguments::default(),
        meeting: None,
        trusted: None,
        mounted: None,
        scratch: None,
        is_audited: false,
        task_prolog: TaskProlog::default(),
        broken: None,
        problem: None,
    }))
}
