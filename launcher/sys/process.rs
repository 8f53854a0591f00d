//! Processes: starting the container's maker from a task, and a few facts about oneself.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{Call, called};
use crate::error::CallError;

/// A helper process and the pipe it reports through.
#[derive(Debug)]
pub struct Helper {
    child: std::process::Child,
    report: OwnedFd,
}

/// Starts `command` as a helper of this process: no environment, `input` as its standard input,
/// output and error into a pipe, `passed` open in it under its own number, and killed when this
/// process dies (`PR_SET_PDEATHSIG`, PR_SET_PDEATHSIG(2const)).
///
/// # Errors
/// ENOENT and the like if the program cannot be executed.
pub fn start_helper(mut command: Command, input: OwnedFd, passed: BorrowedFd<'_>) -> Call<Helper> {
    let name = command.get_program().to_string_lossy().into_owned();
    let call = || format!("execve(\"{name}\")");
    let failed = |error: std::io::Error| {
        CallError::new(
            call(),
            error.raw_os_error().map_or(Errno::EIO, Errno::from_raw),
        )
    };
    let (report, writer) = called(nix::unistd::pipe2(OFlag::O_CLOEXEC), || "pipe2()".into())?;
    let errors = writer.try_clone().map_err(failed)?;
    command
        .env_clear()
        .stdin(input)
        .stdout(writer)
        .stderr(errors);
    let (passed, parent) = (passed.as_raw_fd(), nix::unistd::getpid());
    let prepare = move || {
        nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
        if nix::unistd::getppid() != parent {
            // The parent died before the request took effect.
            return Err(Errno::ESRCH.into());
        }
        // SAFETY: fcntl(2) on a number that the parent holds open; it is borrowed for this function.
        let result = unsafe { libc::fcntl(passed, libc::F_SETFD, 0) };
        Errno::result(result)
            .map(drop)
            .map_err(std::io::Error::from)
    };
    // SAFETY: the closure makes four system calls and allocates nothing, so it may run between fork
    // and exec whatever other threads were doing.
    unsafe { command.pre_exec(prepare) };
    let child = command.spawn().map_err(failed)?;
    Ok(Helper { child, report })
}

impl Helper {
    /// Everything that the helper reports until it ends. It is killed after `patience`.
    ///
    /// # Errors
    /// ETIMEDOUT when it was killed; what had been reported is lost.
    pub fn report(mut self, patience: Duration) -> Call<String> {
        let deadline = Instant::now() + patience;
        let mut pipe = File::from(self.report);
        let mut text = Vec::new();
        let mut buffer = [0; 4096];
        let result = loop {
            match wait_readable(pipe.as_fd(), deadline) {
                Ok(true) => {}
                Ok(false) => break Err(CallError::new("poll()", Errno::ETIMEDOUT)),
                Err(error) => break Err(error),
            }
            match pipe.read(&mut buffer) {
                Ok(0) => break Ok(()),
                Ok(count) => text.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => break Err(CallError::new("read()", Errno::EIO)),
            }
        };
        if result.is_err() {
            // Whether it could be killed shows below.
            let _ = self.child.kill();
        }
        // A task whose SIGCHLD is ignored has no child to wait for; the report is what counts.
        let _ = self.child.wait();
        result.map(|()| String::from_utf8_lossy(&text).into_owned())
    }
}

fn wait_readable(file: BorrowedFd<'_>, deadline: Instant) -> Call<bool> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(file, PollFlags::POLLIN)], timeout) {
            Ok(0) if left.is_zero() => return Ok(false),
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(errno) => return Err(CallError::new("poll()", errno)),
        }
    }
}

/// Ends this process at once with `code`, _exit(2). In a forked task of slurmstepd nothing else may
/// run at the end, least of all what slurmstepd registered with atexit(3).
pub fn end(code: u8) -> ! {
    // SAFETY: _exit(2) has no conditions.
    unsafe { libc::_exit(code.into()) }
}

/// Leaves a descriptor open in the program that this process executes next: `fcntl(fd, F_SETFD, 0)`,
/// fcntl(2).
///
/// # Errors
/// The kernel's answer.
pub fn pass_on(file: impl AsFd) -> Call<()> {
    let result = rustix::io::fcntl_setfd(file, rustix::io::FdFlags::empty());
    super::rustix_called(result, || "fcntl(F_SETFD, 0)".into())
}

/// The descriptor that the parent passed under this number. The caller must be the process that it
/// was passed to, and ask once.
///
/// # Errors
/// EBADF if there is none.
pub fn passed(number: i32) -> Call<OwnedFd> {
    // SAFETY: fcntl(2) with F_SETFD takes any number, open or not.
    let result = unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    called(Errno::result(result).map(drop), || {
        format!("fcntl({number}, F_SETFD, FD_CLOEXEC)")
    })?;
    // SAFETY: the descriptor is open, as fcntl(2) just said, and our parent left it to us.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// A child process that runs a function of ours.
#[derive(Debug)]
pub struct Forked {
    pid: nix::unistd::Pid,
}

/// Runs `work` in a child process, fork(2); it ends with the status that `work` gives. For what
/// cannot be undone in this process, such as entering a namespace. This process must have one
/// thread.
///
/// # Errors
/// The kernel's answer.
pub fn fork(work: impl FnOnce() -> u8) -> Call<Forked> {
    use nix::unistd::ForkResult;
    // SAFETY: the caller has one thread, so the child's copy of memory is consistent.
    match called(unsafe { nix::unistd::fork() }, || "fork()".into())? {
        ForkResult::Child => {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            end(outcome.unwrap_or(125))
        }
        ForkResult::Parent { child } => Ok(Forked { pid: child }),
    }
}

impl Forked {
    /// Waits until the child has ended, and gives the signal that killed it, if one did.
    pub fn killed_by(&self) -> Option<i32> {
        use nix::sys::wait::{WaitStatus, waitpid};
        loop {
            match waitpid(self.pid, None) {
                Ok(WaitStatus::Signaled(_, signal, _)) => return Some(signal as i32),
                Err(Errno::EINTR) => {}
                _ => return None,
            }
        }
    }

    /// The child's exit status, once it has ended; waitpid(2).
    ///
    /// # Errors
    /// The kernel's answer; EIO if a signal ended the child.
    pub fn poll(&self) -> Call<Option<u8>> {
        self.status(Some(nix::sys::wait::WaitPidFlag::WNOHANG))
    }

    /// Waits until the child has ended, and gives its exit status.
    ///
    /// # Errors
    /// As [`Forked::poll`].
    pub fn wait(&self) -> Call<u8> {
        Ok(self.status(None)?.unwrap_or(125))
    }

    fn status(&self, flags: Option<nix::sys::wait::WaitPidFlag>) -> Call<Option<u8>> {
        use nix::sys::wait::{WaitStatus, waitpid};
        loop {
            match waitpid(self.pid, flags) {
                Ok(WaitStatus::Exited(_, code)) => {
                    return Ok(Some(code.try_into().unwrap_or(125)));
                }
                Ok(WaitStatus::StillAlive) => return Ok(None),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(CallError::new("waitpid()", errno)),
                Ok(_) => return Err(CallError::new("waitpid()", Errno::EIO)),
            }
        }
    }
}

/// Makes this process deaf to the signals by which a terminal or a user ends the program that it is
/// a part of: signal(2) with `SIG_IGN` for HUP, INT, QUIT and TERM.
///
/// # Errors
/// The kernel's answer.
pub fn ignore_polite_signals() -> Call<()> {
    use nix::sys::signal::{SigHandler, Signal, signal};
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

/// The user that this process acts as, geteuid(2).
pub fn user() -> u32 {
    nix::unistd::geteuid().as_raw()
}
