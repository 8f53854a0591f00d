//! `chariot pull REF [DEST]`, and `chariot resolve`, by which Slurm's commands learn what a name means.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, value_parser};

use super::convert::{asked_compression, compression, is_called_squashfs, quiet};
use super::convert::{refuse_archive, refuse_other_file, refuse_other_tree, text};
use super::flag;
use super::progress::Display;
use super::tool::Tool;
use crate::cache::{Access, Cache, evict};
use crate::convert::make::{self, Form};
use crate::convert::to_squashfs::Compression;
use crate::files::own::{Own, Purpose};
use crate::files::{Output, share, space};
use crate::image::Image;
use crate::locate::{self, Source, remote};
use crate::oci::Digest;
use crate::oci::Reference;
use crate::print;
use crate::registry::{self, Resolved};
use crate::work;
use chariot_core::error::{Error, Explain, Result};
use chariot_core::handover::{Said, Told};
use chariot_core::open;
use chariot_core::options::word::{self, SQUASHFS, Word};
use chariot_core::options::{Dialect, Given, Options, Pull, Source as GivenBy, table};
use chariot_core::sys::fork;

pub(super) fn command() -> Command {
    Command::new("pull")
        .about("Fetch an image from a registry")
        .long_about(format!(
            "Fetch an image from a registry.\n\n\
             REF is HOST/NAME:TAG or HOST/NAME@sha256:…, with or without docker:// before it. Without DEST the image \
             goes into your store, where it is found by its name and tag; a DEST that ends in {} becomes one file, \
             SquashFS whatever it is called, any other a directory. Such a file may come first, as with Apptainer. \
             Credentials are those of `chariot login`, `podman login`, `skopeo login` or `docker login`.",
            SQUASHFS.join(" ")
        ))
        .arg(Arg::new("reference").value_name("REF").required(true).help("the image's name in a registry"))
        .arg(
            Arg::new("destination")
                .value_name("DEST")
                .value_parser(value_parser!(PathBuf))
                .conflicts_with("site")
                .help("where to: a file, or a directory to make"),
        )
        .arg(flag("site", "fill the site's cache, which all users read first (root)"))
        .arg(compression())
        .arg(quiet())
}

pub(super) fn pull(matches: &ArgMatches) -> Result<ExitCode> {
    let mut tool = Tool::to_make(matches)?;
    let destination = matches.get_one::<PathBuf>("destination").cloned();
    let (word, destination) = in_order(text(matches, "reference"), destination);
    let reference = reference(&word)?;
    if matches.get_flag("site") {
        return into_site(&tool, &reference);
    }
    let how = asked_compression(matches);
    let is_asked = matches.value_source("compression") == Some(ValueSource::CommandLine);
    match &destination {
        Some(path) => {
            let name = path.to_string_lossy();
            refuse_archive(&format!("can't pull to {name}"), &name)?;
            let is_file = is_called_squashfs(&name);
            match is_file {
                true => refuse_other_file(path, &tool.config)?,
                false => refuse_other_tree(path)?,
            }
            let source = tool.fetch(Source::Registry(reference))?;
            match is_file {
                true => super::convert::into_file_of(
                    &tool,
                    &source,
                    &word,
                    None,
                    path,
                    Form::SquashFs(how),
                ),
                false => super::convert::into_directory_of(&tool, &source, &word, path),
            }
        }
        None => into_store(&mut tool, &reference, is_asked.then_some(how)),
    }
}

/// What is to be fetched, and where to. With Apptainer the file comes first: that is seen where the first can be nothing but
/// a file, and the second nothing but a name in a registry.
fn in_order(first: String, second: Option<PathBuf>) -> (String, Option<PathBuf>) {
    let is_name = |path: &PathBuf| {
        let word = path.to_str()?;
        let has_tag = { word.rsplit('/').next() }.is_some_and(|last| last.contains([':', '@']));
        let could_be_made = || path.parent().is_some_and(Path::exists);
        let is_name = matches!(Word::parse(word), Word::Registry(_))
            || (word::of_host(word).is_some() && has_tag && !could_be_made());
        is_name.then(|| word.to_owned())
    };
    let is_file = is_called_squashfs(&first) && !matches!(Word::parse(&first), Word::Registry(_));
    match second.as_ref().filter(|_| is_file).and_then(is_name) {
        Some(name) => (name, Some(first.into())),
        None => (first, second),
    }
}

/// A reference with or without its scheme.
fn reference(word: &str) -> Result<Reference> {
    let name = match Word::parse(word) {
        Word::Registry(name) => name,
        _ => word,
    };
    Reference::parse(name).map_err(|reason| {
        Error::new(format!("can't pull {word}: {reason}"))
            .hint("an image in a registry is HOST/NAME:TAG or HOST/NAME@sha256:…")
    })
}

fn into_store(
    tool: &mut Tool,
    reference: &Reference,
    how: Option<Compression>,
) -> Result<ExitCode> {
    let store = tool.store()?;
    let name = reference.file_name();
    let there = tool.namesake(&name, reference)?;
    let resolved = tool.resolve(reference)?;
    if there.is_some_and(|digest| digest == resolved.digest) {
        if !tool.quiet {
            tracing::info!("{} is in your store already, as {name}", resolved.reference);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let path = store.join(format!("{name}.sqfs"));
    // The image that a job has made of the same is as good whatever its compression is, unless one was asked for.
    let find = |cache: &Cache<'_>| cache.find(&resolved.digest).filter(|_| how.is_none());
    tool.take_turn(&resolved, |cache| find(cache).is_some())?;
    let code = match find(&Cache::of(&tool.config, &tool.host)) {
        Some(image) => tool.give_name(&image, &path, reference, &name)?,
        None => tool.made(&resolved, how.unwrap_or_default(), &path, reference, &name)?,
    };
    // A job that asks for it by its name in the registry finds it. That it has to be made once more otherwise is no
    // reason to fail.
    let _ = Cache::of(&tool.config, &tool.host).adopt(&resolved.digest, &path);
    tool.end_turn();
    evict::drop_layers(&Cache::of(&tool.config, &tool.host), &path);
    if !tool.quiet {
        tracing::info!("run it: chariot run {name} -- COMMAND");
    }
    Ok(code)
}

fn into_site(tool: &Tool, reference: &Reference) -> Result<ExitCode> {
    let cache = Cache::of_site(&tool.config, &tool.host)?;
    let mut display = Display::new(tool.quiet);
    let mut access = Access {
        may_fetch: true,
        may_ask: true,
        pull: Pull::default(),
        see: &mut |progress| display.see(progress),
    };
    // What nobody but root may read helps nobody.
    fork::set_umask(0o022);
    let path = Source::Registry(reference.clone()).in_cache(&cache, &mut access);
    display.end();
    let path = path?;
    if !tool.quiet {
        tracing::info!(
            "pulled {reference} into the site's cache: {}",
            path.display()
        );
    }
    Ok(ExitCode::SUCCESS)
}

impl Tool {
    /// The user's image store, made if it is not there.
    pub(super) fn store(&self) -> Result<PathBuf> {
        let store = self.host.expand("store", &self.config.store)?;
        Own::prepare_or_leave(&store, Purpose::Store, 0o700)?;
        Ok(store)
    }

    /// Makes the image in the store, of what the registry has.
    fn made(
        &self,
        resolved: &Resolved,
        how: Compression,
        path: &Path,
        reference: &Reference,
        name: &str,
    ) -> Result<ExitCode> {
        let output = Output::file(path)?;
        let cache = Cache::of(&self.config, &self.host);
        let made = self.make(&output, &format!("can't pull {reference}"), |reporter| {
            let mut origin = remote::fetched(resolved, &cache, reporter)??;
            origin.mark.source = resolved.reference.to_string();
            let form = Form::SquashFs(how);
            make::file(origin, &output, form, &self.config, reporter)
        });
        let place = path.parent().unwrap_or(Path::new("/"));
        self.finish(&output, made, &format!("pulled {reference} as {name}"))
            .map_err(|error| cache.with_room(error, place))
    }

    /// Gives an image of the cache a name in the store: it is kept once where the file system can do that.
    fn give_name(
        &self,
        image: &Path,
        path: &Path,
        reference: &Reference,
        name: &str,
    ) -> Result<ExitCode> {
        let what = format!("can't pull {reference}");
        if share::share(image, path).is_err() {
            let output = Output::file(path)?;
            let copied = work::run_with(
                &what,
                |_| output.abandon(),
                |reporter| copy(image, &output, reporter, &what),
                |_| {},
            );
            let copied = copied.and_then(|_| output.finish());
            copied.inspect_err(|_| output.abandon())?;
        }
        if !self.quiet {
            tracing::info!("pulled {reference} as {name}, from the cache");
        }
        Ok(ExitCode::SUCCESS)
    }

    /// The digest of the image that has this name in the store, if one has and Chariot knows that to be true. A name
    /// stands for one image: another registry's needs another.
    fn namesake(&self, name: &str, reference: &Reference) -> Result<Option<Digest>> {
        let store = self.host.expand("store", &self.config.store)?;
        let path = store.join(format!("{name}.sqfs"));
        if path.symlink_metadata().is_err() {
            return Ok(None);
        }
        let Some(mark) = Image::open(name, &path, &self.config)
            .ok()
            .and_then(|image| image.metadata.mark)
        else {
            return Err(Error::new(format!(
                "can't pull {reference}: {} is there already, and is damaged or not an image that Chariot made",
                path.display()
            ))
            .hint(format!("give a DEST, or remove that one: chariot rm {name}")));
        };
        let repository = format!("docker://{}/{}", reference.host, reference.repository);
        let is_same = mark
            .source
            .strip_prefix(&repository)
            .is_some_and(|rest| rest.starts_with([':', '@']));
        match is_same {
            true => {
                let cache = Cache::of(&self.config, &self.host);
                let claimed = mark.digest.unwrap_or_default();
                Ok(cache.verified(&path, &claimed))
            }
            false => Err(Error::new(format!(
                "can't pull {reference}: there is another image named {name} in your store"
            ))
            .hint(format!(
                "give a DEST, or remove that one: chariot rm {name}"
            ))),
        }
    }

    /// Asks what a name means.
    fn resolve(&self, reference: &Reference) -> Result<Resolved> {
        let cache = Cache::of(&self.config, &self.host);
        cache.prepare()?;
        let patience = registry::patient(&self.config);
        let see = &mut |_: &work::Progress| {};
        remote::resolve_in_child(reference, &cache, patience, see)
    }

    /// Fetches an image of a registry, so that it can be opened; other sources are there already.
    pub(super) fn fetch(&mut self, source: Source) -> Result<Source> {
        match &source {
            Source::Registry(reference) => {
                let resolved = self.resolve(reference)?;
                self.take_turn(&resolved, |_| false)?;
                self.fetch_resolved(resolved)
            }
            _ => Ok(source),
        }
    }

    fn fetch_resolved(&self, resolved: Resolved) -> Result<Source> {
        let cache = Cache::of(&self.config, &self.host);
        let mut display = Display::new(self.quiet);
        let what = format!("can't fetch {}", resolved.reference);
        let fetched = work::run_with(
            &what,
            |is_unwanted| self.abandon_turn(is_unwanted),
            |reporter| {
                let fetch = || registry::fetch(&resolved, &cache, reporter);
                self.in_turn(reporter, fetch)
            },
            |progress| display.see(progress),
        );
        display.end();
        match (fetched, cache.root()) {
            (Err(error), Ok(root)) => Err(cache.with_room(error, root)),
            (fetched, _) => fetched.map(|_| Source::Fetched(Box::new(resolved))),
        }
    }
}

fn copy(image: &Path, output: &Output, reporter: &work::Reporter, what: &str) -> Result<()> {
    let mut from = open::regular(image).explain(|| what.into())?;
    let place = output.destination().parent().unwrap_or(Path::new("."));
    let mut to = output.made();
    loop {
        let part = &mut (&mut from).take(64 << 20);
        let copied = reporter.check().and_then(|()| std::io::copy(part, &mut to));
        match copied.map_err(|error| space::explain(&error, what, "write", place))? {
            0 => return Ok(()),
            _ => continue,
        }
    }
}

pub(super) fn resolve_command() -> Command {
    Command::new("resolve")
        .hide(true)
        .about("Print which digest an image's name stands for now")
        .arg(Arg::new("reference").value_name("REF").required(true))
        .arg(super::named("pull"))
}

/// Says the pinned name, or what the registry says if it says no, or nothing if it does not answer.
pub(super) fn resolve(matches: &ArgMatches) -> Result<ExitCode> {
    let tool = Tool::read(matches)?;
    let word = text(matches, "reference");
    let reference = match locate::find(&word, &tool.config, &tool.host) {
        Ok(Source::Registry(reference)) => reference,
        Ok(_) => return Ok(ExitCode::SUCCESS),
        Err(error) => {
            print::say(&Said::Failed(Told::from(&error)));
            return Ok(ExitCode::SUCCESS);
        }
    };
    if reference.digest.is_some() {
        print::say(&Said::Pinned(reference.to_string()));
        return Ok(ExitCode::SUCCESS);
    }
    let pull = asked_pull(matches)?;
    let patience = registry::hasty(&tool.config);
    // With the manifest in the cache, no node has to ask again.
    let cache = Cache::of(&tool.config, &tool.host);
    let pinned = |digest| print::say(&Said::Pinned(reference.pinned(digest).to_string()));
    match remote::without_asking(&reference, &cache, pull) {
        Some(Ok(digest)) => pinned(digest),
        // The nodes may have it.
        Some(Err(_)) => {}
        None => match remote::ask_in_child(&reference, &cache, patience, &mut |_| {})? {
            Ok(resolved) => pinned(resolved.digest),
            Err(failure) if failure.cause.is_unknown() => {}
            Err(failure) => print::say(&Said::Failed(Told::from(&failure.error))),
        },
    }
    Ok(ExitCode::SUCCESS)
}

/// What `--pull` says.
fn asked_pull(matches: &ArgMatches) -> Result<Pull> {
    let typed = matches.get_one::<String>("pull");
    let given = typed.zip(table::find("pull")).map(|(value, row)| Given {
        row,
        value: value.clone(),
        source: GivenBy::Typed,
    });
    let options = Options::resolve(given.into_iter().collect(), Dialect::Launcher)?;
    Ok(options.pull)
}
