//! The site's file, `/etc/chariot/chariot.toml`: strict TOML, so that a misspelt key is an error and
//! not a setting that silently does nothing.

mod place;

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::{Error, Explain, Result};
use crate::options::table::{self, OptionRow, Shape};
use crate::options::{Dialect, Given, Source};
use place::{Place, line_of};

/// Where the site's file lies unless plugstack.conf or the command line says otherwise.
pub const PATH: &str = "/etc/chariot/chariot.toml";

/// The largest file that is read, in bytes.
const LARGEST: u64 = 1 << 20;

/// What the site decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// False turns Chariot off with a sentence.
    pub enabled: bool,
    /// How much the launcher says: `error`, `warn`, `info` or `debug`.
    pub log_level: String,
    /// Where images are looked for by name, after the user's store.
    pub image_dirs: Vec<PathBuf>,
    /// Run only what lies in `image_dirs`.
    pub only_image_dirs: bool,
    /// The user's image store, with `$HOME` and the like in it.
    pub store: String,
    /// The user's cache of converted images, likewise.
    pub cache: String,
    /// Bind the caller's directory at its own path.
    pub bind_cwd: bool,
    /// Where Slurm's TaskProlog runs.
    pub task_prolog: TaskProlog,
    /// How long a task waits for the container of its step and node.
    pub wait_container: Duration,
    /// Directories of images that the kernel may mount, since only root can write there.
    pub kernel_mount: Vec<PathBuf>,
    /// How much memory the server of an image file may take, in bytes.
    pub server_memory: u64,
    /// A default for each option.
    pub defaults: Vec<Given>,
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
            image_dirs: Vec::new(),
            only_image_dirs: false,
            store: "$XDG_DATA_HOME/chariot".into(),
            cache: "$XDG_CACHE_HOME/chariot".into(),
            bind_cwd: true,
            task_prolog: TaskProlog::default(),
            wait_container: Duration::from_secs(60),
            kernel_mount: Vec::new(),
            server_memory: 64 << 20,
            defaults: Vec::new(),
        }
    }
}

impl Config {
    /// Reads the site's file; one that is not there says nothing.
    ///
    /// # Errors
    /// A file that cannot be read or understood, or that somebody other than root could have written
    /// while root is reading it.
    pub fn load(path: &Path) -> Result<Config> {
        let what = || format!("can't use the site's file {}", path.display());
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Config::default()),
            file => file.explain(what)?,
        };
        if nix::unistd::geteuid().is_root() {
            refuse_foreign(&file, path)?;
        }
        let mut text = String::new();
        file.take(LARGEST).read_to_string(&mut text).explain(what)?;
        Config::parse(&text).map_err(|error| {
            error
                .within(&what())
                .hint("the administrator can test the file with `chariot check`")
        })
    }

    /// Reads the text of a site's file.
    ///
    /// # Errors
    /// The line, and what is wrong with it.
    pub fn parse(text: &str) -> Result<Config> {
        let table = DeTable::parse(text).map_err(|error| {
            let line = line_of(text, error.span().map_or(0, |span| span.start));
            Error::new(format!(
                "line {line}: {}",
                error.message().replace('\n', ", ")
            ))
        })?;
        let mut config = Config::default();
        for (key, value) in table.get_ref() {
            let at = Place { text, key };
            config.apply(&at, value)?;
        }
        Ok(config)
    }

    fn apply(&mut self, at: &Place<'_>, value: &Spanned<DeValue<'_>>) -> Result<()> {
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
            "bind_cwd" => self.bind_cwd = at.boolean(value)?,
            "task_prolog" => {
                self.task_prolog = match at.one_of(value, &["container", "host"])?.as_str() {
                    "host" => TaskProlog::Host,
                    _ => TaskProlog::Container,
                }
            }
            "server_memory" => self.server_memory = at.size(value)?,
            "waits" => at.each(value, |at, value| match at.name() {
                "container" => {
                    self.wait_container = at.seconds(value)?;
                    Ok(())
                }
                _ => Err(at.unknown(&["container"])),
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
                    "bind_cwd",
                    "task_prolog",
                    "kernel_mount",
                    "server_memory",
                    "waits",
                    "defaults",
                ]));
            }
        }
        Ok(())
    }
}

/// A default of an option: a string, a boolean, or a list of strings where uses add up.
fn default(at: &Place<'_>, value: &DeValue<'_>, defaults: &mut Vec<Given>) -> Result<()> {
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

/// Root takes orders from a file only if nobody else could have written them.
fn refuse_foreign(file: &File, path: &Path) -> Result<()> {
    let what = || format!("can't use the site's file {}", path.display());
    let data = file.metadata().explain(what)?;
    if data.uid() == 0 && data.mode() & 0o022 == 0 {
        return Ok(());
    }
    Err(
        Error::new(format!("{}: others than root can write it", what()))
            .hint(format!("chown root {0}; chmod go-w {0}", path.display())),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_that_we_ship_has_every_default_and_nothing_else() {
        let shipped = include_str!("../etc/chariot.toml");
        assert_eq!(Config::parse(shipped).unwrap(), Config::default());
        for row in table::TABLE {
            assert!(
                shipped.contains(&format!("# {} = ", row.key())),
                "{}",
                row.key()
            );
        }
    }

    #[test]
    fn a_misspelt_key_is_refused_with_its_line_and_what_was_meant() {
        let error = Config::parse("enabled = true\n\nbind_cdw = false\n").unwrap_err();
        assert_eq!(error.to_string(), "line 3: unknown key \"bind_cdw\"");
        assert_eq!(error.advice(), Some("did you mean bind_cwd?"));
        let error = Config::parse("[defaults]\nprivate-tmp = true\n").unwrap_err();
        assert_eq!(error.advice(), Some("did you mean private_tmp?"));
    }

    #[test]
    fn values_of_the_wrong_kind_are_refused_with_their_line() {
        for (text, expected) in [
            ("enabled = 1", "line 1: enabled is not true or false"),
            (
                "\nlog_level = \"loud\"",
                "line 2: log_level is not one of error, warn",
            ),
            (
                "image_dirs = [\"rel\"]",
                "line 1: image_dirs is not a list of absolute",
            ),
            (
                "[waits]\ncontainer = 0",
                "line 2: container is not a number of seconds",
            ),
            (
                "[defaults]\nhome = \"yes\"",
                "line 2: home is not true or false",
            ),
            (
                "[defaults]\nbind = [\"/a:b\"]",
                "line 2: bind in the site's file=/a:b",
            ),
            ("enabled = ", "line 1: "),
            ("enabled = true\nenabled = true", "line 2: "),
        ] {
            let error = Config::parse(text).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }

    #[test]
    fn defaults_become_the_weakest_uses_of_options() {
        let text = "[defaults]\nimage = \"debian\"\nbind = [\"/a\", \"/b\"]\nwritable = true\n";
        let config = Config::parse(text).unwrap();
        let values: Vec<_> = config
            .defaults
            .iter()
            .map(|given| given.value.as_str())
            .collect();
        assert_eq!(values.len(), 4);
        for value in ["debian", "/a:/a", "/b:/b", "yes"] {
            assert!(values.contains(&value), "{value}");
        }
        assert!(
            config
                .defaults
                .iter()
                .all(|given| given.source == Source::Site)
        );
    }

    #[test]
    fn a_missing_file_says_nothing() {
        assert_eq!(
            Config::load(Path::new("/nonexistent/chariot.toml")),
            Ok(Config::default())
        );
    }
}
