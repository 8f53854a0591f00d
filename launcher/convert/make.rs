//! Making an image: an [`Origin`] into a file or a directory, with the bounds that the site has set.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::atomic::Ordering;

use super::origin::Origin;
use super::to_archive::ToArchive;
use super::to_directory::ToDirectory;
use super::{Bounds, Summary, convert};
use crate::config::Config;
use crate::error::{CallError, Error, Explain, Result, innermost};
use crate::image::confined;
use crate::image::squashfs::write::{Compression, Writer};
use crate::work::{Progress, Reporter};

/// How often the room on the file system is looked at, in bytes of contents.
const LOOK: u64 = 64 << 20;

/// What stays free on a file system, in bytes, or one part in so many of it, whichever is less: a full file
/// system is everybody's trouble.
const RESERVE: u64 = 256 << 20;
const RESERVE_PART: u64 = 50;

/// The form of a file that an image is made into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A SquashFS image.
    SquashFs(Compression),
    /// A tar archive, plain.
    Tar,
    /// A tar archive, compressed by gzip.
    TarGzip,
    /// A tar archive, compressed by zstd.
    TarZstd,
}

/// Makes an image in `file`, which is empty, and says what was done.
///
/// # Errors
/// The origin is damaged, the image too large, or the file system full.
pub fn file(
    origin: Origin,
    file: &File,
    form: Form,
    config: &Config,
    reporter: &Reporter,
) -> Result<Summary> {
    let output = file.try_clone().map_err(|error| told(&error))?;
    match form {
        Form::SquashFs(compression) => {
            let room = Room::of(file);
            let mut writer = Writer::new(output, compression).map_err(|error| told(&error))?;
            run(origin, &mut writer, config, room, reporter)
        }
        Form::Tar => archive(origin, output, config, reporter, |file| file.flush()),
        Form::TarGzip => {
            let level = flate2::Compression::default();
            let writer = flate2::write::GzEncoder::new(output, level);
            archive(origin, writer, config, reporter, |writer| {
                writer.try_finish()
            })
        }
        Form::TarZstd => {
            let mut writer = zstd::Encoder::new(output, 0).map_err(|error| told(&error))?;
            let threads = std::thread::available_parallelism()
                .map_or(1, |count| u32::try_from(count.get()).unwrap_or(1));
            // A library without threads compresses with one.
            let _ = writer.multithread(threads);
            archive(origin, writer, config, reporter, |writer| {
                writer.do_finish()
            })
        }
    }
}

fn archive<W: Write>(
    origin: Origin,
    writer: W,
    config: &Config,
    reporter: &Reporter,
    close: impl FnOnce(&mut W) -> io::Result<()>,
) -> Result<Summary> {
    let mut target = ToArchive::new(BufWriter::with_capacity(1 << 20, writer));
    let summary = run(origin, &mut target, config, None, reporter)?;
    let closed = target.into_inner().and_then(|writer| {
        let mut writer = writer
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        close(&mut writer)
    });
    closed.map_err(|error| told(&error))?;
    Ok(summary)
}

/// Makes an image in `directory`, which is empty and becomes the root of this process.
///
/// # Errors
/// As [`file()`], or there are no user namespaces.
pub fn directory(
    origin: Origin,
    directory: &Path,
    config: &Config,
    reporter: &Reporter,
) -> Result<Summary> {
    let what = || format!("can't unpack to {}", directory.display());
    confined::confine(directory).explain(what)?;
    let mask = nix::sys::stat::umask(nix::sys::stat::Mode::empty()).bits();
    let room = File::open("/").ok().and_then(|root| Room::of(&root));
    run(
        origin,
        &mut ToDirectory::new(Path::new("/"), u16::try_from(mask).unwrap_or_default()),
        config,
        room,
        reporter,
    )
}

fn run(
    origin: Origin,
    target: &mut dyn super::Target,
    config: &Config,
    room: Option<Room>,
    reporter: &Reporter,
) -> Result<Summary> {
    let meter = origin.meter.clone();
    let mut looked = 0;
    let mut tick = |bytes: u64| {
        let progress = Progress {
            what: "converting".into(),
            done: match meter.total {
                0 => bytes,
                total => meter.done.load(Ordering::Relaxed).min(total),
            },
            total: meter.total,
            elsewhere: false,
        };
        reporter.progress(&progress, false);
        if bytes >= looked + LOOK {
            looked = bytes;
            room.as_ref().map_or(Ok(()), Room::check)?;
        }
        reporter.check()
    };
    let bounds = Bounds {
        most_bytes: config.image_size,
        tick: &mut tick,
    };
    convert(&origin.layers, &origin.mark, target, bounds).map_err(|error| told(&error))
}

fn told(error: &io::Error) -> Error {
    let reason = Error::new(innermost(error));
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            reason.hint("make room there, or choose another place; `chariot gc` empties the cache")
        }
        io::ErrorKind::FileTooLarge => reason.hint("the site's file sets the limit: image_size"),
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput => {
            super::origin::damaged(error)
        }
        io::ErrorKind::PermissionDenied => {
            reason.hint("you need permission to read all files of an image")
        }
        _ => reason,
    }
}

/// The file system that an image is written to.
#[derive(Debug)]
struct Room {
    file: File,
}

impl Room {
    fn of(file: &File) -> Option<Room> {
        file.try_clone().ok().map(|file| Room { file })
    }

    /// Refuses to fill the file system.
    fn check(&self) -> io::Result<()> {
        let Ok(data) = rustix::fs::fstatvfs(&self.file) else {
            return Ok(());
        };
        let reserve = RESERVE.min(data.f_blocks * data.f_frsize / RESERVE_PART);
        match data.f_bavail * data.f_frsize < reserve {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }
}

/// Free space for `bytes` more, looked at before they are fetched.
///
/// # Errors
/// There is not enough.
pub fn refuse_full(directory: &Path, bytes: u64) -> Result<()> {
    let what = || format!("can't write {bytes} bytes to {}", directory.display());
    let data = rustix::fs::statvfs(directory)
        .map_err(|errno| {
            CallError::new(
                "statvfs()",
                nix::errno::Errno::from_raw(errno.raw_os_error()),
            )
        })
        .explain(what)?;
    let free = data.f_bavail * data.f_frsize;
    if free >= bytes {
        return Ok(());
    }
    Err(Error::new(format!("{}: only {free} are free", what()))
        .hint("make room there; `chariot gc` empties the cache, and the site's file can move it: cache"))
}
