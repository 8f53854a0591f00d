//! Commands of the host that can be called in a container of a Slurm job: which, and where they are seen.

use std::ffi::OsStr;
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
pub(crate) const NAME: &str = "chariot-commands";

/// Files that every container has; an image that lacks one gets a layer over its /etc, in which one more entry is free.
const OF_ETC: [&str; 3] = ["/etc/hosts", "/etc/resolv.conf", "/etc/machine-id"];

/// Directories that most images have and that are mostly empty: nothing of those has to be seen through a layer.
const EMPTY: [&str; 3] = ["/srv", "/media", "/mnt"];

/// Others that most images have. A new entry in "/" would take a mount for each that is there.
const OTHERS: [&str; 2] = ["/run", "/etc"];

const ORIGIN: &str = "the host's Slurm commands (host_commands)";

/// Where programs look that were given no PATH or make their own, as profiles do: whatever else a default has, it has this.
const IN_EVERY_PATH: &str = "/usr/bin";

/// For an image without that. Its shell is busybox's, which looks in the latter; and one mount over /usr makes both.
const IN_MOST_PATHS: [&str; 2] = ["/usr/local/bin", "/usr/sbin"];

/// Commands that many nodes lack, and that nobody should find where they are not.
const SELDOM: [&str; 4] = ["sattach", "sprio", "sreport", "seff"];

/// Where an image's own may be besides its PATH.
const OWN_PLACES: [&str; 7] = [
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
    "/opt/slurm/bin",
];

/// Commands that are handed to the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostCommands {
    /// Their names.
    pub names: Vec<String>,
    /// Where in the container they are; the last directory of PATH.
    pub directory: PathBuf,
    /// Directories in which a login shell and a program without variables find them too.
    found_in: Vec<&'static Path>,
    /// The names that these get: those of which the image has none.
    lacking: Vec<String>,
    /// Where Slurm's own commands are, if PATH does not say.
    pub slurm: Option<PathBuf>,
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
        let hiding = Hiding::of(options, host);
        let mut names = config.host_commands.clone();
        names.retain(|name| !SELDOM.contains(&name.as_str()) || host_has(host, task, name));
        let lacking = names.iter().filter(|name| !has_own(image, host, name));
        let lacking = lacking.cloned().collect();
        Some(HostCommands {
            directory: parent(&hiding, image).join(NAME),
            found_in: found_in(&hiding, image),
            lacking,
            names,
            slurm: task.slurm.clone(),
            launcher: launcher()?,
        })
    }

    /// What shows them.
    pub(super) fn mounts(&self) -> Vec<Mount> {
        let names = MountSource::Commands(self.names.clone());
        let launcher = MountSource::Host(self.launcher.clone());
        let mut mounts = vec![
            Mount::own(names, &self.directory, ORIGIN),
            Mount::own(launcher, self.directory.join(PROGRAM), ORIGIN),
        ];
        for place in &self.found_in {
            mounts.extend(self.lacking.iter().map(|name| {
                let target = MountSource::Name(self.directory.join(name));
                Mount::own(target, place.join(name), ORIGIN)
            }));
        }
        mounts
    }

    /// What is found where every program looks, in words.
    pub(super) fn explained(&self) -> impl Iterator<Item = String> {
        let names = self.lacking.join(", ");
        let places = self.found_in.iter().filter(|_| !self.lacking.is_empty());
        places.map(move |place| format!("{} with links to {names} ({ORIGIN})", place.display()))
    }
}

/// Whether a command is on this node.
fn host_has(host: &Host, task: &Task, name: &str) -> bool {
    let path = host.variable("PATH").unwrap_or_default();
    let places = std::env::split_paths(path).chain(task.slurm.clone());
    let mut places = places.chain(std::env::split_paths("/usr/local/bin:/usr/bin:/bin"));
    places.any(|place| place.join(name).is_file())
}

/// Whether the image has a command of that name where its programs look: its own comes first.
fn has_own(image: &Image, host: &Host, name: &str) -> bool {
    let mut own = image.metadata.environment.iter();
    let own = own
        .rfind(|(known, _)| known == "PATH")
        .map(|(_, path)| OsStr::new(path));
    let path = own.or_else(|| host.variable("PATH")).unwrap_or_default();
    let places = OWN_PLACES.map(PathBuf::from);
    let searched =
        std::env::split_paths(path).filter(|place| place.is_absolute() && !places.contains(place));
    let mut searched = searched.chain(places.clone());
    searched.any(|place| image.has(&place.join(name)))
}

/// What is mounted later, and hides what is below it.
struct Hiding(Vec<PathBuf>);

impl Hiding {
    fn of(options: &Options, host: &Host) -> Hiding {
        let binds = options.binds.iter().map(|bind| &bind.value.destination);
        let others = [host.directory.as_ref(), Some(&host.user.home)];
        let others = others.into_iter().flatten().chain(&host.places);
        // Nothing is ever bound on "/".
        let is_bound = |path: &&PathBuf| path.as_path() != Path::new("/");
        let hiding = binds.chain(others).filter(is_bound);
        Hiding(hiding.cloned().collect())
    }

    /// Whether what is at `path` can be seen.
    fn leaves(&self, path: &Path) -> bool {
        !self.0.iter().any(|above| path.starts_with(above))
    }
}

/// Directories in which they are found without PATH.
fn found_in(hiding: &Hiding, image: &Image) -> Vec<&'static Path> {
    let there = |path: &Path| image.has(path) && hiding.leaves(path);
    let always = Path::new(IN_EVERY_PATH);
    if there(always) {
        return vec![always];
    }
    if !image.has(Path::new("/usr")) {
        // What is in no directory of the image would take a mount for each entry of its root.
        return vec![Path::new("/bin")]
            .into_iter()
            .filter(|path| there(path))
            .collect();
    }
    // A link that leads nowhere may lead to what is bound yet.
    let leads_nowhere = |path: &Path| image.link(path).is_some() && !image.has(path);
    let places = IN_MOST_PATHS.into_iter().map(Path::new);
    let free = places.filter(|path| hiding.leaves(path) && !path.ancestors().any(leads_nowhere));
    free.collect()
}

/// Where they cost least, and nothing that is mounted later hides them.
fn parent(hiding: &Hiding, image: &Image) -> &'static Path {
    let has = |path: &&str| image.has(Path::new(path));
    let is_empty = |path: &&str| has(path) && !image.has_own(Path::new(path));
    let is_seen = |path: &&str| hiding.leaves(Path::new(path));
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
