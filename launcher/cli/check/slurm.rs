//! What Slurm here does with the plugin: where it says that its files are, what stands there, and what srun makes of it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::kernel::LARGEST;
use super::plugstack::Stack;
use chariot_core::open;
use chariot_core::sys::{self, helper};

/// How long Slurm's commands may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where slurm.conf is unless SLURM_CONF says otherwise, and where slurmd keeps what slurmctld has sent it.
const DIRECTORY: &str = "/etc/slurm";
const CONFIGLESS: &str = "/run/slurm/conf";

/// Slurm as it is configured here.
#[derive(Debug, Default)]
pub(super) struct Slurm {
    /// The file that it reads.
    pub(super) plugstack: PathBuf,
    /// Where it looks for plugins that have no path; none if that is not known.
    pub(super) plugin_dirs: Vec<PathBuf>,
    /// Whether slurmstepd, which reads the site's file, is root's.
    pub(super) is_roots: bool,
    /// Why what is looked at is not what Slurm has said, if it is not.
    pub(super) guessed: Option<String>,
    /// What is in the file.
    pub(super) stack: Stack,
    /// What srun does.
    pub(super) srun: Srun,
}

/// What `srun --help` shows of the plugin: srun loads it before it answers.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) enum Srun {
    /// There is no srun, or it says nothing.
    #[default]
    Unknown,
    /// It has the plugin's options.
    Loads,
    /// It works, and has none of them.
    DoesWithout,
    /// It does not start because of a plugin, and says why.
    Refuses(String),
    /// It does not start for a reason of its own.
    Broken(String),
}

impl Slurm {
    /// Asks. None if this machine has no Slurm.
    pub(super) fn ask() -> Option<Slurm> {
        let directory = directory();
        let has_scontrol = on_path("scontrol");
        if !has_scontrol && !on_path("srun") && !directory.is_dir() {
            return None;
        }
        let said = match has_scontrol {
            true => said_by("scontrol show config"),
            false => String::new(),
        };
        let (words, guessed) = match Words::of(&said) {
            words if words.plugstack.is_some() => (words, None),
            _ => {
                let file = directory.join("slurm.conf");
                let text = open::read_text(&file, LARGEST).unwrap_or_default();
                let why = match has_scontrol {
                    true => "`scontrol show config` does not answer",
                    false => "there is no scontrol here",
                };
                (Words::of(&text), Some(why.to_owned()))
            }
        };
        let plugstack = plugstack(&directory, words.plugstack);
        Some(Slurm {
            stack: Stack::read(&plugstack),
            plugstack,
            plugin_dirs: words.plugin_dirs,
            is_roots: words.is_roots,
            guessed,
            srun: srun(),
        })
    }
}

/// The file that Slurm reads on this machine. slurmctld names its own, which a node that has its configuration from there
/// has elsewhere.
fn plugstack(directory: &Path, named: Option<PathBuf>) -> PathBuf {
    let own = directory.join("plugstack.conf");
    if directory == Path::new(CONFIGLESS) {
        let sent = open::read_text(&directory.join("slurm.conf"), LARGEST).unwrap_or_default();
        return Words::of(&sent).plugstack.unwrap_or(own);
    }
    let named = named.filter(|path| path.exists() || !own.exists());
    named.unwrap_or(own)
}

/// What configuration of Slurm's says, as scontrol prints it or as slurm.conf has it.
#[derive(Debug, PartialEq, Eq)]
struct Words {
    plugstack: Option<PathBuf>,
    plugin_dirs: Vec<PathBuf>,
    is_roots: bool,
}

impl Words {
    fn of(text: &str) -> Words {
        let value = |name: &str| {
            text.lines().find_map(|line| {
                let line = line.split('#').next()?;
                let (key, value) = line.split_once('=')?;
                let value = value.trim();
                let is_it = key.trim().eq_ignore_ascii_case(name);
                (is_it && !value.is_empty() && value != "(null)").then_some(value)
            })
        };
        let dirs = value("PluginDir").unwrap_or_default();
        let user = value("SlurmdUser").unwrap_or("root");
        Words {
            plugstack: value("PlugStackConfig").map(PathBuf::from),
            plugin_dirs: env::split_paths(dirs)
                .filter(|dir| dir.is_absolute())
                .collect(),
            is_roots: user.split('(').next() == Some("root"),
        }
    }
}

/// Where Slurm's files are, in the order in which its commands look.
fn directory() -> PathBuf {
    if let Some(conf) = env::var_os("SLURM_CONF").map(PathBuf::from)
        && let Some(directory) = conf.parent()
    {
        return directory.to_owned();
    }
    let own = Path::new(DIRECTORY);
    match own.join("slurm.conf").exists() || !Path::new(CONFIGLESS).is_dir() {
        true => own.to_owned(),
        false => PathBuf::from(CONFIGLESS),
    }
}

fn on_path(name: &str) -> bool {
    let search = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&search).any(|directory| {
        let path = directory.join(name);
        path.is_file() && sys::may_execute(&path).is_ok()
    })
}

/// All that a command prints, in English.
fn said_by(command: &str) -> String {
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", &format!("exec {command} 2>&1")])
        .env("LC_ALL", "C");
    let helper = helper::start_asking(shell);
    helper
        .and_then(|helper| helper.report(PATIENCE))
        .unwrap_or_default()
}

fn srun() -> Srun {
    match on_path("srun") {
        true => srun_of(&said_by("srun --help")),
        false => Srun::Unknown,
    }
}

fn srun_of(said: &str) -> Srun {
    if said.contains("--ch-image") {
        return Srun::Loads;
    }
    if said.contains("Usage: srun") {
        return Srun::DoesWithout;
    }
    let lines = || said.lines().map(str::trim).filter(|line| !line.is_empty());
    let about = |part: &str| lines().find(|line| line.contains(part));
    let of_plugins = ["chariot", "spank", "lug-in"];
    if let Some(line) = of_plugins.into_iter().find_map(about) {
        return Srun::Refuses(line.to_owned());
    }
    let first = lines().next();
    first.map_or(Srun::Unknown, |line| Srun::Broken(line.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_scontrol_prints_and_what_slurm_conf_has_are_read_alike() {
        let printed = "Configuration data as of 2026-01-01T00:00:00\n\
                       PlugStackConfig         = /opt/slurm/etc/plugstack.conf\n\
                       PluginDir               = /opt/slurm/lib/slurm:/opt/more\n\
                       SlurmdUser              = root(0)\n";
        let file = "# PlugStackConfig=/no\nplugstackconfig=/opt/slurm/etc/plugstack.conf # yes\nPluginDir=/opt/slurm/lib/slurm:/opt/more\n";
        let expected = Words {
            plugstack: Some("/opt/slurm/etc/plugstack.conf".into()),
            plugin_dirs: vec!["/opt/slurm/lib/slurm".into(), "/opt/more".into()],
            is_roots: true,
        };
        assert_eq!(Words::of(printed), expected);
        assert_eq!(Words::of(file), expected);
        let none = Words::of("PlugStackConfig = (null)\nSlurmdUser = slurm(64030)\n");
        assert_eq!(
            none,
            Words {
                plugstack: None,
                plugin_dirs: vec![],
                is_roots: false
            }
        );
    }

    #[test]
    fn what_srun_says_tells_whether_it_loads_the_plugin() {
        let refused = "srun: error: spank: /x/chariot.so: Incompatible plugin version\n\
                       srun: error: Plug-in initialization failed\n";
        let plain = "Usage: srun [OPTIONS...] executable [args...]\n";
        assert_eq!(
            srun_of(&format!("{plain}  --ch-image=IMAGE\n")),
            Srun::Loads
        );
        assert_eq!(srun_of(plain), Srun::DoesWithout);
        assert_eq!(
            srun_of(refused),
            Srun::Refuses("srun: error: spank: /x/chariot.so: Incompatible plugin version".into())
        );
        let alone = "srun: fatal: Could not establish a configuration source\n";
        assert_eq!(srun_of(alone), Srun::Broken(alone.trim().into()));
        assert_eq!(srun_of(""), Srun::Unknown);
    }
}
