//! Commands of the host that can be called in a container of a Slurm job: which, and where they are seen.

use std::path::{Path, PathBuf};

use super::Task;
use crate::host::Host;
use crate::image::Image;
use crate::mount::{Mount, MountSource};
use chariot_core::config::Config;
use chariot_core::options::Options;

/// The launcher in that directory: all names there lead to it.
pub const PROGRAM: &str = "chariot";
/// The socket beside it, by which it reaches the agent outside.
pub const SOCKET: &str = "agent";

/// What they are called.
const NAME: &str = "chariot-commands";

/// Files that every container has; an image that lacks one gets a layer over its /etc, in which one more entry is free.
const OF_ETC: [&str; 3] = ["/etc/hosts", "/etc/resolv.conf", "/etc/machine-id"];

/// Directories that most images have and that are mostly empty: nothing of those has to be seen through a layer.
const EMPTY: [&str; 3] = ["/srv", "/media", "/mnt"];

/// Others that most images have. A new entry in "/" would take a mount for each that is there.
const OTHERS: [&str; 2] = ["/run", "/etc"];

const ORIGIN: &str = "the host's Slurm commands (host_commands)";

/// Commands that are handed to the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostCommands {
    /// Their names.
    pub names: Vec<String>,
    /// Where in the container they are; the last directory of PATH.
    pub directory: PathBuf,
    /// The launcher's own file.
    launcher: PathBuf,
}

impl HostCommands {
    /// Decides; none outside a job, in a task of its own of a step, if the site says so, or where this program needs libraries that an image has not.
    pub(super) fn plan(
        options: &Options,
        config: &Config,
        host: &Host,
        image: &Image,
        task: &Task,
    ) -> Option<HostCommands> {
        // A hundred tasks that are a hundred times `chariot run` would have as many agents.
        if !(task.is_of_step || host.is_in_script()) {
            return None;
        }
        if config.host_commands.is_empty() || !cfg!(target_feature = "crt-static") {
            return None;
        }
        Some(HostCommands {
            names: config.host_commands.clone(),
            directory: parent(options, host, image).join(NAME),
            launcher: launcher()?,
        })
    }

    /// What shows them.
    pub(super) fn mounts(&self) -> [Mount; 2] {
        let names = MountSource::Commands(self.names.clone());
        let launcher = MountSource::Host(self.launcher.clone());
        [
            Mount::own(names, &self.directory, ORIGIN),
            Mount::own(launcher, self.directory.join(PROGRAM), ORIGIN),
        ]
    }
}

/// Where they cost least, and nothing that is mounted later hides them.
fn parent(options: &Options, host: &Host, image: &Image) -> &'static Path {
    let has = |path: &&str| image.has(Path::new(path));
    let is_empty = |path: &&str| has(path) && !image.has_own(Path::new(path));
    let binds = options.binds.iter().map(|bind| &bind.value.destination);
    let others = [host.directory.as_ref(), Some(&host.user.home)];
    // Nothing is ever bound on "/".
    let is_bound = |path: &&PathBuf| path.as_path() != Path::new("/");
    let hiding = binds.chain(others.into_iter().flatten()).filter(is_bound);
    let hiding: Vec<&PathBuf> = hiding.collect();
    let is_seen = |path: &&str| {
        !hiding
            .iter()
            .any(|above| Path::new(path).starts_with(above))
    };
    let in_layer = Some("/etc").filter(|etc| has(etc) && !OF_ETC.iter().all(has));
    let empty = EMPTY.into_iter().filter(is_empty);
    let others = OTHERS.into_iter().filter(has);
    let mut places = in_layer.into_iter().chain(empty).chain(others);
    Path::new(places.find(is_seen).unwrap_or("/"))
}

/// The file of this program. While it is being replaced, the one that has its place now.
fn launcher() -> Option<PathBuf> {
    let path = std::env::current_exe().ok()?;
    let text = path.to_str()?;
    Some(PathBuf::from(
        text.strip_suffix(" (deleted)").unwrap_or(text),
    ))
}
