//! What an image is made from: files, opened and looked at.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use super::Layers;
use super::archive::Archive;
use super::blobs::{self, Blobs, FromStart, Listed, Naming};
use super::directory::Directory;
use super::kind;
use super::layout::{self, is_layout};
use super::member::Source;
use super::saved;
use super::squashfs;
pub use super::which::Which;
use crate::files::space;
use crate::image::Image;
use crate::image::metadata::Mark;
use crate::mount::UPPER;
use crate::oci::Document;
use chariot_core::error::{Error, Explain, Result, innermost};

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
            Some(squashfs) => Box::new(squashfs::Image::new(Arc::clone(squashfs), &image.path)),
            None => Box::new(Directory::new(&image.path)),
        };
        Origin::single(source, mark, Meter::default())
    }

    /// An archive: a flat tree, or an image as `docker save` or an OCI layout has it. If `form` does not say which,
    /// what is in it does. `scratch` is for what cannot be read where it is, and has at most `most` bytes.
    ///
    /// # Errors
    /// It cannot be read, or holds no image.
    pub fn of_archive(
        file: File,
        form: Option<Form>,
        which: &Which,
        scratch: &dyn Fn() -> PathBuf,
        most: u64,
    ) -> Result<Origin> {
        let what = || "can't read it".to_owned();
        let data = file.metadata().explain(what)?;
        let (file, is_image) = match data.is_file() {
            true => {
                let start = FromStart(file.try_clone().explain(what)?, 0);
                let is_image = form.is_some() || kind::is_perhaps_an_image(start).explain(what)?;
                (file, is_image)
            }
            false => match of_pipe(file, form, scratch, most).explain(what)? {
                Piped::Origin(origin) => return Ok(*origin),
                Piped::Image(file) => (file, true),
            },
        };
        if !is_image {
            return Origin::flat(file);
        }
        match blobs::list(file, scratch, most, form.is_some()) {
            Ok(listed) => listed.image(form, which),
            Err(error) => Err(damaged(&error)),
        }
    }

    /// A file system in a file.
    fn flat(file: File) -> Result<Origin> {
        let length = file
            .metadata()
            .explain(|| "can't read it".to_owned())?
            .len();
        let meter = Meter {
            total: length,
            ..Meter::default()
        };
        let archive = Archive::new(file, 0, Some(length), Arc::clone(&meter.done));
        Ok(Origin::single(Box::new(archive), Mark::default(), meter))
    }

    /// An OCI layout in a directory.
    ///
    /// # Errors
    /// It cannot be read or understood, or has several images.
    pub fn of_layout(directory: &Path, which: &Which) -> Result<Origin> {
        if !is_layout(directory) {
            return Err(
                Error::new("it is not an OCI layout: it lacks oci-layout or index.json")
                    .hint("a layout in one file is oci-archive:FILE"),
            );
        }
        let place = Blobs::Directory(directory.to_owned(), Naming::Layout);
        layout::image(&place, which)
    }

    /// A directory as skopeo's `dir:` writes it.
    ///
    /// # Errors
    /// It cannot be read or understood.
    pub fn of_flat_layout(directory: &Path) -> Result<Origin> {
        layout::flat_image(directory)
    }
}

impl Listed {
    /// The image in an archive, or the file system that it turns out to be.
    fn image(self, form: Option<Form>, which: &Which) -> Result<Origin> {
        let form = match form {
            Some(form) => form,
            None if self.is_file_system => return Origin::flat(self.plain),
            None => match self.form()? {
                Some(form) => form,
                None if self.place.has_layers() => {
                    return Err(Error::new(
                        "it has layers, and no manifest.json or index.json that names them",
                    )
                    .hint(
                        "is it complete? Docker before 1.10 wrote none: load and save it again",
                    ));
                }
                None => return Origin::flat(self.plain),
            },
        };
        let (list, other) = match form {
            Form::Layout => (layout::LIST, "docker-archive"),
            Form::Saved => (saved::LIST, "oci-archive"),
        };
        if !self.place.has(list) {
            let sentence = format!(
                "its format is not {}-archive: there is no {list} in it",
                form.name()
            );
            return Err(Error::new(sentence).hint(format!(
                "{other}:FILE is for the other kind, and FILE alone for any"
            )));
        }
        match form {
            Form::Layout => layout::image(&self.place, which),
            Form::Saved => saved::image(&self.place, which),
        }
    }

    /// The form by what is in it: its lists, and not only files that are called so.
    fn form(&self) -> Result<Option<Form>> {
        let index = self.list(layout::LIST)?;
        let is_index = |bytes: &[u8]| Document::parse(bytes).is_ok();
        if index.is_some_and(|bytes| self.place.has(layout::SIGN) || is_index(&bytes)) {
            return Ok(Some(Form::Layout));
        }
        let list = self.list(saved::LIST)?;
        let is_saved = list.is_some_and(|bytes| saved::images(&bytes).is_ok());
        Ok(is_saved.then_some(Form::Saved))
    }

    /// A list of images, if there is one. One that is there and cannot be read is not taken for a file of a file system.
    fn list(&self, name: &str) -> Result<Option<Vec<u8>>> {
        match self.place.read(name) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.raw_os_error().is_none() => Ok(None),
            Err(error) => Err(error).explain(|| format!("can't read {name}")),
        }
    }
}

/// How an image lies in an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As `docker save` writes it.
    Saved,
    /// As an OCI layout.
    Layout,
}

impl Form {
    /// The word that means it before a path.
    pub fn name(self) -> &'static str {
        match self {
            Form::Saved => "docker",
            Form::Layout => "oci",
        }
    }
}

/// What came through a pipe.
enum Piped {
    /// A file system, which is read on as it comes.
    Origin(Box<Origin>),
    /// Perhaps an image in layers, which is in this file now.
    Image(File),
}

/// Looks at the start of what comes through a pipe. All that is read is kept: nobody can read it again.
fn of_pipe(
    pipe: File,
    form: Option<Form>,
    scratch: &dyn Fn() -> PathBuf,
    most: u64,
) -> io::Result<Piped> {
    let head = Arc::new(Mutex::new(Vec::new()));
    let tee = Tee(pipe.try_clone()?, Arc::clone(&head));
    let is_image = form.is_some() || kind::is_perhaps_an_image(tee)?;
    let head = std::mem::take(&mut *head.lock().unwrap_or_else(PoisonError::into_inner));
    if !is_image {
        let meter = Meter::default();
        let archive = Archive::of_pipe(head, pipe, Arc::clone(&meter.done));
        let origin = Origin::single(Box::new(archive), Mark::default(), meter);
        return Ok(Piped::Origin(Box::new(origin)));
    }
    let mut file = tempfile::tempfile_in(scratch())?;
    let count = io::copy(&mut head.as_slice().chain(pipe).take(most), &mut file)?;
    match count < most {
        true => Ok(Piped::Image(file)),
        false => Err(io::Error::other(format!("it is larger than {most} bytes"))),
    }
}

/// The most that is kept of the start of what comes through a pipe, in bytes.
const HEAD: usize = 16 << 20;

/// Keeps what is read.
struct Tee(File, Arc<Mutex<Vec<u8>>>);

impl Read for Tee {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut kept = self.1.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() > HEAD {
            return Err(io::Error::other("its beginning does not tell what it is"));
        }
        let count = self.0.read(buffer)?;
        kept.extend_from_slice(&buffer[..count]);
        Ok(count)
    }
}

/// Says that an archive is none, or broken.
pub fn damaged(error: &io::Error) -> Error {
    let told = Error::new(innermost(error));
    if let Some(advice) = space::advice_of(error) {
        return told.hint(advice);
    }
    told.hint(
        "it should be a tar archive of a file system, plain or compressed by gzip, bzip2, xz or \
         zstd, and complete",
    )
}
