//! Processes: starting the container's maker from a task, and a few facts about oneself.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use super::{Call, called};
use crate::error::CallError;

/// The most that a helper can say, in bytes: lines for a user to read.
const LONGEST_REPORT: usize = 1 << 20;

/// How long a helper that was killed may take to end.
const LAST: Duration = Duration::from_secs(5);

/// A helper process and the pipe it reports through.
#[derive(Debug)]
pub struct Helper {
    child: std::process::Child,
    report: OwnedFd,
}

/// Starts `command` as a helper of this process: no environment, `input` as its standard input, output and error into
/// a pipe, and `passed`, if there is something, open in it under its own number. It should call [`end_with`] at its start. Nothing is to be
/// done between fork and exec, so that the memory of slurmstepd is not copied: that took half a millisecond. This
/// process must have one thread.
///
/// # Errors
/// ENOENT and the like if the program cannot be executed.
pub fn start_helper(
    mut command: Command,
    input: OwnedFd,
    passed: Option<BorrowedFd<'_>>,
) -> Call<Helper> {
    let failed = not_started(&command);
    let (report, writer) = pipe()?;
    let errors = writer.try_clone().map_err(&failed)?;
    command
        .env_clear()
        .stdin(input)
        .stdout(writer)
        .stderr(errors);
    passed.map(pass_on).transpose()?;
    let child = command.spawn();
    if let Some(passed) = passed {
        let kept = rustix::io::fcntl_setfd(passed, rustix::io::FdFlags::CLOEXEC);
        super::rustix_called(kept, || "fcntl(F_SETFD, FD_CLOEXEC)".into())?;
    }
    Ok(Helper {
        child: child.map_err(failed)?,
        report,
    })
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

/// What is said if a command cannot be started.
fn not_started(command: &Command) -> impl Fn(std::io::Error) -> CallError + use<> {
    let call = format!("execve(\"{}\")", command.get_program().to_string_lossy());
    move |error| {
        let errno = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
        CallError::new(call.clone(), errno)
    }
}

/// What a helper said, and how it ended.
#[derive(Debug)]
pub struct Report {
    /// Its lines.
    pub text: String,
    /// The signal that killed it, if one did and that is known.
    pub killed_by: Option<Signal>,
}

impl Helper {
    /// Everything that the helper reports until it ends. It is killed after `patience`.
    ///
    /// # Errors
    /// ETIMEDOUT when it was killed; what had been reported is lost.
    pub fn report(self, patience: Duration) -> Call<String> {
        let report = self.report_while(patience, patience, |_| {})?;
        Ok(report.text)
    }

    /// The same, but each line that begins with `P` says that it goes on: the helper then has `patience` again,
    /// up to `most` in all. These lines go to `see`, without the letter, and not into the report.
    ///
    /// # Errors
    /// ETIMEDOUT when it was killed, EMSGSIZE when it said too much; what had been reported is lost.
    pub fn report_while(
        mut self,
        patience: Duration,
        most: Duration,
        mut see: impl FnMut(&str),
    ) -> Call<Report> {
        let last = Instant::now() + most;
        let mut deadline = (Instant::now() + patience).min(last);
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
                // It is the user's process, and this one may be root's.
                Ok(_) if text.len() > LONGEST_REPORT => {
                    break Err(CallError::new("read()", Errno::EMSGSIZE));
                }
                Ok(count) => {
                    text.extend(buffer.iter().take(count));
                    if take_progress(&mut text, &mut see) {
                        deadline = (Instant::now() + patience).min(last);
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => break Err(CallError::new("read()", Errno::EIO)),
            }
        };
        if result.is_err() {
            // Whether it could be killed shows below.
            let _ = self.child.kill();
        }
        let signal = wait_until(&mut self.child, deadline)
            .and_then(|status| std::os::unix::process::ExitStatusExt::signal(&status));
        result.map(|()| Report {
            text: String::from_utf8_lossy(&text).into_owned(),
            killed_by: signal.and_then(|number| Signal::try_from(number).ok()),
        })
    }
}

/// Waits until a helper has ended. One that has closed its report and goes on is killed; one that cannot even be killed,
/// in a file system that does not answer, is not waited for. How it ended, if that is known.
fn wait_until(
    child: &mut std::process::Child,
    deadline: Instant,
) -> Option<std::process::ExitStatus> {
    let number = i32::try_from(child.id()).unwrap_or(0);
    let handle = handle_of(nix::unistd::Pid::from_raw(number));
    let has_ended = |deadline: Instant| match &handle {
        Ok(handle) => matches!(wait_readable(handle.as_fd(), deadline), Ok(true)),
        // A task whose SIGCHLD is ignored has no child to wait for; the report is what counts.
        Err(error) => error.errno() == Errno::ESRCH,
    };
    if !has_ended(deadline) {
        let _ = child.kill();
        if !has_ended(Instant::now() + LAST) {
            return None;
        }
    }
    child.wait().ok()
}

/// Takes complete lines that begin with `P` out of a report; true if there was one.
fn take_progress(text: &mut Vec<u8>, see: &mut impl FnMut(&str)) -> bool {
    let mut rest = Vec::with_capacity(text.len());
    let mut has_any = false;
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let progress = line.strip_suffix(b"\n");
        match progress.and_then(|line| line.strip_prefix(b"P")) {
            Some(progress) => {
                see(String::from_utf8_lossy(progress).as_ref());
                has_any = true;
            }
            None => rest.extend_from_slice(line),
        }
    }
    *text = rest;
    has_any
}

/// Starts `command` with this process's variables and nothing to read, and gives what it prints.
///
/// # Errors
/// ENOENT and the like if the program cannot be executed.
pub fn start_asking(mut command: Command) -> Call<Helper> {
    let failed = not_started(&command);
    let (report, writer) = pipe()?;
    let nowhere = std::process::Stdio::null;
    let child = command
        .stdin(nowhere())
        .stderr(nowhere())
        .stdout(writer)
        .spawn()
        .map_err(failed)?;
    // The command holds the writing end too.
    drop(command);
    Ok(Helper { child, report })
}

/// Reads what others write into a pipe until its other end is closed everywhere, or the time is over; no more than
/// `most` bytes. True if it came to its end.
pub fn read_for(pipe: OwnedFd, deadline: Instant, most: usize) -> (Vec<u8>, bool) {
    let mut file = File::from(pipe);
    let (mut text, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(true) = wait_readable(file.as_fd(), deadline) {
        match file.read(&mut buffer) {
            Ok(0) => return (text, true),
            Ok(count) if text.len() < most => text.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() != std::io::ErrorKind::Interrupted => break,
            _ => {}
        }
    }
    (text, false)
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

/// Has a static program resolve host names by /etc/hosts and DNS alone, whatever nsswitch.conf(5) says. The C
/// library would otherwise load modules of the machine's own, which are made for another version of it.
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

/// Whether a descriptor is open, and stays so in a program that this process executes: `fcntl(fd, F_GETFD)`, fcntl(2).
pub fn is_open_for_children(number: i32) -> bool {
    // SAFETY: fcntl(2) with F_GETFD takes any number, open or not.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    flags >= 0 && flags & libc::FD_CLOEXEC == 0
}

/// A copy of the descriptor of that number, whoever owns it: `fcntl(fd, F_DUPFD_CLOEXEC)`, fcntl(2).
///
/// # Errors
/// EBADF if there is none.
pub fn copy_of(number: i32) -> Call<OwnedFd> {
    // SAFETY: fcntl(2) with F_DUPFD_CLOEXEC takes any number, open or not.
    let copy = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) };
    let copy = called(Errno::result(copy), || {
        format!("fcntl({number}, F_DUPFD_CLOEXEC)")
    })?;
    // SAFETY: the kernel has just made this descriptor for this process; nobody else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

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
    super::rustix_called(handle, || "pidfd_open()".into())
}

/// A standard stream that leads nowhere until this is dropped, or for ever in a program that is executed meanwhile.
#[derive(Debug)]
pub struct Silenced {
    number: i32,
    kept: OwnedFd,
}

impl Silenced {
    /// Silences the standard stream of that number: dup2(2) of /dev/null.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn new(number: i32) -> Call<Silenced> {
        let kept = copy_of(number)?;
        let nowhere = super::open(std::path::Path::new("/dev/null"), rustix::fs::OFlags::RDWR)?;
        redirect(&nowhere, number)?;
        Ok(Silenced { number, kept })
    }
}

impl Drop for Silenced {
    fn drop(&mut self) {
        // It worked the other way.
        let _ = redirect(&self.kept, self.number);
    }
}

/// Puts an open file under a number, and leaves it open there in programs that are executed: dup2(2). What has that
/// number must be nobody's in this process, as a standard stream is.
pub(super) fn redirect(file: &OwnedFd, number: i32) -> Call<()> {
    use std::os::fd::AsRawFd;
    // SAFETY: dup2(2) takes any numbers; the caller sees to it that nobody owns this one.
    let result = unsafe { libc::dup2(file.as_raw_fd(), number) };
    called(Errno::result(result).map(drop), || {
        format!("dup2({number})")
    })
}

/// A pipe, the end to read and the end to write: pipe2(2).
///
/// # Errors
/// The kernel's answer.
pub fn pipe() -> Call<(OwnedFd, OwnedFd)> {
    called(nix::unistd::pipe2(OFlag::O_CLOEXEC), || "pipe2()".into())
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

/// By what a program that was executed has more rights than whoever executed it, credentials(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gain {
    /// Its file's set-user-ID bit.
    User,
    /// Its file's set-group-ID bit.
    Group,
    /// Its file's capabilities, capabilities(7).
    Capabilities,
    /// A rule of a security module; all that is known is that the kernel says so, `AT_SECURE` of getauxval(3).
    Rule,
}

/// What this process has gained by being executed. An ordinary user's capabilities are no gain if they are ambient:
/// systemd gives whole sessions one.
///
/// # Errors
/// The kernel's answer.
pub fn gain() -> Call<Option<Gain>> {
    use nix::unistd::{getresgid, getresuid};
    let users = called(getresuid(), || "getresuid()".into())?;
    if users.real != users.effective || users.real != users.saved {
        return Ok(Some(Gain::User));
    }
    let groups = called(getresgid(), || "getresgid()".into())?;
    if groups.real != groups.effective || groups.real != groups.saved {
        return Ok(Some(Gain::Group));
    }
    if !users.effective.is_root() {
        let sets = rustix::thread::capabilities(None);
        let sets = super::rustix_called(sets, || "capget()".into())?;
        let is_ambient =
            |one| rustix::thread::capability_is_in_ambient_set(one).unwrap_or_default();
        if !sets.permitted.iter().all(is_ambient) {
            return Ok(Some(Gain::Capabilities));
        }
    }
    // SAFETY: getauxval(3) takes any number.
    let is_secure = unsafe { libc::getauxval(libc::AT_SECURE) } != 0;
    Ok(is_secure.then_some(Gain::Rule))
}

/// The user that this process acts as, geteuid(2).
pub fn user() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// Has every descriptor but the standard streams close when this process executes a program:
/// `close_range(3, ~0U, CLOSE_RANGE_CLOEXEC)`, close_range(2).
///
/// # Errors
/// The kernel's answer.
pub fn pass_on_standard_streams_only() -> Call<()> {
    let flag = libc::CLOSE_RANGE_CLOEXEC;
    // SAFETY: it closes nothing now.
    let result = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, flag) };
    called(Errno::result(result).map(drop), || {
        "close_range(3, CLOSE_RANGE_CLOEXEC)".into()
    })
}

/// Makes this process, which is root's, one of that user for good: setgroups(2), setresgid(2), setresuid(2), no
/// capability, and none of the keys that root's session holds, keyrings(7). Until it executes a program, what it still
/// knows of root is in its memory: it is not dumpable, so that the user cannot look into it.
///
/// # Errors
/// The kernel's answer.
pub fn become_user(user: u32, group: u32, groups: &[u32]) -> Call<()> {
    use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
    let groups: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
    let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(group));
    called(setgroups(&groups), || "setgroups()".into())?;
    called(setresgid(gid, gid, gid), || format!("setresgid({group})"))?;
    called(setresuid(uid, uid, uid), || format!("setresuid({user})"))?;
    called(nix::sys::prctl::set_dumpable(false), || {
        "prctl(PR_SET_DUMPABLE, 0)".into()
    })?;
    // setresuid(2) takes them away, but for flags that a process can have inherited, capabilities(7).
    super::namespaces::clear_capabilities()?;
    // SAFETY: with no name, keyctl(2) reads no memory of this process.
    let keyring = unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            libc::KEYCTL_JOIN_SESSION_KEYRING,
            std::ptr::null::<libc::c_char>(),
        )
    };
    match Errno::result(keyring) {
        // A kernel without keys, and a container that is kept from them with all that it starts.
        Ok(_) | Err(Errno::ENOSYS | Errno::EPERM) => Ok(()),
        Err(errno) => Err(CallError::new("keyctl(KEYCTL_JOIN_SESSION_KEYRING)", errno)),
    }
}

/// The groups of this process: getgroups(2), getegid(2).
pub fn groups() -> Vec<u32> {
    let own = nix::unistd::getegid();
    let others = nix::unistd::getgroups().unwrap_or_default();
    let all = others.into_iter().chain([own]);
    all.map(nix::unistd::Gid::as_raw).collect()
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
