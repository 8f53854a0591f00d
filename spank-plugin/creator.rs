//! Executing the launcher: as the creator of the step's container, or to open its image. What goes in is a [`Request`],
//! what comes out is a report in lines, which are passed on to the user.

use chariot_core::sys::helper;
use std::ffi::OsString;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use chariot_core::config::TaskProlog;
use chariot_core::error::{Error, Explain};
use chariot_core::handover::{self, Request, Said};
use chariot_core::options::Given;
use chariot_core::options::given;
use chariot_core::sys::helper::{Helper, Report};
use chariot_core::sys::sharing::{MeetingPlace, Readiness};
use chariot_core::sys::signals::{self, Signal};
use chariot_core::sys::{self, process};

use crate::spank::{self, BATCH_STEP, NAME, Slurm};
use crate::state::State;
use crate::{gpus, multi_prog};

/// What to do when a wait was too short.
pub(crate) const SLOW: &str = "is the image's file system slow or stuck? the site configuration file \
 has longer waits: \
                    waits.container and waits.fetch";

/// Executes the launcher, which makes the container and sends its namespaces.
pub(crate) fn make(
    slurm: &Slurm<'_>,
    state: &State,
    meeting: &MeetingPlace,
    givens: &[Given],
) -> Result<Readiness, Error> {
    let mut request = request(slurm, state, givens);
    if state.config.gpu_kind.is_some() {
        gpus::put_together(slurm, meeting, &mut request.environment);
    }
    let helper = start(
        &state.paths.launcher,
        "step",
        &request,
        Some(meeting.sender()),
        |_| {},
    )
    .map_err(|error| {
        error
            .within("can't create a container")
            .hint("the administrator has to install `chariot` on this node")
    })?;
    let start = Instant::now();
    let most = state
        .config
        .wait_container
        .saturating_add(state.config.wait_fetch);
    let report = helper.report_while(state.config.wait_container, most, |line| {
        let Some(Said::GoesOn(progress)) = handover::read_line(line) else {
            return false;
        };
        meeting.beat();
        if let Some(progress) = progress {
            spank::say(&format!("{NAME}: {progress}"));
        }
        true
    });
    let report = report.map_err(|error| {
        let seconds = start.elapsed().as_secs();
        Error::new(format!(
            "can't create a container within {seconds} s: {error}"
        ))
        .hint(SLOW)
    })?;
    relay(&report.text).map_or_else(|| silent(&report), Ok)
}

/// Executes the launcher, which sends what it makes into `socket`, if there is one. `adjust` has the last word on how.
pub(crate) fn start(
    launcher: &Path,
    subcommand: &str,
    request: &Request,
    socket: Option<BorrowedFd<'_>>,
    adjust: impl FnOnce(&mut Command),
) -> Result<Helper, Error> {
    let what = || format!("can't run {}", launcher.display());
    let input = sys::memory_file_of(c"request", &handover::seal(request)).explain(what)?;
    let mut command = Command::new(launcher);
    command.arg(subcommand);
    if let Some(socket) = socket {
        command.args(["--socket", &socket.as_raw_fd().to_string()]);
    }
    command.args(["--parent", &std::process::id().to_string()]);
    adjust(&mut command);
    helper::start_helper(command, input, socket).explain(what)
}

fn request(slurm: &Slurm<'_>, state: &State, givens: &[Given]) -> Request {
    let is_batch = slurm.step() == Some(BATCH_STEP);
    let mut command = slurm.command();
    let script = command.first().filter(|_| is_batch).map(PathBuf::from);
    let is_path = |word: &OsString| word.as_bytes().contains(&b'/');
    if !is_batch && multi_prog::is_set(slurm) {
        // Each task has another command, and Slurm says what is wrong with it.
        command.clear();
    } else if state.task_prolog == TaskProlog::Host && !command.first().is_some_and(is_path) {
        // The prolog that runs before the task looks for its command may yet change PATH.
        command.clear();
    }
    let node = slurm.variable("SLURMD_NODENAME").unwrap_or_default();
    let scratch = state.scratch.as_ref().map(|scratch| {
        // As slurm.conf(5) has it for TmpFS; where several slurmd share a machine, %h is the node too.
        let node = node.to_string_lossy();
        PathBuf::from(scratch.replace("%n", &node).replace("%h", &node))
    });
    Request {
        options: given::encode(givens),
        config: state.paths.config.clone(),
        script,
        scratch,
        slurm: commands_of_slurm(),
        mounted: state.mounted.clone(),
        command,
        environment: slurm.environment(),
    }
}

/// Where this Slurm has its commands: beside the directory of slurmstepd, which this process is.
fn commands_of_slurm() -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?;
    let prefix = own.parent()?.parent()?;
    Some(prefix.join("bin"))
}

/// Passes the launcher's lines on to the user. None if it did not come to the one that ends them.
fn relay(report: &str) -> Option<Readiness> {
    for line in report.lines() {
        match handover::read_line(line) {
            Some(Said::Failed(told)) => {
                let error = Error::from(told);
                spank::tell(&error);
                return Some(Readiness::Failed(error.exit_code()));
            }
            Some(Said::Warning(told)) => {
                spank::say(&format!("{NAME}: warning: {}", told.sentence));
                if let Some(hint) = told.hint {
                    spank::say(&format!("{NAME}: hint: {hint}"));
                }
            }
            Some(Said::Message(text)) => spank::say(&format!("{NAME}: {text}")),
            Some(Said::Log(text)) => spank::log(&format!("{NAME}: {text}")),
            Some(Said::Ready) => return Some(Readiness::Ready),
            // Said too late to be of use.
            Some(Said::GoesOn(_) | Said::Image(_) | Said::Pinned(_)) => {}
            // Not one of ours: the dynamic loader's last words, for one.
            None => spank::error(&format!("{NAME}: {line}")),
        }
    }
    None
}

/// The launcher has ended without saying why, or not in the words of this version.
fn silent(report: &Report) -> Result<Readiness, Error> {
    let what = "the process that creates the container";
    match report.killed_by {
        // Slurm and terminals send it to every process of a step. Where there is no container, the task ends by it, and
        // nothing more is said.
        Some(signal) if signals::asks_to_end(signal) => {
            signals::suffer(signal);
            Ok(Readiness::Failed(
                128 | u8::try_from(signal as i32).unwrap_or(0),
            ))
        }
        Some(signal) if signal != Signal::SIGKILL => {
            Err(Error::new(format!("{what} was killed by {signal}")))
        }
        None if handover::is_foreign(&report.text) => {
            let error = "the launcher's words are not understood";
            Err(Error::new(error).hint(handover::SAME_VERSION))
        }
        _ => {
            process::await_own_end();
            Err(
                Error::new(format!("{what} exited without reporting an error"))
                    .hint("was it killed? the job's memory limit applies to it too"),
            )
        }
    }
}
