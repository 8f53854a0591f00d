//! `chariot unpack ARCHIVE DIR`: all or nothing.
//!
//! Two processes: one unpacks, confined to the new directory; this one shows how far it is, and gives
//! the directory its name at the end. If this one is killed, the other notices and cleans up.

use std::fs::{self, File};
use std::io::{IsTerminal, Read, Seek, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgMatches, Command, value_parser};
use indicatif::{ProgressBar, ProgressStyle};
use nix::fcntl::{Flock, FlockArg};

use super::{config_path, flag, refuse_disabled};
use crate::config::Config;
use crate::error::{Error, Explain, Result};
use crate::image::metadata::MARK;
use crate::image::unpack::{self, Summary};
use crate::log::{self, Reader};
use crate::sys::{self, process};

pub(super) fn command() -> Command {
    let path = |name: &'static str| {
        Arg::new(name)
            .required(true)
            .value_parser(value_parser!(PathBuf))
    };
    Command::new("unpack")
        .about("Unpack an archive of a file system into an image directory")
        .long_about(
            "Unpack an archive of a file system into an image directory.\n\n\
             The archive is a tar file, plain or compressed by gzip, bzip2, xz or zstd, such as \
             `docker export` or `tar` make. A directory that Chariot unpacked earlier is replaced; \
             anything else that is there stays, and is an error.",
        )
        .arg(path("archive").value_name("ARCHIVE").help("the tar file"))
        .arg(
            path("directory")
                .value_name("DIR")
                .help("the directory to make"),
        )
        .arg(flag("quiet", "print nothing but errors"))
}

pub(super) fn unpack(matches: &ArgMatches) -> Result<ExitCode> {
    let config = Config::load(config_path(matches))?;
    log::start(Reader::Person, log::level(&config.log_level));
    refuse_disabled(&config)?;
    let path = |name: &str| {
        matches
            .get_one::<PathBuf>(name)
            .cloned()
            .unwrap_or_default()
    };
    let (archive, directory) = (path("archive"), path("directory"));
    let job = Job::prepare(&archive, &directory)?;
    let quiet = matches.get_flag("quiet");
    match job.run(quiet) {
        Ok(summary) => {
            job.finish()?;
            if !quiet {
                say(&archive, &directory, summary);
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            // The first failure is the one to tell; a rest is removed by the next unpack.
            let _ = unpack::remove_tree(&job.temporary);
            Err(error)
        }
    }
}

fn say(archive: &Path, directory: &Path, summary: Summary) {
    let left_out = match summary.left_out {
        0 => String::new(),
        count => format!(", {count} left out (devices, FIFOs, names with ..)"),
    };
    tracing::info!(
        "unpacked {} to {}: {} members{left_out}",
        archive.display(),
        directory.display(),
        summary.members
    );
}

/// One archive on its way into one directory.
struct Job {
    archive: File,
    archive_name: String,
    directory: PathBuf,
    parent: File,
    temporary: PathBuf,
    /// Held by both processes while the temporary directory is in use.
    _lock: Flock<File>,
}

impl Job {
    fn prepare(archive: &Path, directory: &Path) -> Result<Job> {
        let archive_name = archive.display().to_string();
        let opened = File::open(archive).explain(|| format!("can't unpack {archive_name}"))?;
        let what = || format!("can't unpack to {}", directory.display());
        if opened.metadata().explain(what)?.is_dir() {
            return Err(
                Error::new(format!("can't unpack {archive_name}: it is a directory"))
                    .hint("a directory needs no unpacking: run in it as it is"),
            );
        }
        let no_name = || Error::new(format!("{}: it has no name of its own", what()));
        let name = directory
            .file_name()
            .ok_or_else(no_name)?
            .to_string_lossy()
            .into_owned();
        let parent = match directory.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        refuse_foreign(directory)?;
        let prefix = format!(".{name}.unpacking.");
        remove_stale(parent, &prefix);
        let temporary = parent.join(format!("{prefix}{}", std::process::id()));
        let parent = File::open(parent)
            .explain(what)
            .map_err(|error| error.hint("make the directory above it first"))?;
        fs::create_dir(&temporary).explain(what)?;
        let lock = File::open(&temporary).explain(what)?;
        let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock)
            .map_err(|(_, errno)| Error::new(format!("{}: flock(): {}", what(), errno.desc())))?;
        Ok(Job {
            archive: opened,
            archive_name,
            directory: directory.to_owned(),
            parent,
            temporary,
            _lock: lock,
        })
    }

    /// Unpacks into the temporary directory.
    fn run(&self, quiet: bool) -> Result<Summary> {
        let what = || format!("can't unpack {}", self.archive_name);
        let mut answer = File::from(sys::memory_file(c"answer").explain(what)?);
        let child = process::fork(|| self.confined(&answer)).explain(what)?;
        let progress = Progress::start(&self.archive, quiet)?;
        let status = loop {
            if let Some(status) = child.poll().explain(what)? {
                break status;
            }
            progress.show();
            std::thread::sleep(Duration::from_millis(20));
        };
        progress.end();
        let mut text = String::new();
        answer.rewind().explain(what)?;
        answer.read_to_string(&mut text).explain(what)?;
        read_answer(status, &text)
    }

    /// In the child: unpacks, and writes how it went. Returns the exit status.
    fn confined(&self, answer: &File) -> u8 {
        let launcher = nix::unistd::getppid();
        let is_wanted = || nix::unistd::getppid() == launcher;
        let result = process::ignore_polite_signals()
            .and_then(|()| unpack::confine(&self.temporary))
            .explain(|| format!("can't unpack {}", self.archive_name))
            .and_then(|()| {
                let archive = self
                    .archive
                    .try_clone()
                    .explain(|| "can't read the archive".into())?;
                unpack::unpack_here(archive, &self.archive_name, is_wanted)
            });
        if !is_wanted() {
            self.clean_up_alone();
            return 125;
        }
        let (status, text) = match &result {
            Ok(summary) => (0, format!("{} {}", summary.members, summary.left_out)),
            Err(error) => (
                125,
                format!("{error}\n{}", error.advice().unwrap_or_default()),
            ),
        };
        let mut answer = answer;
        // If it cannot be written, the status alone says that something went wrong.
        let _ = answer.write_all(text.as_bytes());
        status
    }

    /// In the child, whose root is the temporary directory, when nobody is left to remove it.
    fn clean_up_alone(&self) {
        for entry in fs::read_dir("/").into_iter().flatten().flatten() {
            // Each is tried; what stays is removed by the next unpack.
            let _ = match entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                true => unpack::remove_tree(&entry.path()),
                false => fs::remove_file(entry.path()),
            };
        }
        let name = self
            .temporary
            .file_name()
            .map(PathBuf::from)
            .unwrap_or_default();
        let flags = rustix::fs::AtFlags::REMOVEDIR;
        let _ = rustix::fs::unlinkat(self.parent.as_fd(), name, flags);
    }

    /// Gives the directory its name.
    fn finish(&self) -> Result<()> {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        let (from, to) = (&self.temporary, &self.directory);
        let what = || format!("can't unpack to {}", to.display());
        let flags = match fs::symlink_metadata(to) {
            Ok(_) => RenameFlags::EXCHANGE,
            Err(_) => RenameFlags::NOREPLACE,
        };
        refuse_foreign(to)?;
        renameat_with(CWD, from, CWD, to, flags)
            .map_err(std::io::Error::from)
            .explain(|| format!("{}: rename(\"{}\")", what(), from.display()))?;
        if flags == RenameFlags::EXCHANGE {
            unpack::remove_tree(from).explain(|| {
                format!(
                    "can't remove what was {} before, now {}",
                    to.display(),
                    from.display()
                )
            })?;
        }
        Ok(())
    }
}

fn read_answer(status: u8, text: &str) -> Result<Summary> {
    if status != 0 {
        let (sentence, advice) = text.split_once('\n').unwrap_or((text, ""));
        let sentence = if sentence.is_empty() {
            "the unpacking process failed"
        } else {
            sentence
        };
        let error = Error::new(sentence);
        return Err(if advice.is_empty() {
            error
        } else {
            error.hint(advice)
        });
    }
    let mut numbers = text.split(' ').map(|number| number.parse().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    Ok(Summary {
        members: next(),
        left_out: next(),
    })
}

/// Only an image that Chariot made is replaced.
fn refuse_foreign(directory: &Path) -> Result<()> {
    if fs::symlink_metadata(directory).is_err() {
        return Ok(());
    }
    let is_ours = fs::symlink_metadata(directory.join(MARK)).is_ok_and(|data| data.is_file())
        && fs::symlink_metadata(directory).is_ok_and(|data| data.is_dir());
    if is_ours {
        return Ok(());
    }
    Err(Error::new(format!(
        "can't unpack to {}: it is there already, and is not an image that Chariot made",
        directory.display()
    ))
    .hint("choose another name, or remove it yourself"))
}

/// Removes what an unpack left that was killed together with its helper.
fn remove_stale(parent: &Path, prefix: &str) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let is_ours = entry.file_name().to_string_lossy().starts_with(prefix);
        let Some(file) = File::open(entry.path()).ok().filter(|_| is_ours) else {
            continue;
        };
        // Whoever is still at work on it holds the lock.
        if Flock::lock(file, FlockArg::LockExclusiveNonblock).is_ok() {
            let _ = unpack::remove_tree(&entry.path());
        }
    }
}

/// How far the archive has been read, for a person who is watching.
struct Progress {
    archive: File,
    bar: ProgressBar,
}

impl Progress {
    fn start(archive: &File, quiet: bool) -> Result<Progress> {
        let what = || "can't read the archive".to_owned();
        let data = archive.metadata().explain(what)?;
        let bar = match quiet || !std::io::stderr().is_terminal() {
            true => ProgressBar::hidden(),
            false if data.is_file() => ProgressBar::new(data.len()),
            false => ProgressBar::no_length(),
        };
        let template = "{bar:30} {bytes}/{total_bytes} {binary_bytes_per_sec}, {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Ok(Progress {
            archive: archive.try_clone().explain(what)?,
            bar,
        })
    }

    fn show(&self) {
        let position = self
            .archive
            .try_clone()
            .map(|mut archive| unpack::position(&mut archive));
        self.bar.set_position(position.unwrap_or(0));
    }

    fn end(self) {
        self.bar.finish_and_clear();
    }
}
