//! In the container: a command's name is called, the agent outside runs it, and this process does as the command does. It
//! hands over what it was started with and then passes signals on; input and output never go through it.

use chariot_core::handover::{self, Told};
use chariot_core::sys::descriptors;
use std::env;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::Signal;
use rustix::fs::OFlags;

use super::call::{Call, Outcome, encode_signal};
use crate::plan::host_commands::{PROGRAM, SOCKET};
use crate::print;
use chariot_core::error::{Error, Explain, Result};
use chariot_core::sys::signals::{self, Signals};
use chariot_core::sys::{self, fork, message, process};

/// Signals that are passed on. SIGKILL cannot be: the agent sees that this process is gone.
const PASSED_ON: [Signal; 15] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGVTALRM,
    Signal::SIGCONT,
    Signal::SIGTSTP,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
    Signal::SIGURG,
    Signal::SIGWINCH,
    Signal::SIGXCPU,
];

/// How often a command in the background looks whether it has come to the foreground.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// How long a call waits for others to be taken, and how often that is looked for before it is told.
const TURN: Duration = Duration::from_millis(100);
const TURNS: u32 = 300;

/// Descriptors with higher numbers stay behind; nobody names them on a command line.
const HIGHEST: RawFd = 255;

/// The directory of the container in which this process was called by the name of a command, if it was.
fn called_in() -> Option<PathBuf> {
    let name = env::args_os().next().map(PathBuf::from)?;
    if name.file_name().is_none_or(|name| name == PROGRAM) {
        return None;
    }
    let directory = env::current_exe().ok()?.parent()?.to_owned();
    let is_socket = directory
        .join(SOCKET)
        .symlink_metadata()
        .is_ok_and(|data| std::os::unix::fs::FileTypeExt::is_socket(&data.file_type()));
    is_socket.then_some(directory)
}

/// Whether this process stands for a command of the host.
pub fn is_called() -> bool {
    called_in().is_some()
}

/// Has the command run, and ends as it ends.
pub fn main() -> ExitCode {
    let directory = called_in().unwrap_or_default();
    let outcome = call(&directory).unwrap_or_else(|error| Outcome::Refused(Told::from(&error)));
    match outcome {
        Outcome::Stopped => ExitCode::FAILURE,
        Outcome::Exited(code) => ExitCode::from(code),
        Outcome::Killed(number) => {
            if let Ok(signal) = Signal::try_from(number) {
                signals::suffer(signal);
            }
            ExitCode::from(u8::try_from(128 + number).unwrap_or(u8::MAX))
        }
        Outcome::Refused(told) => {
            let error = Error::from(told);
            print::failure("chariot", &error.to_string(), error.advice());
            ExitCode::from(error.exit_code())
        }
    }
}

fn call(directory: &Path) -> Result<Outcome> {
    // As it was when this process started; what is opened below is nobody else's.
    let descriptors = inherited();
    let (ignored, passed_on): (Vec<_>, Vec<_>) = PASSED_ON
        .into_iter()
        .partition(|signal| signals::is_ignored(*signal));
    let call = Call {
        words: words(),
        directory: env::current_dir().unwrap_or_else(|_| PathBuf::from("/")),
        environment: env::vars_os().collect(),
        umask: fork::umask(),
        limits: fork::limits(),
        ignored: ignored.iter().map(|signal| *signal as i32).collect(),
        descriptors,
    };
    let name = call.words.first().cloned().unwrap_or_default();
    let what = || format!("can't run {} on the host", name.to_string_lossy());
    let signals = Signals::take_over(&passed_on).explain(what)?;
    let connect = || {
        message::connect(&directory.join(SOCKET))
            .explain(what)
            .map_err(|error| error.hint(NO_AGENT))
            .inspect_err(|_| process::await_own_end())
    };
    let mut connection = connect()?;
    let later = Later::prepare().explain(what)?;
    let mut turns = TURNS;
    loop {
        match hand_over(&call, later.as_ref(), &connection) {
            // More descriptors than a user may have under way. Others' are taken first, and need the agent's time.
            Err(error) if error.errno() == Errno::ETOOMANYREFS && turns > 0 => {
                turns -= 1;
                drop(connection);
                std::thread::sleep(TURN);
                connection = connect()?;
            }
            done => break done.explain(what)?,
        }
    }
    follow(&connection, &signals, later, &what)
}

/// Input of a command that is started in the background of a terminal. Outside the container the kernel would let it
/// take from the terminal what is typed for the shell; so it gets a pipe, which is filled while this process is in the
/// foreground.
struct Later {
    input: OwnedFd,
    pipe: File,
}

impl Later {
    fn prepare() -> sys::Call<Option<Later>> {
        if !signals::is_in_background() {
            return Ok(None);
        }
        let (input, pipe) = descriptors::pipe()?;
        let pipe = File::from(pipe);
        Ok(Some(Later { input, pipe }))
    }

    /// Passes on what was typed; false if there is nothing more to pass on, or nobody who wants it.
    fn pass_on(&mut self) -> bool {
        let mut typed = [0; 4096];
        let count = std::io::stdin().read(&mut typed).unwrap_or(0);
        count > 0 && self.pipe.write_all(&typed[..count]).is_ok()
    }
}

const NO_AGENT: &str = "the process of this step that runs the host's commands on this node is gone: \
 was it killed? the job's memory limit applies to it too";

/// The words of this process, the first one without its directory.
fn words() -> Vec<std::ffi::OsString> {
    let mut words: Vec<_> = env::args_os().collect();
    if let Some(first) = words.first_mut()
        && let Some(name) = Path::new(&*first).file_name()
    {
        *first = name.to_owned();
    }
    words
}

/// The numbers of the descriptors that this process was started with.
fn inherited() -> Vec<RawFd> {
    let entries = std::fs::read_dir("/proc/self/fd").into_iter().flatten();
    let numbers = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut numbers: Vec<RawFd> = numbers.filter(|number| *number <= HIGHEST).collect();
    // The one that lists them is closed by now, and others of ours are not open yet.
    numbers.retain(|number| descriptors::is_open_for_children(*number));
    numbers.sort_unstable();
    numbers.truncate(message::MOST_FILES - 2);
    numbers
}

/// Sends the call, and with it the caller's directory and all descriptors.
fn hand_over(call: &Call, later: Option<&Later>, connection: &OwnedFd) -> sys::Call<()> {
    let file = sys::memory_file_of(c"call", &handover::seal(call))?;
    let directory = sys::open(Path::new("."), OFlags::PATH | OFlags::DIRECTORY)
        .or_else(|_| sys::open(Path::new("/"), OFlags::PATH | OFlags::DIRECTORY))?;
    let passed: Vec<OwnedFd> = call
        .descriptors
        .iter()
        .map(|number| match later {
            Some(later) if *number == 0 => descriptors::copy_of(later.input.as_raw_fd()),
            _ => descriptors::copy_of(*number),
        })
        .collect::<sys::Call<_>>()?;
    let mut files = vec![file.as_fd(), directory.as_fd()];
    files.extend(passed.iter().map(AsFd::as_fd));
    message::send_now(connection.as_fd(), b"c", &files)
}

/// Passes signals on, and stops and ends as the command does.
fn follow(
    connection: &OwnedFd,
    signals: &Signals,
    mut later: Option<Later>,
    what: &dyn Fn() -> String,
) -> Result<Outcome> {
    let stdin = std::io::stdin();
    let mut asked = None;
    loop {
        let mut files = vec![connection.as_fd(), signals.as_fd()];
        let is_for_us = later.is_some() && !signals::is_in_background();
        if is_for_us {
            files.push(stdin.as_fd());
        }
        // A shell that brings a job to the foreground does not say so, if it was not stopped.
        let look_again = (later.is_some() && !is_for_us).then_some(LOOK_AGAIN);
        let ready = signals::wait_for(&files, look_again).explain(what)?;
        if ready.get(2) == Some(&true) {
            later = later.and_then(|mut later| later.pass_on().then_some(later));
        }
        while let Some(signal) = signals.next() {
            asked = Some(signal)
                .filter(|signal| signals::asks_to_end(*signal))
                .or(asked);
            // If nobody is there, the next look at the connection says so.
            let _ = message::send(connection.as_fd(), &encode_signal(signal), &[]);
        }
        if ready.first() != Some(&true) {
            continue;
        }
        // ECONNRESET, or no bytes: an agent that has gone.
        let heard = message::receive(connection.as_fd());
        match heard.ok().and_then(|(bytes, _)| Outcome::decode(&bytes)) {
            // On the host the terminal or the sender of the signal had stopped the command itself.
            Some(Outcome::Stopped) => signals::suffer(Signal::SIGSTOP),
            Some(outcome) => return Ok(outcome),
            None => {
                // Who ends a step ends its agent and this process.
                process::await_own_end();
                let news = std::iter::from_fn(|| signals.next());
                let asked = news
                    .filter(|signal| signals::asks_to_end(*signal))
                    .last()
                    .or(asked);
                let gone = || Error::new(format!("{} any further: its agent is gone", what()));
                return match asked {
                    Some(signal) => Ok(Outcome::Killed(signal as i32)),
                    None => Err(gone().hint(NO_AGENT)),
                };
            }
        }
    }
}
