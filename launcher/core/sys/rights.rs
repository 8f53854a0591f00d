//! Acting as a user, for root: in a program that is executed, or for one file.

use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::errno::Errno;
use nix::unistd::{Gid, Uid, getegid, geteuid, getgroups, setfsgid, setfsuid};
use rustix::thread::{set_thread_gid, set_thread_groups, set_thread_uid};

use super::{Call, called, rustix_called};
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

/// Has a command run as this user alone: setgroups(2), setgid(2), setuid(2).
pub fn become_user(command: &mut Command, ids: &Ids) {
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
        rustix_called(set_thread_groups(&ids.gids()), || "setgroups()".into())?;
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
            become_user(
                cat.arg(&path).stderr(std::process::Stdio::null()),
                &ids(groups),
            );
            assert_eq!(cat.status().unwrap().success(), can, "{mode:o} {groups:?}");
        }
        set_permissions(&path, Permissions::from_mode(0o000)).unwrap();
        assert!(File::open(&path).is_ok(), "root is itself again");
    }
}
