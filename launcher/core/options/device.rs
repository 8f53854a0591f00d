//! Devices as they are asked for: names of the Container Device Interface, `VENDOR/CLASS=NAME`, or paths of the host.

use std::fmt::{self, Display, Formatter};
use std::path::PathBuf;

/// The longest vendor and the longest class, in bytes; the interface says so.
const LONGEST_VENDOR: usize = 253;
const LONGEST_CLASS: usize = 63;

/// The name that stands for all devices of a kind.
pub const ALL: &str = "all";

/// A device that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Device {
    /// One that a specification describes; `all` means each of its kind.
    Named {
        /// VENDOR/CLASS.
        kind: String,
        /// Its name.
        name: String,
    },
    /// A device node of the host, and where it should be.
    Node {
        /// Its path on the host.
        source: PathBuf,
        /// Its path in the container.
        destination: PathBuf,
    },
}

impl Display for Device {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Device::Named { kind, name } => write!(out, "{kind}={name}"),
            Device::Node { source, .. } => write!(out, "{}", source.display()),
        }
    }
}

/// Reads one: `VENDOR/CLASS=NAME`, `VENDOR/CLASS`, or `/dev/NAME[:PATH[:rwm]]`.
///
/// # Errors
/// What is wrong with it.
pub fn parse(word: &str) -> Result<Device, String> {
    if word.starts_with('/') {
        return node(word);
    }
    let (kind, name) = word.split_once('=').unwrap_or((word, ALL));
    check_kind(kind)?;
    check_name(name)?;
    Ok(Device::Named {
        kind: kind.to_owned(),
        name: name.to_owned(),
    })
}

fn node(word: &str) -> Result<Device, String> {
    let mut parts = word.split(':');
    let source = PathBuf::from(parts.next().unwrap_or_default());
    let destination = match parts.next() {
        Some(path) if path.starts_with('/') => PathBuf::from(path),
        Some(permissions) if is_permissions(permissions) => source.clone(),
        Some(path) => return Err(format!("\"{path}\" is not an absolute path")),
        None => source.clone(),
    };
    match parts.next() {
        Some(permissions) if !is_permissions(permissions) => {
            Err(format!("\"{permissions}\" is not some of r, w and m"))
        }
        _ => Ok(Device::Node {
            source,
            destination,
        }),
    }
}

/// Accepted and without effect: a device's own permissions count, and Slurm's cgroup.
fn is_permissions(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|letter| "rwm".contains(letter))
}

/// Checks VENDOR/CLASS.
///
/// # Errors
/// What is wrong with it.
pub fn check_kind(kind: &str) -> Result<(), String> {
    let Some((vendor, class)) = kind.split_once('/') else {
        return Err(format!(
            "\"{kind}\" is not VENDOR/CLASS, such as nvidia.com/gpu"
        ));
    };
    for (part, longest) in [(vendor, LONGEST_VENDOR), (class, LONGEST_CLASS)] {
        let starts_well = part.starts_with(|first: char| first.is_ascii_alphabetic());
        if !starts_well || part.len() > longest || !is_word(part, "_-.") {
            return Err(format!("\"{part}\" cannot be a part of VENDOR/CLASS"));
        }
    }
    Ok(())
}

/// Checks a device's name.
///
/// # Errors
/// What is wrong with it.
pub fn check_name(name: &str) -> Result<(), String> {
    match is_word(name, "_-.:") {
        true => Ok(()),
        false => Err(format!("\"{name}\" cannot be the name of a device")),
    }
}

/// Letters and digits at both ends, and between them some others too.
fn is_word(text: &str, others: &str) -> bool {
    let is_plain = |character: char| character.is_ascii_alphanumeric();
    text.starts_with(is_plain)
        && text.ends_with(is_plain)
        && text
            .chars()
            .all(|character| is_plain(character) || others.contains(character))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_kinds_and_paths_are_told_apart() {
        let named = |kind: &str, name: &str| Device::Named {
            kind: kind.into(),
            name: name.into(),
        };
        let node = |source: &str, destination: &str| Device::Node {
            source: source.into(),
            destination: destination.into(),
        };
        for (word, device) in [
            ("nvidia.com/gpu=0", named("nvidia.com/gpu", "0")),
            (
                "nvidia.com/gpu=GPU-1a:2",
                named("nvidia.com/gpu", "GPU-1a:2"),
            ),
            ("nvidia.com/gpu", named("nvidia.com/gpu", "all")),
            ("/dev/fuse", node("/dev/fuse", "/dev/fuse")),
            ("/dev/a:/dev/b:rw", node("/dev/a", "/dev/b")),
            ("/dev/a:rwm", node("/dev/a", "/dev/a")),
        ] {
            assert_eq!(parse(word), Ok(device), "{word}");
        }
    }

    #[test]
    fn what_cannot_be_a_device_is_refused_with_the_part_that_is_wrong() {
        for (word, part) in [
            ("gpu", "\"gpu\" is not VENDOR/CLASS"),
            ("0a/gpu", "\"0a\""),
            ("a.b/", "\"\""),
            ("a.b/c=", "\"\""),
            ("a.b/c=x y", "\"x y\""),
            ("/dev/a:b:c", "\"b\""),
            ("/dev/a:/b:q", "\"q\""),
        ] {
            let reason = parse(word).unwrap_err();
            assert!(reason.contains(part), "{word}: {reason}");
        }
    }
}
