//! Images of registries: what a name means, asked once for a job, and the image in the cache, made once.

use std::path::PathBuf;

use super::{convert, named};
use crate::cache::lease::{self, Turn};
use crate::cache::{self, Access, Cache, names};
use crate::convert::layout;
use crate::convert::origin::Origin;
use crate::oci::{Digest, Reference};
use crate::registry::{self, Failure, Patience, Resolved, answer::Answer};
use crate::work::{self, Progress, Reporter};
use chariot_core::error::{Error, Result};
use chariot_core::options::Pull;
use chariot_core::sys::process;

/// An image of a registry: the digest first, which the job may know, then the image.
pub(super) fn from_cache(
    reference: &Reference,
    cache: &Cache<'_>,
    access: &mut Access<'_>,
) -> Result<PathBuf> {
    let digest = match &reference.digest {
        Some(digest) => digest.clone(),
        None => meaning(reference, cache, access)?,
    };
    let pinned = reference.pinned(digest.clone());
    let word = pinned.to_string();
    cache.ensure(&digest, &word, access, |reporter, output| {
        // By whoever makes the image alone: a thousand nodes do not all ask.
        let config = cache.config;
        let patience = registry::patient(config);
        let resolved = registry::resolve(&pinned, config, Some(cache.root()?), patience)?;
        let what = format!("can't convert {word}");
        fetched(&resolved, cache, reporter).and_then(|origin| {
            let origin = origin.map_err(|error| error.within(&what))?;
            convert(named(origin, &word), output, config, reporter)
                .map_err(|error| error.within(&what))
        })
    })
}

/// Fetches an image and opens what it is made of, before somebody who makes room can take it away again: what is
/// open stays. Who was faster than that finds it fetched once more.
///
/// # Errors
/// As [`registry::fetch`]; within, as [`layout::of_blobs`].
pub fn fetched(
    resolved: &Resolved,
    cache: &Cache<'_>,
    reporter: &Reporter,
) -> Result<Result<Origin>> {
    let open = || {
        registry::fetch(resolved, cache, reporter)?;
        let root = cache.root()?;
        Ok(layout::of_blobs(root, &resolved.digest, &resolved.manifest))
    };
    match open()? {
        Ok(origin) => Ok(Ok(origin)),
        Err(_) => open(),
    }
}

/// What a name without a digest means: in a job the same for all of it, whoever asked first.
fn meaning(reference: &Reference, cache: &Cache<'_>, access: &mut Access<'_>) -> Result<Digest> {
    let name = reference.to_string();
    let Some(job) = names::job(cache.host) else {
        return match access.may_ask {
            true => asked(reference, cache, access),
            false => Err(cache::not_there(&name)),
        };
    };
    if let Some(digest) = cache.pin(&job, &name) {
        return Ok(digest);
    }
    if !access.may_ask {
        return Err(cache::not_there(&name));
    }
    cache.prepare()?;
    let lease = Digest::of(format!("{job} {name}").as_bytes());
    let leases = cache.root()?.join("leases");
    let is_known = || cache.pin(&job, &name).is_some();
    let turn = lease::take(&cache.want(&leases, &lease, &name), is_known, access.see)?;
    if let Turn::Mine(lease) = turn {
        let pinned =
            asked(reference, cache, access).and_then(|digest| cache.set_pin(&job, &name, digest));
        return match (pinned, cache.pin(&job, &name)) {
            // Somebody else may have asked, if this process was suspended.
            (Ok(digest), _) | (Err(_), Some(digest)) => {
                lease.end();
                Ok(digest)
            }
            (Err(error), None) => {
                lease.fail(&error);
                Err(error)
            }
        };
    }
    cache
        .pin(&job, &name)
        .ok_or_else(|| cache::not_there(&name))
}

/// What a name means as far as `access` wants a registry to be asked.
fn asked(reference: &Reference, cache: &Cache<'_>, access: &mut Access<'_>) -> Result<Digest> {
    if let Some(answer) = without_asking(reference, cache, access.pull) {
        return answer;
    }
    let patience = registry::patient(cache.config);
    match ask_in_child(reference, cache, patience, access.see)? {
        Ok(resolved) => Ok(resolved.digest),
        Err(failure) => instead(reference, cache, access.pull, &failure).ok_or(failure.error),
    }
}

/// The answer of who need not, or may not, ask a registry.
pub fn without_asking(
    reference: &Reference,
    cache: &Cache<'_>,
    pull: Pull,
) -> Option<Result<Digest>> {
    let known = || here(reference, cache);
    match pull {
        Pull::Newer | Pull::Always => None,
        Pull::Missing => known().map(Ok),
        Pull::Never => Some(known().ok_or_else(|| {
            Error::new(format!(
                "can't use the image {reference}: it is not here, and nothing may be fetched (pull is \"never\")"
            ))
            .hint(format!("fetch it where that is allowed: chariot pull {reference}"))
        })),
    }
}

/// What the name meant last, where its registry does not answer and that image is here.
pub fn instead(
    reference: &Reference,
    cache: &Cache<'_>,
    pull: Pull,
    failure: &Failure,
) -> Option<Digest> {
    if pull != Pull::Newer || !failure.cause.is_unknown() {
        return None;
    }
    let digest = here(reference, cache)?;
    tracing::warn!("warning: {}", failure.error);
    tracing::warn!(
        "hint: what {reference} meant when it was last asked for is run, {digest}; --pull=always refuses that"
    );
    Some(digest)
}

/// The last meaning of a name, if its image is here.
fn here(reference: &Reference, cache: &Cache<'_>) -> Option<Digest> {
    let digest = cache.last_meaning(&reference.to_string())?;
    cache.find(&digest).map(|_| digest)
}

/// Asks a registry what a name means, in a process of its own: the answer comes as one line.
///
/// # Errors
/// The registry says no, or nothing.
pub fn resolve_in_child(
    reference: &Reference,
    cache: &Cache<'_>,
    patience: Patience,
    see: &mut dyn FnMut(&Progress),
) -> Result<Resolved> {
    ask_in_child(reference, cache, patience, see)?.map_err(|failure| failure.error)
}

/// The same, with what went wrong.
///
/// # Errors
/// The process that asks died.
pub fn ask_in_child(
    reference: &Reference,
    cache: &Cache<'_>,
    patience: Patience,
    see: &mut dyn FnMut(&Progress),
) -> Result<std::result::Result<Resolved, Failure>> {
    let known = cache.prepare().and_then(|_| cache.root()).ok();
    let answer: Answer = work::run(
        &format!("can't find {reference}"),
        |reporter| {
            process::adopt_environment(&cache.host.environment);
            let ask = || Ok(registry::resolve(reference, cache.config, known, patience));
            reporter.pulse_while(ask, |_| {}).map(Answer::from)
        },
        |progress| see(progress),
    )?;
    let answer = answer.of(reference);
    if let Ok(resolved) = &answer {
        // Who cannot write that asks the next time.
        let _ = cache.set_last_meaning(&reference.to_string(), &resolved.digest);
    }
    Ok(answer)
}
