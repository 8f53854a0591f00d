//! Registries: from a name to a digest, and from a digest to blobs on disk, each checked against its digest
//! while it streams. Blobs lie as in an OCI layout, `blobs/sha256/…` below the cache.

pub mod answer;
mod authorize;
pub mod challenge;
mod client;
mod connection;
mod credentials;
mod download;
mod hosts;
mod keep;
mod refusal;
pub use std::path::Path;

pub use client::{Cause, Client, Failure, Patience};
pub(crate) use credentials::{Credentials, find as credentials};
pub use download::LAYER;
pub(crate) use keep::{forget, keep};

use crate::cache::{Cache, stage};
use crate::files::{self, output, space};
use crate::oci::{self, Descriptor, Digest, Document, Manifest, Reference};
use crate::work::{Progress, Reporter};
use chariot_core::config::Config;
use chariot_core::error::{Error, Explain, Result};
use chariot_core::open;

/// An image that a registry has.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// Its name, pinned to its digest.
    pub reference: Reference,
    /// The digest of its manifest, for this machine.
    pub digest: Digest,
    /// What it consists of.
    pub manifest: Manifest,
}

/// Patience for a job's first node, or a person who has asked for a fetch.
pub fn patient(config: &Config) -> Patience {
    Patience {
        answer: config.wait_byte,
        tries_again: true,
    }
}

/// Patience for a submission.
pub fn hasty(config: &Config) -> Patience {
    Patience {
        answer: config.wait_look_up,
        tries_again: false,
    }
}

/// The registry, with its mirrors before it.
fn clients(reference: &Reference, config: &Config, patience: Patience) -> Result<Vec<Client>> {
    let registry = config
        .registries
        .get(&reference.host)
        .cloned()
        .unwrap_or_default();
    let mirrors = registry.mirrors.iter().map(|mirror| Some(mirror.as_str()));
    mirrors
        .chain([None])
        .map(|mirror| Client::new(reference, mirror, &registry, patience))
        .collect()
}

/// Says who one is to the registry itself, by what is `tried`. Whether it has asked for that.
///
/// # Errors
/// It does not answer, or does not take that.
pub(crate) fn log_in(reference: &Reference, config: &Config, tried: Credentials) -> Result<bool> {
    let registry = config.registries.get(&reference.host).cloned();
    let registry = registry.unwrap_or_default();
    let mut client = Client::unknown(reference, None, &registry, hasty(config))?;
    let what = format!("can't log in to {}", reference.host);
    let tried = client.log_in(tried);
    tried.map_err(|failure| failure.error.within(&what))
}

/// Asks what a name means, for this machine. `cache` may know it if it is a digest.
///
/// # Errors
/// The registry says no, or nothing.
pub fn resolve(
    reference: &Reference,
    config: &Config,
    cache: Option<&Path>,
    patience: Patience,
) -> std::result::Result<Resolved, Failure> {
    let definite = |error: Error| Failure {
        error: error.within(&format!("can't find {reference}")),
        cause: Cause::Refused,
    };
    let clients = clients(reference, config, patience).map_err(definite)?;
    let ask = Documents {
        reference,
        clients: &clients,
        cache,
    };
    let (mut digest, mut document) = ask.get(&reference.wanted(), reference.digest.as_ref())?;
    for _ in 0..=oci::DEEPEST {
        let manifests = match document {
            Document::Index(manifests) => manifests,
            Document::Manifest(manifest) => {
                manifest
                    .refuse_artifact()
                    .map_err(|reason| definite(Error::new(reason).hint(ARTIFACTS)))?;
                return Ok(Resolved {
                    reference: reference.pinned(digest.clone()),
                    digest,
                    manifest,
                });
            }
        };
        let chosen = oci::choose(&manifests).map_err(|reason| definite(Error::new(reason)))?;
        (digest, document) = ask.get(&chosen.digest.to_string(), Some(&chosen.digest))?;
    }
    Err(definite(Error::new(
        "its image indexes are nested too deeply",
    )))
}

/// What to do with what is no image.
const ARTIFACTS: &str = "registries hold other things beside images: they are for other programs";

/// Where documents come from.
struct Documents<'a> {
    reference: &'a Reference,
    clients: &'a [Client],
    cache: Option<&'a Path>,
}

impl Documents<'_> {
    fn get(
        &self,
        wanted: &str,
        digest: Option<&Digest>,
    ) -> std::result::Result<(Digest, Document), Failure> {
        let bytes = match digest.and_then(|digest| self.kept(digest)) {
            Some(bytes) => bytes,
            None => self.ask(wanted, digest)?,
        };
        let document = Document::parse(&bytes).map_err(|reason| Failure {
            error: Error::new(format!(
                "can't understand the manifest of {}: {reason}",
                self.reference
            ))
            .hint("is there an image behind that name? Registries hold other things too"),
            cause: Cause::Refused,
        })?;
        let digest = digest.cloned().unwrap_or_else(|| Digest::of(&bytes));
        if let Some(cache) = self.cache
            && self.kept(&digest).is_none()
        {
            // Without it, it is asked for again the next time.
            let _ = files::write(&cache.join(oci::blob(&digest)), &bytes);
        }
        Ok((digest, document))
    }

    fn kept(&self, digest: &Digest) -> Option<Vec<u8>> {
        let bytes = open::read(&self.cache?.join(oci::blob(digest)), oci::LARGEST).ok()?;
        digest.fits(&bytes).then_some(bytes)
    }

    fn ask(&self, wanted: &str, digest: Option<&Digest>) -> std::result::Result<Vec<u8>, Failure> {
        let mut failure = None;
        for client in self.clients {
            let answer = client.manifest(self.reference, wanted);
            match answer {
                Ok(bytes) if digest.is_none_or(|digest| digest.fits(&bytes)) => return Ok(bytes),
                Ok(_) => failure = Some(Failure {
                    error: Error::new(format!(
                        "can't find {}: {} sent something other than what was asked for: its digest is wrong",
                        self.reference,
                        client.host()
                    ))
                    .hint("try again; if it keeps happening, tell whoever runs the registry"),
                    cause: Cause::Refused,
                }),
                Err(why) => failure = Some(Failure {
                    error: why.error.within(&format!("can't find {}", self.reference)),
                    ..why
                }),
            }
        }
        // The registry itself comes last, and is the one to tell of.
        Err(failure.unwrap_or_else(|| Failure {
            error: Error::new(format!(
                "can't find {}: there is no registry to ask",
                self.reference
            )),
            cause: Cause::Refused,
        }))
    }
}

/// Fetches what an image consists of, as far as it is not there yet. To be called in a process of its own.
///
/// # Errors
/// A blob cannot be had, is damaged, or does not fit.
pub fn fetch(resolved: &Resolved, cache: &Cache<'_>, reporter: &Reporter) -> Result<()> {
    let what = || format!("can't fetch {}", resolved.reference);
    let (root, config) = (cache.root()?, cache.config);
    let mut wanted: Vec<Descriptor> = Vec::new();
    let all = std::iter::once(&resolved.manifest.config).chain(&resolved.manifest.layers);
    for blob in all {
        let is_wanted = wanted.iter().any(|other| other.digest == blob.digest);
        if !is_wanted && !is_whole(root, blob, reporter) {
            wanted.push(blob.clone());
        }
    }
    let bytes = wanted
        .iter()
        .map(|blob| blob.size)
        .fold(0, u64::saturating_add);
    if bytes > config.image_size {
        return Err(
            Error::new(format!("{}: it says that it has {bytes} bytes", what()))
                .hint("the site configuration file sets the limit: image_size"),
        );
    }
    let rooms = wanted
        .iter()
        .map(|blob| output::room_for(&root.join(oci::blob(&blob.digest)), blob.size));
    let room = rooms.fold(0, u64::saturating_add);
    space::refuse_full(root, room).map_err(|error| error.within(&what()))?;
    // The configuration comes first: whoever asked for the wrong image learns it before gigabytes have come.
    let (first, rest) = wanted
        .into_iter()
        .partition(|blob| blob.digest == resolved.manifest.config.digest);
    for part in [first, rest] {
        let clients = clients(&resolved.reference, config, patient(config))?;
        download::all(part, clients, resolved, root, reporter)
            .and_then(|()| refuse_configuration(&resolved.manifest, root))
            .map_err(|error| error.within(&what()))?;
    }
    Ok(())
}

/// Whether a blob is there and is what it has to be. A disk, a program or a person may have changed it since it came:
/// its length says nothing.
fn is_whole(root: &Path, blob: &Descriptor, reporter: &Reporter) -> bool {
    let path = root.join(oci::blob(&blob.digest));
    let Ok(file) = open::regular(&path) else {
        return false;
    };
    if !file.metadata().is_ok_and(|data| data.len() == blob.size) {
        return false;
    }
    let mut see = |done| {
        let what = format!("verifying {}", &blob.digest.hex()[..12]);
        let progress = Progress {
            what,
            done,
            total: blob.size,
            elsewhere: false,
        };
        reporter.progress(&progress, false);
    };
    let hashed = stage::hash(&file, blob.digest.hasher(), &mut see);
    hashed.is_ok_and(|digest| digest == blob.digest)
}

/// Refuses an image for another machine, or with other layers than it says.
fn refuse_configuration(manifest: &Manifest, cache: &Path) -> Result<()> {
    let path = cache.join(oci::blob(&manifest.config.digest));
    let what = || format!("can't read its configuration, {}", path.display());
    if manifest.config.size > oci::LARGEST {
        return Err(Error::new(format!("{}: it is too large", what())));
    }
    let bytes = open::read(&path, oci::LARGEST).explain(what)?;
    let configuration = oci::configuration(&bytes)?;
    configuration
        .layers(manifest.layers.len())
        .map_err(Error::new)?;
    oci::refuse_another(&configuration).map_err(|reason| {
        Error::new(reason).hint(
            "is there one for this machine under another tag? Where an emulator is registered with the kernel \
             (binfmt_misc), it is taken as it is",
        )
    })
}
