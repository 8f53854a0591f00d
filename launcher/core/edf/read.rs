//! Reading one environment definition file: strict TOML, so that a misspelt key is an error and not a mount that
//! silently is not there.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::expand::expand;
use super::{Entry, Position};
use crate::error::{Error, Result};
use crate::near::nearest;

/// The key that names the files that a file builds on.
pub(super) const BASE: &str = "base_environment";

const KEYS: [&str; 9] = [
    BASE,
    "image",
    "workdir",
    "entrypoint",
    "writable",
    "mounts",
    "devices",
    "env",
    "annotations",
];

/// All values of a file, in its order but for keys of tables, which are sorted.
pub(super) fn entries(
    file: &Path,
    text: &str,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<Entry>> {
    let reader = Reader {
        file,
        text,
        variable,
    };
    let table = DeTable::parse(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start);
        reader.at(start).error(&error.message().replace('\n', ", "))
    })?;
    let mut entries = Vec::new();
    for (key, value) in table.get_ref() {
        reader.value(key.get_ref(), key.span().start, value, &mut entries)?;
    }
    Ok(entries)
}

struct Reader<'a> {
    file: &'a Path,
    text: &'a str,
    variable: &'a dyn Fn(&str) -> Option<String>,
}

impl Reader<'_> {
    fn at(&self, offset: usize) -> Position {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line = before.rsplit('\n').next().unwrap_or_default();
        Position {
            file: self.file.to_owned(),
            line: 1 + before.matches('\n').count(),
            column: 1 + line.chars().count(),
        }
    }

    fn value(
        &self,
        key: &str,
        start: usize,
        value: &Spanned<DeValue<'_>>,
        entries: &mut Vec<Entry>,
    ) -> Result<()> {
        match key {
            "image" | "workdir" => entries.push(self.string(key, value)?),
            "entrypoint" | "writable" => {
                let at = self.at(value.span().start);
                let boolean = value.get_ref().as_bool();
                let boolean =
                    boolean.ok_or_else(|| at.error(&format!("{key} is not true or false")))?;
                entries.push(Entry {
                    key: key.to_owned(),
                    value: boolean.to_string(),
                    at,
                });
            }
            BASE if value.get_ref().is_str() => {
                let base = self.string(key, value)?;
                // An empty one is none.
                entries.extend(Some(base).filter(|base| !base.value.is_empty()));
            }
            BASE | "mounts" | "devices" => {
                let wrong = || {
                    self.at(value.span().start)
                        .error(&format!("{key} is not a list of strings"))
                };
                for item in value.get_ref().as_array().ok_or_else(wrong)? {
                    entries.push(self.string(key, item)?);
                }
            }
            "env" | "annotations" => self.table(key, value, entries)?,
            _ => return Err(self.unknown(key, start)),
        }
        Ok(())
    }

    fn string(&self, key: &str, value: &Spanned<DeValue<'_>>) -> Result<Entry> {
        let at = self.at(value.span().start);
        let text = value.get_ref().as_str();
        let text = text.ok_or_else(|| at.error(&format!("{key} is not a string")))?;
        let value = expand(text, self.variable).map_err(|reason| at.error(&reason))?;
        Ok(Entry {
            key: key.to_owned(),
            value,
            at,
        })
    }

    /// Tables within tables become keys with dots. Variables of the environment have no such.
    fn table(
        &self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        entries: &mut Vec<Entry>,
    ) -> Result<()> {
        let wrong = || {
            self.at(value.span().start)
                .error(&format!("{key} is not a table"))
        };
        for (name, value) in value.get_ref().as_table().ok_or_else(wrong)? {
            let key = format!("{key}.{}", name.get_ref());
            match value.get_ref() {
                DeValue::Table(_) if key.starts_with("annotations.") => {
                    self.table(&key, value, entries)?;
                }
                // Programs that act on annotations compare them as text.
                DeValue::Boolean(boolean) if key.starts_with("annotations.") => {
                    entries.push(Entry {
                        key,
                        value: boolean.to_string(),
                        at: self.at(value.span().start),
                    })
                }
                _ => entries.push(self.string(&key, value)?),
            }
        }
        Ok(())
    }

    fn unknown(&self, key: &str, start: usize) -> Error {
        let error = self.at(start).error(&format!("unknown key \"{key}\""));
        match nearest(key, &KEYS) {
            Some(best) => error.hint(format!("did you mean {best}?")),
            None => error.hint(format!("the keys are {}", KEYS.join(", "))),
        }
    }
}
