//! Users that one test makes: an attacker beside the one who is attacked. They are gone when the test is, however it
//! ended.

use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use super::Said;

/// The user database has one writer at a time.
static DATABASE: Mutex<()> = Mutex::new(());
static COUNT: AtomicU32 = AtomicU32::new(0);

/// An ordinary user with a group of its own, and another one beside it.
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// The group beside.
    pub(crate) second: u32,
}

impl User {
    /// None for whoever may not make users.
    pub(crate) fn new() -> Option<User> {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!(
            "ch-test-{}-{}-{number}",
            pid_namespace(),
            std::process::id()
        );
        let second = format!("{name}-b");
        let made = {
            let _one = DATABASE
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner());
            change("groupadd", &[&second]) && change("useradd", &["-M", "-U", "-G", &second, &name])
        };
        let mut user = User {
            name,
            uid: 0,
            gid: 0,
            second: 0,
        };
        if made {
            let ids = user.ids();
            (user.uid, user.gid) = (ids[0], ids[1]);
            user.second = *ids.iter().rfind(|id| **id != user.gid)?;
        }
        made.then_some(user)
    }

    /// The user's number and the groups'.
    fn ids(&self) -> Vec<u32> {
        let ask = |what: &str| {
            Command::new("id")
                .args([what, &self.name])
                .output()
                .unwrap()
        };
        let text = [ask("-u").stdout, b" ".to_vec(), ask("-G").stdout].concat();
        let text = String::from_utf8(text).unwrap();
        text.split_whitespace()
            .map(|id| id.parse().unwrap())
            .collect()
    }

    /// Runs a script as this user.
    pub(crate) fn run(&self, script: &str, directory: &Path, variables: &[(&str, &str)]) -> Said {
        super::shell_as(Some(&self.name), script, directory, variables)
    }
}

impl Drop for User {
    fn drop(&mut self) {
        // Nobody but this test has processes of this user.
        let _ = Command::new("pkill")
            .args(["-KILL", "-u", &self.name])
            .status();
        let _one = DATABASE
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        change("userdel", &["-f", &self.name]);
        change("groupdel", &[&format!("{}-b", self.name)]);
    }
}

/// What tells this process from those of the same number that run beside it, in clusters of their own.
fn pid_namespace() -> String {
    let link = std::fs::read_link("/proc/self/ns/pid").unwrap();
    let digits = link.to_string_lossy();
    digits.chars().filter(char::is_ascii_digit).collect()
}

/// A change of the user database, which a program beside this one may have locked.
fn change(program: &str, words: &[&str]) -> bool {
    (0..20).any(|try_| {
        if try_ > 0 {
            std::thread::sleep(std::time::Duration::from_millis(250));
        }
        let output = Command::new(program).args(words).output();
        output.is_ok_and(|output| {
            let locked = String::from_utf8_lossy(&output.stderr).contains("lock");
            // What fails otherwise would fail again, and what is gone already is gone.
            output.status.success() || !locked
        })
    }) && Command::new("id")
        .arg(words[words.len() - 1])
        .output()
        .is_ok_and(|output| program != "useradd" || output.status.success())
}
