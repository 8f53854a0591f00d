//! The cache: images that were made of others, by digest. It belongs to one user, since a converted image cannot
//! be held against its registry's digest any more, and since a private image is nobody else's business; a site
//! may have one besides that root alone writes and all read first.
//!
//! An image appears under its name when it is complete, so a hit is an open(2) and takes no lock. Where it is
//! missing, [`lease`] decides who of all nodes makes it.
//!
//! ```text
//! images/HEX.sqfs      images by the digest of what they were made from
//! blobs/sha256/HEX     layers and manifests, as registries give them
//! leases/HEX.N         who is making an image now
//! files/HEX            digests of archives that were converted, by what stat(2) says of them, and where in the store
//!                      an image of a digest lies
//! jobs/JOB/HEX         what a name meant when a job first used it
//! ```
//!
//! It carries a mark ([`crate::files::own`]): what somebody else has filled is neither written nor swept.

pub mod evict;
pub mod lease;
pub mod names;
mod place;
pub mod stage;

use chariot_core::options::Pull;
use chariot_core::sys::rights;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::files::own::{Below, Own, Purpose};
use crate::files::{self, Output};
use crate::host::Host;
use crate::log::warn_once;
use crate::oci::Digest;
use crate::work::{self, Progress, Reporter};
use chariot_core::config::Config;
use chariot_core::error::{Error, Explain, Result};
use chariot_core::private::{self, Whose};
use chariot_core::sys::{process, signals};
use lease::{Crowd, Turn, Want};

/// How hints end about a file system that is full, or a quota.
const FULL: &str = "or choose another place";

/// How often the time of last use is written, at most.
const USED: Duration = Duration::from_secs(3600);

/// Whether something may be fetched and converted, and who is told how it goes on.
pub struct Access<'a> {
    /// Without it, only what is there already is found.
    pub may_fetch: bool,
    /// Whether a registry may be asked what a name means.
    pub may_ask: bool,
    /// When it is.
    pub pull: Pull,
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
    /// An error if the site's file names variables that are not set: not everything needs a cache.
    root: Result<PathBuf>,
    /// Why it is not where the site says.
    moved: Option<String>,
    purpose: Purpose,
    site: Option<PathBuf>,
    /// Whether others may read what is put into it.
    is_shared: bool,
    /// What the site decided.
    pub config: &'a Config,
    /// Who is asking.
    pub host: &'a Host,
}

impl<'a> Cache<'a> {
    /// The user's.
    pub fn of(config: &'a Config, host: &'a Host) -> Cache<'a> {
        let (root, moved) = match place::of(config, host) {
            Ok((root, moved)) => (Ok(root), moved),
            Err(error) => (Err(error), None),
        };
        Cache {
            root,
            moved,
            purpose: Purpose::Cache,
            site: config.site_cache.clone().filter(|site| is_roots(site)),
            is_shared: false,
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
            Error::new(format!("{what}: there is none")).hint(
                "name a directory in the site configuration file: site_cache = \"/images/cache\"",
            )
        })?;
        if !rights::is_root() {
            return Err(Error::new(format!("{what}: only root may write there"))
                .hint("without --site it goes into your own store"));
        }
        // Before a directory is made there: all users believe what lies in it.
        private::refuse_foreign(&site, Whose::Roots).map_err(|refusal| refusal.told(what))?;
        Ok(Cache {
            root: Ok(site),
            moved: None,
            purpose: Purpose::Cache,
            site: None,
            is_shared: true,
            config,
            host,
        })
    }

    /// Where it is.
    ///
    /// # Errors
    /// The site's file names a variable that is not set.
    pub fn root(&self) -> Result<&Path> {
        self.root.as_deref().map_err(Error::clone)
    }

    /// The caches that are read: the user's and the site's, if nobody else could have put there what they hold.
    ///
    /// # Errors
    /// As [`Cache::root`].
    pub fn places(&self) -> Result<Vec<&Path>> {
        let root = self.root()?;
        let own = self.below(&["images"]).map(|_| root);
        Ok(own.into_iter().chain(self.site.as_deref()).collect())
    }

    /// Where the image of this digest is, or will be.
    fn image(&self, digest: &Digest) -> Result<PathBuf> {
        Ok(self.root()?.join(image_name(digest)))
    }

    /// The image of this digest, if it is there, or in the store.
    pub fn find(&self, digest: &Digest) -> Option<PathBuf> {
        let path = self.find_here(digest).or_else(|| self.stored(digest))?;
        note_use(&path);
        Some(path)
    }

    fn find_here(&self, digest: &Digest) -> Option<PathBuf> {
        let name = image_name(digest);
        let of_site = self.site.as_deref().map(|site| site.join(&name));
        of_site.filter(|path| is_usable(path)).or_else(|| {
            let path = self.root().ok()?.join(&name);
            // Whose the cache is comes last: most looks find nothing, and it takes a call for each parent.
            (is_usable(&path) && self.below(&["images"]).is_some()).then_some(path)
        })
    }

    /// A directory of this cache, to read in it; none if somebody else could have put there what it holds.
    fn below(&self, names: &[&str]) -> Option<Below> {
        let own = Own::open(self.root().ok()?, self.purpose).ok()??;
        let (first, rest) = names.split_first()?;
        let mut below = own.root().enter(Path::new(first)).ok()?;
        for name in rest {
            below = below.enter(Path::new(name)).ok()?;
        }
        Some(below)
    }

    /// The digest that an image says it was made from, if Chariot knows that to be true: it lies in a cache, or it
    /// was put into the store by Chariot and has not changed since.
    pub fn verified(&self, image: &Path, claimed: &str) -> Option<Digest> {
        let digest = Digest::parse(claimed)?;
        let data = image.metadata().ok()?;
        let is_same = |path: &Path| {
            path.metadata()
                .is_ok_and(|other| (other.dev(), other.ino()) == (data.dev(), data.ino()))
        };
        let here = self.find_here(&digest).filter(|path| is_same(path));
        here.or_else(|| self.stored(&digest).filter(|path| is_same(path)))
            .map(|_| digest)
    }

    /// Lets those who ask for this digest find an image of the store. It is kept once, under two names, where the
    /// file system can do that.
    ///
    /// # Errors
    /// The cache cannot be written.
    pub fn adopt(&self, digest: &Digest, stored: &Path) -> Result<()> {
        self.prepare()?;
        let is_there = self.find_here(digest).is_some();
        if !is_there && files::share::link(stored, &self.image(digest)?).is_ok() {
            return Ok(());
        }
        self.set_stored(digest, stored)
    }

    /// Makes the directories of a cache that is written for the first time.
    ///
    /// # Errors
    /// It cannot be written, others could have written it, or somebody else has filled it.
    pub fn prepare(&self) -> Result<Own> {
        let mode = if self.is_shared { 0o755 } else { 0o700 };
        let root = self.root()?;
        if let Some(moved) = &self.moved {
            warn_once(moved);
        }
        let own = Own::prepare(root, self.purpose, mode)?;
        let what = || format!("can't use the cache {}", root.display());
        for name in ["images", "blobs", "leases", "files", "jobs"] {
            let made = own.root().make(name);
            let made = match (made, name) {
                (Ok(blobs), "blobs") => ["sha256", "sha512"]
                    .iter()
                    .try_for_each(|algorithm| blobs.make(algorithm).map(drop)),
                (made, _) => made.map(drop),
            };
            made.map_err(|error| {
                let call = format!("mkdir(\"{}\")", root.join(name).display());
                files::space::explain(&error, &what(), &call, root)
            })?;
        }
        Ok(own)
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
        for is_last in [false, false, true] {
            if let Some(path) = self.find(digest) {
                return Ok(path);
            }
            if !access.may_fetch {
                return Err(not_there(word));
            }
            let is_there = || self.find(digest).is_some();
            self.refuse_squatted(digest)?;
            let turn = self.turn(digest, word, is_there, access.see)?;
            let Turn::Mine(lease) = turn else { break };
            match self.make(digest, word, &lease, access, &make) {
                Ok(()) => {
                    evict::after_fetch(self, &self.image(digest)?);
                    break;
                }
                // This process was suspended, or its machine was, and others did without it.
                Err(_) if is_there() => lease.end(),
                Err(_) if !is_last && lease.was_taken_over() => {}
                Err(error) => {
                    let error = self.with_room(error, self.root()?);
                    lease.fail(&error);
                    return Err(error);
                }
            }
        }
        self.find(digest).ok_or_else(|| not_there(word))
    }

    /// Waits until it is this one's turn to fetch what an image of this digest is made of: what two fetch at once comes
    /// twice, and who is done first may take the layers away.
    ///
    /// # Errors
    /// Somebody else tried meanwhile and failed, or that takes too long.
    pub fn turn(
        &self,
        digest: &Digest,
        word: &str,
        is_there: impl Fn() -> bool,
        see: &mut dyn FnMut(&Progress),
    ) -> Result<Turn> {
        self.prepare()?;
        let root = self.root()?;
        let leases = root.join("leases");
        let turn = lease::take(&self.want(&leases, digest, word), is_there, see);
        turn.map_err(|error| self.with_room(error, root))
    }

    /// What those wait for who want what has this digest.
    pub fn want<'w>(&self, leases: &'w Path, digest: &'w Digest, word: &'w str) -> Want<'w> {
        Want {
            directory: leases,
            name: digest.hex(),
            word,
            patience: self.config.wait_fetch,
            crowd: match self.purpose {
                // Other nodes have their own.
                Purpose::Stage => Crowd::ALONE,
                _ => Crowd::of(self.host),
            },
        }
    }

    /// A failure to write at `place` because that is full, with what `chariot gc` could do about it: something, if the
    /// cache lies on the same file system and holds what nobody needs now.
    #[must_use]
    pub fn with_room(&self, error: Error, place: &Path) -> Error {
        let device = |path: &Path| path.metadata().map(|data| data.dev()).ok();
        let (Some(hint), Ok(root)) = (error.advice(), self.root()) else {
            return error;
        };
        let is_there = hint.contains(&root.display().to_string()) || device(place) == device(root);
        if !is_there || !hint.ends_with(FULL) {
            return error;
        }
        match evict::could_remove(self) {
            0 => error,
            room => {
                let room = indicatif::HumanBytes(room);
                let hint = format!("{hint}; `chariot gc --all` can remove {room} of your cache");
                error.hinted_anew(hint)
            }
        }
    }

    /// Something that is no image may have its name: a directory, a link, a FIFO. None of these is replaced.
    fn refuse_squatted(&self, digest: &Digest) -> Result<()> {
        let path = self.image(digest)?;
        match path.symlink_metadata() {
            Ok(_) if !is_usable(&path) => Err(Error::new(format!(
                "can't use the cache {}: {} is not a regular file, or others can write to it",
                self.root()?.display(),
                path.display()
            ))
            .hint("Chariot did not put it there: move it away")),
            _ => Ok(()),
        }
    }

    fn make(
        &self,
        digest: &Digest,
        word: &str,
        lease: &lease::Lease,
        access: &mut Access<'_>,
        make: &impl Fn(&Reporter, &Output) -> Result<()>,
    ) -> Result<()> {
        let output = Output::file(&self.image(digest)?)?;
        output.take_from(&lease.losers());
        let what = format!("can't convert {word}");
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
                    output.sync()
                })
            },
            |progress| (access.see)(progress),
        );
        // A Ctrl-C between the two would leave the lease, and who finds the image looks for none.
        let held = signals::hold_back().explain(|| what)?;
        // One that is there is open on other machines, which would lose it if another took its name.
        let named = made.and_then(|_| output.finish_unless_there());
        output.abandon();
        if named.is_ok() {
            lease.end();
        }
        held.let_through();
        named.map(|_| ())
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
    private::open(&directory.join("images"), Whose::Roots).is_ok()
}

/// Whether it is an image's file, as Chariot puts it here. What a link leads to, or another user has put here, is not; nor is
/// what others may write to and find under another name, in a group's store.
fn is_usable(path: &Path) -> bool {
    let user = rights::user();
    path.symlink_metadata().is_ok_and(|data| {
        let is_own = data.uid() == user || data.uid() == 0;
        data.is_file() && is_own && (data.nlink() == 1 || !is_open_to_others(&data))
    })
}

/// Whether others than its owner may write to a file.
pub(crate) fn is_open_to_others(data: &fs::Metadata) -> bool {
    data.mode() & 0o022 != 0
}

fn image_name(digest: &Digest) -> String {
    format!("images/{}.sqfs", digest.hex())
}

/// So that eviction knows what is used. Files of the site belong to somebody else and keep their time.
fn note_use(path: &Path) {
    let now = SystemTime::now();
    let is_old = |used: SystemTime| now.duration_since(used).is_ok_and(|age| age > USED);
    let used = path.metadata().and_then(|data| data.accessed());
    if used.is_ok_and(is_old)
        && let Ok(file) = chariot_core::open::regular(path)
    {
        let _ = file.set_times(fs::FileTimes::new().set_accessed(now));
    }
}
