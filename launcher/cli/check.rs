//! `chariot check`: walks the host and says what works, what is missing and what to do. What can be tried is tried, and
//! of Slurm is said what Slurm does.

mod cluster;
mod file_systems;
pub(super) mod finding;
mod kernel;
mod library;
mod namespaces;
mod node;
mod plugin;
mod plugstack;
mod site;
mod slurm;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::parser::ValueSource;
use clap::{Arg, ArgGroup, ArgMatches, Command};
use serde::Serialize;

use super::asked::config_path;
use super::progress::Display;
use super::{flag, mpi};
use crate::cache::Access;
use crate::host::Host;
use crate::locate;
use crate::print;
use chariot_core::arguments::Arguments;
use chariot_core::config::Config;
use chariot_core::error::Result;
use chariot_core::options::Pull;
use chariot_core::options::given;
use finding::Finding;
use site::SiteFile;
use slurm::Slurm;

/// What the machine is for, which decides what it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Role {
    /// Containers, and if Slurm is to have the plugin, the plugin.
    Any,
    /// Containers, in Slurm.
    Node,
    /// Slurm's commands with the plugin's options; containers run elsewhere.
    Login,
}

/// What JSON has. Names stay; there may be more of them.
#[derive(Debug, Serialize)]
struct Report<'a> {
    ok: bool,
    role: Role,
    findings: &'a [Finding],
}

pub(super) fn command() -> Command {
    Command::new("check")
        .about("Check this machine, all nodes of a job, or an image's MPI")
        .arg(
            Arg::new("image").value_name("IMAGE").add(super::completion::images()).help(
                "check the MPI of this image, and what Slurm offers it, instead of the machine",
            ),
        )
        .arg(flag("node", "this is a compute node: Slurm has to load the plugin here"))
        .arg(flag("login", "this is a login node: Slurm's commands have to have the plugin; containers need not work"))
        .arg(flag("cluster", "compare all nodes of the job, or those that SRUN-OPTIONS name"))
        .arg(flag("report", "print what a node says to --cluster").hide(true))
        .group(ArgGroup::new("what").args(["image", "node", "login", "cluster", "report"]))
        .arg(flag("json", "print the findings as JSON"))
        .arg(
            Arg::new("srun")
                .value_name("SRUN-OPTIONS")
                .value_parser(clap::value_parser!(OsString))
                .num_args(1..)
                .last(true)
                .requires("cluster")
                .help("options of srun by which --cluster gets its nodes: -N4 -p main"),
        )
}

/// Looks at everything, prints it, and exits with 1 if something is missing.
pub(super) fn check(matches: &ArgMatches) -> Result<ExitCode> {
    if matches.get_flag("cluster") {
        return cluster::check(matches);
    }
    let role = match (matches.get_flag("node"), matches.get_flag("login")) {
        (true, _) => Role::Node,
        (_, true) => Role::Login,
        _ => Role::Any,
    };
    if matches.get_flag("report") {
        return node::report();
    }
    let findings = match matches.get_one::<String>("image") {
        Some(word) => of_image(word, config_path(matches))?,
        None => of_machine(matches, role),
    };
    let ok = !findings.iter().any(Finding::is_fatal);
    match matches.get_flag("json") {
        true => print::json(&Report {
            ok,
            role,
            findings: &findings,
        })?,
        false => print::lines(findings.iter().flat_map(Finding::lines))?,
    };
    Ok(ExitCode::from(u8::from(!ok)))
}

fn of_machine(matches: &ArgMatches, role: Role) -> Vec<Finding> {
    let slurm = Slurm::ask();
    let runs_here = role != Role::Login;
    let mut findings = kernel::findings();
    findings.extend([
        namespaces::finding(),
        file_systems::overlay(),
        file_systems::fuse(),
    ]);
    findings.extend(kernel::memory_of_others());
    for finding in &mut findings {
        finding.needed &= runs_here;
    }
    findings.push(site::user());
    findings.extend(plugin::findings(slurm.as_ref(), role));
    findings.extend(site::findings(&site_file(matches, slurm.as_ref()), role));
    findings
}

/// The site's file that somebody has typed, or the plugin's, or where it usually lies.
fn site_file(matches: &ArgMatches, slurm: Option<&Slurm>) -> SiteFile {
    let is_typed = matches.value_source("config") == Some(ValueSource::CommandLine);
    let line = slurm.and_then(|slurm| Some((slurm, slurm.stack.line.as_ref()?)));
    match line {
        Some((slurm, line)) if !is_typed => SiteFile {
            arguments: plugin::arguments(line),
            is_for_root: slurm.is_roots,
        },
        _ => SiteFile {
            arguments: Arguments {
                config: config_path(matches).to_owned(),
                ..Arguments::default()
            },
            is_for_root: false,
        },
    }
}

fn of_image(word: &str, config: &Path) -> Result<Vec<Finding>> {
    let config = Config::load(config)?;
    let host = Host::look(std::env::vars_os().collect(), given::working_directory());
    let mut display = Display::new(false);
    let mut access = Access {
        may_fetch: true,
        may_ask: true,
        pull: Pull::default(),
        see: &mut |progress| display.see(progress),
    };
    let image = locate::image_typed(word, &config, &host, &mut access);
    display.end();
    Ok(mpi::findings(&image?))
}
