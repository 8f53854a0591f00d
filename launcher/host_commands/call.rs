//! What is said between a command's caller and the agent: one [`Call`], sealed, then signals one way, and outcomes the
//! other, which are lines without an end.

use std::ffi::OsString;
use std::os::fd::RawFd;
use std::path::PathBuf;

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use chariot_core::environment::Environment;
use chariot_core::handover::{self, Told};
use chariot_core::text;

/// The longest message between the two, in bytes.
const LONGEST: usize = 4096;

/// A command to be run outside, as its caller would have run it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Call {
    /// Its name and its arguments.
    #[serde(with = "text")]
    pub(super) words: Vec<OsString>,
    /// The caller's directory, as it is called inside.
    #[serde(with = "text")]
    pub(super) directory: PathBuf,
    /// The caller's variables.
    #[serde(with = "text")]
    pub(super) environment: Environment,
    /// The caller's umask(2).
    pub(super) umask: u32,
    /// The caller's limits, by number: getrlimit(2), the soft one and the hard one.
    pub(super) limits: Vec<(u32, u64, u64)>,
    /// Signals that the caller was started to ignore.
    pub(super) ignored: Vec<i32>,
    /// The numbers of the descriptors that come along.
    pub(super) descriptors: Vec<RawFd>,
}

/// What became of the command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Outcome {
    /// It was stopped; its caller should stop too.
    Stopped,
    /// It ended with this status.
    Exited(u8),
    /// A signal killed it.
    Killed(i32),
    /// It could not be started.
    Refused(Told),
}

impl Outcome {
    /// It as a message. Of a sentence that is too long for one, the end is left out.
    pub(super) fn encode(mut self) -> Vec<u8> {
        loop {
            let line = handover::line(&self);
            match &mut self {
                Outcome::Refused(told) if line.len() > LONGEST => match &mut told.hint {
                    Some(hint) if hint.len() >= told.sentence.len() => halve(hint),
                    _ => halve(&mut told.sentence),
                },
                _ => return line.into_bytes(),
            }
        }
    }

    /// The outcome that these bytes are, if they are one.
    pub(super) fn decode(bytes: &[u8]) -> Option<Outcome> {
        handover::read_line(std::str::from_utf8(bytes).ok()?)
    }
}

fn halve(text: &mut String) {
    let half = text.len() / 2;
    while text.len() > half {
        text.pop();
    }
}

/// A signal as the caller sends it to the agent.
pub(super) fn encode_signal(signal: Signal) -> Vec<u8> {
    handover::line(&(signal as i32)).into_bytes()
}

/// The signal that these bytes are.
pub(super) fn decode_signal(bytes: &[u8]) -> Option<Signal> {
    let number: i32 = handover::read_line(std::str::from_utf8(bytes).ok()?)?;
    Signal::try_from(number).ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    #[test]
    fn a_call_arrives_as_it_was_made() {
        let call = Call {
            words: vec![
                "srun".into(),
                "".into(),
                OsString::from_vec(vec![0xff, b'\n']),
            ],
            directory: "/here".into(),
            environment: vec![("A".into(), "x=y\n".into()), ("B".into(), "".into())],
            umask: 0o27,
            limits: vec![(7, 1024, u64::MAX)],
            ignored: vec![1, 2],
            descriptors: vec![0, 1, 2, 63],
        };
        assert_eq!(handover::open(&handover::seal(&call)), Ok(call));
        assert!(handover::open::<Call>(b"nonsense\0").is_err());
    }

    fn refused(sentence: &str, hint: &str) -> Outcome {
        Outcome::Refused(Told {
            sentence: sentence.into(),
            hint: Some(hint.into()),
            code: 127,
        })
    }

    #[test]
    fn outcomes_and_signals_arrive_as_they_were() {
        for outcome in [
            Outcome::Stopped,
            Outcome::Exited(3),
            Outcome::Killed(15),
            refused("can't", "do\nthis"),
        ] {
            assert_eq!(Outcome::decode(&outcome.clone().encode()), Some(outcome));
        }
        let signal = Signal::SIGWINCH;
        assert_eq!(decode_signal(&encode_signal(signal)), Some(signal));
        assert_eq!(decode_signal(b"nine"), None);
        assert_eq!(Outcome::decode(b""), None);
    }

    #[test]
    fn a_refusal_of_any_length_fits_into_a_message() {
        for text in ["ä\u{1}".repeat(5000), "x".repeat(9000)] {
            let message = refused(&text, &text).encode();
            assert!(message.len() <= LONGEST);
            let Some(Outcome::Refused(told)) = Outcome::decode(&message) else {
                panic!("{}", String::from_utf8_lossy(&message));
            };
            assert!(told.sentence.len() > 100 && text.starts_with(&told.sentence));
        }
    }
}
