//! What the site says of registries: which ones have no TLS, certificates of their own, or mirrors.

use std::collections::BTreeMap;
use std::path::PathBuf;

use toml::de::DeValue;

use super::key::Key;
use crate::error::Result;

/// What is known of one registry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registry {
    /// It speaks HTTP without TLS.
    pub plain_http: bool,
    /// Its certificates, beside the machine's: a file in PEM form.
    pub ca: Option<PathBuf>,
    /// Where the same images are, to be asked first: `[http://]HOST[/PREFIX]`.
    pub mirrors: Vec<String>,
}

/// What is known of each, by host and port.
pub type Registries = BTreeMap<String, Registry>;

/// Reads the table of one registry.
pub(super) fn read(at: &Key<'_>, value: &DeValue<'_>) -> Result<Registry> {
    let mut registry = Registry::default();
    at.each(value, |at, value| {
        match at.name() {
            "plain_http" => registry.plain_http = at.boolean(value)?,
            "ca" => registry.ca = Some(at.absolute(value)?),
            "mirrors" => registry.mirrors = at.strings(value)?,
            _ => return Err(at.unknown(&["plain_http", "ca", "mirrors"])),
        }
        Ok(())
    })?;
    Ok(registry)
}
