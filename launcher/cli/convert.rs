//! `chariot pack`, `chariot unpack` and `chariot export`: an image of any kind into a file or a directory.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command, value_parser};

use super::flag;
use super::tool::Tool;
use crate::cache::Cache;
use crate::convert::make::{self, Form};
use crate::convert::to_archive;
use crate::convert::to_squashfs::Compression;
use crate::convert::unpacked::{self, State};
use crate::files::{Output, removal};
use crate::image::Image;
use crate::locate::{self, Source};
use chariot_core::config::Config;
use chariot_core::error::{Error, Explain, Result, io_reason};
use chariot_core::open;
use chariot_core::options::word::{ARCHIVES, SQUASHFS};

fn source_argument() -> Arg {
    Arg::new("source").value_name("SOURCE").required(true).add(super::completion::images()).help(
        "an image of any kind: a directory, a SquashFS, SIF or tar file, an OCI layout, docker://NAME, or a name \
         in the image store",
    )
}

fn destination_argument(name: &'static str, help: &'static str) -> Arg {
    Arg::new("destination")
        .value_name(name)
        .required(true)
        .help(help)
}

/// `--quiet`, which all long work has.
pub(super) fn quiet() -> Arg {
    flag("quiet", "print only errors")
}

/// `--compression`, for everything that makes SquashFS.
pub(super) fn compression() -> Arg {
    Arg::new("compression")
        .long("compression")
        .value_name("NAME[:LEVEL]")
        .value_parser(|text: &str| Compression::parse(text))
        .default_value("zstd:9")
        .help("zstd, gzip, xz or lz4, and a level")
}

pub(super) fn unpack_command() -> Command {
    Command::new("unpack")
        .about("Unpack an image of any kind into a directory")
        .long_about(
            "Unpack an image of any kind into a directory.\n\n\
             Tar files may be plain or compressed by gzip, bzip2, xz or zstd, and hold a file system, such as \
             `docker export` or `tar` make, or an image, such as `docker save` or `skopeo` make. A directory \
             that Chariot made earlier is replaced, if nothing in it was changed since; anything else that is there \
             stays, and is an error. Permissions \
             follow umask, root's too.",
        )
        .arg(source_argument())
        .arg(destination_argument("DIR", "the directory to make"))
        .arg(quiet())
}

pub(super) fn pack_command() -> Command {
    Command::new("pack")
        .about("Pack an image of any kind into one file")
        .long_about(
            "Pack an image of any kind into one file: SquashFS, or a tar archive if the name ends in .tar, \
             .tar.gz, .tgz or .tar.zst. The image's metadata is kept. A file that Chariot made earlier is replaced; \
             anything else that is there stays, and is an error.\n\n\
             The same source gives the same bytes: the image's time is that of its newest file or, of an image that \
             Chariot made, what that had. SOURCE_DATE_EPOCH sets it, and makes no file newer.",
        )
        .arg(source_argument())
        .arg(destination_argument("DEST", "the file to make"))
        .arg(
            Arg::new("overlay")
                .long("overlay")
                .value_name("DIR")
                .value_parser(value_parser!(PathBuf))
                .help("with what `chariot run --overlay DIR` changed in the image"),
        )
        .arg(compression())
        .arg(quiet())
}

pub(super) fn export_command() -> Command {
    Command::new("export")
        .about("Write an image as a tar archive, for other programs")
        .arg(source_argument())
        .arg(destination_argument(
            "FILE",
            "the archive: .tar, .tar.gz, .tgz or .tar.zst",
        ))
        .arg(quiet())
}

/// What `--compression` says.
pub(super) fn asked_compression(matches: &ArgMatches) -> Compression {
    let asked = matches.get_one::<Compression>("compression");
    asked.copied().unwrap_or_default()
}

/// An argument that is there by the command's own rules.
pub(super) fn text(matches: &ArgMatches, name: &str) -> String {
    matches.get_one::<String>(name).cloned().unwrap_or_default()
}

pub(super) fn unpack(matches: &ArgMatches) -> Result<ExitCode> {
    let mut tool = Tool::to_make(matches)?;
    let (word, directory) = (
        text(matches, "source"),
        PathBuf::from(text(matches, "destination")),
    );
    refuse_other_tree(&directory)?;
    let source = tool.source(&word, &format!("can't unpack {word}"))?;
    if source.is_directory() {
        return Err(
            Error::new(format!("can't unpack {word}: it is a directory"))
                .hint("a directory needs no unpacking: run in it as it is"),
        );
    }
    into_directory_of(&tool, &source, &word, &directory)
}

/// Makes a directory of it, in place of what [`refuse_other_tree`] has let pass.
pub(super) fn into_directory_of(
    tool: &Tool,
    source: &Source,
    word: &str,
    directory: &Path,
) -> Result<ExitCode> {
    let output = Output::directory(directory)?;
    let made = tool.make(&output, &format!("can't unpack {word}"), |reporter| {
        let origin = source.open(&Cache::of(&tool.config, &tool.host))?;
        make::directory(origin, &output, &tool.config, reporter)
    });
    let made = made.and_then(|summary| {
        refuse_other_tree(directory)?;
        Ok(summary)
    });
    tool.finish(
        &output,
        made,
        &format!("unpacked {word} to {}", directory.display()),
    )
}

pub(super) fn pack(matches: &ArgMatches) -> Result<ExitCode> {
    let destination = text(matches, "destination");
    let form = match archive_form(&destination) {
        Some(form) => form,
        None => {
            refuse_archive(&format!("can't pack into {destination}"), &destination)?;
            Form::SquashFs(asked_compression(matches))
        }
    };
    into_file(matches, form)
}

pub(super) fn is_called_squashfs(name: &str) -> bool {
    SQUASHFS.iter().any(|ending| name.ends_with(ending))
}

/// Refuses to make something else of a name that says that it is an archive.
pub(super) fn refuse_archive(what: &str, name: &str) -> Result<()> {
    let is_archive = ARCHIVES.iter().any(|end| name.ends_with(end));
    match is_archive {
        false => Ok(()),
        true => Err(Error::new(format!("{what}: that is the name of an archive")).hint(
            "`chariot export` writes archives, .tar, .tar.gz, .tgz and .tar.zst; an image in one file is called .sqfs",
        )),
    }
}

pub(super) fn export(matches: &ArgMatches) -> Result<ExitCode> {
    let destination = text(matches, "destination");
    let form = archive_form(&destination).ok_or_else(|| {
        Error::new(format!(
            "can't export to {destination}: its name does not say what kind of archive"
        ))
        .hint("give the name of a file that ends in .tar, .tar.gz, .tgz or .tar.zst; `chariot pack` makes SquashFS")
    })?;
    into_file(matches, form)
}

fn archive_form(name: &str) -> Option<Form> {
    [
        (".tar", Form::Tar),
        (".tar.gz", Form::TarGzip),
        (".tgz", Form::TarGzip),
        (".tar.zst", Form::TarZstd),
    ]
    .into_iter()
    .find(|(ending, _)| name.ends_with(ending))
    .map(|(_, form)| form)
}

fn into_file(matches: &ArgMatches, form: Form) -> Result<ExitCode> {
    let mut tool = Tool::to_make(matches)?;
    let (word, destination) = (
        text(matches, "source"),
        PathBuf::from(text(matches, "destination")),
    );
    refuse_other_file(&destination, &tool.config)?;
    let source = tool.source(&word, &format!("can't pack {word}"))?;
    refuse_same(&source, &word, &destination)?;
    let changes = matches.try_get_one::<PathBuf>("overlay").ok().flatten();
    let changes = changes.map(PathBuf::as_path);
    into_file_of(&tool, &source, &word, changes, &destination, form)
}

/// What is read is never written.
fn refuse_same(source: &Source, word: &str, destination: &Path) -> Result<()> {
    let identity = |path: &Path| {
        let data = path.metadata().ok()?;
        Some((data.dev(), data.ino()))
    };
    let read = source.path().and_then(identity);
    match read.is_some() && read == identity(destination) {
        false => Ok(()),
        true => Err(Error::new(format!(
            "can't pack {word} into {}: that is the same file",
            destination.display()
        ))
        .hint("choose another name")),
    }
}

/// Makes a file of it, in place of what [`refuse_other_file`] has let pass.
pub(super) fn into_file_of(
    tool: &Tool,
    source: &Source,
    word: &str,
    changes: Option<&Path>,
    path: &Path,
    form: Form,
) -> Result<ExitCode> {
    let output = Output::file(path)?;
    let made = tool.make(&output, &format!("can't pack {word}"), |reporter| {
        let mut origin = source.open(&Cache::of(&tool.config, &tool.host))?;
        if let Some(changes) = changes {
            origin = origin.with_changes(changes)?;
        }
        origin.mark.source_date = source_date()?;
        make::file(origin, &output, form, &tool.config, reporter)
    });
    // Its name may be the same and hold something else.
    let made = made.and_then(|summary| refuse_other_file(path, &tool.config).map(|()| summary));
    tool.finish(
        &output,
        made,
        &format!("packed {word} into {}", path.display()),
    )
}

/// The time that whoever builds reproducibly wants in what is built: reproducible-builds.org.
pub(super) fn source_date() -> Result<Option<u64>> {
    const NAME: &str = "SOURCE_DATE_EPOCH";
    let Some(text) = std::env::var_os(NAME).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let seconds = text.to_str().and_then(|text| text.parse().ok());
    seconds.map(Some).ok_or_else(|| {
        Error::new(format!(
            "can't honour {NAME}={}: it is not a number of seconds since 1970",
            text.display()
        ))
        .hint("`unset SOURCE_DATE_EPOCH`, or set it as `date +%s` writes it")
    })
}

impl Tool {
    /// What a word names, fetched if it lies in a registry.
    fn source(&mut self, word: &str, what: &str) -> Result<Source> {
        if word == "-" {
            return Err(Error::new(format!("{what}: no image is read from a pipe"))
                .hint("write it to a file first, and name that: it is read more than once"));
        }
        let found = locate::find(word, &self.config, &self.host);
        self.fetch(found.map_err(|error| error.within(what))?)
    }
}

/// Only an image that Chariot made is replaced, and only as it made it.
pub(super) fn refuse_other_tree(directory: &Path) -> Result<()> {
    // `tree/` is `tree` here, whatever that is.
    let directory: &Path = &directory.components().collect::<PathBuf>();
    let what = || format!("can't unpack to {}", directory.display());
    let data = match fs::symlink_metadata(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        data => data.explain(what)?,
    };
    let reason = match data.is_dir() && removal::is_marked(directory) {
        false => "it already exists, and is not an image that Chariot made".to_owned(),
        true => match unpacked::state(directory)
            .explain(|| format!("{}: it cannot be read", what()))?
        {
            State::Unchanged => return Ok(()),
            State::Changed(last) => {
                format!("it was changed since Chariot made it, most recently {last} in it")
            }
            State::Unknown => {
                "it already exists, and does not say how Chariot made it, so that what was changed \
                 since would be lost"
                    .to_owned()
            }
        },
    };
    Err(Error::new(format!("{}: {reason}", what()))
        .hint("choose another name, or remove it yourself"))
}

/// Only a file that Chariot made is replaced: an image or an archive with its mark.
pub(super) fn refuse_other_file(path: &Path, config: &Config) -> Result<()> {
    let what = || format!("can't write {}", path.display());
    let data = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            return Err(
                Error::new(format!("{}: {}", what(), io_reason(&error))).hint(
                    "a file is where a directory would have to be: leave out a slash at its end",
                ),
            );
        }
        data => data.explain(what)?,
    };
    let is_own = data.is_file()
        && locate::looks_like_an_image(path).explain(what)?
        && (is_own_image(path, config) || to_archive::is_own(open::regular(path).explain(what)?));
    match is_own {
        true => Ok(()),
        false => Err(Error::new(format!(
            "{}: it already exists, and is not an image that Chariot made",
            what()
        ))
        .hint("choose another name, or remove it yourself")),
    }
}

fn is_own_image(path: &Path, config: &Config) -> bool {
    let image = Image::open(&path.display().to_string(), path, config);
    image.is_ok_and(|image| image.metadata.mark.is_some())
}
