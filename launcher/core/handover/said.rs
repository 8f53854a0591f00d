//! What a helper says to who waits for it: one line of JSON each. Other lines can come between, of the dynamic loader for one.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Exit};

/// What a helper of the plugin's says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Said {
    /// Why there is no container, or no image of that name. The last line.
    Failed(Told),
    /// What the user should know.
    Warning(Told),
    /// What the user has asked to be told.
    Message(String),
    /// What the administrator should find in the log.
    Log(String),
    /// That it goes on, and for the user how far it is.
    GoesOn(Option<String>),
    /// The namespaces have been sent. The last line.
    Ready,
    /// Where an image lies, without a link in it.
    Image(String),
    /// The same name of an image in a registry, with the digest that it stands for.
    Pinned(String),
}

/// A failure as another process tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Told {
    /// The sentence.
    pub sentence: String,
    /// What to do.
    pub hint: Option<String>,
    /// The exit status that goes with it.
    pub code: u8,
}

impl From<&Error> for Told {
    fn from(error: &Error) -> Told {
        Told {
            sentence: error.to_string(),
            hint: error.advice().map(str::to_owned),
            code: error.exit_code(),
        }
    }
}

impl From<Told> for Error {
    fn from(told: Told) -> Error {
        let error = Error::new(told.sentence).exit(Exit::of(told.code));
        match told.hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}

/// A value as a line, without its end.
pub fn line<T: Serialize>(said: &T) -> String {
    // Nothing of ours can fail to be JSON.
    serde_json::to_string(said).unwrap_or_default()
}

/// The value that a line is, or none.
pub fn read_line<T: DeserializeOwned>(line: &str) -> Option<T> {
    serde_json::from_str(line).ok()
}

/// Whether a report has lines, and none that this version understands.
pub fn is_foreign(report: &str) -> bool {
    let mut lines = report.lines().peekable();
    lines.peek().is_some() && lines.all(|line| read_line::<Said>(line).is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_arrives_on_one_line() {
        let told = Told::from(
            &Error::new("can't \n\"x\"\u{9b}")
                .hint("try\nthis")
                .exit(Exit::NotFound),
        );
        for said in [
            Said::Failed(told.clone()),
            Said::Warning(told.clone()),
            Said::Message("a\nb".into()),
            Said::Log("l".into()),
            Said::GoesOn(None),
            Said::GoesOn(Some("half".into())),
            Said::Ready,
            Said::Image("/i".into()),
            Said::Pinned("docker://h/a@sha256:0".into()),
        ] {
            let line = line(&said);
            assert!(!line.contains('\n'), "{line}");
            assert_eq!(read_line(&line), Some(said));
        }
        assert_eq!(read_line::<Said>("chariot: error while loading"), None);
        assert_eq!(Told::from(&Error::from(told.clone())), told);
    }

    #[test]
    fn a_report_of_other_words_alone_is_foreign() {
        let ready = line(&Said::Ready);
        for (report, expected) in [
            ("", false),
            ("Eno\nX125\n", true),
            (&ready, false),
            (&format!("the loader's word\n{ready}\n"), false),
        ] {
            assert_eq!(is_foreign(report), expected, "{report}");
        }
    }

    #[test]
    fn a_failure_without_an_exit_status_is_no_success() {
        let Some(Said::Failed(told)) = read_line(r#"{"failed":{"sentence":"x"}}"#) else {
            panic!("it is understood");
        };
        assert_eq!(Error::from(told).exit_code(), 125);
    }
}
