//! Who the user is to a registry: what `chariot login`, `podman login`, `skopeo login` and `docker login` left.

use std::env;
use std::path::{Path, PathBuf};

use docker_credential::{CredentialRetrievalError, DockerCredential, get_credential_from_reader};

use chariot_core::error::{Error, Result};
use chariot_core::open;

/// The longest file of credentials, in bytes.
pub(super) const LARGEST: u64 = 4 << 20;

/// A name and a password, or a token, and the file that has it or names who does.
pub(crate) struct Credentials {
    secret: DockerCredential,
    file: PathBuf,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never what it holds.
        out.write_str("Credentials")
    }
}

/// Those for an image, if there are any, in the order of containers-auth.json(5). `names` are those under which they can be,
/// the most special first.
///
/// # Errors
/// A file that is there and cannot be understood.
pub(crate) fn find(names: &[String]) -> Result<Option<Credentials>> {
    for file in files() {
        // One that is not there, or of others, is none.
        let text = open::typed(&file).and_then(|file| open::all_of(&file, LARGEST));
        let Ok(text) = text else { continue };
        for name in names {
            if let Some(secret) = read(&text, &file, name)? {
                return Ok(Some(Credentials { secret, file }));
            }
        }
    }
    Ok(None)
}

/// Where they can be, whether there is such a file or not: podman's and its relatives', then docker's.
fn files() -> Vec<PathBuf> {
    let mut files = podmans();
    if variable("REGISTRY_AUTH_FILE").is_none() {
        let home = variable("HOME").map(|home| home.join(".docker"));
        let docker = variable("DOCKER_CONFIG").or(home);
        files.extend(docker.map(|directory| directory.join("config.json")));
    }
    files
}

/// podman's files, the strongest first: the one that REGISTRY_AUTH_FILE names and no other, or else that of this session, and
/// that of all sessions and nodes. A job often has no XDG_RUNTIME_DIR.
pub(super) fn podmans() -> Vec<PathBuf> {
    if let Some(file) = variable("REGISTRY_AUTH_FILE") {
        return vec![file];
    }
    let home = variable("HOME").map(|home| home.join(".config"));
    let directories = [
        variable("XDG_RUNTIME_DIR"),
        variable("XDG_CONFIG_HOME").or(home),
    ];
    let named = |directory: PathBuf| directory.join("containers/auth.json");
    directories.into_iter().flatten().map(named).collect()
}

fn variable(name: &str) -> Option<PathBuf> {
    let value = env::var_os(name).filter(|value| !value.is_empty());
    value.map(PathBuf::from)
}

fn read(text: &[u8], file: &Path, name: &str) -> Result<Option<DockerCredential>> {
    match get_credential_from_reader(text, name) {
        Ok(credential) => Ok(Some(credential)),
        Err(CredentialRetrievalError::NoCredentialConfigured) => Ok(None),
        // Helpers fail when they know nothing, and are missing where a file was copied from a laptop; a public
        // image needs none.
        Err(
            CredentialRetrievalError::HelperFailure { .. }
            | CredentialRetrievalError::HelperCommunicationError
            | CredentialRetrievalError::MalformedHelperResponse,
        ) => {
            tracing::debug!("the credential helper gives nothing for {name}");
            Ok(None)
        }
        Err(error) => Err(Error::new(format!(
            "can't read your credentials for {name} in {}: {error}",
            file.display()
        ))
        .hint("log in anew once the file is away: chariot login")),
    }
}

impl Credentials {
    /// Those that somebody gives, in no file yet.
    pub(crate) fn new(user: &str, password: &str) -> Credentials {
        Credentials {
            secret: DockerCredential::UsernamePassword(user.to_owned(), password.to_owned()),
            file: PathBuf::new(),
        }
    }

    /// The file that has them.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// What nobody may see of them, in the forms in which it is sent.
    pub(super) fn secrets(&self) -> Vec<String> {
        let sent = self.basic();
        let sent = sent.and_then(|header| header.split_once(' ').map(|(_, sent)| sent.to_owned()));
        let said = match &self.secret {
            DockerCredential::UsernamePassword(_, secret)
            | DockerCredential::IdentityToken(secret) => secret,
        };
        let all = sent.into_iter().chain([said.clone()]);
        all.filter(|secret| secret.len() > 2).collect()
    }

    /// The header for HTTP's basic scheme.
    pub(super) fn basic(&self) -> Option<String> {
        match &self.secret {
            DockerCredential::UsernamePassword(user, password) => Some(format!(
                "Basic {}",
                base64(format!("{user}:{password}").as_bytes())
            )),
            DockerCredential::IdentityToken(_) => None,
        }
    }

    /// A token that buys tokens.
    pub(super) fn identity_token(&self) -> Option<&str> {
        match &self.secret {
            DockerCredential::IdentityToken(token) => Some(token),
            // In Docker's files a user of this name stands for a token.
            DockerCredential::UsernamePassword(user, token) if user == "<token>" => Some(token),
            DockerCredential::UsernamePassword(..) => None,
        }
    }
}

pub(super) fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
