//! Images by name: the user's store and the site's directories; and what is near a word that names none.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::cache::{Cache, is_open_to_others};
use crate::host::Host;
use crate::image::refusals::missing;
use crate::log::warn_once;
use chariot_core::config::Config;
use chariot_core::error::{Error, Result};
use chariot_core::near::nearest;
use chariot_core::options::word;
use chariot_core::private::{self, Whose};

/// Where images are found by name.
///
/// # Errors
/// It cannot be said where the user's store is.
pub fn places(config: &Config, host: &Host) -> Result<Vec<PathBuf>> {
    let store = host.expand("store", &config.store)?;
    let own = match private::refuse_foreign(&store, Whose::Shared) {
        Ok(()) => Some(store),
        Err(refusal) => {
            warn_once(&format!(
                "the image store {} is not used: {refusal}",
                store.display()
            ));
            None
        }
    };
    let images = config.image_dirs.iter().cloned();
    Ok(own.into_iter().chain(images).collect())
}

/// An image that has this name in one of them; or one of the cache, by its digest.
pub(super) fn by_name(name: &str, config: &Config, host: &Host) -> Result<PathBuf> {
    if let Some(start) = name.strip_prefix("sha256:") {
        return by_digest(name, start, config, host);
    }
    let places = places(config, host)?;
    if let Some(path) = stored(name, &places) {
        return Ok(path);
    }
    let here = host.directory.as_deref().unwrap_or(Path::new("/"));
    let near = near(name, names_in(&places)).or_else(|| near_file(name, &here.join(name)));
    let advice = match near {
        Some(near) => format!("did you mean {near}? `chariot images` lists what there is"),
        None if !word::could_be_stored(name) => "`chariot images` lists what there is".to_owned(),
        None => format!(
            "an image in a registry is docker://{name}; `chariot images` lists what there is"
        ),
    };
    let shown: Vec<_> = places
        .iter()
        .map(|place| place.display().to_string())
        .collect();
    let shown = shown.join(" or ");
    Err(Error::new(format!(
        "can't find an image named {name} here or in {shown}"
    ))
    .hint(advice))
}

/// Of fewer digits of a digest no image is found.
const SHORTEST: usize = 6;

/// An image of the cache whose digest begins so, as `chariot images` shows it.
fn by_digest(name: &str, start: &str, config: &Config, host: &Host) -> Result<PathBuf> {
    let cache = Cache::of(config, host);
    let places = cache.places()?;
    let images = places
        .iter()
        .flat_map(|place| super::list(&place.join("images")));
    let found =
        images.filter(|path| start.len() >= SHORTEST && super::name_of(path).starts_with(start));
    let mut found: Vec<PathBuf> = found.collect();
    found.dedup_by_key(|path| super::name_of(path));
    let told = |reason| Error::new(format!("can't use the image {name}: {reason}"));
    match found.as_slice() {
        [only] => Ok(only.clone()),
        [] if start.len() < SHORTEST => Err(told("that is too little of a digest")
            .hint(format!("write at least {SHORTEST} digits"))),
        [] => Err(told("there is no such image in your cache")
            .hint("`chariot images` lists what there is")),
        _ => Err(told("several images begin so").hint("write more of its digest")),
    }
}

/// What a word is that could be a name as well as a path, and has neither `./` nor an ending of image files. Who stands in a
/// directory where others can write must not get theirs in the place of an image of the store's, or of a registry's.
pub(super) fn unsettled(
    name: &str,
    path: PathBuf,
    config: &Config,
    host: &Host,
) -> Result<PathBuf> {
    let is_there = path.symlink_metadata().is_ok();
    let is_open = || {
        let data = path.metadata();
        data.is_ok_and(|data| data.is_file() && is_open_to_others(&data))
    };
    let is_own = || private::refuse_way(&path, Whose::Trusted).is_ok() && !is_open();
    if let Some(remote) = word::of_host(name) {
        return match is_there && is_own() {
            true => Ok(path),
            false => Err(two_meanings(name, &remote)),
        };
    }
    let places = places(config, host)?;
    let as_stored = name.replace('/', "+");
    let stored = stored(&as_stored, &places);
    let is_bare = !name.contains('/');
    match (is_there, stored) {
        (_, Some(stored)) if is_bare => Ok(stored),
        (true, Some(_)) if !is_own() => Err(two_meanings(name, &as_stored)),
        (true, None) if is_bare && !is_own() => Err(Error::new(format!(
            "can't find an image named {name} in your store, and what lies here under that name others can have put there"
        ))
        .hint(format!("write ./{name} if it is what you mean"))),
        (true, _) => Ok(path),
        (false, Some(stored)) => Ok(stored),
        (false, None) => Err(found_nowhere(name, &as_stored, &path, &places)),
    }
}

fn two_meanings(name: &str, other: &str) -> Error {
    Error::new(format!(
        "can't tell which image {name} is: what lies here under that name others can have put there"
    ))
    .hint(format!("write ./{name}, or {other}"))
}

fn found_nowhere(name: &str, as_stored: &str, path: &Path, places: &[PathBuf]) -> Error {
    let latest = format!("{as_stored}:latest");
    let advice = match near(as_stored, names_in(places)).or_else(|| near_file(name, path)) {
        Some(near) => format!("did you mean {near}?"),
        None if as_stored.contains(':') => format!("if it is in a registry, write docker://{name}"),
        None => format!(
            "if it is in a registry, write docker://{name}, which is {latest} in your store once it is pulled"
        ),
    };
    Error::new(format!(
        "can't find the image {name}: there is neither such a file nor {as_stored} in your store"
    ))
    .hint(advice)
}

/// An image at a path.
pub(super) fn at(word: &str, path: &str, config: &Config, host: &Host) -> Result<PathBuf> {
    let path = PathBuf::from(path);
    let error = match path.metadata() {
        Ok(_) => return Ok(path),
        Err(error) => error,
    };
    let told = missing(word, &path, &error);
    if error.kind() != io::ErrorKind::NotFound {
        return Err(told);
    }
    // A job that goes elsewhere takes the name along.
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let is_stored = || places(config, host).is_ok_and(|places| stored(name, &places).is_some());
    Err(match near_file(word, &path) {
        Some(near) => told.hinted_anew(format!("did you mean {near}?")),
        None if is_stored() => {
            told.hinted_anew(format!("your store has an image {name}: write that alone"))
        }
        None => told,
    })
}

fn stored(name: &str, places: &[PathBuf]) -> Option<PathBuf> {
    if matches!(name, "" | "." | "..") || name.contains('/') {
        return None;
    }
    places
        .iter()
        .flat_map(|place| forms(name).map(|form| place.join(form)))
        .find(|path| path.exists())
}

/// A name without a tag has `latest`, as in registries.
fn forms(name: &str) -> impl Iterator<Item = String> {
    let latest = (!name.contains(':')).then(|| format!("{name}:latest.sqfs"));
    [name.to_owned(), format!("{name}.sqfs")]
        .into_iter()
        .chain(latest)
}

/// So many names are looked at for a near one: who mistypes does not wait for a directory of a million files.
const MOST: usize = 10_000;

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries
        .take(MOST)
        .filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| !name.starts_with('.')).collect()
}

fn names_in(places: &[PathBuf]) -> Vec<String> {
    let names = places.iter().flat_map(|place| names(place));
    names
        .map(|name| name.strip_suffix(".sqfs").unwrap_or(&name).to_owned())
        .collect()
}

fn near(name: &str, known: Vec<String>) -> Option<String> {
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    nearest(name, &known).map(str::to_owned)
}

/// An image beside it that has nearly this name, or the same with another ending.
fn near_file(word: &str, path: &Path) -> Option<String> {
    let (directory, name) = (path.parent()?, path.file_name()?.to_str()?);
    let can_be = |other: &String| word::is_called_like_a_file(other) || !other.contains('.');
    let mut there: Vec<String> = names(directory).into_iter().filter(can_be).collect();
    // A SquashFS file before the archive that it was made of.
    there.sort_by_key(|other| (!other.ends_with(".sqfs"), other.clone()));
    let stem = |name: &str| name.split('.').next().unwrap_or_default().to_lowercase();
    let same = there
        .iter()
        .find(|other| stem(other) == stem(name))
        .cloned();
    let found = same.or_else(|| near(name, there))?;
    Some(match word.rsplit_once('/') {
        Some((before, _)) => format!("{before}/{found}"),
        None => format!("./{found}"),
    })
}
