//! Entering the container of a running process, as its owner and as nobody else.
//!
//! The owner of a user namespace may trace every process in it: host's root, if it went in, would be the owner's to
//! command. So everybody is asked for, on what was opened once and not on a number that may be another process's by
//! now; and root becomes the owner before it goes in.

use chariot_core::sys::descriptors;
use chariot_core::sys::rights;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use rustix::fs::OFlags;

use chariot_core::environment::Environment;
use chariot_core::error::{Error, Explain, Result};
use chariot_core::handover;
use chariot_core::open;
use chariot_core::sys::namespaces::Namespaces;
use chariot_core::sys::{self, fork};
use chariot_core::users;

/// The longest file of proc(5) that is read, in bytes: a process can have so many variables, and then some.
const LARGEST: u64 = 8 << 20;

/// How wide the first column of proc_pid_limits(5) is.
const WIDTH_OF_NAME: usize = 25;

/// A process in a container that Chariot made, held by its directory in proc(5).
#[derive(Debug)]
pub struct Member {
    number: i32,
    directory: OwnedFd,
    namespaces: Namespaces,
    owner: u32,
}

impl Member {
    /// The process of that number.
    ///
    /// # Errors
    /// There is none, it is in no container, or this process may not know.
    pub fn find(number: i32) -> Result<Member> {
        let what = || can_not(number);
        let path = PathBuf::from(format!("/proc/{number}"));
        let directory = sys::open(&path, OFlags::PATH | OFlags::DIRECTORY)
            .explain(what)
            .map_err(|error| error.hint("there is no such process"))?;
        let namespaces = Namespaces::in_directory(&directory).map_err(|error| {
            let hint = match error.errno() {
                Errno::ENOENT | Errno::ESRCH => "there is no such process",
                _ => "only processes of your own can be joined",
            };
            Error::new(format!("{}: {error}", what())).hint(hint)
        })?;
        let owner = namespaces.owner().explain(what)?;
        let member = Member {
            number,
            directory,
            namespaces,
            owner,
        };
        let is_member = member.is_in_container().explain(what)?
            && member.has_owner_alone()
            && member.is_still_there().explain(what)?;
        match is_member {
            true => Ok(member),
            false => Err(Error::new(format!("{}: it is not in a container", what()))
                .hint("PID is the number of a process inside, as ps shows it on this machine")),
        }
    }

    /// Whether it has a user namespace other than this process's, and a mount namespace that belongs to it. A user's
    /// programs outside have not, nor has the server of an image.
    fn is_in_container(&self) -> sys::Call<bool> {
        let own = Namespaces::own()?;
        let is_own = sys::place_of(own.user)? == sys::place_of(&self.namespaces.user)?;
        Ok(!is_own && self.namespaces.belong_together()?)
    }

    /// Whether the owner is the only user that the namespace has: Chariot's are so. In one that an administrator's
    /// tool has made for others, root is the owner, and a stranger is who has all rights inside.
    fn has_owner_alone(&self) -> bool {
        let map = self.map("uid_map").unwrap_or_default();
        matches!(&map[..], [(_, outside, 1)] if *outside == self.owner)
    }

    /// Whether what the map says is said of the namespaces that are open: a process can enter others.
    fn is_still_there(&self) -> sys::Call<bool> {
        let now = Namespaces::in_directory(&self.directory)?;
        Ok(sys::place_of(now.user)? == sys::place_of(&self.namespaces.user)?)
    }

    /// A map of user_namespaces(7): the first number inside, the first outside, and how many.
    fn map(&self, name: &str) -> Option<Vec<(u32, u32, u32)>> {
        let text = self.file(name)?;
        let line = |line: &str| {
            let mut numbers = line.split_whitespace().map(|number| number.parse().ok());
            Some((numbers.next()??, numbers.next()??, numbers.next()??))
        };
        std::str::from_utf8(&text).ok()?.lines().map(line).collect()
    }

    /// A file of its directory in proc(5).
    pub(crate) fn file(&self, name: &str) -> Option<Vec<u8>> {
        let (file, _) = open::regular_at(&self.directory, Path::new(name)).ok()?;
        open::all_of(&file, LARGEST).ok()
    }

    /// Its number.
    pub fn number(&self) -> i32 {
        self.number
    }

    /// Its namespaces.
    pub fn namespaces(&self) -> &Namespaces {
        &self.namespaces
    }

    /// The directory that it is in, as it is called inside.
    pub fn working_directory(&self) -> PathBuf {
        let link = rustix::fs::readlinkat(&self.directory, "cwd", Vec::new());
        let path = link.map(|path| PathBuf::from(OsStr::from_bytes(path.to_bytes())));
        path.ok()
            .filter(|path| path.is_absolute())
            .unwrap_or_else(|| PathBuf::from("/"))
    }

    /// Whose the container is.
    pub fn owner(&self) -> u32 {
        self.owner
    }

    /// Whether the container is the caller's.
    pub fn is_own(&self) -> bool {
        self.owner == rights::user()
    }

    /// Refuses the container of somebody else.
    ///
    /// # Errors
    /// It is.
    pub fn refuse_foreign(&self) -> Result<()> {
        match self.is_own() {
            true => Ok(()),
            false => Err(Error::new(format!(
                "{}: it belongs to user {}",
                can_not(self.number),
                self.owner
            ))
            .hint("only its owner can enter a container, and root as its owner: chariot exec")),
        }
    }

    /// Makes this process, if it is root's, one of the owner in all that counts: user, all groups as the user database
    /// has them, limits, keys, no descriptors but the standard streams. Gives the variables of the process in the
    /// container, which take the place of root's. What the owner could have prepared is read by the owner's process.
    ///
    /// # Errors
    /// This process is not root's, or cannot become the owner.
    pub fn become_owner(&self) -> Result<Environment> {
        let what = || format!("{} as its owner, user {}", can_not(self.number), self.owner);
        if rights::user() != 0 {
            self.refuse_foreign()?;
        }
        let unknown = || {
            Error::new(format!("{}: the user database has no such user", what())).hint(
                "getent passwd and id -G have to know the user on this machine, with all groups",
            )
        };
        let user = users::user(self.owner).ok_or_else(unknown)?;
        let groups = users::groups(&user.name).ok_or_else(unknown)?;
        let limits = self.limits();
        let group = self.group_among(&groups).ok_or_else(unknown)?;
        descriptors::pass_on_standard_streams_only().explain(what)?;
        fork::set_limits(&limits);
        rights::become_user(self.owner, group, &groups).explain(what)?;
        let variables = self.file("environ").ok_or_else(|| {
            Error::new(format!("{}: its variables can't be read", what()))
                .hint("another process in the container may let them be read")
        })?;
        let texts = variables.split(|byte| *byte == 0).map(OsStr::from_bytes);
        Ok(texts.filter_map(handover::split).collect())
    }

    /// The owner's group that the container has a number for, if it is one that the owner has; else the primary one.
    fn group_among(&self, groups: &[u32]) -> Option<u32> {
        let map = self.map("gid_map")?;
        let inside = map.iter().map(|(_, outside, _)| outside);
        inside
            .chain(groups)
            .find(|group| groups.contains(group))
            .copied()
    }

    /// Its limits, as [`fork::set_limits`] takes them: the lines of proc_pid_limits(5) are in the order of their numbers.
    /// Not by prlimit(2), for which root needs a capability that it does not have everywhere.
    fn limits(&self) -> Vec<(u32, u64, u64)> {
        let text = self.file("limits").unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let value = |word: &str| match word {
            "unlimited" => Some(u64::MAX),
            number => number.parse().ok(),
        };
        let limit = |(number, line): (u32, &str)| {
            let mut words = line.get(WIDTH_OF_NAME..)?.split_whitespace();
            Some((number, value(words.next()?)?, value(words.next()?)?))
        };
        (0..).zip(text.lines().skip(1)).filter_map(limit).collect()
    }
}

fn can_not(number: i32) -> String {
    format!("can't enter the container of process {number}")
}
