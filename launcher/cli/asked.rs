//! What was asked for: the command line, with the environment and the site's file under it.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::ArgMatches;

use super::foreign;
use crate::host::Host;
use crate::log::{self, Reader};
use chariot_core::config::{self, Config};
use chariot_core::edf::{self, Definition, Surroundings};
use chariot_core::environment::{Environment, find};
use chariot_core::error::{Error, Result};
use chariot_core::options::table;
use chariot_core::options::{self, Dialect, Given, Options, Source, given};

/// The variable in which `exec --job` hands on to a node what other variables say.
pub(super) const HANDED_ON: &str = "CHARIOT_HANDED_ON";

/// What was typed, with the environment and the site's file under it.
pub(super) struct Asked {
    pub(super) options: Options,
    /// The environment definition file, if there is one.
    pub(super) definition: Option<Definition>,
    pub(super) config: Config,
    pub(super) host: Host,
}

impl Asked {
    pub(super) fn read(matches: &ArgMatches) -> Result<Asked> {
        refuse_detached(matches)?;
        let config = Config::load(config_path(matches))?;
        let mut environment: Environment = env::vars_os().collect();
        environment.retain(|(name, _)| name != HANDED_ON);
        let directory = given::working_directory();
        let base = directory.clone().unwrap_or_else(|| PathBuf::from("/"));
        let dialect = Dialect::Launcher;
        let variable = |name: &str| find(&environment, name).map(OsString::from);
        let mut givens = given::from_variables(variable, &base, dialect)?;
        if let Ok(text) = env::var(HANDED_ON) {
            givens.extend(given::decode(&text)?);
        }
        givens.extend(typed(matches, &base)?);
        let mut givens = config.under(givens);
        let definition = edf::replace(&mut givens, &Surroundings::of(&config, &base))?;
        let mut options = Options::resolve(givens, dialect)?;
        let annotations = definition.iter().flat_map(Definition::annotations);
        options.annotations = annotations.map(ToString::to_string).collect();
        start_log(&options, &config);
        refuse_disabled(&config)?;
        Ok(Asked {
            options,
            definition,
            config,
            host: Host::look(environment, directory),
        })
    }
}

/// Refuses a switch's value that has become the image.
fn refuse_detached(matches: &ArgMatches) -> Result<()> {
    let image = matches.try_get_one::<String>("image-word").ok().flatten();
    let Some(image) = image else { return Ok(()) };
    // What follows it is the command's: that there is a word is all that matters of it.
    let mut words: Vec<_> = env::args_os().skip(1).collect();
    if let Some(place) = words.iter().position(|word| word == image.as_str()) {
        words.truncate(place + 2);
    }
    options::refuse_detached(words.into_iter(), Dialect::Launcher)
}

pub(super) fn config_path(matches: &ArgMatches) -> &Path {
    matches
        .get_one::<PathBuf>("config")
        .map_or(Path::new(config::PATH), PathBuf::as_path)
}

pub(super) fn start_log(options: &Options, config: &Config) {
    let level = if options.verbose {
        tracing::Level::DEBUG
    } else {
        log::level(&config.log_level)
    };
    log::start(Reader::Person, level);
}

/// The site's switch.
pub(super) fn refuse_disabled(config: &Config) -> Result<()> {
    if config.enabled {
        return Ok(());
    }
    Err(Error::new(
        "this site has turned Chariot off (enabled = false in the site configuration file)",
    )
    .hint("ask the administrators why, and until when"))
}

/// The uses of options in the order in which they were typed.
pub(super) fn typed(matches: &ArgMatches, directory: &Path) -> Result<Vec<Given>> {
    let mut givens = foreign::typed(matches, directory)?;
    let use_of = |row, value: &str| {
        let (source, dialect) = (Source::Typed, Dialect::Launcher);
        Given::new(row, Some(value), source, directory, dialect)
    };
    for row in table::TABLE {
        let name = match row.name {
            // With an environment file, the first word is the command's.
            "image" if is_given(matches, "edf") => continue,
            "image" => "image-word",
            name => name,
        };
        // An option that this subcommand does not have was not typed.
        let Ok(Some(values)) = matches.try_get_many::<String>(name) else {
            continue;
        };
        let places = matches.indices_of(name).into_iter().flatten();
        for (place, value) in places.zip(values) {
            givens.push((place, use_of(row, value)?));
        }
    }
    givens.sort_by_key(|(place, _)| *place);
    Ok(givens.into_iter().map(|(_, given)| given).collect())
}

pub(super) fn is_given(matches: &ArgMatches, name: &str) -> bool {
    matches.try_contains_id(name).unwrap_or(false)
}

pub(super) fn words(matches: &ArgMatches) -> Vec<OsString> {
    let first = match is_given(matches, "edf") {
        true => matches.try_get_one::<String>("image-word").ok().flatten(),
        false => None,
    };
    // `shell` has none.
    let words = matches.try_get_many("command").ok().flatten();
    let first = first.map(OsString::from).into_iter();
    first.chain(words.into_iter().flatten().cloned()).collect()
}
