//! `chariot build`: hands a build to what is installed, and takes the result into the store.

use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, ExitCode, Stdio};

use clap::{Arg, ArgMatches, Command, value_parser};

use super::convert::{asked_compression, compression, quiet, refuse_other_file, source_date};
use super::tool::Tool;
use crate::cache::Cache;
use crate::convert::make::{self, Form};
use crate::files::Output;
use crate::files::output::Scratch;
use crate::locate;
use crate::oci::Reference;
use crate::print;
use chariot_core::error::{Error, Explain, Result};
use chariot_core::sys::{self, process};

/// The file in which a builder leaves what it has built.
const ARCHIVE: &str = "image.tar";

/// What a build behind a proxy has to know.
const PROXIES: [&str; 8] = [
    "http_proxy",
    "https_proxy",
    "ftp_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "FTP_PROXY",
    "NO_PROXY",
];

pub(super) fn command() -> Command {
    Command::new("build")
        .about("Build an image from a Dockerfile")
        .long_about(
            "Build an image from a Dockerfile with docker, podman or buildah, the first that the site \
             prefers and that is installed, and put it into your store as one file. Arguments after -- go to the builder.",
        )
        .arg(
            Arg::new("name")
                .short('t')
                .long("tag")
                .value_name("NAME")
                .help("the image's name in your store, NAME or NAME:TAG; the directory's name if left out"),
        )
        .arg(
            Arg::new("file")
                .short('f')
                .long("file")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("the Dockerfile; CONTEXT/Dockerfile if left out"),
        )
        .arg(
            Arg::new("context")
                .value_name("CONTEXT")
                .required(true)
                .value_parser(value_parser!(PathBuf))
                .help("the directory that the Dockerfile copies from"),
        )
        .arg(
            Arg::new("more")
                .value_name("ARGUMENT")
                .value_parser(value_parser!(OsString))
                .num_args(0..)
                .last(true)
                .help("for the builder: --build-arg=…, --network=…"),
        )
        .arg(compression())
        .arg(quiet())
}

pub(super) fn build(matches: &ArgMatches) -> Result<ExitCode> {
    let tool = Tool::to_make(matches)?;
    let context = matches
        .get_one::<PathBuf>("context")
        .cloned()
        .unwrap_or_default();
    let name = name(matches, &context)?;
    let builder = builder(&tool.config.builders)?;
    let store = tool.store()?;
    let path = store.join(format!("{name}.sqfs"));
    refuse_other_file(&path, &tool.config)?;
    let scratch = Scratch::new(&store, &format!("{}.building", name.replace(':', "+")))?;
    let archive = scratch.path().join(ARCHIVE);
    let tag = format!("localhost/chariot-build:{}", std::process::id());
    let words = words(&builder, matches, &tag, &context);
    let output = Output::file(&path)?;
    // What builds ends with this process, however that ends, and what it has written goes with it.
    let what = format!("can't build {name}");
    let made = tool.make_by(&output, Some(&scratch), &what, |reporter| {
        builder.run(&words, None, tool.quiet)?;
        let saved = builder.run(&builder.save_words(&tag), Some(&scratch.path()), tool.quiet);
        // The archive has it now; a copy in the builder's own would only take room.
        let _ = builder.run(&["rmi".into(), tag.into()], None, tool.quiet);
        saved.map_err(|error| {
            let hint = format!("is there room in {}?", scratch.path().display());
            error
                .within(&format!("writing {}", archive.display()))
                .hinted_anew(hint)
        })?;
        let source = locate::find(&archive.display().to_string(), &tool.config, &tool.host)?;
        let source = source.called(&format!("{} build {}", builder.name, context.display()));
        // It is no file that the user named.
        let within = |error: Error| error.within(&format!("converting {}", archive.display()));
        let cache = Cache::of(&tool.config, &tool.host);
        let mut origin = source.open(&cache).map_err(within)?;
        origin.mark.source_date = source_date()?;
        let form = Form::SquashFs(asked_compression(matches));
        make::file(origin, &output, form, &tool.config, reporter).map_err(within)
    });
    tool.finish(
        &output,
        made,
        &format!("packed {name} into {}", path.display()),
    )
}

/// What the builder is told to build.
fn words(builder: &Builder, matches: &ArgMatches, tag: &str, context: &Path) -> Vec<OsString> {
    let mut words = builder.build_words(tag);
    if let Some(file) = matches.get_one::<PathBuf>("file") {
        words.extend(["-f".into(), file.into()]);
    }
    for proxy in PROXIES.iter().filter(|proxy| env::var_os(proxy).is_some()) {
        // The builder takes the value from its environment: it may hold a password.
        words.extend(["--build-arg".into(), (*proxy).into()]);
    }
    let more = matches.get_many::<OsString>("more");
    words.extend(more.into_iter().flatten().cloned());
    words.push(context.into());
    words
}

fn name(matches: &ArgMatches, context: &Path) -> Result<String> {
    let given = matches.get_one::<String>("name").cloned();
    let own = || {
        context
            .canonicalize()
            .ok()?
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
    };
    let name = given.or_else(own).unwrap_or_default();
    let refused = |reason: &str| {
        Error::new(format!(
            "can't build: \"{name}\" is not a name for an image in your store{reason}"
        ))
        .hint("chariot build -t NAME CONTEXT, or -t NAME:TAG as for docker and podman")
    };
    match name.contains('/') {
        true => stored_name(&name).map_err(|reason| refused(&format!(": {reason}"))),
        false if name.is_empty() || name.starts_with(['.', '-']) => Err(refused("")),
        false => Ok(name),
    }
}

/// What `chariot pull` would call an image of this name. A tag that nobody has typed is none.
fn stored_name(name: &str) -> std::result::Result<String, String> {
    let reference = Reference::parse(name)?;
    let has_tag = { name.rsplit('/').next() }.is_some_and(|last| last.contains([':', '@']));
    let tag = reference.tag.clone().filter(|_| has_tag);
    Ok(Reference { tag, ..reference }.file_name())
}

/// A program that builds images.
#[derive(Debug)]
struct Builder {
    name: String,
    path: PathBuf,
}

fn builder(names: &[String]) -> Result<Builder> {
    let path = env::var_os("PATH").unwrap_or_default();
    let find = |name: &String| {
        let candidates = env::split_paths(&path).map(|directory| directory.join(name));
        let is_program = |path: &PathBuf| {
            path.metadata()
                .is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
        };
        let path = { candidates }.find(is_program)?;
        Some(Builder {
            name: name.clone(),
            // It is not always run here.
            path: std::path::absolute(path).ok()?,
        })
    };
    let found: Vec<Builder> = names.iter().filter_map(find).collect();
    let is_there = !found.is_empty();
    found.into_iter().find(Builder::works).ok_or_else(|| match is_there {
        true => Error::new("can't build: docker is on this machine, and its daemon does not answer")
            .hint("start it, or install podman or buildah, which need none"),
        false => Error::new(format!("can't build: there is no {} on this machine", names.join(", no "))).hint(
            "install one of them: on Debian `apt-get install buildah` or podman; or build elsewhere, and `chariot pull` \
             from a registry or `chariot pack` what `docker save` writes",
        ),
    })
}

impl Builder {
    /// Whether it can build at all: docker is a client that may have nobody to talk to.
    fn works(&self) -> bool {
        let asked = || {
            Process::new(&self.path)
                .arg("version")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
        };
        self.name != "docker" || asked().is_ok_and(|status| status.success())
    }

    fn build_words(&self, tag: &str) -> Vec<OsString> {
        let command = if self.name == "buildah" {
            "bud"
        } else {
            "build"
        };
        vec![command.into(), "-t".into(), tag.into()]
    }

    /// To be run where the archive is to be: in the word that names it, buildah takes a colon of a directory's name for
    /// the end of the path.
    fn save_words(&self, tag: &str) -> Vec<OsString> {
        match self.name.as_str() {
            "buildah" => vec![
                "push".into(),
                tag.into(),
                format!("oci-archive:{ARCHIVE}").into(),
            ],
            "podman" => ["save", "--format", "oci-archive", "-o"]
                .map(OsString::from)
                .into_iter()
                .chain([ARCHIVE.into(), tag.into()])
                .collect(),
            _ => vec!["save".into(), "-o".into(), ARCHIVE.into(), tag.into()],
        }
    }

    /// Runs it, in `directory` if one is named. What it says goes where this program's messages go; if nobody wants to
    /// read that, only when it fails.
    fn run(&self, words: &[OsString], directory: Option<&Path>, is_quiet: bool) -> Result<()> {
        let what = || self.path.display().to_string();
        let told = match is_quiet {
            true => sys::memory_file(c"builder").explain(what)?,
            false => print::handle().explain(what)?,
        };
        let mut process = Process::new(&self.path);
        process
            .args(words)
            .stdout(Stdio::from(told.try_clone().explain(what)?))
            .current_dir(directory.unwrap_or(Path::new(".")));
        if is_quiet {
            process.stderr(Stdio::from(told.try_clone().explain(what)?));
        }
        process::end_with_this(&mut process);
        if process.status().explain(what)?.success() {
            return Ok(());
        }
        if is_quiet {
            print::pass_on(File::from(told));
        }
        Err(Error::new(format!("{} says why above", self.name))
            .hint("arguments after -- go to it, --network=host for one"))
    }
}
