//! Making an image: an [`Origin`] into a file or a directory, with the bounds that the site has set.

use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::origin::Origin;
use super::to_archive::ToArchive;
use super::to_directory::ToDirectory;
use super::{Bounds, NotRead, NotWritten, Summary, convert};
use crate::convert::to_squashfs::{Compression, Writer};
use crate::files::confined::Confined;
use crate::files::{Output, space};
use crate::threads;
use crate::work::{Progress, Reporter};
use chariot_core::config::Config;
use chariot_core::error::{Error, Result, general_advice, innermost};
use chariot_core::sys::fork;

/// How often an output shows that it is being made.
const SHOWN: Duration = Duration::from_secs(60);

/// How often the room on the file system is looked at, in bytes of contents.
const LOOK: u64 = 64 << 20;

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

/// Makes an image in the file of `output`, which is empty, and says what was done.
///
/// # Errors
/// The origin is damaged, the image too large, or the file system full.
pub fn file(
    origin: Origin,
    output: &Output,
    form: Form,
    config: &Config,
    reporter: &Reporter,
) -> Result<Summary> {
    let work = Work {
        output,
        config,
        reporter,
    };
    let file = output
        .made()
        .try_clone()
        .map_err(|error| work.told(&error))?;
    match form {
        Form::SquashFs(compression) => {
            let writer = Writer::new(file, compression);
            work.run(origin, &mut writer.map_err(|error| work.told(&error))?)
        }
        Form::Tar => work.archive(origin, file, |file| file.flush()),
        Form::TarGzip => {
            let level = flate2::Compression::default();
            let writer = flate2::write::GzEncoder::new(file, level);
            work.archive(origin, writer, |writer| writer.try_finish())
        }
        Form::TarZstd => {
            let writer = zstd::Encoder::new(file, 0);
            let mut writer = writer.map_err(|error| work.told(&error))?;
            // None: in this one. A library without threads does so too.
            let _ = writer.multithread(u32::try_from(threads::possible()).unwrap_or(1));
            work.archive(origin, writer, |writer| writer.do_finish())
        }
    }
}

/// Makes an image in the directory of `output`, which becomes the root of this process.
///
/// # Errors
/// As [`file()`], or there are no user namespaces.
pub fn directory(
    origin: Origin,
    output: &Output,
    config: &Config,
    reporter: &Reporter,
) -> Result<Summary> {
    let work = Work {
        output,
        config,
        reporter,
    };
    let confined = Confined::enter(output)?;
    let mask = u16::try_from(fork::set_umask(0)).unwrap_or_default();
    work.run(origin, &mut ToDirectory::new(confined, mask))
}

/// What is being made, within which bounds, and who is told.
struct Work<'a> {
    output: &'a Output,
    config: &'a Config,
    reporter: &'a Reporter,
}

impl Work<'_> {
    fn archive<W: Write>(
        &self,
        origin: Origin,
        writer: W,
        close: impl FnOnce(&mut W) -> io::Result<()>,
    ) -> Result<Summary> {
        let mut target = ToArchive::new(BufWriter::with_capacity(1 << 20, writer));
        let summary = self.run(origin, &mut target)?;
        let closed = target.into_inner().and_then(|writer| {
            let mut writer = writer
                .into_inner()
                .map_err(io::IntoInnerError::into_error)?;
            close(&mut writer)
        });
        closed.map_err(|error| self.told(&error))?;
        Ok(summary)
    }

    fn run(&self, origin: Origin, target: &mut dyn super::Target) -> Result<Summary> {
        let meter = origin.meter.clone();
        let mut looked = 0;
        let mut shown = Instant::now();
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
            self.reporter.progress(&progress, false);
            if shown.elapsed() > SHOWN {
                shown = Instant::now();
                self.output.touch();
            }
            if bytes >= looked + LOOK {
                looked = bytes;
                space::refuse_filling(self.output.made())?;
            }
            self.reporter.check()
        };
        let bounds = Bounds {
            most_bytes: self.config.image_size,
            tick: &mut tick,
        };
        let made = convert(&origin.layers, &origin.mark, target, bounds);
        made.map_err(|error| self.told(&error))
    }

    /// What went wrong, and what to do about it. What the kernel itself said is of writing: sources name what they
    /// cannot read.
    fn told(&self, error: &io::Error) -> Error {
        let destination = self.output.destination();
        let above = destination.parent().unwrap_or(Path::new("."));
        let reason = Error::new(innermost(error));
        let inner = error.get_ref();
        if let Some(NotRead { advice, .. }) = inner.and_then(|inner| inner.downcast_ref()) {
            return reason.hint(*advice);
        }
        if let Some(NotWritten { path, number }) = inner.and_then(|inner| inner.downcast_ref()) {
            let what = format!("can't write {}", destination.join(path).display());
            let error = io::Error::from_raw_os_error(*number);
            let told = Error::new(format!("{what}: {}", innermost(&error)));
            return match space::advice(&error, above) {
                Some(hint) => told.hint(hint),
                None => told,
            };
        }
        match error.kind() {
            io::ErrorKind::FileTooLarge => {
                reason.hint("the site configuration file sets the limit: image_size")
            }
            io::ErrorKind::InvalidData
            | io::ErrorKind::UnexpectedEof
            | io::ErrorKind::InvalidInput => super::origin::damaged(error),
            _ if error.raw_os_error().is_some() => self.output.cannot_write("write", error),
            io::ErrorKind::PermissionDenied => {
                reason.hint("you need permission to read all files of an image")
            }
            _ => match space::advice(error, above)
                .or_else(|| general_advice(error).map(str::to_owned))
            {
                Some(hint) => reason.hint(hint),
                None => reason,
            },
        }
    }
}
