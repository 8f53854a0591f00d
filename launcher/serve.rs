//! Serving a SquashFS image: one process for each container, which answers the kernel's FUSE requests.
//!
//! It lives in the container's user namespace, where alone /dev/fuse can be opened for the mount, and not
//! in its mount namespace: when the last process and the last descriptor of that are gone, the kernel
//! unmounts the image, and the server's next read of /dev/fuse says ENODEV. So it needs no pid file, no
//! signal and no time-out to end when the container does.
//!
//! A second process watches it, to tell the user why files cannot be read any more: what the server itself
//! complains of, and that it was killed.

mod ahead;
mod answers;
mod watch;

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::OFlags;

use crate::error::{Explain, Result};
use crate::image::squashfs::SquashFs;
use crate::sys::mounts;
use crate::sys::{self, detached, process};

/// What is served, and for whom.
#[derive(Debug, Clone)]
pub struct Service {
    /// The image.
    pub image: Arc<SquashFs>,
    /// The image as its user named it.
    pub word: String,
    /// The user and group to whom all files belong, as they are inside.
    pub owner: (u32, u32),
}

/// A server that waits for its file system to be mounted.
#[derive(Debug)]
pub struct Server {
    service: Service,
    device: OwnedFd,
    go: OwnedFd,
}

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
        let (ready, go) = process::pipe().explain(what)?;
        let served = device.try_clone().explain(what)?;
        let keep = vec![
            served.as_raw_fd(),
            ready.as_raw_fd(),
            service.image.file().as_raw_fd(),
        ];
        let for_child = service.clone();
        detached::start(c"chariot-watch", keep, move || {
            watch::run(served, ready, for_child)
        })
        .explain(what)?;
        Ok(Server {
            service,
            device,
            go,
        })
    }

    /// Mounts the file system, not yet in any place, and has it served. To be called in the new mount
    /// namespace.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn mount(self) -> Result<OwnedFd> {
        let what = || format!("can't mount the image {}", self.service.word);
        let Service { owner, word, .. } = &self.service;
        let tree = mounts::fuse(&self.device, *owner, word, answers::MOST_IN_ONE).explain(what)?;
        let namespace = watch::mount_namespace("self").explain(what)?;
        writeln!(File::from(self.go), "{namespace}").explain(what)?;
        // This process's copy of the device goes away here: a request to a server that has died would
        // otherwise wait for ever.
        Ok(tree)
    }
}
