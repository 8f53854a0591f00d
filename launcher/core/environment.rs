//! The variables of a process, and changes of them.

use std::ffi::{OsStr, OsString};
use std::fmt::{self, Display, Formatter};

use serde::{Deserialize, Serialize};

use crate::text;

/// The variables of a process, in its order.
pub type Environment = Vec<(OsString, OsString)>;

/// The longest value that the kernel starts a program with, in bytes: MAX_ARG_STRLEN, execve(2), with room for a name.
/// What is [`expanded`] ends where it is longer, and cannot be set.
pub const LONGEST_VALUE: usize = 127 << 10;

/// A variable in a list of variables.
pub fn find<'a>(environment: &'a Environment, name: &str) -> Option<&'a OsStr> {
    environment
        .iter()
        .find(|(known, _)| known == name)
        .map(|(_, value)| value.as_os_str())
}

/// One change of the environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edit {
    /// The variable.
    #[serde(with = "text")]
    pub name: OsString,
    /// Its new value, or that it goes away.
    #[serde(with = "text")]
    pub value: Option<OsString>,
    /// Whether the value names variables that each task of a step has for itself, so that each expands it.
    #[serde(default)]
    pub is_each_tasks: bool,
    /// Who wanted this, as `chariot explain` shows it.
    #[serde(skip)]
    pub origin: String,
}

impl Edit {
    /// A variable that is set.
    pub fn set(name: impl Into<OsString>, value: impl Into<OsString>, origin: &str) -> Edit {
        Edit {
            name: name.into(),
            value: Some(value.into()),
            is_each_tasks: false,
            origin: origin.to_owned(),
        }
    }

    /// The same with a value that each task [expands](`expanded`) by its own variables.
    #[must_use]
    pub fn by_each_task(self) -> Edit {
        Edit {
            is_each_tasks: true,
            ..self
        }
    }

    /// The value for a task whose variables are `now`.
    pub fn value_for(&self, now: impl Fn(&str) -> Option<OsString>) -> Option<OsString> {
        let value = self.value.as_ref()?;
        match value.to_str().filter(|_| self.is_each_tasks) {
            Some(text) => Some(expanded_by(text, now)),
            None => Some(value.clone()),
        }
    }

    /// A variable that is removed.
    pub fn unset(name: impl Into<OsString>, origin: &str) -> Edit {
        Edit {
            name: name.into(),
            value: None,
            is_each_tasks: false,
            origin: origin.to_owned(),
        }
    }
}

impl Display for Edit {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let name = self.name.to_string_lossy();
        match &self.value {
            Some(value) => write!(out, "{name}={}", value.to_string_lossy())?,
            None => write!(out, "without {name}")?,
        }
        write!(out, " ({})", self.origin)
    }
}

/// A value with the variables that it names: an entry of a list with colons that is `$NAME` or `${NAME}` stands for what that
/// is `now`, and for nothing if it is not set; `\$NAME` is meant as it stands. So Charliecloud has it, without braces, and so
/// PATH is added to.
pub fn expanded(value: &str, now: &Environment) -> OsString {
    expanded_by(value, |name| find(now, name).map(OsStr::to_owned))
}

fn expanded_by(value: &str, now: impl Fn(&str) -> Option<OsString>) -> OsString {
    let (mut items, mut length) = (Vec::new(), 0);
    for item in value.split(':') {
        // Variables that name each other grow without end.
        if length > LONGEST_VALUE {
            break;
        }
        match name_in(item) {
            Some(name) => items.extend(now(name).filter(|value| !value.is_empty())),
            None => {
                let bare = item.strip_prefix('\\').filter(|bare| is_meant(bare));
                items.push(bare.unwrap_or(item).into());
            }
        }
        length = items
            .last()
            .map_or(length, |item| length.saturating_add(item.len()));
        length = length.saturating_add(1);
    }
    items.join(OsStr::new(":"))
}

/// A value that [`expanded`] gives back as it is.
pub fn literal(value: &str) -> String {
    let items = value.split(':').map(|item| match is_meant(item) {
        true => format!("\\{item}"),
        false => item.to_owned(),
    });
    items.collect::<Vec<_>>().join(":")
}

/// Whether it would be one, or be taken for one that is meant as it stands.
fn is_meant(item: &str) -> bool {
    name_in(item.trim_start_matches('\\')).is_some()
}

/// The variable that an entry names, if it is `$NAME` or `${NAME}`.
pub fn name_in(item: &str) -> Option<&str> {
    let name = item.strip_prefix('$')?;
    let in_braces = name.strip_prefix('{');
    let name = match in_braces {
        Some(rest) => rest.strip_suffix('}')?,
        None => name,
    };
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let starts = name
        .bytes()
        .next()
        .is_some_and(|first| !first.is_ascii_digit());
    (starts && name.bytes().all(is_part)).then_some(name)
}

/// The environment after all edits.
pub fn apply(environment: &Environment, edits: &[Edit]) -> Environment {
    let mut result = environment.clone();
    for edit in edits {
        // Before the old value goes: the new one may name it.
        let value = edit.value_for(|name| find(&result, name).map(OsStr::to_owned));
        result.retain(|(name, _)| *name != edit.name);
        result.extend(value.map(|value| (edit.name.clone(), value)));
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_each_task_expands_may_name_what_the_variable_was() {
        let edits = [Edit::set("A", "$A:1", "").by_each_task()];
        for was in ["0", "3"] {
            let now = apply(&vec![("A".into(), was.into())], &edits);
            assert_eq!(find(&now, "A"), Some(OsStr::new(&format!("{was}:1"))));
        }
    }

    #[test]
    fn entries_of_a_list_that_are_variables_stand_for_what_those_are() {
        let now: Environment = vec![("PATH".into(), "/a:/b".into()), ("EMPTY".into(), "".into())];
        for (value, seen) in [
            ("/x:$PATH", "/x:/a:/b"),
            ("$PATH:/x", "/a:/b:/x"),
            ("$PATH", "/a:/b"),
            ("${PATH}:/x:${NONE}", "/a:/b:/x"),
            ("${PATH:$PATH}:${}:${1}", "${PATH:$PATH}:${}:${1}"),
            ("\\${PATH}", "${PATH}"),
            ("/x:$NONE", "/x"),
            ("/x:$EMPTY:/y", "/x:/y"),
            ("cost: 5$", "cost: 5$"),
            ("$1:$", "$1:$"),
            ("a$PATH", "a$PATH"),
            ("\\$PATH:\\x", "$PATH:\\x"),
        ] {
            assert_eq!(expanded(value, &now), seen, "{value}");
        }
        for value in ["$PATH:/x", "${PATH}", "\\$PATH", "\\x:$1", "plain"] {
            assert_eq!(expanded(&literal(value), &now), value);
        }
    }
}
