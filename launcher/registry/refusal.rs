//! What a registry's refusals mean, and what it says of them itself.

use std::io::Read;
use std::time::{Duration, Instant};

use serde::Deserialize;
use ureq::Body;
use ureq::http::{Response, StatusCode};

use super::client::{Cause, Client, Failure};
use super::credentials::Credentials;
use crate::oci::Reference;
use chariot_core::error::Error;

/// How much of an explanation is read, in bytes, and shown, in characters.
const LARGEST: u64 = 64 << 10;
const LONGEST: usize = 300;

/// How long somebody may take to explain.
const LONGEST_TALK: Duration = Duration::from_secs(5);

impl Client {
    /// An answer to the question for a `path` of an image that is none.
    pub(super) fn refused(
        &self,
        reference: &Reference,
        path: &str,
        response: &mut Response<Body>,
    ) -> Failure {
        if response.status() == StatusCode::NOT_FOUND {
            let sentence = format!("{} has no {path} of {}", self.host(), reference.repository);
            return Failure {
                error: Error::new(sentence).hint(
                    "is the name right, and the tag? A private image can look like a missing one",
                ),
                cause: Cause::Refused,
            };
        }
        self.refused_by(self.host(), response)
    }

    /// The same of somebody who gives what the registry wants to have.
    pub(super) fn refused_by(&self, who: &str, response: &mut Response<Body>) -> Failure {
        let status = response.status();
        let reason = match self.explanation(response) {
            Some(text) => format!("{who} says {status}: {text}"),
            None => format!("{who} says {status}"),
        };
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => self.denied(&reason),
            StatusCode::TOO_MANY_REQUESTS => Failure {
                error: Error::new(reason).hint(self.too_often(pause(response))),
                cause: Cause::Busy(pause(response).unwrap_or_default()),
            },
            _ => Failure {
                error: Error::new(reason).hint("try again later"),
                cause: match status.is_server_error() {
                    true => Cause::Busy(pause(response).unwrap_or_default()),
                    false => Cause::Refused,
                },
            },
        }
    }

    /// What it says in the way of the OCI distribution specification, as far as it says it at once, and without what it was
    /// told itself.
    pub(super) fn explanation(&self, response: &mut Response<Body>) -> Option<String> {
        let end = Instant::now() + LONGEST_TALK;
        let mut reader = response.body_mut().as_reader().take(LARGEST);
        let (mut body, mut buffer) = (Vec::new(), [0; 4096]);
        while Instant::now() < end {
            match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => body.extend(&buffer[..count]),
                Err(_) => return None,
            }
        }
        let text = explained(&body)?;
        let secrets = self
            .credentials()
            .map_or_else(Vec::new, Credentials::secrets);
        Some(
            secrets
                .iter()
                .fold(text, |text, secret| text.replace(secret, "…")),
        )
    }

    fn too_often(&self, pause: Option<Duration>) -> String {
        let wait = match pause {
            Some(pause) => format!("it wants to be asked again in {} s", pause.as_secs()),
            None => "try again later".to_owned(),
        };
        match self.credentials() {
            Some(_) => wait,
            None => format!(
                "{wait}; many let those whom they know ask more often: `chariot login {}`",
                self.login_name()
            ),
        }
    }
}

/// How long a registry wants to be left alone: the seconds of `Retry-After`, RFC 9110.
fn pause<T>(response: &Response<T>) -> Option<Duration> {
    let value = response.headers().get("retry-after")?.to_str().ok()?;
    value.trim().parse().map(Duration::from_secs).ok()
}

/// The first of its errors that has words, as one line of a bounded length.
fn explained(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Answer {
        errors: Vec<Reason>,
    }
    #[derive(Deserialize)]
    struct Reason {
        #[serde(default)]
        message: Option<String>,
    }
    let answer: Answer = serde_json::from_slice(body).ok()?;
    let texts = answer
        .errors
        .into_iter()
        .filter_map(|reason| reason.message);
    let words = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let text = texts.map(words).find(|text| !text.is_empty())?;
    Some(text.chars().take(LONGEST).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_registry_says_is_shown_in_one_line_if_it_is_words() {
        let long = "x".repeat(1000);
        for (body, shown) in [
            (
                r#"{"errors":[{"code":"A","message":"no  more\n today"}]}"#,
                Some("no more today"),
            ),
            (
                r#"{"errors":[{"code":"A"},{"message":""},{"message":"b"}]}"#,
                Some("b"),
            ),
            (
                r#"{"errors":[{"message":"MORE"}]}"#.replace("MORE", &long).as_str(),
                Some(&long[..300]),
            ),
            (r#"{"errors":[]}"#, None),
            (r#"{"errors":[{"message":7}]}"#, None),
            ("<html>", None),
            ("", None),
        ] {
            assert_eq!(explained(body.as_bytes()).as_deref(), shown, "{body}");
        }
    }
}
