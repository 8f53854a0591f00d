//! Who is asking, and from where: facts of the host that a plan is made from.

use chariot_core::sys;
use chariot_core::sys::rights;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use chariot_core::environment::{Environment, find};
use chariot_core::error::{Error, Explain, Result};
use chariot_core::open;
use chariot_core::places;
use chariot_core::private::{self, Whose};
use chariot_core::sys::process;
use chariot_core::users::{self, User};

/// The oldest kernel that has every call that Chariot makes.
pub const OLDEST_KERNEL: (u32, u32) = (5, 14);

/// Numbers from here on are of special steps, slurm.h: a batch script and the shell of salloc have one. Slurm 26.05 writes
/// them as negative numbers, of 32 bits, and older releases none for a script.
const FIRST_SPECIAL_STEP: i64 = 0xffff_fff0;

/// The caller.
#[derive(Debug, Clone)]
pub struct Host {
    /// The effective user ID.
    pub uid: u32,
    /// The effective group ID.
    pub gid: u32,
    /// Whether that is root of this machine, and not a user who is called so in a namespace.
    pub is_root: bool,
    /// The caller's line of the user database.
    pub user: User,
    /// The name of the caller's primary group.
    pub group: String,
    /// The working directory, if it has a path.
    pub directory: Option<PathBuf>,
    /// Where the job was asked for, of which this is a step or the script.
    pub places: Vec<PathBuf>,
    /// The caller's environment.
    pub environment: Environment,
}

/// A directory, known by what it is and not by its name alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Its name.
    pub path: PathBuf,
    identity: (u64, u64),
}

impl Known {
    /// The directory that `path` leads to now.
    pub fn new(path: &Path) -> Option<Known> {
        Some(Known {
            path: path.to_owned(),
            identity: identity(path)?,
        })
    }

    /// What `path` leads to now, be it a directory or not.
    pub fn anything(path: &Path) -> Option<Known> {
        Some(Known {
            path: path.to_owned(),
            identity: identity_of_anything(path)?,
        })
    }

    /// Whether `path` is a name of it.
    pub fn is_called(&self, path: &Path) -> bool {
        identity_of_anything(path) == Some(self.identity)
    }

    /// Whether its name leads to it here too, and not to another directory of that name.
    pub fn is_here(&self) -> bool {
        self.is_called(&self.path)
    }
}

fn identity_of_anything(path: &Path) -> Option<(u64, u64)> {
    path.metadata().ok().map(|data| (data.dev(), data.ino()))
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    path.metadata()
        .ok()
        .filter(|data| data.is_dir())
        .map(|data| (data.dev(), data.ino()))
}

impl Host {
    /// Looks the caller up. The user database is asked now, from outside the container: an image
    /// knows nothing of the site's LDAP.
    pub fn look(environment: Environment, directory: Option<PathBuf>) -> Host {
        let uid = rights::user();
        let gid = rights::group();
        let (user, group) = users::user_and_group(uid, gid);
        // A node with a stale user database should not keep a job from running: invent the names.
        let user = user.unwrap_or_else(|| User {
            name: format!("user{uid}"),
            gecos: String::new(),
            home: PathBuf::from("/"),
            shell: "/bin/sh".into(),
        });
        let group = group.unwrap_or_else(|| format!("group{gid}"));
        let environment = match uid {
            0 => without_others(environment, &user.home),
            _ => environment,
        };
        Host {
            uid,
            gid,
            is_root: is_root_of_machine(),
            user,
            group,
            directory,
            places: places::of(&environment),
            environment,
        }
    }

    /// A variable of the caller's environment.
    pub fn variable(&self, name: &str) -> Option<&OsStr> {
        find(&self.environment, name)
    }

    /// Whether this is the script of a job, or the shell of salloc, and no step that one of them started.
    pub fn is_in_script(&self) -> bool {
        let step = self.variable("SLURM_STEP_ID").and_then(OsStr::to_str);
        let is_special = |step: i64| !(0..FIRST_SPECIAL_STEP).contains(&step);
        self.variable("SLURM_JOB_ID").is_some()
            && step.is_none_or(|step| step.parse().is_ok_and(is_special))
    }

    /// A directory of the site's file: `$NAME` and `${NAME}` are the caller's variables, and `~` in front is the home
    /// directory. `USER` is who the user database says; `HOME` falls back on it, and the XDG variables on what the XDG
    /// Base Directory Specification says. What a variable holds is taken as it is and never expanded again.
    ///
    /// # Errors
    /// A variable is not set, or leads elsewhere by `..`, or what comes out is not an absolute path. A directory named
    /// `$SCRATCH` where somebody happens to stand is what nobody wants.
    pub fn expand(&self, key: &str, text: &str) -> Result<PathBuf> {
        let told = |reason: String| {
            Error::new(format!(
                "can't use {key} = \"{text}\" of the site configuration file: {reason}"
            ))
        };
        let mut bytes = Vec::new();
        let mut rest = text;
        if let Some(below) = rest.strip_prefix('~') {
            if !below.is_empty() && !below.starts_with('/') {
                return Err(told(
                    "~ means your own home directory and must be followed by /".into(),
                ));
            }
            bytes.extend_from_slice(self.home().as_os_str().as_bytes());
            rest = below;
        }
        while let Some((before, behind)) = rest.split_once('$') {
            bytes.extend_from_slice(before.as_bytes());
            let (name, behind) = variable_name(behind)
                .ok_or_else(|| told("there is no variable name after $".into()))?;
            let value = self.value(name).filter(|value| !value.is_empty());
            let value = value.ok_or_else(|| {
                told(format!("the variable {name} is not set")).hint(format!(
                    "set {name}, or ask your administrator to name another place"
                ))
            })?;
            if Path::new(&value)
                .components()
                .any(|part| part == Component::ParentDir)
            {
                return Err(told(format!("the variable {name} has .. in it")));
            }
            bytes.extend_from_slice(value.as_bytes());
            rest = behind;
        }
        bytes.extend_from_slice(rest.as_bytes());
        let path = PathBuf::from(OsString::from_vec(bytes));
        match path.is_absolute() {
            true => Ok(path),
            false => Err(told(format!("{} is not an absolute path", path.display()))
                .hint("it must begin with /, ~, or a variable that does")),
        }
    }

    fn home(&self) -> PathBuf {
        self.variable("HOME")
            .map_or_else(|| self.user.home.clone(), PathBuf::from)
    }

    /// What a variable stands for in the site's file.
    fn value(&self, name: &str) -> Option<OsString> {
        let xdg = |fallback: &str| {
            let set = self.variable(name).map(PathBuf::from);
            let set = set.filter(|path| path.is_absolute());
            Some(set.unwrap_or_else(|| self.home().join(fallback)).into())
        };
        match name {
            "USER" => Some(self.user.name.clone().into()),
            "HOME" => Some(self.home().into()),
            "XDG_DATA_HOME" => xdg(".local/share"),
            "XDG_CACHE_HOME" => xdg(".cache"),
            name => self.variable(name).map(OsStr::to_owned),
        }
    }
}

/// Variables that say where a user's own files are.
const OWN_PLACES: [&str; 7] = [
    "HOME",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
    "DOCKER_CONFIG",
    "REGISTRY_AUTH_FILE",
];

/// Root's variables without those that lead to a place of another user's, as they do where HOME was kept from whoever
/// became root: what lies there is that user's, who could have root read, run and write it.
fn without_others(mut environment: Environment, home: &Path) -> Environment {
    environment.retain_mut(|(name, value)| {
        let is_others = OWN_PLACES.iter().any(|place| name == place)
            && private::refuse_foreign(Path::new(value), Whose::Trusted).is_err();
        if is_others && name == "HOME" {
            *value = home.into();
            return true;
        }
        !is_others
    });
    environment
}

/// Has this process forget, if it is root's, where another user's files are. It must have one thread.
pub fn forget_others() {
    if !rights::is_root() {
        return;
    }
    let environment: Environment = std::env::vars_os().collect();
    let own = Host::look(environment.clone(), None).environment;
    if own != environment {
        process::adopt_environment(&own);
    }
}

/// The name behind a `$`, in braces or not, and what follows it.
fn variable_name(text: &str) -> Option<(&str, &str)> {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let (name, rest) = match text.strip_prefix('{') {
        Some(text) => text.split_once('}')?,
        None => {
            let end = text.bytes().position(|byte| !is_part(byte));
            text.split_at(end.unwrap_or(text.len()))
        }
    };
    let is_name = name.bytes().all(is_part)
        && name
            .bytes()
            .next()
            .is_some_and(|first| !first.is_ascii_digit());
    is_name.then_some((name, rest))
}

/// The kernel takes 340 lines of such a map, in bytes.
const LONGEST_MAP: u64 = 64 << 10;

/// Whether this process is root's, and not that of a user who is called so in a namespace.
pub fn is_root_of_machine() -> bool {
    rights::is_root() && has_all_users()
}

/// Whether this process knows every user of the machine, as outside of all namespaces of users, user_namespaces(7).
fn has_all_users() -> bool {
    let map = open::read_text(Path::new("/proc/self/uid_map"), LONGEST_MAP).unwrap_or_default();
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// Refuses a kernel that lacks calls that Chariot makes.
///
/// # Errors
/// Names the kernel that is running and the oldest that will do.
pub fn refuse_old_kernel() -> Result<()> {
    let release = sys::kernel().explain(|| "can't tell which kernel is running".into())?;
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
        let expand = |host: &Host, text: &str| host.expand("cache", text).unwrap();
        for (text, path) in [
            ("$XDG_DATA_HOME/chariot", "/h/.local/share/chariot"),
            ("/lustre/$USER/img", "/lustre/u/img"),
            ("/lustre/${USER}x", "/lustre/ux"),
            ("~/images", "/h/images"),
            ("~", "/h"),
            ("$HOME/a~b", "/h/a~b"),
        ] {
            assert_eq!(expand(&host, text), PathBuf::from(path), "{text}");
        }
        let more = [
            ("XDG_CACHE_HOME", "/c"),
            ("SLURM_JOB_ID", "42"),
            ("SCRATCH", "/s/$HOME"),
        ];
        let more = more.map(|(name, value)| (name.into(), value.into()));
        host.environment.extend(more);
        assert_eq!(expand(&host, "$XDG_CACHE_HOME/x"), PathBuf::from("/c/x"));
        assert_eq!(expand(&host, "/l/$SLURM_JOB_ID"), PathBuf::from("/l/42"));
        // What a variable holds is a path, and no text to be expanded.
        assert_eq!(expand(&host, "$SCRATCH/c"), PathBuf::from("/s/$HOME/c"));
    }

    #[test]
    fn what_does_not_expand_to_an_absolute_path_is_refused_and_the_variable_named() {
        let variables = [
            ("EMPTY", ""),
            ("UP", "/a/../b"),
            ("REL", "b"),
            ("HOME", "/h"),
        ];
        let variables = variables.map(|(name, value)| (name.into(), value.into()));
        let host = Host::look(variables.to_vec(), None);
        for (text, reason) in [
            ("$SCRATCH/c", "the variable SCRATCH is not set"),
            ("/a/${SCRATCH}", "the variable SCRATCH is not set"),
            ("$EMPTY/c", "the variable EMPTY is not set"),
            ("/l/$UP", "the variable UP has .. in it"),
            ("$REL/c", "b/c is not an absolute path"),
            ("cache", "cache is not an absolute path"),
            ("/a/$", "there is no variable name after $"),
            ("/a/$1", "there is no variable name after $"),
            ("/a/${HOME", "there is no variable name after $"),
            (
                "~ada/c",
                "~ means your own home directory and must be followed by /",
            ),
        ] {
            let error = host.expand("cache", text).unwrap_err().to_string();
            let expected =
                format!("can't use cache = \"{text}\" of the site configuration file: {reason}");
            assert_eq!(error, expected);
        }
    }
}
