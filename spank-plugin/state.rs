//! What the plugin remembers from one callback to the next.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use chariot_core::config::{Config, TaskProlog};
use chariot_core::error::Error;
use chariot_core::options::Given;
use chariot_core::options::table::OptionRow;
use chariot_core::sys::sharing::MeetingPlace;

use crate::components::Asked;

/// The plugin's memory in one process.
pub(crate) struct State {
    /// In srun, what the job was started with.
    pub(crate) inherited: Vec<Given>,
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
    pub(crate) paths: Paths,
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

/// The plugin's arguments.
#[derive(Debug, Clone)]
pub(crate) struct Paths {
    /// The program that makes containers.
    pub(crate) launcher: PathBuf,
    /// The site's file.
    pub(crate) config: PathBuf,
    /// Whether no step runs while that is broken, also none that asked for no container: by the site's default it
    /// might have been in one.
    pub(crate) strict: bool,
}

impl Default for Paths {
    fn default() -> Paths {
        Paths {
            launcher: PathBuf::from("/usr/bin/chariot"),
            config: PathBuf::from(chariot_core::config::PATH),
            strict: false,
        }
    }
}

impl Paths {
    /// Reads the words after the plugin's name in plugstack.conf.
    ///
    /// # Errors
    /// One is not understood; all others hold.
    pub(crate) fn read(&mut self, words: &[String]) -> Result<(), Error> {
        let mut result = Ok(());
        for word in words {
            match word.split_once('=') {
                Some(("launcher", path)) if path.starts_with('/') => self.launcher = path.into(),
                Some(("config", path)) if path.starts_with('/') => self.config = path.into(),
                None if word == "strict" => self.strict = true,
                _ => {
                    result = Err(Error::new(format!(
                        "plugstack.conf gives chariot.so the argument \"{word}\""
                    ))
                    .hint("it takes launcher=PATH and config=PATH, both absolute, and strict"));
                }
            }
        }
        result
    }

    /// Reads the site's file.
    pub(crate) fn site(&self) -> Result<Config, Error> {
        match self.strict {
            true => Config::load_existing(&self.config),
            false => Config::load(&self.config),
        }
    }
}

static STATE: Mutex<Option<State>> = Mutex::new(None);

/// The memory, locked. Slurm calls one callback at a time; a panic in one leaves no half-done change
/// that matters, since the callback that follows ends the task or the command.
pub(crate) fn with<T>(work: impl FnOnce(&mut State) -> T) -> T {
    let mut guard: MutexGuard<'_, _> = STATE.lock().unwrap_or_else(PoisonError::into_inner);
    work(guard.get_or_insert_with(|| State {
        inherited: Vec::new(),
        variables: Vec::new(),
        typed: Vec::new(),
        first: None,
        config: Config::default(),
        raw: Vec::new(),
        paths: Paths::default(),
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
