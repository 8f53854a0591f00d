//! `chariot man`: the manual's pages, made of the command line, the option table and the site configuration file as it
//! is shipped, so that none of them can say something else.

mod roff;
mod site;

use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command};

use super::documentation::TOPIC_SLURM;
use crate::print;
use chariot_core::error::{Exit, Result};
use chariot_core::options::table::{self, OptionRow, Shape};
use roff::Page;

type Make = fn() -> String;

/// The manual's pages, and what makes them.
const PAGES: [(&str, Make); 3] = [
    ("chariot", launcher),
    ("chariot-slurm", slurm),
    ("chariot.toml", site::page),
];

pub(super) fn command() -> Command {
    Command::new("man")
        .about("Print a page of the manual, in roff")
        .arg(
            Arg::new("page")
                .value_name("PAGE")
                .help("which page")
                .value_parser(PAGES.map(|(name, _)| name))
                .default_value(PAGES[0].0),
        )
}

/// `chariot man PAGE`.
pub(super) fn man(matches: &ArgMatches) -> Result<ExitCode> {
    let name = matches
        .get_one::<String>("page")
        .map_or(PAGES[0].0, String::as_str);
    let make = PAGES
        .iter()
        .find(|(known, _)| *known == name)
        .map_or(PAGES[0].1, |page| page.1);
    print::own_text(&make())
}

fn launcher() -> String {
    let mut whole = super::command();
    // Some of it is put together only now.
    whole.build();
    let about = "run a command in a container of your choice, without privilege";
    let mut page = Page::new("chariot", 1, about);
    page.section("SYNOPSIS");
    let commands: Vec<&Command> = whole
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
        .collect();
    let usages = commands.iter().flat_map(|command| usages(command));
    page.text(
        &usages
            .map(|usage| format!("  {usage}\n"))
            .collect::<String>(),
    );
    page.section("DESCRIPTION");
    page.text(DESCRIPTION);
    page.section("COMMANDS");
    for command in commands {
        describe(&mut page, command);
    }
    page.section("OPTIONS");
    page.text("`run`, `shell` and `explain` take all of these. Every command takes `--config`.");
    let config = whole
        .get_arguments()
        .filter(|argument| argument.get_id() == "config");
    config.for_each(|argument| of_argument(&mut page, argument));
    let rows = table::TABLE
        .iter()
        .filter(|row| row.name != "image" && !row.slurm_only);
    rows.for_each(|row| of_row(&mut page, row, &format!("--{}", row.name)));
    page.section("EXAMPLES");
    examples(&mut page, EXAMPLES);
    page.section("FILES");
    items(&mut page, FILES);
    page.section("ENVIRONMENT");
    page.text("Each option is also a variable; what is typed is stronger.");
    variables(&mut page, |row| !row.slurm_only);
    items(&mut page, VARIABLES);
    page.section("EXIT STATUS");
    statuses(&mut page);
    items(
        &mut page,
        &[(
            "1",
            "of `chariot check`: something is missing that containers need, or Slurm to have the plugin; `--node` and `--login` say what this machine is for",
        )],
    );
    page.section("SEE ALSO");
    page.text("`chariot-slurm`(1), `chariot.toml`(5), `srun`(1), `user_namespaces`(7), `mount_namespaces`(7)");
    page.finish()
}

/// How a command is called, or each of those below it.
fn usages(command: &Command) -> Vec<String> {
    let mut command = command.clone();
    if command.has_subcommands() {
        return command.get_subcommands().flat_map(usages).collect();
    }
    let usage = command.render_usage().to_string();
    vec![usage.trim_start_matches("Usage: ").to_owned()]
}

/// A command, and those of its options that are not everybody's.
fn describe(page: &mut Page, command: &Command) {
    page.subsection(command.get_bin_name().unwrap_or(command.get_name()));
    let about = command.get_long_about().or(command.get_about());
    let about = about.map(ToString::to_string).unwrap_or_default();
    page.text(&format!("{}.", about.trim_end_matches('.')));
    let known = |name: &str| name == "config" || name == "help" || table::find(name).is_some();
    // What runs an image has the table's options; `exec` and `pack` have some.
    let own = command.get_arguments().filter(|argument| {
        !argument.is_hide_set()
            && (!known(argument.get_id().as_str()) || is_single(command, argument))
    });
    for argument in own {
        match table::find(argument.get_id().as_str()) {
            Some(row) => of_row(page, row, &format!("--{}", row.name)),
            None => of_argument(page, argument),
        }
    }
    let below = command
        .get_subcommands()
        .filter(|command| !command.is_hide_set());
    below.for_each(|command| describe(page, command));
}

/// Whether an option of the table is one of few that a command has.
fn is_single(command: &Command, argument: &Arg) -> bool {
    let runs = command
        .get_arguments()
        .any(|argument| argument.get_id() == "image-word");
    !runs && table::find(argument.get_id().as_str()).is_some()
}

fn of_argument(page: &mut Page, argument: &Arg) {
    let values = argument
        .get_value_names()
        .filter(|_| argument.get_action().takes_values());
    let value = values
        .and_then(|names| names.first())
        .map(ToString::to_string);
    let name = match (argument.get_short(), argument.get_long()) {
        (Some(short), Some(long)) => format!("-{short}, --{long}"),
        (Some(short), None) => format!("-{short}"),
        (None, Some(long)) => format!("--{long}"),
        (None, None) => String::new(),
    };
    let is_optional = argument
        .get_num_args()
        .is_some_and(|range| range.min_values() == 0);
    let term = match (name.as_str(), value) {
        ("", value) => value.unwrap_or_else(|| argument.get_id().to_string()),
        (name, Some(value)) if is_optional => format!("{name}[={value}]"),
        (name, Some(value)) => format!("{name} {value}"),
        (name, None) => name.to_owned(),
    };
    let help = argument.get_long_help().or(argument.get_help());
    let mut text = sentence(&help.map(ToString::to_string).unwrap_or_default());
    if let [default, ..] = argument.get_default_values()
        && argument.get_action().takes_values()
    {
        text += &format!("\n\nDefault: `{}`", default.to_string_lossy());
    }
    page.item(&[term], &text);
}

fn of_row(page: &mut Page, row: &OptionRow, name: &str) {
    let term = match row.shape {
        Shape::Word | Shape::List => format!("{name} {}", row.value),
        Shape::Switch | Shape::SwitchOrValue => format!("{name}[={}]", row.value),
    };
    page.item(&[term], &format!("{}\n\n{}", sentence(row.short), row.long));
}

/// Help in one line as a sentence.
fn sentence(help: &str) -> String {
    let mut characters = help.chars();
    let first = characters
        .next()
        .map(|first| first.to_uppercase().to_string());
    let rest = characters.as_str();
    let end = if rest.is_empty() || rest.ends_with(['.', ':', '\n']) {
        ""
    } else {
        "."
    };
    format!("{}{rest}{end}", first.unwrap_or_default())
}

fn items(page: &mut Page, items: &[(&str, &str)]) {
    for (name, text) in items {
        page.item(&[(*name).to_owned()], &sentence(text));
    }
}

fn examples(page: &mut Page, examples: &[(&str, &str)]) {
    for (command, why) in examples {
        page.text(&format!("{why}:\n  {command}"));
    }
}

fn variables(page: &mut Page, is_wanted: impl Fn(&OptionRow) -> bool) {
    let names = table::TABLE
        .iter()
        .filter(|row| row.name != "image" && is_wanted(row));
    let names: Vec<_> = names.map(OptionRow::variable).collect();
    page.item(
        &names,
        "As the options of these names. Items of a list are separated by line ends.",
    );
}

fn statuses(page: &mut Page) {
    page.text("The command's own, and of Chariot:");
    for (exit, meaning) in [
        (Exit::Container, "the container cannot be created"),
        (Exit::CannotRun, "the command cannot be run"),
        (Exit::NotFound, "the command is not in the container"),
    ] {
        page.item(&[exit.code().to_string()], &sentence(meaning));
    }
}

/// The options of srun, sbatch and salloc.
fn slurm() -> String {
    let about = "options of srun, sbatch and salloc that run a job in a container";
    let mut page = Page::new("chariot-slurm", 1, about);
    page.section("SYNOPSIS");
    page.text("  srun --ch-image=IMAGE [--ch-OPTION...] COMMAND\n  sbatch --ch-image=IMAGE [--ch-OPTION...] SCRIPT\n  salloc --ch-image=IMAGE [--ch-OPTION...]");
    page.section("DESCRIPTION");
    page.text(TOPIC_SLURM);
    page.section("OPTIONS");
    for row in table::TABLE {
        of_row(&mut page, row, &format!("--{}", row.slurm_name()));
    }
    page.section("EXAMPLES");
    examples(&mut page, SLURM_EXAMPLES);
    page.section("FILES");
    items(&mut page, SLURM_FILES);
    page.section("ENVIRONMENT");
    page.text("Each option is also a variable; what is typed is stronger.");
    page.item(&["CH_IMAGE".into()], "The image, as `--ch-image`.");
    variables(&mut page, |_| true);
    items(
        &mut page,
        &[("CH_RUNNING", "set in a container: the image that it runs")],
    );
    page.section("EXIT STATUS");
    statuses(&mut page);
    page.section("SEE ALSO");
    page.text("`chariot`(1), `chariot.toml`(5), `srun`(1), `sbatch`(1), `salloc`(1), `spank`(8)");
    page.finish()
}

const DESCRIPTION: &str = "\
Chariot runs a command in an image: a directory, a SquashFS or SIF file, a tar archive, an OCI layout, or an image in a
registry. It uses user and mount namespaces only, so it needs no privilege, no daemon and no setuid helper.

The image is read-only unless you say `--writable` or `--overlay`. You are yourself inside. The host's /dev, /proc, /sys
and /tmp and your directory are visible. `chariot explain` shows all of it.

Whatever fails, one sentence says what and why, and a hint what to do; the command does not run on the host instead.
`chariot help` lists subjects that are explained: images, variables, MPI, devices and more.";

const EXAMPLES: &[(&str, &str)] = &[
    (
        "chariot run ./debian.sqfs -- cat /etc/os-release",
        "Run a command in an image that is one file",
    ),
    (
        "chariot run docker://registry.example.org/team/app:1.2 -- ./program",
        "Run one from a registry",
    ),
    (
        "chariot pull registry.example.org/team/app:1.2",
        "Fetch an image into your store, where `chariot images` lists it",
    ),
    (
        "chariot build -t app .",
        "Build an image from the Dockerfile in this directory",
    ),
    (
        "chariot pack ./tree app.sqfs",
        "Make one file of a directory",
    ),
    (
        "chariot run --bind /scratch:/data:ro ./app.sqfs -- ls /data",
        "Show a directory of the host inside, at another place",
    ),
    (
        "chariot run --root --fakeroot --overlay changes ./debian.sqfs -- apt-get install -y gcc",
        "Install packages, and keep the changes",
    ),
    (
        "chariot exec --job 42 -- gdb -p 4711",
        "Attach a debugger that is in the image to a process of a job, from the login node too",
    ),
    (
        "chariot explain ./app.sqfs -- ./program",
        "Show what would be done",
    ),
];

const FILES: &[(&str, &str)] = &[
    (
        "/etc/chariot/chariot.toml",
        "the site configuration file, see `chariot.toml`(5)",
    ),
    ("~/.local/share/chariot", "your store: images by name"),
    (
        "~/.cache/chariot",
        "your cache: images that were converted, and layers",
    ),
    ("~/.edf, /etc/edf", "environment definition files"),
    ("/etc/cdi, /var/run/cdi", "specifications of devices"),
    (
        "~/.config/containers/auth.json",
        "credentials for registries, which `chariot login` keeps; those of podman, skopeo and docker are found too",
    ),
];

const VARIABLES: &[(&str, &str)] = &[
    ("CH_RUNNING", "set in a container: the image that it runs"),
    (
        "EDF_PATH",
        "directories of environment definition files, before all others",
    ),
    (
        "XDG_DATA_HOME, XDG_CACHE_HOME",
        "move your store and your cache",
    ),
    (
        "REGISTRY_AUTH_FILE, DOCKER_CONFIG",
        "where credentials for registries are",
    ),
    (
        "https_proxy, all_proxy, no_proxy",
        "how registries are reached",
    ),
    ("SOURCE_DATE_EPOCH", "the time of an image that is packed"),
];

const SLURM_EXAMPLES: &[(&str, &str)] = &[
    (
        "srun -N4 -n64 --ch-image=./app.sqfs ./app",
        "64 tasks in an image, one container per node",
    ),
    (
        "sbatch --ch-image=docker://registry.example.org/team/app:1.2 job.sh",
        "A batch script, and all steps that it starts, in an image of a registry",
    ),
    (
        "srun --ch-image=none hostname",
        "In such a job, a step on the host",
    ),
    (
        "srun --gpus=1 --ch-image=./app.sqfs --ch-device=nvidia.com/gpu=0 ./app",
        "With a device",
    ),
];

const SLURM_FILES: &[(&str, &str)] = &[
    (
        "/etc/chariot/chariot.toml",
        "the site configuration file, see `chariot.toml`(5)",
    ),
    (
        "/etc/slurm/plugstack.conf.d/chariot.conf",
        "the line by which Slurm loads the plugin",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_has_the_sections_of_a_manual_once_and_in_order() {
        for (name, make) in PAGES {
            let page = make();
            let sections: Vec<_> = page
                .lines()
                .filter_map(|line| line.strip_prefix(".SH "))
                .collect();
            let wanted = [
                "NAME",
                "SYNOPSIS",
                "DESCRIPTION",
                "OPTIONS",
                "EXAMPLES",
                "FILES",
                "ENVIRONMENT",
                "EXIT STATUS",
                "SEE ALSO",
            ];
            let found: Vec<_> = sections
                .into_iter()
                .filter(|section| *section != "COMMANDS")
                .collect();
            assert_eq!(found, wanted, "{name}");
        }
    }

    #[test]
    fn pages_have_every_option_and_every_command() {
        let (launcher, slurm) = (launcher(), slurm());
        for row in table::TABLE {
            let name = row.name.replace('-', "\\-");
            assert!(slurm.contains(&format!("\\fB\\-\\-ch\\-{name}")), "{name}");
            let is_ours = row.name != "image" && !row.slurm_only;
            let times = launcher.matches(&format!("\n\\fB\\-\\-{name}")).count();
            assert!(times >= usize::from(is_ours), "{name}: {times}");
        }
        for command in super::super::command().get_subcommands() {
            let heading = format!(".SS \"chariot {}\"\n", command.get_name());
            assert_eq!(
                launcher.contains(&heading),
                !command.is_hide_set(),
                "{heading}"
            );
        }
    }

    #[test]
    fn examples_can_be_typed() {
        for (command, _) in EXAMPLES {
            let words = command.split(' ');
            let parsed = super::super::command().try_get_matches_from(words);
            assert!(parsed.is_ok(), "{command}: {parsed:?}");
        }
        for option in SLURM_EXAMPLES
            .iter()
            .flat_map(|(command, _)| command.split(' '))
        {
            if let Some((name, _)) = option
                .strip_prefix("--ch-")
                .and_then(|option| option.split_once('='))
            {
                assert!(table::find(name).is_some(), "{name}");
            }
        }
    }
}
