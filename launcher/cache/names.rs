//! What is remembered of names: which digest a job took an image's name for, and which digest an archive has.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Cache;
use crate::error::{Explain, Result};
use crate::files::{self, open};
use crate::host::Host;
use crate::oci::Digest;

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

impl Cache<'_> {
    fn pin_path(&self, job: &str, name: &str) -> PathBuf {
        self.root
            .join("jobs")
            .join(job)
            .join(Digest::of(name.as_bytes()).hex())
    }

    /// What a job takes a name for, if one of its nodes has asked before.
    pub fn pin(&self, job: &str, name: &str) -> Option<Digest> {
        self.own().ok()??;
        let text = open::read_text(&self.pin_path(job, name), LARGEST).ok()?;
        Digest::parse(text.trim())
    }

    /// Remembers what a job takes a name for, unless another node was first; gives what counts.
    ///
    /// # Errors
    /// The cache cannot be written.
    pub fn set_pin(&self, job: &str, name: &str, digest: Digest) -> Result<Digest> {
        let what = || format!("can't use the cache {}", self.root.display());
        self.prepare()?;
        if let Some(own) = self.own()? {
            let jobs = own.root().enter(Path::new("jobs"));
            jobs.and_then(|jobs| jobs.make(job)).explain(what)?;
        }
        files::write_first(&self.pin_path(job, name), digest.to_string().as_bytes())?;
        Ok(self.pin(job, name).unwrap_or(digest))
    }

    /// The digest of an archive, if it was asked for before and the file has not changed since.
    pub fn archive_digest(&self, archive: &Path) -> Option<Digest> {
        self.own().ok()??;
        let text = open::read_text(&self.archive_path(archive)?, LARGEST).ok()?;
        Digest::parse(text.trim())
    }

    /// Remembers that an image in the user's store is the one of a digest, so that it is not made again.
    ///
    /// # Errors
    /// The cache cannot be written.
    pub fn set_stored(&self, digest: &Digest, path: &Path) -> Result<()> {
        // Without the time of its last change: a second name that is made or removed is one.
        let Some((real, identity)) = identity(path, false) else {
            return Ok(());
        };
        self.prepare()?;
        let mut text = identity.to_string().into_bytes();
        text.push(b'\n');
        text.extend_from_slice(real.as_os_str().as_bytes());
        files::write(&self.stored_path(digest), &text)
    }

    fn stored_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("stored").join(digest.hex())
    }

    /// The image of a digest in the user's store, if it is there as it was put there.
    pub(super) fn stored(&self, digest: &Digest) -> Option<PathBuf> {
        let text = open::read(&self.stored_path(digest), LARGEST).ok()?;
        let at = text.iter().position(|byte| *byte == b'\n')?;
        let path = PathBuf::from(OsStr::from_bytes(&text[at + 1..]));
        let (real, now) = identity(&path, false)?;
        (real == path && now.to_string().as_bytes() == &text[..at]).then_some(path)
    }

    /// Remembers the digest of an archive.
    ///
    /// # Errors
    /// The cache cannot be written.
    pub fn set_archive_digest(&self, archive: &Path, digest: &Digest) -> Result<()> {
        self.prepare()?;
        let Some(path) = self.archive_path(archive) else {
            return Ok(());
        };
        files::write(&path, digest.to_string().as_bytes())
    }

    /// By what the file system says of it.
    fn archive_path(&self, archive: &Path) -> Option<PathBuf> {
        let (_, identity) = identity(archive, true)?;
        Some(self.root.join("files").join(identity.hex()))
    }
}

/// The longest of these small files, in bytes.
const LARGEST: u64 = 8 << 10;

/// A file's path without links, and a digest of it and of what the file system says of the file: another one if it was
/// written or replaced, or changed in any way. A device's number is another on each node.
fn identity(path: &Path, with_change: bool) -> Option<(PathBuf, Digest)> {
    let real = path.canonicalize().ok()?;
    let data = real.metadata().ok()?;
    let mut identity = real.as_os_str().as_bytes().to_vec();
    let numbers = [
        data.ino().cast_signed(),
        data.len().cast_signed(),
        data.mtime(),
        data.mtime_nsec(),
    ];
    let change = [data.ctime(), data.ctime_nsec()];
    let change = change.iter().filter(|_| with_change);
    identity.extend(
        numbers
            .iter()
            .chain(change)
            .flat_map(|number| number.to_le_bytes()),
    );
    Some((real, Digest::of(&identity)))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::Config;

    #[test]
    fn what_is_in_the_store_is_the_image_of_its_digest_until_it_changes() {
        let place = tempfile::tempdir().unwrap();
        let config = Config {
            cache: place.path().join("cache").display().to_string(),
            ..Config::default()
        };
        let host = Host::look(Vec::new(), None);
        let cache = Cache::of(&config, &host);
        let digest = Digest::of(b"1");
        let image = place.path().join("with\nnewline.sqfs");
        fs::write(&image, "image").unwrap();
        cache.set_stored(&digest, &image).unwrap();
        assert_eq!(cache.find(&digest).as_deref(), Some(image.as_path()));
        assert_eq!(cache.find(&Digest::of(b"2")), None);
        // Another image was pulled under that name.
        fs::write(&image, "other").unwrap();
        assert_eq!(cache.find(&digest), None);
        cache.set_stored(&digest, &image).unwrap();
        fs::remove_file(&image).unwrap();
        assert_eq!(cache.find(&digest), None);
    }

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
