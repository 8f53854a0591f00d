//! Values of options: each is understood, or refused with what is wrong with it.

use std::path::PathBuf;

use super::{Assignment, Batch, Pull, WRITABLE_SIZE, size};

pub(super) fn image(value: &str) -> Result<Option<String>, String> {
    match value {
        "" => Err("no image is named".into()),
        "none" => Ok(None),
        value => Ok(Some(value.to_owned())),
    }
}

pub(super) fn absolute(value: &str) -> Result<PathBuf, String> {
    if value.starts_with('/') {
        Ok(PathBuf::from(value))
    } else {
        Err("the directory must be absolute".into())
    }
}

pub(super) fn yes_or_no(value: &str) -> Result<bool, String> {
    super::word_of_switch(value).ok_or_else(|| "neither yes nor no".into())
}

pub(super) fn writable(value: &str) -> Result<Option<u64>, String> {
    match super::word_of_switch(value) {
        // 1 is what other tools' variables say for yes, and no size that anybody wants.
        Some(is_on) => Ok(is_on.then_some(WRITABLE_SIZE)),
        None => size::parse(value)
            .map(Some)
            .map_err(|reason| format!("{reason}, yes or no")),
    }
}

pub(super) fn batch(value: &str) -> Result<Batch, String> {
    match value {
        "container" => Ok(Batch::Container),
        "host" => Ok(Batch::Host),
        _ => Err("neither container nor host".into()),
    }
}

pub(super) fn pull(value: &str) -> Result<Pull, String> {
    let named = Pull::ALL.into_iter().find(|pull| pull.name() == value);
    named.ok_or_else(|| "neither newer, missing, always nor never".into())
}

pub(super) fn assignment(value: &str) -> Result<Assignment, String> {
    match value.split_once('=') {
        Some((name, value)) => Ok(Assignment::Variable(variable_name(name)?, value.to_owned())),
        None if value.is_empty() => Err("no variable is named".into()),
        None => Ok(Assignment::File(PathBuf::from(value))),
    }
}

pub(super) fn variable_name(name: &str) -> Result<String, String> {
    if name.is_empty() {
        return Err("a variable without a name".into());
    }
    if name.contains('=') {
        return Err(format!("\"{name}\" is not the name of a variable"));
    }
    Ok(name.to_owned())
}

pub(super) fn checked_glob(value: &str) -> Result<String, String> {
    if value.is_empty() {
        return Err("no variable is named".into());
    }
    glob::Pattern::new(value).map_err(|error| format!("not a pattern: {}", error.msg))?;
    Ok(value.to_owned())
}
