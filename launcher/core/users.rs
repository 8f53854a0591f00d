//! The user database: who a number is. Asked from outside the container: an image knows nothing of the site's LDAP.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::open;
use crate::sys::Call;
use crate::sys::helper::{self, Helper};

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

/// The entry of a user and the name of a group, both asked for at once where it takes asking.
pub fn user_and_group(uid: u32, gid: u32) -> (Option<User>, Option<String>) {
    let (user, group) = (Lookup::start("passwd", uid), Lookup::start("group", gid));
    let user = user.line().as_deref().and_then(read_user);
    let group = group
        .line()
        .and_then(|line| line.split(':').next().map(str::to_owned));
    (user, group)
}

/// The longest file of users that is read, in bytes.
const LARGEST: u64 = 256 << 20;

/// How long the user database may take. One that is stuck should not keep a job from running.
const PATIENCE: Duration = Duration::from_secs(10);

/// A user's entry of the user database, if there is one.
pub fn user(uid: u32) -> Option<User> {
    read_user(&Lookup::start("passwd", uid).line()?)
}

/// All groups of a user by name, the primary one first: id(1), which asks what the site has.
pub fn groups(user: &str) -> Option<Vec<u32>> {
    let mut id = Command::new("/usr/bin/id");
    id.args(["-G", "--", user]);
    let answer = helper::start_asking(id).ok()?.report(PATIENCE).ok()?;
    let numbers: Option<Vec<u32>> = answer
        .split_whitespace()
        .map(|number| number.parse().ok())
        .collect();
    numbers.filter(|numbers| !numbers.is_empty())
}

/// Whether a group is one user's own: it has that user's name, and nobody else in it.
pub fn is_own_group(uid: u32, gid: u32) -> bool {
    let (user, group) = (Lookup::start("passwd", uid), Lookup::start("group", gid));
    let (Some(user), Some(group)) = (user.line(), group.line()) else {
        return false;
    };
    let name = user.split(':').next().unwrap_or_default();
    let mut fields = group.split(':');
    let is_named = !name.is_empty() && fields.next() == Some(name);
    let mut members = fields.nth(2).unwrap_or_default().split(',').map(str::trim);
    is_named && members.all(|member| member.is_empty() || member == name)
}

/// Asks getent(1) for the entry of `key` in a database: it looks where nsswitch.conf(5) says.
///
/// # Errors
/// The machine does not have it.
pub fn getent(database: &str, key: &str) -> Call<Helper> {
    let mut getent = Command::new("/usr/bin/getent");
    getent.arg(database).arg(key);
    helper::start_asking(getent)
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
        getent(database, &id.to_string()).map_or(Lookup::Unknown, Lookup::Asked)
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
}
