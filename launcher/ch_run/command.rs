//! ch-run's command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Arg, ArgAction, Command, value_parser};

/// What an option takes.
#[derive(Debug, Clone, Copy)]
enum Takes {
    Nothing,
    /// Nothing, and each use counts.
    Again,
    Text(&'static str),
    Path(&'static str),
    Number(&'static str),
    /// A value, any number of times.
    Values(&'static str),
    /// The same, each with or without a value, which stands after an equals sign.
    MayValues(&'static str),
}

use Takes::{Again, MayValues, Nothing, Number, Path, Text, Values};

type Row = (&'static str, char, Takes, &'static str);

/// No short form.
const NONE: char = ' ';

/// Name, short form, value, help.
const OPTIONS: [Row; 27] = [
    (
        "bind",
        'b',
        Values("SRC[:DST]"),
        "mount SRC at DST, its own path when left out",
    ),
    ("cd", 'c', Path("DIR"), "start there; / when left out"),
    (
        "cdi-dirs",
        NONE,
        Text("PATHS"),
        "where specifications of devices are, with : between them",
    ),
    (
        "device",
        NONE,
        Values("KIND|FILE"),
        "all devices of a kind, or of a specification",
    ),
    ("devices", 'd', Nothing, "all devices that are specified"),
    (
        "env-no-expand",
        NONE,
        Nothing,
        "take $ in --set-env as it stands",
    ),
    (
        "feature",
        NONE,
        Text("FEAT"),
        "exit with 0 if this is built in",
    ),
    ("gid", 'g', Number("GID"), "the group ID inside"),
    (
        "home",
        NONE,
        Nothing,
        "mount your home at /home/$USER; implies --write-fake",
    ),
    (
        "join",
        'j',
        Nothing,
        "share one container with the step's other tasks on this node",
    ),
    ("join-ct", NONE, Number("N"), "how many tasks share it"),
    (
        "join-pid",
        NONE,
        Number("PID"),
        "join the container of a running process",
    ),
    ("join-tag", NONE, Text("TAG"), "the name of those who share"),
    (
        "mount",
        'm',
        Text("DIR"),
        "of no effect: a SquashFS image needs no mount point",
    ),
    (
        "no-passwd",
        NONE,
        Nothing,
        "leave the image's passwd and group",
    ),
    ("storage", 's', Path("DIR"), "ch-image's storage directory"),
    (
        "seccomp",
        NONE,
        Nothing,
        "let programs believe that they changed owners",
    ),
    (
        "set-env",
        NONE,
        MayValues("NAME=VALUE|FILE"),
        "set variables; alone, those of the image's /ch/environment",
    ),
    (
        "set-env0",
        NONE,
        MayValues("NAME=VALUE|FILE"),
        "the same, with records that end in NUL",
    ),
    ("private-tmp", 't', Nothing, "an empty /tmp"),
    ("uid", 'u', Number("UID"), "the user ID inside"),
    ("unset-env", NONE, Values("GLOB"), "remove variables"),
    ("unsafe", NONE, Nothing, "what ch-image does"),
    ("quiet", 'q', Again, "say less"),
    ("verbose", 'v', Again, "say more"),
    ("write", 'w', Nothing, "let the image itself be written to"),
    (
        "write-fake",
        'W',
        MayValues("SIZE"),
        "let changes be made, and throw them away",
    ),
];

/// The whole command line.
pub(super) fn command() -> Command {
    let help = Arg::new("help")
        .long("help")
        .short('?')
        .action(ArgAction::Help);
    let image = Arg::new("image")
        .value_name("IMAGE")
        .value_parser(value_parser!(OsString));
    let words = Arg::new("command")
        .value_name("COMMAND")
        .value_parser(value_parser!(OsString))
        .num_args(1..)
        .trailing_var_arg(true)
        .allow_hyphen_values(true);
    Command::new("ch-run")
        .about("Run a command in a container: Charliecloud's command, by chariot")
        .version(concat!("chariot ", env!("CARGO_PKG_VERSION")))
        .disable_help_flag(true)
        .arg(help.help("print this"))
        .args(OPTIONS.iter().map(option))
        .arg(image.help("a directory or SquashFS file, or a name in the storage directory"))
        .arg(words.help("the command and its arguments"))
}

fn option((name, short, takes, help): &'static Row) -> Arg {
    let option = Arg::new(*name)
        .long(*name)
        .help(*help)
        .hide(*name == "unsafe");
    let option = match short {
        &NONE => option,
        short => option.short(*short),
    };
    let many = |option: Arg| {
        option
            .action(ArgAction::Append)
            .value_parser(value_parser!(OsString))
    };
    match takes {
        Nothing => option.action(ArgAction::SetTrue),
        Again => option.action(ArgAction::Count),
        Text(value) => option.value_name(value),
        Path(value) => option
            .value_name(value)
            .value_parser(value_parser!(PathBuf)),
        // INT_MAX is the largest that there is.
        Number(value) => option
            .value_name(value)
            .value_parser(value_parser!(u32).range(..=i64::from(i32::MAX))),
        Values(value) => many(option).value_name(value),
        MayValues(value) => many(option)
            .value_name(value)
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value(""),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_consistent() {
        super::command().debug_assert();
    }
}
