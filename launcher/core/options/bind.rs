//! The grammar of `--bind`: `SRC[:DST[:OPT[+OPT]]]`, several with commas between them.

use std::fmt;
use std::path::{Component, Path, PathBuf};

use super::size;

/// What a user wants to see at a place in the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BindSource {
    /// A file or directory of the host.
    Host(PathBuf),
    /// An empty file system in memory, of at most so many bytes.
    Tmpfs(Option<u64>),
}

/// One mount that a user or the site ordered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// What is mounted.
    pub source: BindSource,
    /// Where in the container; absolute and without `..`.
    pub destination: PathBuf,
    /// Nothing can be written through this mount.
    pub read_only: bool,
    /// Skipped when the source is missing.
    pub optional: bool,
    /// Mounts that the host makes below the source later do not show.
    pub private: bool,
    /// The source is a SquashFS file, and what is mounted is what is in it.
    pub squashfs: bool,
}

/// Reads one use of the option. Relative sources are taken from `directory`, where they were typed.
///
/// ```
/// use chariot_core::options::bind::parse_list;
/// use std::path::Path;
///
/// let binds = parse_list("data:/data:ro,/scratch", Path::new("/home/ada")).unwrap();
/// assert_eq!(binds[0].destination, Path::new("/data"));
/// assert!(binds[0].read_only);
/// assert_eq!(binds[1].destination, Path::new("/scratch"));
/// ```
///
/// # Errors
/// Says what is wrong with which item, without the name of the option.
pub fn parse_list(text: &str, directory: &Path) -> Result<Vec<Bind>, String> {
    parse_list_with(text, |path| Ok(directory.join(path)))
}

/// The same, with `meant` to say which path a source or a destination is.
///
/// # Errors
/// As [`parse_list`], and what `meant` says.
pub fn parse_list_with(
    text: &str,
    meant: impl Fn(&str) -> Result<PathBuf, String>,
) -> Result<Vec<Bind>, String> {
    let items = split_unescaped(text, ',');
    items
        .iter()
        .map(|item| parse(item, &meant).map_err(|reason| format!("{reason} in \"{item}\"")))
        .collect()
}

fn parse(item: &str, meant: impl Fn(&str) -> Result<PathBuf, String>) -> Result<Bind, String> {
    let fields: Vec<String> = split_unescaped(item, ':');
    let mut fields = fields.iter().map(|field| unescape(field));
    let source = fields.next().unwrap_or_default();
    let destination = fields.next();
    let options = fields.next();
    if fields.next().is_some() {
        return Err("more than two colons; write \\: for a colon in a path".into());
    }
    if source.is_empty() {
        return Err("no source".into());
    }
    if destination.as_deref() == Some("") {
        return Err("no destination".into());
    }
    // A relative one is refused as it was typed.
    let destination = destination.map(|typed| match typed.starts_with(['~', '$']) {
        true => meant(&typed),
        false => Ok(typed.into()),
    });
    let mut bind = match (source.as_str(), destination.transpose()?) {
        ("tmpfs", None) => return Err("no destination".into()),
        ("tmpfs", Some(destination)) => new(BindSource::Tmpfs(None), destination),
        (_, Some(destination)) => new(BindSource::Host(meant(&source)?), destination),
        (_, None) => {
            let source = meant(&source)?;
            new(BindSource::Host(source.clone()), source)
        }
    };
    check_destination(&bind.destination)?;
    for option in options.iter().flat_map(|options| options.split('+')) {
        apply(&mut bind, option)?;
    }
    Ok(bind)
}

fn new(source: BindSource, destination: PathBuf) -> Bind {
    Bind {
        source,
        destination,
        read_only: false,
        optional: false,
        private: false,
        squashfs: false,
    }
}

fn check_destination(destination: &Path) -> Result<(), String> {
    if !destination.is_absolute() {
        return Err("the destination is not absolute".into());
    }
    if destination
        .components()
        .any(|part| part == Component::ParentDir)
    {
        return Err("the destination has .. in it".into());
    }
    if destination == Path::new("/") {
        return Err("cannot mount over /".into());
    }
    Ok(())
}

fn apply(bind: &mut Bind, option: &str) -> Result<(), String> {
    match (option, &mut bind.source) {
        ("ro", _) => bind.read_only = true,
        ("rw", _) => bind.read_only = false,
        ("optional", BindSource::Host(_)) => bind.optional = true,
        ("private", BindSource::Host(_)) => bind.private = true,
        ("sqsh", BindSource::Host(_)) => bind.squashfs = true,
        (sized, BindSource::Tmpfs(bytes)) if sized.starts_with("size=") => {
            *bytes = Some(size::parse(&sized["size=".len()..])?);
        }
        (_, BindSource::Tmpfs(_)) => {
            return Err(format!("\"{option}\" is not one of ro, rw, size=N"));
        }
        _ => {
            return Err(format!(
                "\"{option}\" is not one of ro, rw, optional, private, sqsh"
            ));
        }
    }
    Ok(())
}

/// Splits at `separator`, but not where a backslash stands before it. Backslashes stay.
fn split_unescaped(text: &str, separator: char) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut escaped = false;
    for character in text.chars() {
        if character == separator && !escaped {
            parts.push(String::new());
            continue;
        }
        escaped = character == '\\' && !escaped;
        if let Some(part) = parts.last_mut() {
            part.push(character);
        }
    }
    parts
}

/// Takes away the backslashes that protect a comma, a colon or a backslash.
fn unescape(text: &str) -> String {
    let mut plain = String::new();
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match (character, characters.peek()) {
            ('\\', Some(',' | ':' | '\\')) => plain.extend(characters.next()),
            _ => plain.push(character),
        }
    }
    plain
}

fn escape(path: &Path) -> String {
    let mut escaped = String::new();
    for character in path.to_string_lossy().chars() {
        if matches!(character, ',' | ':' | '\\') {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

/// The bind in its own grammar, with absolute paths.
impl fmt::Display for Bind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut options = Vec::new();
        match &self.source {
            BindSource::Host(source) => write!(out, "{}", escape(source))?,
            BindSource::Tmpfs(_) => write!(out, "tmpfs")?,
        }
        write!(out, ":{}", escape(&self.destination))?;
        if let BindSource::Tmpfs(Some(bytes)) = self.source {
            options.push(format!("size={bytes}"));
        }
        for (set, name) in [
            (self.read_only, "ro"),
            (self.optional, "optional"),
            (self.private, "private"),
            (self.squashfs, "sqsh"),
        ] {
            if set {
                options.push(name.into());
            }
        }
        if options.is_empty() {
            Ok(())
        } else {
            write!(out, ":{}", options.join("+"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Vec<String>, String> {
        let binds = parse_list(text, Path::new("/here"))?;
        Ok(binds.iter().map(Bind::to_string).collect())
    }

    #[test]
    fn what_is_typed_is_what_is_mounted() {
        let table: &[(&str, &[&str])] = &[
            ("/a", &["/a:/a"]),
            ("/a:/b", &["/a:/b"]),
            ("/a:/b:ro", &["/a:/b:ro"]),
            ("/a:/b:ro+optional+private", &["/a:/b:ro+optional+private"]),
            ("/a:/b:ro+rw", &["/a:/b"]),
            ("data", &["/here/data:/here/data"]),
            ("data:/d", &["/here/data:/d"]),
            ("/a,/b:/c", &["/a:/a", "/b:/c"]),
            (r"/a\,b:/c\:d", &[r"/a\,b:/c\:d"]),
            (r"/a\\:/b", &[r"/a\\:/b"]),
            ("tmpfs:/scratch", &["tmpfs:/scratch"]),
            (
                "tmpfs:/scratch:size=10M+ro",
                &["tmpfs:/scratch:size=10485760+ro"],
            ),
        ];
        for (text, expected) in table {
            assert_eq!(
                parsed(text).as_deref(),
                Ok(*expected)
                    .map(|x: &[&str]| { x.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>() })
                    .as_deref(),
                "{text}"
            );
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_a_reason() {
        for (text, reason) in [
            ("", "no source"),
            (":/b", "no source"),
            ("/a:", "no destination"),
            ("/a::ro", "no destination"),
            ("/a,,/b", "no source"),
            ("/a:b", "not absolute"),
            ("/a:/", "cannot mount over /"),
            ("/a:/b/../c", ".."),
            ("/a:/b:rx", "not one of ro, rw, optional, private"),
            ("/a:/b:ro:x", "more than two colons"),
            ("tmpfs", "no destination"),
            ("tmpfs:/a:optional", "size=N"),
            ("tmpfs:/a:size=lots", "lots"),
        ] {
            let error = parsed(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn printing_a_bind_and_reading_it_back_gives_the_same() {
        for text in [r"/a\,b\:c\\:/d:ro", "tmpfs:/s:size=5", "/x:/y:private"] {
            let first = parse_list(text, Path::new("/")).unwrap();
            assert_eq!(
                parse_list(&first[0].to_string(), Path::new("/")).unwrap(),
                first
            );
        }
    }
}
