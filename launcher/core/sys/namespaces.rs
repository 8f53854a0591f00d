//! Namespaces: making them, joining them, and what a process may do inside.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sched::CloneFlags;

use super::{Call, called, quoted};
use crate::error::CallError;

/// `unshare(CLONE_NEWUSER)`, unshare(2): this process alone in a new user namespace. The process must
/// have one thread.
///
/// # Errors
/// The kernel's answer; EPERM, ENOSPC and EACCES are what sites turn user namespaces off with.
pub fn unshare_user() -> Call<()> {
    called(nix::sched::unshare(CloneFlags::CLONE_NEWUSER), || {
        "unshare(CLONE_NEWUSER)".into()
    })
}

/// `unshare(CLONE_NEWNS)`, unshare(2): a mount namespace that belongs to this process's user namespace.
///
/// # Errors
/// The kernel's answer.
pub fn unshare_mounts() -> Call<()> {
    called(nix::sched::unshare(CloneFlags::CLONE_NEWNS), || {
        "unshare(CLONE_NEWNS)".into()
    })
}

/// Writes the one line of each map that an ordinary user may write, user_namespaces(7). `setgroups`
/// must be denied first, or the kernel refuses the group map: dropping a group could otherwise open
/// a file that the group is forbidden. `process` is this process, by [`process::own_directory`](super::process::own_directory).
///
/// # Errors
/// The kernel's answer.
pub fn write_id_maps(process: impl AsFd, user: (u32, u32), group: (u32, u32)) -> Call<()> {
    let process = process.as_fd();
    write(process, "setgroups", "deny")?;
    write(process, "uid_map", &format!("{} {} 1", user.0, user.1))?;
    write(process, "gid_map", &format!("{} {} 1", group.0, group.1))
}

fn write(process: BorrowedFd<'_>, name: &str, text: &str) -> Call<()> {
    use rustix::fs::{Mode, OFlags, openat};
    let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let written = openat(process, name, flags, Mode::empty())
        .and_then(|file| rustix::io::write(file, text.as_bytes()));
    super::called(written, || format!("write(\"{name}\", \"{text}\")")).map(drop)
}

/// The two namespaces of a container, held open.
#[derive(Debug)]
pub struct Namespaces {
    /// The user namespace.
    pub user: OwnedFd,
    /// The mount namespace.
    pub mount: OwnedFd,
}

impl Namespaces {
    /// Those of this process.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn own() -> Call<Namespaces> {
        Namespaces::in_directory(super::process::own_directory()?)
    }

    /// Those of a process that is held by its directory in proc(5), proc_pid_ns(5): not of another one that has its number
    /// by now.
    ///
    /// # Errors
    /// The kernel's answer, ESRCH or ENOENT if the process has ended.
    pub fn in_directory(directory: impl AsFd) -> Call<Namespaces> {
        let open = |name: &str| {
            use rustix::fs::{Mode, OFlags, openat};
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            let result = openat(directory.as_fd(), name, flags, Mode::empty());
            super::called(result, || format!("open(\"{name}\")"))
        };
        Ok(Namespaces {
            user: open("ns/user")?,
            mount: open("ns/mnt")?,
        })
    }

    /// Whose they are, as this process knows users: `ioctl(user, NS_GET_OWNER_UID)`, ioctl_ns(2).
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn owner(&self) -> Call<u32> {
        let mut owner: libc::uid_t = 0;
        // SAFETY: the descriptor is borrowed and so open, and the kernel writes one number into `owner`.
        let result = unsafe {
            libc::ioctl(
                self.user.as_raw_fd(),
                libc::NS_GET_OWNER_UID,
                &raw mut owner,
            )
        };
        called(Errno::result(result).map(|_| owner), || {
            "ioctl(NS_GET_OWNER_UID)".into()
        })
    }

    /// Whether the mount namespace belongs to the user namespace, and not to one of somebody else:
    /// `ioctl(mount, NS_GET_USERNS)`, ioctl_ns(2).
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn belong_together(&self) -> Call<bool> {
        match user_namespace_of(self.mount.as_fd()) {
            Ok(user) => Ok(super::place_of(user)? == super::place_of(&self.user)?),
            // It belongs to none that this process may know of.
            Err(error) if error.errno() == Errno::EPERM => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Enters them: `setns(user, CLONE_NEWUSER)`, `setns(mount, CLONE_NEWNS)`, setns(2). The user
    /// namespace first: it gives the right to enter the other. Root and working directory become
    /// the container's root.
    ///
    /// The kernel lets root into everybody's. The owner of a user namespace may trace whatever is in it, and would
    /// so become root: nobody enters but the owner.
    ///
    /// # Errors
    /// The kernel's answer, EPERM if they are somebody else's.
    pub fn join(&self) -> Call<()> {
        if self.owner()? != super::rights::user() {
            return Err(CallError::new("setns(CLONE_NEWUSER)", Errno::EPERM));
        }
        let join = |namespace: &OwnedFd, flag, name| {
            called(nix::sched::setns(namespace.as_fd(), flag), || {
                format!("setns({name})")
            })
        };
        join(&self.user, CloneFlags::CLONE_NEWUSER, "CLONE_NEWUSER")?;
        join(&self.mount, CloneFlags::CLONE_NEWNS, "CLONE_NEWNS")
    }
}

/// The user namespace that another namespace belongs to: `ioctl(namespace, NS_GET_USERNS)`, ioctl_ns(2).
fn user_namespace_of(namespace: BorrowedFd<'_>) -> Call<OwnedFd> {
    // SAFETY: the descriptor is borrowed and so open; this request has no argument.
    let result = unsafe { libc::ioctl(namespace.as_raw_fd(), libc::NS_GET_USERNS) };
    let number = called(Errno::result(result), || "ioctl(NS_GET_USERNS)".into())?;
    // SAFETY: the kernel has just made this descriptor for this process; nobody else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// `setns(mount, CLONE_NEWNS)`, setns(2), and back to the directory that this process was in, by its name. For
/// root alone, and for mount namespaces of root's own: in one that belongs to a user's namespace, that user decides
/// what root sees.
///
/// # Errors
/// The kernel's answer, EPERM for a mount namespace of somebody else.
pub fn join_mounts(mount: impl AsFd) -> Call<()> {
    let own = super::open(Path::new("/proc/self/ns/user"), rustix::fs::OFlags::RDONLY)?;
    let its = user_namespace_of(mount.as_fd())?;
    if super::place_of(own)? != super::place_of(its)? {
        return Err(CallError::new("setns(CLONE_NEWNS)", Errno::EPERM));
    }
    let here = called(nix::unistd::getcwd(), || "getcwd()".into())?;
    called(nix::sched::setns(mount, CloneFlags::CLONE_NEWNS), || {
        "setns(CLONE_NEWNS)".into()
    })?;
    // A directory that is gone by now was so for the command too; it starts in "/" as Slurm has it.
    let _ = nix::unistd::chdir(&here);
    Ok(())
}

/// `prctl(PR_SET_NO_NEW_PRIVS, 1)`, PR_SET_NO_NEW_PRIVS(2const): no program that this process
/// executes, now or later, gains anything by set-user-ID bits or file capabilities.
///
/// # Errors
/// The kernel's answer.
pub fn no_new_privileges() -> Call<()> {
    called(nix::sys::prctl::set_no_new_privs(), || {
        "prctl(PR_SET_NO_NEW_PRIVS)".into()
    })
}

/// Gives up every capability, for the programs that this process executes too, be its user 0 or not: PR_SET_SECUREBITS
/// with SECBIT_NOROOT, capset(2).
///
/// # Errors
/// The kernel's answer.
pub fn drop_capabilities() -> Call<()> {
    use rustix::thread::{CapabilitiesSecureBits, set_capabilities_secure_bits};
    let bits = CapabilitiesSecureBits::NO_ROOT | CapabilitiesSecureBits::NO_ROOT_LOCKED;
    super::called(set_capabilities_secure_bits(bits), || {
        "prctl(PR_SET_SECUREBITS, SECBIT_NOROOT)".into()
    })?;
    clear_capabilities()
}

/// The same for this process as it is: capset(2). As user 0, a program that it executes has them again.
///
/// # Errors
/// The kernel's answer.
pub fn clear_capabilities() -> Call<()> {
    keep_capabilities(rustix::thread::CapabilitySet::empty())
}

/// Gives up all but the one by which descriptors of processes that have capabilities can be reached, ptrace(2).
///
/// # Errors
/// The kernel's answer.
pub fn keep_tracing_alone() -> Call<()> {
    keep_capabilities(rustix::thread::CapabilitySet::SYS_PTRACE)
}

fn keep_capabilities(kept: rustix::thread::CapabilitySet) -> Call<()> {
    use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
    let sets = CapabilitySets {
        effective: kept,
        permitted: kept,
        inheritable: CapabilitySet::empty(),
    };
    super::called(set_capabilities(None, sets), || "capset()".into())
}

/// `chdir(path)`, chdir(2), and a look whether the kernel still shows a path for it: a directory
/// outside the root would be a way out of the container.
///
/// # Errors
/// The kernel's answer; ENOENT for a directory outside the root.
pub fn change_directory(path: &Path) -> Call<()> {
    let call = || format!("chdir({})", quoted(path));
    called(nix::unistd::chdir(path), call)?;
    match nix::unistd::getcwd() {
        Ok(here) if here.is_absolute() => Ok(()),
        Ok(_) => Err(CallError::new(call(), Errno::ENOENT)),
        Err(errno) => Err(CallError::new(call(), errno)),
    }
}
