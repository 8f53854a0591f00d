//! Room on a file system: looked at before and while much is written, and what a user can do where writing fails.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use chariot_core::error::{Error, Explain, Result, innermost};
use chariot_core::open;
use chariot_core::sys;

/// What stays free on a file system, in bytes, or one part in so many of it, whichever is less: a full file
/// system is everybody's trouble.
const RESERVE: u64 = 256 << 20;
const RESERVE_PART: u64 = 50;

/// A failure to write, told with the place and with what is true for its cause.
pub fn explain(error: &io::Error, what: &str, call: &str, place: &Path) -> Error {
    let call = match call.contains('(') {
        true => call.to_owned(),
        false => format!("{call}()"),
    };
    let told = Error::new(format!("{what}: {call}: {}", innermost(error)));
    match advice(error, place) {
        Some(hint) => told.hint(hint),
        None => told,
    }
}

/// What to do about an error of writing below `place`.
pub fn advice(error: &io::Error, place: &Path) -> Option<String> {
    let name = match place.as_os_str().is_empty() {
        true => ".".into(),
        false => place.display().to_string(),
    };
    Some(match error.kind() {
        io::ErrorKind::StorageFull => {
            let is_many = open::directory(place_or_here(place)).is_ok_and(lacks_inodes);
            match is_many {
                true => no_inodes(place),
                false => format!(
                    "the file system of {name} is full: make room there, or choose another place"
                ),
            }
        }
        io::ErrorKind::ResourceBusy => {
            format!("something is mounted on it in {name}: unmount that, or choose another name")
        }
        io::ErrorKind::QuotaExceeded => {
            format!(
                "your quota at {name} is used up: remove something there, or choose another place"
            )
        }
        io::ErrorKind::PermissionDenied => format!("you need permission to write in {name}"),
        io::ErrorKind::ReadOnlyFilesystem => {
            format!("{name} can only be read: choose another place")
        }
        io::ErrorKind::StaleNetworkFileHandle => {
            format!(
                "the file server of {name} has lost it: try again, and tell your administrator if it stays so"
            )
        }
        _ if error.raw_os_error() == Some(libc::EIO) => {
            format!("the disk or the file server of {name} fails: tell your administrator")
        }
        _ => return None,
    })
}

/// The same where the sentence says which place.
pub fn advice_of(error: &io::Error) -> Option<&'static str> {
    match error.kind() {
        io::ErrorKind::StorageFull => {
            Some("that file system is full: make room there, or choose another place")
        }
        io::ErrorKind::QuotaExceeded => {
            Some("your quota there is used up: remove something, or choose another place")
        }
        _ if error.raw_os_error() == Some(libc::EIO) => {
            Some("that disk or file server fails: tell your administrator")
        }
        _ => None,
    }
}

/// What to do where there is room for bytes, but for no more files.
pub fn no_inodes(place: &Path) -> String {
    let name = place_or_here(place).display();
    format!(
        "the file system of {name} has no room for more files (df -i): remove some there, or choose another place"
    )
}

fn place_or_here(place: &Path) -> &Path {
    match place.as_os_str().is_empty() {
        true => Path::new("."),
        false => place,
    }
}

/// Whether there is room for bytes, but for no more files.
pub fn lacks_inodes(file: impl AsFd) -> bool {
    rustix::fs::fstatvfs(file).is_ok_and(|data| data.f_files > 0 && data.f_favail == 0)
}

/// Refuses to fill the file system of an open file.
///
/// # Errors
/// ENOSPC, if less is free than is to stay free.
pub fn refuse_filling(file: impl AsFd) -> io::Result<()> {
    let Ok(data) = rustix::fs::fstatvfs(file) else {
        return Ok(());
    };
    let reserve = RESERVE.min(data.f_blocks.saturating_mul(data.f_frsize) / RESERVE_PART);
    match data.f_bavail.saturating_mul(data.f_frsize) < reserve {
        true => Err(io::Error::from_raw_os_error(libc::ENOSPC)),
        false => Ok(()),
    }
}

/// Free space for `bytes` more, looked at before they are fetched.
///
/// # Errors
/// There is not enough.
pub fn refuse_full(directory: &Path, bytes: u64) -> Result<()> {
    let what = || format!("can't write {bytes} bytes to {}", directory.display());
    let data = sys::called(rustix::fs::statvfs(directory), || "statvfs()".into()).explain(what)?;
    let free = data.f_bavail.saturating_mul(data.f_frsize);
    if free >= bytes {
        return Ok(());
    }
    Err(
        Error::new(format!("{}: only {free} are free", what())).hint(format!(
            "make room on the file system of {}, or choose another place",
            directory.display()
        )),
    )
}
