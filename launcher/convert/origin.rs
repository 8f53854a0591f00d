//! What an image is made from: files, opened and looked at.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::Layers;
use super::archive::{self, Archive};
use super::directory::Directory;
use super::layout::{Place, is_in_layout, is_layout};
use super::member::Source;
use super::squashfs;
use crate::error::{Error, Explain, Result, innermost};
use crate::image::Image;
use crate::image::metadata::Mark;
use crate::plan::UPPER;

/// Counts bytes that have been read of a source, and knows how many there are.
#[derive(Debug, Clone, Default)]
pub struct Meter {
    /// Read so far; a source that is read twice counts twice.
    pub done: Arc<AtomicU64>,
    /// To be read in all; 0 if nobody knows.
    pub total: u64,
}

/// What an image is made from.
pub struct Origin {
    /// Its layers.
    pub layers: Layers,
    /// What is known of it.
    pub mark: Mark,
    /// How far it has been read.
    pub meter: Meter,
}

impl std::fmt::Debug for Origin {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Origin")
            .field("mark", &self.mark)
            .finish_non_exhaustive()
    }
}

impl Origin {
    fn single(source: Box<dyn Source>, mark: Mark, meter: Meter) -> Origin {
        Origin {
            layers: Layers {
                sources: vec![source],
                are_oci: false,
                changes: None,
            },
            mark,
            meter,
        }
    }

    /// An OCI image without layers as yet.
    pub(super) fn layered(mark: Mark) -> Origin {
        Origin {
            layers: Layers {
                sources: Vec::new(),
                are_oci: true,
                changes: None,
            },
            mark,
            meter: Meter::default(),
        }
    }

    /// Adds a layer of `length` bytes on top.
    pub(super) fn add(&mut self, make: impl FnOnce(Arc<AtomicU64>) -> Archive, length: u64) {
        self.layers
            .sources
            .push(Box::new(make(Arc::clone(&self.meter.done))));
        let lengths = if self.layers.sources.len() == 1 {
            length
        } else {
            self.meter.total + 2 * length
        };
        // With a second layer, all are read twice.
        let first = if self.layers.sources.len() == 2 {
            self.meter.total
        } else {
            0
        };
        self.meter.total = lengths + first;
    }

    /// With what was changed in the overlay `directory`, which is what `--overlay` was given.
    ///
    /// # Errors
    /// It is no such directory.
    pub fn with_changes(mut self, directory: &Path) -> Result<Origin> {
        let upper = directory.join(UPPER);
        if !upper.is_dir() {
            let directory = directory.display();
            return Err(Error::new(format!(
                "{directory} is not a directory in which --overlay kept changes: it has no {UPPER}"
            ))
            .hint("name the directory that --overlay was given"));
        }
        self.layers.changes = Some(Directory::changes(&upper));
        Ok(self)
    }

    /// An image that can be run.
    pub fn of_image(image: &Image) -> Origin {
        let mark = image.metadata.mark.clone().unwrap_or_default();
        let source: Box<dyn Source> = match image.squashfs() {
            Some(squashfs) => Box::new(squashfs::Image(Arc::clone(squashfs))),
            None => Box::new(Directory::new(&image.path)),
        };
        Origin::single(source, mark, Meter::default())
    }

    /// An archive: a flat tree, or an image as `docker save` or an OCI layout has it.
    ///
    /// # Errors
    /// It cannot be read, or holds no image.
    pub fn of_archive(
        file: File,
        tag: Option<&str>,
        scratch: impl FnOnce() -> PathBuf,
        most: u64,
    ) -> Result<Origin> {
        let what = || "can't read it".to_owned();
        let length = file.metadata().explain(what)?;
        let length = length.is_file().then_some(length.len());
        if length.is_some()
            && (tag.is_some() || is_layered(&file).map_err(|error| damaged(&error))?)
        {
            let place = Place::in_archive(file.try_clone().explain(what)?, &scratch(), most)
                .map_err(|error| damaged(&error))?;
            if place.is_layout() {
                return place.image(tag);
            }
        }
        let meter = Meter {
            total: length.unwrap_or_default(),
            ..Meter::default()
        };
        let archive = Archive::new(file, 0, length, Arc::clone(&meter.done));
        Ok(Origin::single(Box::new(archive), Mark::default(), meter))
    }

    /// An OCI layout in a directory.
    ///
    /// # Errors
    /// It cannot be read or understood, or has several images.
    pub fn of_layout(directory: &Path, tag: Option<&str>) -> Result<Origin> {
        if !is_layout(directory) {
            return Err(Error::new(
                "it is no OCI layout: it lacks oci-layout or index.json",
            ));
        }
        Place::Directory(directory.to_owned()).image(tag)
    }
}

/// Says that an archive is none, or broken.
pub fn damaged(error: &io::Error) -> Error {
    Error::new(innermost(error)).hint(
        "it should be a tar archive of a file system, plain or compressed by gzip, bzip2, xz or \
         zstd, and complete",
    )
}

/// Whether an archive begins as one with layers in it does.
fn is_layered(file: &File) -> io::Result<bool> {
    let start = FromStart(file.try_clone()?, 0);
    let mut first = [0; 512];
    let mut reader = archive::decompressed(start)?.take(512);
    match reader.read_exact(&mut first) {
        Ok(()) => {
            let end = first[..100]
                .iter()
                .position(|byte| *byte == 0)
                .unwrap_or(100);
            Ok(is_in_layout(&first[..end]))
        }
        // Too short for an archive: who unpacks it says so.
        Err(_) => Ok(false),
    }
}

/// Reads a file from its start, whatever others have read of it.
struct FromStart(File, u64);

impl Read for FromStart {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.0.read_at(buffer, self.1)?;
        self.1 += count as u64;
        Ok(count)
    }
}
