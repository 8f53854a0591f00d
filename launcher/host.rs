//! Who is asking, and from where: facts of the host that a plan is made from.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::error::{Error, Explain, Result};
use crate::files::open;
use crate::sys::process::{self, Helper};

/// The oldest kernel that has every call that Chariot makes.
pub const OLDEST_KERNEL: (u32, u32) = (5, 14);

/// Numbers from here on are of special steps, slurm.h: a batch script and the shell of salloc have one. Slurm 26.05 writes
/// them as negative numbers, of 32 bits, and older releases none for a script.
const FIRST_SPECIAL_STEP: i64 = 0xffff_fff0;

/// The variables of a process, in its order.
pub type Environment = Vec<(OsString, OsString)>;

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
        // Both are asked at once, where it takes asking.
        let (user, group) = (Lookup::start("passwd", uid), Lookup::start("group", gid));
        let user = user.line().as_deref().and_then(read_user);
        // A node with a stale user database should not keep a job from running: invent the names.
        let user = user.unwrap_or_else(|| User {
            name: format!("user{uid}"),
            gecos: String::new(),
            home: PathBuf::from("/"),
            shell: "/bin/sh".into(),
        });
        let group = group
            .line()
            .and_then(|line| line.split(':').next().map(str::to_owned))
            .unwrap_or_else(|| format!("group{gid}"));
        Host {
            uid,
            gid,
            is_root: uid == 0 && has_all_users(),
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
    /// A variable is not set, or leads elsewhere by `..`, or what comes out is no absolute path. A directory named
    /// `$SCRATCH` where somebody happens to stand is what nobody wants.
    pub fn expand(&self, key: &str, text: &str) -> Result<PathBuf> {
        let told = |reason: String| {
            Error::new(format!(
                "can't use {key} = \"{text}\" of the site's file: {reason}"
            ))
        };
        let mut bytes = Vec::new();
        let mut rest = text;
        if let Some(below) = rest.strip_prefix('~') {
            if !below.is_empty() && !below.starts_with('/') {
                return Err(told(
                    "~ is your own home directory, and has a / behind it".into(),
                ));
            }
            bytes.extend_from_slice(self.home().as_os_str().as_bytes());
            rest = below;
        }
        while let Some((before, behind)) = rest.split_once('$') {
            bytes.extend_from_slice(before.as_bytes());
            let (name, behind) = variable_name(behind)
                .ok_or_else(|| told("behind $ there is no name of a variable".into()))?;
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
            false => Err(told(format!("{} is no absolute path", path.display()))
                .hint("it begins with /, ~ or a variable that does")),
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

/// Whether this process knows every user of the machine, as outside of all namespaces of users, user_namespaces(7).
fn has_all_users() -> bool {
    let map = open::read_text(Path::new("/proc/self/uid_map"), LARGEST).unwrap_or_default();
    map.split_whitespace().eq(["0", "0", "4294967295"])
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

/// The longest file of users that is read, in bytes.
const LARGEST: u64 = 256 << 20;

/// How long the user database may take. One that is stuck should not keep a job from running.
const PATIENCE: Duration = Duration::from_secs(10);

/// A user's entry of the user database, if there is one.
#[cfg(feature = "launcher")]
pub(crate) fn user(uid: u32) -> Option<User> {
    read_user(&Lookup::start("passwd", uid).line()?)
}

/// All groups of a user by name, the primary one first: id(1), which asks what the site has.
#[cfg(feature = "launcher")]
pub(crate) fn groups(user: &str) -> Option<Vec<u32>> {
    let mut id = Command::new("/usr/bin/id");
    id.args(["-G", "--", user]);
    let answer = process::start_asking(id).ok()?.report(PATIENCE).ok()?;
    let numbers: Option<Vec<u32>> = answer
        .split_whitespace()
        .map(|number| number.parse().ok())
        .collect();
    numbers.filter(|numbers| !numbers.is_empty())
}

/// A line of passwd(5).
fn read_user(line: &str) -> Option<User> {
    let mut fields = line.split(':').map(str::to_owned);
    let name = fields.next()?;
    let mut fields = fields.skip(3);
    Some(User {
        name,
        gecos: fields.next()?,
        home: fields.next()?.into(),
        shell: fields.next()?,
    })
}

/// The search for the line of a number in a user database: first in the file in /etc, and then, as far as that
/// does not have it, by getent(1), which asks what the site has, LDAP or SSSD. Not by getpwuid(3): the launcher
/// is a static program, since those start twice as fast, and these have no modules of the C library.
enum Lookup {
    Found(String),
    Asked(Helper),
    Unknown,
}

impl Lookup {
    fn start(database: &str, id: u32) -> Lookup {
        let file = open::read_text(&Path::new("/etc").join(database), LARGEST).unwrap_or_default();
        if let Some(line) = line_of(&file, id) {
            return Lookup::Found(line.to_owned());
        }
        let mut getent = Command::new("/usr/bin/getent");
        getent.arg(database).arg(id.to_string());
        process::start_asking(getent).map_or(Lookup::Unknown, Lookup::Asked)
    }

    fn line(self) -> Option<String> {
        match self {
            Lookup::Found(line) => Some(line),
            Lookup::Asked(getent) => {
                let answer = getent.report(PATIENCE).ok()?;
                let line = answer.lines().next()?;
                Some(line.to_owned())
            }
            Lookup::Unknown => None,
        }
    }
}

/// The line whose third field is `id`, as passwd(5) and group(5) have it.
fn line_of(file: &str, id: u32) -> Option<&str> {
    let id = id.to_string();
    file.lines()
        .find(|line| line.split(':').nth(2) == Some(id.as_str()))
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
    fn a_user_is_found_by_number_in_the_file_and_by_nothing_like_it() {
        let file = "root:x:0:0:root:/root:/bin/bash\n# 7\nada:x:1000:7:Ada L.:/home/ada:/bin/zsh\nbroken\n";
        let ada = read_user(line_of(file, 1000).unwrap()).unwrap();
        assert_eq!(
            (ada.name.as_str(), ada.gecos.as_str(), ada.shell.as_str()),
            ("ada", "Ada L.", "/bin/zsh")
        );
        assert_eq!(ada.home, PathBuf::from("/home/ada"));
        assert_eq!(line_of(file, 7), None);
        assert_eq!(line_of(file, 100), None);
        assert_eq!(read_user("broken"), None);
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
            ("$REL/c", "b/c is no absolute path"),
            ("cache", "cache is no absolute path"),
            ("/a/$", "behind $ there is no name of a variable"),
            ("/a/$1", "behind $ there is no name of a variable"),
            ("/a/${HOME", "behind $ there is no name of a variable"),
            (
                "~ada/c",
                "~ is your own home directory, and has a / behind it",
            ),
        ] {
            let error = host.expand("cache", text).unwrap_err().to_string();
            let expected = format!("can't use cache = \"{text}\" of the site's file: {reason}");
            assert_eq!(error, expected);
        }
    }
}
