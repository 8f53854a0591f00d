//! Texts of the operating system in JSON, as serde's `with = "text"`: a string, and a list of bytes where a path, a word
//! or a variable is no UTF-8. In lists, pairs and options too. What serde makes of them by itself is a list of bytes always,
//! or an error.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One text.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Form {
    /// As nearly all are.
    Text(String),
    /// Any other.
    Bytes(Vec<u8>),
}

/// What has such a form.
pub trait Texts: Sized {
    /// It as serde can have it.
    type Form: Serialize + DeserializeOwned;

    /// Its form.
    fn form(&self) -> Self::Form;

    /// What has this form.
    fn of(form: Self::Form) -> Self;
}

fn form(text: &OsStr) -> Form {
    match text.to_str() {
        Some(text) => Form::Text(text.to_owned()),
        None => Form::Bytes(text.as_bytes().to_vec()),
    }
}

impl Texts for OsString {
    type Form = Form;

    fn form(&self) -> Form {
        form(self)
    }

    fn of(form: Form) -> OsString {
        let mut bytes = match form {
            Form::Text(text) => text.into_bytes(),
            Form::Bytes(bytes) => bytes,
        };
        // No path, word or variable can hold a NUL; what an image says of itself can.
        bytes.retain(|byte| *byte != 0);
        OsString::from_vec(bytes)
    }
}

impl Texts for PathBuf {
    type Form = Form;

    fn form(&self) -> Form {
        form(Path::as_os_str(self))
    }

    fn of(form: Form) -> PathBuf {
        OsString::of(form).into()
    }
}

impl<T: Texts> Texts for Vec<T> {
    type Form = Vec<T::Form>;

    fn form(&self) -> Self::Form {
        self.iter().map(T::form).collect()
    }

    fn of(form: Self::Form) -> Vec<T> {
        form.into_iter().map(T::of).collect()
    }
}

impl<T: Texts> Texts for Option<T> {
    type Form = Option<T::Form>;

    fn form(&self) -> Self::Form {
        self.as_ref().map(T::form)
    }

    fn of(form: Self::Form) -> Option<T> {
        form.map(T::of)
    }
}

impl<A: Texts, B: Texts> Texts for (A, B) {
    type Form = (A::Form, B::Form);

    fn form(&self) -> Self::Form {
        (self.0.form(), self.1.form())
    }

    fn of(form: Self::Form) -> (A, B) {
        (A::of(form.0), B::of(form.1))
    }
}

/// For serde.
///
/// # Errors
/// Those of `to`.
pub fn serialize<T: Texts, S: Serializer>(texts: &T, to: S) -> Result<S::Ok, S::Error> {
    texts.form().serialize(to)
}

/// For serde.
///
/// # Errors
/// Those of `from`.
pub fn deserialize<'de, T: Texts, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    T::Form::deserialize(from).map(T::of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_arrive_as_they_were_but_for_what_none_can_hold() {
        type Words = Vec<(OsString, Option<PathBuf>)>;
        let words: Words = vec![
            ("a\n".into(), None),
            (OsString::from_vec(vec![0xff]), Some("/ä".into())),
        ];
        let json = serde_json::to_string(&words.form()).unwrap();
        assert_eq!(json, r#"[["a\n",null],[[255],"/ä"]]"#);
        assert_eq!(Words::of(serde_json::from_str(&json).unwrap()), words);
        for json in [r#""a\u0000b""#, "[97,0,98]"] {
            assert_eq!(OsString::of(serde_json::from_str(json).unwrap()), "ab");
        }
    }
}
