//! Downloading blobs, several at a time. A connection that breaks is taken up where it broke.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Resolved;
use super::client::Client;
use crate::files::{Output, output, space};
use crate::oci::{self, Descriptor, Digest, Hasher, Reference};
use crate::threads;
use crate::work::{Progress, Reporter};
use chariot_core::error::{Error, Explain, Result, caught, io_reason};

/// How many blobs are fetched at a time.
const AT_ONCE: usize = 4;

/// How often a broken connection is taken up again for one blob.
const BREAKS: usize = 5;

/// How often somebody looks whether the work is still wanted.
const LOOK: Duration = Duration::from_millis(200);

/// What progress calls a blob, in front of its digest.
pub const LAYER: &str = "layer ";

/// What the threads share.
struct Shared {
    waiting: Mutex<Vec<Descriptor>>,
    clients: Vec<Client>,
    reference: Reference,
    cache: std::path::PathBuf,
    /// Somebody has failed, or nobody wants it any more.
    stop: AtomicBool,
}

enum News {
    Bytes(Digest, u64, u64),
    Ended(Result<()>),
}

/// Downloads all of `wanted`.
pub(super) fn all(
    mut wanted: Vec<Descriptor>,
    clients: Vec<Client>,
    resolved: &Resolved,
    cache: &Path,
    reporter: &Reporter,
) -> Result<()> {
    // They are taken from the end: the largest first, so that none of them is left over when all others are done.
    wanted.sort_by_key(|blob| blob.size);
    let count = wanted.len().min(AT_ONCE);
    for blob in &wanted {
        // So that whoever adds them up knows how much is to come.
        reporter.progress(&progress(&blob.digest, 0, blob.size), true);
    }
    let shared = Arc::new(Shared {
        waiting: Mutex::new(wanted),
        clients,
        reference: resolved.reference.clone(),
        cache: cache.to_owned(),
        stop: AtomicBool::new(false),
    });
    let (sender, news) = channel();
    let threads = threads::start_several(count, || {
        let (shared, sender) = (Arc::clone(&shared), sender.clone());
        Ok(move || {
            let result = caught(|| Ok(work(&shared, &sender)))
                .unwrap_or_else(|panic| Err(Error::new(panic.to_string())));
            let _ = sender.send(News::Ended(result));
        })
    });
    drop(sender);
    let mut left = threads.explain(|| "can't fetch layers".into())?.len();
    let mut outcome = Ok(());
    while left > 0 {
        match news.recv_timeout(LOOK) {
            Ok(News::Bytes(digest, done, total)) => {
                reporter.progress(&progress(&digest, done, total), done == total);
            }
            Ok(News::Ended(result)) => {
                left -= 1;
                if result.is_err() && outcome.is_ok() {
                    shared.stop.store(true, Ordering::Relaxed);
                    outcome = result;
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            // All have ended, and not all have said how.
            Err(RecvTimeoutError::Disconnected) => {
                return outcome.and(Err(Error::new("what fetches layers has ended")));
            }
        }
        if let Err(error) = reporter.check() {
            shared.stop.store(true, Ordering::Relaxed);
            outcome = outcome.and(Err(Error::new(error.to_string())));
        }
    }
    outcome
}

/// How far a blob is.
fn progress(digest: &Digest, done: u64, total: u64) -> Progress {
    Progress {
        what: format!("{LAYER}{}", &digest.hex()[..12]),
        done,
        total,
        elsewhere: false,
    }
}

fn work(shared: &Shared, news: &Sender<News>) -> Result<()> {
    while !shared.stop.load(Ordering::Relaxed) {
        let next = shared
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        let Some(blob) = next else { break };
        let path = shared.cache.join(oci::blob(&blob.digest));
        // Before the new one is begun, which removes what is left over of others.
        let part = output::longest_part(&path);
        let output = Output::file(&path)?;
        let fetched = download(shared, &blob, output.made(), part, news)
            .and_then(|()| output.finish())
            .inspect_err(|_| output.abandon());
        fetched.map_err(|error| error.within(&format!("{}", blob.digest)))?;
    }
    Ok(())
}

/// A blob that is on its way.
struct Arriving<'a> {
    blob: &'a Descriptor,
    file: &'a File,
    /// The cache.
    place: &'a Path,
    hash: Hasher,
    done: u64,
}

/// Downloads a blob, after what somebody else has got of it already: somebody who died, is suspended, or fetches it at
/// the same time. That is copied, and never written to, since who made it may wake up. If it was no good, all is fetched.
fn download(
    shared: &Shared,
    blob: &Descriptor,
    file: &File,
    part: Option<File>,
    news: &Sender<News>,
) -> Result<()> {
    let mut arriving = Arriving::new(shared, blob, file);
    let adopted = match part {
        Some(part) => arriving.adopt(part, news)?,
        None => 0,
    };
    if adopted == 0 {
        return fetch(shared, &mut arriving, news);
    }
    if adopted < blob.size {
        let fetched = fetch(shared, &mut arriving, news);
        // It broke off, or all of it is there; then it is right, or what was there before was not.
        if fetched.is_ok() || arriving.done < blob.size {
            return fetched;
        }
    } else if arriving.is_right() {
        return Ok(());
    }
    let mut again = Arriving::new(shared, blob, file);
    again.begin()?;
    fetch(shared, &mut again, news)
}

fn fetch(shared: &Shared, arriving: &mut Arriving<'_>, news: &Sender<News>) -> Result<()> {
    let blob = arriving.blob;
    let mut breaks = 0;
    let mut at = 0;
    loop {
        let is_last = at + 1 == shared.clients.len();
        let Some(client) = shared.clients.get(at) else {
            return Err(Error::new("there is no registry to ask"));
        };
        let error = match arriving.from(client, shared, news) {
            Ok(()) if arriving.done == blob.size => return arriving.verify(client),
            Ok(()) => Error::new(format!(
                "{} sent {} bytes of {}",
                client.host(),
                arriving.done,
                blob.size
            ))
            .hint("try again; if it keeps happening, tell whoever runs the registry"),
            Err(Broken::ForGood(error)) => return Err(error),
            Err(Broken::Perhaps(error)) => error,
        };
        if shared.stop.load(Ordering::Relaxed) {
            return Err(error);
        }
        breaks += 1;
        if !is_last {
            // A mirror is asked once.
            at += 1;
        } else if breaks >= BREAKS + shared.clients.len() {
            return Err(error);
        }
    }
}

/// Why a blob stopped coming.
enum Broken {
    ForGood(Error),
    Perhaps(Error),
}

impl<'a> Arriving<'a> {
    fn new(shared: &'a Shared, blob: &'a Descriptor, file: &'a File) -> Arriving<'a> {
        Arriving {
            blob,
            file,
            place: &shared.cache,
            hash: blob.digest.hasher(),
            done: 0,
        }
    }

    /// Forgets what is in the file.
    fn begin(&mut self) -> Result<()> {
        let mut file = self.file;
        file.set_len(0)
            .and_then(|()| file.rewind())
            .map_err(|error| self.told(&error))
    }

    /// Copies what somebody else has, and says how much.
    fn adopt(&mut self, part: File, news: &Sender<News>) -> Result<u64> {
        let mut part = part.take(self.blob.size);
        let mut chunk = vec![0; 256 << 10];
        // What cannot be read there can be fetched.
        while let Ok(count @ 1..) = part.read(&mut chunk) {
            self.take(&chunk[..count])?;
        }
        if self.done > 0 {
            self.tell(news);
        }
        Ok(self.done)
    }

    fn take(&mut self, bytes: &[u8]) -> Result<()> {
        self.done += bytes.len() as u64;
        self.hash.update(bytes);
        let mut file = self.file;
        file.write_all(bytes).map_err(|error| self.told(&error))
    }

    fn told(&self, error: &std::io::Error) -> Error {
        space::explain(error, "can't write to the cache", "write", self.place)
    }

    fn tell(&self, news: &Sender<News>) {
        let _ = news.send(News::Bytes(
            self.blob.digest.clone(),
            self.done,
            self.blob.size,
        ));
    }

    fn is_right(&self) -> bool {
        self.hash.clone().finish() == self.blob.digest
    }

    /// Reads on, from where it is.
    fn from(
        &mut self,
        client: &Client,
        shared: &Shared,
        news: &Sender<News>,
    ) -> std::result::Result<(), Broken> {
        let answer = client.blob(&shared.reference, &self.blob.digest, self.done);
        let (mut reader, is_rest) = answer.map_err(|failure| Broken::Perhaps(failure.error))?;
        if self.done > 0 && !is_rest {
            self.skip(&mut reader)?;
        }
        let mut chunk = vec![0; 256 << 10];
        loop {
            let count = reader
                .read(&mut chunk)
                .map_err(|error| broken(client, &error))?;
            if count == 0 {
                return Ok(());
            }
            if self.done + count as u64 > self.blob.size {
                let sentence = format!(
                    "{} sends more than the {} bytes that it should have",
                    client.host(),
                    self.blob.size
                );
                return Err(Broken::ForGood(
                    Error::new(sentence).hint("tell whoever runs the registry"),
                ));
            }
            self.take(&chunk[..count]).map_err(Broken::ForGood)?;
            self.tell(news);
            if shared.stop.load(Ordering::Relaxed) {
                return Err(Broken::ForGood(Error::new("interrupted")));
            }
        }
    }

    /// A server that knows no ranges starts from the beginning.
    fn skip(&self, reader: &mut impl Read) -> std::result::Result<(), Broken> {
        let skipped = std::io::copy(&mut reader.by_ref().take(self.done), &mut std::io::sink());
        match skipped {
            Ok(count) if count == self.done => Ok(()),
            _ => Err(Broken::Perhaps(Error::new("the registry broke off"))),
        }
    }

    fn verify(&self, client: &Client) -> Result<()> {
        let found = self.hash.clone().finish();
        match found == self.blob.digest {
            true => Ok(()),
            false => Err(Error::new(format!(
                "what {} sent is damaged or forged: its digest is {found}",
                client.host()
            ))
            .hint("try again; if it keeps happening, tell whoever runs the registry")),
        }
    }
}

/// A connection that is gone can come back; of a registry that is silent nobody knows more after another wait.
fn broken(client: &Client, error: &std::io::Error) -> Broken {
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<ureq::Error>());
    if matches!(inner, Some(ureq::Error::Timeout(_)))
        || error.kind() == std::io::ErrorKind::TimedOut
    {
        let sentence = format!("{} sent nothing for too long", client.host());
        return Broken::ForGood(
            Error::new(sentence)
                .hint("try again; the site configuration file says how long to wait: waits.byte"),
        );
    }
    let sentence = format!("{} broke off: {}", client.host(), io_reason(error));
    Broken::Perhaps(Error::new(sentence).hint("try again"))
}
