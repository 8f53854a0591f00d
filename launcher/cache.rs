//! The cache: images that were made of others, by digest. It belongs to one user, since a converted image cannot
//! be held against its registry's digest any more, and since a private image is nobody else's business; a site
//! may have one besides that root alone writes and all read first.
//!
//! An image appears under its name when it is complete, so a hit is an open(2) and takes no lock. Where it is
//! missing, [`lease`] decides who of all nodes makes it.
//!
//! ```text
//! .chariot-directory   says that Chariot made all this; without it nothing here is swept
//! images/HEX.sqfs      images by the digest of what they were made from
//! blobs/sha256/HEX     layers and manifests, as registries give them
//! leases/HEX.N         who is making an image now
//! files/HEX            digests of archives that were converted, by what stat(2) says of them
//! jobs/JOB/HEX         what a name meant when a job first used it
//! stored/HEX           where in the user's store the image of a digest lies
//! ```

pub mod evict;
pub mod lease;
pub mod names;
pub mod stage;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::config::Config;
use crate::error::{Error, Result};
use crate::files::own::{Below, Own, Purpose};
use crate::files::{Output, open, space};
use crate::host::Host;
use crate::oci::Digest;
use crate::sys::process;
use crate::work::{self, Progress, Reporter};
use lease::Turn;

/// How often the time of last use is written, at most.
const USED: Duration = Duration::from_secs(3600);

/// Whether something may be fetched and converted, and who is told how it goes on.
pub struct Access<'a> {
    /// Without it, only what is there already is found.
    pub may_fetch: bool,
    /// Whether a registry may be asked what a name means.
    pub may_ask: bool,
    /// Is told.
    pub see: &'a mut dyn FnMut(&Progress),
}

impl std::fmt::Debug for Access<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Access {{ may_fetch: {} }}", self.may_fetch)
    }
}

/// A cache that can be written, and one before it that can be read.
#[derive(Debug, Clone)]
pub struct Cache<'a> {
    root: PathBuf,
    /// Why it cannot be said where it is.
    unknown: Option<Error>,
    site: Option<PathBuf>,
    purpose: Purpose,
    /// The permissions of its directories: whether others may read what is put into it.
    mode: u32,
    /// What the site decided.
    pub config: &'a Config,
    /// Who is asking.
    pub host: &'a Host,
}

/// What a cache consists of.
const DIRECTORIES: [&str; 6] = ["images", "blobs", "leases", "files", "jobs", "stored"];

/// Below `blobs`, one for each way of making digests.
const BLOBS: [&str; 2] = ["sha256", "sha512"];

impl<'a> Cache<'a> {
    /// The user's. Whether it can be said where that is shows when it is used: most images need none.
    pub fn of(config: &'a Config, host: &'a Host) -> Cache<'a> {
        let root = host.expand("cache", &config.cache);
        Cache {
            unknown: root.as_ref().err().cloned(),
            root: root.unwrap_or_default(),
            site: config.site_cache.clone().filter(|site| is_roots(site)),
            purpose: Purpose::Cache,
            mode: 0o700,
            config,
            host,
        }
    }

    /// The site's, for root to fill.
    ///
    /// # Errors
    /// The site has none, or this is not root.
    pub fn of_site(config: &'a Config, host: &'a Host) -> Result<Cache<'a>> {
        let what = "can't fill the site's cache";
        let site = config.site_cache.clone().ok_or_else(|| {
            Error::new(format!("{what}: there is none"))
                .hint("name a directory in the site's file: site_cache = \"/images/cache\"")
        })?;
        if !nix::unistd::geteuid().is_root() {
            return Err(Error::new(format!("{what}: only root may write there"))
                .hint("without --site it goes into your own store"));
        }
        Ok(Cache {
            root: site,
            unknown: None,
            site: None,
            purpose: Purpose::Cache,
            mode: 0o755,
            config,
            host,
        })
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the image of this digest is, or will be.
    fn image(&self, digest: &Digest) -> PathBuf {
        self.root.join(image_name(digest))
    }

    /// The image of this digest, if it is there, or in the user's store.
    pub fn find(&self, digest: &Digest) -> Option<PathBuf> {
        let name = image_name(digest);
        let site = self.site.iter().map(|site| site.join(&name));
        if let Some(path) = { site }.find(|path| path.exists()) {
            return Some(path);
        }
        // What somebody else could have put there is not used.
        self.own().ok()??;
        let path = self.image(digest);
        if path.exists() {
            note_use(&path);
            return Some(path);
        }
        self.stored(digest)
    }

    /// Whether a file is the image that Chariot made of what has this digest, here or in the user's store.
    pub fn is_image_of(&self, digest: &Digest, path: &Path) -> bool {
        let name = image_name(digest);
        let is_here = |root: &PathBuf| root.join(&name) == path;
        let is_own = || matches!(self.own(), Ok(Some(_)));
        self.site.iter().any(is_here)
            || is_own()
                && (is_here(&self.root)
                    || self
                        .stored(digest)
                        .is_some_and(|stored| is_same(&stored, path)))
    }

    /// The cache as it is on disk, if it is there and is this user's.
    ///
    /// # Errors
    /// Something else is there.
    pub(crate) fn own(&self) -> Result<Option<Own>> {
        self.known()?;
        Own::open(&self.root, self.purpose)
    }

    fn known(&self) -> Result<()> {
        self.unknown.clone().map_or(Ok(()), Err)
    }

    /// Makes the directories of a cache that is written for the first time.
    ///
    /// # Errors
    /// It cannot be written, others could have written it, or it is a directory of somebody else's making.
    pub fn prepare(&self) -> Result<()> {
        self.known()?;
        let hint = "the site's file says where it is (cache), and XDG_CACHE_HOME moves it; an image that you pull or \
                    pack into a file needs none";
        let own =
            Own::prepare(&self.root, self.purpose, self.mode).map_err(|error| error.hint(hint))?;
        let make = |above: &Below, names: &[&str]| {
            names.iter().try_for_each(|name| above.make(name).map(drop))
        };
        make(own.root(), &DIRECTORIES)
            .and_then(|()| make(&own.root().enter(Path::new("blobs"))?, &BLOBS))
            .map_err(|error| {
                let what = format!("can't use the cache {}", self.root.display());
                space::explain(&error, &what, "mkdir", &self.root).hint(hint)
            })
    }

    /// The image of this digest; it is made by `make`, in a process of its own, if nobody else makes it.
    ///
    /// # Errors
    /// It cannot be made, here or where somebody else tried, or that takes too long.
    pub fn ensure(
        &self,
        digest: &Digest,
        word: &str,
        access: &mut Access<'_>,
        make: impl Fn(&Reporter, &Output) -> Result<()>,
    ) -> Result<PathBuf> {
        if let Some(path) = self.find(digest) {
            return Ok(path);
        }
        if !access.may_fetch {
            return Err(not_there(word));
        }
        self.prepare()?;
        let leases = self.root.join("leases");
        let is_there = || self.find(digest).is_some();
        let turn = lease::take(
            &leases,
            digest.hex(),
            word,
            self.config.wait_fetch,
            is_there,
            access.see,
        )?;
        if let Turn::Mine(lease) = turn {
            let made = self.make(digest, word, &lease, access, &make);
            match made {
                Ok(()) => lease.end(),
                Err(_) if lease.was_taken_over() => return self.ensure(digest, word, access, make),
                Err(error) => {
                    lease.fail(&error);
                    return Err(error);
                }
            }
            evict::after_fetch(self);
        }
        self.find(digest).ok_or_else(|| not_there(word))
    }

    fn make(
        &self,
        digest: &Digest,
        word: &str,
        lease: &lease::Lease,
        access: &mut Access<'_>,
        make: &impl Fn(&Reporter, &Output) -> Result<()>,
    ) -> Result<()> {
        let output = Output::file(&self.image(digest))?
            .with_remedy("`chariot gc` removes what the cache does not need");
        let what = format!("can't make an image of {word}");
        let made = work::run_with(
            &what,
            |is_unwanted| {
                output.abandon();
                if is_unwanted {
                    // Somebody else can go on at once.
                    lease.end();
                }
            },
            |reporter| {
                process::adopt_environment(&self.host.environment);
                lease.beat_while(reporter, || {
                    make(reporter, &output)?;
                    output.sync().map(|()| String::new())
                })
            },
            |progress| (access.see)(progress),
        );
        made.and_then(|_| output.finish())
            .inspect_err(|_| output.abandon())
    }
}

/// Says that something would have to be fetched first.
pub fn not_there(word: &str) -> Error {
    Error::new(format!("the image {word} is not in the cache yet")).hint(format!(
        "`chariot run` and `srun --ch-image` fetch it; `chariot pull {word}` does so beforehand"
    ))
}

/// Whether root alone can write there, so that all can trust what they find.
fn is_roots(directory: &Path) -> bool {
    directory
        .metadata()
        .is_ok_and(|data| data.uid() == 0 && data.mode() & 0o022 == 0)
}

fn image_name(digest: &Digest) -> String {
    format!("images/{}.sqfs", digest.hex())
}

fn is_same(one: &Path, other: &Path) -> bool {
    one == other || other.canonicalize().is_ok_and(|other| other == one)
}

/// So that eviction knows what is used. Files of the site belong to somebody else and keep their time.
fn note_use(path: &Path) {
    let now = SystemTime::now();
    let is_old = |used: SystemTime| now.duration_since(used).is_ok_and(|age| age > USED);
    let used = path.metadata().and_then(|data| data.accessed());
    if used.is_ok_and(is_old)
        && let Ok(file) = open::regular(path)
    {
        let _ = file.set_times(fs::FileTimes::new().set_accessed(now));
    }
}
