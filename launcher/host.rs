//! Who is asking, and from where: facts of the host that a plan is made from.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::error::{Error, Explain, Result};
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

    /// The directory that a key of the site's file names: `~`, `$NAME` and `${NAME}` stand for what they do in a shell, with
    /// the caller's variables. `$USER` is who the kernel says it is, and the XDG variables fall back on what the XDG
    /// Base Directory Specification says. A value is taken as it is: no variable is looked for in it.
    ///
    /// # Errors
    /// A variable is not set, or what comes out is no absolute path.
    pub fn expand(&self, key: &str, text: &str) -> Result<PathBuf> {
        let wrong = |reason: String| {
            Error::new(format!(
                "can't use {key} = \"{text}\" of the site's file: {reason}"
            ))
        };
        let mut path = String::new();
        let mut rest = text;
        if let Some(after) = text.strip_prefix('~') {
            path = self.home();
            rest = after;
        }
        while let Some((before, after)) = rest.split_once('$') {
            path.push_str(before);
            let (name, after) = variable_name(after)
                .ok_or_else(|| wrong("a $ has to stand before the name of a variable".into()))?;
            let value = self.value(name).ok_or_else(|| {
                wrong(format!("the variable {name} is not set"))
                    .hint("whoever runs the site can choose a place that everybody has")
            })?;
            path.push_str(&value);
            rest = after;
        }
        path.push_str(rest);
        let path = PathBuf::from(path);
        let is_plain = path
            .components()
            .all(|part| part != std::path::Component::ParentDir);
        match path.is_absolute() && is_plain {
            true => Ok(path),
            false => Err(wrong(format!("{} is no absolute path", path.display()))),
        }
    }

    fn home(&self) -> String {
        let home = self
            .variable("HOME")
            .map_or_else(|| self.user.home.clone(), PathBuf::from);
        home.to_string_lossy().into_owned()
    }

    /// What a variable stands for; none if nothing, or nothing that a path could be made of.
    fn value(&self, name: &str) -> Option<String> {
        let set = self
            .variable(name)
            .and_then(OsStr::to_str)
            .filter(|value| !value.is_empty())
            .map(str::to_owned);
        let absolute = set.clone().filter(|value| value.starts_with('/'));
        match name {
            "USER" => Some(self.user.name.clone()),
            "HOME" => Some(self.home()),
            "XDG_DATA_HOME" => absolute.or_else(|| Some(self.home() + "/.local/share")),
            "XDG_CACHE_HOME" => absolute.or_else(|| Some(self.home() + "/.cache")),
            _ => set,
        }
    }
}

/// The name at the start of a text, in braces or not, and what comes after it.
fn variable_name(text: &str) -> Option<(&str, &str)> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let (name, rest) = match text.strip_prefix('{') {
        Some(inner) => inner.split_once('}')?,
        None => text.split_at(text.find(|c| !is_part(c)).unwrap_or(text.len())),
    };
    let is_name = !name.is_empty()
        && name.chars().all(is_part)
        && !name.starts_with(|c: char| c.is_ascii_digit());
    is_name.then_some((name, rest))
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

/// How long the user database may take. One that is stuck should not keep a job from running.
const PATIENCE: Duration = Duration::from_secs(10);

/// A user's entry of the user database, if there is one.
#[cfg(feature = "launcher")]
pub(crate) fn user(uid: u32) -> Option<User> {
    read_user(&Lookup::start("passwd", uid).line()?)
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
        let file = fs::read_to_string(format!("/etc/{database}")).unwrap_or_default();
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
        host.environment.extend([
            ("SLURM_JOB_ID".into(), "42".into()),
            ("EMPTY".into(), "".into()),
            ("ODD".into(), "/$HOME".into()),
            ("UP".into(), "/a/../..".into()),
        ]);
        for (text, path) in [
            ("$XDG_DATA_HOME/chariot", "/h/.local/share/chariot"),
            ("/lustre/$USER/img", "/lustre/u/img"),
            ("/local/${USER}_$SLURM_JOB_ID/x", "/local/u_42/x"),
            ("~/img", "/h/img"),
            ("~", "/h"),
            ("/a~b", "/a~b"),
            ("$ODD/x", "/$HOME/x"),
        ] {
            assert_eq!(
                host.expand("store", text).unwrap(),
                PathBuf::from(path),
                "{text}"
            );
        }
        for (text, reason) in [
            ("$SCRATCH/c", "the variable SCRATCH is not set"),
            ("/x/$EMPTY", "the variable EMPTY is not set"),
            ("relative", "relative is no absolute path"),
            ("$SLURM_JOB_ID/x", "42/x is no absolute path"),
            ("$UP", "/a/../.. is no absolute path"),
            ("/a/$", "a $ has to stand before the name of a variable"),
            (
                "/a/${HOME",
                "a $ has to stand before the name of a variable",
            ),
            ("/a/$1", "a $ has to stand before the name of a variable"),
        ] {
            let error = host.expand("cache", text).unwrap_err().to_string();
            let all = format!("can't use cache = \"{text}\" of the site's file: {reason}");
            assert_eq!(error, all);
        }
        host.environment
            .push(("XDG_CACHE_HOME".into(), "/c".into()));
        assert_eq!(
            host.expand("cache", "$XDG_CACHE_HOME/x").unwrap(),
            PathBuf::from("/c/x")
        );
    }
}
