//! The word for an image, as it is given to `--image`, `pull`, `inspect` and the like, in `#SBATCH` lines and in environment
//! definition files: what kind of name it is.

use std::path::{Path, PathBuf};

use super::path;

/// What a word can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word<'a> {
    /// `docker://…`: what follows the scheme, an image in a registry.
    Registry(&'a str),
    /// `SCHEME:PATH…`: an archive or a directory in which images lie, and its scheme.
    Bundle(&'static str, &'a str),
    /// Another tool's scheme, and what to write instead.
    Foreign(&'static str, &'static str),
    /// A path: it has a slash.
    Path(&'a str),
    /// A name in the user's store or the site's.
    Name(&'a str),
}

/// The scheme of registries.
pub const REGISTRY: &str = "docker";

/// Those of archives and directories.
const BUNDLES: [&str; 4] = ["docker-archive", "oci-archive", "oci", "dir"];

/// What other tools have there, and what their users can write instead.
const FOREIGN: [(&str, &str); 9] = [
    ("docker-daemon", SAVE),
    ("dockerd", SAVE),
    ("podman", SAVE),
    ("containers-storage", SAVE),
    (
        "ostree",
        "copy it with skopeo: skopeo copy ostree:… oci-archive:FILE",
    ),
    ("library", SIF),
    ("shub", SIF),
    ("oras", SIF),
    ("sif", "a SIF file is given by its path alone"),
];
const SAVE: &str = "save it in a file, which is an image: docker save, podman save, or buildah push with docker-archive:FILE";
const SIF: &str = "pull it with Apptainer; the SIF file is an image";

impl<'a> Word<'a> {
    /// Tells what a word is.
    pub fn parse(word: &'a str) -> Word<'a> {
        if let Some((before, rest)) = word.split_once(':') {
            if before == REGISTRY {
                return Word::Registry(rest);
            }
            if let Some(scheme) = BUNDLES.into_iter().find(|scheme| *scheme == before) {
                return Word::Bundle(scheme, rest);
            }
            let foreign = FOREIGN.into_iter().find(|(scheme, _)| *scheme == before);
            // A name in the store can look like one: `podman:5`.
            if let Some((scheme, advice)) = foreign
                && (rest.contains('/') || scheme.contains('-'))
            {
                return Word::Foreign(scheme, advice);
            }
        }
        match word.contains('/') {
            true => Word::Path(word),
            false => Word::Name(word),
        }
    }
}

/// How the names of SquashFS files end, with Chariot and with other tools, which tell them by content too.
pub const SQUASHFS: [&str; 7] = [
    ".sqfs",
    ".sqsh",
    ".squashfs",
    ".sfs",
    ".sif",
    ".simg",
    ".img",
];

/// How the names of archives end. A name in a registry that ends so, or like the former, has to be written with its scheme.
pub const ARCHIVES: [&str; 14] = [
    ".tar", ".tgz", ".gz", ".xz", ".zst", ".bz2", ".lz4", ".lzma", ".txz", ".tbz", ".tbz2",
    ".tzst", ".zip", ".cpio",
];

/// The word that means the same in every directory and on every machine: a path from the root on, and a name in a registry
/// with its scheme. What could be a name as well as something that lies here keeps what was typed, behind `/./`; [`typed`] gives
/// it back. Which of the two is meant is for who knows the store and whose the directory is.
///
/// # Errors
/// A `~` or a variable that cannot be expanded, and why.
pub fn settled(word: &str, directory: &Path) -> Result<String, String> {
    let text = match Word::parse(word) {
        Word::Registry(_) | Word::Foreign(..) | Word::Name("" | "none") | Word::Bundle(_, "") => {
            return Ok(word.to_owned());
        }
        Word::Bundle(scheme, rest) => {
            let path = plain(&path::expanded(rest, directory)?);
            return Ok(format!("{scheme}:{path}"));
        }
        Word::Name(text) | Word::Path(text) => text,
    };
    let is_there = directory.join(text).symlink_metadata().is_ok();
    let is_name = !text.contains('/') && !text.starts_with(['~', '$']);
    if let Some(name) = of_host(text).filter(|_| !is_there) {
        return Ok(name);
    }
    // It says by itself that it is a path.
    if text.starts_with(['/', '.', '~', '$']) || is_called_like_a_file(text) {
        return match is_name && !is_there {
            true => Ok(text.to_owned()),
            false => Ok(plain(&path::expanded(text, directory)?)),
        };
    }
    match is_there {
        true => Ok(unsettled(text, directory)),
        false if is_name => Ok(text.to_owned()),
        false if could_be_stored(text) => Ok(unsettled(text, directory)),
        false => Ok(plain(&path::expanded(text, directory)?)),
    }
}

/// Whether it ends as files with images do.
pub fn is_called_like_a_file(text: &str) -> bool {
    let mut ends = SQUASHFS.iter().chain(&ARCHIVES);
    ends.any(|end| text.ends_with(end))
}

/// By components: ./img needs no dot any more.
fn plain(path: &Path) -> String {
    let path: PathBuf = path.components().collect();
    path.to_string_lossy().into_owned()
}

fn unsettled(text: &str, directory: &Path) -> String {
    format!("{}/./{text}", plain(directory).trim_end_matches('/'))
}

/// What was typed, of a settled word that was neither a path nor another kind of name.
pub fn typed(word: &str) -> Option<&str> {
    let is_path = word.starts_with('/');
    word.split_once("/./")
        .filter(|_| is_path)
        .map(|(_, typed)| typed)
}

/// `HOST/NAME:TAG`, as docker and podman have it, or `[USER@]HOST#NAME:TAG`, as enroot and pyxis do, with the scheme before it.
/// As with Docker, what has a dot or a colon in it is a host.
pub fn of_host(word: &str) -> Option<String> {
    let name = without_user(word);
    if name.starts_with(['.', '/', '~', '$']) || is_called_like_a_file(name) {
        return None;
    }
    let (host, rest) = match name.split_once('#') {
        Some(parts) => parts,
        None => name.split_once('/').filter(|(host, _)| {
            *host == "localhost" || host.trim_matches('.').contains(['.', ':'])
        })?,
    };
    let is_host = |letter: char| letter.is_ascii_alphanumeric() || ".-:_".contains(letter);
    let can_be = !host.is_empty() && host.chars().all(is_host) && is_name(rest);
    can_be.then(|| format!("{REGISTRY}://{host}/{rest}"))
}

/// enroot's name of who asks is of no use: the credentials say it.
pub fn without_user(word: &str) -> &str {
    let user = word
        .split_once('@')
        .filter(|(user, _)| !user.contains(['/', ':', '#']));
    user.map_or(word, |(_, name)| name)
}

/// Whether it can be the name of an image in a store, or without its host of one in a registry.
pub fn could_be_stored(word: &str) -> bool {
    is_name(word)
}

/// Lower-case components, and a tag or a digest, in which every case is right.
fn is_name(text: &str) -> bool {
    let (name, rest) = match text.find([':', '@']) {
        Some(at) => text.split_at_checked(at).unwrap_or((text, "")),
        None => (text, ""),
    };
    let is_part = |part: &str| {
        let plain = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit();
        part.starts_with(plain)
            && part
                .chars()
                .all(|letter| plain(letter) || "._-".contains(letter))
    };
    name.split('/').all(is_part)
        && rest
            .chars()
            .all(|letter| letter.is_ascii_alphanumeric() || "._-:@+".contains(letter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_means_what_its_writer_saw_and_then_what_other_tools_call_so() {
        let here = tempfile::tempdir().unwrap();
        let place = here.path().display().to_string();
        std::fs::create_dir_all(here.path().join("nvcr.io/x")).unwrap();
        std::fs::create_dir(here.path().join("tree")).unwrap();
        for file in ["my.sqfs", "debian", "nvcr.io/x/y:1", "a#b"] {
            std::fs::write(here.path().join(file), "").unwrap();
        }
        let home = std::env::var("HOME").unwrap();
        for (word, expected) in [
            ("my.sqfs", format!("{place}/my.sqfs")),
            ("debian", format!("{place}/./debian")),
            ("a#b", format!("{place}/./a#b")),
            ("tree", format!("{place}/./tree")),
            ("ubuntu:24.04", "ubuntu:24.04".into()),
            ("none", "none".into()),
            ("./my.sqfs", format!("{place}/my.sqfs")),
            ("./gone", format!("{place}/gone")),
            ("nvcr.io/x/y:1", format!("{place}/./nvcr.io/x/y:1")),
            ("other.sqfs", "other.sqfs".into()),
            (".hidden", ".hidden".into()),
            ("$HOME", home.clone()),
            (&format!("{place}/./tree"), format!("{place}/tree")),
            ("nvcr.io/x/y:2", "docker://nvcr.io/x/y:2".into()),
            ("nvcr.io#x/y:1", "docker://nvcr.io/x/y:1".into()),
            ("$oauthtoken@nvcr.io#x/y:1", "docker://nvcr.io/x/y:1".into()),
            ("nvcr.io#ubuntu", "docker://nvcr.io/ubuntu".into()),
            ("localhost:5000/app", "docker://localhost:5000/app".into()),
            (
                "localhost/app@sha256:00",
                "docker://localhost/app@sha256:00".into(),
            ),
            ("build.d/app.sqfs", format!("{place}/build.d/app.sqfs")),
            ("Data.d/App", format!("{place}/Data.d/App")),
            ("../a/b", format!("{place}/../a/b")),
            ("team/small:1", format!("{place}/./team/small:1")),
            ("images/Small", format!("{place}/images/Small")),
            ("~/x.sqfs", format!("{home}/x.sqfs")),
            ("$HOME/x.sqfs", format!("{home}/x.sqfs")),
            ("oci:~/layout:tag", format!("oci:{home}/layout:tag")),
            ("oci:layout", format!("oci:{place}/layout")),
        ] {
            assert_eq!(settled(word, here.path()), Ok(expected), "{word}");
        }
        assert_eq!(typed("/a/./team/small:1"), Some("team/small:1"));
        assert_eq!(typed("/a/b"), None);
    }

    #[test]
    fn a_word_is_told_by_its_scheme_and_its_slash() {
        for (word, kind) in [
            ("docker://h/a:1", Word::Registry("//h/a:1")),
            ("docker:", Word::Registry("")),
            ("oci:./layout:tag", Word::Bundle("oci", "./layout:tag")),
            (
                "docker-archive:a.tar",
                Word::Bundle("docker-archive", "a.tar"),
            ),
            ("podman:/a", Word::Foreign("podman", SAVE)),
            ("podman:5", Word::Name("podman:5")),
            ("docker-daemon:a", Word::Foreign("docker-daemon", SAVE)),
            ("library://a/b", Word::Foreign("library", SIF)),
            ("./a:b", Word::Path("./a:b")),
            ("a", Word::Name("a")),
            ("a:b", Word::Name("a:b")),
            ("a:b/c", Word::Path("a:b/c")),
            ("", Word::Name("")),
        ] {
            assert_eq!(Word::parse(word), kind, "{word}");
        }
    }
}
