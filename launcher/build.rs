//! From which commit the launcher is built, for `chariot --version`.

#![allow(
    clippy::disallowed_methods,
    reason = "it asks a program, whatever happens to it"
)]

use std::env;
use std::path::Path;
use std::process::Command;

/// What `chariot --version` says after the version: `CHARIOT_COMMIT`, as etc/build sets it, or of an optimized build what
/// git says. Nothing where neither is known. A build for tests does without: each commit would compile it anew.
fn main() {
    println!("cargo::rerun-if-env-changed=CHARIOT_COMMIT");
    let is_release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let commit = match env::var("CHARIOT_COMMIT") {
        Ok(commit) => Some(commit),
        Err(_) if is_release => git_commit(),
        Err(_) => None,
    };
    let commit = commit.filter(|commit| !commit.is_empty());
    let version = match (env::var("CARGO_PKG_VERSION").unwrap_or_default(), commit) {
        (version, Some(commit)) => format!("{version} ({commit})"),
        (version, None) => version,
    };
    println!("cargo::rustc-env=CHARIOT_VERSION={version}");
}

fn git_commit() -> Option<String> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    // Sources that somebody unpacked within another repository have no commit of that.
    let own = env::current_dir().ok()?.join(".git");
    own.exists().then_some(())?;
    // What changes with each commit, whatever the branch.
    for name in ["HEAD", "logs/HEAD"] {
        let path = git(&["rev-parse", "--git-path", name]).filter(|path| Path::new(path).exists());
        if let Some(path) = path {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    git(&["rev-parse", "--short=12", "HEAD"])
}
