//! In slurmstepd: the tasks of a step on this node meet, the first makes the container, all join.
//!
//! As root, nothing happens here but remembering and making the meeting place. What the user named
//! is looked at in [`enter()`], by a process that is only the user, and mostly by another program: the
//! launcher, freshly executed.

use std::ffi::CString;
use std::fs::File;
use std::mem::ManuallyDrop;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use chariot_core::config::{Config, TaskProlog};
use chariot_core::error::{Error, Explain};
use chariot_core::handover::Record;
use chariot_core::join::{self, CANT_JOIN};
use chariot_core::options::given::{self, CARRIER};
use chariot_core::options::table::OptionRow;
use chariot_core::options::{Batch, Dialect, Given, Options, Source};
use chariot_core::places;
use chariot_core::sys::lock::Held;
use chariot_core::sys::namespaces::Namespaces;
use chariot_core::sys::process;
use chariot_core::sys::sharing::{MeetingPlace, Readiness};

use crate::asked;
use crate::audit;
use crate::creator;
use crate::gpus;
use crate::prolog;
use crate::site;
use crate::spank::{self, BATCH_STEP, EXTERN_STEP, INTERACTIVE_STEP, NAME, Slurm};
use crate::state::{self, State};

/// How much longer than the maker of the container the others wait, so that it is the one to say
/// what happened.
const GRACE: Duration = Duration::from_secs(5);

/// Reads the plugin's arguments; what is wrong with them is told to jobs that want a container.
pub(crate) fn init(slurm: &Slurm<'_>) -> Result<(), Error> {
    state::with(|state| state.broken = state.paths.read(&slurm.arguments()).err());
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
        // The site's file is root's own.
        let config = state.paths.site().unwrap_or_else(|error| {
            state.broken.get_or_insert(error);
            Config::default()
        });
        if let Some(broken) = &state.broken {
            site::complain(broken, &state.paths);
        }
        let by_default = config
            .defaults
            .iter()
            .any(|given| given.row.name == "image");
        state.task_prolog = prolog::place(&config, slurm.release());
        state.config = config;
        if !(named || by_default) {
            return;
        }
        state.scratch = spank::scratch();
        if !state.config.kernel_mount.is_empty() {
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
        if state.meeting.is_none() && state.problem.is_none() && !site::is_closed(state) {
            return;
        }
        if let Err(error) = enter_or_fail(slurm, state) {
            if !error.is_told_elsewhere() {
                spank::tell(&error);
            }
            process::end(error.exit_code());
        }
    });
}

/// A failure that is the same for all tasks of this node, and told by one of them.
fn told_once(slurm: &Slurm<'_>, error: &Error) -> Error {
    let is_first = slurm.variable("SLURM_LOCALID").is_none_or(|id| id == "0");
    match is_first {
        true => error.clone(),
        false => error.clone().told_elsewhere(),
    }
}

fn enter_or_fail(slurm: &Slurm<'_>, state: &State) -> Result<(), Error> {
    if let Some(broken) = state.broken.as_ref().filter(|_| state.paths.strict) {
        return Err(told_once(slurm, broken));
    }
    let givens = givens(slurm, state)?;
    let options = Options::resolve(state.config.under(givens.clone()), Dialect::Slurm)?;
    let is_wanted = options.image.is_some() || (state.broken.is_some() && site::asks(&givens));
    if !is_wanted {
        return asked::answer(slurm, state);
    }
    if is_script(slurm) {
        carry_places(slurm)?;
    }
    if stays_on_host(slurm, &options) {
        return Ok(());
    }
    if let Some(problem) = state.broken.as_ref().or(state.problem.as_ref()) {
        return Err(told_once(slurm, problem));
    }
    let Some(meeting) = &state.meeting else {
        return Err(Error::new("the tasks have no meeting place"));
    };
    let mut clock = Laps::start(options.verbose && is_one_of_two(slurm));
    let asked = options.image.as_ref().map_or("", |image| &image.value);
    if let Readiness::Failed(code) = meet(slurm, state, meeting, &givens, asked)? {
        // Whoever tried has said why.
        process::end(code);
    }
    clock.lap("container");
    let (namespaces, record) = meeting.look().explain(|| CANT_JOIN.into())?;
    let record = File::from(record);
    match state.task_prolog {
        TaskProlog::Container => {
            // The command's execve(2) closes them, without a call for each.
            let namespaces = ManuallyDrop::new(namespaces);
            let record = ManuallyDrop::new(record);
            join(slurm, &namespaces, &record)?;
            clock.lap("join");
            Ok(())
        }
        TaskProlog::Host => {
            let launcher = &state.paths.launcher;
            prolog::join_at_exec(slurm, launcher, namespaces, record)
        }
    }
}

/// Whether this task may say how long it took. Of a thousand on a node, one that makes the container and one that
/// joins are enough.
fn is_one_of_two(slurm: &Slurm<'_>) -> bool {
    let number = slurm.variable("SLURM_LOCALID");
    number.is_some_and(|number| number == "0" || number == "1")
}

/// Tells the user how long each step took.
struct Laps {
    last: Option<Instant>,
}

impl Laps {
    fn start(is_wanted: bool) -> Laps {
        Laps {
            last: is_wanted.then(Instant::now),
        }
    }

    fn lap(&mut self, step: &str) {
        if let Some(last) = self.last {
            spank::say(&format!(
                "{NAME}: {step}: {} us",
                last.elapsed().as_micros()
            ));
            self.last = Some(Instant::now());
        }
    }
}

/// Joins now: from here on the task is in the container.
fn join(slurm: &Slurm<'_>, namespaces: &Namespaces, record: &File) -> Result<(), Error> {
    let record = Record::read(record)?;
    join::container(namespaces, &record.workdir)?;
    join::pretend(record.fakeroot)?;
    let entrypoint: Vec<CString> = record
        .entrypoint
        .iter()
        .filter_map(|word| CString::new(word.as_bytes()).ok())
        .collect();
    if !entrypoint.is_empty() {
        slurm.prepend(&entrypoint).map_err(|error| {
            error
                .within("can't run the image's entrypoint")
                .hint("that takes Slurm 23.11 or newer; leave --ch-entrypoint out, or write the entrypoint before the command")
        })?;
    }
    record.edits.iter().try_for_each(|edit| {
        let value = edit.value_for(|name| slurm.variable(name));
        slurm.edit(&edit.name, value.as_deref())
    })
}

/// Whether this is the script of a batch job, or salloc's shell.
fn is_script(slurm: &Slurm<'_>) -> bool {
    matches!(slurm.step(), Some(BATCH_STEP | INTERACTIVE_STEP))
}

/// One that was to stay outside.
fn stays_on_host(slurm: &Slurm<'_>, options: &Options) -> bool {
    is_script(slurm) && options.batch == Batch::Host
}

/// Has the steps of a script know where it works.
fn carry_places(slurm: &Slurm<'_>) -> Result<(), Error> {
    let known = slurm.variable(places::CARRIER).unwrap_or_default();
    let known = places::read(&known.to_string_lossy());
    let typed_in = known.last().cloned();
    let own = given::named_like_variable(slurm.variable("PWD"));
    let own = own.into_iter().chain(given::real_working_directory());
    let text = places::with(known, own.chain(typed_in));
    slurm.edit(places::CARRIER.as_ref(), Some(text.as_ref()))
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
    asked: &str,
) -> Result<Readiness, Error> {
    if meeting.state() != Readiness::Missing {
        return Ok(meeting.state());
    }
    if state.config.gpu_kind.is_some() {
        meeting.arrive(&gpus::of_task(slurm));
    }
    let _held = wait_for_turn(state, meeting)?;
    if meeting.state() != Readiness::Missing {
        return Ok(meeting.state());
    }
    let start = Instant::now();
    let progress = match creator::make(slurm, state, meeting, givens) {
        Ok(progress) => progress,
        Err(error) => {
            spank::tell(&error);
            Readiness::Failed(error.exit_code())
        }
    };
    if progress == Readiness::Ready {
        audit::note(meeting, asked, start.elapsed());
    }
    meeting.publish(progress);
    Ok(progress)
}

/// Takes the lock. As long as its holder is getting the image, which can take long, that is no reason to give up.
fn wait_for_turn<'a>(state: &State, meeting: &'a MeetingPlace) -> Result<Held<'a>, Error> {
    let patience = state.config.wait_container.saturating_add(GRACE);
    let mut beats = meeting.beats();
    loop {
        match meeting.lock(patience) {
            Ok(held) => return Ok(held),
            Err(_) if meeting.beats() != beats => beats = meeting.beats(),
            Err(_) => {
                return Err(Error::new(format!(
                    "timed out after {} s waiting for another task on this node to create the container",
                    patience.as_secs()
                ))
                .hint(creator::SLOW));
            }
        }
    }
}
