//! Entering: the last of the three stages. [`create`] is the sequence that security orders, one page,
//! to be read against namespaces(7), user_namespaces(7), mount_namespaces(7) and pivot_root(2).
//! What users order is data, [`Plan::mounts`].

mod below;
mod changes;
mod elf;
mod hooks;
mod kept;
mod layered;
pub mod member;
mod points;
pub mod program;
mod ranks;
mod reach;
mod root;
mod settle;

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Instant;

use crate::plan::{Plan, identity::Identity};
use chariot_core::environment::Edit;
use chariot_core::error::{Explain, Result};
use chariot_core::sys::mounts;
use chariot_core::sys::namespaces;
use chariot_core::sys::process;
use root::NewRoot;

/// A container that this process is in, and what was found there.
#[derive(Debug)]
pub struct Entered {
    /// Where the command starts.
    pub workdir: PathBuf,
    /// All changes of the environment.
    pub environment: Vec<Edit>,
    /// The file to execute, if the command is known.
    pub program: Option<PathBuf>,
    /// Where calls of the host's commands come in, if the plan has any.
    pub listener: Option<OwnedFd>,
    /// This process in the host's proc(5): what is at /proc now, an image and a user have chosen.
    pub process: OwnedFd,
}

/// Makes the container that `plan` describes and moves this process into it. The process must have
/// one thread. After an error it is of no use any more: it may be half inside.
///
/// # Errors
/// The step that failed, with its call and the kernel's answer.
pub fn create(plan: &Plan) -> Result<Entered> {
    let what = || format!("can't create a container of the image {}", plan.image.word);
    let mut clock = Clock::start();

    let process = process::own_directory().explain(what)?;

    // One new user namespace, in which this process may do what follows, and a mount namespace that
    // belongs to it. No other kind: ranks must share network, IPC and process IDs with their host.
    namespaces::unshare_user().explain(what)?;
    namespaces::write_id_maps(&process, plan.identity.user, plan.identity.group).explain(what)?;
    // The servers of image files belong to the user namespace and not to the mount namespace, which
    // ends with the last that uses it, and the servers with that.
    let servers = root::serve(plan)?;
    namespaces::unshare_mounts().explain(what)?;
    clock.lap("namespaces");

    // Nothing mounted from here on reaches the host; unmounts of the host still reach us, so that a
    // file system that an administrator unmounts is not held busy here.
    mounts::receive_only().explain(what)?;

    // The image, or an overlay of it, on top of "/", where no path leads to it yet.
    let mut root = NewRoot::build(plan, servers)?;
    clock.lap("root");

    // The mounts, in order. Sources are opened by path in this namespace, with the user's rights;
    // destinations are opened inside the new root and mounted on by descriptor, so that no symbolic
    // link of the image can aim a mount elsewhere.
    for mount in &plan.mounts {
        root.mount(mount)?;
    }
    root.seal().explain(what)?;
    root.refuse_other_proc()
        .map_err(|error| error.within(&what()))?;
    // Programs that devices want run: with the host's files, and the new root as a descriptor.
    hooks::run(plan, root.tree())?;
    clock.lap("mounts");

    // From here on the host is only what was bound.
    mounts::change_root(root.tree()).explain(what)?;
    // Root of the container can take away and make writable what was mounted in its own user namespace. What came with
    // it from another one is locked, mount_namespaces(7). To a user's container it is of no use: there is nothing that
    // the user may not do outside.
    if plan.is_of_root {
        let Identity { user, group, .. } = plan.identity;
        namespaces::unshare_user().explain(what)?;
        namespaces::write_id_maps(&process, (user.0, user.0), (group.0, group.0)).explain(what)?;
        namespaces::unshare_mounts().explain(what)?;
    }
    // Set-user-ID programs of the image and of the host give nothing. The capabilities that this
    // process has over its own namespace go away when it executes a program, unless it is root.
    namespaces::no_new_privileges().explain(what)?;
    root.begin_watches();
    clock.lap("pivot");

    let listener = root.listener();
    settle::look_around(plan, listener, process)
}

/// Says how long each step took, to whoever asked for it with `--verbose`.
#[derive(Debug)]
pub struct Clock {
    last: Instant,
}

impl Clock {
    /// Starts now.
    pub fn start() -> Clock {
        Clock {
            last: Instant::now(),
        }
    }

    /// Tells the time since the last call.
    pub fn lap(&mut self, step: &str) {
        let now = Instant::now();
        tracing::debug!("{step}: {} us", (now - self.last).as_micros());
        self.last = now;
    }
}
