//! Opening names that somebody else chose: a user, an image, a directory's listing, a registry. There may be a FIFO,
//! which would be waited for until somebody writes; a device, which does something when it is opened; or a link to
//! either. So nothing is waited for, and what was opened is asked what it is.

#![allow(clippy::disallowed_methods, reason = "this is the room that opens")]

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, OFlags, Stat, fcntl_setfl, fstat, openat};
use rustix::io::Errno;

/// How often a file that somebody holds a lease of is tried, and how long between.
const TRIES: u32 = 200;
const PAUSE: Duration = Duration::from_millis(10);

/// Opens a regular file to read it, through links.
///
/// # Errors
/// As open(2), or it is not a regular file.
pub fn regular(path: &Path) -> io::Result<File> {
    regular_with(CWD, path, OFlags::empty()).map(|(file, _)| file)
}

/// The same in a directory, with what stat(2) says of it, and not through a link.
///
/// # Errors
/// As open(2), ELOOP if it is a link, or it is not a regular file.
pub fn regular_at(directory: impl AsFd, name: &Path) -> io::Result<(File, Stat)> {
    regular_with(directory, name, OFlags::NOFOLLOW)
}

/// Opens a directory to look into it, through links.
///
/// # Errors
/// As open(2).
pub fn directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(openat(CWD, path, flags, Mode::empty())?)
}

/// Opens a regular file that is there to write it too, not through a link.
///
/// # Errors
/// As open(2), or it is not a regular file.
pub fn to_write(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = without_waiting(|| Ok(openat(CWD, path, flags, Mode::empty())?))?;
    match FileType::from_raw_mode(fstat(&file)?.st_mode) {
        FileType::RegularFile => Ok(File::from(file)),
        kind => Err(not_regular(kind)),
    }
}

/// Opens an archive, which may come through a pipe: that is waited for, as whoever named it wants.
///
/// # Errors
/// As open(2).
pub fn archive(path: &Path) -> io::Result<File> {
    File::open(path)
}

/// Opens a text that somebody typed the name of. Beside a regular file that may be /dev/null, or what the caller has open
/// already: a shell writes `<(command)` as /dev/fd/63. Any other FIFO is refused: nobody may ever write to it.
///
/// # Errors
/// As [`regular`].
pub fn typed(path: &Path) -> io::Result<File> {
    let (file, data) = open(CWD, path, OFlags::empty())?;
    let open_already = ["/dev/fd", "/dev/stdin", "/proc/self/fd"];
    let kind = FileType::from_raw_mode(data.st_mode);
    let is_given = match kind {
        FileType::RegularFile => true,
        FileType::Fifo => open_already.iter().any(|place| path.starts_with(place)),
        FileType::CharacterDevice => data.st_rdev == NULL,
        _ => false,
    };
    match is_given {
        true => Ok(file),
        false => Err(not_regular(kind)),
    }
}

/// The device number of /dev/null.
const NULL: u64 = libc::makedev(1, 3);

fn regular_with(directory: impl AsFd, name: &Path, more: OFlags) -> io::Result<(File, Stat)> {
    let (file, data) = open(directory, name, more)?;
    match FileType::from_raw_mode(data.st_mode) {
        FileType::RegularFile => Ok((file, data)),
        kind => Err(not_regular(kind)),
    }
}

fn open(directory: impl AsFd, name: &Path, more: OFlags) -> io::Result<(File, Stat)> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC | more;
    let file = without_waiting(|| Ok(openat(&directory, name, flags, Mode::empty())?))?;
    let data = fstat(&file)?;
    // Reading a regular file never says EAGAIN, except on file systems that take the flag at its word.
    let _ = fcntl_setfl(&file, OFlags::empty());
    Ok((File::from(file), data))
}

/// A file that somebody holds a lease of says EAGAIN for a moment; who asks whether a file is in use does that.
fn without_waiting(open: impl Fn() -> io::Result<OwnedFd>) -> io::Result<OwnedFd> {
    for _ in 0..TRIES {
        match open() {
            Err(error) if error.raw_os_error() == Some(Errno::AGAIN.raw_os_error()) => {
                std::thread::sleep(PAUSE);
            }
            result => return result,
        }
    }
    open()
}

/// Says what is there in place of a regular file.
pub fn not_regular(kind: FileType) -> io::Error {
    let what = match kind {
        FileType::Directory => return io::Error::from_raw_os_error(libc::EISDIR),
        FileType::Fifo => "it is a FIFO",
        FileType::Socket => "it is a socket",
        FileType::BlockDevice | FileType::CharacterDevice => "it is a device",
        _ => "it is not a regular file",
    };
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

/// The bytes of a regular file, through links; at most `most`.
///
/// # Errors
/// As [`regular`], or it is longer.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    all_of(&regular(path)?, most)
}

/// The same as text.
///
/// # Errors
/// As [`read`], or it is not UTF-8.
pub fn read_text(path: &Path, most: u64) -> io::Result<String> {
    text_of(&regular(path)?, most)
}

/// Why a path leads nowhere, as a hint: a name that is not there, or a directory, which may be one of another machine.
pub fn where_it_ends(path: &Path) -> String {
    match path.parent().filter(|directory| directory.is_dir()) {
        Some(directory) => format!("{} has nothing of that name", directory.display()),
        None => "is it on a file system that this machine has mounted?".to_owned(),
    }
}

/// The text of an open file.
///
/// # Errors
/// As [`all_of`], or it is not UTF-8.
pub fn text_of(file: &File, most: u64) -> io::Result<String> {
    String::from_utf8(all_of(file, most)?)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))
}

/// The bytes of an open file, at most `most`.
///
/// # Errors
/// As read(2), or it is longer.
pub fn all_of(file: &File, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > most {
        true => Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it is longer than {most} bytes"),
        )),
        false => Ok(bytes),
    }
}

/// Which file it is, whatever it is called: device and inode.
///
/// # Errors
/// As fstat(2).
pub fn identity(file: &File) -> std::io::Result<String> {
    use std::os::unix::fs::MetadataExt;
    let data = file.metadata()?;
    Ok(format!("{}:{}", data.dev(), data.ino()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_fifo_a_device_or_a_link_to_one_is_refused_at_once() {
        let place = tempfile::tempdir().unwrap();
        let path = |name: &str| place.path().join(name);
        nix::unistd::mkfifo(&path("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        symlink("fifo", path("link")).unwrap();
        symlink("/dev/null", path("device")).unwrap();
        for (name, reason) in [
            ("fifo", "it is a FIFO"),
            ("link", "it is a FIFO"),
            ("device", "it is a device"),
        ] {
            let error = regular(&path(name)).unwrap_err();
            assert_eq!(error.to_string(), reason, "{name}");
        }
        fs::write(path("file"), "text").unwrap();
        assert_eq!(read_text(&path("file"), 4).unwrap(), "text");
        assert!(read(&path("file"), 3).is_err());
        symlink("file", path("to-file")).unwrap();
        assert!(regular(&path("to-file")).is_ok());
        assert!(typed(&path("device")).is_ok() && typed(&path("link")).is_err());
        let directory = File::open(place.path()).unwrap();
        assert!(regular_at(&directory, Path::new("to-file")).is_err());
        assert!(regular_at(&directory, Path::new("file")).is_ok());
    }
}
