//! What `docker save` and its like write: `manifest.json`, a list of images with the names of the files that hold
//! their configurations and layers. The files have whatever names their writer likes.

use super::archive::Archive;
use super::blobs::Blobs;
use super::origin::Origin;
use super::which::{Which, several};
use crate::image::metadata::Mark;
use crate::oci::{SavedImage, configuration};
use chariot_core::error::{Error, Explain, Result};

/// The list of images.
pub(super) const LIST: &str = "manifest.json";

/// The images that a list names, if it is one.
pub(super) fn images(bytes: &[u8]) -> std::result::Result<Vec<SavedImage>, serde_json::Error> {
    serde_json::from_slice(bytes)
}

/// The image that is meant.
pub(super) fn image(place: &Blobs, which: &Which) -> Result<Origin> {
    let what = || format!("can't read {LIST}");
    let bytes = place.read(LIST).explain(what)?;
    let images = images(&bytes).map_err(|error| {
        Error::new(format!("can't understand {LIST}: {error}"))
            .hint("it should be a list of images, as docker save writes it")
    })?;
    let names: Vec<_> = images.iter().map(|image| image.repo_tags.clone()).collect();
    let at = which.among(&names)?.ok_or_else(|| several(&names))?;
    let image = &images[at];
    let bytes = place
        .read(&image.config)
        .explain(|| format!("can't read {}", image.config))?;
    let configuration = configuration(&bytes)?;
    let diff_ids = configuration
        .layers(image.layers.len())
        .map_err(Error::new)?;
    let mut origin = Origin::layered(Mark::of_configuration(&configuration));
    for (name, diff_id) in image.layers.iter().zip(diff_ids) {
        let opened = place.open(name).explain(|| format!("can't read {name}"))?;
        let (file, start, length) = opened;
        origin.add(
            |meter| {
                Archive::new(file, start, Some(length), meter)
                    .named(name)
                    .holding(diff_id)
            },
            length,
        );
    }
    Ok(origin)
}
