//! Names of images in registries: `docker://[HOST/]NAME[:TAG][@DIGEST]`.

use std::fmt;

use super::Digest;

/// The registry that is meant if none is named, and what it calls itself.
const HUB: &str = "docker.io";
const HUB_SERVER: &str = "registry-1.docker.io";

/// The longest tag.
const LONGEST_TAG: usize = 128;

/// The longest name, with its host.
const LONGEST_NAME: usize = 255;

/// A name of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The registry, with a port if one was given.
    pub host: String,
    /// The image's name there.
    pub repository: String,
    /// Its tag.
    pub tag: Option<String>,
    /// Its digest, which is stronger than the tag.
    pub digest: Option<Digest>,
}

impl Reference {
    /// Reads what follows `docker://` or `docker:`.
    ///
    /// ```
    /// use chariot::oci::Reference;
    ///
    /// let app = Reference::parse("//registry.example.org:5000/team/app:1.2").unwrap();
    /// assert_eq!(app.host, "registry.example.org:5000");
    /// assert_eq!(app.repository, "team/app");
    /// assert_eq!(app.tag.as_deref(), Some("1.2"));
    /// assert!(Reference::parse("//registry.example.org/Team/App").is_err());
    /// ```
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Reference, String> {
        let rest = text.trim_start_matches('/');
        let (rest, digest) = match rest.split_once('@') {
            Some((rest, digest)) => {
                let digest = Digest::parse(digest).ok_or_else(|| {
                    format!(
                        "\"{digest}\" is not a digest: sha256: and 64 digits, or sha512: and 128"
                    )
                })?;
                (rest, Some(digest))
            }
            None => (rest, None),
        };
        // enroot and pyxis put # between registry and name.
        let rest = rest.replacen('#', "/", 1);
        let last = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match rest[last..].split_once(':') {
            Some((_, tag)) => (&rest[..rest.len() - tag.len() - 1], Some(tag)),
            None => (rest.as_str(), None),
        };
        if let Some(tag) = tag.filter(|tag| !is_tag(tag)) {
            return Err(format!(
                "\"{tag}\" is not a tag: letters, digits, and . _ - after the first"
            ));
        }
        let (host, repository) = split_host(name);
        if !is_host(host) {
            return Err(format!("\"{host}\" is not a host"));
        }
        let is_short = host == HUB && !repository.contains('/');
        let repository = match is_short {
            true => format!("library/{repository}"),
            false => repository.to_owned(),
        };
        if !repository.split('/').all(is_component) || host.len() + repository.len() > LONGEST_NAME
        {
            return Err(format!(
                "\"{repository}\" is not an image name: lower-case letters, digits, and single . _ - between them"
            ));
        }
        let tag = tag.map(str::to_owned);
        Ok(Reference {
            host: host.to_owned(),
            repository,
            tag: tag.or_else(|| digest.is_none().then(|| "latest".to_owned())),
            digest,
        })
    }

    /// The server to ask.
    pub fn server(&self) -> &str {
        match self.host.as_str() {
            HUB => HUB_SERVER,
            host => host,
        }
    }

    /// Under which names credentials for it can be kept, the most special first: podman has some for a part of a
    /// registry, and Docker has had addresses in several forms.
    pub fn credentials_names(&self) -> Vec<String> {
        let host = &self.host;
        let mut names = Vec::new();
        let mut path = format!("{host}/{}", self.repository);
        while path.len() > host.len() {
            names.push(path.clone());
            path.truncate(path.rfind('/').unwrap_or_default());
        }
        names.extend(self.registry_names());
        names
    }

    /// The same for the registry as a whole; the first is the one that podman writes.
    pub fn registry_names(&self) -> Vec<String> {
        match self.host.as_str() {
            HUB => [
                "docker.io",
                "https://index.docker.io/v1/",
                "index.docker.io",
            ]
            .map(String::from)
            .into(),
            host => vec![
                host.to_owned(),
                format!("https://{host}"),
                format!("https://{host}/v2/"),
                format!("https://{host}/v1/"),
            ],
        }
    }

    /// What to ask the server for: the digest, or else the tag.
    pub fn wanted(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.clone().unwrap_or_default(),
        }
    }

    /// The same, pinned to a digest.
    #[must_use]
    pub fn pinned(&self, digest: Digest) -> Reference {
        Reference {
            digest: Some(digest),
            ..self.clone()
        }
    }

    /// A file name for it: the name without the registry, and the tag.
    pub fn file_name(&self) -> String {
        let name = self
            .repository
            .strip_prefix("library/")
            .unwrap_or(&self.repository);
        let name = name.replace('/', "+");
        match (&self.tag, &self.digest) {
            (Some(tag), _) => format!("{name}:{tag}"),
            (None, Some(digest)) => format!("{name}@{}", &digest.hex()[..12]),
            (None, None) => name,
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "docker://{}/{}", self.host, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(out, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(out, "@{digest}"),
            None => Ok(()),
        }
    }
}

/// As Docker has it: what looks like a host is one.
fn split_host(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => match first {
            "index.docker.io" => (HUB, rest),
            first => (first, rest),
        },
        _ => (HUB, name),
    }
}

fn is_host(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) => (name, port),
        None => (host, "0"),
    };
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    !name.is_empty() && name.bytes().all(is_part) && port.parse::<u16>().is_ok()
}

fn is_component(part: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = part.as_bytes();
    bytes.first().is_some_and(|byte| is_plain(*byte))
        && bytes.last().is_some_and(|byte| is_plain(*byte))
        && bytes
            .iter()
            .all(|byte| is_plain(*byte) || matches!(byte, b'.' | b'_' | b'-'))
}

fn is_tag(tag: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let bytes = tag.as_bytes();
    bytes.len() <= LONGEST_TAG
        && bytes.first().is_some_and(|byte| is_word(*byte))
        && bytes
            .iter()
            .all(|byte| is_word(*byte) || matches!(byte, b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> String {
        Reference::parse(text).map_or_else(|reason| reason, |reference| reference.to_string())
    }

    #[test]
    fn names_mean_what_docker_users_expect() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (text, expected) in [
            ("//debian", "docker://docker.io/library/debian:latest"),
            ("//debian:12", "docker://docker.io/library/debian:12"),
            ("debian:12", "docker://docker.io/library/debian:12"),
            ("//user/app", "docker://docker.io/user/app:latest"),
            ("//localhost/app:1", "docker://localhost/app:1"),
            ("//h:5000/a/b_c/d:x", "docker://h:5000/a/b_c/d:x"),
            (
                "//nvcr.io#nvidia/cuda:12",
                "docker://nvcr.io/nvidia/cuda:12",
            ),
            (
                &format!("//h.de/a@{digest}"),
                &format!("docker://h.de/a@{digest}"),
            ),
            (
                &format!("//h.de/a:t@{digest}"),
                &format!("docker://h.de/a:t@{digest}"),
            ),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused_with_what_is_wrong() {
        for (text, expected) in [
            ("//", "\"library/\" is not an image name"),
            ("//Debian", "\"library/Debian\" is not an image name"),
            ("//a/../b", "\"a/../b\" is not an image name"),
            ("//a b", "\"library/a b\" is not an image name"),
            ("//debian:", "\"\" is not a tag"),
            ("//debian:-x", "\"-x\" is not a tag"),
            ("//debian@sha256:12", "\"sha256:12\" is not a digest"),
            ("//h:99999/a", "\"h:99999\" is not a host"),
            ("//h.de\r\nX: y/a", "\"h.de\r\nX: y\" is not a host"),
        ] {
            let reason = read(text);
            assert!(reason.starts_with(expected), "{text}: {reason}");
        }
    }

    #[test]
    fn credentials_for_a_part_of_a_registry_come_before_those_for_all_of_it() {
        let names = |text| Reference::parse(text).unwrap().credentials_names();
        assert_eq!(
            names("h:5000/a/b")[..3],
            ["h:5000/a/b", "h:5000/a", "h:5000"]
        );
        assert!(names("debian").contains(&"https://index.docker.io/v1/".to_owned()));
    }

    #[test]
    fn an_image_gets_a_file_name_without_slashes() {
        let name = |text| Reference::parse(text).unwrap().file_name();
        assert_eq!(name("debian:12"), "debian:12");
        assert_eq!(name("h:5000/team/app"), "team+app:latest");
    }
}
