//! The site's file, `/etc/chariot/chariot.toml`: strict TOML, so that a misspelt key is an error and
//! not a setting that silently does nothing.

pub mod key;
pub mod registries;
mod syntax;
mod whose;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::{Error, Explain, Result};
use crate::open;
use crate::options::table::{self, OptionRow, Shape};
use crate::options::{Dialect, Given, Source};
use key::Key;
use registries::Registries;
pub use whose::refuse_all_but_roots;

/// Where the site's file lies unless plugstack.conf or the command line says otherwise.
pub const PATH: &str = "/etc/chariot/chariot.toml";

/// Slurm's commands that users call in jobs.
const HOST_COMMANDS: [&str; 13] = [
    "srun", "sbatch", "scancel", "squeue", "sinfo", "scontrol", "sacct", "sstat", "sbcast",
    "sattach", "sprio", "sreport", "seff",
];

/// The largest file that is read, in bytes.
const LARGEST: u64 = 1 << 20;

/// What the site decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// False turns Chariot off with a sentence.
    pub enabled: bool,
    /// How much the launcher says: `error`, `warn`, `info` or `debug`.
    pub log_level: String,
    /// How the line on each step is written.
    pub audit: Audit,
    /// Where images are looked for by name, after the user's store.
    pub image_dirs: Vec<PathBuf>,
    /// Run only what lies in `image_dirs`.
    pub only_image_dirs: bool,
    /// The user's image store, with `$HOME` and the like in it.
    pub store: String,
    /// The user's cache of converted images, likewise.
    pub cache: String,
    /// A cache that root fills and all read first.
    pub site_cache: Option<PathBuf>,
    /// How much a user's cache may hold, in bytes.
    pub cache_size: u64,
    /// Whether layers stay there once an image has been made of them.
    pub keep_layers: bool,
    /// Whether a step copies an image file to its node before it runs.
    pub stage: Stage,
    /// Where to, with `$USER` and the like in it, and how much may lie there, in bytes.
    pub stage_dir: String,
    /// See `stage_dir`.
    pub stage_size: u64,
    /// What builds images, in the order in which it is looked for.
    pub builders: Vec<String>,
    /// What is known of registries.
    pub registries: Registries,
    /// Where environment definition files are looked for by name, after the user's own directories.
    pub edf_dirs: Vec<PathBuf>,
    /// Whether an environment definition file that does not say so runs the image's entrypoint: Sarus Suite does, the
    /// CSCS Container Engine does not.
    pub edf_entrypoint: bool,
    /// Commands of the host that can be called in the container of a job.
    pub host_commands: Vec<String>,
    /// Where specifications of devices are looked for, weakest first.
    pub cdi_dirs: Vec<PathBuf>,
    /// Programs that they may have run.
    pub cdi_hooks: Vec<PathBuf>,
    /// The kind of device that Slurm's GPUs are, as VENDOR/CLASS.
    pub gpu_kind: Option<String>,
    /// Bind the caller's directory at its own path.
    pub bind_cwd: bool,
    /// Where Slurm's TaskProlog runs.
    pub task_prolog: TaskProlog,
    /// How long a task waits for the container of its step and node.
    pub wait_container: Duration,
    /// How long a step waits for an image to be fetched and converted.
    pub wait_fetch: Duration,
    /// How long a registry may be silent.
    pub wait_byte: Duration,
    /// How long a submission waits for a registry to say what a name means.
    pub wait_look_up: Duration,
    /// Directories of images that the kernel may mount, since only root can write there.
    pub kernel_mount: Vec<PathBuf>,
    /// How much memory the server of an image file may take, in bytes.
    pub server_memory: u64,
    /// The most that an image may be when it is made from another form, uncompressed, in bytes.
    pub image_size: u64,
    /// A default for each option.
    pub defaults: Vec<Given>,
}

/// How the line in slurmd's log is written that says what a step ran in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Audit {
    /// Fields, `name=value`, quoted where they are texts.
    #[default]
    Fields,
    /// One JSON object.
    Json,
}

/// From where a step runs an image file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Stage {
    /// From where it lies.
    #[default]
    None,
    /// From a copy on the node.
    Node,
}

/// Where the scripts of Slurm's TaskProlog and of `srun --task-prolog` run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TaskProlog {
    /// In the container, where they have to be visible.
    #[default]
    Container,
    /// On the host; the task enters the container after them, by one more execve(2).
    Host,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            enabled: true,
            log_level: "info".into(),
            audit: Audit::default(),
            image_dirs: Vec::new(),
            only_image_dirs: false,
            store: "$XDG_DATA_HOME/chariot".into(),
            cache: "$XDG_CACHE_HOME/chariot".into(),
            site_cache: None,
            cache_size: 50 << 30,
            keep_layers: false,
            stage: Stage::default(),
            stage_dir: "/var/tmp/chariot-$USER".into(),
            stage_size: 50 << 30,
            builders: ["docker", "podman", "buildah"].map(String::from).into(),
            registries: Registries::new(),
            edf_dirs: vec!["/etc/edf".into()],
            edf_entrypoint: false,
            host_commands: HOST_COMMANDS.map(String::from).into(),
            cdi_dirs: ["/etc/cdi", "/var/run/cdi"].map(PathBuf::from).into(),
            cdi_hooks: Vec::new(),
            gpu_kind: None,
            bind_cwd: true,
            task_prolog: TaskProlog::default(),
            wait_container: Duration::from_secs(60),
            wait_fetch: Duration::from_secs(1800),
            wait_byte: Duration::from_secs(60),
            wait_look_up: Duration::from_secs(5),
            kernel_mount: Vec::new(),
            server_memory: 64 << 20,
            image_size: 200 << 30,
            defaults: Vec::new(),
        }
    }
}

impl Config {
    /// What was asked for with the site's defaults under it: the one place where they meet.
    #[must_use]
    pub fn under(&self, givens: Vec<Given>) -> Vec<Given> {
        let defaults = self.defaults.iter().cloned();
        defaults.chain(givens).collect()
    }

    /// Reads the site's file. One that somebody named has to be there: a mistyped name would else be a site without
    /// rules. Where none is named, a site may have none.
    ///
    /// # Errors
    /// A file that cannot be read or understood, or that somebody other than root could have written
    /// while root is reading it.
    pub fn load(path: &Path) -> Result<Config> {
        match path == Path::new(PATH) {
            true => Ok(Config::look(path)?.unwrap_or_default()),
            false => Config::load_existing(path),
        }
    }

    /// Reads the site's file, which has to be there.
    ///
    /// # Errors
    /// As [`Config::load`], or there is none.
    pub fn load_existing(path: &Path) -> Result<Config> {
        Config::look(path)?.ok_or_else(|| {
            let what = cannot_use(path);
            Error::new(format!("{what}: there is none"))
                .hint("is its name right, after config= in plugstack.conf or after --config?")
        })
    }

    fn look(path: &Path) -> Result<Option<Config>> {
        Config::read(path)
            .map_err(|error| error.hint("the administrator can test the file with `chariot check`"))
    }

    fn read(path: &Path) -> Result<Option<Config>> {
        let what = || cannot_use(path);
        let file = match open::typed(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.explain(what)?,
        };
        whose::refuse_foreign(&file, path)?;
        let text = open::text_of(&file, LARGEST).explain(what)?;
        let config = Config::parse(&text).map_err(|error| error.within(&what()))?;
        Ok(Some(config))
    }

    /// Reads the text of a site's file.
    ///
    /// # Errors
    /// The line, and what is wrong with it.
    pub fn parse(text: &str) -> Result<Config> {
        let table = DeTable::parse(text).map_err(|error| syntax::mistake(text, &error))?;
        let mut config = Config::default();
        for (key, value) in table.get_ref() {
            let at = Key { text, key };
            config.apply(&at, value)?;
        }
        Ok(config)
    }

    fn apply(&mut self, at: &Key<'_>, value: &Spanned<DeValue<'_>>) -> Result<()> {
        let value = value.get_ref();
        match at.name() {
            "enabled" => self.enabled = at.boolean(value)?,
            "log_level" => {
                self.log_level = at.one_of(value, &["error", "warn", "info", "debug"])?
            }
            "image_dirs" => self.image_dirs = at.directories(value)?,
            "kernel_mount" => self.kernel_mount = at.directories(value)?,
            "only_image_dirs" => self.only_image_dirs = at.boolean(value)?,
            "store" => self.store = at.string(value)?,
            "cache" => self.cache = at.string(value)?,
            "site_cache" => {
                let path = at.absolute(value)?;
                if path.as_os_str().as_encoded_bytes().contains(&b'$') {
                    return Err(at.wrong("the same directory for everybody: it knows no variables"));
                }
                self.site_cache = Some(path);
            }
            "cache_size" => self.cache_size = at.size(value)?,
            "keep_layers" => self.keep_layers = at.boolean(value)?,
            "stage" => {
                self.stage = match at.one_of(value, &["none", "node"])?.as_str() {
                    "node" => Stage::Node,
                    _ => Stage::None,
                }
            }
            "stage_dir" => self.stage_dir = at.string(value)?,
            "stage_size" => self.stage_size = at.size(value)?,
            "builders" => self.builders = at.some_of(value, &["docker", "podman", "buildah"])?,
            "registries" => at.each(value, |at, value| {
                let registry = registries::read(at, value)?;
                self.registries.insert(at.name().to_owned(), registry);
                Ok(())
            })?,
            "edf_dirs" => self.edf_dirs = at.directories(value)?,
            "edf_entrypoint" => self.edf_entrypoint = at.boolean(value)?,
            "host_commands" => self.host_commands = at.names(value)?,
            "cdi_dirs" => self.cdi_dirs = at.directories(value)?,
            "cdi_hooks" => self.cdi_hooks = at.directories(value)?,
            "gpu" => at.each(value, |at, value| match at.name() {
                "kind" => put(&mut self.gpu_kind, Some(at.kind(value)?)),
                _ => Err(at.unknown(&["kind"])),
            })?,
            "log" => at.each(value, |at, value| match at.name() {
                "audit" => {
                    self.audit = match at.one_of(value, &["fields", "json"])?.as_str() {
                        "json" => Audit::Json,
                        _ => Audit::Fields,
                    };
                    Ok(())
                }
                _ => Err(at.unknown(&["audit"])),
            })?,
            "bind_cwd" => self.bind_cwd = at.boolean(value)?,
            "task_prolog" => {
                self.task_prolog = match at.one_of(value, &["container", "host"])?.as_str() {
                    "host" => TaskProlog::Host,
                    _ => TaskProlog::Container,
                }
            }
            "server_memory" => self.server_memory = at.size(value)?,
            "image_size" => self.image_size = at.size(value)?,
            "waits" => at.each(value, |at, value| match at.name() {
                "container" => put(&mut self.wait_container, at.seconds(value)?),
                "fetch" => put(&mut self.wait_fetch, at.seconds(value)?),
                "byte" => put(&mut self.wait_byte, at.seconds(value)?),
                "look_up" => put(&mut self.wait_look_up, at.seconds(value)?),
                _ => Err(at.unknown(&["container", "fetch", "byte", "look_up"])),
            })?,
            "defaults" => {
                at.each(value, |at, value| default(at, value, &mut self.defaults))?;
            }
            _ => {
                return Err(at.unknown(&[
                    "enabled",
                    "log_level",
                    "image_dirs",
                    "only_image_dirs",
                    "store",
                    "cache",
                    "site_cache",
                    "cache_size",
                    "keep_layers",
                    "stage",
                    "stage_dir",
                    "stage_size",
                    "builders",
                    "registries",
                    "edf_dirs",
                    "edf_entrypoint",
                    "host_commands",
                    "cdi_dirs",
                    "cdi_hooks",
                    "gpu",
                    "log",
                    "bind_cwd",
                    "task_prolog",
                    "kernel_mount",
                    "server_memory",
                    "image_size",
                    "waits",
                    "defaults",
                ]));
            }
        }
        Ok(())
    }
}

fn put<T>(place: &mut T, value: T) -> Result<()> {
    *place = value;
    Ok(())
}

/// A default of an option: a string, a boolean, or a list of strings where uses add up.
fn default(at: &Key<'_>, value: &DeValue<'_>, defaults: &mut Vec<Given>) -> Result<()> {
    let keys: Vec<String> = table::TABLE.iter().map(OptionRow::key).collect();
    let Some(row) = table::TABLE.iter().find(|row| row.key() == at.name()) else {
        return Err(at.unknown(&keys.iter().map(String::as_str).collect::<Vec<_>>()));
    };
    let values = match (row.shape, value) {
        (Shape::List, DeValue::Array(_)) => at.strings(value)?,
        (Shape::Switch | Shape::SwitchOrValue, DeValue::Boolean(yes)) => {
            vec![if *yes { "yes" } else { "no" }.to_owned()]
        }
        (Shape::Switch, _) => return Err(at.wrong("true or false")),
        _ => vec![at.string(value)?],
    };
    for value in values {
        let given = Given::new(
            row,
            Some(&value),
            Source::Site,
            Path::new("/"),
            Dialect::Launcher,
        );
        defaults.push(given.map_err(|error| at.error(&error.to_string()))?);
    }
    Ok(())
}

fn cannot_use(path: &Path) -> String {
    format!("can't use the site configuration file {}", path.display())
}

#[cfg(test)]
mod tests;
