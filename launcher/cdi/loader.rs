//! How programs of the image find libraries that were put into it: links of the right names, and the file in which
//! the loader looks them up. glibc has /etc/ld.so.cache, musl a list of directories; a static program needs neither.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::elf::{self, Library};
use super::ld_cache::{Cache, Entry};
use super::nvidia::is_newer;
use crate::image::Image;
use crate::mount::{Mount, MountSource};
use chariot_core::error::Result;
use chariot_core::open;

/// ldconfig(8) gives this file another in its place, which no mount would let it do: in a root that can be changed it is
/// written, as ldconfig would.
const CACHE: &str = "/etc/ld.so.cache";

/// The longest one that is read, in bytes.
const LARGEST: u64 = 16 << 20;

/// The image, with the changes that an overlay has kept.
pub(super) struct Seen<'a> {
    pub(super) image: &'a Image,
    pub(super) changes: Option<&'a Path>,
    /// Whether an overlay takes what is written.
    pub(super) is_changeable: bool,
}

impl Seen<'_> {
    fn cache(&self) -> Result<Option<Vec<u8>>> {
        let place = self.changes.map(|changes| changes.join(&CACHE[1..]));
        let Some(place) = place.filter(|place| place.symlink_metadata().is_ok()) else {
            return self.image.read(Path::new(CACHE));
        };
        // Something else, such as the kernel's sign that it was removed, is no cache.
        Ok(open::read(&place, LARGEST).ok())
    }
}

/// Where NVIDIA's images keep a libcuda that is newer than the host's may be.
const COMPATIBILITY: &str = "/usr/local/cuda/compat";

/// Directories that have a loader, and how the name of each begins.
const LOADERS: [&str; 3] = ["/lib", "/lib64", "/usr/lib"];
const GLIBC: &str = "ld-linux";
const MUSL: &str = "ld-musl-";

/// Where musl looks if nothing is said.
const MUSL_DIRECTORIES: &str = "/lib:/usr/local/lib:/usr/lib";

/// A library that was put into the image.
struct Injected {
    /// Its directory in the container.
    directory: PathBuf,
    /// Its name there.
    name: String,
    library: Library,
    /// Whether it was put there alone, so that links can be beside it.
    alone: bool,
}

/// Libraries of `mounts` that lie in `folders`.
pub(super) struct Libraries(Vec<Injected>);

impl Libraries {
    pub(super) fn of(mounts: &[Mount], folders: &[PathBuf]) -> Libraries {
        let mut found = Vec::new();
        for mount in mounts {
            let MountSource::Host(source) = &mount.source else {
                continue;
            };
            let destination = &mount.destination;
            if source.is_file() {
                let directory = destination.parent().unwrap_or(Path::new("/"));
                if folders.iter().any(|folder| folder == directory) {
                    found.extend(injected(source, directory, destination, true));
                }
                continue;
            }
            for folder in folders
                .iter()
                .filter(|folder| folder.starts_with(destination))
            {
                let rest = folder.strip_prefix(destination).unwrap_or(Path::new(""));
                let entries = std::fs::read_dir(source.join(rest)).into_iter().flatten();
                let paths = entries.flatten().map(|entry| entry.path());
                found.extend(paths.filter_map(|path| injected(&path, folder, &path, false)));
            }
        }
        Libraries(found)
    }

    /// Links by which programs find them: the name that they ask for, beside the file.
    pub(super) fn links(&self) -> Vec<(PathBuf, PathBuf)> {
        let alone = self.0.iter().filter(|library| library.alone);
        alone
            .filter_map(|injected| {
                let soname = injected.library.soname.as_ref()?;
                (*soname != injected.name && !soname.contains('/')).then(|| {
                    (
                        PathBuf::from(&injected.name),
                        injected.directory.join(soname),
                    )
                })
            })
            .collect()
    }

    fn entries(&self) -> Vec<Entry> {
        let entry = |injected: &Injected| {
            let soname = injected.library.soname.as_deref();
            let name = soname.unwrap_or(&injected.name);
            let file = match injected.alone {
                true => name,
                false => &injected.name,
            };
            let path = injected.directory.join(file);
            Entry::new(name, &path.to_string_lossy(), injected.library.flags)
        };
        self.0.iter().map(entry).collect()
    }
}

fn injected(source: &Path, directory: &Path, named: &Path, alone: bool) -> Option<Injected> {
    let name = named.file_name()?.to_str()?.to_owned();
    if !name.contains(".so") {
        return None;
    }
    Some(Injected {
        directory: directory.to_owned(),
        library: elf::read(source)?,
        name,
        alone,
    })
}

/// The files in which the image's loader finds libraries in `folders`.
pub(super) fn files(
    seen: &Seen<'_>,
    folders: &[PathBuf],
    libraries: &Libraries,
    compatibility: Option<&[String]>,
    origin: &str,
) -> Result<Vec<Mount>> {
    let mut files = Vec::new();
    let image = seen.image;
    let file =
        |contents: Vec<u8>, path: &str| Mount::own(MountSource::Data(contents), path, origin);
    if has_loader(image, GLIBC).is_some() || image.has(Path::new(CACHE)) {
        let bytes = seen.cache()?.unwrap_or_default();
        let mut cache = Cache::parse(&bytes).unwrap_or_default();
        let mut entries = compatible(compatibility, &libraries.0);
        entries.extend(libraries.entries());
        cache.prepend(entries);
        // Kept changes may have it from the last time.
        let cache = cache.encode();
        if cache != bytes {
            let cache = match seen.is_changeable {
                true => MountSource::Written(cache),
                false => MountSource::Data(cache),
            };
            files.push(Mount::own(cache, CACHE, origin));
        }
    }
    if let Some(machine) = has_loader(image, MUSL) {
        let path = format!("/etc/{MUSL}{machine}.path");
        let now = image.read(Path::new(&path))?;
        let now = now.and_then(|bytes| String::from_utf8(bytes).ok());
        let mut directories: Vec<String> = now
            .unwrap_or_else(|| MUSL_DIRECTORIES.into())
            .split([':', '\n'])
            .filter(|directory| !directory.is_empty())
            .map(str::to_owned)
            .collect();
        let mut seen: BTreeSet<String> = directories.iter().cloned().collect();
        let new = folders.iter().map(|folder| folder.display().to_string());
        directories.extend(new.filter(|folder| seen.insert(folder.clone())));
        files.push(file(
            format!("{}\n", directories.join("\n")).into_bytes(),
            &path,
        ));
    }
    Ok(files)
}

/// The rest of the name of the image's loader that begins so: `x86_64` of `ld-musl-x86_64.so.1`.
fn has_loader(image: &Image, prefix: &str) -> Option<String> {
    let names = LOADERS
        .iter()
        .flat_map(|directory| image.names(Path::new(directory)));
    names
        .filter_map(|name| Some(name.to_str()?.strip_prefix(prefix)?.to_owned()))
        .find_map(|rest| Some(rest.split_once(".so")?.0.to_owned()))
}

/// The libraries of a newer CUDA than the host's driver was made for, which come before the host's.
fn compatible(names: Option<&[String]>, libraries: &[Injected]) -> Vec<Entry> {
    // They are for the machine that the host's are for.
    let flags = libraries.first().map(|injected| injected.library.flags);
    let (Some(names), Some(flags)) = (names, flags) else {
        return Vec::new();
    };
    names
        .iter()
        .map(|name| Entry::new(name, &format!("{COMPATIBILITY}/{name}"), flags))
        .collect()
}

/// The names of the image's own compatibility libraries, if it has a libcuda newer than the host's.
pub(super) fn compatibility(
    image: &Image,
    driver: Option<&str>,
    cuda: Option<&str>,
) -> Option<Vec<String>> {
    let names = image.names(Path::new(COMPATIBILITY));
    let names: Vec<String> = names
        .into_iter()
        .filter_map(|name| name.into_string().ok())
        .collect();
    let version = names.iter().find_map(|name| {
        let version = name.strip_prefix("libcuda.so.")?;
        version.contains('.').then(|| version.to_owned())
    })?;
    let is_newer_cuda = || {
        let variables = &image.metadata.environment;
        let own = variables.iter().find(|(name, _)| name == "CUDA_VERSION");
        own.zip(cuda)
            .is_some_and(|((_, own), host)| is_newer(own, host, 2))
    };
    let wanted = match driver {
        Some(driver) => is_newer(&version, driver, 1),
        None => is_newer_cuda(),
    };
    // Programs ask for libNAME.so.NUMBER.
    let is_soname = |name: &String| {
        let end = name.rsplit_once(".so.").map(|(_, end)| end);
        end.is_some_and(|end| end.chars().all(|digit| digit.is_ascii_digit()))
    };
    wanted.then(|| names.into_iter().filter(is_soname).collect())
}
