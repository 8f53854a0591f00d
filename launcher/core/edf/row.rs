//! What a line of an environment definition file is as a use of one of the table's options.

use std::path::Path;

use super::Entry;
use crate::options::word::{self, Word};
use crate::options::{bind, device};

/// The option that a value is a use of; none for what is only kept.
pub(super) fn option(entry: &Entry) -> std::result::Result<Option<(&'static str, String)>, String> {
    let value = entry.value.as_str();
    let switch = |name| {
        Ok(Some((
            name,
            if value == "true" { "yes" } else { "no" }.to_owned(),
        )))
    };
    match entry.key.as_str() {
        "image" => Ok(Some(("image", image(value)))),
        "workdir" => Ok(Some(("workdir", value.to_owned()))),
        "writable" => switch("writable"),
        "entrypoint" => switch("entrypoint"),
        "mounts" => mount(value).map(|bind| Some(("bind", bind))),
        "devices" => device::parse(value).map(|_| Some(("device", value.to_owned()))),
        key => Ok(match key.strip_prefix("env.") {
            Some(name) if value.is_empty() => Some(("unset-env", glob::Pattern::escape(name))),
            Some(name) => Some(("set-env", format!("{name}={value}"))),
            None => None,
        }),
    }
}

/// An image is a path, or what enroot calls one in a registry: `[USER@][REGISTRY#]IMAGE[:TAG]`.
pub(super) fn image(word: &str) -> String {
    let is_known = matches!(Word::parse(word), Word::Registry(_) | Word::Bundle(..));
    if is_known || word.starts_with(['.', '/']) {
        return word.to_owned();
    }
    let name = word::without_user(word);
    format!("docker://{}", name.replacen('#', "/", 1))
}

/// `SRC:DST[:FLAG+FLAG]`, in the words of `--bind`.
fn mount(text: &str) -> std::result::Result<String, String> {
    let fields: Vec<&str> = text.split(':').collect();
    let (source, destination, flags) = match fields.as_slice() {
        [source, destination] => (source, destination, ""),
        [source, destination, flags] => (source, destination, *flags),
        _ => return Err("a mount is SRC:DST, with or without :FLAG+FLAG".into()),
    };
    if !source.starts_with(['.', '/']) {
        return Err(format!(
            "the source {source} begins neither with / nor with ."
        ));
    }
    let escaped = |path: &str| path.replace('\\', "\\\\").replace(',', "\\,");
    let mut bind = format!("{}:{}", escaped(source), escaped(destination));
    if !flags.is_empty() {
        bind += &format!(":{flags}");
    }
    bind::parse_list(&bind, Path::new("/"))?;
    Ok(bind)
}
