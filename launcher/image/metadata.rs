//! What an image says of itself: the mark that Chariot leaves in what it makes, and what other programs leave.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Image;
use crate::oci::Configuration;
use chariot_core::error::{Error, Result};

pub use crate::files::MARK;

/// What an image says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Variables, in the image's order.
    pub environment: Vec<(String, String)>,
    /// Which file of the image the variables come from.
    pub environment_from: &'static str,
    /// Where its programs expect to start.
    pub working_directory: Option<PathBuf>,
    /// What it runs unless it is told otherwise, and arguments for that.
    pub entrypoint: Vec<String>,
    /// The same where there is no entrypoint.
    pub command: Vec<String>,
    /// The mark, if Chariot made the image.
    pub mark: Option<Mark>,
    /// The digest of what Chariot itself made the image of, and held against it. The mark has one too, but an image
    /// can say of itself what it likes.
    pub verified: Option<String>,
}

impl Metadata {
    /// The digest that Chariot held it against, if it did.
    pub fn digest(&self) -> Option<&str> {
        self.verified.as_deref()
    }
}

/// The mark: `/.chariot/image.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// What the image was made from, as it was named.
    pub source: String,
    /// The digest of that, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// When, in seconds since 1970.
    pub time: u64,
    /// What SOURCE_DATE_EPOCH says, where it counts: the image's time, and no file of it is newer. Not in the mark.
    #[serde(skip)]
    pub source_date: Option<u64>,
    /// Variables.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Where to start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_directory: Option<PathBuf>,
    /// What to run.
    #[serde(default)]
    pub entrypoint: Vec<String>,
    /// What to run without an entrypoint, or arguments for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// What else its maker says of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// For which machines it is, in Go's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    /// Of a directory: a digest of what was unpacked, by which it is known whether something in it was changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tree: Option<String>,
    /// The layers that it was made of, the lowest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<Layer>,
}

/// A layer that an image was made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Its digest.
    pub digest: String,
    /// Its length as it was pulled, in bytes.
    pub size: u64,
}

impl Mark {
    /// What an OCI image's configuration says.
    pub fn of_configuration(configuration: &Configuration) -> Mark {
        let defaults = &configuration.config;
        let named = |text: &String| !text.is_empty();
        Mark {
            environment: defaults
                .env
                .iter()
                .filter_map(|line| line.split_once('='))
                .filter(|(name, value)| !name.is_empty() && !value.contains('\0'))
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            working_directory: Some(&defaults.working_dir)
                .filter(|text| named(text))
                .map(PathBuf::from),
            entrypoint: defaults.entrypoint.clone(),
            command: defaults.cmd.clone(),
            labels: defaults.labels.clone(),
            architecture: Some(&configuration.architecture)
                .filter(|text| named(text))
                .cloned(),
            ..Mark::default()
        }
    }
}

impl Metadata {
    /// Reads what the image says of itself.
    ///
    /// # Errors
    /// A file that is there and cannot be understood.
    pub(super) fn read(image: &Image) -> Result<Metadata> {
        let mut metadata = Metadata::default();
        if let Some(text) = image.read(&Path::new("/").join(MARK))? {
            let mark: Mark = serde_json::from_slice(&text).map_err(|error| {
                Error::new(format!(
                    "can't understand /{MARK} in the image {}: {error}",
                    image.word
                ))
                .hint("unpack the image again, or remove the file")
            })?;
            metadata.take(mark);
        }
        if metadata.environment.is_empty() {
            metadata.read_foreign(image)?;
        }
        if let Some(text) = image.read(Path::new(CHARLIECLOUD))? {
            metadata.environment = assignments(&text).map_err(|(line, reason)| {
                Error::new(format!(
                    "{CHARLIECLOUD}:{line} in the image {}: {reason}",
                    image.word
                ))
                .hint("the file has one NAME=VALUE per line")
            })?;
            metadata.environment_from = CHARLIECLOUD;
        }
        Ok(metadata)
    }

    fn take(&mut self, mark: Mark) {
        self.environment = mark.environment.clone().into_iter().collect();
        self.environment_from = "/.chariot/image.json";
        self.working_directory = mark
            .working_directory
            .clone()
            .filter(|path| path.is_absolute());
        self.entrypoint.clone_from(&mark.entrypoint);
        self.command.clone_from(&mark.command);
        self.mark = Some(mark);
    }

    /// What other programs left in images that they made.
    fn read_foreign(&mut self, image: &Image) -> Result<()> {
        for script in APPTAINER {
            if let Some(text) = image.read(Path::new(script))? {
                self.environment.extend(exports(&text));
                self.environment_from = "/.singularity.d/env";
            }
        }
        if !self.environment.is_empty() {
            return Ok(());
        }
        // The file is pam_env(8)'s too, and whatever has no sense here is nobody's mistake.
        if let Some(text) = image.read(Path::new(ENROOT))? {
            let lines = text.split(|byte| *byte == b'\n');
            self.environment = lines
                .filter_map(|line| assignments(line).ok())
                .flatten()
                .map(|(name, value)| (name, unquoted(&value).to_owned()))
                .filter(|(name, _)| is_name(name))
                .collect();
            if !self.environment.is_empty() {
                self.environment_from = ENROOT;
            }
        }
        Ok(())
    }
}

/// Where Charliecloud, enroot and Apptainer leave an image's variables.
const CHARLIECLOUD: &str = "/ch/environment";
const ENROOT: &str = "/etc/environment";
const APPTAINER: [&str; 2] = [
    "/.singularity.d/env/10-docker2singularity.sh",
    "/.singularity.d/env/90-environment.sh",
];

fn is_name(text: &str) -> bool {
    !text.starts_with(|first: char| first.is_ascii_digit())
        && !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Without one pair of quotes around it.
fn unquoted(text: &str) -> &str {
    let within = |quote: char| text.strip_prefix(quote)?.strip_suffix(quote);
    within('"').or_else(|| within('\'')).unwrap_or(text)
}

/// What a script of Apptainer's exports, where that is text and needs no shell: `export A=b`,
/// `export A="b c"`, and `export A=${A:-"b"}`, which means b where nobody has said otherwise.
fn exports(script: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(script);
    let one = |line: &str| {
        let (name, value) = line.trim().strip_prefix("export ")?.split_once('=')?;
        let value = unquoted(value.trim());
        let default = value.strip_prefix("${").and_then(|rest| {
            rest.strip_prefix(name)?
                .strip_prefix(":-")?
                .strip_suffix('}')
        });
        let value = unquoted(default.unwrap_or(value));
        let is_text = !value.contains(['$', '`', '"', '\\']);
        (is_name(name) && is_text).then(|| (name.to_owned(), value.to_owned()))
    };
    text.lines().filter_map(one).collect()
}

/// Reads one NAME=VALUE a line, as Charliecloud does: blank lines are skipped, and one pair of single
/// quotes around a value is taken away. So are comments and `export`, which docker's and shells' files have.
///
/// # Errors
/// The number of the line and what is wrong with it.
pub fn assignments(text: &[u8]) -> std::result::Result<Vec<(String, String)>, (usize, String)> {
    let mut variables = Vec::new();
    for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
        if line.is_empty() {
            continue;
        }
        let wrong = |reason: &str| (index + 1, reason.to_owned());
        let line = std::str::from_utf8(line).map_err(|_| wrong("not valid UTF-8"))?;
        let line = line.strip_suffix('\r').unwrap_or(line).trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").map_or(line, str::trim_start);
        let (name, value) = line
            .split_once('=')
            .ok_or_else(|| wrong("no equals sign"))?;
        if name.is_empty() {
            return Err(wrong("a variable without a name"));
        }
        if line.contains('\0') {
            return Err(wrong("a NUL byte"));
        }
        let bare = value
            .strip_prefix('\'')
            .and_then(|value| value.strip_suffix('\''));
        variables.push((name.to_owned(), bare.unwrap_or(value).to_owned()));
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_file_is_read_literally() {
        let text =
            b"A=1\n\nB='two words'\nC=\"x\"=y\nD='\nE=\n# no\n  #no=x\n  export F=# \n\r\nG=x\r\n";
        let expected = [
            ("A", "1"),
            ("B", "two words"),
            ("C", "\"x\"=y"),
            ("D", "'"),
            ("E", ""),
            ("F", "# "),
            ("G", "x"),
        ];
        let read = assignments(text).unwrap();
        let read: Vec<_> = read.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        assert_eq!(read, expected);
    }

    #[test]
    fn scripts_of_apptainer_are_read_and_never_run() {
        let script = b"#!/bin/sh\nexport PATH=\"/opt/bin:/bin\"\nexport A=\"${A:-\"b c\"}\"\nexport B=${B:-x}\n\
            export C=$(rm -rf /)\nexport D=`id`\nE=1\nexport F=\"$PATH:/x\"\nexport 1G=x\n";
        let expected = [("PATH", "/opt/bin:/bin"), ("A", "b c"), ("B", "x")];
        let read = exports(script);
        let read: Vec<_> = read.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        assert_eq!(read, expected);
    }

    #[test]
    fn a_bad_line_is_named() {
        assert_eq!(assignments(b"A=1\nnothing").unwrap_err().0, 2);
        assert_eq!(
            assignments(b"\n\n=x").unwrap_err(),
            (3, "a variable without a name".into())
        );
        assert!(assignments(b"A=\xff").is_err());
        assert!(assignments(b"A=x\0y").is_err());
    }
}
