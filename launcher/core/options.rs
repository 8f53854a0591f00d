//! What was asked for, wherever it was asked: `Options`, the first of the three stages.
//!
//! Uses of options are collected as [`Given`]s from the command line, the environment, the job and
//! the site's file, and resolved once, when all of them are known.

pub mod bind;
pub mod device;
pub mod given;
pub mod path;
pub mod size;
pub mod table;
mod values;
pub mod word;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use bind::Bind;
use device::Device;
pub use given::{Dialect, Given, Source};
use table::{OptionRow, Shape};
use values::{
    absolute, assignment, batch, checked_glob, image, pull, variable_name, writable, yes_or_no,
};

/// The size of `--writable` where none is given, in bytes.
const WRITABLE_SIZE: u64 = 1 << 30;

/// What a switch's value says, as people and other tools write it.
pub fn word_of_switch(value: &str) -> Option<bool> {
    let is_one_of = |words: [&str; 4]| words.iter().any(|word| word.eq_ignore_ascii_case(value));
    match (
        is_one_of(["yes", "true", "on", "1"]),
        is_one_of(["no", "false", "off", "0"]),
    ) {
        (false, false) => None,
        (is_on, _) => Some(is_on),
    }
}

/// Refuses `--ch-home yes ./app`: the value of a switch is attached, and what stands by itself would be taken for the command.
/// Where nothing follows it is the command: `srun --ch-home true`.
///
/// # Errors
/// The option, the word, and how the two are written.
pub fn refuse_detached(words: impl Iterator<Item = OsString>, dialect: Dialect) -> Result<()> {
    let mut option: Option<&OptionRow> = None;
    let mut words = words.take_while(|word| word != "--").peekable();
    while let Some(word) = words.next() {
        let Some(text) = word.to_str() else { continue };
        let is_size =
            |row: &OptionRow| row.shape == Shape::SwitchOrValue && size::parse(text).is_ok();
        if let Some(row) = option
            .filter(|row| word_of_switch(text).is_some() || is_size(row))
            .filter(|_| words.peek().is_some())
        {
            let option = dialect.option(row.name);
            return Err(Error::new(format!(
                "{option} {text}: the value has to be attached, and {text} would be taken for the next word"
            ))
            .hint(format!("{option}={text}; or ./{text}, if that is what you call your program")));
        }
        let mut optional = table::TABLE.iter().filter(|row| row.value_is_optional());
        option = optional.find(|row| dialect.option(row.name) == text);
    }
    Ok(())
}

/// A value and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sourced<T> {
    /// The value.
    pub value: T,
    /// Who gave it, as `chariot explain` shows it.
    pub origin: String,
}

/// Where a variable's value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Assignment {
    /// NAME and VALUE.
    Variable(String, String),
    /// A file of the host with one NAME=VALUE a line.
    File(PathBuf),
}

/// Where the script of `sbatch` runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Batch {
    /// In the container.
    #[default]
    Container,
    /// On the host.
    Host,
}

/// When a registry is asked what a name means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pull {
    /// Each time; what is known is good enough where nobody answers.
    #[default]
    Newer,
    /// Where the image is not here.
    Missing,
    /// Each time.
    Always,
    /// Not at all.
    Never,
}

impl Pull {
    const ALL: [Pull; 4] = [Pull::Newer, Pull::Missing, Pull::Always, Pull::Never];

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Pull::Newer => "newer",
            Pull::Missing => "missing",
            Pull::Always => "always",
            Pull::Never => "never",
        }
    }
}

/// What was asked for, with every word understood.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// The image as it was typed; `none` has become no image.
    pub image: Option<Sourced<String>>,
    /// Weakest first.
    pub binds: Vec<Sourced<Bind>>,
    /// Weakest first.
    pub devices: Vec<Sourced<Device>>,
    /// Take none but those, not even those that Slurm gave the step.
    pub no_other_devices: bool,
    /// Absolute.
    pub workdir: Option<Sourced<PathBuf>>,
    /// Weakest first.
    pub set_env: Vec<Sourced<Assignment>>,
    /// Globs.
    pub unset_env: Vec<Sourced<String>>,
    /// Names.
    pub keep_env: Vec<String>,
    /// Bind the home directory.
    pub home: Option<Sourced<bool>>,
    /// An empty /tmp.
    pub private_tmp: Option<Sourced<bool>>,
    /// Run the image's entrypoint before the command.
    pub entrypoint: Option<Sourced<bool>>,
    /// Bytes that may be written, if any.
    pub writable: Option<Sourced<Option<u64>>>,
    /// Where changes persist.
    pub overlay: Option<Sourced<PathBuf>>,
    /// Appear as uid 0.
    pub root: Option<Sourced<bool>>,
    /// Pretend that owners were changed.
    pub fakeroot: Option<Sourced<bool>>,
    /// Tell the tasks where they meet.
    pub pytorch: Option<Sourced<bool>>,
    /// What an environment file says for others than Chariot; explained, and else of no effect.
    pub annotations: Vec<String>,
    /// Where the batch script runs.
    pub batch: Batch,
    /// When a registry is asked.
    pub pull: Pull,
    /// Whether a job that is submitted in a job has its options.
    pub inherit: bool,
    /// Say each step.
    pub verbose: bool,
}

impl Options {
    /// Understands all uses of options together, whatever order they are in.
    ///
    /// # Errors
    /// A use that is malformed, or two that cannot both be had; the sentence names them as `dialect`
    /// spells them.
    pub fn resolve(mut givens: Vec<Given>, dialect: Dialect) -> Result<Options> {
        givens.sort_by_key(|given| given.source);
        let mut options = Options::default();
        for given in &givens {
            options
                .apply(given, dialect)
                .map_err(|reason| given.refuse(dialect, &reason))?;
        }
        options.refuse_impossible(dialect)?;
        Ok(options)
    }

    fn apply(&mut self, given: &Given, dialect: Dialect) -> std::result::Result<(), String> {
        let value = given.value.as_str();
        let origin = given.spelled(dialect);
        let switch = || -> std::result::Result<_, String> {
            let (value, origin) = (yes_or_no(value)?, origin.clone());
            Ok(Some(Sourced { value, origin }))
        };
        match given.row.name {
            "image" => self.image = image(value)?.map(|value| Sourced { value, origin }),
            "bind" => {
                // Relative sources were made absolute where they were typed; the site's have no such
                // place and start at the root.
                for value in bind::parse_list(value, Path::new("/"))? {
                    push_once(&mut self.binds, value, &origin);
                }
            }
            "device" if value == "none" => {
                self.devices.clear();
                self.no_other_devices = true;
            }
            "device" => {
                for word in value.split(',') {
                    push_once(&mut self.devices, device::parse(word)?, &origin);
                }
            }
            "workdir" => {
                let value = absolute(value)?;
                self.workdir = Some(Sourced { value, origin });
            }
            "set-env" => push_once(&mut self.set_env, assignment(value)?, &origin),
            "unset-env" => push_once(&mut self.unset_env, checked_glob(value)?, &origin),
            "keep-env" => {
                for name in value.split(',') {
                    self.keep_env.push(variable_name(name)?);
                }
            }
            "home" => self.home = switch()?,
            "entrypoint" => self.entrypoint = switch()?,
            "private-tmp" => self.private_tmp = switch()?,
            "writable" => {
                self.writable = Some(Sourced {
                    value: writable(value)?,
                    origin,
                })
            }
            "overlay" => {
                let value = absolute(value)?;
                self.overlay = Some(Sourced { value, origin });
            }
            "root" => self.root = switch()?,
            "fakeroot" => self.fakeroot = switch()?,
            "pytorch" => self.pytorch = switch()?,
            // It was replaced by what it says where it was typed.
            "edf" if value.is_empty() => return Err("no environment is named".into()),
            "edf" => {}
            "batch" => self.batch = batch(value)?,
            "pull" => self.pull = pull(value)?,
            "inherit" => self.inherit = yes_or_no(value)?,
            "verbose" => self.verbose = yes_or_no(value)?,
            // A row that nothing here reads is a mistake of ours; refusing is what fails closed.
            other => return Err(format!("{other} is not built in")),
        }
        Ok(())
    }

    fn refuse_impossible(&self, dialect: Dialect) -> Result<()> {
        let writable = self
            .writable
            .as_ref()
            .is_some_and(|writable| writable.value.is_some());
        if let (true, Some(overlay)) = (writable, &self.overlay) {
            let writable = dialect.option("writable");
            return Err(Error::new(format!(
                "use only one of {writable} (discards changes) and {} (keeps them)",
                overlay.origin
            ))
            .hint(format!("leave one out, or say {writable}=no")));
        }
        Ok(())
    }

    /// Whether the image may be changed, for now or for good.
    pub fn may_change_image(&self) -> bool {
        let writable = self.writable.as_ref();
        self.overlay.is_some() || writable.is_some_and(|writable| writable.value.is_some())
    }

    /// Whether a switch is on; off when nobody said anything.
    pub fn on(switch: &Option<Sourced<bool>>) -> bool {
        switch.as_ref().is_some_and(|switch| switch.value)
    }
}

/// Keeps the last of equal values, so that Slurm may hand us an option twice.
fn push_once<T: PartialEq>(list: &mut Vec<Sourced<T>>, value: T, origin: &str) {
    list.retain(|earlier| earlier.value != value);
    list.push(Sourced {
        value,
        origin: origin.to_owned(),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(source: Source, name: &str, value: &str) -> Given {
        Given {
            row: table::find(name).unwrap(),
            value: value.into(),
            source,
        }
    }

    fn resolve(givens: &[(Source, &str, &str)]) -> Result<Options> {
        let givens = givens
            .iter()
            .map(|(source, name, value)| given(*source, name, value));
        Options::resolve(givens.collect(), Dialect::Launcher)
    }

    #[test]
    fn every_row_of_the_table_is_understood() {
        for row in table::TABLE {
            let value = match row.name {
                "batch" => "host",
                "pull" => "missing",
                "device" => "example.com/class=name",
                "writable" | "home" | "private-tmp" | "root" | "fakeroot" | "verbose"
                | "entrypoint" | "inherit" | "pytorch" => "yes",
                _ => "/x",
            };
            resolve(&[(Source::Typed, row.name, value)]).unwrap();
        }
    }

    #[test]
    fn the_strongest_word_counts_whatever_order_they_come_in() {
        let options = resolve(&[
            (Source::Typed, "workdir", "/typed"),
            (Source::Site, "workdir", "/site"),
            (Source::Variable, "image", "/variable"),
            (Source::Inherited, "image", "/inherited"),
        ])
        .unwrap();
        assert_eq!(options.workdir.unwrap().value, PathBuf::from("/typed"));
        assert_eq!(options.image.unwrap().value, "/variable");
    }

    #[test]
    fn none_turns_an_inherited_image_off() {
        let options = resolve(&[
            (Source::Inherited, "image", "/a"),
            (Source::Typed, "image", "none"),
        ]);
        assert_eq!(options.unwrap().image, None);
    }

    #[test]
    fn lists_add_up_with_the_strongest_last() {
        let options = resolve(&[
            (Source::Typed, "set-env", "A=typed"),
            (Source::Site, "set-env", "A=site"),
            (Source::Typed, "set-env", "B=two"),
        ])
        .unwrap();
        let names: Vec<_> = options
            .set_env
            .iter()
            .map(|given| given.value.clone())
            .collect();
        let variable = |name: &str, value: &str| Assignment::Variable(name.into(), value.into());
        assert_eq!(
            names,
            [
                variable("A", "site"),
                variable("A", "typed"),
                variable("B", "two")
            ]
        );
    }

    #[test]
    fn an_option_that_slurm_hands_over_twice_counts_once() {
        let options = resolve(&[
            (Source::Typed, "bind", "/a:/b"),
            (Source::Typed, "bind", "/a:/b"),
        ]);
        assert_eq!(options.unwrap().binds.len(), 1);
    }

    #[test]
    fn a_switch_can_be_turned_off_again() {
        let options = resolve(&[(Source::Site, "home", "yes"), (Source::Typed, "home", "no")]);
        assert!(!Options::on(&options.unwrap().home));
    }

    #[test]
    fn switches_take_what_people_and_other_tools_write() {
        for (words, is_on) in [
            (["yes", "true", "on", "1", "True", "YES"], true),
            (["no", "false", "off", "0", "False", "NO"], false),
        ] {
            for word in words {
                let options = resolve(&[
                    (Source::Variable, "home", word),
                    (Source::Typed, "writable", word),
                    (Source::Site, "verbose", word),
                ])
                .unwrap();
                assert_eq!(Options::on(&options.home), is_on, "{word}");
                assert_eq!(options.verbose, is_on, "{word}");
                let bytes = options.writable.unwrap().value;
                assert_eq!(bytes, is_on.then_some(WRITABLE_SIZE), "{word}");
            }
        }
        let bytes = resolve(&[(Source::Typed, "writable", "2")])
            .unwrap()
            .writable;
        assert_eq!(bytes.unwrap().value, Some(2));
    }

    #[test]
    fn a_value_that_is_not_attached_is_told_so_and_a_command_is_not() {
        let refused = |line: &str, dialect| {
            refuse_detached(line.split(' ').map(OsString::from), dialect)
                .map_err(|error| error.to_string())
        };
        for (line, spelled) in [
            ("srun --ch-home yes ./app", "--ch-home yes"),
            ("srun -n2 --ch-root off id", "--ch-root off"),
            ("srun --ch-writable 2G id", "--ch-writable 2G"),
            ("salloc --ch-private-tmp 1 job", "--ch-private-tmp 1"),
        ] {
            let error = refused(line, Dialect::Slurm).unwrap_err();
            assert!(
                error.starts_with(&format!("{spelled}: the value has to be attached")),
                "{error}"
            );
        }
        for line in [
            "srun --ch-home ./yes",
            "srun --ch-home=yes yes",
            "srun --ch-home 2G",
            "srun --ch-home true",
            "srun --ch-root -n2 true",
            "srun --ch-image yes",
            "srun -- ./x --ch-home yes",
        ] {
            assert_eq!(refused(line, Dialect::Slurm), Ok(()), "{line}");
        }
        assert!(refused("chariot run --root yes ./x", Dialect::Launcher).is_err());
    }

    #[test]
    fn malformed_values_are_refused_with_option_text_and_reason() {
        for (name, value, expected) in [
            (
                "workdir",
                "tmp",
                "--workdir=tmp: the directory must be absolute",
            ),
            ("home", "maybe", "--home=maybe: neither yes nor no"),
            ("bind", ":/x", "--bind=:/x: no source in \":/x\""),
            ("set-env", "=x", "--set-env==x: a variable without a name"),
            ("image", "", "--image=: no image is named"),
            ("batch", "node", "--batch=node: neither container nor host"),
            ("unset-env", "[", "--unset-env=[: not a pattern"),
            ("writable", "big", "--writable=big: \"big\" is not a size"),
            (
                "keep-env",
                "A,,B",
                "--keep-env=A,,B: a variable without a name",
            ),
        ] {
            let error = resolve(&[(Source::Typed, name, value)])
                .unwrap_err()
                .to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn writable_and_overlay_exclude_each_other_unless_one_is_off() {
        let both = [
            (Source::Typed, "writable", "yes"),
            (Source::Typed, "overlay", "/o"),
        ];
        assert!(resolve(&both).is_err());
        let off = [
            (Source::Typed, "writable", "no"),
            (Source::Typed, "overlay", "/o"),
        ];
        assert!(resolve(&off).is_ok());
    }
}
