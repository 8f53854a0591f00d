//! Who is asking, and from where: facts of the host that a plan is made from.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use crate::error::{Error, Explain, Result};

/// The oldest kernel that has every call that Chariot makes.
pub const OLDEST_KERNEL: (u32, u32) = (5, 14);

/// The variables of a process, in its order.
pub type Environment = Vec<(OsString, OsString)>;

/// The caller.
#[derive(Debug, Clone)]
pub struct Host {
    /// The effective user ID.
    pub uid: u32,
    /// The effective group ID.
    pub gid: u32,
    /// The caller's line of the user database.
    pub user: User,
    /// The name of the caller's primary group.
    pub group: String,
    /// The working directory, if it has a path.
    pub directory: Option<PathBuf>,
    /// The caller's environment.
    pub environment: Environment,
}

/// An entry of the user database, passwd(5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Login name.
    pub name: String,
    /// Full name.
    pub gecos: String,
    /// Home directory.
    pub home: PathBuf,
    /// Login shell.
    pub shell: String,
}

impl Host {
    /// Looks the caller up. The user database is asked now, from outside the container: an image
    /// knows nothing of the site's LDAP.
    pub fn look(environment: Environment, directory: Option<PathBuf>) -> Host {
        let uid = nix::unistd::geteuid().as_raw();
        let gid = nix::unistd::getegid().as_raw();
        // A node with a stale user database should not keep a job from running: invent the names.
        let user = user(uid).unwrap_or_else(|| User {
            name: format!("user{uid}"),
            gecos: String::new(),
            home: PathBuf::from("/"),
            shell: "/bin/sh".into(),
        });
        let group = group(gid).unwrap_or_else(|| format!("group{gid}"));
        Host {
            uid,
            gid,
            user,
            group,
            directory,
            environment,
        }
    }

    /// A variable of the caller's environment.
    pub fn variable(&self, name: &str) -> Option<&OsStr> {
        find(&self.environment, name)
    }

    /// Replaces `$HOME`, `$USER`, `$XDG_DATA_HOME` and `$XDG_CACHE_HOME` in a directory of the site's
    /// file; the XDG variables fall back on what the XDG Base Directory Specification says.
    pub fn expand(&self, text: &str) -> PathBuf {
        let home = self
            .variable("HOME")
            .map_or_else(|| self.user.home.clone(), PathBuf::from);
        let xdg = |name: &str, fallback: &str| {
            let set = self
                .variable(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute());
            set.unwrap_or_else(|| home.join(fallback))
                .to_string_lossy()
                .into_owned()
        };
        let text = text
            .replace("$XDG_DATA_HOME", &xdg("XDG_DATA_HOME", ".local/share"))
            .replace("$XDG_CACHE_HOME", &xdg("XDG_CACHE_HOME", ".cache"))
            .replace("$HOME", &home.to_string_lossy())
            .replace("$USER", &self.user.name);
        PathBuf::from(text)
    }
}

/// A variable in a list of variables.
pub fn find<'a>(environment: &'a Environment, name: &str) -> Option<&'a OsStr> {
    environment
        .iter()
        .find(|(known, _)| known == name)
        .map(|(_, value)| value.as_os_str())
}

/// Refuses a kernel that lacks calls that Chariot makes.
///
/// # Errors
/// Names the kernel that is running and the oldest that will do.
pub fn refuse_old_kernel() -> Result<()> {
    let name = nix::sys::utsname::uname()
        .map_err(|errno| crate::error::CallError::new("uname()", errno))
        .explain(|| "can't tell which kernel is running".into())?;
    let release = name.release().to_string_lossy().into_owned();
    if is_new_enough(&release) {
        return Ok(());
    }
    let (major, minor) = OLDEST_KERNEL;
    Err(
        Error::new(format!("Linux {release} is too old for Chariot"))
            .hint(format!("Chariot needs Linux {major}.{minor} or newer")),
    )
}

fn is_new_enough(release: &str) -> bool {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= OLDEST_KERNEL,
        // A release that is no number is somebody's own kernel; its calls will tell.
        _ => true,
    }
}

/// A user's entry of the user database, if there is one.
#[cfg(not(target_feature = "crt-static"))]
pub(crate) fn user(uid: u32) -> Option<User> {
    let user = nix::unistd::User::from_uid(uid.into()).ok()??;
    Some(User {
        name: user.name,
        gecos: user.gecos.to_string_lossy().into_owned(),
        home: user.dir,
        shell: user.shell.to_string_lossy().into_owned(),
    })
}

#[cfg(not(target_feature = "crt-static"))]
fn group(gid: u32) -> Option<String> {
    nix::unistd::Group::from_gid(gid.into())
        .ok()?
        .map(|group| group.name)
}

// A static binary has no NSS: glibc's own getent(1) asks LDAP and SSSD in its place.
#[cfg(target_feature = "crt-static")]
pub(crate) fn user(uid: u32) -> Option<User> {
    let line = getent("passwd", uid)?;
    let mut fields = line.trim_end().split(':').map(str::to_owned);
    let name = fields.next()?;
    let mut fields = fields.skip(3);
    Some(User {
        name,
        gecos: fields.next()?,
        home: fields.next()?.into(),
        shell: fields.next()?,
    })
}

#[cfg(target_feature = "crt-static")]
fn group(gid: u32) -> Option<String> {
    getent("group", gid)?.split(':').next().map(str::to_owned)
}

#[cfg(target_feature = "crt-static")]
fn getent(database: &str, id: u32) -> Option<String> {
    let mut command = std::process::Command::new("/usr/bin/getent");
    let output = command
        .arg(database)
        .arg(id.to_string())
        .env_clear()
        .output()
        .ok()?;
    String::from_utf8(output.stdout)
        .ok()
        .filter(|line| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_before_5_14_are_refused_and_newer_ones_are_not() {
        for (release, enough) in [
            ("5.13.19-generic", false),
            ("4.18.0-477.el8.x86_64", false),
            ("5.14.0-362.el9.x86_64", true),
            ("6.1.0", true),
            ("10.0", true),
            ("custom", true),
        ] {
            assert_eq!(is_new_enough(release), enough, "{release}");
        }
    }

    #[test]
    fn directories_of_the_site_file_know_the_user() {
        let mut host = Host::look(vec![("HOME".into(), "/h".into())], None);
        host.user.name = "u".into();
        assert_eq!(
            host.expand("$XDG_DATA_HOME/chariot"),
            PathBuf::from("/h/.local/share/chariot")
        );
        assert_eq!(
            host.expand("/lustre/$USER/img"),
            PathBuf::from("/lustre/u/img")
        );
        host.environment
            .push(("XDG_CACHE_HOME".into(), "/c".into()));
        assert_eq!(host.expand("$XDG_CACHE_HOME/x"), PathBuf::from("/c/x"));
    }
}
