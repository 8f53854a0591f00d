//! Which image of several: what can stand behind a path, and which of an archive's or a layout's images it means.

use crate::oci::{self, Descriptor, Reference};
use chariot_core::error::{Error, Result};

/// The annotations in which tools leave an image's tag, and containerd its whole name.
const TAG: &str = "org.opencontainers.image.ref.name";
const NAME: &str = "io.containerd.image.name";

/// Which image is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// The only one.
    Only,
    /// That with this name or tag.
    Named(String),
    /// That at this place in the list, counted from 0.
    Numbered(usize),
}

impl Which {
    /// Reads what stands behind a path: a name or tag, or `@` and a number.
    pub fn parse(text: &str) -> Which {
        let number = text
            .strip_prefix('@')
            .and_then(|number| number.parse().ok());
        number.map_or_else(|| Which::Named(text.to_owned()), Which::Numbered)
    }

    /// The place of the image among those that have these names, in the list's order. None, if the only one is meant
    /// and there are several.
    pub(super) fn among(&self, images: &[Vec<String>]) -> Result<Option<usize>> {
        match self {
            Which::Only => Ok((images.len() == 1).then_some(0)),
            Which::Numbered(number) if *number < images.len() => Ok(Some(*number)),
            Which::Numbered(number) => Err(self.none(&format!("no image @{number}"), images)),
            Which::Named(wanted) => {
                let exact = |name: &String| name == wanted || is_the_same(name, wanted);
                let by_tag = |name: &String| name.ends_with(&format!(":{wanted}"));
                let found = positions(images, exact);
                let found = match found.is_empty() {
                    true => positions(images, by_tag),
                    false => found,
                };
                match found.as_slice() {
                    [one] => Ok(Some(*one)),
                    [] => Err(self.none(&format!("no image {wanted}"), images)),
                    _ => Err(self.none(&format!("more than one image {wanted}"), images)),
                }
            }
        }
    }

    fn none(&self, what: &str, images: &[Vec<String>]) -> Error {
        ambiguous(&format!("there is {what} in it"), images)
    }

    /// The image, or list of images, that is meant of a layout's.
    pub(super) fn of_list(&self, manifests: &[Descriptor]) -> Result<Descriptor> {
        let names: Vec<Vec<String>> = manifests.iter().map(names).collect();
        if let Some(place) = self.place_of(manifests, &names)? {
            return Ok(manifests[place].clone());
        }
        let unlike = |one: &&Descriptor| one.is_for_another_machine();
        let mut fitting: Vec<&Descriptor> = manifests.iter().filter(|one| !unlike(one)).collect();
        fitting.dedup_by(|one, other| one.digest == other.digest);
        let named = fitting.iter().filter(|one| !self::names(one).is_empty());
        if named.count() > 1 {
            return Err(several(&names));
        }
        oci::choose(manifests)
            .cloned()
            .map_err(|reason| Error::new(format!("can't choose an image of the layout: {reason}")))
    }

    /// As [`Which::among`]. One name can stand for an image of each kind of machine.
    fn place_of(&self, manifests: &[Descriptor], names: &[Vec<String>]) -> Result<Option<usize>> {
        let found = self.among(names);
        if let (Err(_), Which::Named(wanted)) = (&found, self) {
            let is_meant = |place: &usize| {
                names[*place].iter().any(|name| name == wanted)
                    && !manifests[*place].is_for_another_machine()
            };
            let places: Vec<usize> = (0..manifests.len()).filter(is_meant).collect();
            if let [one] = places.as_slice() {
                return Ok(Some(*one));
            }
        }
        found
    }
}

fn positions(images: &[Vec<String>], fits: impl Fn(&String) -> bool) -> Vec<usize> {
    (0..images.len())
        .filter(|place| images[*place].iter().any(&fits))
        .collect()
}

/// Whether two names are the same when they are written out: `a`, `docker.io/library/a:latest`.
fn is_the_same(name: &str, wanted: &str) -> bool {
    let whole = |text| Reference::parse(text).ok();
    matches!((whole(name), whole(wanted)), (Some(name), Some(wanted)) if name == wanted)
}

/// What an image of a layout is called.
fn names(one: &Descriptor) -> Vec<String> {
    [NAME, TAG]
        .iter()
        .filter_map(|key| one.annotations.get(*key).cloned())
        .collect()
}

/// That there are several images and nobody said which is meant.
pub(super) fn several(images: &[Vec<String>]) -> Error {
    ambiguous("there are several images in it", images)
}

fn ambiguous(sentence: &str, images: &[Vec<String>]) -> Error {
    let known: Vec<&str> = images
        .iter()
        .filter_map(|names| names.first().map(String::as_str))
        .collect();
    let last = images.len().saturating_sub(1);
    Error::new(sentence).hint(match known.is_empty() {
        true => format!("append a colon and its position in the list to the path: @0 to @{last}"),
        false => format!(
            "append a colon and its name, or its position (@0 to @{last}), to the path; it has {}",
            known.join(", ")
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_found_by_name_by_tag_and_by_number() {
        let images = [
            vec!["docker.io/library/a:latest".to_owned()],
            vec![],
            vec!["localhost/b:1".to_owned(), "localhost/b:2".to_owned()],
            vec!["h.de/c:1".to_owned()],
        ];
        let found = |text: &str| Which::parse(text).among(&images);
        for (text, place) in [
            ("a", 0),
            ("docker.io/library/a:latest", 0),
            ("latest", 0),
            ("@1", 1),
            ("localhost/b:2", 2),
            ("2", 2),
            ("h.de/c:1", 3),
        ] {
            assert_eq!(found(text), Ok(Some(place)), "{text}");
        }
        for (text, sentence) in [
            ("1", "more than one image 1"),
            ("b", "no image b"),
            ("@4", "no image @4"),
        ] {
            let error = found(text).unwrap_err();
            assert!(error.to_string().contains(sentence), "{text}: {error}");
            assert!(
                error
                    .advice()
                    .is_some_and(|hint| hint.contains("localhost/b:1"))
            );
        }
        assert_eq!(Which::Only.among(&images), Ok(None));
        assert_eq!(Which::Only.among(&images[..1]), Ok(Some(0)));
    }
}
