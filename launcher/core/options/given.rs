//! One use of an option and where it was given; and how uses travel from `srun` to the nodes.
//!
//! Slurm itself carries only the last use of an option, and loses even that with
//! `sbatch --export=NONE` before 23.11. Chariot's plugin therefore writes all uses into one
//! variable whose name begins with `SLURM_`, which every way of starting a step passes on.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::bind;
use super::path;
use super::table::{self, OptionRow, Shape};
use super::word;
use crate::error::{Error, Result};

/// The variable that carries a job's options to its nodes and to the steps it starts.
pub const CARRIER: &str = "SLURM_CHARIOT_OPTIONS";

/// The variable by which a command of Slurm's is told in which image it was called.
pub const CALLED_IN: &str = "SLURM_CHARIOT_CALLED_IN";

/// Who gave an option, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The site's file.
    Site,
    /// An environment definition file.
    Definition,
    /// The job that this step belongs to.
    Inherited,
    /// A `CH_*` variable.
    Variable,
    /// The command line.
    Typed,
}

impl Source {
    const ALL: [(Source, char); 5] = [
        (Source::Site, 's'),
        (Source::Definition, 'e'),
        (Source::Inherited, 'i'),
        (Source::Variable, 'v'),
        (Source::Typed, 't'),
    ];
}

/// Which program the user typed an option to, so that messages spell it the same way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `chariot`: `--bind`.
    Launcher,
    /// Slurm's commands: `--ch-bind`.
    Slurm,
}

impl Dialect {
    /// The option as it is typed.
    pub fn option(self, name: &str) -> String {
        match self {
            Dialect::Launcher => format!("--{name}"),
            Dialect::Slurm => format!("--ch-{name}"),
        }
    }
}

/// One use of an option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// Which option.
    pub row: &'static OptionRow,
    /// Its value; a switch without one has become `yes`.
    pub value: String,
    /// Who gave it.
    pub source: Source,
}

impl Given {
    /// A use on the command line, with relative paths made absolute from `directory`.
    ///
    /// # Errors
    /// A bind that cannot be read, or no value where one is needed.
    pub fn new(
        row: &'static OptionRow,
        value: Option<&str>,
        source: Source,
        directory: &Path,
        dialect: Dialect,
    ) -> Result<Given> {
        let value = match value {
            Some(value) => value.to_owned(),
            None if row.value_is_optional() => "yes".to_owned(),
            None => String::new(),
        };
        let given = Given { row, value, source };
        match absolute_value(&given, directory) {
            Ok(value) => Ok(Given { value, ..given }),
            Err(reason) => Err(given.refuse(dialect, &reason)),
        }
    }

    /// The option as the user gave it: `--bind`, `CH_BIND`, `bind in the site's file`.
    pub fn spelled(&self, dialect: Dialect) -> String {
        match self.source {
            Source::Typed => dialect.option(self.row.name),
            Source::Variable => self.row.variable(),
            Source::Inherited => format!("{} of the job", dialect.option(self.row.name)),
            Source::Definition => format!("{} in the environment file", self.row.key()),
            Source::Site => format!("{} in the site configuration file", self.row.key()),
        }
    }

    /// The sentence that refuses this use.
    pub fn refuse(&self, dialect: Dialect, reason: &str) -> Error {
        let (spelled, value) = (self.spelled(dialect), &self.value);
        let value_name = self.row.value;
        Error::new(format!("{spelled}={value}: {reason}")).hint(format!(
            "{} takes {value_name}",
            dialect.option(self.row.name)
        ))
    }
}

/// Makes the paths in a value absolute. The node that opens them has another working directory. What people write is
/// expanded, what files say is what these files' formats have.
fn absolute_value(given: &Given, directory: &Path) -> std::result::Result<String, String> {
    let value = given.value.as_str();
    let is_written = matches!(given.source, Source::Typed | Source::Variable);
    let meant = |path: &str| match is_written {
        true => path::expanded(path, directory),
        false => Ok(directory.join(path)),
    };
    // By components: ./img needs no dot any more.
    let joined = |path: &str| {
        let path: PathBuf = meant(path)?.components().collect();
        Ok(path.to_string_lossy().into_owned())
    };
    match given.row.name {
        "image" => word::settled(value, directory),
        "edf" if is_file_of_options(value) => joined(value),
        "overlay" if !value.is_empty() => joined(value),
        "set-env" if !value.is_empty() && !value.contains('=') => joined(value),
        "workdir" if value.starts_with(['~', '$']) => joined(value),
        "bind" => {
            let binds = bind::parse_list_with(value, meant)?;
            let binds: Vec<_> = binds.iter().map(bind::Bind::to_string).collect();
            Ok(binds.join(","))
        }
        _ => Ok(value.to_owned()),
    }
}

/// All options given as `CH_*` variables, looked up with `variable`.
///
/// # Errors
/// A variable that is not UTF-8, or that cannot be read as its option.
pub fn from_variables(
    variable: impl Fn(&str) -> Option<OsString>,
    directory: &Path,
    dialect: Dialect,
) -> Result<Vec<Given>> {
    let mut givens = Vec::new();
    for row in table::TABLE {
        let Some(value) = variable(&row.variable()) else {
            continue;
        };
        let value = value
            .into_string()
            .map_err(|_| Error::new(format!("{} is not valid UTF-8", row.variable())))?;
        let items: Vec<&str> = match row.shape {
            Shape::List => value.split('\n').filter(|item| !item.is_empty()).collect(),
            // CH_HOME= says nothing, as an unset variable does.
            _ => Some(value.as_str())
                .filter(|item| !item.is_empty())
                .into_iter()
                .collect(),
        };
        for item in items {
            givens.push(Given::new(
                row,
                Some(item),
                Source::Variable,
                directory,
                dialect,
            )?);
        }
    }
    Ok(givens)
}

/// The caller's working directory as the caller calls it: `$PWD` where that is the same directory,
/// since a path through symbolic links may be the only one that exists on another node.
pub fn working_directory() -> Option<PathBuf> {
    named_like_variable(env::var_os("PWD"))
}

/// The working directory by the name that getcwd(3) gives, in which no link is.
pub fn real_working_directory() -> Option<PathBuf> {
    env::current_dir().ok()
}

/// The working directory by the name that `pwd`, a value of `$PWD`, gives it, if it is the same.
pub fn named_like_variable(pwd: Option<OsString>) -> Option<PathBuf> {
    use std::os::unix::fs::MetadataExt;
    let real = env::current_dir().ok()?;
    let named = pwd.map(PathBuf::from).filter(|path| path.is_absolute());
    let identity = |path: &Path| path.metadata().map(|data| (data.dev(), data.ino())).ok();
    match named {
        Some(named) if identity(&named).is_some() && identity(&named) == identity(&real) => {
            Some(named)
        }
        _ => Some(real),
    }
}

/// Writes uses of options into one text for [`CARRIER`]. It has no number of a form: jobs carry it across an upgrade, so
/// what is written here is understood by all that come later, and options are added and never renamed.
pub fn encode(givens: &[Given]) -> String {
    let mut text = String::new();
    for given in givens {
        let letter = Source::ALL
            .iter()
            .find(|(source, _)| *source == given.source);
        let value = given.value.replace('\\', "\\\\").replace('\n', "\\n");
        text.push(letter.map_or('t', |(_, letter)| *letter));
        text.push_str(&format!("{}={value}\n", given.row.name));
    }
    text
}

/// Reads what [`encode`] wrote.
///
/// # Errors
/// A text that no Chariot of this version wrote.
pub fn decode(text: &str) -> Result<Vec<Given>> {
    text.lines()
        .map(|line| decode_line(line).ok_or_else(|| damaged(line)))
        .collect()
}

fn damaged(line: &str) -> Error {
    Error::new(format!(
        "{CARRIER} has a line that Chariot does not understand: \"{line}\""
    ))
    .hint("the plugin on the submitting machine and the one on this node differ; or unset it")
}

fn decode_line(line: &str) -> Option<Given> {
    let letter = line.chars().next()?;
    let source = Source::ALL.iter().find(|(_, known)| *known == letter)?.0;
    let (name, escaped) = line.get(1..)?.split_once('=')?;
    let row = table::find(name)?;
    let mut value = String::new();
    let mut characters = escaped.chars();
    while let Some(character) = characters.next() {
        value.push(match character {
            '\\' => match characters.next()? {
                'n' => '\n',
                other => other,
            },
            other => other,
        });
    }
    Some(Given { row, value, source })
}

/// Whether a word for `edf` is a file's path, and not a name to be looked for.
pub fn is_file_of_options(word: &str) -> bool {
    word.starts_with(['.', '/', '~', '$']) || word.ends_with(".toml")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(name: &str, value: &str) -> Result<Given> {
        let row = table::find(name).unwrap();
        Given::new(
            row,
            Some(value),
            Source::Typed,
            Path::new("/here"),
            Dialect::Slurm,
        )
    }

    #[test]
    fn relative_paths_are_made_absolute_where_they_are_typed() {
        for (name, value, absolute) in [
            ("image", "./img", "/here/img"),
            ("image", "sub/img", "/here/./sub/img"),
            ("image", "sub/img.sqfs", "/here/sub/img.sqfs"),
            ("image", "name", "name"),
            ("image", "docker://host/name", "docker://host/name"),
            ("bind", "data:/d,/x", "/here/data:/d,/x:/x"),
            ("overlay", "o", "/here/o"),
            ("set-env", "file", "/here/file"),
            ("set-env", "A=b", "A=b"),
        ] {
            assert_eq!(typed(name, value).unwrap().value, absolute);
        }
    }

    #[test]
    fn options_arrive_on_the_node_as_they_were_given() {
        let givens = vec![
            typed("image", "/i").unwrap(),
            typed("set-env", "A=line\nwith \\n and = in it").unwrap(),
            typed("bind", r"/a\,b:/c").unwrap(),
            Given {
                row: table::find("home").unwrap(),
                value: "no".into(),
                source: Source::Site,
            },
        ];
        assert_eq!(decode(&encode(&givens)).unwrap(), givens);
    }

    /// A job can wait in the queue for months, and its node has been upgraded meanwhile.
    #[test]
    fn jobs_that_0_1_0_has_queued_are_understood() {
        let queued = "sbatch=host\neimage=docker://host/x:1@sha256:00\nihome=no\n\
                      vbind=/data:/d:ro\ntset-env=A=line\\n\\\\\n";
        let given = |name: &str, value: &str, source| Given {
            row: table::find(name).unwrap(),
            value: value.into(),
            source,
        };
        let expected = [
            given("batch", "host", Source::Site),
            given("image", "docker://host/x:1@sha256:00", Source::Definition),
            given("home", "no", Source::Inherited),
            given("bind", "/data:/d:ro", Source::Variable),
            given("set-env", "A=line\n\\", Source::Typed),
        ];
        assert_eq!(decode(queued).unwrap(), expected);
        assert_eq!(encode(&expected), queued);
    }

    #[test]
    fn a_damaged_carrier_is_refused_and_never_ignored() {
        for text in ["x", "timage", "zimage=/i", "tnonsense=1", "tset-env=A\\"] {
            assert!(decode(text).is_err(), "{text}");
        }
    }

    #[test]
    fn variables_are_options_and_lists_have_a_line_each() {
        let variable = |name: &str| match name {
            "CH_IMAGE" => Some("img".into()),
            "CH_BIND" => Some("/a:/b\nc".into()),
            "CH_HOME" => Some("".into()),
            _ => None,
        };
        let givens = from_variables(variable, Path::new("/here"), Dialect::Launcher).unwrap();
        let values: Vec<_> = givens.iter().map(|given| given.value.as_str()).collect();
        assert_eq!(values, ["img", "/a:/b", "/here/c:/here/c"]);
        assert!(givens.iter().all(|given| given.source == Source::Variable));
    }

    #[test]
    fn a_refusal_spells_the_option_as_the_user_did() {
        let error = typed("bind", "/a:b").unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("--ch-bind=/a:b: the destination is not absolute")
        );
        assert!(error.advice().unwrap().contains("--ch-bind takes SRC"));
    }
}
