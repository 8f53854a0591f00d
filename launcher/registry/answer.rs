//! What a registry said, from the process that asks it to the one that wants to know.

use serde::{Deserialize, Serialize};

use super::{Cause, Failure, Reference, Resolved};
use crate::oci::{Digest, Manifest};
use chariot_core::handover::Told;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// What an image is: the digest of its manifest, and that.
    Found(Digest, Manifest),
    /// Why there is none.
    Refused(Told),
    /// Why nobody knows whether there is one.
    Unknown(Told),
}

impl From<Result<Resolved, Failure>> for Answer {
    fn from(result: Result<Resolved, Failure>) -> Answer {
        match result {
            Ok(resolved) => Answer::Found(resolved.digest, resolved.manifest),
            Err(failure) if failure.cause.is_unknown() => {
                Answer::Unknown(Told::from(&failure.error))
            }
            Err(failure) => Answer::Refused(Told::from(&failure.error)),
        }
    }
}

impl Answer {
    /// It for who has asked what this name means.
    ///
    /// # Errors
    /// The registry said no, or nothing.
    pub fn of(self, reference: &Reference) -> Result<Resolved, Failure> {
        let failure = |told: Told, cause| {
            Err(Failure {
                error: told.into(),
                cause,
            })
        };
        match self {
            Answer::Found(digest, manifest) => Ok(Resolved {
                reference: reference.pinned(digest.clone()),
                digest,
                manifest,
            }),
            Answer::Refused(told) => failure(told, Cause::Refused),
            Answer::Unknown(told) => failure(told, Cause::Unreachable),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{Descriptor, Platform};
    use chariot_core::error::Error;
    use chariot_core::handover::{line, read_line};

    #[test]
    fn an_answer_arrives_as_it_was_given_however_many_layers_it_has() {
        let reference = Reference::parse("//h.example/a:1").unwrap();
        let blob = |number: u64| Descriptor {
            media_type: "application/vnd.oci.image.layer.v1.tar+gzip".into(),
            digest: Digest::of(&number.to_le_bytes()),
            size: number,
            platform: number.is_multiple_of(2).then(|| Platform {
                architecture: "arm64".into(),
                os: "linux".into(),
                variant: Some("v8".into()),
            }),
            annotations: [("a".to_owned(), number.to_string())].into(),
        };
        let resolved = Resolved {
            reference: reference.pinned(Digest::of(b"m")),
            digest: Digest::of(b"m"),
            manifest: Manifest {
                config: blob(0),
                layers: (0..127).map(blob).collect(),
                artifact_type: "application/x".into(),
            },
        };
        let again = |result| {
            let line = line(&Answer::from(result));
            read_line::<Answer>(&line).unwrap().of(&reference)
        };
        let read = again(Ok(resolved.clone())).unwrap();
        assert_eq!(read.reference, resolved.reference);
        assert_eq!(read.manifest, resolved.manifest);
        for cause in [Cause::Refused, Cause::Unreachable] {
            let failure = Failure {
                error: Error::new("no").hint("look"),
                cause,
            };
            let read = again(Err(failure.clone())).unwrap_err();
            assert_eq!((read.error, read.cause), (failure.error, cause));
        }
    }
}
