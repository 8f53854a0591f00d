//! What is remembered of names: which digest a job took an image's name for, and which digest an archive has.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Cache;
use crate::error::{Explain, Result};
use crate::files;
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
        let text = fs::read_to_string(self.pin_path(job, name)).ok()?;
        Digest::parse(text.trim())
    }

    /// Remembers what a job takes a name for, unless another node was first; gives what counts.
    ///
    /// # Errors
    /// The cache cannot be written.
    pub fn set_pin(&self, job: &str, name: &str, digest: Digest) -> Result<Digest> {
        let what = || format!("can't use the cache {}", self.root.display());
        self.prepare()?;
        let path = self.pin_path(job, name);
        fs::create_dir_all(path.parent().unwrap_or(&path)).explain(what)?;
        files::write_first(&path, digest.to_string().as_bytes())?;
        Ok(self.pin(job, name).unwrap_or(digest))
    }

    /// The digest of an archive, if it was asked for before and the file has not changed since.
    pub fn archive_digest(&self, archive: &Path) -> Option<Digest> {
        let text = fs::read_to_string(self.archive_path(archive)?).ok()?;
        Digest::parse(text.trim())
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

    /// By what the file system says of it; a device's number is another on each node.
    fn archive_path(&self, archive: &Path) -> Option<PathBuf> {
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
        Some(self.root.join("files").join(Digest::of(&identity).hex()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

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
