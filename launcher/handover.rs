//! What a task hands to the container's maker, and what it gets back: lists of fields that are a
//! letter and a text each, ended by NUL. No text in them can hold a NUL: all were arguments,
//! variables or paths.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use crate::host::Environment;
use crate::plan::environment::Edit;

/// A task's request for the container of its step and node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// Uses of options, as [`crate::options::given::encode`] writes them.
    pub options: String,
    /// The site's file.
    pub config: PathBuf,
    /// The batch script.
    pub script: Option<PathBuf>,
    /// The command, where it is the same for all tasks.
    pub command: Vec<OsString>,
    /// The task's environment.
    pub environment: Environment,
}

/// What every task of the step does when it joins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// Where the command starts.
    pub workdir: PathBuf,
    /// Changes of the environment.
    pub edits: Vec<Edit>,
    /// For the audit line: the image.
    pub image: PathBuf,
    /// For the audit line: its digest.
    pub digest: Option<String>,
}

impl Request {
    /// The request as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        field(&mut bytes, b'o', OsStr::new(&self.options));
        field(&mut bytes, b'f', self.config.as_os_str());
        if let Some(script) = &self.script {
            field(&mut bytes, b's', script.as_os_str());
        }
        for word in &self.command {
            field(&mut bytes, b'a', word);
        }
        for (name, value) in &self.environment {
            field(&mut bytes, b'e', &pair(name, value));
        }
        bytes
    }

    /// The request that these bytes are, or none if they are not one.
    pub fn decode(bytes: &[u8]) -> Option<Request> {
        let mut request = Request::default();
        for (letter, text) in fields(bytes)? {
            match letter {
                b'o' => request.options = text.into_string().ok()?,
                b'f' => request.config = text.into(),
                b's' => request.script = Some(text.into()),
                b'a' => request.command.push(text),
                b'e' => request.environment.push(split(&text)?),
                _ => return None,
            }
        }
        Some(request)
    }
}

impl Record {
    /// The record as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        field(&mut bytes, b'w', self.workdir.as_os_str());
        field(&mut bytes, b'i', self.image.as_os_str());
        if let Some(digest) = &self.digest {
            field(&mut bytes, b'd', OsStr::new(digest));
        }
        for edit in &self.edits {
            match &edit.value {
                Some(value) => field(&mut bytes, b'+', &pair(&edit.name, value)),
                None => field(&mut bytes, b'-', &edit.name),
            }
        }
        bytes
    }

    /// The record that these bytes are, or none if they are not one.
    pub fn decode(bytes: &[u8]) -> Option<Record> {
        let mut record = Record::default();
        for (letter, text) in fields(bytes)? {
            match letter {
                b'w' => record.workdir = text.into(),
                b'i' => record.image = text.into(),
                b'd' => record.digest = Some(text.into_string().ok()?),
                b'+' => {
                    let (name, value) = split(&text)?;
                    record.edits.push(Edit::set(name, value, ""));
                }
                b'-' => record.edits.push(Edit::unset(text, "")),
                _ => return None,
            }
        }
        record.workdir.is_absolute().then_some(record)
    }
}

fn field(bytes: &mut Vec<u8>, letter: u8, text: &OsStr) {
    bytes.push(letter);
    bytes.extend(text.as_bytes().iter().filter(|byte| **byte != 0));
    bytes.push(0);
}

fn fields(bytes: &[u8]) -> Option<Vec<(u8, OsString)>> {
    let Some((0, rest)) = bytes.split_last() else {
        return None;
    };
    rest.split(|byte| *byte == 0)
        .map(|field| {
            let (letter, text) = field.split_first()?;
            Some((*letter, OsString::from_vec(text.to_vec())))
        })
        .collect()
}

fn pair(name: &OsStr, value: &OsStr) -> OsString {
    let mut text = name.to_owned();
    text.push("=");
    text.push(value);
    text
}

/// Splits NAME=VALUE.
pub fn split(text: &OsStr) -> Option<(OsString, OsString)> {
    let bytes = text.as_bytes();
    let at = bytes.iter().position(|byte| *byte == b'=')?;
    Some((
        OsStr::from_bytes(&bytes[..at]).into(),
        OsStr::from_bytes(&bytes[at + 1..]).into(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_arrives_as_it_was_made() {
        let request = Request {
            options: "timage=/i\n".into(),
            config: "/etc/c".into(),
            script: Some("/spool/script".into()),
            command: vec![
                "sh".into(),
                "".into(),
                OsString::from_vec(vec![0xff, b'\n']),
            ],
            environment: vec![("A".into(), "x=y\n".into()), ("B".into(), "".into())],
        };
        assert_eq!(Request::decode(&request.encode()), Some(request));
    }

    #[test]
    fn a_record_arrives_as_it_was_made() {
        let record = Record {
            workdir: "/w".into(),
            edits: vec![Edit::set("A", "1", ""), Edit::unset("B", "")],
            image: "/i".into(),
            digest: Some("sha256:0".into()),
        };
        assert_eq!(Record::decode(&record.encode()), Some(record));
    }

    #[test]
    fn bytes_that_are_cut_off_or_foreign_are_not_taken() {
        for bytes in [
            &b""[..],
            b"w/w",
            b"w/w\0\0",
            b"z\0",
            b"wrelative\0",
            b"w/w\0+noequals\0",
        ] {
            assert_eq!(Record::decode(bytes), None, "{bytes:?}");
        }
    }
}
