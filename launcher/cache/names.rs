//! What is remembered of names: which digest a job took an image's name for, and which digest an archive has.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Cache;
use crate::files;
use crate::host::Host;
use crate::oci::Digest;
use chariot_core::error::Result;

/// The job that this process is part of: its cluster and number, the same when it is queued again.
pub fn job(host: &Host) -> Option<String> {
    let text = |name: &str| host.variable(name)?.to_str().map(str::to_owned);
    let number: u64 = text("SLURM_JOB_ID")?.parse().ok()?;
    let cluster = text("SLURM_CLUSTER_NAME").unwrap_or_default();
    let is_plain = cluster
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    is_plain.then(|| format!("{cluster}.{number}"))
}

/// Whether a directory has a name that [`job`] gives.
pub(super) fn is_job(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(cluster, number)| {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        cluster.bytes().all(is_plain)
            && number
                .parse::<u64>()
                .is_ok_and(|read| read.to_string() == number)
    })
}

/// The longest of these files, in bytes.
const LARGEST: u64 = 16 << 10;

impl Cache<'_> {
    /// What a file says that Chariot has written here.
    fn said(&self, place: &[&str], name: &Digest) -> Option<String> {
        let (file, _) = self.below(place)?.open(Path::new(name.hex())).ok()?;
        chariot_core::open::text_of(&file, LARGEST).ok()
    }

    /// What a job takes a name for, if one of its nodes has asked before.
    pub fn pin(&self, job: &str, name: &str) -> Option<Digest> {
        let said = self.said(&["jobs", job], &Digest::of(name.as_bytes()))?;
        Digest::parse(said.trim())
    }

    /// Remembers what a job takes a name for, unless another node was first; gives what counts.
    ///
    /// # Errors
    /// The cache cannot be written.
    pub fn set_pin(&self, job: &str, name: &str, digest: Digest) -> Result<Digest> {
        let own = self.prepare()?;
        let what = || format!("can't use the cache {}", own.root().path().display());
        let jobs = own.root().make("jobs").and_then(|jobs| jobs.make(job));
        let jobs = jobs
            .map_err(|error| files::space::explain(&error, &what(), "mkdir", own.root().path()))?;
        let path = jobs.path().join(Digest::of(name.as_bytes()).hex());
        files::write_first(&path, digest.to_string().as_bytes())?;
        Ok(self.pin(job, name).unwrap_or(digest))
    }

    /// What a name in a registry meant when somebody last asked.
    pub fn last_meaning(&self, name: &str) -> Option<Digest> {
        Digest::parse(self.said(&["files"], &meaning_name(name))?.trim())
    }

    /// Remembers what a name means.
    ///
    /// # Errors
    /// The cache cannot be written.
    pub fn set_last_meaning(&self, name: &str, digest: &Digest) -> Result<()> {
        self.prepare()?;
        match self.file(&meaning_name(name)) {
            Some(file) => files::write(&file, digest.to_string().as_bytes()),
            None => Ok(()),
        }
    }

    /// The digest of an archive, if it was asked for before and the file has not changed since.
    pub fn archive_digest(&self, archive: &Path) -> Option<Digest> {
        Digest::parse(self.said(&["files"], &archive_name(archive)?)?.trim())
    }

    /// Remembers the digest of an archive.
    ///
    /// # Errors
    /// The cache cannot be written.
    pub fn set_archive_digest(&self, archive: &Path, digest: &Digest) -> Result<()> {
        self.prepare()?;
        let Some(path) = archive_name(archive).and_then(|name| self.file(&name)) else {
            return Ok(());
        };
        files::write(&path, digest.to_string().as_bytes())
    }

    fn file(&self, name: &Digest) -> Option<PathBuf> {
        Some(self.root().ok()?.join("files").join(name.hex()))
    }

    /// Where in the store an image of this digest lies that Chariot put there, if it is the same still.
    pub(super) fn stored(&self, digest: &Digest) -> Option<PathBuf> {
        let text = self.said(&["files"], &stored_name(digest))?;
        let (said, path) = text.split_once('\n')?;
        let path = PathBuf::from(path);
        let is_closed = !super::is_open_to_others(&path.symlink_metadata().ok()?);
        (is_closed && super::is_usable(&path) && said == look_of(&path)?).then_some(path)
    }

    /// Remembers where in the store an image of this digest lies.
    pub(super) fn set_stored(&self, digest: &Digest, path: &Path) -> Result<()> {
        let real = path.canonicalize().ok();
        let Some((real, said)) = real.and_then(|real| {
            let said = look_of(&real)?;
            Some((real.to_str()?.to_owned(), said))
        }) else {
            // It is fetched again when it is asked for.
            return Ok(());
        };
        match self.file(&stored_name(digest)) {
            Some(file) => files::write(&file, format!("{said}\n{real}").as_bytes()),
            None => Ok(()),
        }
    }
}

/// By what the file system says of it; a device's number is another on each node.
fn archive_name(archive: &Path) -> Option<Digest> {
    let real = archive.canonicalize().ok()?;
    let data = real.metadata().ok()?;
    let mut identity = real.as_os_str().as_bytes().to_vec();
    let numbers = [
        data.ino().cast_signed(),
        data.len().cast_signed(),
        data.mtime(),
        data.mtime_nsec(),
        data.ctime(),
        data.ctime_nsec(),
    ];
    identity.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    Some(Digest::of(&identity))
}

fn meaning_name(name: &str) -> Digest {
    Digest::of(format!("means {name}").as_bytes())
}

fn stored_name(digest: &Digest) -> Digest {
    Digest::of(format!("stored {digest}").as_bytes())
}

/// What stat(2) says of an image, but for the time of change: that is another after link(2).
fn look_of(path: &Path) -> Option<String> {
    let data = path.metadata().ok()?;
    let (inode, length) = (data.ino(), data.len());
    Some(format!(
        "{inode} {length} {} {}",
        data.mtime(),
        data.mtime_nsec()
    ))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use chariot_core::config::Config;

    #[test]
    fn a_job_keeps_the_first_meaning_of_a_name_and_an_archive_its_digest_while_it_is_the_same() {
        let place = tempfile::tempdir().unwrap();
        let config = Config {
            cache: place.path().join("cache").display().to_string(),
            ..Config::default()
        };
        let variables = [("SLURM_JOB_ID", "42"), ("SLURM_CLUSTER_NAME", "c-1")];
        let variables = variables.map(|(name, value)| (name.into(), value.into()));
        let host = Host::look(variables.to_vec(), None);
        let cache = Cache::of(&config, &host);
        let (first, second) = (Digest::of(b"1"), Digest::of(b"2"));
        let job = job(&host).unwrap();
        assert_eq!(job, "c-1.42");
        assert_eq!(cache.pin(&job, "docker://x"), None);
        assert_eq!(
            cache.set_pin(&job, "docker://x", first.clone()).unwrap(),
            first
        );
        assert_eq!(
            cache.set_pin(&job, "docker://x", second.clone()).unwrap(),
            first
        );
        assert_eq!(cache.pin("c-1.43", "docker://x"), None);

        let archive = place.path().join("a.tar");
        fs::write(&archive, "one").unwrap();
        cache.set_archive_digest(&archive, &first).unwrap();
        assert_eq!(cache.archive_digest(&archive), Some(first));
        fs::write(&archive, "three").unwrap();
        assert_eq!(cache.archive_digest(&archive), None);
        cache.set_archive_digest(&archive, &second).unwrap();
        assert_eq!(cache.archive_digest(&archive), Some(second));
    }

    #[test]
    fn a_cluster_with_an_odd_name_is_no_path() {
        let variables = [("SLURM_JOB_ID", "42"), ("SLURM_CLUSTER_NAME", "../x")];
        let variables = variables.map(|(name, value)| (name.into(), value.into()));
        assert_eq!(job(&Host::look(variables.to_vec(), None)), None);
    }
}
