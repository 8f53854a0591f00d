//! What OCI and Docker images say of themselves: JSON documents from somebody else, so only what is needed is
//! read, and what is missing or null is nothing.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer};

/// The largest document that is read, in bytes; registries themselves take no more than 4 MiB.
pub const LARGEST: u64 = 4 << 20;

/// The digest of a blob: SHA-256, the only algorithm that registries use.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(String);

impl Digest {
    /// Reads `sha256:` and 64 digits.
    pub fn parse(text: &str) -> Option<Digest> {
        let digits = text.strip_prefix("sha256:")?;
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        (digits.len() == 64 && digits.bytes().all(is_hex)).then(|| Digest(text.to_owned()))
    }

    /// The digest of these bytes.
    #[cfg(feature = "launcher")]
    pub fn of(bytes: &[u8]) -> Digest {
        use sha2::Digest as _;
        Digest::from_hash(&sha2::Sha256::digest(bytes))
    }

    /// The digest that a finished hash gives.
    #[cfg(feature = "launcher")]
    pub fn from_hash(hash: &[u8]) -> Digest {
        let digits: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        Digest(format!("sha256:{digits}"))
    }

    /// The 64 digits, which are a safe file name.
    pub fn hex(&self) -> &str {
        self.0.trim_start_matches("sha256:")
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Digest, D::Error> {
        let text = String::deserialize(from)?;
        Digest::parse(&text)
            .ok_or_else(|| serde::de::Error::custom(format!("\"{text}\" is no SHA-256 digest")))
    }
}

/// Where a blob is, and what.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
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

/// A kind of machine, in Go's words.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Platform {
    /// `amd64` and the like.
    pub architecture: String,
    /// `linux`.
    pub os: String,
    /// `v8` and the like.
    #[serde(default)]
    pub variant: Option<String>,
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
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Manifest {
    /// Its configuration.
    pub config: Descriptor,
    /// Its layers, the lowest first.
    pub layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Either {
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
}

impl Document {
    /// Reads a manifest or an index.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Document, String> {
        let either: Either = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        match (either.config, either.layers, either.manifests) {
            (Some(config), Some(layers), _) => Ok(Document::Manifest(Manifest { config, layers })),
            (_, _, Some(manifests)) => Ok(Document::Index(manifests)),
            _ => Err("it is neither an image nor a list of images".into()),
        }
    }
}

/// The image for this machine among those of an index.
///
/// # Errors
/// For which machines there are images.
pub fn choose(manifests: &[Descriptor]) -> Result<&Descriptor, String> {
    let own = architecture();
    let fits = |platform: &Platform| platform.os == "linux" && platform.architecture == own;
    let exact = manifests
        .iter()
        .find(|one| one.platform.as_ref().is_some_and(fits));
    // A list of one that does not say for what it is, as tools without other platforms make it.
    let only = manifests
        .first()
        .filter(|one| manifests.len() == 1 && one.platform.is_none());
    exact.or(only).ok_or_else(|| {
        let names: Vec<String> = manifests
            .iter()
            .filter_map(|one| one.platform.as_ref())
            .map(|platform| format!("{}/{}", platform.os, platform.architecture))
            .collect();
        match names.is_empty() {
            true => "it names no image for any machine".into(),
            false => format!(
                "there is none for linux/{own}, only for {}",
                names.join(", ")
            ),
        }
    })
}

/// This machine's architecture in Go's words.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        "x86" => "386",
        other => other,
    }
}

/// The configuration of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Configuration {
    /// The architecture that it is for.
    #[serde(default, deserialize_with = "nothing_if_null")]
    pub architecture: String,
    /// What a container of it does.
    #[serde(default, deserialize_with = "nothing_if_null")]
    pub config: Defaults,
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
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
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

    #[test]
    fn a_digest_is_a_safe_file_name_or_none() {
        assert!(Digest::parse(&format!("sha256:{}", "0".repeat(64))).is_some());
        for text in [
            "",
            "sha256:",
            "sha256:../../etc/passwd",
            &format!("sha256:{}", "G".repeat(64)),
            &"0".repeat(64),
        ] {
            assert_eq!(Digest::parse(text), None, "{text}");
        }
    }
}
