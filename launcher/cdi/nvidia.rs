//! The hooks of NVIDIA's container toolkit, which are made to run as root in the image: understood by their words, and
//! done otherwise.

use std::path::{Path, PathBuf};

use super::spec::HookWords;

/// The toolkit's programs; the older one has `hook` before its sub-commands.
const PROGRAMS: [&str; 2] = ["nvidia-cdi-hook", "nvidia-ctk"];

/// What a hook wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wish {
    /// The loader finds the libraries in these directories.
    LoaderCache(Vec<PathBuf>),
    /// Libraries in these directories have links of the names by which programs ask for them.
    SonameLinks(Vec<PathBuf>),
    /// Links: what they say, and where they are.
    Links(Vec<(PathBuf, PathBuf)>),
    /// The image's newer libcuda is taken, if it is newer than this driver of the host, or this CUDA.
    Compatibility {
        driver: Option<String>,
        cuda: Option<String>,
    },
    /// The driver's library is told not to make device nodes.
    NoDeviceNodes,
    /// EGL sees these GPUs.
    ApplicationProfile,
    /// Nothing that is of use here.
    Nothing,
}

/// What a hook of the toolkit wants; none if it is another program's, or one that nobody here knows.
pub(super) fn understand(hook: &HookWords) -> Option<Wish> {
    let program = Path::new(&hook.path).file_name()?.to_str()?;
    if !PROGRAMS.contains(&program) {
        return None;
    }
    let mut words = hook.args.iter().map(String::as_str).skip(1);
    let mut command = words.next()?;
    if command == "hook" {
        command = words.next()?;
    }
    let flags = flags(words);
    let all = |name: &str| {
        let values = flags.iter().filter(|(flag, _)| *flag == name);
        values
            .flat_map(|(_, value)| value.split(','))
            .collect::<Vec<_>>()
    };
    let one = |name: &str| all(name).last().map(|value| (*value).to_owned());
    let folders = || all("folder").into_iter().map(PathBuf::from).collect();
    match command {
        "update-ldcache" => Some(Wish::LoaderCache(folders())),
        "create-soname-symlinks" => Some(Wish::SonameLinks(folders())),
        "create-symlinks" => Some(Wish::Links(
            all("link").into_iter().filter_map(link).collect(),
        )),
        "enable-cuda-compat" => Some(Wish::Compatibility {
            driver: one("host-driver-version"),
            cuda: one("host-cuda-version"),
        }),
        "disable-device-node-modification" => Some(Wish::NoDeviceNodes),
        "update-application-profile" => Some(Wish::ApplicationProfile),
        // Of device nodes that are the host's own here.
        "chmod" => Some(Wish::Nothing),
        _ => None,
    }
}

/// `--name value` and `--name=value`.
fn flags<'a>(words: impl Iterator<Item = &'a str>) -> Vec<(&'a str, &'a str)> {
    let mut words = words.peekable();
    let mut flags = Vec::new();
    while let Some(word) = words.next() {
        let Some(name) = word.strip_prefix('-') else {
            continue;
        };
        let name = name.strip_prefix('-').unwrap_or(name);
        match name.split_once('=') {
            Some(flag) => flags.push(flag),
            None => {
                let value = words.next_if(|next| !next.starts_with('-'));
                flags.push((name, value.unwrap_or_default()));
            }
        }
    }
    flags
}

/// `TARGET::LINK`.
fn link(text: &str) -> Option<(PathBuf, PathBuf)> {
    let (target, link) = text.split_once("::")?;
    (!target.is_empty() && link.starts_with('/'))
        .then(|| (PathBuf::from(target), PathBuf::from(link)))
}

/// Whether a version is newer than another, by its numbers from the left, as many as `other` has at most `depth`.
pub(super) fn is_newer(version: &str, other: &str, depth: usize) -> bool {
    let numbers = |text: &str| -> Vec<u32> {
        let parts = text.split('.').take(depth);
        parts.map_while(|part| part.parse().ok()).collect()
    };
    let (version, other) = (numbers(version), numbers(other));
    !version.is_empty() && !other.is_empty() && version > other
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(path: &str, words: &[&str]) -> HookWords {
        let text = serde_json::json!({"hookName": "createContainer", "path": path, "args": words});
        serde_json::from_value(text).unwrap()
    }

    #[test]
    fn both_programs_of_the_toolkit_are_understood_and_no_others() {
        let words = [
            "nvidia-cdi-hook",
            "update-ldcache",
            "--folder",
            "/a",
            "--folder=/b,/c",
        ];
        let wish = Wish::LoaderCache(["/a", "/b", "/c"].map(PathBuf::from).into());
        assert_eq!(
            understand(&hook("/usr/bin/nvidia-cdi-hook", &words)),
            Some(wish)
        );
        let words = [
            "nvidia-ctk",
            "hook",
            "create-symlinks",
            "--link",
            "libcuda.so.1::/usr/lib/libcuda.so",
            "--link",
            "nonsense",
        ];
        let wish = Wish::Links(vec![("libcuda.so.1".into(), "/usr/lib/libcuda.so".into())]);
        assert_eq!(understand(&hook("/opt/bin/nvidia-ctk", &words)), Some(wish));
        assert_eq!(
            understand(&hook("/bin/other", &["x", "update-ldcache"])),
            None
        );
        assert_eq!(
            understand(&hook("/bin/nvidia-ctk", &["x", "hook", "new"])),
            None
        );
    }

    #[test]
    fn versions_are_compared_by_their_numbers() {
        assert!(is_newer("560.35.03", "550.54.15", 1));
        assert!(!is_newer("550.90.07", "550.54.15", 1));
        assert!(is_newer("12.10", "12.9", 2));
        assert!(!is_newer("", "12.9", 2));
    }
}
