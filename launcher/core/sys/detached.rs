//! Processes that live on beside the program that started them: they hold nothing of it, and hear no
//! signal that is meant for it. Nobody may look into them: a program of the image could be root in the user namespace
//! that some of them are in.

use super::descriptors;
use std::ffi::CStr;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal};

use super::{Call, called, fork, process};

/// Runs `work` in a process of its own, whose parent is not this one but whoever looks after orphans: it is
/// in a session of its own, in "/", deaf to every signal that can be ignored, with standard streams that
/// lead nowhere, free to run on every processor that the step has, not dumpable, and with no other descriptors open
/// than `keep`. This process must have one thread.
///
/// # Errors
/// The kernel's answer.
pub fn start(name: &CStr, keep: Vec<RawFd>, work: impl FnOnce() -> u8) -> Call<()> {
    let first = fork::fork(|| u8::from(start_beside(name, keep, work).is_err()))?;
    match first.wait()? {
        0 => Ok(()),
        _ => Err(crate::error::CallError::new("fork()", Errno::EAGAIN)),
    }
}

/// The same for a process that ends soon itself, which is its parent until then. It costs one fork(2) less.
///
/// # Errors
/// The kernel's answer.
pub fn start_beside(name: &CStr, keep: Vec<RawFd>, work: impl FnOnce() -> u8) -> Call<()> {
    let run = || match detach(name, keep) {
        Ok(()) => work(),
        Err(_) => 125,
    };
    fork::fork(run).map(drop)
}

fn detach(name: &CStr, mut keep: Vec<RawFd>) -> Call<()> {
    set_name(name)?;
    refuse_lookers()?;
    called(nix::unistd::setsid().map(drop), || "setsid()".into())?;
    called(nix::unistd::chdir("/"), || "chdir(\"/\")".into())?;
    ignore_signals();
    let nowhere = super::open(Path::new("/dev/null"), rustix::fs::OFlags::RDWR)?;
    for standard in 0..3 {
        descriptors::redirect(&nowhere, standard)?;
    }
    use_all_processors();
    keep.sort_unstable();
    let mut first = 3;
    for number in keep {
        close_range(first, number - 1)?;
        first = number + 1;
    }
    // `nowhere` goes with the rest; nothing uses it any more.
    std::mem::forget(nowhere);
    close_range(first, RawFd::MAX)
}

/// `prctl(PR_SET_DUMPABLE, 0)`, PR_SET_DUMPABLE(2const): nobody traces this process, reaches its descriptors, or goes by
/// /proc/PID/root where it could, but who has that capability over the user namespace that the launcher was started in.
fn refuse_lookers() -> Call<()> {
    called(nix::sys::prctl::set_dumpable(false), || {
        "prctl(PR_SET_DUMPABLE, 0)".into()
    })
}

/// Makes an open directory the root of this process, chroot(2): one that nothing is in, and on no path, so that `..`
/// leads nowhere. Threads of this process have the same root.
///
/// # Errors
/// The kernel's answer.
pub fn shut_in(root: impl AsFd) -> Call<()> {
    super::called(rustix::process::fchdir(root), || "fchdir(empty)".into())?;
    called(nix::unistd::chroot("."), || "chroot(\".\")".into())
}

/// `prctl(PR_SET_NAME, name)`, PR_SET_NAME(2const): how ps(1) shows this process.
///
/// # Errors
/// The kernel's answer.
pub fn set_name(name: &CStr) -> Call<()> {
    called(nix::sys::prctl::set_name(name), || {
        format!("prctl(PR_SET_NAME, {name:?})")
    })
}

/// Shows this process in ps(1) as a program of that name that was started for `subject`, and not by the words and the
/// variables of the program that started it; of a long one the end. It has none of these any more. To be called before
/// there are threads.
pub fn set_title(name: &str, subject: &str) {
    // Libraries that ask for a variable later must not find what is written over them.
    process::adopt_environment(&Vec::new());
    let Some(room) = room_for_title() else { return };
    let space = room.len().saturating_sub(name.len() + 2);
    let subject = subject.as_bytes();
    let cut = subject.len().saturating_sub(space);
    let title = [name.as_bytes(), b" ", &subject[cut..]].concat();
    room.fill(0);
    for (byte, text) in room.iter_mut().zip(&title) {
        *byte = *text;
    }
}

/// The memory in which this process was given its words, and its variables if they come next: the kernel shows them as
/// far as the words went, or to the first NUL if they have become longer, proc_pid_cmdline(5).
fn room_for_title() -> Option<&'static mut [u8]> {
    let file = super::open(Path::new("/proc/self/stat"), rustix::fs::OFlags::RDONLY).ok()?;
    let mut text = String::new();
    std::fs::File::from(file).read_to_string(&mut text).ok()?;
    // The fields of proc_pid_stat(5) from arg_start on, counted behind the name.
    let fields = text.rsplit_once(')')?.1.split_whitespace().skip(45);
    let places: Vec<usize> = fields
        .take(4)
        .filter_map(|field| field.parse().ok())
        .collect();
    let [start, words_end, variables, end] = places[..] else {
        return None;
    };
    let end = if variables == words_end {
        end
    } else {
        words_end
    };
    if start == 0 || end <= start {
        return None;
    }
    let length = end - start;
    let start = std::ptr::with_exposed_provenance_mut::<u8>(start);
    // SAFETY: the kernel says that this memory is the process's, and it is writable, as everything on a stack. Nothing
    // uses it: the caller's process has one thread, which has forgotten its variables, and words were copied when
    // they were read.
    Some(unsafe { std::slice::from_raw_parts_mut(start, length) })
}

/// Keeps the C library from holding on to freed memory: one heap for all threads, and blocks of an image
/// outside of it, so that they go back to the kernel; mallopt(3). To be called before there are threads.
pub fn keep_heap_small() {
    #[cfg(target_env = "gnu")]
    for (parameter, value) in [(libc::M_ARENA_MAX, 1), (libc::M_MMAP_THRESHOLD, 64 << 10)] {
        // SAFETY: mallopt(3) takes any numbers; this process has one thread.
        unsafe { libc::mallopt(parameter, value) };
    }
}

/// Ignores what can be ignored but SIGCHLD, so that children can be waited for, and lets the rest through.
fn ignore_signals() {
    for number in Signal::iterator().filter(|number| *number != Signal::SIGCHLD) {
        // SAFETY: SIG_IGN is no function of ours. SIGKILL and SIGSTOP are refused, which is as it should be.
        let _ = unsafe { nix::sys::signal::signal(number, SigHandler::SigIgn) };
    }
    for number in libc::SIGRTMIN()..=libc::SIGRTMAX() {
        // SAFETY: as above. The C library keeps the first two for itself and does not count them here.
        unsafe { libc::signal(number, libc::SIG_IGN) };
    }
    // The mask of slurmstepd's task, whatever it was, is not ours.
    let _ = nix::sys::signal::sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
}

/// Takes back what bound the task that started this to its own processors, sched_setaffinity(2); a cpuset
/// of the step stays in force.
fn use_all_processors() {
    let mut all = nix::sched::CpuSet::new();
    for processor in 0..nix::sched::CpuSet::count() {
        let _ = all.set(processor);
    }
    // Where it is refused, the server is slower and no less right.
    let _ = nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &all);
}

/// The number of processors that this process may use, sched_getaffinity(2). The standard library's own count reads
/// cgroups too, a dozen files, before the first answer.
pub fn processors() -> usize {
    let set = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0));
    set.map_or(1, |set| {
        (0..nix::sched::CpuSet::count())
            .filter(|number| set.is_set(*number).unwrap_or(false))
            .count()
    })
}

/// `close_range(first, last, 0)`, close_range(2).
fn close_range(first: RawFd, last: RawFd) -> Call<()> {
    if first > last {
        return Ok(());
    }
    // SAFETY: nothing of this process uses a descriptor but those that its starter asked to keep.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    called(Errno::result(result).map(drop), || {
        format!("close_range({first}, {last})")
    })
}

/// A copy of a descriptor of another process of this user namespace: pidfd_open(2), pidfd_getfd(2).
///
/// # Errors
/// The kernel's answer, EPERM if that process is none of ours.
pub fn descriptor_of(process: i32, number: RawFd) -> Call<OwnedFd> {
    // SAFETY: pidfd_open(2) takes any number.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_open, process, 0) };
    let handle = owned(result, || format!("pidfd_open({process})"))?;
    // SAFETY: pidfd_getfd(2) takes an open descriptor, which `handle` is, and any number.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_getfd, handle.as_raw_fd(), number, 0) };
    owned(result, || format!("pidfd_getfd({process}, {number})"))
}

fn owned(result: libc::c_long, call: impl FnOnce() -> String) -> Call<OwnedFd> {
    let number = called(Errno::result(result), call)?;
    // SAFETY: the kernel has just made this descriptor for this process; nobody else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(RawFd::try_from(number).unwrap_or(-1)) })
}
