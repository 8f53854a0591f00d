//! One line that carries what a registry said, from the process that asks it to the one that wants to know.

use super::{Cause, Failure, Reference, Resolved};
use crate::oci::{Descriptor, Digest, Document};
use chariot_core::error::Error;

/// What an image is, as a line.
pub fn found(resolved: &Resolved) -> String {
    let manifest = &resolved.manifest;
    let one =
        |blob: &Descriptor| format!("{{\"digest\":\"{}\",\"size\":{}}}", blob.digest, blob.size);
    let layers: Vec<String> = manifest.layers.iter().map(one).collect();
    format!(
        "+{} {{\"config\":{},\"layers\":[{}]}}",
        resolved.digest,
        one(&manifest.config),
        layers.join(",")
    )
}

/// Why there is none, as a line.
pub fn failed(failure: &Failure) -> String {
    let letter = match failure.cause.is_unknown() {
        true => '?',
        false => '-',
    };
    format!(
        "{letter}{}\t{}",
        failure.error,
        failure.error.advice().unwrap_or_default()
    )
}

/// What such a line says; none if it is no such line.
pub fn read(line: &str, reference: &Reference) -> Option<Result<Resolved, Failure>> {
    let (letter, rest) = line.split_at_checked(1)?;
    if letter == "+" {
        let (digest, document) = rest.split_once(' ')?;
        let digest = Digest::parse(digest)?;
        let Ok(Document::Manifest(manifest)) = Document::parse(document.as_bytes()) else {
            return None;
        };
        return Some(Ok(Resolved {
            reference: reference.pinned(digest.clone()),
            digest,
            manifest,
        }));
    }
    let (sentence, hint) = rest.split_once('\t')?;
    let error = Error::new(sentence);
    Some(Err(Failure {
        error: if hint.is_empty() {
            error
        } else {
            error.hint(hint)
        },
        cause: match letter {
            "?" => Cause::Unreachable,
            _ => Cause::Refused,
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_arrives_as_it_was_given() {
        let reference = Reference::parse("//h.example/a:1").unwrap();
        let blob = |text: &str| Descriptor {
            media_type: String::new(),
            digest: Digest::of(text.as_bytes()),
            size: 7,
            platform: None,
            annotations: Default::default(),
        };
        let resolved = Resolved {
            reference: reference.pinned(Digest::of(b"m")),
            digest: Digest::of(b"m"),
            manifest: crate::oci::Manifest {
                config: blob("c"),
                layers: vec![blob("1"), blob("2")],
                artifact_type: String::new(),
            },
        };
        let read = read(&found(&resolved), &reference).unwrap().unwrap();
        assert_eq!(read.reference, resolved.reference);
        assert_eq!(read.manifest, resolved.manifest);
        for cause in [Cause::Refused, Cause::Unreachable] {
            let failure = Failure {
                error: Error::new("no").hint("look"),
                cause,
            };
            let again = super::read(&failed(&failure), &reference)
                .unwrap()
                .unwrap_err();
            assert_eq!((again.error, again.cause), (failure.error, cause));
        }
        assert!(super::read("", &reference).is_none() && super::read("+x", &reference).is_none());
    }
}
