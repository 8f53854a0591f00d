//! Serving a SquashFS image: one process for each container, which answers the kernel's FUSE requests.
//!
//! It lives in the container's user namespace, where alone /dev/fuse can be opened for the mount, and not
//! in its mount namespace: when the last process and the last descriptor of that are gone, the kernel
//! unmounts the image, and the server's next read of /dev/fuse says ENODEV. So it needs no pid file, no
//! signal and no time-out to end when the container does.
//!
//! A second process watches it, to tell the user why files cannot be read any more: what the server itself
//! complains of, and that it was killed.
//!
//! Both are in the container's user namespace, in which a program of the image can be root, and started among the
//! host's files. So nobody may look into them, and once the image is mounted they have no rights and an empty root.

mod ahead;
mod answers;
mod watch;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::OFlags;

use crate::image::squashfs::SquashFs;
use chariot_core::error::{Explain, Result};
use chariot_core::sys::mounts;
use chariot_core::sys::{self, detached, message, sharing};

/// What is served, and for whom.
#[derive(Debug, Clone)]
pub struct Service {
    /// The image.
    pub image: Arc<SquashFs>,
    /// The image as its user named it.
    pub word: String,
    /// Its file, as ps(1) shows it.
    pub file: PathBuf,
    /// The user and group to whom all files belong, as they are inside.
    pub owner: (u32, u32),
}

/// A server that waits for its file system to be mounted.
#[derive(Debug)]
pub struct Server {
    service: Service,
    device: OwnedFd,
    go: OwnedFd,
    watch: Watch,
}

/// The process that watches a server, which waits until it is told of the container.
#[derive(Debug)]
pub struct Watch(OwnedFd);

impl Server {
    /// Starts the server. To be called in the new user namespace, before the new mount namespace is made.
    ///
    /// # Errors
    /// There is no FUSE on this machine, or no process to be had.
    pub fn start(service: Service) -> Result<Server> {
        let what = || format!("can't serve the image {}", service.word);
        let device = sys::open(Path::new("/dev/fuse"), OFlags::RDWR)
            .explain(what)
            .map_err(|error| {
                error.hint("SquashFS images need FUSE: modprobe fuse; chmod 666 /dev/fuse")
            })?;
        let (go, ready) = sharing::pair().explain(what)?;
        let (told, hears) = sharing::pair().explain(what)?;
        let served = device.try_clone().explain(what)?;
        let keep = vec![
            served.as_raw_fd(),
            ready.as_raw_fd(),
            hears.as_raw_fd(),
            service.image.file().as_raw_fd(),
        ];
        let for_child = service.clone();
        detached::start(c"chariot-watch", keep, move || {
            watch::run(served, ready, &hears, for_child)
        })
        .explain(what)?;
        Ok(Server {
            service,
            device,
            go,
            watch: Watch(told),
        })
    }

    /// Mounts the file system, not yet in any place, and has it served by a process whose root is `empty`. To be called
    /// in the new mount namespace.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn mount(self, empty: BorrowedFd<'_>) -> Result<(OwnedFd, Watch)> {
        let what = || format!("can't mount the image {}", self.service.word);
        let Service { owner, word, .. } = &self.service;
        let most = answers::most_in_one(sys::page_size());
        let tree = mounts::fuse(&self.device, *owner, word, most).explain(what)?;
        sharing::send(self.go.as_fd(), &[empty]).explain(what)?;
        // This process's copy of the device goes away here: a request to a server that has died would
        // otherwise wait for ever.
        Ok((tree, self.watch))
    }
}

impl Watch {
    /// Tells it which container it is for: this process's, now that it is made.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn begin(self, empty: BorrowedFd<'_>) -> Result<()> {
        let what = || "can't watch the server of the image".to_owned();
        let namespace = watch::own_mount_namespace().explain(what)?;
        message::send(self.0.as_fd(), namespace.as_bytes(), &[empty]).explain(what)
    }
}
