//! `chariot inspect IMAGE`: what an image is, and what it says of itself.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command};
use indicatif::HumanBytes;
use serde::Serialize;

use super::convert::text;
use super::flag;
use super::images::{ago, as_text};
use super::tool::Tool;
use crate::cache::Cache;
use crate::convert::origin::Origin;
use crate::image::Image;
use crate::image::metadata::Mark;
use crate::locate::{self, Source, remote};
use crate::print;
use crate::registry;
use chariot_core::error::{Error, Result};

pub(super) fn command() -> Command {
    Command::new("inspect")
        .about("Show what an image is, and its metadata")
        .arg(
            Arg::new("image")
                .value_name("IMAGE")
                .add(super::completion::images())
                .required(true)
                .help("an image of any kind"),
        )
        .arg(flag("json", "print it as JSON"))
}

/// What is known of an image.
#[derive(Debug, Default, Serialize)]
struct Inspected {
    image: String,
    kind: &'static str,
    #[serde(serialize_with = "as_text")]
    path: Option<PathBuf>,
    size: Option<u64>,
    compression: Option<&'static str>,
    files: Option<u32>,
    /// The digest that the image says it was made from, if nobody knows whether that is true.
    #[serde(skip_serializing_if = "Option::is_none")]
    claimed_digest: Option<String>,
    #[serde(flatten)]
    mark: Mark,
}

pub(super) fn inspect(matches: &ArgMatches) -> Result<ExitCode> {
    let tool = Tool::read(matches)?;
    let word = text(matches, "image");
    let mut source = locate::find(&word, &tool.config, &tool.host)?;
    let is_pipe = |path: &Path| path.metadata().is_ok_and(|data| data.file_type().is_fifo());
    if source.path().is_some_and(is_pipe) {
        return Err(Error::new(format!("can't inspect {word}: it is a FIFO"))
            .hint("a pipe can be read only once: name a file"));
    }
    if let Source::Image(image) = &mut source {
        locate::verify(image, &|| Cache::of(&tool.config, &tool.host));
    }
    let inspected = Inspected {
        image: word,
        ..inspected(&source, &tool)?
    };
    match matches.get_flag("json") {
        true => print::json(&inspected),
        false => print::lines(described(&inspected)),
    }
}

fn inspected(source: &Source, tool: &Tool) -> Result<Inspected> {
    if let Source::Image(image) = source {
        return Ok(of_image(image));
    }
    if let Source::Registry(reference) = source {
        let cache = Cache::of(&tool.config, &tool.host);
        let patience = registry::patient(&tool.config);
        let resolved = remote::resolve_in_child(reference, &cache, patience, &mut |_| {})?;
        let layers = &resolved.manifest.layers;
        return Ok(Inspected {
            kind: "image in a registry",
            size: Some(layers.iter().map(|layer| layer.size).sum()),
            mark: Mark {
                source: resolved.reference.to_string(),
                digest: Some(resolved.digest.to_string()),
                layers: layers.iter().map(crate::convert::layout::layer).collect(),
                ..Mark::default()
            },
            ..Inspected::default()
        });
    }
    let Origin { layers, mark, .. } = source.open(&Cache::of(&tool.config, &tool.host))?;
    let path = source.path().map(Path::to_owned);
    Ok(Inspected {
        kind: match (source, layers.are_oci) {
            (Source::Layout(_), _) => "OCI layout",
            (_, true) => "archive of an image",
            (_, false) => "archive of a file system",
        },
        size: path
            .as_ref()
            .and_then(|path| path.metadata().ok())
            .filter(fs::Metadata::is_file)
            .map(|data| data.len()),
        path,
        mark,
        ..Inspected::default()
    })
}

fn of_image(image: &Image) -> Inspected {
    let squashfs = image.squashfs();
    let mut mark = image.metadata.mark.clone().unwrap_or_default();
    let claimed = mark.digest.take();
    mark.digest = image.metadata.digest().map(str::to_owned);
    mark.tree = None;
    mark.environment = image.metadata.environment.iter().cloned().collect();
    Inspected {
        kind: match squashfs.map(|image| image.place().0) {
            None => "directory",
            Some(0) => "SquashFS",
            Some(_) => "SIF",
        },
        path: Some(image.path.clone()),
        size: squashfs.map(|image| image.place().1),
        compression: squashfs.map(|image| image.compressor().name()),
        files: squashfs.map(|image| image.inode_count()),
        claimed_digest: claimed.filter(|_| mark.digest.is_none()),
        mark,
        ..Inspected::default()
    }
}

fn described(of: &Inspected) -> Vec<String> {
    let mut lines = vec![("image", of.image.clone()), ("kind", of.kind.to_owned())];
    let mut add = |name, value: Option<String>| {
        lines.extend(
            value
                .filter(|value| !value.is_empty())
                .map(|value| (name, value)),
        )
    };
    let mark = &of.mark;
    add(
        "path",
        of.path.as_ref().map(|path| path.display().to_string()),
    );
    add("size", of.size.map(|size| HumanBytes(size).to_string()));
    add("compression", of.compression.map(str::to_owned));
    add("files", of.files.map(|files| files.to_string()));
    add("architecture", mark.architecture.clone());
    add("from", Some(mark.source.clone()));
    add("digest", mark.digest.clone());
    add("says digest", of.claimed_digest.clone());
    add(
        "made",
        (mark.time > 0).then(|| format!("{} ago", ago(Some(mark.time)))),
    );
    add(
        "workdir",
        mark.working_directory
            .as_ref()
            .map(|path| path.display().to_string()),
    );
    add("entrypoint", Some(mark.entrypoint.join(" ")));
    add("command", Some(mark.command.join(" ")));
    for (name, value) in &mark.environment {
        add("environment", Some(format!("{name}={value}")));
    }
    for (name, value) in &mark.labels {
        add("label", Some(format!("{name}={value}")));
    }
    for layer in &mark.layers {
        add(
            "layer",
            Some(format!("{} {}", layer.digest, HumanBytes(layer.size))),
        );
    }
    let mut last = "";
    let mut described = Vec::new();
    for (name, value) in &lines {
        let shown = if *name == last { "" } else { name };
        described.push(format!("{shown:12} {value}"));
        last = name;
    }
    described
}
