//! What is said between a command's caller and the agent: one [`Call`], then signals one way, and outcomes the other.

use std::ffi::{OsStr, OsString};
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use nix::sys::signal::Signal;

use chariot_core::environment::Environment;
use chariot_core::error::Result;
use chariot_core::escape;
use chariot_core::handover;

/// A command to be run outside, as its caller would have run it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Call {
    /// Its name and its arguments.
    pub(super) words: Vec<OsString>,
    /// The caller's directory, as it is called inside.
    pub(super) directory: PathBuf,
    /// The caller's variables.
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

impl Call {
    /// The call as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = handover::stamp();
        let mut put = |letter, text: &OsStr| handover::field(&mut bytes, letter, text);
        for word in &self.words {
            put(b'a', word);
        }
        put(b'd', self.directory.as_os_str());
        put(b'u', OsStr::new(&self.umask.to_string()));
        for (number, soft, hard) in &self.limits {
            put(b'l', OsStr::new(&format!("{number} {soft} {hard}")));
        }
        for number in &self.ignored {
            put(b'i', OsStr::new(&number.to_string()));
        }
        for number in &self.descriptors {
            put(b'f', OsStr::new(&number.to_string()));
        }
        bytes.extend(handover::encode_environment(&self.environment));
        bytes
    }

    /// The call that these bytes are.
    ///
    /// # Errors
    /// They are none, or one of another form.
    pub fn decode(bytes: &[u8]) -> Result<Call> {
        handover::body(bytes)?
            .and_then(Call::from_fields)
            .ok_or_else(handover::foreign)
    }

    fn from_fields(fields: Vec<(u8, OsString)>) -> Option<Call> {
        let mut call = Call::default();
        for (letter, text) in fields {
            match letter {
                b'a' => call.words.push(text),
                b'd' => call.directory = text.into(),
                b'u' => call.umask = number(&text)?,
                b'l' => call.limits.push(limit(text.to_str()?)?),
                b'i' => call.ignored.push(number(&text)?),
                b'f' => call.descriptors.push(number(&text)?),
                b'e' => call.environment.push(handover::split(&text)?),
                _ => return None,
            }
        }
        Some(call)
    }
}

fn number<T: std::str::FromStr>(text: &OsStr) -> Option<T> {
    text.to_str()?.parse().ok()
}

fn limit(text: &str) -> Option<(u32, u64, u64)> {
    let mut words = text.split(' ');
    let number = words.next()?.parse().ok()?;
    Some((
        number,
        words.next()?.parse().ok()?,
        words.next()?.parse().ok()?,
    ))
}

/// What became of the command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was stopped; its caller should stop too.
    Stopped,
    /// It ended with this status.
    Exited(u8),
    /// A signal killed it.
    Killed(i32),
    /// It could not be started: the sentence, a hint or nothing, and the status to end with.
    Refused(String, String, u8),
}

impl Outcome {
    pub(super) fn encode(&self) -> Vec<u8> {
        match self {
            Outcome::Stopped => b"s".to_vec(),
            Outcome::Exited(code) => format!("x{code}").into_bytes(),
            Outcome::Killed(signal) => format!("k{signal}").into_bytes(),
            Outcome::Refused(sentence, hint, code) => {
                format!("e{code}\n{}\n{hint}", escape::line(sentence)).into_bytes()
            }
        }
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Outcome> {
        let (letter, rest) = std::str::from_utf8(bytes).ok()?.split_at_checked(1)?;
        match letter {
            "s" => Some(Outcome::Stopped),
            "x" => rest.parse().ok().map(Outcome::Exited),
            "k" => rest.parse().ok().map(Outcome::Killed),
            "e" => {
                let mut lines = rest.splitn(3, '\n');
                let code = lines.next()?.parse().ok()?;
                let sentence = lines.next()?.to_owned();
                Some(Outcome::Refused(sentence, lines.next()?.to_owned(), code))
            }
            _ => None,
        }
    }
}

/// A signal as the caller sends it to the agent.
pub(super) fn encode_signal(signal: Signal) -> Vec<u8> {
    (signal as i32).to_string().into_bytes()
}

/// The signal that these bytes are.
pub(super) fn decode_signal(bytes: &[u8]) -> Option<Signal> {
    let number: i32 = OsStr::from_bytes(bytes).to_str()?.parse().ok()?;
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
        assert_eq!(Call::decode(&call.encode()), Ok(call));
        assert!(Call::decode(b"nonsense\0").is_err());
    }

    #[test]
    fn outcomes_and_signals_arrive_as_they_were() {
        for outcome in [
            Outcome::Stopped,
            Outcome::Exited(3),
            Outcome::Killed(15),
            Outcome::Refused("can't".into(), "do\nthis".into(), 127),
        ] {
            assert_eq!(Outcome::decode(&outcome.encode()), Some(outcome));
        }
        let signal = Signal::SIGWINCH;
        assert_eq!(decode_signal(&encode_signal(signal)), Some(signal));
        assert_eq!(decode_signal(b"nine"), None);
        assert_eq!(Outcome::decode(b""), None);
    }
}
