//! What the parser of the command line complains of, in the words of everything else: a sentence, and a hint.

use clap::error::{ContextKind, ContextValue, ErrorKind};

use chariot_core::error::Error;
use chariot_core::near::nearest;

/// A complaint, told.
pub(super) fn told(error: &clap::Error) -> Error {
    let command = command(error);
    let help = format!("`{command} --help` shows what it takes");
    let (invalid, value) = (
        texts(error, ContextKind::InvalidArg),
        text(error, ContextKind::InvalidValue),
    );
    let argument = invalid.first().map_or("", String::as_str);
    let (sentence, hint) = match error.kind() {
        ErrorKind::UnknownArgument if argument.starts_with('-') => {
            let near = near(argument, &texts(error, ContextKind::SuggestedArg));
            let hint =
                near.unwrap_or_else(|| format!("{help}; a command's own options come after --"));
            (format!("{command} has no option {argument}"), hint)
        }
        ErrorKind::UnknownArgument if command == "chariot shell" => (
            format!("{command} takes no command: {argument}"),
            "chariot run IMAGE -- COMMAND runs one".to_owned(),
        ),
        ErrorKind::UnknownArgument => {
            (format!("{command} takes no further word: {argument}"), help)
        }
        ErrorKind::InvalidSubcommand => {
            let name = text(error, ContextKind::InvalidSubcommand);
            let near = near(&name, &texts(error, ContextKind::SuggestedSubcommand));
            let hint = near.unwrap_or_else(|| "`chariot --help` lists the commands".to_owned());
            (format!("Chariot has no command {name}"), hint)
        }
        ErrorKind::MissingRequiredArgument => {
            let usage = usage(error).unwrap_or(help);
            (format!("{command} needs {}", invalid.join(" and ")), usage)
        }
        ErrorKind::InvalidValue if value.is_empty() => (format!("{argument} needs a value"), help),
        ErrorKind::InvalidValue => {
            let known = texts(error, ContextKind::ValidValue).join(", ");
            (
                format!("can't use {value} for {argument}"),
                format!("it is one of {known}"),
            )
        }
        ErrorKind::ValueValidation => {
            let reason = std::error::Error::source(error).map(ToString::to_string);
            (
                format!(
                    "can't use {value} for {argument}: {}",
                    reason.unwrap_or_else(|| "it is not the number of a process".to_owned())
                ),
                help,
            )
        }
        _ => (first_line(error), help),
    };
    Error::new(sentence).hint(hint)
}

/// The parser's own suggestions are for all that has a letter in common.
fn near(typed: &str, suggested: &[String]) -> Option<String> {
    let known: Vec<&str> = suggested.iter().map(String::as_str).collect();
    let near = nearest(typed, &known).filter(|near| near.len().abs_diff(typed.len()) < 4);
    near.map(|near| format!("did you mean {near}?"))
}

fn texts(error: &clap::Error, kind: ContextKind) -> Vec<String> {
    match error.get(kind) {
        Some(ContextValue::String(text)) => vec![text.clone()],
        Some(ContextValue::Strings(texts)) => texts.clone(),
        _ => Vec::new(),
    }
}

fn text(error: &clap::Error, kind: ContextKind) -> String {
    texts(error, kind).into_iter().next().unwrap_or_default()
}

/// `chariot run <IMAGE> [COMMAND]...`
fn usage(error: &clap::Error) -> Option<String> {
    let rendered = error.render().to_string();
    let line = rendered
        .lines()
        .find_map(|line| line.strip_prefix("Usage: "))?;
    Some(line.to_owned())
}

/// Of which command it is: `chariot edf check`.
fn command(error: &clap::Error) -> String {
    let usage = usage(error).unwrap_or_default();
    let is_name = |word: &&str| word.starts_with(|first: char| first.is_ascii_lowercase());
    let words: Vec<&str> = usage.split(' ').take_while(is_name).collect();
    match words.is_empty() {
        true => "chariot".to_owned(),
        false => words.join(" "),
    }
}

fn first_line(error: &clap::Error) -> String {
    let rendered = error.render().to_string();
    let line = rendered.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parsers_complaints_are_sentences_with_hints() {
        for (line, sentence, hint) in [
            (
                "run",
                "chariot run needs <IMAGE>",
                "chariot run <IMAGE> [COMMAND]...",
            ),
            ("rum", "Chariot has no command rum", "did you mean run?"),
            (
                "version",
                "Chariot has no command version",
                "`chariot --help` lists the commands",
            ),
            (
                "run --bnd x",
                "chariot run has no option --bnd",
                "did you mean --bind?",
            ),
            (
                "run --it ./x",
                "chariot run has no option --it",
                "`chariot run --help` shows what it takes; a command's own options come after --",
            ),
            (
                "shell x ls",
                "chariot shell takes no command: ls",
                "chariot run IMAGE -- COMMAND runs one",
            ),
            ("rm", "chariot rm needs <NAME>...", "chariot rm <NAME>..."),
            (
                "completions tcsh",
                "can't use tcsh for <SHELL>",
                "it is one of bash, elvish, fish, powershell, zsh",
            ),
        ] {
            let words = ["chariot"].into_iter().chain(line.split(' '));
            let error = super::super::command()
                .try_get_matches_from(words)
                .unwrap_err();
            let told = told(&error);
            assert_eq!(
                (told.to_string().as_str(), told.advice()),
                (sentence, Some(hint)),
                "{line}"
            );
        }
    }
}
