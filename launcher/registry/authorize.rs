//! How a client shows a registry who is asking.

use serde::Deserialize;

use super::challenge::Challenge;
use super::client::{Cause, Client, Failure};
use super::credentials::Credentials;
use crate::oci;
use chariot_core::error::Error;

impl Client {
    /// What proves to the registry who is asking: the first of the ways `offered` that can be gone.
    ///
    /// # Errors
    /// None can, and the first says why.
    pub(super) fn answer(
        &self,
        offered: &[Challenge],
        repository: &str,
    ) -> Result<Option<String>, Failure> {
        let mut failure = None;
        for challenge in offered {
            let header = match challenge {
                Challenge::Basic => Ok(self.credentials().and_then(Credentials::basic)),
                Challenge::Bearer {
                    realm,
                    service,
                    scope,
                } => {
                    let usual =
                        (!repository.is_empty()).then(|| format!("repository:{repository}:pull"));
                    let scope = scope.clone().or(usual).unwrap_or_default();
                    self.token(realm, service, &scope)
                        .map(|token| Some(format!("Bearer {token}")))
                }
            };
            match header {
                Ok(Some(header)) => return Ok(Some(header)),
                Ok(None) => {}
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.map_or(Ok(None), Err)
    }

    fn token(&self, realm: &str, service: &str, scope: &str) -> Result<String, Failure> {
        #[derive(Deserialize)]
        struct Answer {
            token: Option<String>,
            access_token: Option<String>,
        }
        let host = self.host();
        let is_safe = realm.starts_with("https://") || self.is_plain_at(realm);
        if !is_safe {
            // A password in clear text is what https is there to prevent.
            let sentence = format!("{host} wants credentials sent without encryption, to {realm}");
            return Err(Failure {
                error: Error::new(sentence).hint("ask whoever runs the registry"),
                cause: Cause::Refused,
            });
        }
        let whole = Some(self.patience());
        let identity = self.credentials().and_then(Credentials::identity_token);
        let response = match identity {
            Some(token) => {
                let request = self.agent().post(realm).config();
                // The token is in what would be sent to another place.
                let request = request.timeout_recv_body(whole).max_redirects(0).build();
                request.send_form([
                    ("grant_type", "refresh_token"),
                    ("service", service),
                    ("client_id", "chariot"),
                    ("scope", scope),
                    ("refresh_token", token),
                ])
            }
            None => {
                let request = self.agent().get(realm).config();
                let request = request.timeout_recv_body(whole).build();
                let mut request = request.query("service", service);
                // To say who one is, nothing is asked for.
                if !scope.is_empty() {
                    request = request.query("scope", scope);
                }
                if let Some(basic) = self.credentials().and_then(Credentials::basic) {
                    request = request.header("Authorization", basic);
                }
                request.call()
            }
        };
        let mut response = response.map_err(|error| self.unreachable(&error))?;
        if !response.status().is_success() {
            let status = response.status();
            return Err(match status.is_server_error() || status.as_u16() == 429 {
                true => self.refused_by(&format!("the giver of {host}'s tokens"), &mut response),
                false => {
                    let words = self.explanation(&mut response);
                    let words = words.map_or_else(String::new, |words| format!(": {words}"));
                    self.denied(&format!("{host} gives no token for it{words}"))
                }
            });
        }
        let body = response.body_mut().with_config().limit(oci::LARGEST);
        let body = body
            .read_to_vec()
            .map_err(|error| self.unreachable(&error))?;
        serde_json::from_slice(&body)
            .ok()
            .and_then(|answer: Answer| answer.token.or(answer.access_token))
            .ok_or_else(|| self.denied(&format!("{host} gives no token that can be understood")))
    }

    /// That whoever asks may not have it.
    pub(super) fn denied(&self, reason: &str) -> Failure {
        let hint = match self.credentials() {
            Some(credentials) if credentials.file().as_os_str().is_empty() => {
                "nothing was changed: are the name and the password right?".to_owned()
            }
            Some(credentials) => format!(
                "are the credentials in {} right, and may they read this image? `chariot login {}` replaces them",
                credentials.file().display(),
                self.login_name()
            ),
            None => format!(
                "if it is a private image: `chariot login {}`; what `docker login`, `podman login` and `skopeo login` leave is \
                 found too",
                self.login_name()
            ),
        };
        Failure {
            error: Error::new(reason).hint(hint),
            cause: Cause::Refused,
        }
    }
}
