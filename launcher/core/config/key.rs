//! Values of the site's file: each is what its key wants, or an error that names the line.

use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use crate::error::{Error, Result};
use crate::near::nearest;
use crate::options::{device, size};

/// The least memory that the server of an image file works with, in bytes.
const SMALLEST_SERVER: u64 = 16 << 20;

/// A key of the file, with what is needed to say where it stands.
pub(super) struct Key<'a> {
    pub(super) text: &'a str,
    pub(super) key: &'a Spanned<std::borrow::Cow<'a, str>>,
}

impl Key<'_> {
    pub(super) fn name(&self) -> &str {
        self.key.get_ref()
    }

    pub(super) fn error(&self, reason: &str) -> Error {
        Error::new(format!(
            "line {}: {reason}",
            line_of(self.text, self.key.span().start)
        ))
    }

    pub(super) fn wrong(&self, expected: &str) -> Error {
        self.error(&format!("{} is not {expected}", self.name()))
    }

    pub(super) fn unknown(&self, known: &[&str]) -> Error {
        let error = self.error(&format!("unknown key \"{}\"", self.name()));
        match nearest(self.name(), known) {
            Some(best) => error.hint(format!("did you mean {best}?")),
            None => error.hint(format!("the keys here are {}", known.join(", "))),
        }
    }

    pub(super) fn boolean(&self, value: &DeValue<'_>) -> Result<bool> {
        value.as_bool().ok_or_else(|| self.wrong("true or false"))
    }

    pub(super) fn string(&self, value: &DeValue<'_>) -> Result<String> {
        value
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| self.wrong("a string"))
    }

    pub(super) fn strings(&self, value: &DeValue<'_>) -> Result<Vec<String>> {
        let items = value
            .as_array()
            .ok_or_else(|| self.wrong("a list of strings"))?;
        items
            .iter()
            .map(|item| item.get_ref().as_str().map(str::to_owned))
            .collect::<Option<_>>()
            .ok_or_else(|| self.wrong("a list of strings"))
    }

    pub(super) fn directories(&self, value: &DeValue<'_>) -> Result<Vec<PathBuf>> {
        let directories: Vec<PathBuf> = self
            .strings(value)?
            .into_iter()
            .map(PathBuf::from)
            .collect();
        match directories.iter().all(|directory| directory.is_absolute()) {
            true => Ok(directories),
            false => Err(self.wrong("a list of absolute paths")),
        }
    }

    /// Names of programs, without directories.
    pub(super) fn names(&self, value: &DeValue<'_>) -> Result<Vec<String>> {
        let names = self.strings(value)?;
        let is_name = |name: &String| {
            !matches!(name.as_str(), "" | "." | "..") && !name.contains(['/', '\0'])
        };
        match names.iter().all(is_name) {
            true => Ok(names),
            false => Err(self.wrong("a list of names without directories")),
        }
    }

    /// A kind of devices.
    pub(super) fn kind(&self, value: &DeValue<'_>) -> Result<String> {
        let kind = self.string(value)?;
        device::check_kind(&kind).map_err(|reason| self.error(&reason))?;
        Ok(kind)
    }

    pub(super) fn absolute(&self, value: &DeValue<'_>) -> Result<PathBuf> {
        let path = PathBuf::from(self.string(value)?);
        match path.is_absolute() {
            true => Ok(path),
            false => Err(self.wrong("an absolute path")),
        }
    }

    pub(super) fn one_of(&self, value: &DeValue<'_>, words: &[&str]) -> Result<String> {
        let word = self.string(value)?;
        if words.contains(&word.as_str()) {
            return Ok(word);
        }
        Err(self.wrong(&format!("one of {}", words.join(", "))))
    }

    /// A list of words, each of those that are known.
    pub(super) fn some_of(&self, value: &DeValue<'_>, words: &[&str]) -> Result<Vec<String>> {
        let list = self.strings(value)?;
        match list.iter().all(|word| words.contains(&word.as_str())) {
            true => Ok(list),
            false => Err(self.wrong(&format!("a list of {}", words.join(", ")))),
        }
    }

    pub(super) fn seconds(&self, value: &DeValue<'_>) -> Result<Duration> {
        let number: Option<u64> = match value {
            DeValue::Integer(number) => number.as_str().parse().ok(),
            _ => None,
        };
        number
            .filter(|seconds| (1..=86_400).contains(seconds))
            .map(Duration::from_secs)
            .ok_or_else(|| self.wrong("a number of seconds from 1 to 86400"))
    }

    /// An amount of memory that a server can work with.
    pub(super) fn size(&self, value: &DeValue<'_>) -> Result<u64> {
        let bytes = size::parse(&self.string(value)?).map_err(|reason| self.error(&reason))?;
        match bytes >= SMALLEST_SERVER {
            true => Ok(bytes),
            false => Err(self.wrong("16M or more")),
        }
    }

    pub(super) fn each(
        &self,
        value: &DeValue<'_>,
        mut apply: impl FnMut(&Key<'_>, &DeValue<'_>) -> Result<()>,
    ) -> Result<()> {
        let table = value.as_table().ok_or_else(|| self.wrong("a table"))?;
        for (key, value) in table {
            apply(
                &Key {
                    text: self.text,
                    key,
                },
                value.get_ref(),
            )?;
        }
        Ok(())
    }
}

/// The line of a byte of the text.
pub(super) fn line_of(text: &str, offset: usize) -> usize {
    1 + text
        .bytes()
        .take(offset)
        .filter(|byte| *byte == b'\n')
        .count()
}
