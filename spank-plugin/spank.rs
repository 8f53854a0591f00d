//! The boundary to Slurm: the symbols that it looks for, and the calls of spank.h.
//!
//! Nothing unwinds across it: each callback catches panics, and a task whose callback panics ends, so
//! that it cannot run outside the container that was asked for.

#![allow(unsafe_code, reason = "this is the module that makes SPANK calls")]
#![allow(
    non_upper_case_globals,
    reason = "Slurm chose the names of its symbols"
)]

use std::ffi::{CStr, CString, OsStr, OsString, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicU32, Ordering};

use chariot::error::{Error, Exit};
use chariot::host::Environment;
use chariot::options::table::{OptionRow, TABLE};
use chariot::sys::process;
use slurm_spank::spank_sys as sys;
use slurm_spank::{LogLevel, OptionCache, SpankHandle};

use crate::{submit, task, trusted};

/// The name under which Slurm files our options: `_SLURM_SPANK_OPTION_chariot_…`.
pub(crate) const NAME: &str = "chariot";

#[unsafe(no_mangle)]
static plugin_name: [u8; 8] = *b"chariot\0";
#[unsafe(no_mangle)]
static plugin_type: [u8; 6] = *b"spank\0";
/// Slurm reads it after the constructor below has run. Zero is refused by every Slurm.
#[unsafe(no_mangle)]
static plugin_version: AtomicU32 = AtomicU32::new(0);

/// The releases for which the plugin interface was read or run: libslurm's API version, and the
/// number that a plugin of that release carries.
const RELEASES: [(u32, u32); 8] = [
    (38, 0x16_05_00),
    (39, 0x17_02_00),
    (40, 0x17_0b_00),
    (41, 0x18_05_00),
    (42, 0x18_0b_00),
    (43, 0x19_05_00),
    (44, 0x19_0b_00),
    (45, 0x1a_05_00),
];

/// The dynamic loader runs it before dlopen(3) returns, and so before Slurm compares versions.
#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn() = adopt_version;

/// Takes on the version of the Slurm that is loading us, if it is one that we know. The interface has
/// been the same since 22.05; a release that is not in the table may have changed it, and refuses us.
extern "C" fn adopt_version() {
    // SAFETY: dlsym(3) takes a NUL-terminated name, and may be called from a constructor.
    let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"slurm_api_version".as_ptr()) };
    if address.is_null() {
        return;
    }
    // SAFETY: slurm.h declares `extern long slurm_api_version(void)`, the same in all releases.
    let api_version = unsafe {
        std::mem::transmute::<*mut c_void, unsafe extern "C" fn() -> libc::c_long>(address)
    };
    // SAFETY: the function has no conditions.
    let number = unsafe { api_version() };
    let major = u32::try_from((number >> 16) & 0xff).unwrap_or(0);
    if let Some((_, version)) = RELEASES.iter().find(|(known, _)| *known == major) {
        plugin_version.store(*version, Ordering::Relaxed);
    }
}

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

fn context() -> Context {
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

    /// The number of the job.
    pub(crate) fn job(&self) -> Option<u32> {
        self.handle.job_id().ok()
    }

    /// The user and the primary group of the job.
    pub(crate) fn user(&self) -> Option<(u32, u32)> {
        Some((self.handle.job_uid().ok()?, self.handle.job_gid().ok()?))
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
            .filter_map(chariot::handover::split)
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

/// TmpFS of slurm.conf, with `%n` and `%h` in it. To be called in slurmstepd itself: it takes a lock
/// that a thread may hold while a task is forked.
pub(crate) fn scratch() -> Option<String> {
    let name = c"slurm_get_tmp_fs";
    // SAFETY: dlsym(3) takes a NUL-terminated name.
    let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    if address.is_null() {
        return None;
    }
    // SAFETY: Slurm declares `char *slurm_get_tmp_fs(char *node_name)` in all releases of the table.
    let get = unsafe {
        std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*mut c_char) -> *mut c_char>(
            address,
        )
    };
    // SAFETY: without a node's name it copies the text as it stands.
    let text = unsafe { get(std::ptr::null_mut()) };
    if text.is_null() {
        return None;
    }
    // SAFETY: it gives a NUL-terminated string that is ours. Its few bytes are not given back: Slurm's
    // way to do that is a macro, and this is called once in a process.
    let text = unsafe { CStr::from_ptr(text) };
    Some(text.to_string_lossy().into_owned())
}

type PrependTaskArgv =
    unsafe extern "C" fn(sys::spank_t, c_int, *mut *const c_char) -> sys::spank_err_t;

/// `spank_prepend_task_argv`, which Slurm has since 23.11. Looked up, because a plugin that merely refers
/// to it could not be loaded by an older release.
fn prepend_task_argv() -> Option<PrependTaskArgv> {
    let name = c"spank_prepend_task_argv";
    // SAFETY: dlsym(3) takes a NUL-terminated name.
    let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    if address.is_null() {
        return None;
    }
    // SAFETY: spank.h declares it with this type in every release that has it.
    Some(unsafe { std::mem::transmute::<*mut c_void, PrependTaskArgv>(address) })
}

/// Whether this Slurm can put words in front of a task's command.
pub(crate) fn can_prepend() -> bool {
    prepend_task_argv().is_some()
}

/// Registers an option with Slurm, under its number in the table.
fn register(spank: sys::spank_t, number: usize, row: &OptionRow) -> Result<(), Error> {
    let failed = || {
        Error::new(format!(
            "Slurm does not take the option --{}",
            row.slurm_name()
        ))
    };
    let text = |text: &str| CString::new(text).map_err(|_| failed());
    let (name, value, usage) = (text(&row.slurm_name())?, text(row.value)?, text(row.short)?);
    let mut option = sys::spank_option {
        name: name.as_ptr(),
        arginfo: value.as_ptr(),
        usage: usage.as_ptr(),
        has_arg: if row.value_is_optional() { 2 } else { 1 },
        val: number.try_into().map_err(|_| failed())?,
        cb: Some(option_given),
    };
    // SAFETY: the handle is that of the callback we are in. Slurm copies the strings, and keeps only
    // the address of the function, which lives as long as the plugin is loaded.
    match unsafe { sys::spank_option_register(spank, &raw mut option) } {
        0 => Ok(()),
        _ => Err(failed()),
    }
}

/// Slurm has found one of our options: on the command line, in a script, or in the environment.
extern "C" fn option_given(number: c_int, value: *const c_char, remote: c_int) -> c_int {
    let value = match value.is_null() {
        true => None,
        // SAFETY: Slurm passes a NUL-terminated string that lives until we return.
        false => Some(
            unsafe { CStr::from_ptr(value) }
                .to_string_lossy()
                .into_owned(),
        ),
    };
    let row = usize::try_from(number)
        .ok()
        .and_then(|number| TABLE.get(number));
    guarded(|| match (row, remote) {
        (None, _) => Err(Error::new(
            "Slurm passed an option that Chariot does not have",
        )),
        (Some(row), 0) => submit::option(row, value.as_deref()),
        (Some(row), _) => {
            task::option(row, value.as_deref());
            Ok(())
        }
    })
}

/// Runs a callback: an error is told, and a panic is one.
fn guarded(work: impl FnOnce() -> Result<(), Error>) -> c_int {
    match panic::catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(())) => 0,
        Ok(Err(error)) => {
            tell(&error);
            -1
        }
        Err(_) => -1,
    }
}

/// A failure of slurmstepd's own callbacks would drain the node, and touch jobs that want no container:
/// it waits for the turn of a task that wants one.
fn deferred(code: c_int) -> c_int {
    if code == 0 || context() != Context::Node {
        return code;
    }
    task::fail_later();
    0
}

/// Runs a callback of Slurm's.
fn callback(
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

#[unsafe(no_mangle)]
extern "C" fn slurm_spank_init(
    spank: sys::spank_t,
    count: c_int,
    words: *const *const c_char,
) -> c_int {
    panic::set_hook(Box::new(|panic| {
        error(&format!(
            "{NAME}: this is a mistake in Chariot, please report it: {panic}"
        ));
    }));
    deferred(callback(spank, count, words, |slurm, context| {
        if context == Context::Other {
            return Ok(());
        }
        for (number, row) in TABLE.iter().enumerate() {
            register(spank, number, row)?;
        }
        match context {
            Context::Node => task::init(slurm),
            _ => submit::init(slurm, context),
        }
    }))
}

#[unsafe(no_mangle)]
extern "C" fn slurm_spank_init_post_opt(
    spank: sys::spank_t,
    count: c_int,
    words: *const *const c_char,
) -> c_int {
    deferred(callback(
        spank,
        count,
        words,
        |slurm, context| match context {
            Context::Step | Context::Job => submit::options_complete(context),
            Context::Node => {
                task::options_complete(slurm);
                Ok(())
            }
            Context::Other => Ok(()),
        },
    ))
}

/// As root, in the task. It returns success whatever happens: there is always the way without a kernel mount.
#[unsafe(no_mangle)]
extern "C" fn slurm_spank_task_init_privileged(
    spank: sys::spank_t,
    count: c_int,
    words: *const *const c_char,
) -> c_int {
    callback(spank, count, words, |slurm, _| {
        trusted::prepare(slurm);
        Ok(())
    });
    0
}

#[unsafe(no_mangle)]
extern "C" fn slurm_spank_task_init(
    spank: sys::spank_t,
    count: c_int,
    words: *const *const c_char,
) -> c_int {
    let code = callback(spank, count, words, |slurm, _| {
        task::enter(slurm);
        Ok(())
    });
    // Not by return code: an `optional` plugin's would be ignored, and the task run on the host.
    if code != 0 {
        process::end(Exit::Container.code());
    }
    code
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
    slurm_spank::spank_log(LogLevel::Error, line);
}

/// A line for the user.
pub(crate) fn say(line: &str) {
    slurm_spank::slurm_spank_log(line);
}

/// A line for slurmd's log.
pub(crate) fn log(line: &str) {
    slurm_spank::spank_log(LogLevel::Info, line);
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
