//! In slurmstepd: the tasks of a step on this node meet, the first makes the container, all join.
//!
//! As root, nothing happens here but remembering and making the meeting place. What the user named
//! is looked at in [`enter`], by a process that is only the user, and mostly by another program: the
//! launcher, freshly executed.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use chariot::config::{Config, TaskProlog};
use chariot::enter;
use chariot::error::{Error, Exit, Explain};
use chariot::handover::{self, Record, Request};
use chariot::options::given::{self, CARRIER};
use chariot::options::table::OptionRow;
use chariot::options::{Batch, Dialect, Given, Options, Source};
use chariot::sys::namespaces::Namespaces;
use chariot::sys::process::Helper;
use chariot::sys::sharing::{MeetingPlace, State as Progress};
use chariot::sys::{self, process};

use crate::prolog;
use crate::spank::{self, NAME, Slurm};
use crate::state::{self, Paths, State};
use crate::submit::MULTI_PROG;

/// Numbers of special steps, slurm.h.
const EXTERN_STEP: u32 = 0xffff_fffc;
const BATCH_STEP: u32 = 0xffff_fffb;
const INTERACTIVE_STEP: u32 = 0xffff_fffa;

/// What a task could not do.
pub(crate) const CANT_JOIN: &str = "can't join the container";

/// What to do when a wait was too short.
const SLOW: &str = "is the image's file system slow or stuck? the site's file has a longer wait: \
                    waits.container";

/// How much longer than the maker of the container the others wait, so that it is the one to say
/// what happened.
const GRACE: Duration = Duration::from_secs(5);

/// Reads the plugin's arguments; what is wrong with them is told to jobs that want a container.
pub(crate) fn init(slurm: &Slurm<'_>) -> Result<(), Error> {
    state::with(|state| match Paths::read(&slurm.arguments()) {
        Ok(paths) => state.paths = paths,
        Err(error) => state.problem = Some(error),
    });
    Ok(())
}

/// Remembers that something went wrong here that was told to the log alone.
pub(crate) fn fail_later() {
    state::with(|state| {
        state.problem.get_or_insert_with(|| {
            Error::new("Chariot's plugin could not start on this node")
                .hint("the administrator finds the reason in slurmd's log")
        });
    });
}

/// Remembers a use of an option that Slurm itself carried here. Older releases say it twice.
pub(crate) fn option(row: &'static OptionRow, value: Option<&str>) {
    state::with(|state| state.raw.push((row, value.map(str::to_owned))));
}

/// As root, before the tasks are forked: makes their meeting place if a container may be wanted.
pub(crate) fn options_complete(slurm: &Slurm<'_>) {
    if slurm.step() == Some(EXTERN_STEP) {
        return;
    }
    state::with(|state| {
        let named = slurm.variable(CARRIER).is_some()
            || slurm.variable("CH_IMAGE").is_some()
            || !state.raw.is_empty();
        // The site's file is root's own. If it is broken, only who named an image hears of it.
        let config = Config::load(&state.paths.config).unwrap_or_default();
        let by_default = config
            .defaults
            .iter()
            .any(|given| given.row.name == "image");
        state.patience = config.wait_container;
        state.task_prolog = prolog::place(&config, slurm.release());
        state.givens = config.defaults;
        if !(named || by_default) {
            return;
        }
        state.scratch = spank::scratch();
        if !config.kernel_mount.is_empty() {
            state.kernel_mount = config.kernel_mount;
            // Without it, images are served.
            state.trusted = MeetingPlace::new().ok();
        }
        match MeetingPlace::new().explain(|| "can't prepare the tasks' meeting place".into()) {
            Ok(meeting) => state.meeting = Some(meeting),
            Err(error) => state.problem = Some(error),
        }
    });
}

/// As the user, in the task: joins the container, or ends the task.
pub(crate) fn enter(slurm: &Slurm<'_>) {
    state::with(|state| {
        if state.meeting.is_none() && state.problem.is_none() {
            return;
        }
        if let Err(error) = enter_or_fail(slurm, state) {
            spank::tell(&error);
            process::end(error.exit_code());
        }
    });
}

fn enter_or_fail(slurm: &Slurm<'_>, state: &State) -> Result<(), Error> {
    let givens = givens(slurm, state)?;
    let all: Vec<Given> = state.givens.iter().chain(&givens).cloned().collect();
    let options = Options::resolve(all, Dialect::Slurm)?;
    if options.image.is_none() || stays_on_host(slurm, &options) {
        return Ok(());
    }
    if let Some(problem) = &state.problem {
        return Err(problem.clone());
    }
    let Some(meeting) = &state.meeting else {
        return Err(Error::new("the tasks have no meeting place"));
    };
    if let Progress::Failed(code) = meet(slurm, state, meeting, &givens)? {
        // Whoever tried has said why.
        process::end(code);
    }
    let (namespaces, record) = meeting.look().explain(|| CANT_JOIN.into())?;
    let record = File::from(record);
    match state.task_prolog {
        TaskProlog::Container => join(slurm, &namespaces, &record),
        TaskProlog::Host => {
            let launcher = &state.paths.launcher;
            prolog::join_at_exec(slurm, launcher, namespaces, record)
        }
    }
}

/// Joins now: from here on the task is in the container.
fn join(slurm: &Slurm<'_>, namespaces: &Namespaces, record: &File) -> Result<(), Error> {
    let record = read_record(record)?;
    enter::join(namespaces, &record.workdir)?;
    record
        .edits
        .iter()
        .try_for_each(|edit| slurm.edit(&edit.name, edit.value.as_deref()))
}

/// The script of a batch job, or salloc's shell, that was to stay outside.
fn stays_on_host(slurm: &Slurm<'_>, options: &Options) -> bool {
    let is_script = matches!(slurm.step(), Some(BATCH_STEP | INTERACTIVE_STEP));
    is_script && options.batch == Batch::Host
}

/// All uses of options: those that the submitting plugin sent along, else, where there was none, those
/// that Slurm carried and the `CH_*` variables.
fn givens(slurm: &Slurm<'_>, state: &State) -> Result<Vec<Given>, Error> {
    if let Some(text) = slurm.variable(CARRIER) {
        return given::decode(&text.to_string_lossy());
    }
    let root = PathBuf::from("/");
    let mut givens = given::from_variables(|name| slurm.variable(name), &root, Dialect::Slurm)?;
    for (row, value) in &state.raw {
        let value = value
            .as_deref()
            .filter(|value| !matches!(*value, "" | "(null)"));
        givens.push(Given::new(
            row,
            value,
            Source::Typed,
            &root,
            Dialect::Slurm,
        )?);
    }
    Ok(givens)
}

/// Waits for the container, or makes it. One task at a time holds the lock; if it dies, the next one
/// that waits takes over.
fn meet(
    slurm: &Slurm<'_>,
    state: &State,
    meeting: &MeetingPlace,
    givens: &[Given],
) -> Result<Progress, Error> {
    if meeting.state() != Progress::Missing {
        return Ok(meeting.state());
    }
    let patience = state.patience + GRACE;
    let _held = meeting.lock(patience).map_err(|_| {
        Error::new(format!(
            "waited {} seconds for another task on this node to make the container",
            patience.as_secs()
        ))
        .hint(SLOW)
    })?;
    if meeting.state() != Progress::Missing {
        return Ok(meeting.state());
    }
    let start = Instant::now();
    let progress = match make(slurm, state, meeting, givens) {
        Ok(progress) => progress,
        Err(error) => {
            spank::tell(&error);
            Progress::Failed(error.exit_code())
        }
    };
    if progress == Progress::Ready {
        audit(slurm, meeting, start.elapsed());
    }
    meeting.publish(progress);
    Ok(progress)
}

/// Executes the launcher, which makes the container and sends its namespaces.
fn make(
    slurm: &Slurm<'_>,
    state: &State,
    meeting: &MeetingPlace,
    givens: &[Given],
) -> Result<Progress, Error> {
    let request = request(slurm, state, givens);
    let helper = start_launcher(
        &state.paths.launcher,
        "step",
        &request,
        meeting.sender(),
        |_| {},
    )
    .map_err(|error| {
        error
            .within("can't make a container")
            .hint("the administrator has to install `chariot` on this node")
    })?;
    let seconds = state.patience.as_secs();
    let report = helper.report(state.patience).map_err(|error| {
        Error::new(format!(
            "can't make a container within {seconds} seconds: {error}"
        ))
        .hint(SLOW)
    })?;
    Ok(relay(&report))
}

/// Executes the launcher, which sends what it makes into `socket`. `adjust` has the last word on how.
pub(crate) fn start_launcher(
    launcher: &Path,
    subcommand: &str,
    request: &Request,
    socket: BorrowedFd<'_>,
    adjust: impl FnOnce(&mut Command),
) -> Result<Helper, Error> {
    let what = || format!("can't run {}", launcher.display());
    let mut input = File::from(sys::memory_file(c"request").explain(what)?);
    input.write_all(&request.encode()).explain(what)?;
    input.rewind().explain(what)?;
    let mut command = Command::new(launcher);
    command.args([subcommand, "--socket", &socket.as_raw_fd().to_string()]);
    adjust(&mut command);
    process::start_helper(command, OwnedFd::from(input), socket).explain(what)
}

fn request(slurm: &Slurm<'_>, state: &State, givens: &[Given]) -> Request {
    let is_batch = slurm.step() == Some(BATCH_STEP);
    let mut command = slurm.command();
    let script = command.first().filter(|_| is_batch).map(PathBuf::from);
    let is_path = |word: &OsString| word.as_bytes().contains(&b'/');
    if slurm.variable(MULTI_PROG).is_some() && !is_batch {
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
        mounted: state.mounted.clone(),
        command,
        environment: slurm.environment(),
    }
}

/// Passes the launcher's lines on to the user; `chariot::cli::step` says what they mean.
fn relay(report: &str) -> Progress {
    let mut told: fn(&str) = spank::error;
    for line in report.lines() {
        let (letter, text) = line.split_at_checked(1).unwrap_or((line, ""));
        match letter {
            "E" => {
                told = spank::error;
                told(&format!("{NAME}: {text}"));
            }
            "W" => {
                told = spank::say;
                told(&format!("{NAME}: warning: {text}"));
            }
            // A hint goes where the sentence before it went.
            "H" => told(&format!("{NAME}: hint: {text}")),
            "I" => spank::say(&format!("{NAME}: {text}")),
            "L" => spank::log(&format!("{NAME}: {text}")),
            "X" => return Progress::Failed(text.parse().unwrap_or(Exit::Container.code())),
            "R" => return Progress::Ready,
            // Not one of ours: the dynamic loader's last words, for one.
            _ => spank::error(&format!("{NAME}: {line}")),
        }
    }
    let error = Error::new("the process that makes the container ended without a word")
        .hint("was it killed? memory limits of the job hold for it too");
    spank::tell(&error);
    Progress::Failed(error.exit_code())
}

fn read_record(file: &File) -> Result<Record, Error> {
    let what = "can't read how to join the container";
    let bytes = handover::read(file).explain(|| what.into())?;
    Record::decode(&bytes).map_err(|error| error.within(what))
}

/// The line by which an administrator sees later what ran.
fn audit(slurm: &Slurm<'_>, meeting: &MeetingPlace, time: Duration) {
    let record = meeting
        .look()
        .ok()
        .and_then(|(_, record)| read_record(&File::from(record)).ok());
    let Some(record) = record else { return };
    let number = |number: Option<u32>| number.map_or("-".into(), |number| number.to_string());
    spank::log(&format!(
        "{NAME}: user={} job={} step={} image={} digest={} mount={} ms={:.1}",
        process::user(),
        number(slurm.job()),
        number(slurm.step()),
        record.image.display(),
        record.digest.as_deref().unwrap_or("-"),
        record.kind,
        time.as_secs_f64() * 1000.0,
    ));
}
