//! OCI layouts, and skopeo's directories: images that consist of blobs, which are called by their digests and held
//! against them whenever they are used.

use std::path::Path;

use super::archive::Archive;
use super::blobs::{Blobs, Naming, contents_of};
use super::origin::Origin;
use super::which::Which;
use crate::image::metadata::{Layer, Mark};
use crate::oci::{self, Descriptor, Digest, Document, Manifest};
use chariot_core::error::{Error, Explain, Result};

/// The list of a layout's images, and what says that it is one.
pub(super) const LIST: &str = "index.json";
pub(super) const SIGN: &str = "oci-layout";

/// What a directory of skopeo's has beside `manifest.json`, and how that begins.
const VERSION: &str = "version";
const VERSION_BEGINS: &[u8] = b"Directory Transport Version:";

/// The image of a layout that is meant.
pub(super) fn image(place: &Blobs, which: &Which) -> Result<Origin> {
    in_list(place, LIST, which)
}

/// The image in a directory of skopeo's.
pub(super) fn flat_image(directory: &Path) -> Result<Origin> {
    let place = Blobs::Directory(directory.to_owned(), Naming::Flat);
    if !place.has(super::saved::LIST) {
        return Err(
            Error::new("it is not a directory made by dir:, which has a manifest.json")
                .hint("a directory that holds a file system is given by its path alone"),
        );
    }
    in_list(&place, super::saved::LIST, &Which::Only)
}

/// From a list to an image, through lists in lists.
fn in_list(place: &Blobs, name: &str, which: &Which) -> Result<Origin> {
    let what = || format!("can't read {name}");
    let mut bytes = place.read(name).explain(what)?;
    let mut digest = Digest::of(&bytes);
    let mut name = name.to_owned();
    let mut which = which;
    for _ in 0..oci::DEEPEST {
        let document = Document::parse(&bytes)
            .map_err(|reason| Error::new(format!("can't understand {name}: {reason}")))?;
        let next = match document {
            Document::Manifest(manifest) => return of_manifest(place, &digest, &manifest),
            Document::Index(manifests) => which.of_list(&manifests)?,
        };
        which = &Which::Only;
        (name, bytes) = document_of(place, &next)?;
        digest = next.digest;
    }
    Err(Error::new("the image indexes are nested too deeply"))
}

/// A document that a descriptor names, which must have its digest, and the name of its file.
fn document_of(place: &Blobs, descriptor: &Descriptor) -> Result<(String, Vec<u8>)> {
    let (name, opened) = place.blob(&descriptor.digest);
    let bytes = opened
        .and_then(contents_of)
        .explain(|| format!("can't read {name}"))?;
    match descriptor.digest.fits(&bytes) {
        true => Ok((name, bytes)),
        false => Err(Error::new(format!(
            "{name} is damaged: its digest is another"
        ))),
    }
}

/// The image that a manifest describes.
fn of_manifest(place: &Blobs, digest: &Digest, manifest: &Manifest) -> Result<Origin> {
    manifest.refuse_artifact().map_err(Error::new)?;
    let (_, bytes) = document_of(place, &manifest.config)?;
    let configuration = oci::configuration(&bytes)?;
    let diff_ids = configuration
        .layers(manifest.layers.len())
        .map_err(Error::new)?;
    let mut origin = Origin::layered(Mark {
        digest: Some(digest.to_string()),
        layers: manifest.layers.iter().map(layer).collect(),
        ..Mark::of_configuration(&configuration)
    });
    for (layer, diff_id) in manifest.layers.iter().zip(diff_ids) {
        let (name, opened) = place.blob(&layer.digest);
        let (file, start, length) = opened.explain(|| format!("can't read {name}"))?;
        let path = place.path(&name);
        if length != layer.size {
            return Err(Error::new(format!(
                "{name} is damaged: it has {length} bytes and should have {}",
                layer.size
            )));
        }
        origin.add(
            |meter| {
                Archive::new(file, start, Some(length), meter)
                    .named(&format!("the layer {}", layer.digest))
                    .lying_at(path)
                    .verified(layer.digest.clone())
                    .holding(diff_id)
            },
            length,
        );
    }
    Ok(origin)
}

/// The image of blobs that lie in `directory` as in a layout. They were verified when they were fetched, which says
/// nothing of what has become of them since.
///
/// # Errors
/// One cannot be read or understood.
pub fn of_blobs(directory: &Path, digest: &Digest, manifest: &Manifest) -> Result<Origin> {
    let place = Blobs::Directory(directory.to_owned(), Naming::Layout);
    of_manifest(&place, digest, manifest)
}

/// A layer as a mark names it.
pub fn layer(descriptor: &Descriptor) -> Layer {
    Layer {
        digest: descriptor.digest.to_string(),
        size: descriptor.size,
    }
}

/// Whether a directory is an OCI layout.
pub fn is_layout(directory: &Path) -> bool {
    directory.join(SIGN).is_file() && directory.join(LIST).is_file()
}

/// Whether a directory is one of skopeo's.
pub fn is_flat(directory: &Path) -> bool {
    let place = Blobs::Directory(directory.to_owned(), Naming::Flat);
    let version = place.read(VERSION);
    version.is_ok_and(|text| text.starts_with(VERSION_BEGINS)) && place.has(super::saved::LIST)
}
