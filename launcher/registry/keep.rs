//! Credentials that `chariot login` leaves and `chariot logout` takes away, in podman's file: containers-auth.json(5).

use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::credentials::{LARGEST, base64, podmans};
use crate::files;
use chariot_core::error::{Error, Explain, Result};
use chariot_core::open;

/// Keeps a name and a password, and says where. `names` are those that they can be found under, the first of which is written.
///
/// # Errors
/// The file cannot be written, or what is there is none of its kind.
pub(crate) fn keep(names: &[String], user: &str, password: &str) -> Result<PathBuf> {
    let Some(path) = podmans().pop() else {
        return Err(
            Error::new("can't tell where to keep credentials: HOME is not set")
                .hint("REGISTRY_AUTH_FILE names a file"),
        );
    };
    let path = followed(&path);
    let mut kept = read(&path)?.unwrap_or_default();
    forget_in(&mut kept, names);
    let auth = base64(format!("{user}:{password}").as_bytes());
    let all = kept.entry("auths").or_insert_with(|| json!({}));
    if let (Some(all), Some(name)) = (all.as_object_mut(), names.first()) {
        all.insert(name.clone(), json!({ "auth": auth }));
    }
    if let Some(directory) = path.parent() {
        files::make_private(directory)?;
    }
    write(&path, &kept)?;
    // Older ones of this session would outdo it.
    forget_but(names, Some(&path))?;
    Ok(path)
}

/// Takes away what is kept under any of the `names`, and says where it was.
///
/// # Errors
/// A file that cannot be read or written.
pub(crate) fn forget(names: &[String]) -> Result<Vec<PathBuf>> {
    forget_but(names, None)
}

fn forget_but(names: &[String], stays: Option<&Path>) -> Result<Vec<PathBuf>> {
    let mut changed = Vec::new();
    for path in podmans() {
        let path = followed(&path);
        if stays == Some(&path) {
            continue;
        }
        let Some(mut kept) = read(&path)? else {
            continue;
        };
        if forget_in(&mut kept, names) {
            write(&path, &kept)?;
            changed.push(path);
        }
    }
    Ok(changed)
}

/// The file itself where the path is a link to it, as some keep their configurations: the link stays.
fn followed(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| {
        // What a link leads to may have to be made yet.
        let target = path.read_link().ok().zip(path.parent());
        target.map_or_else(|| path.to_owned(), |(target, above)| above.join(target))
    })
}

fn read(path: &Path) -> Result<Option<Map<String, Value>>> {
    let what = || format!("can't read the credentials in {}", path.display());
    let text = match open::typed(path).and_then(|file| open::all_of(&file, LARGEST)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text.explain(what)?,
    };
    let is_fit = |kept: &Map<String, Value>| kept.get("auths").is_none_or(Value::is_object);
    let kept = serde_json::from_slice(&text).ok().filter(is_fit);
    kept.map(Some).ok_or_else(|| {
        Error::new(format!("{}: it is no file of credentials", what()))
            .hint("it is podman's, containers-auth.json(5); mend it, or put it away")
    })
}

fn forget_in(kept: &mut Map<String, Value>, names: &[String]) -> bool {
    let mut is_changed = false;
    // A helper that is asked for this registry would outdo what is kept here.
    for part in ["auths", "credHelpers"] {
        if let Some(part) = kept.get_mut(part).and_then(Value::as_object_mut) {
            let before = part.len();
            part.retain(|name, _| !names.contains(name));
            is_changed |= part.len() < before;
        }
    }
    is_changed
}

fn write(path: &Path, kept: &Map<String, Value>) -> Result<()> {
    files::write_secret(
        path,
        format!("{:#}\n", Value::from(kept.clone())).as_bytes(),
    )
}
