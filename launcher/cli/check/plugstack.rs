//! plugstack.conf as Slurm reads it, spank(8): includes are patterns, a line that is not understood is ignored, and of
//! lines that name a plugin of ours the first counts.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use glob::MatchOptions;

use super::kernel::LARGEST;
use chariot_core::error::io_reason;
use chariot_core::open;

/// Deeper than anybody includes; Slurm itself would go on for ever.
const DEEPEST: usize = 16;

/// As glob(3) matches.
const PATTERN: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: true,
};

/// A line that names our plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    file: PathBuf,
    number: usize,
    /// `required`, and not `optional`.
    pub(super) is_required: bool,
    /// A path, or a name in one of Slurm's directories.
    pub(super) plugin: PathBuf,
    /// What the plugin is given.
    pub(super) words: Vec<String>,
}

impl Line {
    /// Where it stands.
    pub(super) fn place(&self) -> String {
        format!("{}:{}", self.file.display(), self.number)
    }

    /// That, and what it says.
    pub(super) fn shown(&self) -> String {
        let kind = match self.is_required {
            true => "required",
            false => "optional",
        };
        let plugin = self.plugin.display();
        let words: String = self.words.iter().map(|word| format!(" {word}")).collect();
        format!("{}: {kind} {plugin}{words}", self.place())
    }
}

/// All that Slurm reads.
#[derive(Debug, Default)]
pub(super) struct Stack {
    /// The line that counts.
    pub(super) line: Option<Line>,
    /// Lines about us that Slurm ignores: where each stands, and what it says.
    pub(super) ignored: Vec<(String, String)>,
    /// A file that Slurm cannot read, for which it refuses everything.
    pub(super) unreadable: Option<String>,
}

impl Stack {
    pub(super) fn read(path: &Path) -> Stack {
        let mut stack = Stack::default();
        stack.take_file(path, 0);
        stack
    }

    /// A file that is not there is as good as an empty one, spank(8); so is a directory.
    fn take_file(&mut self, path: &Path, depth: usize) {
        match open::read(path, LARGEST) {
            Ok(bytes) => {
                for (at, line) in String::from_utf8_lossy(&bytes).lines().enumerate() {
                    self.take_line(path, at + 1, line, depth);
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::IsADirectory) => {
            }
            Err(error) => {
                let told = format!("{}: {}", path.display(), io_reason(&error));
                self.unreadable.get_or_insert(told);
            }
        }
    }

    fn take_line(&mut self, file: &Path, number: usize, line: &str, depth: usize) {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split([' ', '\t']).filter(|word| !word.is_empty());
        match (words.next(), words.next()) {
            (Some("include"), Some(pattern)) if depth < DEEPEST => {
                self.include(file, pattern, depth);
            }
            (Some(kind @ ("required" | "optional")), Some(plugin)) if is_ours(plugin) => {
                self.line.get_or_insert(Line {
                    file: file.to_owned(),
                    number,
                    is_required: kind == "required",
                    plugin: plugin.into(),
                    words: words.map(str::to_owned).collect(),
                });
            }
            (Some("required" | "optional" | "include"), Some(_)) => {}
            _ if line.contains("chariot") => {
                let place = format!("{}:{number}", file.display());
                self.ignored.push((place, line.trim().to_owned()));
            }
            _ => {}
        }
    }

    /// A relative pattern begins where the file lies.
    fn include(&mut self, file: &Path, pattern: &str, depth: usize) {
        let below = file.parent().unwrap_or(Path::new("/"));
        let pattern = below.join(pattern);
        let paths = glob::glob_with(&pattern.to_string_lossy(), PATTERN);
        for path in paths.into_iter().flatten().flatten() {
            self.take_file(&path, depth + 1);
        }
    }
}

/// Whether a plugin is Chariot's, by the name of its file.
fn is_ours(plugin: &str) -> bool {
    let name = Path::new(plugin).file_name();
    name.is_some_and(|name| name.to_string_lossy().contains("chariot"))
}

#[cfg(test)]
#[path = "plugstack/tests.rs"]
mod tests;
