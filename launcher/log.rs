//! Where the launcher's messages go: one line each on standard error, or in the report that a task
//! reads.

use std::fmt::{Debug, Write as _};
use std::sync::{Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::print;
use chariot_core::handover::Said;

/// What stands in front of a line, by what is reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// A person: `chariot: …` on standard error.
    Person,
    /// The same, who called `ch-run`.
    ChRun,
    /// A task of Slurm, on standard output: as [`Said`].
    Task,
}

/// Starts writing messages up to `level`. To be called once.
pub fn start(reader: Reader, level: Level) {
    // There is a subscriber already only if somebody called this twice, and then it stays.
    let _ = tracing::subscriber::set_global_default(Lines { reader, level });
}

/// The level that the site's file names.
pub fn level(name: &str) -> Level {
    match name {
        "error" => Level::ERROR,
        "warn" => Level::WARN,
        "debug" => Level::DEBUG,
        _ => Level::INFO,
    }
}

struct Lines {
    reader: Reader,
    level: Level,
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing to a String cannot fail.
        let _ = match field.name() {
            "message" => write!(self.0, "{value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

/// Warns of something that one process finds many times.
pub fn warn_once(warning: &str) {
    static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    if !said.iter().any(|known| known == warning) {
        said.push(warning.to_owned());
        tracing::warn!("{warning}");
    }
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.level
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        let line = text.0;
        match self.reader {
            Reader::Person => print::message(&format!("chariot: {line}")),
            Reader::ChRun => {
                print::message(&format!("ch-run[{}]: {line}", std::process::id()));
            }
            Reader::Task => print::say(&Said::Message(line)),
        }
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}
