//! Children that run a function of ours, and what they do before they execute a program.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

use super::descriptors::redirect;
use super::process::end;
use super::{Call, called};
use crate::error::CallError;

/// What became of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Nothing that has not been told.
    None,
    /// It is stopped, by a terminal or by a signal.
    Stopped,
    /// It ended with this status.
    Exited(u8),
    /// A signal killed it.
    Killed(Signal),
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
        match self.ask(None) {
            Ok(Change::Killed(signal)) => Some(signal as i32),
            _ => None,
        }
    }

    /// What became of the child since the last time, waitpid(2).
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn change(&self) -> Call<Change> {
        self.ask(Some(WaitPidFlag::WNOHANG | WaitPidFlag::WUNTRACED))
    }

    /// Makes the child the first of a process group, setpgid(2). The child should do so too: who comes first is not
    /// known.
    pub fn lead_group(&self) {
        // It fails if the child has executed its program, which it does after it has done this itself.
        let _ = nix::unistd::setpgid(self.pid, self.pid);
    }

    /// Sends a signal to the child's process group.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn signal(&self, signal: Signal) -> Call<()> {
        super::signals::send_to_group(self.pid, signal)
    }

    /// A descriptor that can be read when the child has ended: pidfd_open(2).
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn handle(&self) -> Call<OwnedFd> {
        super::process::handle_of(self.pid)
    }

    /// Asks the child to end, which lets it finish what it holds signals back for, and kills it if it has not ended
    /// after `politely`.
    pub fn end_within(&self, politely: Duration, patience: Duration) {
        let _ = nix::sys::signal::kill(self.pid, Signal::SIGTERM);
        if !self.has_ended_within(politely) {
            self.kill_within(patience);
        }
    }

    /// Kills the child, and waits so long until it has ended: one that waits for a file server may not.
    pub fn kill_within(&self, patience: Duration) {
        let _ = nix::sys::signal::kill(self.pid, Signal::SIGKILL);
        self.has_ended_within(patience);
    }

    fn has_ended_within(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        while let Ok(Change::None | Change::Stopped) = self.change() {
            if Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        true
    }

    /// The child's exit status, once it has ended; waitpid(2).
    ///
    /// # Errors
    /// The kernel's answer; EIO if a signal ended the child.
    pub fn poll(&self) -> Call<Option<u8>> {
        self.status(Some(WaitPidFlag::WNOHANG))
    }

    /// Waits until the child has ended, and gives its exit status.
    ///
    /// # Errors
    /// As [`Forked::poll`].
    pub fn wait(&self) -> Call<u8> {
        Ok(self.status(None)?.unwrap_or(125))
    }

    fn status(&self, flags: Option<WaitPidFlag>) -> Call<Option<u8>> {
        match self.ask(flags)? {
            Change::Exited(code) => Ok(Some(code)),
            Change::None => Ok(None),
            Change::Stopped | Change::Killed(_) => Err(CallError::new("waitpid()", Errno::EIO)),
        }
    }

    /// waitpid(2), called again where a signal came in between.
    fn ask(&self, flags: Option<WaitPidFlag>) -> Call<Change> {
        loop {
            return match waitpid(self.pid, flags) {
                Ok(WaitStatus::Exited(_, code)) => {
                    Ok(Change::Exited(code.try_into().unwrap_or(125)))
                }
                Ok(WaitStatus::Signaled(_, signal, _)) => Ok(Change::Killed(signal)),
                Ok(WaitStatus::Stopped(..)) => Ok(Change::Stopped),
                Ok(_) => Ok(Change::None),
                Err(Errno::EINTR) => continue,
                Err(errno) => Err(CallError::new("waitpid()", errno)),
            };
        }
    }
}

/// Makes this process the first of a process group of its own, setpgid(2).
pub fn lead_own_group() {
    let own = nix::unistd::Pid::from_raw(0);
    // A process that has just been forked is no session leader, the only one that may not.
    let _ = nix::unistd::setpgid(own, own);
}

/// Gives descriptors the numbers that the program to be executed expects, and leaves them open in it: dup2(2). To be
/// called in a child that executes a program next, with nothing else open that is still needed. A number that this
/// process may not have stays behind.
///
/// # Errors
/// The kernel's answer.
pub fn place(files: Vec<(OwnedFd, RawFd)>) -> Call<()> {
    let most = most_files();
    let may_have = |number: &RawFd| u64::try_from(*number).is_ok_and(|number| number < most);
    let (files, numbers): (Vec<OwnedFd>, Vec<RawFd>) = files
        .into_iter()
        .filter(|(_, number)| may_have(number))
        .unzip();
    let mut in_the_way = Vec::new();
    let mut moved = Vec::new();
    for mut file in files {
        while numbers.contains(&file.as_raw_fd()) {
            let copy = rustix::io::fcntl_dupfd_cloexec(&file, 0);
            let copy = super::called(copy, || "fcntl(F_DUPFD_CLOEXEC)".into())?;
            in_the_way.push(std::mem::replace(&mut file, copy));
        }
        moved.push(file);
    }
    drop(in_the_way);
    for (file, number) in moved.iter().zip(numbers) {
        redirect(file, number)?;
    }
    Ok(())
}

/// The mask of permissions of this process, umask(2).
pub fn umask() -> u32 {
    // There is no way to read it alone.
    let now = set_umask(0);
    set_umask(now);
    now
}

/// Sets it, and says what it was.
pub fn set_umask(mask: u32) -> u32 {
    use nix::sys::stat::{Mode, umask};
    umask(Mode::from_bits_truncate(mask)).bits()
}

/// How many limits Linux knows, getrlimit(2).
const LIMITS: u32 = 16;

/// The limits of this process by number, the soft and the hard one: getrlimit(2).
pub fn limits() -> Vec<(u32, u64, u64)> {
    (0..LIMITS).filter_map(limit).collect()
}

fn limit(number: u32) -> Option<(u32, u64, u64)> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: getrlimit(2) fills in the structure, and refuses numbers that it does not know.
    let result = unsafe { libc::getrlimit(number, &raw mut limit) };
    (result == 0).then_some((number, limit.rlim_cur, limit.rlim_max))
}

/// Lets this process have as many descriptors as it may.
pub fn raise_limit_of_files() {
    let known = limits();
    let files = known
        .iter()
        .filter(|(number, ..)| *number == libc::RLIMIT_NOFILE);
    for (number, _, hard) in files {
        set_limits(&[(*number, *hard, *hard)]);
    }
}

/// How many files this process may have open now.
pub fn most_files() -> u64 {
    limit(libc::RLIMIT_NOFILE).map_or(u64::MAX, |(_, soft, _)| soft)
}

/// Sets limits as far as this process may: setrlimit(2).
pub fn set_limits(limits: &[(u32, u64, u64)]) {
    for (number, soft, hard) in limits {
        let limit = libc::rlimit {
            rlim_cur: *soft,
            rlim_max: *hard,
        };
        // SAFETY: setrlimit(2) reads the structure, and refuses numbers that it does not know.
        unsafe { libc::setrlimit(*number, &raw const limit) };
    }
}
