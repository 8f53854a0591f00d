//! The variables of a process, and changes of them.

use std::ffi::{OsStr, OsString};
use std::fmt::{self, Display, Formatter};

use serde::{Deserialize, Serialize};

use crate::text;

/// The variables of a process, in its order.
pub type Environment = Vec<(OsString, OsString)>;

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
            origin: origin.to_owned(),
        }
    }

    /// A variable that is removed.
    pub fn unset(name: impl Into<OsString>, origin: &str) -> Edit {
        Edit {
            name: name.into(),
            value: None,
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

/// The environment after all edits.
pub fn apply(environment: &Environment, edits: &[Edit]) -> Environment {
    let mut result = environment.clone();
    for edit in edits {
        result.retain(|(name, _)| *name != edit.name);
        if let Some(value) = &edit.value {
            result.push((edit.name.clone(), value.clone()));
        }
    }
    result
}
