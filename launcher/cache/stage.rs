//! Copies of image files on a node, for file systems that do not like many readers: one for each contents,
//! made once, verified, and evicted by size.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::{Path, PathBuf};

use super::{Access, Cache, evict};
use crate::files::own::Purpose;
use crate::files::space::{explain, refuse_full};
use crate::log::warn_once;
use crate::oci::{Digest, Hasher};
use crate::work::Progress;
use chariot_core::error::{Error, Explain, Result};
use chariot_core::open;
use chariot_core::private::{self, Whose};

/// The copy of an image file on this node, made if it is not there. None where somebody else has taken the place: that
/// must not keep anybody's job from running, from where the image lies.
///
/// # Errors
/// There is no room, or the copy is not what it should be.
pub fn stage(
    path: &Path,
    word: &str,
    cache: &Cache<'_>,
    access: &mut Access<'_>,
) -> Result<Option<PathBuf>> {
    let root = cache.host.expand("stage_dir", &cache.config.stage_dir)?;
    let what = || format!("can't copy the image {word} to {}", root.display());
    let copies = Cache {
        root: Ok(root.clone()),
        moved: None,
        purpose: Purpose::Stage,
        site: None,
        ..cache.clone()
    };
    if let Err(error) = copies.prepare() {
        return match private::refuse_foreign(&root, Whose::Own) {
            Err(refusal) => {
                warn_once(&format!(
                    "the image {word} is run from where it lies and not from a copy on the node: {refusal}"
                ));
                Ok(None)
            }
            Ok(()) => Err(error.within(&what())),
        };
    }
    // By what stat(2) says of the original: reading all of it on each node is what staging is to prevent.
    if let Some(path) = copies
        .archive_digest(path)
        .and_then(|digest| copies.find(&digest))
    {
        return Ok(Some(path));
    }
    let length = path.metadata().explain(what)?.len();
    refuse_full(&root, length).map_err(|error| error.within(&what()))?;
    let digest = digest_of(path, word, access)?;
    // Steps on one node that want the same image copy it once.
    let staged = copies.ensure(&digest, word, access, |reporter, output| {
        let file = output.made();
        let mut from = BufReader::with_capacity(1 << 20, open::regular(path).explain(what)?);
        let mut to = Copy {
            file,
            done: 0,
            see: &|done| {
                let what = "copying to the node".into();
                reporter.progress(
                    &Progress {
                        what,
                        done,
                        total: length,
                        elsewhere: false,
                    },
                    false,
                );
                reporter.check()
            },
        };
        io::copy(&mut from, &mut to).map_err(|error| explain(&error, &what(), "write", &root))?;
        match hash(file, Hasher::sha256(), &mut |_| {}).explain(what)? {
            copied if copied == digest => Ok(()),
            _ => Err(
                Error::new(format!("{}: the copy differs from the original", what())).hint(
                    "has somebody changed the image meanwhile? else the node's disk is failing",
                ),
            ),
        }
    })?;
    copies.set_archive_digest(path, &digest)?;
    let wanted = evict::Wanted {
        size: cache.config.stage_size,
        age: None,
        keep: std::time::Duration::from_secs(600),
        is_asked: false,
    };
    evict::evict(&copies, wanted)?;
    Ok(Some(staged))
}

/// The digest of a whole file.
///
/// # Errors
/// It cannot be read.
pub fn digest_of(path: &Path, word: &str, access: &mut Access<'_>) -> Result<Digest> {
    let what = || format!("can't read {word}");
    let file = open::regular(path).explain(what)?;
    let total = file.metadata().explain(what)?.len();
    let mut see = |done| {
        let what = "reading".into();
        (access.see)(&Progress {
            what,
            done,
            total,
            elsewhere: false,
        });
    };
    hash(&file, Hasher::sha256(), &mut see).explain(what)
}

/// How much is read at a time, in bytes.
const CHUNK: u64 = 64 << 20;

/// The digest of an open file, from its beginning.
///
/// # Errors
/// It cannot be read.
pub fn hash(file: &File, mut hash: Hasher, see: &mut dyn FnMut(u64)) -> io::Result<Digest> {
    let mut file = BufReader::with_capacity(1 << 20, file.try_clone()?);
    file.rewind()?;
    let mut done = 0;
    loop {
        see(done);
        match io::copy(&mut file.by_ref().take(CHUNK), &mut hash)? {
            0 => return Ok(hash.finish()),
            count => done += count,
        }
    }
}

/// Writes, and says how far it is.
struct Copy<'a> {
    file: &'a File,
    done: u64,
    see: &'a dyn Fn(u64) -> io::Result<()>,
}

impl io::Write for Copy<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.done += count as u64;
        (self.see)(self.done)?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
