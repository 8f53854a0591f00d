//! The calls of spank.h. Nothing unwinds into Slurm: what runs in its callbacks runs in [`guarded`].

#![allow(unsafe_code, reason = "this is the module that makes SPANK calls")]
mod release;

use std::ffi::{CStr, CString, OsStr, OsString, c_char, c_int};
use std::os::unix::ffi::OsStrExt;
use std::panic::{self, AssertUnwindSafe};

use chariot_core::environment::Environment;
use chariot_core::error::Error;
use chariot_core::escape;
use chariot_core::options::table::OptionRow;
use chariot_core::sys::rights::Ids;
use slurm_spank::spank_sys as sys;
use slurm_spank::{LogLevel, OptionCache, SpankHandle};

use release::prepend_task_argv;
pub(crate) use release::{can_prepend, scratch};

/// Numbers of special steps, slurm.h.
pub(crate) const EXTERN_STEP: u32 = 0xffff_fffc;
pub(crate) const BATCH_STEP: u32 = 0xffff_fffb;
pub(crate) const INTERACTIVE_STEP: u32 = 0xffff_fffa;

/// The name under which Slurm files our options: `_SLURM_SPANK_OPTION_chariot_…`.
pub(crate) const NAME: &str = "chariot";

/// Which program has loaded the plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Context {
    /// srun.
    Step,
    /// sbatch or salloc.
    Job,
    /// slurmstepd.
    Node,
    /// slurmd, and programs that know of no options.
    Other,
}

/// Which program this is.
pub(crate) fn context() -> Context {
    // SAFETY: the function has no conditions.
    match unsafe { sys::spank_context() } {
        sys::spank_context_S_CTX_LOCAL => Context::Step,
        sys::spank_context_S_CTX_ALLOCATOR => Context::Job,
        sys::spank_context_S_CTX_REMOTE => Context::Node,
        _ => Context::Other,
    }
}

/// What Slurm can be asked during a callback.
pub(crate) struct Slurm<'a> {
    handle: SpankHandle<'a>,
    spank: sys::spank_t,
}

impl Slurm<'_> {
    /// The words after the plugin's name in plugstack.conf.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let words = self.handle.plugin_argv().unwrap_or_default();
        words.into_iter().map(str::to_owned).collect()
    }

    /// The number of the step; see slurm.h for the special ones.
    pub(crate) fn step(&self) -> Option<u32> {
        self.handle.job_stepid().ok()
    }

    /// How many tasks of the step are on this node.
    pub(crate) fn local_tasks(&self) -> Option<u32> {
        self.handle.job_local_task_count().ok()
    }

    /// Whether this is the first task of the step on this node.
    pub(crate) fn is_first_local_task(&self) -> bool {
        self.handle.task_id().is_ok_and(|number| number == 0)
    }

    /// Whether the job or the step may have only so much memory.
    pub(crate) fn has_memory_limit(&self) -> bool {
        let some = |megabytes: Result<u64, _>| megabytes.is_ok_and(|megabytes| megabytes > 0);
        some(self.handle.step_alloc_mem()) || some(self.handle.job_alloc_mem())
    }

    /// The number of the job.
    pub(crate) fn job(&self) -> Option<u32> {
        self.handle.job_id().ok()
    }

    /// The user and the groups of the job.
    pub(crate) fn user(&self) -> Option<Ids> {
        Some(Ids {
            user: self.handle.job_uid().ok()?,
            group: self.handle.job_gid().ok()?,
            groups: self.handle.job_supplementary_gids().ok()?,
        })
    }

    /// A variable of the job's environment.
    pub(crate) fn variable(&self, name: &str) -> Option<OsString> {
        self.handle.getenv_os(name).ok().flatten()
    }

    /// All variables of the job's environment.
    pub(crate) fn environment(&self) -> Environment {
        let lines = self.handle.job_env_os().unwrap_or_default();
        lines
            .into_iter()
            .filter_map(chariot_core::handover::split)
            .collect()
    }

    /// The release that is running: 24, 11, 5.
    pub(crate) fn release(&self) -> Option<(u32, u32, u32)> {
        let number = |text: Result<&str, _>| text.ok().and_then(|text| text.parse().ok());
        Some((
            number(self.handle.slurm_version_major())?,
            number(self.handle.slurm_version_minor())?,
            number(self.handle.slurm_version_micro())?,
        ))
    }

    /// Puts words in front of the task's command, `spank_prepend_task_argv`. Slurm copies them.
    ///
    /// # Errors
    /// This Slurm is older than 23.11 and does not have it, or does not want to.
    pub(crate) fn prepend(&self, words: &[CString]) -> Result<(), Error> {
        let failed = || Error::new("Slurm does not let Chariot put a command before the task's");
        let Some(prepend) = prepend_task_argv() else {
            return Err(failed());
        };
        let mut pointers: Vec<*const c_char> = words.iter().map(|word| word.as_ptr()).collect();
        let count = c_int::try_from(pointers.len()).map_err(|_| failed())?;
        // SAFETY: the handle is that of the callback we are in; the array holds `count` NUL-terminated
        // strings, which outlive the call.
        match unsafe { prepend(self.spank, count, pointers.as_mut_ptr()) } {
            sys::ESPANK_SUCCESS => Ok(()),
            _ => Err(failed()),
        }
    }

    /// The command of the step, which for --multi-prog is its file of commands.
    pub(crate) fn command(&self) -> Vec<OsString> {
        let words = self.handle.job_argv_os().unwrap_or_default();
        words.into_iter().map(OsStr::to_owned).collect()
    }

    /// Removes a variable of what sbatch and salloc hand to the job for plugins.
    pub(crate) fn forget(&self, name: &str) {
        // It is removed whether it is there or not.
        let _ = self.handle.job_control_unsetenv(name);
    }

    /// Sets or removes a variable of the task.
    pub(crate) fn edit(&self, name: &OsStr, value: Option<&OsStr>) -> Result<(), Error> {
        let result = match value {
            Some(value) => self.handle.setenv(name, value, true),
            // A variable that is not there needs no removing.
            None => self.handle.unsetenv(name).or(Ok(())),
        };
        result.map_err(|_| {
            Error::new(format!(
                "Slurm does not let Chariot change {}",
                name.to_string_lossy()
            ))
        })
    }
}

/// What Slurm calls with the number of an option, its value and whether it has carried them to a node.
pub(crate) type OptionGiven = extern "C" fn(c_int, *const c_char, c_int) -> c_int;

/// Registers an option with Slurm, under its number in the table.
pub(crate) fn register(
    spank: sys::spank_t,
    number: usize,
    row: &OptionRow,
    given: OptionGiven,
) -> Result<(), Error> {
    let failed = || {
        Error::new(format!(
            "Slurm does not take the option --{}",
            row.slurm_name()
        ))
    };
    let text = |text: &str| CString::new(text).map_err(|_| failed());
    // Slurm's help writes it behind the name and a =.
    let value = match row.value_is_optional() {
        true => format!("[{}]", row.value),
        false => row.value.to_owned(),
    };
    let (name, value, usage) = (text(&row.slurm_name())?, text(&value)?, text(row.short)?);
    let mut option = sys::spank_option {
        name: name.as_ptr(),
        arginfo: value.as_ptr(),
        usage: usage.as_ptr(),
        has_arg: if row.value_is_optional() { 2 } else { 1 },
        val: number.try_into().map_err(|_| failed())?,
        cb: Some(given),
    };
    // SAFETY: the handle is that of the callback we are in. Slurm copies the strings, and keeps only
    // the address of the function, which lives as long as the plugin is loaded.
    match unsafe { sys::spank_option_register(spank, &raw mut option) } {
        0 => Ok(()),
        _ => Err(failed()),
    }
}

/// The value of an option, as Slurm passes it to an [`OptionGiven`], which must be running.
pub(crate) fn value(text: *const c_char) -> Option<String> {
    if text.is_null() {
        return None;
    }
    // SAFETY: Slurm passes a NUL-terminated string that lives until the callback returns.
    let text = unsafe { CStr::from_ptr(text) };
    Some(text.to_string_lossy().into_owned())
}

/// Runs a callback: an error is told, and a panic is one.
pub(crate) fn guarded(work: impl FnOnce() -> Result<(), Error>) -> c_int {
    match panic::catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(())) => 0,
        Ok(Err(error)) => {
            tell(&error);
            -1
        }
        Err(_) => -1,
    }
}

/// Runs a callback of Slurm's.
pub(crate) fn callback(
    spank: sys::spank_t,
    count: c_int,
    words: *const *const c_char,
    work: impl FnOnce(&Slurm<'_>, Context) -> Result<(), Error>,
) -> c_int {
    guarded(|| {
        let mut unused = OptionCache::default();
        let handle = slurm_spank::init_spank_handle(spank, count, words, &mut unused);
        work(&Slurm { handle, spank }, context())
    })
}

/// Prints a failure and its hint through Slurm.
pub(crate) fn tell(failure: &Error) {
    error(&format!("{NAME}: {failure}"));
    if let Some(advice) = failure.advice() {
        error(&format!("{NAME}: hint: {advice}"));
    }
}

/// A line of error for the user and the log.
pub(crate) fn error(line: &str) {
    log_at(LogLevel::Error, line);
}

/// A line for the user.
#[allow(
    clippy::disallowed_methods,
    reason = "one of the two places that print, and escapes"
)]
pub(crate) fn say(line: &str) {
    slurm_spank::slurm_spank_log(&escape::line(line));
}

#[allow(
    clippy::disallowed_methods,
    reason = "one of the two places that print, and escapes"
)]
fn log_at(level: LogLevel, line: &str) {
    slurm_spank::spank_log(level, &escape::line(line));
}

unsafe extern "C" {
    /// getopt(3)'s, where Slurm's commands leave the number of the first word that is no option.
    static optind: c_int;
}

/// The command that salloc was given, unless that starts steps itself.
pub(crate) fn command_of_salloc() -> Option<String> {
    let words: Vec<OsString> = std::env::args_os().collect();
    let name = |word: &OsString| {
        std::path::Path::new(word)
            .file_name()
            .map(OsStr::to_os_string)
    };
    if name(words.first()?)? != "salloc" || words.iter().any(|word| word == ":") {
        return None;
    }
    // SAFETY: the C library has it, and Slurm's commands call plugins from the thread that has read their options.
    let first = usize::try_from(unsafe { optind }).ok()?;
    let command = name(words.get(first).filter(|_| first > 0)?)?;
    let starts_steps = ["srun", "mpirun", "mpiexec"]
        .iter()
        .any(|known| command == *known);
    (!starts_steps).then(|| command.to_string_lossy().into_owned())
}

/// A line for slurmd's log.
pub(crate) fn log(line: &str) {
    log_at(LogLevel::Info, line);
}

/// Sets or removes a variable of this process, which is srun, sbatch or salloc. Its threads, if there
/// are any yet, are Slurm's own, and Slurm sets variables at the same points.
pub(crate) fn set_own_variable(name: &OsStr, value: Option<&str>) {
    // std::env panics on such names, and nobody can have set one.
    if name.is_empty() || name.as_bytes().contains(&b'=') {
        return;
    }
    match value {
        // SAFETY: Slurm calls plugins from its main thread, before it starts those that read the
        // environment, and calls setenv(3) itself right after us.
        Some(value) => unsafe { std::env::set_var(name, value) },
        // SAFETY: as above.
        None => unsafe { std::env::remove_var(name) },
    }
}
