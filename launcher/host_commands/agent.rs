//! Outside: one process for each container, which runs the host's commands for those who call them inside. It is the
//! user, and could be replaced by the user; what it guards against is others, and calls that were not meant for it.
//!
//! It is in the user namespace that the container was asked for in, so that nobody inside reaches it but by its socket,
//! root or not; and not dumpable. It sees the host's files and may gain privileges by what it executes, both as its user
//! may: the commands are the host's files, and salloc starts a shell in which sudo and the like should do what they do
//! in any other.

use chariot_core::sys::rights;
use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::Signal;

use super::call::{Call, Outcome, decode_signal};
use super::command::{self, Outside};
use crate::enter::Entered;
use crate::plan::Plan;
use crate::plan::host_commands::HostCommands;
use chariot_core::environment::Edit;
use chariot_core::error::{Error, Exit, Explain, Result};
use chariot_core::handover::{self, Record, Told};
use chariot_core::sys::fork::{self, Change, Forked};
use chariot_core::sys::signals::{self, Signals};
use chariot_core::sys::{self, detached, message, process, sharing};

/// Of more callers than this the later ones wait; of fewer, where there are not that many descriptors.
const MOST_CALLERS: usize = 256;

/// So many descriptors are kept for the agent itself, and for what comes with a call; and a few callers for a pipeline.
const KEPT: u64 = 32;
const FEWEST_CALLERS: u64 = 4;

/// How long nobody is accepted when there was no descriptor for one.
const PAUSE: Duration = Duration::from_millis(100);

/// A longer call than this is none that execve(2) could take, in bytes: six MiB of words and variables, of which each byte
/// can take six in JSON.
const LONGEST_CALL: u64 = 64 << 20;

const CANT_START: &str = "can't start the agent that runs the host's commands";

/// An agent that waits for its container.
#[derive(Debug)]
pub struct Agent {
    go: OwnedFd,
}

impl Agent {
    /// Starts the agent of a step, if the container has commands of the host. To be called before there is a container:
    /// from inside, nobody could start it. `life` can be read when the step has ended.
    ///
    /// # Errors
    /// No process to be had.
    pub fn of_step(plan: &Plan, life: OwnedFd) -> Result<Option<Agent>> {
        match &plan.host_commands {
            // The maker of the container ends when that is there.
            Some(commands) => Agent::start(commands, plan, life, detached::start_beside).map(Some),
            None => Ok(None),
        }
    }

    /// The same for this process, which becomes the command, and to which a child would be a surprise.
    ///
    /// # Errors
    /// No process to be had.
    pub fn of_command(plan: &Plan) -> Result<Option<Agent>> {
        let Some(commands) = &plan.host_commands else {
            return Ok(None);
        };
        let life = process::handle_of_self().explain(|| CANT_START.into())?;
        Agent::start(commands, plan, life, detached::start).map(Some)
    }

    fn start(
        commands: &HostCommands,
        plan: &Plan,
        life: OwnedFd,
        start: impl FnOnce(&CStr, Vec<RawFd>, Box<dyn FnOnce() -> u8>) -> sys::Call<()>,
    ) -> Result<Agent> {
        let what = || CANT_START.to_owned();
        let (go, ready) = sharing::pair().explain(what)?;
        let keep = vec![life.as_raw_fd(), ready.as_raw_fd()];
        let names = commands.names.clone();
        let before = plan.before.clone();
        let slurm = commands.slurm.clone();
        let caller = plan.workdir.caller.as_ref();
        let directory = caller.map_or_else(|| PathBuf::from("/"), |known| known.path.clone());
        let file = plan.image.path.display().to_string();
        let work = move || {
            detached::set_title("chariot-agent", &file);
            let Ok([listener, record]) = sharing::receive_from(ready.as_fd()) else {
                return 0;
            };
            let Ok(edits) = edits(record) else { return 1 };
            let surroundings = Outside {
                names,
                before,
                edits,
                directory,
                slurm,
            };
            Office::open(listener, life, surroundings).map_or(1, Office::serve)
        };
        start(c"chariot-agent", keep, Box::new(work)).explain(what)?;
        Ok(Agent { go })
    }

    /// Tells the agent, if there is one, that the container is there: by which socket it is called, and what was done to
    /// variables there.
    ///
    /// # Errors
    /// The agent is gone.
    pub fn begin(agent: Option<Agent>, entered: &Entered) -> Result<()> {
        let (Some(agent), Some(listener)) = (agent, &entered.listener) else {
            return Ok(());
        };
        let what = || "can't tell the agent that runs the host's commands".to_owned();
        let record = Record {
            edits: entered.environment.clone(),
            workdir: PathBuf::from("/"),
            ..Record::default()
        };
        let file = sys::memory_file_of(c"edits", &handover::seal(&record)).explain(what)?;
        sharing::send(agent.go.as_fd(), &[listener.as_fd(), file.as_fd()]).explain(what)
    }
}

fn edits(record: OwnedFd) -> Result<Vec<Edit>> {
    Record::read(&File::from(record)).map(|record| record.edits)
}

/// Somebody who calls, and what runs for them.
struct Caller {
    /// None if the caller is gone and the command not yet.
    connection: Option<OwnedFd>,
    command: Option<Forked>,
}

/// The agent at work.
struct Office {
    listener: OwnedFd,
    life: OwnedFd,
    children: Signals,
    surroundings: Outside,
    callers: Vec<Caller>,
    /// Whether there was no descriptor for the last who came.
    is_full: bool,
}

impl Office {
    fn open(listener: OwnedFd, life: OwnedFd, surroundings: Outside) -> Result<Office> {
        // Each caller has some here. What it starts gets the caller's own limits.
        fork::raise_limit_of_files();
        let children =
            Signals::take_over(&[Signal::SIGCHLD]).explain(|| "can't wait for commands".into())?;
        Ok(Office {
            listener,
            life,
            children,
            surroundings,
            callers: Vec::new(),
            is_full: false,
        })
    }

    /// Works until the container's time is over.
    fn serve(mut self) -> u8 {
        loop {
            let waiting: Vec<usize> = (0..self.callers.len())
                .filter(|index| self.callers[*index].connection.is_some())
                .collect();
            let Ok(ready) = self.wait(&waiting) else {
                return 1;
            };
            if ready.first() == Some(&true) {
                self.end();
                return 0;
            }
            while self.children.next().is_some() {}
            for (place, index) in waiting.iter().enumerate() {
                if ready.get(place + 2) == Some(&true) {
                    self.hear(*index);
                }
            }
            self.callers.iter_mut().for_each(Caller::look);
            self.callers
                .retain(|caller| caller.connection.is_some() || caller.command.is_some());
            let is_asked = ready.len() > waiting.len() + 2 && ready.last() == Some(&true);
            self.is_full = false;
            if is_asked {
                self.accept();
            }
        }
    }

    /// Waits for the end, for a child's, for callers, and for new ones; which, in this order.
    fn wait(&self, waiting: &[usize]) -> sys::Call<Vec<bool>> {
        let mut files = vec![self.life.as_fd(), self.children.as_fd()];
        let connections = waiting
            .iter()
            .filter_map(|index| self.callers[*index].connection.as_ref());
        files.extend(connections.map(AsFd::as_fd));
        if self.callers.len() < most_callers() && !self.is_full {
            files.push(self.listener.as_fd());
        }
        signals::wait_for(&files, self.is_full.then_some(PAUSE))
    }

    fn accept(&mut self) {
        let (connection, user) = match message::accept(self.listener.as_fd()) {
            Ok(Some(caller)) => caller,
            Ok(None) => return,
            // For want of descriptors, of which there may be some when somebody has gone. Who waits is still to be heard
            // of, and would be at once, over and over.
            Err(_) => {
                self.is_full = true;
                return;
            }
        };
        if user == rights::user() {
            self.callers.push(Caller {
                connection: Some(connection),
                command: None,
            });
        }
    }

    /// Takes what a caller says: the call, then signals.
    fn hear(&mut self, index: usize) {
        let Some(caller) = self.callers.get_mut(index) else {
            return;
        };
        let Some(connection) = &caller.connection else {
            return;
        };
        let heard = message::receive_now(connection.as_fd());
        let (bytes, files) = match heard {
            Err(error) if error.errno() == Errno::EMFILE && caller.command.is_none() => {
                let error = Err(error).explain(|| "can't read what was called".into());
                return error.unwrap_or_else(|error| caller.refuse(&error));
            }
            heard => heard.unwrap_or_default(),
        };
        if bytes.is_empty() {
            return caller.leave();
        }
        if let Some(command) = &caller.command {
            if let Some(signal) = decode_signal(&bytes) {
                // A command that has just ended hears nothing.
                let _ = command.signal(signal);
            }
            return;
        }
        match take_call(files)
            .and_then(|(call, files)| command::start(&call, files, &self.surroundings))
        {
            Ok(command) => caller.command = Some(command),
            Err(error) => caller.refuse(&error),
        }
    }

    /// The container's time is over: nothing that it started outside stays, and who waits for it inside ends alike.
    fn end(&self) {
        for caller in &self.callers {
            if let Some(command) = &caller.command {
                let _ = command.signal(Signal::SIGKILL);
            }
            caller.tell(Outcome::Killed(Signal::SIGKILL as i32));
        }
    }
}

/// How many callers there is room for.
fn most_callers() -> usize {
    let room = fork::most_files().saturating_sub(KEPT);
    usize::try_from(room.max(FEWEST_CALLERS)).map_or(MOST_CALLERS, |room| room.min(MOST_CALLERS))
}

impl Caller {
    /// The caller is gone, killed by something that could not be passed on.
    fn leave(&mut self) {
        self.connection = None;
        if let Some(command) = &self.command {
            let _ = command.signal(Signal::SIGKILL);
        }
    }

    /// Tells the caller why nothing runs for them.
    fn refuse(&mut self, error: &Error) {
        self.tell(Outcome::Refused(Told::from(error)));
        self.connection = None;
    }

    /// Looks after the command, and tells its caller what became of it.
    fn look(&mut self) {
        let Some(command) = &self.command else { return };
        let outcome = match command.change() {
            Ok(Change::None) => return,
            Ok(Change::Stopped) => return self.tell(Outcome::Stopped),
            Ok(Change::Exited(code)) => Outcome::Exited(code),
            Ok(Change::Killed(signal)) => Outcome::Killed(signal as i32),
            Err(error) => Outcome::Refused(Told {
                sentence: error.to_string(),
                hint: None,
                code: Exit::Container.code(),
            }),
        };
        self.tell(outcome);
        self.command = None;
        self.connection = None;
    }

    fn tell(&self, outcome: Outcome) {
        if let Some(connection) = &self.connection {
            // A caller that is gone need not be told.
            let _ = message::send(connection.as_fd(), &outcome.encode(), &[]);
        }
    }
}

/// The call, the caller's directory and the descriptors to pass on.
fn take_call(files: Vec<OwnedFd>) -> Result<(Call, Vec<OwnedFd>)> {
    let what = "can't read what was called";
    let mut files = files.into_iter();
    let request = files.next().map(File::from);
    let request = request.ok_or_else(|| Error::new(format!("{what}: nothing came")))?;
    let size = request.metadata().explain(|| what.into())?.len();
    if size > LONGEST_CALL {
        return Err(Error::new(format!("{what}: it has {size} bytes")));
    }
    let bytes = handover::read(&request).explain(|| what.into())?;
    let call = handover::open(&bytes).map_err(|error| error.within(what))?;
    Ok((call, files.collect()))
}
