//! `chariot images`, `rm` and `gc`: what there is, and making room.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::{Arg, ArgMatches, Command};
use indicatif::{HumanBytes, HumanDuration};
use serde::{Serialize, Serializer};

use super::columns::{self, Column};
use super::flag;
use super::tool::Tool;
use crate::cache::{Cache, evict};
use crate::files::own::{Own, Purpose};
use crate::files::{removal, space};
use crate::image::Image;
use crate::locate;
use crate::print;
use chariot_core::error::{Error, Explain, Result};
use chariot_core::near::nearest;
use chariot_core::options::size;
use chariot_core::private::{self, Whose};

pub(super) fn images_command() -> Command {
    Command::new("images")
        .about("List the images in your store, the site's and the cache")
        .arg(flag("json", "print them as JSON"))
}

pub(super) fn remove_command() -> Command {
    Command::new("rm")
        .about("Remove images from your store")
        .arg(
            Arg::new("names")
                .value_name("NAME")
                .add(super::completion::names())
                .required(true)
                .num_args(1..)
                .help("as `chariot images` lists them; sha256:… removes one from the cache"),
        )
}

pub(super) fn collect_command() -> Command {
    Command::new("gc")
        .about("Make room in the cache")
        .long_about(
            "Make room in the cache: what was not used for the longest time goes first, and nothing that is in use. \
             Everything there can be fetched or made again. Images in your store stay.",
        )
        .arg(
            Arg::new("size")
                .long("size")
                .value_name("SIZE")
                .value_parser(|text: &str| if text == "0" { Ok(0) } else { size::parse(text) })
                .help("how much may stay, such as 20G; the site's cache_size if left out"),
        )
        .arg(
            Arg::new("age")
                .long("age")
                .value_name("DAYS")
                .value_parser(clap::value_parser!(u32))
                .help("remove what was not used for this many days"),
        )
        .arg(flag("all", "also what was used recently, except what is open on this machine"))
        .arg(super::convert::quiet())
}

/// An image that has a name.
#[derive(Debug, Serialize)]
struct Listed {
    name: String,
    #[serde(serialize_with = "as_text")]
    path: Option<PathBuf>,
    /// Bytes; none for a directory, which would have to be walked.
    size: Option<u64>,
    digest: Option<String>,
    source: Option<String>,
    /// Seconds since 1970.
    made: Option<u64>,
    used: Option<u64>,
}

fn seconds(time: SystemTime) -> Option<u64> {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .ok()
        .map(|time| time.as_secs())
}

impl Listed {
    fn new(name: String, path: PathBuf, tool: &Tool) -> Option<Listed> {
        let data = path.metadata().ok()?;
        // What is no image, or damaged, is listed without what it would say.
        let mark = Image::open(&name, &path, &tool.config)
            .ok()
            .and_then(|image| image.metadata.mark);
        let mark = mark.unwrap_or_default();
        let cache = Cache::of(&tool.config, &tool.host);
        let digest = mark.digest.and_then(|said| cache.verified(&path, &said));
        Some(Listed {
            name,
            size: data.is_file().then_some(data.len()),
            digest: digest.map(|digest| digest.to_string()),
            source: Some(mark.source).filter(|source| !source.is_empty()),
            made: Some(mark.time)
                .filter(|time| *time > 0)
                .or_else(|| seconds(data.modified().ok()?)),
            used: data.accessed().ok().and_then(seconds),
            path: Some(path),
        })
    }
}

/// The columns of [`Listed::row`].
const COLUMNS: [Column; 6] = [
    Column::text("NAME", 0),
    Column::number("SIZE", 0),
    Column::text("DIGEST", 2),
    Column::text("MADE", 3),
    Column::text("USED", 0),
    Column::text("FROM", 1),
];

impl Listed {
    fn row(&self) -> Vec<String> {
        let size = self.size.map(|size| HumanBytes(size).to_string());
        let digest = self.digest.as_deref();
        let digest = digest.and_then(|digest| digest.strip_prefix("sha256:"));
        let from = self.source.as_deref().unwrap_or("-");
        // The digest stands in a column of its own.
        let from = match (&self.digest, from.split_once('@')) {
            (Some(_), Some((name, _))) => name,
            _ => from,
        };
        vec![
            self.name.clone(),
            size.unwrap_or_else(|| "directory".to_owned()),
            digest.unwrap_or("-").chars().take(12).collect(),
            ago(self.made),
            ago(self.used),
            from.to_owned(),
        ]
    }
}

fn listed(tool: &Tool) -> Result<Vec<Listed>> {
    let mut all = Vec::new();
    for place in locate::places(&tool.config, &tool.host)? {
        let found = locate::list(&place).into_iter();
        all.extend(found.filter_map(|path| Listed::new(locate::name_of(&path), path, tool)));
    }
    let cache = Cache::of(&tool.config, &tool.host);
    for path in cache
        .places()?
        .iter()
        .flat_map(|cache| locate::list(&cache.join("images")))
    {
        let short: String = locate::name_of(&path).chars().take(12).collect();
        all.extend(Listed::new(format!("sha256:{short}"), path, tool));
    }
    Ok(all)
}

pub(super) fn images(matches: &ArgMatches) -> Result<ExitCode> {
    let tool = Tool::read(matches)?;
    let all = listed(&tool)?;
    if matches.get_flag("json") {
        return print::json(&all);
    }
    if all.is_empty() {
        tracing::info!("there are no images yet: chariot pull NAME, or chariot build -t NAME DIR");
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<_> = all.iter().map(Listed::row).collect();
    print::lines(columns::lines(&COLUMNS, &rows, print::width()))
}

pub(super) fn ago(time: Option<u64>) -> String {
    let age = time.and_then(|time| seconds(SystemTime::now())?.checked_sub(time));
    age.map_or("-".into(), |age| {
        HumanDuration(Duration::from_secs(age)).to_string()
    })
}

/// For JSON, which has no other bytes than text: one file with an odd name would take the whole list away.
pub(super) fn as_text<S: Serializer>(
    path: &Option<PathBuf>,
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    path.as_ref()
        .map(|path| path.to_string_lossy())
        .serialize(serializer)
}

pub(super) fn remove(matches: &ArgMatches) -> Result<ExitCode> {
    let tool = Tool::read(matches)?;
    for name in matches.get_many::<String>("names").into_iter().flatten() {
        let path = to_remove(name, &tool)?;
        let what = || format!("can't remove {name}");
        if path.is_file() && evict::is_in_use(&path) {
            return Err(Error::new(format!(
                "{}: something on this machine is running in it",
                what()
            ))
            .hint("remove it when that has ended"));
        }
        if let Some(removed) = remove_cached(name, &path, &tool)? {
            removed.explain(what)?;
            continue;
        }
        let (call, removed) = match path.symlink_metadata() {
            Ok(data) if data.is_dir() => ("rmdir", removal::marked_tree(&path)),
            _ => ("unlink", removal::file(&path)),
        };
        let call = format!("{call}(\"{}\")", path.display());
        let place = path.parent().unwrap_or(&path);
        removed.map_err(|error| space::explain(&error, &what(), &call, place))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Removes an image of the cache, which has to carry the mark of one; none if it is an image of the store.
fn remove_cached(name: &str, path: &Path, tool: &Tool) -> Result<Option<io::Result<()>>> {
    if !name.starts_with("sha256:") {
        return Ok(None);
    }
    let cache = Cache::of(&tool.config, &tool.host);
    let own = Own::open(cache.root()?, Purpose::Cache)?;
    let Some(own) = own else {
        return Ok(Some(Err(io::ErrorKind::NotFound.into())));
    };
    let file = Path::new(path.file_name().unwrap_or_default());
    let images = own.root().enter(Path::new("images"));
    Ok(Some(images.and_then(|images| images.remove(file))))
}

fn to_remove(name: &str, tool: &Tool) -> Result<PathBuf> {
    let what = || format!("can't remove {name}");
    if let Some(start) = name.strip_prefix("sha256:") {
        let cache = Cache::of(&tool.config, &tool.host);
        let found: Vec<PathBuf> = locate::list(&cache.root()?.join("images"))
            .into_iter()
            .filter(|path| !start.is_empty() && locate::name_of(path).starts_with(start))
            .collect();
        return match found.as_slice() {
            [only] => Ok(only.clone()),
            [] => Err(Error::new(format!(
                "{}: there is no such image in your cache",
                what()
            ))),
            _ => Err(Error::new(format!(
                "{}: several images begin with that",
                what()
            ))),
        };
    }
    let store = tool.host.expand("store", &tool.config.store)?;
    private::refuse_foreign(&store, Whose::Shared).map_err(|refusal| refusal.told(&what()))?;
    let path = in_store(name, &store).ok_or_else(|| not_in_store(name, &store, &what()))?;
    // A directory is removed with all that is in it: it has to be an image for that.
    let is_image = match path.symlink_metadata() {
        Ok(data) if data.is_dir() => removal::is_marked(&path),
        // A link goes alone; a file has to be one that could be an image.
        Ok(data) if data.is_file() => locate::looks_like_an_image(&path)
            .explain(|| format!("{}: {}", what(), path.display()))?,
        _ => true,
    };
    match is_image {
        true => Ok(path),
        false => {
            Err(Error::new(format!("{}: it is not an image", what())).hint("remove it yourself"))
        }
    }
}

/// The image that has this name in the store. As for `chariot run`, a slash stands for the + of names there, where no file
/// lies at the path that it is too.
fn in_store(name: &str, store: &Path) -> Option<PathBuf> {
    let is_path = name.starts_with(['/', '.', '~']) || Path::new(name).is_file();
    if name.is_empty() || matches!(name, "." | "..") || (name.contains('/') && is_path) {
        return None;
    }
    let name = name.replace('/', "+");
    let named = [store.join(&name), store.join(format!("{name}.sqfs"))];
    named.into_iter().find(|path| path.exists())
}

fn not_in_store(name: &str, store: &Path, what: &str) -> Error {
    let there = locate::list(store)
        .into_iter()
        .map(|path| locate::name_of(&path));
    let there: Vec<String> = there.collect();
    let known: Vec<&str> = there.iter().map(String::as_str).collect();
    let error = Error::new(format!(
        "{what}: there is no image of that name in {}",
        store.display()
    ));
    let is_elsewhere = Path::new(name).symlink_metadata().is_ok();
    match nearest(&name.replace('/', "+"), &known).filter(|_| !is_elsewhere) {
        Some(near) => error.hint(format!(
            "did you mean {near}? `chariot images` lists what there is"
        )),
        None => error.hint(
            "`chariot images` lists them; an image elsewhere is a file or a directory, for rm(1)",
        ),
    }
}

pub(super) fn collect(matches: &ArgMatches) -> Result<ExitCode> {
    let tool = Tool::read(matches)?;
    let cache = Cache::of(&tool.config, &tool.host);
    let days = matches.get_one::<u32>("age").copied();
    let size = matches.get_one::<u64>("size").copied();
    let is_all = matches.get_flag("all");
    // Who names an age wants just what is older to go.
    let usual = match (days, is_all) {
        (Some(_), _) => u64::MAX,
        (None, true) => 0,
        (None, false) => tool.config.cache_size,
    };
    let wanted = evict::Wanted {
        size: size.unwrap_or(usual),
        age: days.map(|days| Duration::from_secs(u64::from(days) * 86_400)),
        keep: if is_all {
            Duration::ZERO
        } else {
            evict::RECENT
        },
        is_asked: true,
    };
    let removed = evict::evict(&cache, wanted)?;
    sweep_store(&tool);
    if !tool.quiet {
        let in_use = match removed.in_use {
            0 => String::new(),
            count => format!("; {count} are in use or were used lately"),
        };
        tracing::info!(
            "removed {} files, {}{in_use}",
            removed.files,
            HumanBytes(removed.bytes)
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// What makers that are gone have left of images in the store. One without a mark may be anybody's, and is left alone.
fn sweep_store(tool: &Tool) {
    let store = tool.host.expand("store", &tool.config.store);
    if let Ok(Ok(Some(store))) = store.map(|store| Own::open(&store, Purpose::Store)) {
        store.root().sweep();
    }
}
