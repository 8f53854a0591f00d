//! In srun, sbatch and salloc: collects every use of every option, refuses what is malformed before
//! anything is queued, and sends the rest along.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use chariot::config::Config;
use chariot::error::Error;
use chariot::options::edf::{self, Surroundings};
use chariot::options::given::{self, CARRIER};
use chariot::options::table::{OptionRow, TABLE};
use chariot::options::{Dialect, Given, Options, Source};
use chariot::sys::process;

use crate::spank::{Context, NAME, Slurm, set_own_variable};
use crate::state::{self, Paths};

/// Set for the node where the command is a file of commands, since Slurm does not tell.
pub(crate) const MULTI_PROG: &str = "SLURM_CHARIOT_MULTI_PROG";

/// How much longer than its own wait the launcher has to answer: a look-up of the host, a connection, and two
/// documents can each take that long.
const GRACE: Duration = Duration::from_secs(2);

/// Takes what the job that we are in was started with, and takes it out of Slurm's own hands: Slurm
/// would give it back as if it had been typed, and only the last use of each option.
pub(crate) fn init(slurm: &Slurm<'_>, context: Context) -> Result<(), Error> {
    let paths = Paths::read(&slurm.arguments())?;
    state::with(|state| state.paths = paths);
    let inherited = env::var(CARRIER).ok();
    let own = [
        format!("_SLURM_SPANK_OPTION_{NAME}_"),
        format!("SLURM_SPANK__SLURM_SPANK_OPTION_{NAME}_"),
    ];
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text == CARRIER || own.iter().any(|prefix| text.starts_with(prefix)) {
            set_own_variable(&name, None);
        }
    }
    set_own_variable(MULTI_PROG.as_ref(), is_multi_prog(context).then_some("1"));
    // sbatch and salloc make a new job, which inherits nothing from the one that they are called in.
    if let (Context::Step, Some(text)) = (context, inherited) {
        let mut givens = given::decode(&text)?;
        // What the job's environment file says stays weaker than what was said beside it.
        givens
            .iter_mut()
            .filter(|given| given.source != Source::Definition)
            .for_each(|given| given.source = Source::Inherited);
        state::with(|state| state.givens = givens);
    }
    Ok(())
}

/// Whether this is `srun --multi-prog`; getopt_long(3) takes abbreviations.
fn is_multi_prog(context: Context) -> bool {
    let named = |word: &str| word.len() > 4 && "--multi-prog".starts_with(word);
    context == Context::Step
        && (env::var_os("SLURM_MULTI_PROG").is_some()
            || env::args_os().any(|word| named(&word.to_string_lossy())))
}

/// One use of an option on the command line or in a script's `#SBATCH` lines.
pub(crate) fn option(row: &'static OptionRow, value: Option<&str>) -> Result<(), Error> {
    let directory = given::working_directory().unwrap_or_else(|| PathBuf::from("/"));
    // An option without a value: srun passes none, the environment "(null)" or nothing.
    let value = value.filter(|value| !(row.value_is_optional() && matches!(*value, "" | "(null)")));
    let given = Given::new(row, value, Source::Typed, &directory, Dialect::Slurm)?;
    Options::resolve(vec![given.clone()], Dialect::Slurm)?;
    state::with(|state| state.givens.push(given));
    Ok(())
}

/// All options are known: the last look at them together, and off they go.
pub(crate) fn options_complete(context: Context) -> Result<(), Error> {
    let directory = given::working_directory().unwrap_or_else(|| PathBuf::from("/"));
    let variables = given::from_variables(|name| env::var_os(name), &directory, Dialect::Slurm)?;
    // They travel with the rest. Left in the environment, they would be stronger in the job's steps
    // than what was typed for the job.
    for row in TABLE {
        set_own_variable(row.variable().as_ref(), None);
    }
    let mut givens = state::with(|state| std::mem::take(&mut state.givens));
    givens.extend(variables);
    // A broken site file is told on the nodes, to who wants a container.
    let paths = state::with(|state| state.paths.clone());
    let config = Config::load(&paths.config).unwrap_or_default();
    replace_environment(&mut givens, &config, &directory)?;
    givens.sort_by_key(|given| given.source);
    let options = Options::resolve(givens.clone(), Dialect::Slurm)?;
    if context == Context::Step && options.image.is_none() {
        refuse_useless(&givens)?;
    }
    if let Some(image) = &options.image
        && image.value.starts_with("docker:")
        && !(context == Context::Step && env::var_os("SLURM_JOB_ID").is_some())
    {
        // A step of a job that is running leaves it to the nodes, which know what the job takes the name for.
        pin(
            &image.value.clone(),
            &mut givens,
            &paths,
            config.wait_look_up,
        )?;
    }
    if !givens.is_empty() {
        set_own_variable(CARRIER.as_ref(), Some(&given::encode(&givens)));
    }
    Ok(())
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
fn pin(image: &str, givens: &mut [Given], paths: &Paths, wait: Duration) -> Result<(), Error> {
    let mut command = Command::new(&paths.launcher);
    command
        .arg("--config")
        .arg(&paths.config)
        .args(["resolve", image]);
    let answer = process::start_asking(command).and_then(|helper| helper.report(wait + GRACE));
    // A login node without the launcher, or a registry that it does not reach: the nodes have both, perhaps.
    let Ok(answer) = answer else { return Ok(()) };
    let (letter, rest) = answer.split_at_checked(1).unwrap_or_default();
    let mut lines = rest.lines();
    let first = lines.next().unwrap_or_default();
    match letter {
        "+" => {
            let images = givens
                .iter_mut()
                .filter(|given| given.row.name == "image" && given.value == image);
            images.for_each(|given| given.value = first.to_owned());
            Ok(())
        }
        "-" => Err(match lines.next().filter(|hint| !hint.is_empty()) {
            Some(hint) => Error::new(first).hint(hint),
            None => Error::new(first),
        }),
        _ => Ok(()),
    }
}

/// An option typed to srun that has no container to apply to. The site may have a default image, so
/// only what an image was explicitly taken from is refused.
fn refuse_useless(givens: &[Given]) -> Result<(), Error> {
    let off = givens.iter().any(|given| given.row.name == "image");
    let useless = givens.iter().find(|given| {
        given.source == Source::Typed && !matches!(given.row.name, "image" | "edf" | "batch")
    });
    match useless {
        Some(given) if off => Err(Error::new(format!(
            "--ch-{} has nothing to apply to, since --ch-image=none turns the container off",
            given.row.name
        ))
        .hint("leave one of them out")),
        _ => Ok(()),
    }
}
