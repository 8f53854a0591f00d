//! Who this process acts as, what it has gained by being executed, and acting as a user, for root: for good, in a
//! program that is executed, or for one file.

use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::errno::Errno;
use nix::unistd::{
    Gid, Uid, getegid, geteuid, getgroups, getresgid, getresuid, setfsgid, setfsuid, setgroups,
    setresgid, setresuid,
};
use rustix::thread::{set_thread_gid, set_thread_groups, set_thread_uid};

use super::{Call, called, namespaces};
use crate::error::CallError;

/// A user with all groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ids {
    /// The user.
    pub user: u32,
    /// The primary group.
    pub group: u32,
    /// The other groups: without them, who is shut out by a group would be let in.
    pub groups: Vec<u32>,
}

impl Ids {
    fn gids(&self) -> Vec<rustix::process::Gid> {
        let groups = self.groups.iter();
        groups
            .map(|group| rustix::process::Gid::from_raw(*group))
            .collect()
    }
}

/// By what a program that was executed has more rights than whoever executed it, credentials(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gain {
    /// Its file's set-user-ID bit.
    User,
    /// Its file's set-group-ID bit.
    Group,
    /// Its file's capabilities, capabilities(7).
    Capabilities,
    /// A rule of a security module; all that is known is that the kernel says so, `AT_SECURE` of getauxval(3).
    Rule,
}

/// What this process has gained by being executed. An ordinary user's capabilities are no gain if they are ambient:
/// systemd gives whole sessions one.
///
/// # Errors
/// The kernel's answer.
pub fn gain() -> Call<Option<Gain>> {
    let users = called(getresuid(), || "getresuid()".into())?;
    if users.real != users.effective || users.real != users.saved {
        return Ok(Some(Gain::User));
    }
    let groups = called(getresgid(), || "getresgid()".into())?;
    if groups.real != groups.effective || groups.real != groups.saved {
        return Ok(Some(Gain::Group));
    }
    if !users.effective.is_root() {
        let sets = rustix::thread::capabilities(None);
        let sets = called(sets, || "capget()".into())?;
        let is_ambient =
            |one| rustix::thread::capability_is_in_ambient_set(one).unwrap_or_default();
        if !sets.permitted.iter().all(is_ambient) {
            return Ok(Some(Gain::Capabilities));
        }
    }
    // SAFETY: getauxval(3) takes any number.
    let is_secure = unsafe { libc::getauxval(libc::AT_SECURE) } != 0;
    Ok(is_secure.then_some(Gain::Rule))
}

/// The user that this process acts as, geteuid(2).
pub fn user() -> u32 {
    geteuid().as_raw()
}

/// The groups of this process: getgroups(2), getegid(2).
pub fn groups() -> Vec<u32> {
    let own = getegid();
    let others = getgroups().unwrap_or_default();
    let all = others.into_iter().chain([own]);
    all.map(Gid::as_raw).collect()
}

/// Makes this process, which is root's, one of that user for good: setgroups(2), setresgid(2), setresuid(2), no
/// capability, and none of the keys that root's session holds, keyrings(7). Until it executes a program, what it still
/// knows of root is in its memory: it is not dumpable, so that the user cannot look into it.
///
/// # Errors
/// The kernel's answer.
pub fn become_user(user: u32, group: u32, groups: &[u32]) -> Call<()> {
    let groups: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
    let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(group));
    called(setgroups(&groups), || "setgroups()".into())?;
    called(setresgid(gid, gid, gid), || format!("setresgid({group})"))?;
    called(setresuid(uid, uid, uid), || format!("setresuid({user})"))?;
    called(nix::sys::prctl::set_dumpable(false), || {
        "prctl(PR_SET_DUMPABLE, 0)".into()
    })?;
    // setresuid(2) takes them away, but for flags that a process can have inherited, capabilities(7).
    namespaces::clear_capabilities()?;
    // SAFETY: with no name, keyctl(2) reads no memory of this process.
    let keyring = unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            libc::KEYCTL_JOIN_SESSION_KEYRING,
            std::ptr::null::<libc::c_char>(),
        )
    };
    match Errno::result(keyring) {
        // A kernel without keys, and a container that is kept from them with all that it starts.
        Ok(_) | Err(Errno::ENOSYS | Errno::EPERM) => Ok(()),
        Err(errno) => Err(CallError::new("keyctl(KEYCTL_JOIN_SESSION_KEYRING)", errno)),
    }
}

/// Whether this process acts as root.
pub fn is_root() -> bool {
    geteuid().is_root()
}

/// The group that this process acts as, getegid(2).
pub fn group() -> u32 {
    getegid().as_raw()
}

/// Has a command run as this user alone: setgroups(2), setgid(2), setuid(2).
pub fn run_as(command: &mut Command, ids: &Ids) {
    let (user, group) = (
        rustix::process::Uid::from_raw(ids.user),
        rustix::process::Gid::from_raw(ids.group),
    );
    let groups = ids.gids();
    let become_it = move || {
        set_thread_groups(&groups)?;
        set_thread_gid(group)?;
        set_thread_uid(user)?;
        Ok(())
    };
    // SAFETY: between fork(2) and execve(2) it makes three system calls, and takes no lock and no memory.
    unsafe { command.pre_exec(become_it) };
}

/// The rights that a user has on files, in place of root's, until this is dropped. For one thread.
#[derive(Debug)]
pub struct Rights {
    user: Uid,
    group: Gid,
    groups: Vec<rustix::process::Gid>,
}

impl Rights {
    /// Takes them: setgroups(2), setfsgid(2), setfsuid(2).
    ///
    /// # Errors
    /// The kernel's answer; EPERM if this is not root.
    pub fn of(ids: &Ids) -> Call<Rights> {
        let groups = called(getgroups(), || "getgroups()".into())?;
        let own = Rights {
            user: geteuid(),
            group: getegid(),
            groups: groups
                .into_iter()
                .map(|group| rustix::process::Gid::from_raw(group.as_raw()))
                .collect(),
        };
        called(set_thread_groups(&ids.gids()), || "setgroups()".into())?;
        // From here on dropping `own` undoes it. Neither call says whether it worked; asking for what nobody can be does.
        let (user, group) = (Uid::from_raw(ids.user), Gid::from_raw(ids.group));
        setfsgid(group);
        setfsuid(user);
        let is_done =
            setfsgid(Gid::from_raw(u32::MAX)) == group && setfsuid(Uid::from_raw(u32::MAX)) == user;
        match is_done {
            true => Ok(own),
            false => Err(CallError::new("setfsuid()", Errno::EPERM)),
        }
    }
}

impl Drop for Rights {
    fn drop(&mut self) {
        setfsuid(self.user);
        setfsgid(self.group);
        // It worked the other way.
        let _ = set_thread_groups(&self.groups);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{File, Permissions, set_permissions};
    use std::os::unix::fs::{PermissionsExt, chown};

    #[test]
    fn roots_rights_on_files_are_a_users_for_a_while_groups_included() {
        if !geteuid().is_root() {
            return;
        }
        let place = tempfile::tempdir().unwrap();
        set_permissions(place.path(), Permissions::from_mode(0o755)).unwrap();
        let path = place.path().join("file");
        std::fs::write(&path, "").unwrap();
        chown(&path, None, Some(4713)).unwrap();
        let ids = |groups: &[u32]| Ids {
            user: 4711,
            group: 4712,
            groups: groups.to_vec(),
        };
        for (mode, groups, can) in [
            (0o600, &[4713][..], false),
            (0o640, &[4713], true),
            (0o640, &[], false),
            (0o604, &[], true),
            (0o604, &[4713], false),
        ] {
            set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let rights = Rights::of(&ids(groups)).unwrap();
            assert_eq!(File::open(&path).is_ok(), can, "{mode:o} {groups:?}");
            drop(rights);
            let mut cat = Command::new("cat");
            run_as(
                cat.arg(&path).stderr(std::process::Stdio::null()),
                &ids(groups),
            );
            assert_eq!(cat.status().unwrap().success(), can, "{mode:o} {groups:?}");
        }
        set_permissions(&path, Permissions::from_mode(0o000)).unwrap();
        assert!(File::open(&path).is_ok(), "root is itself again");
    }
}
