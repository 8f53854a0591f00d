//! What one process of Chariot's says to another. There are two forms, both JSON by serde:
//!
//! - a sealed message: a line that says which form the rest has and who wrote it, then one value. While an administrator
//!   replaces Chariot, a plugin that slurmstepd has loaded meets the next version's launcher. A field may be added if its
//!   default means what was before; for anything else the form gets another number, and the two refuse each other
//!   with a sentence. [`Request`], [`Record`], [`Before`] and the calls of the host's commands are such messages;
//! - lines, one value each, of a helper to who has started it and waits: [`Said`], and what the launcher's own workers say.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::environment::{Edit, Environment};
use crate::error::{Error, Explain, Result};
use crate::escape;
use crate::text;

mod loaded;
mod said;

pub use loaded::{ASKED, Loaded, QUESTION};
pub use said::{Said, Told, is_foreign, line, read_line};

/// What a sealed message begins with, before its form and the version that wrote it.
const SEAL: &str = "chariot-handover";

/// This version's seal: 4 is the number of the form, see above for when to change it. One text, by which a program shows what
/// it understands.
const OWN_SEAL: &str = concat!("chariot-handover 4 ", env!("CARGO_PKG_VERSION"));

/// A task's request for the container of its step and node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Request {
    /// Uses of options, as [`crate::options::given::encode`] writes them.
    pub options: String,
    /// The site's file.
    #[serde(with = "text")]
    pub config: PathBuf,
    /// The batch script.
    #[serde(with = "text")]
    pub script: Option<PathBuf>,
    /// Slurm's directory for temporary files on this node, TmpFS of slurm.conf.
    #[serde(with = "text")]
    pub scratch: Option<PathBuf>,
    /// The directory of Slurm's commands on this node.
    #[serde(with = "text")]
    pub slurm: Option<PathBuf>,
    /// The image file that root has mounted for the step, by device and inode.
    pub mounted: Option<String>,
    /// The command, where it is the same for all tasks.
    #[serde(with = "text")]
    pub command: Vec<OsString>,
    /// The task's environment.
    #[serde(with = "text")]
    pub environment: Environment,
}

/// What every task of the step does when it joins.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// Where the command starts.
    #[serde(with = "text")]
    pub workdir: PathBuf,
    /// Changes of the environment.
    pub edits: Vec<Edit>,
    /// What stands before the command.
    #[serde(with = "text")]
    pub entrypoint: Vec<OsString>,
    /// Whether changes of file owners are faked.
    pub fakeroot: bool,
    /// For the audit line: the image.
    #[serde(with = "text")]
    pub image: PathBuf,
    /// For the audit line: its digest.
    pub digest: Option<String>,
    /// For the audit line: its kind.
    pub kind: String,
}

/// A task's variables before its prolog.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Before {
    /// The variables.
    #[serde(with = "text")]
    pub environment: Environment,
}

impl Record {
    /// The record in a file.
    ///
    /// # Errors
    /// As [`read`] and [`open`], or it does not say where to start.
    pub fn read(file: &File) -> Result<Record> {
        let what = || "can't read how to join the container".to_owned();
        let bytes = read(file).explain(what)?;
        let record: Record = open(&bytes).map_err(|error| error.within(&what()))?;
        match record.workdir.is_absolute() {
            true => Ok(record),
            false => Err(foreign().within(&what())),
        }
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
        bytes.extend(buffer.iter().take(count));
        // A regular file gives less than it is asked for at its end alone.
        if count < buffer.len() {
            return Ok(bytes);
        }
    }
}

/// A sealed message.
pub fn seal<T: Serialize>(message: &T) -> Vec<u8> {
    let mut bytes = format!("{OWN_SEAL}\n").into_bytes();
    // Nothing of ours can fail to be JSON; and whoever gets a seal alone says that it is not understood.
    bytes.extend(serde_json::to_vec(message).unwrap_or_default());
    bytes
}

/// The message under a seal.
///
/// # Errors
/// There is none, or it is one of another form.
pub fn open<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    let (form, writer, message) = opened(bytes).ok_or_else(foreign)?;
    if Some(form) != own_form() {
        return Err(Error::new(format!(
            "Chariot {} does not understand what Chariot {writer} wrote",
            version()
        ))
        .hint(SAME_VERSION));
    }
    serde_json::from_slice(message).map_err(|_| foreign())
}

/// The version of Chariot that wrote these bytes, whatever their form.
pub fn writer(bytes: &[u8]) -> Option<String> {
    opened(bytes).map(|(_, writer, _)| writer.to_owned())
}

/// The lines by which whoever wrote this request understands that there is no container.
pub fn failure(request: &[u8], error: &Error) -> String {
    let told = Told::from(error);
    let has_no_json = |(form, _, _)| matches!(form, "1" | "2" | "3");
    if !opened(request).is_some_and(has_no_json) {
        return line(&Said::Failed(told));
    }
    // Up to form 3 a line was a letter and a text: an error, its hint, and the exit status.
    let hint = told.hint.map(|hint| format!("H{hint}\n"));
    format!(
        "E{}\n{}X{}",
        escape::line(&told.sentence),
        hint.unwrap_or_default(),
        told.code
    )
}

fn own_form() -> Option<&'static str> {
    OWN_SEAL.split(' ').nth(1)
}

/// This version of Chariot.
pub fn version() -> &'static str {
    OWN_SEAL.rsplit(' ').next().unwrap_or_default()
}

/// The form, the version and the message. Up to form 3 the seal was behind a `v` and ended by NUL.
fn opened(bytes: &[u8]) -> Option<(&str, &str, &[u8])> {
    let end = bytes
        .iter()
        .position(|byte| matches!(byte, b'\n' | b'\0'))?;
    let (seal, message) = bytes.split_at_checked(end)?;
    let seal = std::str::from_utf8(seal).ok()?;
    let seal = seal.strip_prefix('v').unwrap_or(seal);
    let (form, writer) = seal
        .strip_prefix(SEAL)?
        .strip_prefix(' ')?
        .split_once(' ')?;
    Some((form, writer, message))
}

/// What to do when the two parts do not fit together.
pub const SAME_VERSION: &str = "chariot and chariot.so have to be of one version on this node; if they are \
                            just being replaced, try again";

fn foreign() -> Error {
    Error::new("it is not understood").hint(SAME_VERSION)
}

/// Splits NAME=VALUE.
pub fn split(text: &OsStr) -> Option<(OsString, OsString)> {
    let bytes = text.as_bytes();
    let at = bytes.iter().position(|byte| *byte == b'=')?;
    let (name, value) = bytes.split_at_checked(at)?;
    Some((
        OsStr::from_bytes(name).into(),
        OsStr::from_bytes(value.get(1..)?).into(),
    ))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::ffi::OsStringExt;

    use super::*;
    use crate::error::Exit;

    #[test]
    fn a_request_arrives_as_it_was_made() {
        let request = Request {
            options: "timage=/i\n".into(),
            config: "/etc/c".into(),
            script: Some("/spool/script".into()),
            scratch: Some("/scratch".into()),
            slurm: Some("/usr/bin".into()),
            mounted: Some("7:9".into()),
            command: vec![
                "sh".into(),
                "".into(),
                OsString::from_vec(vec![0xff, b'\n']),
            ],
            environment: vec![("A".into(), "x=y\n".into()), ("B".into(), "".into())],
        };
        assert_eq!(open(&seal(&request)), Ok(request));
    }

    #[test]
    fn a_record_arrives_as_it_was_made() {
        let record = Record {
            workdir: "/w".into(),
            edits: vec![Edit::set("A", "1", ""), Edit::unset("B", "")],
            entrypoint: vec!["/e".into(), "-x".into()],
            fakeroot: true,
            image: OsString::from_vec(b"/i\xfe".to_vec()).into(),
            digest: Some("sha256:0".into()),
            kind: "directory".into(),
        };
        assert_eq!(open(&seal(&record)), Ok(record));
    }

    #[test]
    fn bytes_that_are_cut_off_or_foreign_are_not_taken() {
        let whole = seal(&Record::default());
        for length in 0..whole.len() {
            let error = open::<Record>(&whole[..length]).unwrap_err();
            assert_eq!(error.to_string(), "it is not understood", "{length}");
        }
        for rest in ["w/w", "{\"workdir\":7}", "{}x", "[1"] {
            let bytes = format!("{SEAL} 4 9.8.7\n{rest}");
            assert!(open::<Record>(bytes.as_bytes()).is_err(), "{rest}");
        }
    }

    #[test]
    fn a_record_that_does_not_say_where_to_start_is_none() {
        let read = |bytes: &[u8]| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(bytes).unwrap();
            Record::read(&file)
        };
        let record = |workdir: &str| Record {
            workdir: workdir.into(),
            ..Record::default()
        };
        assert_eq!(read(&seal(&record("/w"))), Ok(record("/w")));
        for bytes in [
            seal(&record("w")),
            seal(&Record::default()),
            seal(&Before::default()),
        ] {
            let error = read(&bytes).unwrap_err().to_string();
            assert!(error.contains("it is not understood"), "{error}");
        }
    }

    #[test]
    fn whoever_asks_in_an_older_form_is_refused_in_it() {
        let error = Error::new("no\nsuch").hint("try").exit(Exit::NotFound);
        let refused = |request: &[u8]| failure(request, &error);
        assert_eq!(
            refused(b"vchariot-handover 3 0.1.0\0x\0"),
            "Eno\\nsuch\nHtry\nX127"
        );
        for request in [&seal(&Request::default()), b"".as_slice(), b"?"] {
            let expected = Some(Said::Failed(Told::from(&error)));
            assert_eq!(read_line(&refused(request)), expected);
        }
    }

    #[test]
    fn another_form_is_refused_by_version_and_another_version_of_one_form_is_not() {
        let newer = format!("{SEAL} 40 9.8.7\n{{\"workdir\":\"/w\"}}");
        let older = b"vchariot-handover 3 9.8.7\0w/w\0";
        for theirs in [newer.as_bytes(), older] {
            let error = open::<Record>(theirs).unwrap_err();
            assert!(error.to_string().contains("Chariot 9.8.7 wrote"), "{error}");
            assert!(error.advice().unwrap().contains("of one version"));
            assert_eq!(writer(theirs), Some("9.8.7".into()));
        }
        let same = format!("{SEAL} 4 9.8.7\n{{\"workdir\":\"/w\",\"a field of 9.8\":1}}");
        let record: Record = open(same.as_bytes()).unwrap();
        assert_eq!(record.workdir, PathBuf::from("/w"));
    }
}
