//! The command line: subcommands, and their options from the table.

mod asked;
mod build;
mod check;
mod columns;
mod complaint;
mod completion;
mod convert;
mod df;
mod documentation;
mod edf;
mod exec;
mod foreign;
mod images;
mod inspect;
mod login;
mod manual;
mod mpi;
mod open;
mod progress;
mod ps;
mod pull;
mod run;
pub(crate) use run::become_entered;
pub mod step;
mod task;
mod tool;

use chariot_core::sys::rights;
use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::print;
use chariot_core::config;
use chariot_core::error::{Error, Exit, Explain};
use chariot_core::options::table::{self, OptionRow};
use chariot_core::sys::rights::Gain;

/// Where nothing was typed.
const NOTHING: ErrorKind = ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let matches = match parsed(env::args_os().collect()) {
        Ok(matches) => matches,
        // Help and version are no failures; any other complaint of the parser ends in 125.
        Err(error) if !error.use_stderr() || error.kind() == NOTHING => {
            return match print::usage(error) {
                true => ExitCode::from(Exit::Container.code()),
                false => ExitCode::SUCCESS,
            };
        }
        Err(error) => {
            let told = of_others(&error).unwrap_or_else(|| complaint::told(&error));
            print::failure("chariot", &told.to_string(), told.advice());
            return ExitCode::from(told.exit_code());
        }
    };
    let result = match matches.subcommand() {
        Some(("run", matches)) => run::run(matches),
        Some(("shell", matches)) => run::shell(matches),
        Some(("exec", matches)) => exec::exec(matches),
        Some(("ps", matches)) => ps::ps(matches),
        Some(("explain", matches)) => run::explain(matches),
        Some(("check", matches)) => check::check(matches),
        Some(("pull", matches)) => pull::pull(matches),
        Some(("build", matches)) => build::build(matches),
        Some(("pack", matches)) => convert::pack(matches),
        Some(("unpack", matches)) => convert::unpack(matches),
        Some(("export", matches)) => convert::export(matches),
        Some(("images", matches)) => images::images(matches),
        Some(("df", matches)) => df::df(matches),
        Some(("inspect", matches)) => inspect::inspect(matches),
        Some(("rm", matches)) => images::remove(matches),
        Some(("gc", matches)) => images::collect(matches),
        Some(("resolve", matches)) => pull::resolve(matches),
        Some(("login", matches)) => login::login(matches),
        Some(("logout", matches)) => login::logout(matches),
        Some(("edf", matches)) => edf::edf(matches),
        Some(("completions", matches)) => completion::completions(matches),
        Some(("complete", matches)) => completion::complete(matches),
        Some(("man", matches)) => manual::man(matches),
        Some(("help", matches)) => documentation::help(matches),
        Some(("step", matches)) => return step::step(matches),
        Some(("open", matches)) => open::open(matches),
        Some(("task", matches)) => task::task(matches),
        _ => Err(Error::new("no command").hint("chariot --help")),
    };
    result.unwrap_or_else(|error| {
        if !error.is_told_elsewhere() {
            print::failure("chariot", &error.to_string(), error.advice());
        }
        ExitCode::from(error.exit_code())
    })
}

/// Parses the words of a command line. Those of other tools are looked for where Chariot's own do not explain it, so that no
/// word of a command's is ever taken for one. Apptainer's `exec IMAGE COMMAND` is `run`; a PID is what `exec` has here.
fn parsed(mut words: Vec<OsString>) -> std::result::Result<ArgMatches, clap::Error> {
    let error = match command().try_get_matches_from(&words) {
        Ok(matches) => match exec::refused(&matches) {
            Some(error) => error,
            None => return Ok(matches),
        },
        Err(error) => error,
    };
    let is_other = matches!(
        error.kind(),
        ErrorKind::ValueValidation | ErrorKind::UnknownArgument
    );
    if !is_other {
        return Err(error);
    }
    if let Some(exec) = words.iter().position(|word| word == "exec") {
        words[exec] = "run".into();
    }
    let with_foreign = |command: Command| command.args(foreign::arguments());
    let running = ["run", "shell", "explain"];
    let command = running.into_iter().fold(command(), |command, name| {
        command.mut_subcommand(name, with_foreign)
    });
    let is_number = |matches: &ArgMatches| {
        let words = matches.subcommand_matches("run");
        let image = words.and_then(|words| words.get_one::<String>("image-word"));
        image.is_some_and(|image| image.bytes().all(|byte| byte.is_ascii_digit()))
    };
    match command.try_get_matches_from(&words) {
        // `exec -it 4242 sh`: no image is called so.
        Ok(matches) if is_number(&matches) => Err(error),
        parsed => parsed.map_err(|other| match of_others(&other) {
            Some(_) => other,
            None => error,
        }),
    }
}

/// What is said of a word that is another tool's.
fn of_others(error: &clap::Error) -> Option<Error> {
    let typed = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    match error.kind() {
        ErrorKind::InvalidSubcommand => foreign::command(typed(ContextKind::InvalidSubcommand)?),
        ErrorKind::UnknownArgument => foreign::option(typed(ContextKind::InvalidArg)?),
        _ => None,
    }
}

/// Refuses to run with more rights than its caller has, which the launcher was not made for: what the caller names is
/// opened, and what is in it done, with all the rights that there are.
pub fn refuse_gain() -> Option<ExitCode> {
    let what = "can't run with rights other than the caller's";
    let error = match rights::gain().explain(|| what.into()) {
        Ok(None) => return None,
        Ok(Some(gain)) => {
            let file = env::current_exe().unwrap_or_else(|_| PathBuf::from("chariot"));
            let file = file.display();
            let (reason, hint) = match gain {
                Gain::User => ("it is set-user-ID", format!("chmod u-s {file}")),
                Gain::Group => ("it is set-group-ID", format!("chmod g-s {file}")),
                Gain::Capabilities => ("its file has capabilities", format!("setcap -r {file}")),
                Gain::Rule => (
                    "a security module gives it some (AT_SECURE)",
                    "the rule has to let it run as its caller".into(),
                ),
            };
            Error::new(format!("{what}: {reason}"))
                .hint(format!("{hint}; Chariot needs no privilege"))
        }
        Err(error) => error,
    };
    print::failure("chariot", &error.to_string(), error.advice());
    Some(ExitCode::from(error.exit_code()))
}

/// The whole command line. What takes long to put together is put together when it is asked for: it would be
/// a tenth of a millisecond of each container's start.
pub fn command() -> Command {
    Command::new("chariot")
        .version(env!("CHARIOT_VERSION"))
        .about("Run a command in a container of your choice, without privilege")
        .after_help(
            "In a Slurm job the same options begin with --ch-: srun --ch-image=IMAGE COMMAND\n\
             Each option is also a variable: --private-tmp is CH_PRIVATE_TMP.\n\
             Exit status: the command's own; 125 if the container cannot be created, 126 if the command \
             cannot be run, 127 if it is not in the container.\n\
             The manual: man chariot, man chariot-slurm, man chariot.toml; or chariot man PAGE.",
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
                .help("the site configuration file"),
        )
        .subcommand(
            Command::new("run")
                .about("Run a command in an image")
                .defer(|run| with_options(run).arg(image()).arg(own_or_words())),
        )
        .subcommand(
            Command::new("shell")
                .about("Start an interactive shell in an image")
                .defer(|shell| with_options(shell).arg(image())),
        )
        .subcommand(
            Command::new("exec")
                .about("Run a command in the container of a running process or job of yours")
                .defer(exec::arguments),
        )
        .subcommand(ps::command())
        .subcommand(
            Command::new("explain")
                .about("Show what `run` would do, and do nothing")
                .defer(|explain| with_options(explain).arg(image()).arg(own_or_words())),
        )
        .subcommand(check::command())
        .subcommand(pull::command())
        .subcommand(build::command())
        .subcommand(convert::pack_command())
        .subcommand(convert::unpack_command())
        .subcommand(convert::export_command())
        .subcommand(images::images_command())
        .subcommand(df::command())
        .subcommand(inspect::command())
        .subcommand(images::remove_command())
        .subcommand(images::collect_command())
        .subcommand(pull::resolve_command())
        .subcommand(login::login_command())
        .subcommand(login::logout_command())
        .subcommand(edf::command())
        .subcommand(
            Command::new("completions").about("Print a completion script for a shell").arg(
                Arg::new("shell")
                    .value_name("SHELL")
                    .help("bash, zsh, fish, elvish or powershell")
                    .required(true)
                    .value_parser(value_parser!(clap_complete::Shell)),
            ),
        )
        .subcommand(manual::command())
        .subcommand(documentation::help_command())
        .subcommand(completion::complete_command())
        .subcommand(open::command())
        .subcommand(step::command())
        .subcommand(task::command())
}

fn image() -> Arg {
    Arg::new("image-word")
        .value_name("IMAGE")
        .required_unless_present("edf")
        .add(completion::images())
        .help(
            "a file or directory, a name in the image store, or docker://NAME; left out with --edf",
        )
}

fn command_words() -> Arg {
    Arg::new("command")
        .value_name("COMMAND")
        .value_parser(value_parser!(OsString))
        .num_args(1..)
        .required(true)
        .trailing_var_arg(true)
        .allow_hyphen_values(true)
        .help("the command and its arguments")
}

fn own_or_words() -> Arg {
    command_words()
        .required(false)
        .help("the command and its arguments; without one, the image's own command runs")
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
        .add(completion::values(row))
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::asked::typed;
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
            ["home=yes", "root=no", "image=/here/i", "bind=/a:/a"]
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
