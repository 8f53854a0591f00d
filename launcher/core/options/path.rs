//! Paths as people type them. After `=`, and in `#SBATCH` lines, no shell has expanded `~` and variables.

use std::env;
use std::path::{Path, PathBuf};

/// The path that was meant, from `directory` on: `~` is the home directory, and `$NAME` or `${NAME}` a variable's value. What
/// is there under the name as it was typed is what was meant.
///
/// # Errors
/// What cannot be expanded, and why.
pub fn expanded(text: &str, directory: &Path) -> Result<PathBuf, String> {
    let literal = directory.join(text);
    if !(text.starts_with('~') || text.contains('$')) || literal.symlink_metadata().is_ok() {
        return Ok(literal);
    }
    let mut path = String::new();
    let mut rest = text;
    if let Some(below) = rest.strip_prefix('~') {
        if !below.is_empty() && !below.starts_with('/') {
            let name = text.split('/').next().unwrap_or_default();
            return Err(format!(
                "{name} is not expanded, only ~ is, which is your own home directory"
            ));
        }
        path += &value("HOME")?;
        rest = below;
    }
    while let Some((before, behind)) = rest.split_once('$') {
        path += before;
        let (name, behind) = variable_name(behind);
        match name {
            "" => path.push('$'),
            name => path += &value(name)?,
        }
        rest = behind;
    }
    path += rest;
    Ok(directory.join(path))
}

fn value(name: &str) -> Result<String, String> {
    match env::var(name) {
        Ok(value) if !value.is_empty() => Ok(value),
        Err(env::VarError::NotUnicode(_)) => Err(format!("the variable {name} is not UTF-8")),
        _ => Err(format!("the variable {name} is not set here")),
    }
}

/// The variable whose name begins a text, and what comes after it. No name if there is none.
fn variable_name(text: &str) -> (&str, &str) {
    let is_part = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let is_name = |name: &str| {
        name.chars().all(is_part) && !name.starts_with(|first: char| first.is_ascii_digit())
    };
    if let Some((name, behind)) = text.strip_prefix('{').and_then(|text| text.split_once('}')) {
        return match !name.is_empty() && is_name(name) {
            true => (name, behind),
            false => ("", text),
        };
    }
    let end = text
        .find(|character| !is_part(character))
        .unwrap_or(text.len());
    match text.split_at_checked(end) {
        Some((name, behind)) if is_name(name) => (name, behind),
        _ => ("", text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_shell_has_expanded_is_expanded() {
        let home = env::var("HOME").unwrap();
        let path = |text| expanded(text, Path::new("/here")).map(|path| path.display().to_string());
        for (text, expected) in [
            ("a/b", "/here/a/b".to_owned()),
            ("/a", "/a".to_owned()),
            ("~", home.clone()),
            ("~/x.sqfs", format!("{home}/x.sqfs")),
            ("$HOME/x", format!("{home}/x")),
            ("${HOME}x", format!("{home}x")),
            ("/a/$HOME", format!("/a/{home}")),
            ("a~", "/here/a~".to_owned()),
            ("a$", "/here/a$".to_owned()),
            ("$1/a", "/here/$1/a".to_owned()),
            ("${}/a", "/here/${}/a".to_owned()),
        ] {
            assert_eq!(path(text), Ok(expected), "{text}");
        }
        for (text, reason) in [
            ("~ada/x", "~ada is not expanded"),
            ("$CH_NO_SUCH/x", "the variable CH_NO_SUCH is not set here"),
            (
                "/a/${CH_NO_SUCH}",
                "the variable CH_NO_SUCH is not set here",
            ),
        ] {
            assert!(path(text).unwrap_err().starts_with(reason), "{text}");
        }
    }

    #[test]
    fn a_file_with_such_a_name_is_what_was_meant() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("$HOME");
        std::fs::write(&file, "").unwrap();
        assert_eq!(expanded("$HOME", directory.path()), Ok(file));
    }
}
