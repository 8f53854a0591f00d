//! Talking to a registry: HTTP with the OCI distribution specification's ways of asking who is there.

use std::collections::HashMap;
use std::io::Read;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ureq::http::{Response, StatusCode, Uri};
use ureq::{Agent, Body, ResponseExt};

use super::challenge;
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
    /// The same, of a server that wants to be left alone for so long first.
    Busy(Duration),
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
    /// A client for the registry of `reference`, or for a mirror of it: `[http://]HOST[/PREFIX]`, with the credentials that are
    /// kept for it.
    ///
    /// # Errors
    /// The site's certificates or the credentials cannot be read.
    pub fn new(
        reference: &Reference,
        mirror: Option<&str>,
        registry: &Registry,
        patience: Patience,
    ) -> Result<Client> {
        let mut client = Client::unknown(reference, mirror, registry, patience)?;
        let names = match mirror {
            Some(_) => vec![client.host.clone()],
            None => reference.credentials_names(),
        };
        client.credentials = credentials::find(&names)?;
        Ok(client)
    }

    /// The same for whoever has not said who they are.
    ///
    /// # Errors
    /// The site's certificates cannot be read.
    pub(super) fn unknown(
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
        Ok(Client {
            agent: agent(&base, is_plain, registry, patience)?,
            base,
            prefix: prefix.trim_end_matches('/').to_owned(),
            host: host.to_owned(),
            registry: reference.host.clone(),
            is_mirror: mirror.is_some(),
            is_plain,
            patience,
            credentials: None,
            authorization: Mutex::default(),
        })
    }

    /// The host that it asks.
    pub fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn credentials(&self) -> Option<&Credentials> {
        self.credentials.as_ref()
    }

    pub(super) fn agent(&self) -> &Agent {
        &self.agent
    }

    /// What credentials for it are kept under.
    pub(super) fn login_name(&self) -> &str {
        match self.is_mirror {
            true => &self.host,
            false => &self.registry,
        }
    }

    /// Whether the site has said that with whoever is at this address nothing is encrypted.
    pub(super) fn is_plain_at(&self, url: &str) -> bool {
        let url: Option<Uri> = url.parse().ok();
        let base: Option<Uri> = self.base.parse().ok();
        self.is_plain && url.as_ref().and_then(origin) == base.as_ref().and_then(origin)
    }

    /// How long a small answer may take.
    pub(super) fn patience(&self) -> Duration {
        self.patience.answer
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

    /// Says who one is by what is being tried. Whether the registry has asked for it.
    ///
    /// # Errors
    /// It does not answer, or does not take that.
    pub(super) fn log_in(&mut self, tried: Credentials) -> std::result::Result<bool, Failure> {
        self.credentials = Some(tried);
        let url = format!("{}/v2/", self.base);
        let mut response = self.get_once(&url, "", &[])?;
        let was_asked = self.authorization("").is_some();
        let status = response.status();
        let means_more = [StatusCode::UNAUTHORIZED, StatusCode::TOO_MANY_REQUESTS];
        if status.is_success() {
            return Ok(was_asked);
        }
        if !was_asked && status.is_client_error() && !means_more.contains(&status) {
            let sentence = format!("{} is no registry: it says {status} to /v2/", self.host);
            return Err(Failure {
                error: Error::new(sentence).hint("is the name right, and the port?"),
                cause: Cause::Refused,
            });
        }
        Err(self.refused_by(&self.host, &mut response))
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
                Ok(mut response) => self.refused(reference, path, &mut response),
                Err(failure) => failure,
            };
            let asked = match failure.cause {
                Cause::Unreachable => Duration::ZERO,
                // Who waits for this fetch takes no longer silence than this for its end.
                Cause::Busy(asked) if asked <= self.patience.answer => asked,
                _ => return Err(failure),
            };
            if tries == 0 {
                return Err(failure);
            }
            std::thread::sleep(pause.max(asked));
            pause *= 2;
        }
    }

    fn get_once(
        &self,
        url: &str,
        repository: &str,
        headers: &[(&str, String)],
    ) -> std::result::Result<Response<Body>, Failure> {
        let mut place = url.to_owned();
        let mut is_answered = false;
        loop {
            let shown = self.authorization(repository);
            let response = self.call(&place, shown.clone(), headers)?;
            // Whoever the registry sends us to has no say in whom a password is shown to.
            let from = response.get_uri();
            let is_registrys = origin(from) == self.base.parse().ok().as_ref().and_then(origin);
            if response.status() != StatusCode::UNAUTHORIZED || !is_registrys {
                return Ok(response);
            }
            // To another place of its own, nothing that says who one is went along.
            let is_moved = place.parse::<Uri>().ok().as_ref() != Some(from) && shown.is_some();
            place = from.to_string();
            if is_moved {
                continue;
            }
            let texts = response.headers().get_all("www-authenticate").iter();
            let offered = challenge::offered(texts.filter_map(|value| value.to_str().ok()));
            let answer = match is_answered {
                true => None,
                false => self.answer(&offered, repository)?,
            };
            let Some(header) = answer else {
                return Ok(response);
            };
            is_answered = true;
            let known = self.authorization.lock();
            let mut known = known.unwrap_or_else(PoisonError::into_inner);
            known.insert(repository.to_owned(), header);
        }
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
        // Of a blob each byte may take so long.
        let whole = (!url.contains("/blobs/")).then_some(self.patience.answer);
        let request = self.agent.get(url).config();
        let mut request = request.timeout_recv_body(whole).build();
        if let Some(authorization) = authorization {
            request = request.header("Authorization", authorization);
        }
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        request.call().map_err(|error| self.unreachable(&error))
    }

    /// That there is no answer.
    pub(super) fn unreachable(&self, error: &ureq::Error) -> Failure {
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

/// Scheme, host and port: who is talked to.
fn origin(uri: &Uri) -> Option<(String, String, u16)> {
    let scheme = uri.scheme_str()?.to_ascii_lowercase();
    let usual = if scheme == "https" { 443 } else { 80 };
    let port = uri.port_u16().unwrap_or(usual);
    Some((scheme, uri.host()?.to_ascii_lowercase(), port))
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
            let header = format!("Bearer realm=\"{realm}\",service=\"s\"");
            let offered = challenge::offered(std::iter::once(header.as_str()));
            client.answer(&offered, "a").unwrap_err().error.to_string()
        };
        // The discard service, where nobody answers.
        let told = "wants credentials sent without encryption, to http://127.0.0.1:9/token";
        assert!(asked(false, "http://127.0.0.1:9/token").contains(told));
        assert!(!asked(false, "https://127.0.0.1:9/token").contains(told));
        // That the registry is asked so says nothing of another port.
        assert!(asked(true, "http://127.0.0.1:9/token").contains(told));
        assert!(!asked(true, "http://h.example/token").contains("without encryption"));
    }
}
