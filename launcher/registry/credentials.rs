//! Who the user is to a registry: what `docker login`, `podman login` and `skopeo login` left.

use std::env;

use docker_credential::{
    CredentialRetrievalError, DockerCredential, get_credential, get_podman_credential,
};

use chariot_core::error::{Error, Result};

/// A name and a password, or a token.
pub(super) struct Credentials(DockerCredential);

impl std::fmt::Debug for Credentials {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never what it holds.
        out.write_str("Credentials")
    }
}

/// Those for an image, if there are any: `$REGISTRY_AUTH_FILE` where it is set, else `$DOCKER_CONFIG` or
/// `~/.docker/config.json`, else where podman leaves them. `names` are those under which they can be, the
/// most special first.
///
/// # Errors
/// A file that is there and cannot be understood.
pub(super) fn find(names: &[String]) -> Result<Option<Credentials>> {
    if env::var_os("REGISTRY_AUTH_FILE").is_some() {
        return first(names, get_podman_credential);
    }
    match first(names, get_credential)? {
        Some(credentials) => Ok(Some(credentials)),
        None => first(names, get_podman_credential),
    }
}

/// What one of the ways to get a credential gives.
type Got = std::result::Result<DockerCredential, CredentialRetrievalError>;

fn first(names: &[String], get: fn(&str) -> Got) -> Result<Option<Credentials>> {
    for name in names {
        if let Some(credentials) = read(name, get)? {
            return Ok(Some(credentials));
        }
    }
    Ok(None)
}

fn read(name: &str, get: fn(&str) -> Got) -> Result<Option<Credentials>> {
    match get(name) {
        Ok(credential) => Ok(Some(Credentials(credential))),
        Err(
            CredentialRetrievalError::ConfigNotFound
            | CredentialRetrievalError::ConfigReadError
            | CredentialRetrievalError::NoCredentialConfigured,
        ) => Ok(None),
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
        Err(error) => Err(
            Error::new(format!("can't read your credentials for {name}: {error}")).hint(
                "they are in ~/.docker/config.json, $DOCKER_CONFIG/config.json or $REGISTRY_AUTH_FILE",
            ),
        ),
    }
}

impl Credentials {
    /// The header for HTTP's basic scheme.
    pub(super) fn basic(&self) -> Option<String> {
        match &self.0 {
            DockerCredential::UsernamePassword(user, password) => Some(format!(
                "Basic {}",
                base64(format!("{user}:{password}").as_bytes())
            )),
            DockerCredential::IdentityToken(_) => None,
        }
    }

    /// A token that buys tokens.
    pub(super) fn identity_token(&self) -> Option<&str> {
        match &self.0 {
            DockerCredential::IdentityToken(token) => Some(token),
            // In Docker's files a user of this name stands for a token.
            DockerCredential::UsernamePassword(user, token) if user == "<token>" => Some(token),
            DockerCredential::UsernamePassword(..) => None,
        }
    }
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
