//! What Slurm looks for in a plugin and calls: the plugin's name, and one function for each moment that Chariot wants.
//!
//! No error of slurmstepd's own callbacks is returned, which would drain the node; and a task whose callback fails or
//! panics ends, so that it cannot run outside the container that was asked for.

#![allow(unsafe_code, reason = "exported symbols; there is no unsafe block")]
#![allow(
    non_upper_case_globals,
    reason = "Slurm chose the names of its symbols"
)]

use std::ffi::{c_char, c_int};
use std::panic;

use chariot_core::error::{Error, Exit};
use chariot_core::options::table::TABLE;
use chariot_core::sys::process;
use slurm_spank::spank_sys as sys;

use crate::spank::{self, Context, NAME, callback, context, guarded, register};
use crate::{audit, spare, submit, task, trusted};

#[unsafe(no_mangle)]
static plugin_name: [u8; 8] = *b"chariot\0";
#[unsafe(no_mangle)]
static plugin_type: [u8; 6] = *b"spank\0";

/// Slurm has found one of our options: on the command line, in a script, or in the environment.
extern "C" fn option_given(number: c_int, value: *const c_char, remote: c_int) -> c_int {
    let value = spank::value(value);
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

/// A failure of slurmstepd's own callbacks would drain the node, and touch jobs that want no container:
/// it waits for the turn of a task that wants one.
fn deferred(code: c_int) -> c_int {
    if code == 0 || context() != Context::Node {
        return code;
    }
    task::fail_later();
    0
}

#[unsafe(no_mangle)]
extern "C" fn slurm_spank_init(
    spank: sys::spank_t,
    count: c_int,
    words: *const *const c_char,
) -> c_int {
    panic::set_hook(Box::new(|panic| {
        spank::error(&format!(
            "{NAME}: this is a bug in Chariot, please report it: {panic}"
        ));
    }));
    deferred(callback(spank, count, words, |slurm, context| {
        if context == Context::Other {
            return Ok(());
        }
        for (number, row) in TABLE.iter().enumerate() {
            register(spank, number, row, option_given)?;
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
            Context::Step | Context::Job => submit::options_complete(slurm, context),
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
        spare::prepare(slurm);
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

/// As root, in slurmstepd, when a task has ended.
#[unsafe(no_mangle)]
extern "C" fn slurm_spank_task_exit(
    spank: sys::spank_t,
    count: c_int,
    words: *const *const c_char,
) -> c_int {
    callback(spank, count, words, |slurm, _| {
        audit::write(slurm);
        Ok(())
    });
    0
}
