//! OCI layouts and what `docker save` writes, in a directory or in a tar archive.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use std::os::unix::fs::FileExt;

use tar::{Archive as Tar, EntryType};

use super::archive::{Archive, decompressed};
use super::origin::Origin;
use super::ration::{Ration, Rationed};
use crate::error::{Error, Explain, Result};
use crate::image::metadata::{Layer, Mark};
use crate::oci::{self, Configuration, Descriptor, Digest, Document, Manifest, SavedImage};

/// The annotation in which tools leave an image's tag in a layout.
const TAG: &str = "org.opencontainers.image.ref.name";

/// The most members of an archive of layers; each layer has three at most.
const MOST_MEMBERS: usize = 10_000;

/// How many lists of images may lie in each other.
const DEEPEST: usize = 4;

/// Where the files of a layout are.
#[derive(Debug)]
pub(super) enum Place {
    /// In a directory.
    Directory(PathBuf),
    /// In a tar archive: where each member's contents begin, and their length.
    Archive(File, HashMap<Vec<u8>, Found>),
}

/// What an archive has under a name.
#[derive(Debug)]
pub(super) enum Found {
    Contents(u64, u64),
    /// Older versions of Docker save a layer once and link to it.
    Link(Vec<u8>),
}

/// Whether the first member of an archive is one that only layouts have.
pub(super) fn is_in_layout(name: &[u8]) -> bool {
    let name = name.strip_prefix(b"./").unwrap_or(name);
    let first = name.split(|byte| *byte == b'/').next().unwrap_or_default();
    let known: [&[u8]; 5] = [
        b"blobs",
        b"oci-layout",
        b"index.json",
        b"manifest.json",
        b"repositories",
    ];
    let stem = first
        .strip_suffix(b".json")
        .or_else(|| first.strip_suffix(b".tar"))
        .unwrap_or(first);
    known.contains(&first) || (stem.len() == 64 && stem.iter().all(u8::is_ascii_hexdigit))
}

impl Place {
    /// Looks into an archive; a compressed one is written out first, into `scratch`.
    pub(super) fn in_archive(file: File, scratch: &Path, most: u64) -> io::Result<Place> {
        let mut start = [0; 512];
        let count = file.read_at(&mut start, 0)?;
        let is_compressed = !start[..count].windows(5).any(|window| window == b"ustar");
        let file = match is_compressed {
            true => write_out(file, scratch, most)?,
            false => file,
        };
        let mut members = HashMap::new();
        let ration = Ration::default();
        let mut archive = Tar::new(Rationed::new(file.try_clone()?, &ration));
        for entry in archive.entries_with_seek()? {
            let entry = entry?;
            ration.headers();
            if members.len() > MOST_MEMBERS {
                return Err(io::Error::other("it has too many members for an image"));
            }
            let path = entry.path_bytes();
            let name = path.strip_prefix(b"./").unwrap_or(&path).to_vec();
            let found = match entry.header().entry_type() {
                EntryType::Symlink | EntryType::Link => {
                    Found::Link(entry.link_name_bytes().unwrap_or_default().into_owned())
                }
                _ => Found::Contents(entry.raw_file_position(), entry.size()),
            };
            members.insert(name, found);
        }
        Ok(Place::Archive(file, members))
    }

    /// A file of the layout: where it begins and how long it is.
    fn open(&self, name: &str) -> io::Result<(File, u64, u64)> {
        match self {
            Place::Directory(directory) => {
                let file = File::open(directory.join(name))?;
                let length = file.metadata()?.len();
                Ok((file, 0, length))
            }
            Place::Archive(file, members) => {
                let missing = || io::Error::from(io::ErrorKind::NotFound);
                let mut name = name.as_bytes().to_vec();
                for _ in 0..DEEPEST {
                    match members.get(&name).ok_or_else(missing)? {
                        Found::Contents(start, length) => {
                            return Ok((file.try_clone()?, *start, *length));
                        }
                        Found::Link(target) => name = beside(&name, target),
                    }
                }
                Err(missing())
            }
        }
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let (file, start, length) = self.open(name)?;
        if length > oci::LARGEST {
            return Err(io::Error::other("it is too large"));
        }
        let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
        file.read_exact_at(&mut bytes, start)?;
        Ok(bytes)
    }

    fn has(&self, name: &str) -> bool {
        self.open(name).is_ok()
    }

    /// A document that a descriptor names, which must have its digest.
    fn document(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let name = blob(&descriptor.digest);
        let bytes = self.read(&name).explain(|| format!("can't read {name}"))?;
        match Digest::of(&bytes) == descriptor.digest {
            true => Ok(bytes),
            false => Err(Error::new(format!(
                "{name} is damaged: its digest is another"
            ))),
        }
    }

    /// The image in it, with the tag if one was given.
    pub(super) fn image(&self, tag: Option<&str>) -> Result<Origin> {
        if self.has("index.json") {
            let (digest, manifest) = self.find(tag)?;
            return self.of_manifest(&digest, &manifest, Archive::verified);
        }
        self.saved(tag)
    }

    /// Whether there is an image in it at all.
    pub(super) fn is_layout(&self) -> bool {
        self.has("index.json") || self.has("manifest.json")
    }

    fn find(&self, tag: Option<&str>) -> Result<(Digest, Manifest)> {
        let mut bytes = self
            .read("index.json")
            .explain(|| "can't read index.json".into())?;
        let mut digest = Digest::of(&bytes);
        let mut tag = tag;
        for _ in 0..DEEPEST {
            let document = Document::parse(&bytes).map_err(|reason| {
                Error::new(format!("can't understand the layout's {digest}: {reason}"))
            })?;
            let next = match document {
                Document::Manifest(manifest) => return Ok((digest, manifest)),
                Document::Index(manifests) => tagged(manifests, tag.take())?,
            };
            bytes = self.document(&next)?;
            digest = next.digest;
        }
        Err(Error::new(
            "the layout's lists of images lie too deep in each other",
        ))
    }

    /// The image that a manifest describes; `check` says how a layer is held against its digest.
    fn of_manifest(
        &self,
        digest: &Digest,
        manifest: &Manifest,
        check: fn(Archive, Digest) -> Archive,
    ) -> Result<Origin> {
        let configuration = configuration(&self.document(&manifest.config)?)?;
        let mut origin = Origin::layered(Mark {
            digest: Some(digest.to_string()),
            layers: manifest.layers.iter().map(layer).collect(),
            ..Mark::of_configuration(&configuration)
        });
        for layer in &manifest.layers {
            let name = blob(&layer.digest);
            let (file, start, length) =
                self.open(&name).explain(|| format!("can't read {name}"))?;
            if length != layer.size {
                return Err(Error::new(format!(
                    "{name} is damaged: it has {length} bytes and should have {}",
                    layer.size
                )));
            }
            origin.add(
                |meter| {
                    check(
                        Archive::new(file, start, Some(length), meter),
                        layer.digest.clone(),
                    )
                },
                length,
            );
        }
        Ok(origin)
    }

    /// What `docker save` wrote.
    fn saved(&self, tag: Option<&str>) -> Result<Origin> {
        let what = || "can't read manifest.json".to_owned();
        let bytes = self.read("manifest.json").explain(what)?;
        let images: Vec<SavedImage> = serde_json::from_slice(&bytes)
            .map_err(|error| Error::new(format!("{}: {error}", what())))?;
        let names: Vec<String> = images
            .iter()
            .flat_map(|image| image.repo_tags.clone())
            .collect();
        let has = |image: &&SavedImage, tag: &str| {
            image
                .repo_tags
                .iter()
                .any(|name| name == tag || name.ends_with(&format!(":{tag}")))
        };
        let image = match tag {
            Some(tag) => images.iter().find(|image| has(image, tag)),
            None => images.first().filter(|_| images.len() == 1),
        };
        let image = image.ok_or_else(|| ambiguous(tag, &names))?;
        let bytes = self
            .read(&image.config)
            .explain(|| format!("can't read {}", image.config))?;
        let mut origin = Origin::layered(Mark::of_configuration(&configuration(&bytes)?));
        for name in &image.layers {
            let (file, start, length) = self.open(name).explain(|| format!("can't read {name}"))?;
            origin.add(
                |meter| Archive::new(file, start, Some(length), meter),
                length,
            );
        }
        Ok(origin)
    }
}

/// The image of blobs that lie in `directory` as in a layout and have been verified.
///
/// # Errors
/// One cannot be read or understood.
pub fn of_blobs(directory: &Path, digest: &Digest, manifest: &Manifest) -> Result<Origin> {
    Place::Directory(directory.to_owned()).of_manifest(digest, manifest, |archive, _| archive)
}

fn configuration(bytes: &[u8]) -> Result<Configuration> {
    serde_json::from_slice(bytes).map_err(|error| {
        Error::new(format!(
            "can't understand the image's configuration: {error}"
        ))
    })
}

/// A layer as a mark names it.
pub fn layer(descriptor: &Descriptor) -> Layer {
    Layer {
        digest: descriptor.digest.to_string(),
        size: descriptor.size,
    }
}

/// Where a blob lies in a layout.
pub fn blob(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// The path that a relative link beside `name` means.
fn beside(name: &[u8], target: &[u8]) -> Vec<u8> {
    let directory = name
        .rsplitn(2, |byte| *byte == b'/')
        .nth(1)
        .unwrap_or_default();
    let mut parts: Vec<&[u8]> = directory.split(|byte| *byte == b'/').collect();
    for part in target.split(|byte| *byte == b'/') {
        match part {
            b".." => drop(parts.pop()),
            b"." | b"" => {}
            part => parts.push(part),
        }
    }
    parts.retain(|part| !part.is_empty());
    parts.join(&b'/')
}

/// The image with a tag, or the one for this machine.
fn tagged(manifests: Vec<Descriptor>, tag: Option<&str>) -> Result<Descriptor> {
    let name = |one: &Descriptor| one.annotations.get(TAG).cloned();
    let Some(tag) = tag else {
        if let [only] = manifests.as_slice() {
            return Ok(only.clone());
        }
        return oci::choose(&manifests).cloned().map_err(|reason| {
            let names: Vec<String> = manifests.iter().filter_map(name).collect();
            match names.is_empty() {
                true => Error::new(format!("can't choose an image of the layout: {reason}")),
                false => ambiguous(None, &names),
            }
        });
    };
    let found = manifests
        .iter()
        .find(|one| name(one).as_deref() == Some(tag));
    found.cloned().ok_or_else(|| {
        let names: Vec<String> = manifests.iter().filter_map(name).collect();
        ambiguous(Some(tag), &names)
    })
}

fn ambiguous(tag: Option<&str>, names: &[String]) -> Error {
    let sentence = match tag {
        Some(tag) => format!("there is no image {tag} in it"),
        None => "there are several images in it".to_owned(),
    };
    match names.is_empty() {
        true => Error::new(sentence),
        false => Error::new(sentence).hint(format!(
            "write its tag behind the path and a colon; it has {}",
            names.join(", ")
        )),
    }
}

/// Writes a compressed archive out, so that its members can be found.
fn write_out(file: File, scratch: &Path, most: u64) -> io::Result<File> {
    let mut plain = tempfile::tempfile_in(scratch)?;
    let count = io::copy(&mut decompressed(file)?.take(most), &mut plain)?;
    match count < most {
        true => Ok(plain),
        false => Err(io::Error::other(format!(
            "it is larger than {most} bytes uncompressed"
        ))),
    }
}

/// Whether a directory is an OCI layout.
pub fn is_layout(directory: &Path) -> bool {
    directory.join("oci-layout").is_file() && directory.join("index.json").is_file()
}
