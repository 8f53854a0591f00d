//! `chariot edf render` and `chariot edf check`: what an environment definition file comes to, and what is wrong
//! with it.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command};

use super::asked::config_path;
use crate::print;
use chariot_core::config::Config;
use chariot_core::edf::{Definition, Surroundings};
use chariot_core::error::{Error, Result};
use chariot_core::options::given;

pub(super) fn command() -> Command {
    let file = Arg::new("environment")
        .value_name("NAME|FILE")
        .required(true)
        .help("a file, or the name of one in EDF_PATH, in ~/.edf or where the site says");
    Command::new("edf")
        .about("Show or check an environment definition file")
        .subcommand_required(true)
        .subcommand(
            Command::new("render")
                .about("Print the resulting options, and where each line comes from")
                .arg(file.clone()),
        )
        .subcommand(
            Command::new("check")
                .about("Report what is wrong with it, by file, line and column")
                .arg(file),
        )
}

pub(super) fn edf(matches: &ArgMatches) -> Result<ExitCode> {
    let Some((what, matches)) = matches.subcommand() else {
        return Err(Error::new("neither render nor check"));
    };
    let config = Config::load(config_path(matches))?;
    let here = given::working_directory().unwrap_or_else(|| PathBuf::from("/"));
    let around = Surroundings::of(&config, &here);
    let word = matches.get_one::<String>("environment");
    let definition = Definition::load(word.map_or("", String::as_str), &around)?;
    definition.givens(&around)?;
    match what {
        "render" => print::lines(definition.lines()),
        _ => print::lines([format!("{}: nothing is wrong", definition.file.display())]),
    }
}
