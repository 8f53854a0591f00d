//! In srun, sbatch and salloc: collects every use of every option, refuses what is malformed before
//! anything is queued, and sends the rest along.

use chariot_core::sys::helper;
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use chariot_core::arguments::Arguments;
use chariot_core::config::Config;
use chariot_core::edf::{self, Surroundings};
use chariot_core::environment::Environment;
use chariot_core::error::Error;
use chariot_core::handover::{self, Said};
use chariot_core::options::given::{self, CALLED_IN, CARRIER};
use chariot_core::options::table::{OptionRow, TABLE};
use chariot_core::options::word::{self, Word};
use chariot_core::options::{self, Dialect, Given, Options, Pull, Source};
use chariot_core::places;

use crate::spank::{self, Context, NAME, Slurm, set_own_variable};
use crate::state;
use crate::{components, multi_prog};

/// The beginning of the variables by which Slurm itself carries a plugin's options.
const TO_STEPS: &str = "_SLURM_SPANK_OPTION_";

/// How much longer than its own wait the launcher has to answer: a look-up of the host, a connection, and two
/// documents can each take that long.
const GRACE: Duration = Duration::from_secs(2);

/// Takes what the job that we are in was started with, and takes it out of Slurm's own hands: Slurm
/// would give it back as if it had been typed, and only the last use of each option.
pub(crate) fn init(slurm: &Slurm<'_>, context: Context) -> Result<(), Error> {
    state::with(|state| state.paths.read(&slurm.arguments()))?;
    let inherited = env::var(CARRIER).ok();
    state::with(|state| state.called_in = env::var(CALLED_IN).ok());
    set_own_variable(CALLED_IN.as_ref(), None);
    if context == Context::Step {
        // Now: srun is about to put its own directory there.
        let environment: Environment = env::vars_os().collect();
        state::with(|state| state.places = places::of(&environment));
    }
    set_own_variable(places::CARRIER.as_ref(), None);
    let own = [
        format!("{TO_STEPS}{NAME}_"),
        format!("SLURM_SPANK_{TO_STEPS}{NAME}_"),
    ];
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text == CARRIER || own.iter().any(|prefix| text.starts_with(prefix)) {
            set_own_variable(&name, None);
        }
    }
    multi_prog::note(context);
    // sbatch and salloc make a new job, which inherits from the one that they are called in only if somebody says so.
    if let Some(text) = inherited {
        let mut givens = match given::decode(&text) {
            // A new job goes its own way.
            Err(_) if context == Context::Job => Vec::new(),
            decoded => decoded?,
        };
        // What the job's environment file says stays weaker than what was said beside it.
        givens
            .iter_mut()
            .filter(|given| given.source != Source::Definition)
            .for_each(|given| given.source = Source::Inherited);
        state::with(|state| state.inherited = givens);
    }
    Ok(())
}

/// One use of an option on the command line or in a script's `#SBATCH` lines.
pub(crate) fn option(row: &'static OptionRow, value: Option<&str>) -> Result<(), Error> {
    let directory = given::working_directory().unwrap_or_else(|| PathBuf::from("/"));
    // An option without a value: srun passes none, the environment "(null)" or nothing.
    let value = value.filter(|value| !(row.value_is_optional() && matches!(*value, "" | "(null)")));
    let given = Given::new(row, value, Source::Typed, &directory, Dialect::Slurm)?;
    Options::resolve(vec![given.clone()], Dialect::Slurm)?;
    state::with(|state| state.typed.push(given));
    Ok(())
}

/// All options of this component are known: the last look at them together, and off they go. Slurm calls this once
/// for each component of a heterogeneous job or step, and has one place alone for what they carry.
pub(crate) fn options_complete(slurm: &Slurm<'_>, context: Context) -> Result<(), Error> {
    let directory = given::working_directory().unwrap_or_else(|| PathBuf::from("/"));
    options::refuse_detached(env::args_os().skip(1), Dialect::Slurm)?;
    take_variables(&directory)?;
    take_from_job(slurm, context);
    let (mut givens, paths) = state::with(|state| {
        let typed = std::mem::take(&mut state.typed);
        let said = state.variables.iter().cloned().chain(typed);
        (said.collect::<Vec<_>>(), state.paths.clone())
    });
    let loaded = paths.site();
    // A broken site file is told on the nodes, to who wants a container.
    let config = loaded.clone().unwrap_or_default();
    if context == Context::Step
        || Options::resolve(config.under(givens.clone()), Dialect::Slurm)?.inherit
    {
        givens.splice(0..0, state::with(|state| state.inherited.clone()));
    }
    // Nodes have no use for it.
    givens.retain(|given| given.row.name != "inherit");
    replace_environment(&mut givens, &config, &directory)?;
    givens.sort_by_key(|given| given.source);
    let options = Options::resolve(givens.clone(), Dialect::Slurm)?;
    if options.image.is_none() {
        refuse_useless(&givens, &loaded)?;
    }
    if context == Context::Job {
        tell_what_it_runs_in(&givens, &config)?;
    }
    if !state::with(|state| components::is_first(&mut state.first, &givens, &options))? {
        return Ok(());
    }
    if let Some(image) = &options.image
        && matches!(Word::parse(&image.value), Word::Registry(_))
        && !(context == Context::Step && env::var_os("SLURM_JOB_ID").is_some())
    {
        // A step of a job that is running leaves it to the nodes, which know what the job takes the name for.
        pin(
            &image.value.clone(),
            options.pull,
            &mut givens,
            &paths,
            config.wait_look_up,
        )?;
    }
    if options.image.is_some()
        || config
            .defaults
            .iter()
            .any(|given| given.row.name == "image")
    {
        carry_places();
    }
    if !givens.is_empty() {
        set_own_variable(CARRIER.as_ref(), Some(&given::encode(&givens)));
    }
    Ok(())
}

/// Takes the `CH_*` variables, which hold for every component. They travel with the rest: left in the environment,
/// they would be stronger in the job's steps than what was typed for the job.
fn take_variables(directory: &Path) -> Result<(), Error> {
    let variables = given::from_variables(|name| env::var_os(name), directory, Dialect::Slurm)?;
    state::with(|state| state.variables.extend(variables));
    for row in TABLE {
        set_own_variable(row.variable().as_ref(), None);
    }
    Ok(())
}

/// Takes our options out of what sbatch and salloc are about to put into their own environment for srun. They would
/// read it again themselves, for the next component, as if it had been given there.
fn take_from_job(slurm: &Slurm<'_>, context: Context) {
    if context == Context::Job {
        for row in TABLE {
            let name = row.slurm_name().replace('-', "_");
            slurm.forget(&format!("{TO_STEPS}{NAME}_{name}"));
        }
    }
}

/// Says what a new job runs in where somebody might think otherwise: it is submitted from a container, or salloc starts a
/// command, which is not in the job.
fn tell_what_it_runs_in(givens: &[Given], config: &Config) -> Result<(), Error> {
    let is_off = givens.iter().rev().find(|given| given.row.name == "image");
    let is_off = is_off.is_some_and(|given| given.value == "none");
    let image = Options::resolve(config.under(givens.to_vec()), Dialect::Slurm)?.image;
    // Once, and not for each component of a heterogeneous job.
    let called_in = state::with(|state| state.called_in.take());
    let image = image.map(|image| word::typed(&image.value).unwrap_or(&image.value).to_owned());
    match (&image, called_in) {
        (Some(image), Some(_)) => spank::say(&format!("{NAME}: the new job runs in {image}")),
        (None, Some(here)) if !is_off => spank::say(&format!(
            "{NAME}: the new job runs on the host, and not in {here}, in which it is submitted; --ch-inherit hands that on, \
             --ch-image=none says that it is meant"
        )),
        _ => {}
    }
    if let (Some(image), Some(command)) = (&image, spank::command_of_salloc()) {
        spank::say(&format!(
            "{NAME}: {command} runs on this machine; steps that srun starts run in {image}"
        ));
    }
    Ok(())
}

/// Has the nodes know where this is asked for, and where the job was that it is asked for in.
fn carry_places() {
    let mut known = state::with(|state| std::mem::take(&mut state.places));
    known.extend(given::real_working_directory());
    let here = given::working_directory();
    if let (Some(here), Some(typed)) = (&here, places::typed_chdir(env::args_os())) {
        // Slurm itself takes the name that has no link in it.
        known.push(here.join(typed));
    }
    let text = places::with(known, here);
    set_own_variable(places::CARRIER.as_ref(), Some(&text));
}

/// Reads the environment definition file, if one is named, so that no node has to.
fn replace_environment(
    givens: &mut Vec<Given>,
    config: &Config,
    directory: &Path,
) -> Result<(), Error> {
    let is_edf = |given: &&Given| given.row.name == "edf";
    if !givens.iter().any(|given| is_edf(&given)) {
        givens.extend(config.defaults.iter().filter(is_edf).cloned());
    }
    edf::replace(givens, &Surroundings::of(config, directory)).map(drop)
}

/// Has the launcher ask the registry what an image's name means, so that the whole job, requeued or not, runs the
/// same image. If nobody answers in time, the job's first node asks.
fn pin(
    image: &str,
    pull: Pull,
    givens: &mut [Given],
    paths: &Arguments,
    wait: Duration,
) -> Result<(), Error> {
    let mut command = Command::new(&paths.launcher);
    command
        .arg("--config")
        .arg(&paths.config)
        .args(["resolve", image]);
    // Not said where nobody has, so that a launcher of another version understands it.
    if pull != Pull::default() {
        command.arg(format!("--pull={}", pull.name()));
    }
    let answer =
        helper::start_asking(command).and_then(|helper| helper.report(wait.saturating_add(GRACE)));
    // A login node without the launcher, or a registry that it does not reach: the nodes have both, perhaps.
    let Ok(answer) = answer else { return Ok(()) };
    match answer.lines().find_map(handover::read_line) {
        Some(Said::Pinned(name)) => {
            let images = givens
                .iter_mut()
                .filter(|given| given.row.name == "image" && given.value == image);
            images.for_each(|given| given.value.clone_from(&name));
            Ok(())
        }
        Some(Said::Failed(told)) => Err(told.into()),
        _ if handover::is_foreign(&answer) => {
            let warning = "the launcher's answer is not understood, so the job's first node asks what the image's name means";
            spank::say(&format!("{NAME}: warning: {warning}"));
            spank::say(&format!("{NAME}: hint: {}", handover::SAME_VERSION));
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Refuses what was typed and has no container to apply to: the command would run on the host, and all that was asked
/// for would silently be none. Not so with `CH_*` variables, which somebody may have for the steps that have an image.
fn refuse_useless(givens: &[Given], site: &Result<Config, Error>) -> Result<(), Error> {
    let says_nothing = |given: &Given| match given.row.name {
        "image" => true,
        "edf" => given.value == "none",
        "batch" => given.value == "host",
        _ => false,
    };
    let typed = |given: &&Given| given.source == Source::Typed && !says_nothing(given);
    let Some(useless) = givens.iter().find(typed) else {
        return Ok(());
    };
    let option = Dialect::Slurm.option(useless.row.name);
    let is_off = givens.iter().any(|given| given.row.name == "image");
    if is_off {
        return Err(Error::new(format!(
            "{option} has nothing to apply to, since --ch-image=none turns the container off"
        ))
        .hint("leave one of them out"));
    }
    let site = site.as_ref().map_err(Clone::clone)?;
    match site.defaults.iter().any(|given| given.row.name == "image") {
        true => Ok(()),
        false => Err(Error::new(format!(
            "{option} has nothing to apply to: no image is named"
        ))
        .hint("name one with --ch-image=IMAGE, or leave the option out")),
    }
}
