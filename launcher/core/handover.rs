//! What a task hands to the container's maker, and what it gets back: lists of fields that are a
//! letter and a text each, ended by NUL. No text in them can hold a NUL: all were arguments,
//! variables or paths.
//!
//! The first field says which form the rest has and who wrote it: while an administrator replaces
//! Chariot, a plugin that slurmstepd has loaded meets the next version's launcher.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use crate::environment::Edit;
use crate::environment::Environment;
use crate::error::{Error, Explain, Result};

/// The form of what follows and the version that writes it. A plugin and a launcher that agree on the
/// form understand each other.
const STAMP: &str = concat!("chariot-handover 3 ", env!("CARGO_PKG_VERSION"));

/// A task's request for the container of its step and node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// Uses of options, as [`crate::options::given::encode`] writes them.
    pub options: String,
    /// The site's file.
    pub config: PathBuf,
    /// The batch script.
    pub script: Option<PathBuf>,
    /// Slurm's directory for temporary files on this node, TmpFS of slurm.conf.
    pub scratch: Option<PathBuf>,
    /// The image file that root has mounted for the step, by device and inode.
    pub mounted: Option<String>,
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
    /// What stands before the command.
    pub entrypoint: Vec<OsString>,
    /// Whether changes of file owners are faked.
    pub fakeroot: bool,
    /// For the audit line: the image.
    pub image: PathBuf,
    /// For the audit line: its digest.
    pub digest: Option<String>,
    /// For the audit line: its kind.
    pub kind: String,
}

impl Request {
    /// The request as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = stamp();
        field(&mut bytes, b'o', OsStr::new(&self.options));
        field(&mut bytes, b'f', self.config.as_os_str());
        if let Some(script) = &self.script {
            field(&mut bytes, b's', script.as_os_str());
        }
        if let Some(scratch) = &self.scratch {
            field(&mut bytes, b't', scratch.as_os_str());
        }
        if let Some(mounted) = &self.mounted {
            field(&mut bytes, b'm', OsStr::new(mounted));
        }
        for word in &self.command {
            field(&mut bytes, b'a', word);
        }
        bytes.extend(encode_environment(&self.environment));
        bytes
    }

    /// The request that these bytes are.
    ///
    /// # Errors
    /// They are none, or one of another form.
    pub fn decode(bytes: &[u8]) -> Result<Request> {
        body(bytes)?
            .and_then(Request::from_fields)
            .ok_or_else(foreign)
    }

    fn from_fields(fields: Vec<(u8, OsString)>) -> Option<Request> {
        let mut request = Request::default();
        for (letter, text) in fields {
            match letter {
                b'o' => request.options = text.into_string().ok()?,
                b'f' => request.config = text.into(),
                b's' => request.script = Some(text.into()),
                b't' => request.scratch = Some(text.into()),
                b'm' => request.mounted = Some(text.into_string().ok()?),
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
        let mut bytes = stamp();
        field(&mut bytes, b'w', self.workdir.as_os_str());
        field(&mut bytes, b'i', self.image.as_os_str());
        field(&mut bytes, b'k', OsStr::new(&self.kind));
        if let Some(digest) = &self.digest {
            field(&mut bytes, b'd', OsStr::new(digest));
        }
        if self.fakeroot {
            field(&mut bytes, b'r', OsStr::new(""));
        }
        for word in &self.entrypoint {
            field(&mut bytes, b'p', word);
        }
        for edit in &self.edits {
            match &edit.value {
                Some(value) => field(&mut bytes, b'+', &pair(&edit.name, value)),
                None => field(&mut bytes, b'-', &edit.name),
            }
        }
        bytes
    }

    /// The record that these bytes are.
    ///
    /// # Errors
    /// They are none, or one of another form.
    pub fn decode(bytes: &[u8]) -> Result<Record> {
        body(bytes)?
            .and_then(Record::from_fields)
            .ok_or_else(foreign)
    }

    /// The record in a file.
    ///
    /// # Errors
    /// As [`read`] and [`Record::decode`].
    pub fn read(file: &File) -> Result<Record> {
        let what = || "can't read how to join the container".to_owned();
        let bytes = read(file).explain(what)?;
        Record::decode(&bytes).map_err(|error| error.within(&what()))
    }

    fn from_fields(fields: Vec<(u8, OsString)>) -> Option<Record> {
        let mut record = Record::default();
        for (letter, text) in fields {
            match letter {
                b'w' => record.workdir = text.into(),
                b'i' => record.image = text.into(),
                b'k' => record.kind = text.into_string().ok()?,
                b'd' => record.digest = Some(text.into_string().ok()?),
                b'r' => record.fakeroot = true,
                b'p' => record.entrypoint.push(text),
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

/// All bytes of a file, whatever others that have it open read of it.
///
/// # Errors
/// As read(2).
pub fn read(file: &File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let count = file.read_at(&mut buffer, bytes.len() as u64)?;
        bytes.extend_from_slice(&buffer[..count]);
        // A regular file gives less than it is asked for at its end alone.
        if count < buffer.len() {
            return Ok(bytes);
        }
    }
}

/// Variables as bytes.
pub fn encode_environment(environment: &Environment) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in environment {
        field(&mut bytes, b'e', &pair(name, value));
    }
    bytes
}

/// The variables that these bytes are, or none if they are not.
pub fn decode_environment(bytes: &[u8]) -> Option<Environment> {
    fields(bytes)?.iter().map(|(_, text)| split(text)).collect()
}

/// The form that these bytes say they have, and the version of Chariot that wrote them.
fn stamp_of(bytes: &[u8]) -> Option<(&str, &str)> {
    let first = bytes.split(|byte| *byte == 0).next()?;
    std::str::from_utf8(first.strip_prefix(b"v")?)
        .ok()?
        .rsplit_once(' ')
}

/// The version of Chariot that wrote these bytes, whatever their form.
pub fn writer(bytes: &[u8]) -> Option<String> {
    stamp_of(bytes).map(|(_, version)| version.to_owned())
}

/// This version of Chariot.
pub fn version() -> &'static str {
    STAMP.rsplit(' ').next().unwrap_or_default()
}

/// How each of these begins.
pub fn stamp() -> Vec<u8> {
    let mut bytes = Vec::new();
    field(&mut bytes, b'v', OsStr::new(STAMP));
    bytes
}

/// The fields after the stamp, or none if there is no stamp.
///
/// # Errors
/// The stamp names another form.
pub fn body(bytes: &[u8]) -> Result<Option<Vec<(u8, OsString)>>> {
    let Some((form, writer)) = stamp_of(bytes) else {
        return Ok(None);
    };
    if !STAMP.starts_with(&format!("{form} ")) {
        return Err(Error::new(format!(
            "Chariot {} does not understand what Chariot {writer} wrote",
            version()
        ))
        .hint(SAME_VERSION));
    }
    Ok(fields(bytes).map(|mut fields| fields.split_off(1)))
}

/// What to do when the two parts do not fit together.
const SAME_VERSION: &str = "chariot and chariot.so have to be of one version on this node; if they are \
                            just being replaced, try again";

/// What is said of bytes that are none of these.
pub fn foreign() -> Error {
    Error::new("it is not understood").hint(SAME_VERSION)
}

/// Adds a field.
pub fn field(bytes: &mut Vec<u8>, letter: u8, text: &OsStr) {
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
            scratch: Some("/scratch".into()),
            mounted: Some("7:9".into()),
            command: vec![
                "sh".into(),
                "".into(),
                OsString::from_vec(vec![0xff, b'\n']),
            ],
            environment: vec![("A".into(), "x=y\n".into()), ("B".into(), "".into())],
        };
        assert_eq!(Request::decode(&request.encode()), Ok(request));
    }

    #[test]
    fn a_record_arrives_as_it_was_made() {
        let record = Record {
            workdir: "/w".into(),
            edits: vec![Edit::set("A", "1", ""), Edit::unset("B", "")],
            entrypoint: vec!["/e".into(), "-x".into()],
            fakeroot: true,
            image: "/i".into(),
            digest: Some("sha256:0".into()),
            kind: "directory".into(),
        };
        assert_eq!(Record::decode(&record.encode()), Ok(record));
    }

    #[test]
    fn bytes_that_are_cut_off_or_foreign_are_not_taken() {
        for rest in [
            &b""[..],
            b"w/w",
            b"w/w\0\0",
            b"z\0",
            b"wrelative\0",
            b"w/w\0+noequals\0",
        ] {
            let mut bytes = stamp();
            assert!(Record::decode(rest).is_err(), "{rest:?}");
            bytes.extend(rest);
            let error = Record::decode(&bytes).unwrap_err();
            assert_eq!(error.to_string(), "it is not understood", "{rest:?}");
        }
    }

    #[test]
    fn another_form_is_refused_by_version_and_another_version_of_one_form_is_not() {
        let theirs = |form: &str| {
            let mut bytes = format!("vchariot-handover {form} 9.8.7\0").into_bytes();
            bytes.extend(b"w/w\0");
            bytes
        };
        let error = Record::decode(&theirs("0")).unwrap_err();
        assert!(error.to_string().contains("Chariot 9.8.7 wrote"), "{error}");
        assert!(error.advice().unwrap().contains("of one version"));
        assert!(Record::decode(&theirs("3")).is_ok());
        assert_eq!(writer(&theirs("3")), Some("9.8.7".into()));
    }

    #[test]
    fn variables_arrive_as_they_were() {
        let environment = vec![("A".into(), "x=y\n".into()), ("B".into(), "".into())];
        let bytes = encode_environment(&environment);
        assert_eq!(decode_environment(&bytes), Some(environment));
        assert_eq!(decode_environment(b"ex"), None);
    }
}
