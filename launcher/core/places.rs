//! Directories in which a job was asked for, by the names that its user can have seen: a step shows them in its container, so
//! that it sees what the script does that it is started from. They travel in a variable, since no other says them all: srun
//! overwrites `SLURM_SUBMIT_DIR`, and Slurm knows directories by the names alone that getcwd(3) gives.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::environment::{Environment, find};

/// The variable: one path a line, the last one that of the command by which the step or the job was asked for.
pub const CARRIER: &str = "SLURM_CHARIOT_DIRECTORIES";

/// Where Slurm says that a job was submitted.
pub const SUBMITTED: &str = "SLURM_SUBMIT_DIR";

/// More are neither carried nor believed: they come of commands that start commands, each in another place, and each takes
/// the container time.
const MOST: usize = 16;

/// The last paths of [`CARRIER`], each once. Anybody can have written it.
pub fn read(text: &str) -> Vec<PathBuf> {
    let lines = text.lines().rev().filter(|line| line.starts_with('/'));
    let mut paths: Vec<PathBuf> = Vec::new();
    for path in lines.map(PathBuf::from) {
        if paths.len() == MOST {
            break;
        }
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    paths.reverse();
    paths
}

/// The same with `more`, the last of which come last. None of a path that has no place in a line.
pub fn with(known: Vec<PathBuf>, more: impl IntoIterator<Item = PathBuf>) -> String {
    let mut paths = known;
    for path in more {
        paths.retain(|earlier| *earlier != path);
        paths.push(path);
    }
    let lines = paths.iter().filter_map(|path| path.to_str());
    let lines: Vec<&str> = lines.filter(|line| !line.contains('\n')).collect();
    let from = lines.len().saturating_sub(MOST);
    lines.get(from..).unwrap_or_default().join("\n")
}

/// All that the variables of a job's process say.
pub fn of(environment: &Environment) -> Vec<PathBuf> {
    let text = |name: &str| find(environment, name).and_then(|text| text.to_str());
    let mut paths = read(text(CARRIER).unwrap_or_default());
    if find(environment, "SLURM_JOB_ID").is_some() {
        let submitted = text(SUBMITTED).map(PathBuf::from);
        paths.extend(submitted.filter(|path| path.is_absolute()));
    }
    paths
}

/// Where the command was typed that asked for this, if it says so.
pub fn typed_in(environment: &Environment) -> Option<PathBuf> {
    let text: &OsString = &environment.iter().find(|(name, _)| name == CARRIER)?.1;
    read(text.to_str()?).pop()
}

/// The directory after the option `--chdir` of srun, sbatch and salloc, as it is typed, if it is.
pub fn typed_chdir(words: impl IntoIterator<Item = OsString>) -> Option<PathBuf> {
    let mut words = words.into_iter().skip(1);
    while let Some(word) = words.next() {
        let text = word.to_str()?;
        match text.strip_prefix("--chdir=").or(text.strip_prefix("-D")) {
            Some("") if text == "-D" => return words.next().map(PathBuf::from),
            Some(directory) => return Some(PathBuf::from(directory)),
            None if text == "--chdir" => return words.next().map(PathBuf::from),
            None if text == "--" => return None,
            None => {}
        }
    }
    None
}

/// A directory by each of its names: as it is called, and as it is called where no link is in the way.
pub fn names(path: &Path) -> Vec<PathBuf> {
    let mut names = vec![path.to_owned()];
    names.extend(path.canonicalize().ok().filter(|real| real != path));
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_was_typed_is_known_by_the_name_that_was_typed() {
        for (line, typed) in [
            ("srun --chdir=/q/a ./x", Some("/q/a")),
            ("srun -n 1 --chdir sub ./x", Some("sub")),
            ("sbatch -D /q/a x", Some("/q/a")),
            ("sbatch -D/q/a x", Some("/q/a")),
            ("srun -- ./x --chdir=/q/a", None),
            ("srun ./x", None),
        ] {
            let words = line.split(' ').map(OsString::from);
            assert_eq!(typed_chdir(words), typed.map(PathBuf::from), "{line}");
        }
    }

    #[test]
    fn directories_arrive_as_they_were_and_the_last_is_the_commands() {
        let path = |text: &str| PathBuf::from(text);
        let text = with(read("/a\n/b"), [path("/q/a"), path("/a")]);
        assert_eq!(text, "/b\n/q/a\n/a");
        assert_eq!(with(Vec::new(), [path("/a\nb"), path("/c")]), "/c");
        let many = (0..40).map(|number| path(&format!("/{number}")));
        assert_eq!(read(&with(Vec::new(), many)).len(), MOST);
        let mut environment: Environment = vec![(CARRIER.into(), text.into())];
        assert_eq!(typed_in(&environment), Some(path("/a")));
        environment.push((SUBMITTED.into(), "/s".into()));
        assert_eq!(of(&environment), [path("/b"), path("/q/a"), path("/a")]);
        environment.push(("SLURM_JOB_ID".into(), "1".into()));
        assert_eq!(of(&environment).last(), Some(&path("/s")));
    }

    #[test]
    fn no_more_directories_are_believed_than_are_carried() {
        let many: Vec<String> = (0..2500).map(|number| format!("/{number}")).collect();
        let environment: Environment = vec![(CARRIER.into(), many.join("\n").into())];
        let last: Vec<PathBuf> = many[2500 - MOST..].iter().map(PathBuf::from).collect();
        assert_eq!(of(&environment), last);
        assert_eq!(typed_in(&environment).as_ref(), last.last());
        assert_eq!(
            read("/a\n/b\n/a"),
            [PathBuf::from("/b"), PathBuf::from("/a")]
        );
    }
}
