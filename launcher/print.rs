//! The one place from which the launcher writes to its standard output and standard error; clippy.toml sees to it. It
//! takes lines, and each stays one: what is in them of users, images, archives and registries is escaped here. Texts of
//! more lines are Chariot's own, or JSON.
//!
//! Nobody is left to tell that standard error is gone.

#![allow(
    clippy::disallowed_methods,
    reason = "this is the place that the others are sent to"
)]

use std::error::Error as _;
use std::fs::File;
use std::io::{self, IsTerminal, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue};
use serde::Serialize;

use chariot_core::error::{Error, Explain, Result};
use chariot_core::escape;
use chariot_core::handover::{self, Said};

/// Prints lines to standard output. A closed pipe, as in `chariot explain … | head`, is no failure.
///
/// # Errors
/// As write(2).
pub fn lines<T: AsRef<str>>(lines: impl IntoIterator<Item = T>) -> Result<ExitCode> {
    own_text(&joined(lines))
}

/// Prints what Chariot itself consists of: its manual, its help.
///
/// # Errors
/// As write(2).
pub fn own_text(text: &str) -> Result<ExitCode> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).explain(|| "can't write to standard output".to_owned())
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Prints a value as JSON, which has its own escapes.
///
/// # Errors
/// As write(2).
pub fn json(value: &impl Serialize) -> Result<ExitCode> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Error::new(format!("can't write JSON: {error}")))?;
    own_text(&(escape::json_for_terminals(&text) + "\n"))
}

/// Prints a value as one line of JSON.
///
/// # Errors
/// As write(2).
pub fn line_of_json(value: &impl Serialize) -> Result<ExitCode> {
    own_text(&(escape::json_for_terminals(&handover::line(value)) + "\n"))
}

/// Says something to the process that has started this one, on standard output.
pub fn say(said: &Said) {
    say_line(&handover::line(said));
}

/// Says why there is no container to the process that has started this one with `request`, in the form that it speaks.
pub fn refuse(request: &[u8], error: &Error) {
    say_line(&handover::failure(request, error));
}

fn say_line(line: &str) {
    // If whoever reads this is gone, so is everybody who could be told.
    let _ = io::stdout().write_all((escape::json_for_terminals(line) + "\n").as_bytes());
}

/// Prints a failure, and what to do, on standard error. `name` is who speaks.
pub fn failure(name: &str, sentence: &str, advice: Option<&str>) {
    let mut lines = vec![format!("{name}: {sentence}")];
    lines.extend(advice.map(|advice| format!("{name}: hint: {advice}")));
    messages(lines);
}

/// Prints a line on standard error.
pub fn message(line: &str) {
    messages([line]);
}

/// Prints lines on standard error, in one piece.
fn messages<T: AsRef<str>>(lines: impl IntoIterator<Item = T>) {
    let _ = io::stderr().write_all(joined(lines).as_bytes());
}

/// Writes lines to somebody else's standard error.
///
/// # Errors
/// As write(2).
pub fn elsewhere<T: AsRef<str>>(
    mut out: impl Write,
    lines: impl IntoIterator<Item = T>,
) -> io::Result<()> {
    out.write_all(joined(lines).as_bytes())
}

fn is_more(text: &str) -> bool {
    text.chars().any(escape::acts)
}

fn joined<T: AsRef<str>>(lines: impl IntoIterator<Item = T>) -> String {
    let mut text = String::new();
    for line in lines {
        text += &escape::line(line.as_ref());
        text.push('\n');
    }
    text
}

/// Prints what the parser of the command line has to say: help, which is Chariot's own, or a complaint, which quotes
/// what was typed. True for a complaint.
pub fn usage(mut error: clap::Error) -> bool {
    if !error.use_stderr() {
        let _ = error.print();
        return false;
    }
    let quoted: Vec<_> = error
        .context()
        .map(|(kind, value)| (kind, value.clone()))
        .collect();
    for (kind, value) in quoted {
        let value = match value {
            ContextValue::String(text) => ContextValue::String(escape::line(&text).into_owned()),
            ContextValue::Strings(texts) => {
                let shown = texts.iter().map(|text| escape::line(text).into_owned());
                ContextValue::Strings(shown.collect())
            }
            // It has been put together with what was typed in it.
            ContextValue::StyledStrs(tips) if tips.iter().any(|tip| is_more(&tip.to_string())) => {
                ContextValue::None
            }
            own => own,
        };
        error.insert(kind, value);
    }
    let said = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    match error.source() {
        // What refused the value quotes it too.
        Some(reason) => {
            let (value, name) = (
                said(ContextKind::InvalidValue),
                said(ContextKind::InvalidArg),
            );
            let sentence = format!("error: invalid value '{value}' for '{name}': {reason}");
            messages([&sentence, "", "For more information, try '--help'."]);
        }
        None => messages(error.render().to_string().lines()),
    }
    true
}

/// Has panics told by a line like others, which a message with somebody's text in it is not by itself.
pub fn panics() {
    std::panic::set_hook(Box::new(|panic| {
        message(&format!(
            "chariot: this is a bug in Chariot, please report it: {panic}"
        ));
    }));
}

/// The whole help, on standard output.
pub fn help(command: &mut clap::Command) {
    let _ = command.print_help();
}

/// Asks a person something, on standard error, who answers behind it in the same line.
///
/// # Errors
/// As write(2).
pub fn ask(question: &str) -> io::Result<()> {
    io::stderr().write_all(escape::line(question).as_bytes())
}

/// How wide the terminal is, in characters, if standard output is one: what goes into a file or a pipe is as wide as it is.
pub fn width() -> Option<usize> {
    let is_terminal = io::stdout().is_terminal();
    let size = is_terminal.then(terminal_size::terminal_size)?;
    size.map(|(width, _)| usize::from(width.0))
}

/// Whether a person sees what is written to standard error.
pub fn is_seen() -> bool {
    io::stderr().is_terminal()
}

/// Whether standard output is a terminal.
pub fn is_shown() -> bool {
    io::stdout().is_terminal()
}

/// Standard error, for another program to speak for itself.
///
/// # Errors
/// No descriptor to be had.
pub fn handle() -> io::Result<OwnedFd> {
    io::stderr().as_fd().try_clone_to_owned()
}

/// Passes on what another program has written for people into a file, for the same eyes.
pub fn pass_on(mut said: File) {
    let _ = said.rewind();
    let _ = io::copy(&mut said, &mut io::stderr());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_stays_one() {
        let mut out = Vec::new();
        elsewhere(&mut out, ["a\nchariot: b", "c"]).unwrap();
        assert_eq!(out, b"a\\nchariot: b\nc\n");
    }
}
