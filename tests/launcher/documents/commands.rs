//! Blocks of commands can be typed as they stand: the launcher's command line and Slurm's options take them.
//!
//! A block that cannot be held so has a comment right before it that says why, `<!-- not checked: WHY -->`, or which
//! program of the repository runs it, `<!-- run: PATH -->`.

use std::path::Path;

use chariot_core::config::Config;
use chariot_core::options::{Dialect, Given, Options, Source, table};
use clap::error::ErrorKind;

use super::{Page, pages, read, repository};

/// A fenced block.
struct Block {
    kind: String,
    text: String,
    /// The comment on the line before it.
    mark: Option<String>,
}

fn blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut before = "";
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(kind) = line.strip_prefix("```") {
            let text: Vec<_> = lines
                .by_ref()
                .take_while(|line| !line.starts_with("```"))
                .collect();
            let mark = before
                .strip_prefix("<!-- ")
                .and_then(|mark| mark.strip_suffix(" -->"));
            blocks.push(Block {
                kind: kind.to_owned(),
                text: text.join("\n"),
                mark: mark.map(String::from),
            });
        }
        before = line;
    }
    blocks
}

/// The words of the commands of a line, as a shell would have them, without what comments say.
fn commands(line: &str) -> Vec<Vec<String>> {
    let mut commands = vec![Vec::new()];
    let mut word: Option<String> = None;
    let mut quote = None;
    for character in line.chars().chain([' ']) {
        match (quote, character) {
            (Some(open), character) if character == open => quote = None,
            (Some(_), character) => word.get_or_insert_default().push(character),
            (None, '\'' | '"') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, ' ' | '|' | ';' | '&') => {
                commands.last_mut().unwrap().extend(word.take());
                if character != ' ' {
                    commands.push(Vec::new());
                }
            }
            (None, character) => word.get_or_insert_default().push(character),
        }
    }
    assert!(quote.is_none(), "a quote is open: {line}");
    commands.retain(|command| !command.is_empty());
    commands
}

/// Whether the launcher takes these words, or why not.
fn refused_by_launcher(words: &[String], is_mention: bool) -> Option<String> {
    match chariot::cli::command().try_get_matches_from(words) {
        Ok(_) => None,
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => None,
            // PID is no number.
            ErrorKind::MissingRequiredArgument | ErrorKind::ValueValidation if is_mention => None,
            _ => Some(error.to_string()),
        },
    }
}

/// The same of the options that Slurm's commands hand to the plugin.
fn refused_by_plugin(words: &[String]) -> Option<String> {
    let given = |word: &String| {
        let option = word.strip_prefix("--ch-")?;
        let (name, value) = match option.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (option, None),
        };
        Some(match table::find(name) {
            Some(row) => Given::new(
                row,
                value,
                Source::Typed,
                Path::new("/here"),
                Dialect::Slurm,
            )
            .map_err(|error| error.to_string()),
            None => Err(format!("there is no --ch-{name}")),
        })
    };
    let givens: Result<Vec<_>, _> = words.iter().filter_map(given).collect();
    givens
        .and_then(|givens| {
            Options::resolve(givens, Dialect::Slurm).map_err(|error| error.to_string())
        })
        .err()
}

/// How many commands of ours a line has, all of which can be typed.
fn check(line: &str, page: &Path) -> usize {
    let mut ours = 0;
    for words in commands(line) {
        let program = words
            .iter()
            .position(|word| !word.contains('='))
            .unwrap_or(0);
        let refused = match words[program].as_str() {
            "chariot" => refused_by_launcher(&words[program..], false),
            "srun" | "sbatch" | "salloc" | "#SBATCH" => refused_by_plugin(&words),
            _ => continue,
        };
        assert_eq!(refused, None, "{}: {line}", page.display());
        // `srun chariot check`
        if let Some(inner) = words.iter().skip(1).position(|word| word == "chariot") {
            assert_eq!(
                refused_by_launcher(&words[inner + 1..], false),
                None,
                "{}: {line}",
                page.display()
            );
        }
        ours += 1;
    }
    ours
}

#[test]
fn every_block_of_commands_can_be_typed_or_says_why_not() {
    let mut checked = 0;
    for Page { path, text } in pages() {
        for block in blocks(&text) {
            if let Some((kind, what)) = block.mark.as_deref().and_then(|mark| mark.split_once(": "))
            {
                match kind {
                    "not checked" => continue,
                    "run" => {
                        assert!(
                            repository().join(what).exists(),
                            "{}: {what}",
                            path.display()
                        );
                        continue;
                    }
                    _ => {}
                }
            }
            let ours: usize = match block.kind.as_str() {
                "console" => {
                    let lines = block.text.lines();
                    let typed = lines
                        .filter_map(|line| line.strip_prefix("$ ").or(line.strip_prefix("# ")));
                    typed.map(|line| check(line, &path)).sum()
                }
                "bash" | "sh" => {
                    let lines = block.text.lines();
                    let lines = lines.map(|line| line.replace("#SBATCH", "'#SBATCH'"));
                    lines.map(|line| check(&line, &path)).sum()
                }
                // Other kinds have no commands: an unmarked kind would hide some.
                "toml" | "text" | "roff" => continue,
                kind => panic!("{}: a block of kind {kind:?}", path.display()),
            };
            assert!(
                ours > 0,
                "{}: nothing in this block is checked, and it does not say why:\n{}",
                path.display(),
                block.text
            );
            checked += ours;
        }
    }
    assert!(checked > 30, "{checked}");
}

#[test]
fn commands_and_options_that_are_mentioned_exist() {
    let is_name = |character: char| character.is_ascii_lowercase() || character == '-';
    for Page { path, text } in pages()
        .into_iter()
        .filter(|page| !page.path.ends_with("CHANGELOG.md"))
    {
        for code in text
            .split('`')
            .skip(1)
            .step_by(2)
            .filter(|code| code.starts_with("chariot "))
        {
            let words = commands(code);
            assert_eq!(
                refused_by_launcher(&words[0], true),
                None,
                "{}: {code}",
                path.display()
            );
        }
        for rest in text.split("--ch-").skip(1) {
            let name = rest
                .split(|character| !is_name(character))
                .next()
                .unwrap()
                .trim_end_matches('-');
            assert!(
                name.is_empty() || table::find(name).is_some(),
                "{}: --ch-{name}",
                path.display()
            );
        }
    }
}

#[test]
fn files_that_are_shown_can_be_read() {
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("site-mpi.toml"), "image = './img'\n").unwrap();
    for Page { path, text } in pages() {
        for block in blocks(&text).iter().filter(|block| block.kind == "toml") {
            let mut text = block.text.clone();
            if let Some(included) = text
                .strip_prefix("{{#include ")
                .and_then(|name| name.strip_suffix("}}"))
            {
                text = read(&format!("{}/{included}", path.parent().unwrap().display()));
            }
            if !path.ends_with("edf.md") {
                Config::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                continue;
            }
            let file = place.path().join("shown.toml");
            std::fs::write(&file, text).unwrap();
            let mut launcher = std::process::Command::new(env!("CARGO_BIN_EXE_chariot"));
            launcher
                .args(["--config", "/dev/null", "edf", "check"])
                .arg(&file);
            launcher
                .env("EDF_PATH", place.path())
                .env("USER", "ada")
                .env_remove("DATA");
            let output = launcher.output().unwrap();
            assert!(output.status.success(), "{}: {output:?}", path.display());
        }
    }
}
