//! The command line: subcommands, and their options from the table.

mod check;
mod exec;
mod open;
mod run;
pub mod step;
mod task;
mod unpack;

use std::env;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::config::{self, Config};
use crate::error::{Error, Exit, Result};
use crate::host::{self, Environment, Host};
use crate::log::{self, Reader};
use crate::options::table::{self, OptionRow};
use crate::options::{Dialect, Given, Options, Source, given};

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let matches = match command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => return usage(&error),
    };
    let result = match matches.subcommand() {
        Some(("run", matches)) => run::run(matches),
        Some(("shell", matches)) => run::shell(matches),
        Some(("exec", matches)) => exec::exec(matches),
        Some(("explain", matches)) => run::explain(matches),
        Some(("check", matches)) => check::check(matches),
        Some(("unpack", matches)) => unpack::unpack(matches),
        Some(("completions", matches)) => completions(matches),
        Some(("man", _)) => man(),
        Some(("step", matches)) => return step::step(matches),
        Some(("open", matches)) => open::open(matches),
        Some(("task", matches)) => task::task(matches),
        _ => Err(Error::new("no command").hint("chariot --help")),
    };
    result.unwrap_or_else(|error| {
        if !error.is_told_elsewhere() {
            tell(&error);
        }
        ExitCode::from(error.exit_code())
    })
}

/// Prints a failure, once, for a person.
fn tell(error: &Error) {
    let mut text = format!("chariot: {error}\n");
    if let Some(advice) = error.advice() {
        text.push_str(&format!("chariot: hint: {advice}\n"));
    }
    // Nobody is left to tell that standard error is gone.
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Help and version are no failures; any other complaint of the parser ends in 125.
fn usage(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    match error.use_stderr() {
        true => ExitCode::from(Exit::Container.code()),
        false => ExitCode::SUCCESS,
    }
}

/// Prints to standard output; a closed pipe, as in `chariot explain … | head`, is no failure.
fn print(text: &str) -> Result<ExitCode> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Error::new(format!(
            "can't write to standard output: {error}"
        ))),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// The whole command line.
pub fn command() -> Command {
    let image = Arg::new("image-word").value_name("IMAGE").required(true).help(
        "a directory that holds a file system: a path with a slash, or a name in the image store",
    );
    let words = Arg::new("command")
        .value_name("COMMAND")
        .value_parser(value_parser!(OsString))
        .num_args(1..)
        .required(true)
        .trailing_var_arg(true)
        .allow_hyphen_values(true)
        .help("the command and its arguments");
    Command::new("chariot")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Run a command in a container of your choice, without privilege")
        .after_help(
            "In a Slurm job the same options begin with --ch-: srun --ch-image=IMAGE COMMAND\n\
             Each option is also a variable: --private-tmp is CH_PRIVATE_TMP.\n\
             Exit status: the command's own; 125 if the container cannot be had, 126 if the command \
             cannot be run, 127 if it is not in the container.",
        )
        .subcommand_required(true)
        .arg_required_else_help(true)
        .disable_help_subcommand(true)
        .arg(
            Arg::new("config")
                .long("config")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .default_value(config::PATH)
                .global(true)
                .help("the site's file"),
        )
        .subcommand(
            with_options(Command::new("run"))
                .about("Run a command in an image")
                .arg(image.clone())
                .arg(words.clone()),
        )
        .subcommand(
            with_options(Command::new("shell"))
                .about("Start an interactive shell in an image")
                .arg(image.clone()),
        )
        .subcommand(
            Command::new("exec")
                .about("Run a command in the container of a running process of yours")
                .arg(
                    Arg::new("pid")
                        .value_name("PID")
                        .required(true)
                        .value_parser(value_parser!(u32).range(1..))
                        .help("the number of a process in the container"),
                )
                .args(["workdir", "set-env", "unset-env", "keep-env"].map(named))
                .arg(words.clone()),
        )
        .subcommand(
            with_options(Command::new("explain"))
                .about("Show what `run` would do, and do nothing")
                .arg(image)
                .arg(words.clone()),
        )
        .subcommand(
            Command::new("check")
                .about("Say whether this machine can run containers, and what to do if not")
                .arg(flag("json", "print the findings as JSON")),
        )
        .subcommand(unpack::command())
        .subcommand(
            Command::new("completions").about("Print a completion script for a shell").arg(
                Arg::new("shell")
                    .value_name("SHELL")
                    .required(true)
                    .value_parser(value_parser!(clap_complete::Shell)),
            ),
        )
        .subcommand(Command::new("man").about("Print the manual page, in roff"))
        .subcommand(open::command())
        .subcommand(step::command())
        .subcommand(task::command(words))
}

fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .action(ArgAction::SetTrue)
        .help(help)
}

/// Adds the table's options. The image is a positional argument here, since nothing runs without.
fn with_options(command: Command) -> Command {
    let rows = table::TABLE
        .iter()
        .filter(|row| row.name != "image" && !row.slurm_only);
    command.args(rows.map(argument))
}

fn named(name: &str) -> Arg {
    // The names are constants of this file, and a test builds the whole command line.
    table::find(name).map_or_else(|| Arg::new(name.to_owned()), argument)
}

fn argument(row: &'static OptionRow) -> Arg {
    let argument = Arg::new(row.name)
        .long(row.name)
        .value_name(row.value)
        .action(ArgAction::Append)
        .help(row.short);
    let argument = match row.long {
        "" => argument,
        long => argument.long_help(format!("{}\n\n{long}", row.short)),
    };
    match row.value_is_optional() {
        true => argument
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("yes"),
        false => argument,
    }
}

/// What was typed, with the environment and the site's file under it.
struct Asked {
    options: Options,
    config: Config,
    host: Host,
}

impl Asked {
    fn read(matches: &ArgMatches) -> Result<Asked> {
        let config = Config::load(config_path(matches))?;
        let environment: Environment = env::vars_os().collect();
        let directory = given::working_directory();
        let base = directory.clone().unwrap_or_else(|| PathBuf::from("/"));
        let dialect = Dialect::Launcher;
        let mut givens = config.defaults.clone();
        let variable = |name: &str| host::find(&environment, name).map(OsString::from);
        givens.extend(given::from_variables(variable, &base, dialect)?);
        givens.extend(typed(matches, &base)?);
        let options = Options::resolve(givens, dialect)?;
        start_log(&options, &config);
        refuse_disabled(&config)?;
        Ok(Asked {
            options,
            config,
            host: Host::look(environment, directory),
        })
    }
}

fn config_path(matches: &ArgMatches) -> &Path {
    matches
        .get_one::<PathBuf>("config")
        .map_or(Path::new(config::PATH), PathBuf::as_path)
}

fn start_log(options: &Options, config: &Config) {
    let level = if options.verbose {
        tracing::Level::DEBUG
    } else {
        log::level(&config.log_level)
    };
    log::start(Reader::Person, level);
}

/// The site's switch.
fn refuse_disabled(config: &Config) -> Result<()> {
    if config.enabled {
        return Ok(());
    }
    Err(
        Error::new("this site has turned Chariot off (enabled = false in the site's file)")
            .hint("ask the administrators why, and until when"),
    )
}

/// The uses of options in the order in which they were typed.
fn typed(matches: &ArgMatches, directory: &Path) -> Result<Vec<Given>> {
    let mut givens = Vec::new();
    let use_of = |row, value: &str| {
        Given::new(
            row,
            Some(value),
            Source::Typed,
            directory,
            Dialect::Launcher,
        )
    };
    for row in table::TABLE {
        let name = if row.name == "image" {
            "image-word"
        } else {
            row.name
        };
        // An option that this subcommand does not have was not typed.
        let Ok(Some(values)) = matches.try_get_many::<String>(name) else {
            continue;
        };
        for value in values {
            givens.push(use_of(row, value)?);
        }
    }
    Ok(givens)
}

fn words(matches: &ArgMatches) -> Vec<OsString> {
    matches
        .get_many("command")
        .into_iter()
        .flatten()
        .cloned()
        .collect()
}

fn completions(matches: &ArgMatches) -> Result<ExitCode> {
    let mut text = Vec::new();
    if let Some(shell) = matches.get_one::<clap_complete::Shell>("shell") {
        clap_complete::generate(*shell, &mut command(), "chariot", &mut text);
    }
    print(&String::from_utf8_lossy(&text))
}

fn man() -> Result<ExitCode> {
    let mut text = Vec::new();
    let failed = |error: io::Error| Error::new(format!("can't write the manual page: {error}"));
    clap_mangen::Man::new(command())
        .render(&mut text)
        .map_err(failed)?;
    for subcommand in command()
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
    {
        let name = format!("chariot {}", subcommand.get_name());
        let subcommand = subcommand.clone().name(name);
        let page = clap_mangen::Man::new(subcommand);
        page.render_name_section(&mut text).map_err(failed)?;
        page.render_synopsis_section(&mut text).map_err(failed)?;
        page.render_options_section(&mut text).map_err(failed)?;
    }
    print(&String::from_utf8_lossy(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_every_option_of_the_table_is_in_it() {
        command().debug_assert();
        let mut command = command();
        let run = command.find_subcommand_mut("run").unwrap();
        let help = run.render_long_help().to_string();
        for row in table::TABLE
            .iter()
            .filter(|row| row.name != "image" && !row.slurm_only)
        {
            assert!(help.contains(&format!("--{}", row.name)), "{}", row.name);
            assert!(help.contains(row.short), "{}", row.name);
        }
    }

    #[test]
    fn options_may_stand_before_and_after_the_image_but_not_in_the_command() {
        let words = [
            "chariot",
            "run",
            "--home",
            "--root=no",
            "./i",
            "--bind",
            "/a",
            "ls",
            "--home",
        ];
        let matches = command().try_get_matches_from(words).unwrap();
        let (_, run) = matches.subcommand().unwrap();
        let givens = typed(run, Path::new("/here")).unwrap();
        let shown: Vec<_> = givens
            .iter()
            .map(|given| format!("{}={}", given.row.name, given.value))
            .collect();
        assert_eq!(
            shown,
            ["image=/here/i", "bind=/a:/a", "home=yes", "root=no"]
        );
        let command: Vec<_> = run.get_many::<OsString>("command").unwrap().collect();
        assert_eq!(command, ["ls", "--home"]);
    }

    #[test]
    fn completions_and_manual_page_know_every_option() {
        let mut bash = Vec::new();
        let shell = clap_complete::Shell::Bash;
        clap_complete::generate(shell, &mut command(), "chariot", &mut bash);
        let bash = String::from_utf8(bash).unwrap();
        assert!(bash.contains("--private-tmp") && bash.contains("--overlay"));
    }
}
