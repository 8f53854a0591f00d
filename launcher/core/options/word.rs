//! The word for an image, as it is given to `--image`, `pull`, `inspect` and the like, in `#SBATCH` lines and in environment
//! definition files: what kind of name it is. Whether there is such an image is not asked here.

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

#[cfg(test)]
mod tests {
    use super::*;

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
