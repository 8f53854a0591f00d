//! This process and those around it: how it ends, whom it waits for, what it is told.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::Signal;

use super::{Call, called};
use crate::error::CallError;

/// This process, by its directory of proc(5): `open("/proc/self")`, open(2). To be opened before a root is changed: what is
/// at /proc in an image, the image decides.
///
/// # Errors
/// The kernel's answer.
pub fn own_directory() -> Call<OwnedFd> {
    use rustix::fs::OFlags;
    super::open(Path::new("/proc/self"), OFlags::RDONLY | OFlags::DIRECTORY)
}

/// Has the kernel kill this process when `parent` dies, `PR_SET_PDEATHSIG`, PR_SET_PDEATHSIG(2const).
///
/// # Errors
/// The kernel's answer; ESRCH if the parent is another process by now.
pub fn end_with(parent: u32) -> Call<()> {
    let signal = Signal::SIGKILL;
    called(nix::sys::prctl::set_pdeathsig(signal), || {
        "prctl(PR_SET_PDEATHSIG)".into()
    })?;
    match u32::try_from(nix::unistd::getppid().as_raw()) {
        Ok(now) if now == parent => Ok(()),
        _ => Err(CallError::new("getppid()", Errno::ESRCH)),
    }
}

/// Lets this process write its own files of proc(5), which a change of user has taken from it: `PR_SET_DUMPABLE`,
/// PR_SET_DUMPABLE(2const). Only for one whose memory holds nothing that its user may not know.
///
/// # Errors
/// The kernel's answer.
pub fn show_in_proc() -> Call<()> {
    called(nix::sys::prctl::set_dumpable(true), || {
        "prctl(PR_SET_DUMPABLE, 1)".into()
    })
}

/// Has a command that this process starts be asked to end when this process ends: `PR_SET_PDEATHSIG`,
/// PR_SET_PDEATHSIG(2const).
pub fn end_with_this(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    let asked = || {
        let signal = Signal::SIGTERM;
        nix::sys::prctl::set_pdeathsig(signal).map_err(std::io::Error::from)
    };
    // SAFETY: between fork(2) and execve(2) it makes one system call, and takes no lock and no memory.
    unsafe { command.pre_exec(asked) };
}

/// Has a static program that resolves host names itself do it by /etc/hosts and DNS alone, whatever nsswitch.conf(5)
/// says. The C library would otherwise load modules of the machine's own, which are made for another version of it.
pub fn resolve_hosts_alone() {
    #[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
    {
        unsafe extern "C" {
            fn __nss_configure_lookup(
                database: *const libc::c_char,
                services: *const libc::c_char,
            ) -> libc::c_int;
        }
        // SAFETY: both are strings that end in NUL, which the C library copies. It refuses only words that it
        // cannot read.
        let _ = unsafe { __nss_configure_lookup(c"hosts".as_ptr(), c"files dns".as_ptr()) };
    }
}

/// Ends this process at once with `code`, _exit(2). In a forked task of slurmstepd nothing else may
/// run at the end, least of all what slurmstepd registered with atexit(3).
pub fn end(code: u8) -> ! {
    // SAFETY: _exit(2) has no conditions.
    unsafe { libc::_exit(code.into()) }
}

/// Waits as long as whoever ends a step, a job or a service takes to come from one of its processes to the next. Who
/// has seen another one killed and is killed as well was no witness of an accident, and has nothing to tell.
pub fn await_own_end() {
    std::thread::sleep(OWN_END);
}

/// Slurm and systemd go through a list; half a second is long on a busy machine, and short for who is left.
const OWN_END: Duration = Duration::from_millis(500);

/// A descriptor of this process that can be read when it has ended, whatever programs it executes: pidfd_open(2).
///
/// # Errors
/// The kernel's answer.
pub fn handle_of_self() -> Call<OwnedFd> {
    handle_of(nix::unistd::getpid())
}

/// The same of this process's parent, which the caller must know to be there.
///
/// # Errors
/// The kernel's answer.
pub fn handle_of_parent() -> Call<OwnedFd> {
    handle_of(nix::unistd::getppid())
}

/// A descriptor of a process that can be read when it has ended: pidfd_open(2). The caller must know that the number
/// is that process's still: its parent, or a child that it has not waited for.
///
/// # Errors
/// The kernel's answer.
pub fn handle_of(process: nix::unistd::Pid) -> Call<OwnedFd> {
    let missing = || CallError::new("pidfd_open()", Errno::ESRCH);
    let number = rustix::process::Pid::from_raw(process.as_raw()).ok_or_else(missing)?;
    let handle = rustix::process::pidfd_open(number, rustix::process::PidfdFlags::empty());
    super::called(handle, || "pidfd_open()".into())
}

/// Makes this process deaf to the signals by which a terminal or a user ends the program that it is
/// a part of: signal(2) with `SIG_IGN` for HUP, INT, QUIT and TERM.
///
/// # Errors
/// The kernel's answer.
pub fn ignore_polite_signals() -> Call<()> {
    use nix::sys::signal::{SigHandler, signal};
    for number in [
        Signal::SIGHUP,
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGTERM,
    ] {
        // SAFETY: SIG_IGN is no function of ours, so none can run at a bad moment.
        let result = unsafe { signal(number, SigHandler::SigIgn) };
        called(result.map(drop), || format!("signal({number}, SIG_IGN)"))?;
    }
    Ok(())
}

/// Gives this process the variables of another one in place of its own: libraries look for proxies and
/// credentials there. This process must have one thread.
pub fn adopt_environment(environment: &crate::environment::Environment) {
    let own: Vec<_> = std::env::vars_os().map(|(name, _)| name).collect();
    for name in own {
        // SAFETY: there is no other thread that could read the environment.
        unsafe { std::env::remove_var(name) };
    }
    for (name, value) in environment {
        let is_sound = |text: &std::ffi::OsStr| !text.as_encoded_bytes().contains(&0);
        if name.is_empty()
            || name.as_encoded_bytes().contains(&b'=')
            || !is_sound(name)
            || !is_sound(value)
        {
            continue;
        }
        // SAFETY: as above; and the name is one that setenv(3) takes.
        unsafe { std::env::set_var(name, value) };
    }
}

/// This process's parent, getppid(2): another one once that has ended.
pub fn parent() -> nix::unistd::Pid {
    nix::unistd::getppid()
}

/// This process, getpid(2).
pub fn own() -> nix::unistd::Pid {
    nix::unistd::getpid()
}

/// Whether some process has that number: `kill(pid, 0)`, kill(2).
pub fn is_there(number: i32) -> bool {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(number), None) != Err(Errno::ESRCH)
}
