//! What an image says of itself: Charliecloud's `/ch/environment`, and the mark that Chariot leaves
//! in what it unpacks.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Image;
use crate::error::{Error, Result};

/// Where Chariot's own mark lies in an image.
pub const MARK: &str = ".chariot/image.json";

/// What an image says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Variables, in the image's order.
    pub environment: Vec<(String, String)>,
    /// Which file of the image the variables come from.
    pub environment_from: &'static str,
    /// Where its programs expect to start.
    pub working_directory: Option<PathBuf>,
    /// The digest it was pulled by, if that is known.
    pub digest: Option<String>,
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
    /// Variables.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Where to start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_directory: Option<PathBuf>,
    /// What to run.
    #[serde(default)]
    pub entrypoint: Vec<String>,
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
            metadata.environment = mark.environment.into_iter().collect();
            metadata.environment_from = "/.chariot/image.json";
            metadata.working_directory = mark.working_directory.filter(|path| path.is_absolute());
            metadata.digest = mark.digest;
        }
        if let Some(text) = image.read(Path::new("/ch/environment"))? {
            metadata.environment = assignments(&text).map_err(|(line, reason)| {
                Error::new(format!(
                    "/ch/environment:{line} in the image {}: {reason}",
                    image.word
                ))
                .hint("the file has one NAME=VALUE a line")
            })?;
            metadata.environment_from = "/ch/environment";
        }
        Ok(metadata)
    }
}

/// Reads one NAME=VALUE a line, as Charliecloud does: blank lines are skipped, and one pair of single
/// quotes around a value is taken away. Nothing else is special.
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
        let text = b"A=1\n\nB='two words'\nC=\"x\"=y\nD='\nE=\n";
        let expected = [
            ("A", "1"),
            ("B", "two words"),
            ("C", "\"x\"=y"),
            ("D", "'"),
            ("E", ""),
        ];
        let read = assignments(text).unwrap();
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
