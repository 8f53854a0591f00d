//! Archives and directories in which images lie, and which of their images a word means:
//! `docker-archive:PATH[:NAME]`, `oci-archive:PATH[:NAME]`, `oci:PATH[:NAME]`, `dir:PATH`, as skopeo and podman have
//! them. In place of a name can stand `@` and a number.

use chariot_core::open;
use std::path::{Path, PathBuf};

use super::Source;
use crate::convert::origin::{Form, Origin, Which};
use chariot_core::error::{Error, Explain, Result};

/// A path with what is known of the image there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// The word that the user typed.
    pub word: String,
    pub(super) path: PathBuf,
    kind: Kind,
    which: Which,
}

/// How an image lies there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// In an archive; in which form, if the word says it.
    Archive(Option<Form>),
    /// As an OCI layout.
    Layout,
    /// As skopeo's `dir:` has it.
    Flat,
}

impl Bundle {
    /// The only image at a path.
    pub(super) fn new(word: &str, path: &Path, kind: Kind) -> Bundle {
        Bundle {
            word: word.to_owned(),
            path: path.to_owned(),
            kind,
            which: Which::Only,
        }
    }

    /// What follows a scheme. Names have colons too, so the path ends at the first; but one that is there may have
    /// some.
    pub(super) fn parse(word: &str, scheme: &str, rest: &str) -> Bundle {
        let kind = match scheme {
            "docker-archive" => Kind::Archive(Some(Form::Saved)),
            "oci-archive" => Kind::Archive(Some(Form::Layout)),
            "dir" => Kind::Flat,
            _ => Kind::Layout,
        };
        let whole = Bundle::new(word, Path::new(rest), kind);
        if kind == Kind::Flat || whole.path.exists() {
            return whole;
        }
        let mut splits = rest
            .match_indices(':')
            .map(|(at, _)| (&rest[..at], &rest[at + 1..]));
        let first = splits.clone().next();
        match splits.find(|(path, _)| Path::new(path).exists()).or(first) {
            Some((path, which)) => Bundle {
                which: Which::parse(which),
                ..Bundle::new(word, Path::new(path), kind)
            },
            None => whole,
        }
    }

    /// The source that it is.
    pub(super) fn source(self) -> Source {
        match self.kind {
            Kind::Archive(_) => Source::Archive(self),
            Kind::Layout | Kind::Flat => Source::Layout(self),
        }
    }

    /// The same under another name.
    pub(super) fn called(self, word: &str) -> Bundle {
        Bundle {
            word: word.to_owned(),
            ..self
        }
    }

    /// What the word says beyond the path; nothing, if what is there says all.
    pub(super) fn selection(&self) -> Option<String> {
        let form = match self.kind {
            Kind::Archive(Some(form)) => form.name(),
            _ => "",
        };
        match &self.which {
            Which::Only if form.is_empty() => None,
            Which::Only => Some(form.to_owned()),
            Which::Named(name) => Some(format!("{form} {name}")),
            Which::Numbered(number) => Some(format!("{form} @{number}")),
        }
    }

    /// A directory is no archive, and the other way round.
    pub(super) fn refuse_other_kind(&self) -> Result<()> {
        let is_directory = self.path.is_dir();
        let (what, advice) = match self.kind {
            Kind::Archive(_) if is_directory => (
                "is a directory",
                "oci:DIR is a layout in a directory, and dir:DIR what skopeo and podman make of dir:",
            ),
            Kind::Layout | Kind::Flat if !is_directory => (
                "is not a directory",
                "oci-archive:FILE and docker-archive:FILE are images in one file",
            ),
            _ => return Ok(()),
        };
        Err(Error::new(format!(
            "can't use the image {}: {} {what}",
            self.word,
            self.path.display()
        ))
        .hint(advice))
    }

    /// Opens it to make something else of it. A pipe is waited for: it was named to be read.
    pub(super) fn open(&self, scratch: &dyn Fn() -> PathBuf, most: u64) -> Result<Origin> {
        match self.kind {
            Kind::Archive(form) => {
                let file = open::archive(&self.path).explain(|| "open()".into())?;
                Origin::of_archive(file, form, &self.which, scratch, most)
            }
            Kind::Layout => Origin::of_layout(&self.path, &self.which),
            Kind::Flat => Origin::of_flat_layout(&self.path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_ends_where_something_is_and_else_at_the_first_colon() {
        let here = tempfile::tempdir().unwrap();
        for name in ["a.tar", "b:1.tar", "c", "c:2"] {
            std::fs::write(here.path().join(name), "").unwrap();
        }
        let parsed = |rest: &str| {
            let rest = format!("{}/{rest}", here.path().display());
            let place = Bundle::parse("word", "docker-archive", &rest);
            let name = place.path.file_name().unwrap().to_owned();
            (name.into_string().unwrap(), place.which)
        };
        let named = |name: &str| Which::Named(name.to_owned());
        for (rest, path, which) in [
            ("a.tar", "a.tar", Which::Only),
            ("a.tar:h.de:5000/a:1", "a.tar", named("h.de:5000/a:1")),
            ("a.tar:@2", "a.tar", Which::Numbered(2)),
            ("b:1.tar", "b:1.tar", Which::Only),
            ("b:1.tar:tag", "b:1.tar", named("tag")),
            ("c:2", "c:2", Which::Only),
            ("missing:a:1", "missing", named("a:1")),
        ] {
            assert_eq!(parsed(rest), (path.to_owned(), which), "{rest}");
        }
    }
}
