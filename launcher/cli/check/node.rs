//! What one node says to `chariot check --cluster`, which runs this there as a step without a container.

use std::env;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::finding::{CONTAINERS, FUSE, Finding};
use super::site::SiteFile;
use super::{Role, file_systems, kernel, namespaces, site};
use crate::oci::Digest;
use crate::print;
use chariot_core::arguments::Arguments;
use chariot_core::error::Result;
use chariot_core::handover::{Loaded, QUESTION};
use chariot_core::open;
use chariot_core::sys::{self, helper};

/// How long the plugin's launcher may take to say its version.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many digits of a digest are shown.
const DIGITS: usize = 12;

/// A node. All fields but the name are to be the same on all nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Node {
    pub(super) name: String,
    /// The version of the plugin that Slurm has loaded there; none if it has loaded none.
    pub(super) plugin: Option<String>,
    /// The version of the program that the plugin executes; none if it cannot be executed.
    pub(super) launcher: Option<String>,
    /// The beginning of the site file's SHA-256; none if there is no file.
    pub(super) site_file: Option<String>,
    pub(super) kernel: String,
    pub(super) user_namespaces: bool,
    pub(super) fuse: bool,
    /// What keeps containers from working there, with what to do.
    pub(super) faults: Vec<String>,
    /// All nodes of the step, as Slurm writes them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) list: Option<String>,
}

/// Prints what is so on this node, in one line.
pub(super) fn report() -> Result<ExitCode> {
    let answer = env::var(QUESTION).unwrap_or_default();
    print::line_of_json(&look(Loaded::read(&answer)))
}

fn look(loaded: Option<Loaded>) -> Node {
    let mut arguments = Arguments::default();
    if let Some(loaded) = &loaded {
        arguments.config.clone_from(&loaded.config);
    }
    let site = SiteFile {
        arguments,
        is_for_root: false,
    };
    let findings: Vec<Finding> = kernel::findings()
        .into_iter()
        .chain([namespaces::finding(), file_systems::fuse()])
        .chain(site::findings(&site, Role::Node))
        .collect();
    let works = |topic| {
        findings
            .iter()
            .any(|finding: &Finding| finding.is_of(topic) && finding.ok)
    };
    let mut faults: Vec<_> = findings
        .iter()
        .filter(|finding| finding.is_fatal())
        .map(fault)
        .collect();
    let launcher = loaded
        .as_ref()
        .and_then(|loaded| version_of(&loaded.launcher));
    match &loaded {
        None => faults.push(
            "Slurm has loaded no plugin for this step: run `chariot check --node` there".into(),
        ),
        Some(Loaded {
            broken: Some(broken),
            ..
        }) => faults.push(broken.clone()),
        Some(loaded) if launcher.is_none() => {
            faults.push(format!(
                "{} cannot be executed: install `chariot` there",
                loaded.launcher.display()
            ));
        }
        Some(_) => {}
    }
    faults.sort();
    faults.dedup();
    Node {
        name: name(),
        plugin: loaded.map(|loaded| loaded.version),
        launcher,
        site_file: digest_of(&site.arguments.config),
        kernel: sys::kernel().unwrap_or_default(),
        user_namespaces: works(CONTAINERS),
        fuse: works(FUSE),
        faults,
        list: env::var("SLURM_STEP_NODELIST").ok(),
    }
}

fn fault(finding: &Finding) -> String {
    match &finding.advice {
        Some(advice) => format!("{}: {advice}", finding.found),
        None => finding.found.clone(),
    }
}

/// The node as Slurm calls it.
fn name() -> String {
    let named = env::var("SLURMD_NODENAME").ok();
    named.unwrap_or_else(|| sys::host_name().to_string_lossy().into_owned())
}

/// What a launcher calls itself, without its name in front.
fn version_of(launcher: &Path) -> Option<String> {
    let mut command = Command::new(launcher);
    command.arg("--version");
    let said = helper::start_asking(command).ok()?.report(PATIENCE).ok()?;
    let version = said.lines().next()?.strip_prefix("chariot ")?;
    Some(version.to_owned())
}

fn digest_of(path: &Path) -> Option<String> {
    let bytes = open::read(path, kernel::LARGEST).ok()?;
    let digest = Digest::of(&bytes);
    Some(digest.hex().chars().take(DIGITS).collect())
}
