//! Images that the site trusts, mounted by the kernel: the one thing that root does with what a user named. The user's
//! own process finds out which path that is; root opens it only on a way that is root's alone.
//!
//! The mount has to be made here, as root and before there is a user namespace: only then is it locked, and
//! nobody inside can take "read-only" or "no set-user-ID" from it. It lies in a mount namespace of the step's
//! own, in which all its tasks go on; with the last of them it is gone, and the loop device with it. Whatever
//! does not work out, the image is served as any other.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

use chariot_core::error::{Explain, Result};
use chariot_core::escape;
use chariot_core::handover::{self, Request, Said};
use chariot_core::options::given::CARRIER;
use chariot_core::sys::namespaces::{self, Namespaces};
use chariot_core::sys::rights::{self, Ids};
use chariot_core::sys::sharing::{self, MeetingPlace, Readiness};
use chariot_core::sys::{self, loopback, mounts};
use chariot_core::trusted;

use crate::creator;
use crate::spank::{self, NAME, Slurm};
use crate::state::{self, State};

/// How long the user's process may take to find the image.
const PATIENCE: Duration = Duration::from_secs(20);

/// PATH_MAX of limits.h.
const LONGEST_PATH: usize = 4096;

/// As root, in the task: sees to it that the image is mounted for the step, if the site trusts it.
pub(crate) fn prepare(slurm: &Slurm<'_>) {
    state::with(|state| {
        let Some(meeting) = &state.trusted else {
            return;
        };
        match meet(slurm, state, meeting) {
            Ok(mounted) => state.mounted = mounted,
            Err(error) => spank::log(&format!(
                "{NAME}: served and not mounted by the kernel: {error}"
            )),
        }
    });
}

/// The first task mounts, the others join it. Gives the identity of the image's file.
fn meet(slurm: &Slurm<'_>, state: &State, meeting: &MeetingPlace) -> Result<Option<String>> {
    let what = || "can't meet the other tasks".to_owned();
    if meeting.state() == Readiness::Missing {
        let _held = meeting.lock(state.config.wait_container).explain(what)?;
        if meeting.state() == Readiness::Missing {
            let mounted = mount(slurm, state, meeting);
            let is_mounted = matches!(mounted, Ok(Some(_)));
            meeting.publish(match is_mounted {
                true => Readiness::Ready,
                false => Readiness::Failed(0),
            });
            return mounted;
        }
    }
    if meeting.state() != Readiness::Ready {
        return Ok(None);
    }
    let [namespace, identity] = meeting.look_at().explain(what)?;
    let identity = handover::read(&File::from(identity)).explain(what)?;
    namespaces::join_mounts(namespace).explain(what)?;
    Ok(String::from_utf8(identity).ok())
}

fn mount(slurm: &Slurm<'_>, state: &State, meeting: &MeetingPlace) -> Result<Option<String>> {
    let what = || "can't mount the image".to_owned();
    let Some(user) = slurm.user() else {
        return Ok(None);
    };
    let Some(path) = said_by_the_user(slurm, state, &user)? else {
        return Ok(None);
    };
    let image = trusted::open(&path, &state.config.kernel_mount, &user)?;
    let identity = chariot_core::open::identity(&image.file).explain(what)?;
    let device = loopback::attach(&image.file, image.start, image.length).explain(what)?;
    namespaces::unshare_mounts().explain(what)?;
    mounts::receive_only().explain(what)?;
    let tree = mounts::squashfs(&device.path).explain(what)?;
    mounts::attach(
        &tree,
        trusted::mount_point()?,
        trusted::MOUNT_POINT.as_ref(),
    )
    .explain(what)?;
    let record = sys::memory_file_of(c"mounted", identity.as_bytes()).explain(what)?;
    let own = Namespaces::own().explain(what)?;
    sharing::send(meeting.sender(), &[own.mount.as_fd(), record.as_fd()]).explain(what)?;
    Ok(Some(identity))
}

/// Has a process that is only the user say where the image lies: what the user named leads through directories of the
/// user's. None if it is no file that the kernel could mount. No descriptor is taken from there: closing one alone can
/// wait for whoever serves its file system.
fn said_by_the_user(slurm: &Slurm<'_>, state: &State, user: &Ids) -> Result<Option<PathBuf>> {
    let what = || "can't have the image looked up".to_owned();
    let Some(options) = slurm.variable(CARRIER) else {
        return Ok(None);
    };
    // Handed on as it is: not a byte of the user's is understood here.
    let request = Request {
        options: options.to_string_lossy().into_owned(),
        config: state.paths.config.clone(),
        environment: slurm.environment(),
        ..Request::default()
    };
    let launcher = &state.paths.launcher;
    let helper = creator::start(launcher, "open", &request, None, |command| {
        rights::run_as(command, user);
    })?;
    let report = helper.report(PATIENCE).explain(what)?;
    let path = report
        .lines()
        .find_map(|line| match handover::read_line(line) {
            Some(Said::Image(path)) => Some(path),
            _ => None,
        });
    // What no call would take is not for the log either, and whoever has traced the user's process can say anything.
    Ok(path
        .filter(|path| path.len() < LONGEST_PATH && escape::line(path) == *path)
        .map(PathBuf::from))
}
