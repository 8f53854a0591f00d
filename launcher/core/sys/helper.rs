//! Helpers: programs that this process starts, waits for with patience, and hears.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use super::clock::{Clock, SLICE};
use super::descriptors::{pass_on, pipe};
use super::process::handle_of;
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
/// a pipe, and `passed`, if there is something, open in it under its own number. It should call [`end_with`](super::process::end_with) at its start. Nothing is to be
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
        called(kept, || "fcntl(F_SETFD, FD_CLOEXEC)".into())?;
    }
    Ok(Helper {
        child: child.map_err(failed)?,
        report,
    })
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
        let report = self.report_while(patience, patience, |_| false)?;
        Ok(report.text)
    }

    /// The same, but each line goes to `see` first. One of which that says that it goes on is no part of the report, and
    /// the helper has `patience` again, up to `most` in all.
    ///
    /// # Errors
    /// ETIMEDOUT when it was killed, EMSGSIZE when it said too much; what had been reported is lost.
    pub fn report_while(
        mut self,
        patience: Duration,
        most: Duration,
        mut see: impl FnMut(&str) -> bool,
    ) -> Call<Report> {
        let mut clock = Clock::default();
        let last = clock.now() + most;
        let mut deadline = (clock.now() + patience).min(last);
        let mut pipe = File::from(self.report);
        let (mut text, mut seen) = (Vec::new(), 0);
        let mut buffer = [0; 4096];
        let result = loop {
            match wait_readable(pipe.as_fd(), deadline, &mut clock) {
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
                    if take_progress(&mut text, &mut seen, &mut see) {
                        deadline = (clock.now() + patience).min(last);
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
        let signal = wait_until(&mut self.child, deadline, &mut clock)
            .and_then(|status| std::os::unix::process::ExitStatusExt::signal(&status));
        let killed_by = signal.and_then(|number| Signal::try_from(number).ok());
        if killed_by.is_some() {
            // It was killed in the middle of a line, which nobody can read.
            text.truncate(seen);
        }
        result.map(|()| Report {
            text: String::from_utf8_lossy(&text).into_owned(),
            killed_by,
        })
    }
}

/// Waits until a helper has ended. One that has closed its report and goes on is killed; one that cannot even be killed,
/// in a file system that does not answer, is not waited for. How it ended, if that is known.
fn wait_until(
    child: &mut std::process::Child,
    deadline: Instant,
    clock: &mut Clock,
) -> Option<std::process::ExitStatus> {
    let number = i32::try_from(child.id()).unwrap_or(0);
    let handle = handle_of(nix::unistd::Pid::from_raw(number));
    let has_ended = |deadline: Instant, clock: &mut Clock| match &handle {
        Ok(handle) => matches!(wait_readable(handle.as_fd(), deadline, clock), Ok(true)),
        // A task whose SIGCHLD is ignored has no child to wait for; the report is what counts.
        Err(error) => error.errno() == Errno::ESRCH,
    };
    if !has_ended(deadline, clock) {
        let _ = child.kill();
        if !has_ended(clock.now() + LAST, clock) {
            return None;
        }
    }
    child.wait().ok()
}

/// Takes complete lines of which `see` wants it out of a report, from `seen` on; true if there was one.
fn take_progress(text: &mut Vec<u8>, seen: &mut usize, see: &mut impl FnMut(&str) -> bool) -> bool {
    let new = text.split_off((*seen).min(text.len()));
    let mut has_any = false;
    for line in new.split_inclusive(|byte| *byte == b'\n') {
        let is_progress = line
            .strip_suffix(b"\n")
            .is_some_and(|line| see(String::from_utf8_lossy(line).as_ref()));
        has_any |= is_progress;
        if !is_progress {
            text.extend_from_slice(line);
        }
        if line.ends_with(b"\n") {
            *seen = text.len();
        }
    }
    has_any
}

/// Reads what others write into a pipe until its other end is closed everywhere, or the time is over; no more than
/// `most` bytes. True if it came to its end.
pub fn read_for(pipe: OwnedFd, deadline: Instant, most: usize) -> (Vec<u8>, bool) {
    let mut file = File::from(pipe);
    let (mut text, mut buffer) = (Vec::new(), [0; 4096]);
    let mut clock = Clock::default();
    while let Ok(true) = wait_readable(file.as_fd(), deadline, &mut clock) {
        match file.read(&mut buffer) {
            Ok(0) => return (text, true),
            Ok(count) if text.len() < most => text.extend(buffer.iter().take(count)),
            Err(error) if error.kind() != std::io::ErrorKind::Interrupted => break,
            _ => {}
        }
    }
    (text, false)
}

fn wait_readable(file: BorrowedFd<'_>, deadline: Instant, clock: &mut Clock) -> Call<bool> {
    loop {
        let left = deadline.saturating_duration_since(clock.now());
        let slice = left.min(SLICE);
        let timeout = PollTimeout::try_from(slice).unwrap_or(PollTimeout::MAX);
        let began = Instant::now();
        let ready = poll(&mut [PollFd::new(file, PollFlags::POLLIN)], timeout);
        clock.slept(began, slice);
        match ready {
            Ok(0) if left.is_zero() => return Ok(false),
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(errno) => return Err(CallError::new("poll()", errno)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Helper {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        let input = super::super::memory_file_of(c"nothing", b"").unwrap();
        start_helper(command, input, None).unwrap()
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_report_is_what_was_said_without_the_lines_that_were_taken_from_it() {
        let helper =
            shell("printf 'one\\n+a'; sleep 0.1; printf 'b\\n+c\\ntwo'; sleep 0.1; printf '+\\n'");
        let mut taken = Vec::new();
        let report = helper.report_while(LONG, LONG, |line| {
            let is_progress = line.starts_with('+');
            if is_progress {
                taken.push(line.to_owned());
            }
            is_progress
        });
        let report = report.unwrap();
        assert_eq!(taken, ["+ab", "+c"]);
        assert_eq!(
            (report.text.as_str(), report.killed_by),
            ("one\ntwo+\n", None)
        );
    }

    #[test]
    fn a_line_that_its_speaker_did_not_live_to_end_is_no_part_of_the_report() {
        let report = |script: &str| shell(script).report_while(LONG, LONG, |_| false).unwrap();
        let killed = report("printf 'one\\ntw'; kill -TERM $$");
        assert_eq!(killed.text, "one\n");
        assert_eq!(killed.killed_by, Some(Signal::SIGTERM));
        assert_eq!(report("printf 'one\\ntw'").text, "one\ntw");
    }

    #[test]
    fn whoever_says_that_it_goes_on_has_time_again_and_no_more_than_there_is() {
        let hears = |patience: u64, most: u64| {
            let (patience, most) = (Duration::from_millis(patience), Duration::from_millis(most));
            let beats = "for i in 1 2 3 4 5 6 7 8 9 10; do echo +; sleep 0.2; done; echo end";
            shell(beats).report_while(patience, most, |line| line == "+")
        };
        assert_eq!(hears(1500, 60_000).unwrap().text, "end\n");
        assert_eq!(hears(1500, 500).unwrap_err().errno(), Errno::ETIMEDOUT);
        let silent = shell("sleep 60").report(Duration::from_millis(100));
        assert_eq!(silent.unwrap_err().errno(), Errno::ETIMEDOUT);
    }

    #[test]
    fn who_is_stopped_with_its_helper_has_as_much_patience_as_before_when_both_go_on() {
        use std::os::unix::process::CommandExt;
        const NAME: &str = "CHARIOT_TEST_IS_STOPPED";
        if std::env::var_os(NAME).is_some() {
            let report = shell("sleep 1; echo end").report(Duration::from_secs(6));
            assert_eq!(report.unwrap(), "end\n");
            return;
        }
        // This test once more, in a group of its own that is stopped as a suspended job is.
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "sys::helper::tests::who_is_stopped_with_its_helper_has_as_much_patience_as_before_when_both_go_on"]);
        let mut child = command.env(NAME, "yes").process_group(0).spawn().unwrap();
        let group = nix::unistd::Pid::from_raw(child.id().cast_signed());
        std::thread::sleep(Duration::from_millis(500));
        nix::sys::signal::killpg(group, Signal::SIGSTOP).unwrap();
        std::thread::sleep(Duration::from_secs(8));
        nix::sys::signal::killpg(group, Signal::SIGCONT).unwrap();
        assert!(child.wait().unwrap().success());
    }

    #[test]
    fn whoever_says_too_much_is_not_heard_out() {
        let endless = shell(
            "while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done",
        );
        assert_eq!(endless.report(LONG).unwrap_err().errno(), Errno::EMSGSIZE);
    }
}
