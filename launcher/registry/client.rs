//! Talking to a registry: HTTP with the OCI distribution specification's ways of asking who is there.

use std::collections::HashMap;
use std::io::Read;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body};

use super::challenge::parameters;
use super::connection::agent;
use super::credentials::{self, Credentials};
use crate::oci::{self, Digest, Reference};
use chariot_core::config::registries::Registry;
use chariot_core::error::{Error, Result};

/// What a manifest may be.
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
                         application/vnd.docker.distribution.manifest.list.v2+json, \
                         application/vnd.docker.distribution.manifest.v2+json";

/// How often something is tried that may work the next time, and how long the first pause is.
const TRIES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(300);

/// Why there is no answer that helps.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The sentence.
    pub error: Error,
    /// What kind of failure it is.
    pub cause: Cause,
}

/// What an answer that does not help means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The registry says no, or something that cannot be understood.
    Refused,
    /// Nobody knows if the image is there; the next try may say.
    Unreachable,
    /// The same, of a server that let us wait: the next try would wait as long.
    Silent,
    /// The same, of a server that cannot be talked to, or that nobody knows: the next try would fail as this one.
    Hopeless,
}

impl Cause {
    /// Whether nobody knows if the image is there.
    pub fn is_unknown(self) -> bool {
        self != Cause::Refused
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Error {
        failure.error
    }
}

/// One registry, or a mirror of it.
#[derive(Debug)]
pub struct Client {
    agent: Agent,
    /// `https://HOST`, and what stands in front of names there.
    base: String,
    prefix: String,
    host: String,
    /// What the site's file calls the registry, whose mirror this may be.
    registry: String,
    is_mirror: bool,
    is_plain: bool,
    patience: Patience,
    credentials: Option<Credentials>,
    /// The header that proves who is asking, once the registry has said how.
    authorization: Mutex<HashMap<String, String>>,
}

/// How long to wait.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For a small answer as a whole, and for each byte of a long one.
    pub answer: Duration,
    /// Whether to try again.
    pub tries_again: bool,
}

impl Client {
    /// A client for the registry of `reference`, or for a mirror of it: `[http://]HOST[/PREFIX]`.
    ///
    /// # Errors
    /// The site's certificates cannot be read.
    pub fn new(
        reference: &Reference,
        mirror: Option<&str>,
        registry: &Registry,
        patience: Patience,
    ) -> Result<Client> {
        let place = mirror.unwrap_or_else(|| reference.server());
        let (scheme, place) = place.split_once("://").unwrap_or(("https", place));
        let is_plain = scheme == "http" || (mirror.is_none() && registry.plain_http);
        let (host, prefix) = place.split_once('/').unwrap_or((place, ""));
        let base = format!("{}://{host}", if is_plain { "http" } else { "https" });
        let names = match mirror {
            Some(_) => vec![host.to_owned()],
            None => reference.credentials_names(),
        };
        Ok(Client {
            agent: agent(&base, is_plain, registry, patience)?,
            base,
            prefix: prefix.trim_end_matches('/').to_owned(),
            host: host.to_owned(),
            registry: reference.host.clone(),
            is_mirror: mirror.is_some(),
            is_plain,
            patience,
            credentials: credentials::find(&names)?,
            authorization: Mutex::default(),
        })
    }

    /// The host that it asks.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// A manifest or index, by tag or digest.
    ///
    /// # Errors
    /// The registry does not answer, or not with one.
    pub fn manifest(
        &self,
        reference: &Reference,
        wanted: &str,
    ) -> std::result::Result<Vec<u8>, Failure> {
        let path = format!("manifests/{wanted}");
        let mut response = self.get(reference, &path, &[("Accept", MANIFESTS.to_owned())])?;
        let said = response
            .headers()
            .get("docker-content-digest")
            .and_then(|value| Digest::parse(value.to_str().ok()?));
        let body = response.body_mut().with_config().limit(oci::LARGEST);
        let bytes = body
            .read_to_vec()
            .map_err(|error| self.unreachable(&error))?;
        // Other tools take the header's word for the digest, and would have another image than this one.
        match said {
            Some(said) if !said.fits(&bytes) => Err(Failure {
                error: Error::new(format!(
                    "{} says that it gives {said}, and gives something else: its digest is wrong",
                    self.host
                ))
                .hint("try again; if it keeps happening, tell whoever runs the registry"),
                cause: Cause::Refused,
            }),
            _ => Ok(bytes),
        }
    }

    /// A blob from byte `from` on: a reader, and whether it begins there or at the start.
    ///
    /// # Errors
    /// The registry does not answer, or has no such blob.
    pub fn blob(
        &self,
        reference: &Reference,
        digest: &oci::Digest,
        from: u64,
    ) -> std::result::Result<(impl Read + use<>, bool), Failure> {
        let range = (from > 0).then(|| ("Range", format!("bytes={from}-")));
        let headers: Vec<_> = range.into_iter().collect();
        let response = self.get(reference, &format!("blobs/{digest}"), &headers)?;
        let is_rest = response.status() == StatusCode::PARTIAL_CONTENT;
        Ok((response.into_body().into_reader(), is_rest))
    }

    /// Asks for something of an image, as often as it makes sense.
    fn get(
        &self,
        reference: &Reference,
        path: &str,
        headers: &[(&str, String)],
    ) -> std::result::Result<Response<Body>, Failure> {
        let prefix = if self.prefix.is_empty() {
            String::new()
        } else {
            format!("{}/", self.prefix)
        };
        let repository = format!("{prefix}{}", reference.repository);
        let url = format!("{}/v2/{repository}/{path}", self.base);
        let mut pause = FIRST_PAUSE;
        let mut tries = if self.patience.tries_again { TRIES } else { 1 };
        loop {
            tries -= 1;
            let failure = match self.get_once(&url, &repository, headers) {
                Ok(response) if response.status().is_success() => return Ok(response),
                Ok(response) => self.refused(reference, path, response.status()),
                Err(failure) => failure,
            };
            if tries == 0 || failure.cause != Cause::Unreachable {
                return Err(failure);
            }
            std::thread::sleep(pause);
            pause *= 2;
        }
    }

    fn get_once(
        &self,
        url: &str,
        repository: &str,
        headers: &[(&str, String)],
    ) -> std::result::Result<Response<Body>, Failure> {
        let response = self.call(url, self.authorization(repository), headers)?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let challenge = response
            .headers()
            .get("www-authenticate")
            .and_then(|value| value.to_str().ok());
        let Some(header) = self.answer(challenge.unwrap_or_default(), repository)? else {
            return Ok(response);
        };
        let mut known = self
            .authorization
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        known.insert(repository.to_owned(), header.clone());
        drop(known);
        self.call(url, Some(header), headers)
    }

    fn authorization(&self, repository: &str) -> Option<String> {
        let known = self
            .authorization
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        known.get(repository).cloned()
    }

    fn call(
        &self,
        url: &str,
        authorization: Option<String>,
        headers: &[(&str, String)],
    ) -> std::result::Result<Response<Body>, Failure> {
        let mut request = self.agent.get(url);
        if let Some(authorization) = authorization {
            request = request.header("Authorization", authorization);
        }
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        request.call().map_err(|error| self.unreachable(&error))
    }

    /// What proves to the registry who is asking.
    fn answer(
        &self,
        challenge: &str,
        repository: &str,
    ) -> std::result::Result<Option<String>, Failure> {
        let (scheme, rest) = challenge.split_once(' ').unwrap_or((challenge, ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Ok(self.credentials.as_ref().and_then(Credentials::basic));
        }
        let parameters = parameters(rest);
        let Some(realm) = parameters
            .get("realm")
            .filter(|_| scheme.eq_ignore_ascii_case("bearer"))
        else {
            return Ok(None);
        };
        if !realm.starts_with("https://") && !self.is_plain {
            // A password in clear text is what https is there to prevent.
            let sentence = format!(
                "{} wants credentials sent without encryption, to {realm}",
                self.host
            );
            return Err(Failure {
                error: Error::new(sentence).hint("ask whoever runs the registry"),
                cause: Cause::Refused,
            });
        }
        let scope = format!("repository:{repository}:pull");
        let scope = parameters
            .get("scope")
            .map_or(scope.as_str(), String::as_str);
        let service = parameters.get("service").map_or("", String::as_str);
        self.token(realm, service, scope)
            .map(|token| Some(format!("Bearer {token}")))
    }

    fn token(
        &self,
        realm: &str,
        service: &str,
        scope: &str,
    ) -> std::result::Result<String, Failure> {
        #[derive(Deserialize)]
        struct Answer {
            token: Option<String>,
            access_token: Option<String>,
        }
        let identity = self
            .credentials
            .as_ref()
            .and_then(Credentials::identity_token);
        let response = match identity {
            Some(token) => self.agent.post(realm).send_form([
                ("grant_type", "refresh_token"),
                ("service", service),
                ("client_id", "chariot"),
                ("scope", scope),
                ("refresh_token", token),
            ]),
            None => {
                let mut request = self
                    .agent
                    .get(realm)
                    .query("service", service)
                    .query("scope", scope);
                if let Some(basic) = self.credentials.as_ref().and_then(Credentials::basic) {
                    request = request.header("Authorization", basic);
                }
                request.call()
            }
        };
        let mut response = response.map_err(|error| self.unreachable(&error))?;
        if !response.status().is_success() {
            return Err(self.denied(&format!("{} gives no token for it", self.host)));
        }
        let body = response
            .body_mut()
            .with_config()
            .limit(oci::LARGEST)
            .read_to_vec();
        let body = body.map_err(|error| self.unreachable(&error))?;
        serde_json::from_slice(&body)
            .ok()
            .and_then(|answer: Answer| answer.token.or(answer.access_token))
            .ok_or_else(|| {
                self.denied(&format!(
                    "{} gives no token that can be understood",
                    self.host
                ))
            })
    }

    fn denied(&self, reason: &str) -> Failure {
        let hint = match self.credentials {
            Some(_) => {
                "are the credentials in ~/.docker/config.json right, and may they read this image?"
            }
            None => {
                "if it is a private image: `docker login`, `podman login` or `skopeo login` leave credentials where \
                     Chariot finds them"
            }
        };
        Failure {
            error: Error::new(reason).hint(hint),
            cause: Cause::Refused,
        }
    }

    fn refused(&self, reference: &Reference, path: &str, status: StatusCode) -> Failure {
        let host = &self.host;
        match status.as_u16() {
            401 | 403 => self.denied(&format!("{host} says {status}")),
            404 => Failure {
                error: Error::new(format!("{host} has no {path} of {}", reference.repository))
                    .hint("is the name right, and the tag? A private image can look like a missing one"),
                cause: Cause::Refused,
            },
            _ => Failure {
                error: Error::new(format!("{host} says {status}")).hint("try again later"),
                cause: match status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
                    true => Cause::Unreachable,
                    false => Cause::Refused,
                },
            },
        }
    }

    fn unreachable(&self, error: &ureq::Error) -> Failure {
        let (reason, hint) = self.reason(error);
        Failure {
            error: Error::new(format!("can't reach {}: {reason}", self.host)).hint(hint),
            cause: match error {
                ureq::Error::Timeout(_) => Cause::Silent,
                ureq::Error::HostNotFound => Cause::Hopeless,
                error if of_tls(error).is_some() => Cause::Hopeless,
                _ => Cause::Unreachable,
            },
        }
    }

    /// What went wrong with a connection, and what to do.
    fn reason(&self, error: &ureq::Error) -> (String, String) {
        if matches!(of_tls(error), Some(rustls::Error::InvalidMessage(_))) {
            return ("it does not speak TLS".into(), self.without_tls());
        }
        let text = match error {
            ureq::Error::Io(error) => chariot_core::error::io_reason(error),
            ureq::Error::HostNotFound => "unknown host".into(),
            ureq::Error::Timeout(_) => "it does not answer in time".into(),
            error => error.to_string(),
        };
        let hint = match text.contains("certificate") {
            true => self.to_write("if its certificates are its own", "ca = \"FILE\""),
            false => {
                "is the registry's name right, and does this machine reach it? https_proxy and no_proxy are honoured".into()
            }
        };
        (text, hint)
    }

    fn without_tls(&self) -> String {
        match self.is_mirror {
            true => format!(
                "a mirror without TLS is http://{} in the site configuration file",
                self.host
            ),
            false => self.to_write("if it has none", "plain_http = true"),
        }
    }

    /// The lines that a registry needs which is not as most are, and where they go.
    fn to_write(&self, when: &str, line: &str) -> String {
        format!(
            "{when}, write `[registries.\"{}\"]` and below it `{line}` into the site configuration file, or into a file of \
             your own and give that with --config FILE",
            self.registry
        )
    }
}

/// What TLS says of a connection, which has never to do with how busy somebody is. It comes as an I/O error.
fn of_tls(error: &ureq::Error) -> Option<&rustls::Error> {
    match error {
        ureq::Error::Rustls(error) => Some(error),
        ureq::Error::Io(error) => error.get_ref()?.downcast_ref(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_told_who_asks_without_encryption_unless_the_site_said_so() {
        let reference = Reference::parse("//h.example/a:1").unwrap();
        let patience = Patience {
            answer: Duration::from_millis(10),
            tries_again: false,
        };
        let asked = |plain_http: bool, realm: &str| {
            let registry = Registry {
                plain_http,
                ..Registry::default()
            };
            let client = Client::new(&reference, None, &registry, patience).unwrap();
            let challenge = format!("Bearer realm=\"{realm}\",service=\"s\"");
            client
                .answer(&challenge, "a")
                .unwrap_err()
                .error
                .to_string()
        };
        // The discard service, where nobody answers.
        let told = "wants credentials sent without encryption, to http://127.0.0.1:9/token";
        assert!(asked(false, "http://127.0.0.1:9/token").contains(told));
        assert!(!asked(false, "https://127.0.0.1:9/token").contains(told));
        assert!(!asked(true, "http://127.0.0.1:9/token").contains(told));
    }
}
