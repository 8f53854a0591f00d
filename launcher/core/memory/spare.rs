//! Whom the kernel kills where memory runs out: proc_pid_oom_score_adj(5).
//!
//! The server of an image is often the largest process of a step that is made of small ones. When it is killed all of
//! them lose their files, and the step has less than it would have had from a directory. Root can have the kernel take
//! the others first; so it must be the server, and no program of the user's that looks like it.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, Stat, openat, statat};

use super::{group as memory_group, limit_of};

/// How a server of an image calls itself.
pub const SERVER: &CStr = c"chariot-serve";

/// After every other process, and before the machine stands still: -1000 would be never.
const LAST: &str = "-999";

/// What Slurm gives the tasks of a step.
const AS_OTHERS: &str = "0";

/// Files of the kernel's are short.
const LONGEST: u64 = 64 << 10;

/// What a directory of the kernel's on a process is opened by.
const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

/// Has the kernel kill the servers of a step's images after all else of it: those of this user, in the memory group of
/// the process `task`, which are the program `launcher`. For root.
///
/// # Errors
/// The kernel's answer.
pub fn spare_servers(user: u32, launcher: &Path, task: &OwnedFd) -> io::Result<()> {
    let program = statat(CWD, launcher, AtFlags::empty())?;
    let groups = text(task, "cgroup");
    let group = groups.as_deref().and_then(memory_group);
    if groups.as_deref().and_then(limit_of).is_none() {
        // Memory runs out for the whole machine alone, and then this is as good a process to kill as any.
        return Ok(());
    }
    let processes = openat(CWD, "/proc", DIRECTORY, Mode::empty())?;
    for entry in Dir::read_from(&processes)?.flatten() {
        let name = entry.file_name();
        if !name.to_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        // Whatever comes to have its number later, this is it.
        let Ok(process) = openat(&processes, name, DIRECTORY, Mode::empty()) else {
            continue;
        };
        if is_server(&process, user, &program, group) {
            let is_still = || is_server(&process, user, &program, group);
            match spare(&process, is_still) {
                // It has just ended; there may be others.
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => {}
                result => result?,
            }
        }
    }
    Ok(())
}

/// Looks again afterwards: a process can execute another program at any moment, and would take this along.
fn spare(process: &OwnedFd, is_still: impl FnOnce() -> bool) -> io::Result<()> {
    let write = |text: &str| {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let file = openat(process, "oom_score_adj", flags, Mode::empty())?;
        File::from(file).write_all(text.as_bytes())
    };
    write(LAST)?;
    match is_still() {
        true => Ok(()),
        false => write(AS_OTHERS),
    }
}

/// Whether it is a server. Such a process executes no other program, and the user can neither trace it nor write to its
/// memory: it is not dumpable, which shows in that its files belong to root, though it runs as the user. They would
/// belong to the user as well if it had been started in a user namespace of the user's, who could then trace it from
/// there.
fn is_server(process: &OwnedFd, user: u32, program: &Stat, group: Option<&str>) -> bool {
    // Not the directory: that belongs to whom the process runs as.
    let file = statat(process, "oom_score_adj", AtFlags::empty());
    let is_closed = file.is_ok_and(|data| data.st_uid == 0);
    is_closed
        && text(process, "comm").is_some_and(|name| name.trim_end().as_bytes() == SERVER.to_bytes())
        && text(process, "status").is_some_and(|status| runs_as(&status, user))
        && statat(process, "exe", AtFlags::empty())
            .is_ok_and(|exe| (exe.st_dev, exe.st_ino) == (program.st_dev, program.st_ino))
        && text(process, "cgroup").is_some_and(|groups| memory_group(&groups) == group)
}

/// By its real, effective, saved and file system's user.
fn runs_as(status: &str, user: u32) -> bool {
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    let is_user = |word: &str| word.parse() == Ok(user);
    line.is_some_and(|line| line.split_whitespace().all(is_user))
}

fn text(process: &OwnedFd, name: &str) -> Option<String> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = File::from(openat(process, name, flags, Mode::empty()).ok()?);
    let mut text = String::new();
    file.take(LONGEST).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_only_looks_like_a_server_is_none() {
        // A copy of sleep by that name: dumpable, or another program.
        let place = tempfile::tempdir().unwrap();
        let program = place.path().join(SERVER.to_str().unwrap());
        std::fs::copy("/bin/sleep", &program).unwrap();
        let mut child = std::process::Command::new(&program)
            .arg("60")
            .spawn()
            .unwrap();
        let path = format!("/proc/{}", child.id());
        let process = openat(CWD, path, DIRECTORY, Mode::empty()).unwrap();
        let own = text(&crate::sys::process::own_directory().unwrap(), "cgroup");
        let group = own.as_deref().and_then(memory_group);
        let user = crate::sys::rights::user();
        let data = statat(CWD, &program, AtFlags::empty()).unwrap();
        let other = statat(CWD, "/bin/sleep", AtFlags::empty()).unwrap();
        let is_roots = user == 0;
        // spawn(3) is back a moment before the child has its name.
        while text(&process, "comm").unwrap().trim_end().as_bytes() != SERVER.to_bytes() {
            std::thread::yield_now();
        }
        assert_eq!(is_server(&process, user, &data, group), is_roots);
        assert!(!is_server(&process, user, &other, group));
        assert!(!is_server(&process, user + 1, &data, group));
        assert!(!is_server(&process, user, &data, Some("/another")));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_user_who_is_another_in_part_is_another() {
        assert!(runs_as("Name:\tx\nUid:\t7\t7\t7\t7\n", 7));
        assert!(!runs_as("Uid:\t7\t0\t7\t7\n", 7));
        assert!(!runs_as("", 7));
    }
}
