//! Whether a container can be made here: by making one. Settings only explain why it cannot.

use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::finding::{CONTAINERS, Finding};
use super::kernel::LARGEST;
use crate::host::is_root_of_machine;
use chariot_core::open;
use chariot_core::sys::{Call, fork, mounts, namespaces, process, rights};

/// The user nobody, and the group: what root may do says nothing about users.
const NOBODY: u32 = 65_534;

/// What is added to the errno of what was tried inside, to tell it from that of the container itself.
const INSIDE: u8 = 0x80;

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Worked,
    /// There was no container to try it in.
    NoContainer(Errno),
    Failed(Errno),
}

/// Runs `attempt` in a container that goes away at once; of root's as the user nobody.
pub(super) fn try_inside(attempt: impl FnOnce() -> Call<()>) -> Outcome {
    try_as_user(|| {
        let (user, group) = (rights::user(), rights::group());
        let made = namespaces::unshare_user()
            .and_then(|()| process::own_directory())
            .and_then(|own| namespaces::write_id_maps(own, (user, user), (group, group)))
            .and_then(|()| namespaces::unshare_mounts())
            .and_then(|()| mounts::receive_only());
        match made {
            Ok(()) => code_of(&attempt(), INSIDE),
            Err(_) => code_of(&made, 0),
        }
    })
}

/// The same without a container.
pub(super) fn try_outside(attempt: impl FnOnce() -> Call<()>) -> Outcome {
    try_as_user(|| code_of(&attempt(), INSIDE))
}

fn code_of(result: &Call<()>, inside: u8) -> u8 {
    let number = |errno: Errno| u8::try_from(errno as i32).unwrap_or(0).max(1);
    match result {
        Ok(()) => 0,
        Err(error) => number(error.errno()) | inside,
    }
}

/// Only a number comes back from the child.
fn try_as_user(work: impl FnOnce() -> u8) -> Outcome {
    let is_root = is_root_of_machine();
    let child = fork::fork(move || {
        let became = match is_root {
            true => rights::become_user(NOBODY, NOBODY, &[]).and_then(|()| process::show_in_proc()),
            false => Ok(()),
        };
        match became {
            Ok(()) => work(),
            Err(_) => code_of(&became, 0),
        }
    });
    match child.and_then(|child| child.wait()) {
        Ok(0) => Outcome::Worked,
        Ok(code) if code & INSIDE != 0 => {
            Outcome::Failed(Errno::from_raw(i32::from(code & !INSIDE)))
        }
        Ok(code) => Outcome::NoContainer(Errno::from_raw(i32::from(code))),
        Err(error) => Outcome::NoContainer(error.errno()),
    }
}

pub(super) fn finding() -> Finding {
    let launcher = std::env::current_exe().unwrap_or_default();
    of_outcome(try_inside(|| Ok(())), &Settings::read(), &launcher)
}

fn of_outcome(outcome: Outcome, settings: &Settings, launcher: &Path) -> Finding {
    match outcome {
        Outcome::Worked => {
            let who = match is_root_of_machine() {
                true => ", by the user nobody",
                false => "",
            };
            Finding::good(CONTAINERS, format!("can be made, and mounts in them{who}"))
        }
        Outcome::NoContainer(errno) | Outcome::Failed(errno) => {
            let (cause, remedy) = settings.explain(errno, launcher);
            Finding::bad(CONTAINERS, format!("{}: {cause}", errno.desc()), remedy)
        }
    }
}

/// What can keep users from making user namespaces. A setting that does not exist forbids nothing.
#[derive(Debug, Clone)]
struct Settings {
    /// `user.max_user_namespaces`.
    most: Option<u64>,
    /// `kernel.unprivileged_userns_clone`, of Debian's kernels.
    clone: Option<u64>,
    /// `kernel.apparmor_restrict_unprivileged_userns`, of Ubuntu's.
    apparmor: Option<u64>,
    /// Where AppArmor's profile of ours is.
    profile: PathBuf,
    /// Whether the kernel has user namespaces at all.
    is_built_in: bool,
    /// Whether a filter of system calls holds for this process, as container engines have one.
    is_filtered: bool,
    /// Whether SELinux enforces its policy.
    has_selinux: bool,
}

impl Settings {
    fn read() -> Settings {
        let text = |path: &str| open::read_text(Path::new(path), LARGEST).ok();
        let number = |path: &str| text(path).and_then(|text| text.trim().parse::<u64>().ok());
        let status = text("/proc/self/status").unwrap_or_default();
        let filter = status
            .lines()
            .find_map(|line| line.strip_prefix("Seccomp:"));
        Settings {
            most: number("/proc/sys/user/max_user_namespaces"),
            clone: number("/proc/sys/kernel/unprivileged_userns_clone"),
            apparmor: number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
            profile: PathBuf::from("/etc/apparmor.d/chariot"),
            is_built_in: Path::new("/proc/self/ns/user").exists(),
            is_filtered: filter.is_some_and(|filter| filter.trim() == "2"),
            has_selinux: number("/sys/fs/selinux/enforce") == Some(1),
        }
    }

    /// The cause of this answer of the kernel's, and what removes it.
    fn explain(&self, errno: Errno, launcher: &Path) -> (String, String) {
        let told = |cause: &str, remedy: &str| (cause.to_owned(), remedy.to_owned());
        let kept = "and the same in a file of /etc/sysctl.d";
        match self {
            Settings { is_built_in: false, .. } => told(
                "this kernel has no user namespaces",
                "run one that is built with CONFIG_USER_NS",
            ),
            Settings { most: Some(0), .. } if errno == Errno::ENOSPC => told(
                "user.max_user_namespaces = 0",
                &format!("sysctl -w user.max_user_namespaces=65536, {kept}"),
            ),
            Settings { most: Some(most), .. } if errno == Errno::ENOSPC => (
                format!("all {most} of user.max_user_namespaces are in use, or a namespace around this one has its own limit"),
                format!("sysctl -w user.max_user_namespaces with a larger number, {kept}"),
            ),
            Settings { clone: Some(0), .. } => told(
                "kernel.unprivileged_userns_clone = 0",
                &format!("sysctl -w kernel.unprivileged_userns_clone=1, {kept}"),
            ),
            Settings { apparmor: Some(1..), .. } => (
                "kernel.apparmor_restrict_unprivileged_userns = 1, and no profile of AppArmor lets \
                 this program make them"
                    .to_owned(),
                self.load_profile(launcher),
            ),
            Settings { is_filtered: true, .. } => told(
                "a filter of system calls holds for this process, as container engines have one",
                "run it outside of that container, or turn the engine's filter off",
            ),
            Settings { has_selinux: true, .. } => told(
                "SELinux enforces its policy",
                "ausearch -m avc -c chariot says what it denies; the users' domain needs user_namespace create",
            ),
            _ => told(
                "no setting that Chariot knows forbids it",
                "is this a chroot, or another container? The kernel makes no user namespace in a chroot",
            ),
        }
    }

    /// How the launcher gets its profile.
    fn load_profile(&self, launcher: &Path) -> String {
        let text = open::read_text(&self.profile, LARGEST).unwrap_or_default();
        let (file, launcher) = (self.profile.display(), launcher.display());
        let load = format!("apparmor_parser --replace {file}");
        match text.contains(&format!(" {launcher} ")) {
            true => load,
            false if text.is_empty() => format!(
                "write etc/apparmor.d/chariot, which the package has as /usr/share/chariot/apparmor, to {file}, \
                 for the path {launcher}, and load it: {load}"
            ),
            false => {
                format!("{file} is for another path: write {launcher} into it, and load it: {load}")
            }
        }
    }
}

#[cfg(test)]
#[path = "namespaces/tests.rs"]
mod tests;
