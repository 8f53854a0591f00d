//! Whether a file is a plugin that the dynamic loader of this machine can load: for this processor, and not for a newer
//! C library.

use std::path::Path;

use crate::cdi::elf;
use chariot_core::error::io_reason;
use chariot_core::open;

/// The largest plugin or C library that is read, in bytes.
const LARGEST: u64 = 64 << 20;

/// Where the C library is.
const LIBRARIES: [&str; 5] = [
    "/lib/x86_64-linux-gnu/libc.so.6",
    "/lib/aarch64-linux-gnu/libc.so.6",
    "/lib64/libc.so.6",
    "/usr/lib64/libc.so.6",
    "/usr/lib/libc.so.6",
];

/// What is wrong with it, and what to do.
pub(super) fn check(path: &Path) -> Result<(), (String, String)> {
    let anew = || {
        "install the chariot.so of this machine's package, or build it here: etc/build".to_owned()
    };
    let bytes = open::read(path, LARGEST).map_err(|error| {
        let remedy = format!("install it as a file of mode 644: {}", path.display());
        (io_reason(&error), remedy)
    })?;
    if elf::read(path).is_none_or(|library| !library.is_for_this_machine()) {
        return Err(("is no shared library for this machine".into(), anew()));
    }
    if !has(&bytes, b"slurm_spank_task_init\0") {
        return Err(("is no plugin of Chariot's".into(), anew()));
    }
    let libc = LIBRARIES
        .iter()
        .find_map(|path| open::read(Path::new(path), LARGEST).ok());
    match (newest(&bytes), libc.and_then(|libc| newest(&libc))) {
        (Some(wanted), Some(here)) if wanted > here => Err((
            format!("asks for glibc 2.{wanted}, and this machine has 2.{here}"),
            anew(),
        )),
        _ => Ok(()),
    }
}

fn has(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

/// The newest version of glibc that a library names: in a program the one that it asks for, in the C library its own.
fn newest(bytes: &[u8]) -> Option<u32> {
    let mark = b"GLIBC_2.";
    let starts = bytes.windows(mark.len()).enumerate();
    let numbers = starts
        .filter(|(_, window)| window == mark)
        .filter_map(|(at, _)| {
            let rest = bytes.get(at + mark.len()..)?;
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit());
            let text: String = digits.map(|byte| char::from(*byte)).take(3).collect();
            text.parse().ok()
        });
    numbers.max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_that_is_named_counts() {
        assert_eq!(
            newest(b"\0GLIBC_2.4\0GLIBC_2.34\0GLIBC_2.9.1\0GLIBC_PRIVATE\0"),
            Some(34)
        );
        assert_eq!(newest(b"GLIBC_2."), None);
    }

    #[test]
    fn what_is_no_plugin_says_so() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("chariot.so");
        assert!(check(&path).unwrap_err().0.contains("No such file"));
        std::fs::write(&path, "text").unwrap();
        assert!(check(&path).unwrap_err().0.contains("is no shared library"));
        let Some(libc) = LIBRARIES.iter().find(|path| Path::new(path).exists()) else {
            return;
        };
        std::fs::copy(libc, &path).unwrap();
        assert!(
            check(&path)
                .unwrap_err()
                .0
                .contains("is no plugin of Chariot's")
        );
        assert!(newest(&std::fs::read(libc).unwrap()).unwrap() >= 17);
    }
}
