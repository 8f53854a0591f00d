//! For which machines an image is: which of a list is taken, and whether one that stands alone can run here.

use std::path::Path;

use super::{Configuration, Descriptor, Platform};

/// The image for this machine among those of an index. What stands in a list beside images, signatures and notes on
/// how they were built, says that it is for an unknown machine and is none of them.
///
/// # Errors
/// For which machines there are images.
pub fn choose(manifests: &[Descriptor]) -> Result<&Descriptor, String> {
    let own = architecture();
    let images: Vec<&Descriptor> = manifests
        .iter()
        .filter(|one| one.is_perhaps_an_image())
        .collect();
    let fitting = || {
        images
            .iter()
            .filter(|one| one.platform.as_ref().is_some_and(fits))
    };
    // A list can have one for newer processors beside that for all.
    let for_all = fitting().find(|one| one.platform.as_ref().is_some_and(Platform::is_for_all));
    // A list of one that does not say for what it is, as tools without other platforms make it.
    let only = images
        .first()
        .filter(|one| images.len() == 1 && one.platform.is_none());
    for_all
        .or_else(|| fitting().next())
        .or(only)
        .copied()
        .ok_or_else(|| {
            let names: Vec<String> = images
                .iter()
                .filter_map(|one| one.platform.as_ref())
                .map(|platform| format!("{}/{}", platform.os, platform.architecture))
                .collect();
            match names.is_empty() {
                true => "it names no image for any machine".into(),
                false => format!(
                    "there is none for linux/{own}, only for {}",
                    names.join(", ")
                ),
            }
        })
}

impl Descriptor {
    /// Whether it says that it is for another machine than this, or for none.
    #[must_use]
    pub fn is_for_another_machine(&self) -> bool {
        !self.is_perhaps_an_image() || self.platform.as_ref().is_some_and(|one| !fits(one))
    }
}

fn fits(platform: &Platform) -> bool {
    platform.os == "linux" && canonical(&platform.architecture) == architecture()
}

/// This machine's architecture in Go's words.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "powerpc64" => "ppc64le",
        other => canonical(other),
    }
}

/// The kernel's words in Go's, as some tools mix them up.
fn canonical(architecture: &str) -> &str {
    match architecture {
        "x86_64" | "x86-64" => "amd64",
        "aarch64" => "arm64",
        "x86" | "i386" | "i686" => "386",
        other => other,
    }
}

/// Where the kernel shows which programs of other machines it hands to an emulator.
const EMULATORS: &str = "/proc/sys/fs/binfmt_misc";

/// An image that stands alone says only in its configuration for which machine it is. One for another is said at
/// once, not when its first program cannot be executed; where the kernel has an emulator for it, nothing is wrong.
/// What says nothing is believed to be right.
///
/// # Errors
/// For which machine it is.
pub fn refuse_another(configuration: &Configuration) -> Result<(), String> {
    refuse(configuration, architecture(), Path::new(EMULATORS))
}

fn refuse(configuration: &Configuration, own: &str, emulators: &Path) -> Result<(), String> {
    let (os, named) = (&configuration.os, &configuration.architecture);
    let wanted = canonical(named);
    if !os.is_empty() && os != "linux" {
        return Err(format!("it is for {os}, and this machine has Linux"));
    }
    // The two whose processors run their predecessors' programs.
    let runs = matches!((own, wanted), ("amd64", "386") | ("arm64", "arm"));
    if wanted.is_empty() || wanted == own || runs || has_emulator(wanted, emulators) {
        return Ok(());
    }
    Err(format!("it is for {named}, and this machine is {own}"))
}

/// Whether a handler is registered for programs of an architecture: they are called `qemu-aarch64` and the like.
fn has_emulator(architecture: &str, emulators: &Path) -> bool {
    let theirs = match architecture {
        "amd64" => "x86_64",
        "arm64" => "aarch64",
        "386" => "i386",
        "mips64le" => "mips64el",
        "mipsle" => "mipsel",
        "loong64" => "loongarch64",
        other => other,
    };
    let entries = std::fs::read_dir(emulators).into_iter().flatten().flatten();
    let is_one = |entry: &std::fs::DirEntry| {
        let name = entry.file_name();
        name.to_str()
            .and_then(|name| name.rsplit_once('-'))
            .is_some_and(|(_, machine)| machine == theirs)
    };
    let is_on = |entry: &std::fs::DirEntry| {
        chariot_core::open::read_text(&entry.path(), 4096)
            .is_ok_and(|text| text.starts_with("enabled"))
    };
    entries
        .into_iter()
        .any(|entry| is_one(&entry) && is_on(&entry))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration(os: &str, architecture: &str) -> Configuration {
        Configuration {
            os: os.into(),
            architecture: architecture.into(),
            ..Configuration::default()
        }
    }

    #[test]
    fn an_image_for_another_machine_is_said_unless_there_is_an_emulator() {
        let emulators = tempfile::tempdir().unwrap();
        let here =
            |os, architecture| refuse(&configuration(os, architecture), "amd64", emulators.path());
        for fine in ["", "amd64", "x86_64", "386"] {
            assert_eq!(here("linux", fine), Ok(()), "{fine}");
        }
        assert_eq!(
            here("linux", "arm64").unwrap_err(),
            "it is for arm64, and this machine is amd64"
        );
        assert!(here("windows", "amd64").unwrap_err().contains("windows"));
        let handler = emulators.path().join("qemu-aarch64");
        std::fs::write(&handler, "disabled\n").unwrap();
        assert!(here("linux", "arm64").is_err());
        std::fs::write(&handler, "enabled\ninterpreter /usr/bin/qemu-aarch64\n").unwrap();
        assert_eq!(here("linux", "arm64"), Ok(()));
        assert!(here("linux", "s390x").is_err());
    }
}
