//! What OCI and Docker images say of themselves: JSON documents from somebody else, so only what is needed is
//! read, and what is missing or null is nothing.

mod artifact;
mod digest;
mod machine;
mod reference;

use std::collections::BTreeMap;

use chariot_core::error::Error;
use serde::{Deserialize, Deserializer, Serialize};

pub use digest::Digest;
pub use digest::Hasher;
pub use machine::{architecture, choose, refuse_another};
pub use reference::Reference;

/// The largest document that is read, in bytes; registries themselves take no more than 4 MiB.
pub const LARGEST: u64 = 4 << 20;

/// How many lists of images may lie in each other.
pub const DEEPEST: usize = 4;

/// Where a blob lies in a layout.
pub fn blob(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hex())
}

/// Reads an image's configuration.
///
/// # Errors
/// It is none.
pub fn configuration(bytes: &[u8]) -> Result<Configuration, Error> {
    serde_json::from_slice(bytes).map_err(|error| {
        Error::new(format!(
            "can't understand the image's configuration: {error}"
        ))
    })
}

/// Where a blob is, and what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Its type.
    #[serde(default, deserialize_with = "nothing_if_null")]
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// For which machines it is.
    #[serde(default)]
    pub platform: Option<Platform>,
    /// What else is said of it.
    #[serde(default, deserialize_with = "nothing_if_null")]
    pub annotations: BTreeMap<String, String>,
}

impl Descriptor {
    /// Whether it can be an image, or a list of images: not a note on one that lies beside it in a list.
    fn is_perhaps_an_image(&self) -> bool {
        let is_for_something = |platform: &Platform| platform.os != "unknown";
        self.platform.as_ref().is_none_or(is_for_something)
            && !self.annotations.contains_key("vnd.docker.reference.type")
    }
}

/// A kind of machine, in Go's words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// `amd64` and the like.
    #[serde(default, deserialize_with = "nothing_if_null")]
    pub architecture: String,
    /// `linux`.
    #[serde(default, deserialize_with = "nothing_if_null")]
    pub os: String,
    /// `v8` and the like.
    #[serde(default)]
    pub variant: Option<String>,
}

impl Platform {
    /// Whether any machine of the architecture will do, not only a newer one.
    fn is_for_all(&self) -> bool {
        matches!(self.variant.as_deref(), None | Some("" | "v1" | "v8"))
    }
}

/// An image, or a list of images for several kinds of machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// One image.
    Manifest(Manifest),
    /// Several.
    Index(Vec<Descriptor>),
}

/// One image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Its configuration.
    pub config: Descriptor,
    /// Its layers, the lowest first.
    pub layers: Vec<Descriptor>,
    /// What it is, if it is no image.
    #[serde(rename = "artifactType", default)]
    pub artifact_type: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Either {
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    #[serde(default, deserialize_with = "nothing_if_null")]
    artifact_type: String,
}

impl Document {
    /// Reads a manifest or an index.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Document, String> {
        let either: Either = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        match (either.config, either.layers, either.manifests) {
            (Some(config), Some(layers), _) => Ok(Document::Manifest(Manifest {
                config,
                layers,
                artifact_type: either.artifact_type,
            })),
            (_, _, Some(manifests)) => Ok(Document::Index(manifests)),
            _ => Err("it is neither an image nor a list of images".into()),
        }
    }
}

/// The configuration of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Configuration {
    /// The architecture that it is for.
    #[serde(default, deserialize_with = "nothing_if_null")]
    pub architecture: String,
    /// The kernel that it is for.
    #[serde(default, deserialize_with = "nothing_if_null")]
    pub os: String,
    /// What a container of it does.
    #[serde(default, deserialize_with = "nothing_if_null")]
    pub config: Defaults,
    /// What its layers are.
    #[serde(default, deserialize_with = "nothing_if_null")]
    pub rootfs: Layers,
}

/// The layers of an image as its configuration knows them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Layers {
    /// The digest of each, uncompressed, the lowest first.
    #[serde(default, deserialize_with = "nothing_if_null")]
    pub diff_ids: Vec<Digest>,
}

impl Configuration {
    /// What each of an image's layers has to be when it is uncompressed; nothing, if its maker does not say.
    ///
    /// # Errors
    /// It speaks of more or fewer layers than there are.
    pub fn layers(&self, count: usize) -> Result<Vec<Option<Digest>>, String> {
        let known = &self.rootfs.diff_ids;
        match known.len() {
            0 => Ok(vec![None; count]),
            own if own == count => Ok(known.iter().cloned().map(Some).collect()),
            own => Err(format!(
                "its configuration speaks of {own} layers, and there are {count}"
            )),
        }
    }
}

/// What a container does unless it is told otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Defaults {
    /// Variables, `NAME=VALUE`.
    #[serde(deserialize_with = "nothing_if_null")]
    pub env: Vec<String>,
    /// Where it starts.
    #[serde(deserialize_with = "nothing_if_null")]
    pub working_dir: String,
    /// What it runs.
    #[serde(deserialize_with = "nothing_if_null")]
    pub entrypoint: Vec<String>,
    /// Arguments for that, or what it runs.
    #[serde(deserialize_with = "nothing_if_null")]
    pub cmd: Vec<String>,
    /// What else is said of it.
    #[serde(deserialize_with = "nothing_if_null")]
    pub labels: BTreeMap<String, String>,
}

fn nothing_if_null<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// One image in the `manifest.json` of `docker save`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SavedImage {
    /// The member that holds the configuration.
    pub config: String,
    /// Its names.
    #[serde(default, deserialize_with = "nothing_if_null")]
    pub repo_tags: Vec<String>,
    /// The members that hold the layers, the lowest first.
    pub layers: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(digit: char, platform: &str) -> String {
        let digest = digit.to_string().repeat(64);
        format!("{{\"digest\":\"sha256:{digest}\",\"size\":1{platform}}}")
    }

    #[test]
    fn the_image_for_this_machine_is_chosen_from_a_list() {
        let platform =
            |name: &str| format!(",\"platform\":{{\"os\":\"linux\",\"architecture\":\"{name}\"}}");
        let list = |first: &str, second: &str| format!("{{\"manifests\":[{first},{second}]}}");
        let text = list(
            &descriptor('a', &platform("s390x")),
            &descriptor('b', &platform(architecture())),
        );
        let Ok(Document::Index(manifests)) = Document::parse(text.as_bytes()) else {
            panic!("{text}");
        };
        assert_eq!(choose(&manifests).unwrap().digest.hex(), "b".repeat(64));
        let error = choose(&manifests[..1]).unwrap_err();
        assert!(error.ends_with("only for linux/s390x"), "{error}");
    }

    #[test]
    fn null_is_nothing_in_a_configuration() {
        let text =
            r#"{"architecture":"amd64","config":{"Env":null,"Cmd":["sh"],"Labels":null,"X":1}}"#;
        let read: Configuration = serde_json::from_str(text).unwrap();
        assert_eq!(read.config.cmd, ["sh"]);
        assert!(read.config.env.is_empty());
    }
}
