//! Signals as data: taken one by one from a descriptor, and passed on to another process.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
pub use nix::sys::signal::Signal;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, raise, sigaction};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::{Call, called};
use crate::error::CallError;

/// Signals that this process takes from a descriptor; they do nothing else to it.
#[derive(Debug)]
pub struct Signals(SignalFd);

impl Signals {
    /// Takes over: sigprocmask(2), signalfd(2).
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn take_over(signals: &[Signal]) -> Call<Signals> {
        let set: SigSet = signals.iter().copied().collect();
        called(set.thread_block(), || "sigprocmask(SIG_BLOCK)".into())?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        called(SignalFd::with_flags(&set, flags), || "signalfd()".into()).map(Signals)
    }

    /// The next signal, if one is there.
    pub fn next(&self) -> Option<Signal> {
        let info = self.0.read_signal().ok().flatten()?;
        let number = i32::try_from(info.ssi_signo).ok()?;
        Signal::try_from(number).ok()
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Whether whoever started this process wanted it to be deaf to a signal, as nohup(1) and shells do: sigaction(2).
pub fn is_ignored(signal: Signal) -> bool {
    let mut now = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: without a new action sigaction(2) only fills in the old one, for which there is room.
    let result = unsafe { libc::sigaction(signal as i32, std::ptr::null(), now.as_mut_ptr()) };
    // SAFETY: all-zero is a value of this plain data, and the call may have filled it in.
    let now = unsafe { now.assume_init() };
    result == 0 && now.sa_sigaction == libc::SIG_IGN
}

/// Whether a signal asks a program to end, as terminals, users and Slurm do; the others tell of an accident, and SIGKILL
/// may do either.
pub fn asks_to_end(signal: Signal) -> bool {
    use Signal::{SIGALRM, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
    matches!(
        signal,
        SIGHUP | SIGINT | SIGQUIT | SIGTERM | SIGUSR1 | SIGUSR2 | SIGALRM
    )
}

/// Has each signal do in this process what it does by default, but for those to be ignored, and lets all through. To
/// be called in a child before it executes a program.
pub fn settle(ignored: &[Signal]) {
    for signal in Signal::iterator() {
        let handler = match ignored.contains(&signal) {
            true => SigHandler::SigIgn,
            false => SigHandler::SigDfl,
        };
        // SIGKILL and SIGSTOP are refused, as they should be.
        let _ = act(signal, handler);
    }
    for number in libc::SIGRTMIN()..=libc::SIGRTMAX() {
        // SAFETY: SIG_DFL is no function of ours.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
    let _ = SigSet::empty().thread_set_mask();
}

/// The signals by which a terminal or a user ends a program, held back.
#[derive(Debug, Clone, Copy)]
pub struct HeldBack(SigSet);

/// Holds them back, so that none comes before a child that is forked next has said what it wants of them:
/// sigprocmask(2).
///
/// # Errors
/// The kernel's answer.
pub fn hold_back() -> Call<HeldBack> {
    use nix::sys::signal::SigmaskHow;
    let polite = [
        Signal::SIGHUP,
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGTERM,
    ];
    let set: SigSet = polite.into_iter().collect();
    let before = set.thread_swap_mask(SigmaskHow::SIG_BLOCK);
    called(before, || "sigprocmask(SIG_BLOCK)".into()).map(HeldBack)
}

impl HeldBack {
    /// Lets through what came meanwhile, in the process that held it back or in a child of it.
    pub fn let_through(self) {
        // The mask is one that this process had.
        let _ = self.0.thread_set_mask();
    }
}

/// Has this process hear of the ends of its children, whatever it was started with: a parent that ignores SIGCHLD passes
/// that on, and waitpid(2) then finds none.
pub fn hear_of_children() {
    // It is refused of no process.
    let _ = act(Signal::SIGCHLD, SigHandler::SigDfl);
}

fn act(signal: Signal, handler: SigHandler) -> nix::Result<SigAction> {
    let action = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
    // SAFETY: neither SIG_IGN nor SIG_DFL is a function of ours.
    unsafe { sigaction(signal, &action) }
}

/// Ends or stops this process by a signal, as if it had never been taken over: raise(3).
pub fn suffer(signal: Signal) {
    let _ = act(signal, SigHandler::SigDfl);
    let set: SigSet = [signal].into_iter().collect();
    let _ = set.thread_unblock();
    let _ = raise(signal);
    let _ = set.thread_block();
}

/// Sends a signal to a process group that this process has made: killpg(2).
///
/// # Errors
/// The kernel's answer, ESRCH if it is gone.
pub fn send_to_group(leader: nix::unistd::Pid, signal: Signal) -> Call<()> {
    called(nix::sys::signal::killpg(leader, signal), || {
        format!("killpg({leader}, {signal})")
    })
}

/// Whether this process is in the background of the terminal that is its standard input: tcgetpgrp(3).
pub fn is_in_background() -> bool {
    nix::unistd::tcgetpgrp(std::io::stdin()).is_ok_and(|group| group != nix::unistd::getpgrp())
}

/// Waits until one of `files` can be read, or is closed at its other end, or the time is over: poll(2). Gives which ones
/// are.
///
/// # Errors
/// The kernel's answer.
pub fn wait_for(files: &[BorrowedFd<'_>], patience: Option<Duration>) -> Call<Vec<bool>> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let polled = files
        .iter()
        .map(|file| PollFd::new(*file, PollFlags::POLLIN));
    let mut polled: Vec<PollFd<'_>> = polled.collect();
    let timeout = patience.map_or(PollTimeout::NONE, |patience| {
        PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX)
    });
    match poll(&mut polled, timeout) {
        Ok(_) => {}
        Err(Errno::EINTR) => return Ok(vec![false; files.len()]),
        Err(errno) => return Err(CallError::new("poll()", errno)),
    }
    let is_ready = |file: &PollFd<'_>| file.any().unwrap_or(true);
    Ok(polled.iter().map(is_ready).collect())
}
