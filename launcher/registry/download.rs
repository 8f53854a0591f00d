//! Downloading blobs, several at a time. A connection that breaks is taken up where it broke.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Resolved;
use super::client::Client;
use super::reference::Reference;
use crate::convert::layout;
use crate::error::{Error, Explain, Result, io_reason};
use crate::files::Output;
use crate::oci::{Descriptor, Digest, Hasher};
use crate::work::{Progress, Reporter};

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
    // The largest first, so that none of them is left over at the end.
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
    for _ in 0..count {
        let (shared, sender) = (Arc::clone(&shared), sender.clone());
        std::thread::spawn(move || {
            let result = work(&shared, &sender);
            let _ = sender.send(News::Ended(result));
        });
    }
    drop(sender);
    let mut left = count;
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
            Err(RecvTimeoutError::Disconnected) => break,
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
        let path = shared.cache.join(layout::blob(&blob.digest));
        let output = Output::file(&path)?;
        let fetched = download(shared, &blob, output.made(), news)
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
    hash: Hasher,
    done: u64,
}

fn download(shared: &Shared, blob: &Descriptor, file: &File, news: &Sender<News>) -> Result<()> {
    let mut arriving = Arriving {
        blob,
        file,
        hash: blob.digest.hasher(),
        done: 0,
    };
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
                "{} gave {} bytes of {}",
                client.host(),
                arriving.done,
                blob.size
            ))
            .hint("try again; if it stays so, tell who runs the registry"),
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

impl Arriving<'_> {
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
            self.done += count as u64;
            if self.done > self.blob.size {
                let sentence = format!(
                    "{} gives more than the {} bytes that it has",
                    client.host(),
                    self.blob.size
                );
                return Err(Broken::ForGood(
                    Error::new(sentence).hint("tell who runs the registry"),
                ));
            }
            self.hash.update(&chunk[..count]);
            let mut file = self.file;
            file.write_all(&chunk[..count])
                .explain(|| "can't write to the cache".into())
                .map_err(|error| Broken::ForGood(error.hint("`chariot gc` makes room there")))?;
            let _ = news.send(News::Bytes(
                self.blob.digest.clone(),
                self.done,
                self.blob.size,
            ));
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

    fn verify(self, client: &Client) -> Result<()> {
        let found = self.hash.finish();
        match found == self.blob.digest {
            true => Ok(()),
            false => Err(Error::new(format!(
                "what {} gave is damaged or forged: its digest is {found}",
                client.host()
            ))
            .hint("try again; if it stays so, tell who runs the registry")),
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
        let sentence = format!("{} fell silent: no byte came for too long", client.host());
        return Broken::ForGood(
            Error::new(sentence)
                .hint("try again; the site's file says how long to wait: waits.byte"),
        );
    }
    let sentence = format!("{} broke off: {}", client.host(), io_reason(error));
    Broken::Perhaps(
        Error::new(sentence)
            .hint("try again; what has come is kept only while Chariot itself tries"),
    )
}
