//! How a registry is reached: proxies, certificates, bounds of waits.

use std::sync::Arc;
use std::time::Duration;

use ureq::http::Uri;
use ureq::tls::{Certificate, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, Proxy};

use super::client::Patience;
use super::hosts::Hosts;
use crate::oci;
use chariot_core::config::registries::Registry;
use chariot_core::error::{Explain, Result};
use chariot_core::open;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(10);

/// Makes the client of HTTP for the server at `base`.
///
/// # Errors
/// The site's certificates cannot be read.
pub(super) fn agent(
    base: &str,
    is_plain: bool,
    registry: &Registry,
    patience: Patience,
) -> Result<Agent> {
    let mut config = Agent::config_builder()
        .http_status_as_error(false)
        .user_agent(concat!("chariot/", env!("CARGO_PKG_VERSION")))
        // Another port of the same host can be another user's.
        .redirect_auth_headers(ureq::config::RedirectAuthHeaders::Never)
        .timeout_resolve(Some(CONNECT.min(patience.answer)))
        .timeout_connect(Some(CONNECT.min(patience.answer)))
        .timeout_recv_response(Some(patience.answer))
        .timeout_per_read(Some(patience.answer))
        .proxy(proxy(base, is_plain));
    if !is_plain {
        config = config.tls_config(tls(registry)?);
    }
    let connector = DefaultConnector::default();
    Ok(Agent::with_parts(config.build(), connector, Hosts))
}

/// The proxy that the usual variables name.
fn proxy(base: &str, is_plain: bool) -> Option<Proxy> {
    let names: &[&str] = match is_plain {
        true => &["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"],
        false => &["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"],
    };
    let address = names
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))?;
    let uri: Uri = base.parse().ok()?;
    let is_exempt = Proxy::try_from_env().is_some_and(|proxy| proxy.is_no_proxy(&uri));
    Proxy::new(&address).ok().filter(|_| !is_exempt)
}

/// The machine's certificates, and the site's for this registry.
fn tls(registry: &Registry) -> Result<TlsConfig> {
    let native = rustls_native_certs::load_native_certs();
    let mut certificates: Vec<Certificate<'static>> = native
        .certs
        .iter()
        .map(|certificate| Certificate::from_der(certificate).to_owned())
        .collect();
    if let Some(path) = &registry.ca {
        let what = || {
            format!(
                "can't read the certificates {} of the site configuration file",
                path.display()
            )
        };
        let pem = open::read(path, oci::LARGEST).explain(what)?;
        for item in parse_pem(&pem).flatten() {
            if let ureq::tls::PemItem::Certificate(certificate) = item {
                certificates.push(certificate);
            }
        }
    }
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::Specific(Arc::new(certificates)))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build())
}
