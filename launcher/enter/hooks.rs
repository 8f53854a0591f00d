//! Programs that the specification of a device wants run, and the site allows: once the root is there, before anybody is
//! in it. They run as the user on the host's files, without a capability, with the variables of the specification and
//! no others. The image cannot reach into them: none of its variables, files or libraries is in use yet.

use chariot_core::sys::descriptors;
use chariot_core::sys::helper;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use serde_json::json;

use crate::cdi::Hook;
use crate::plan::Plan;
use crate::print;
use chariot_core::error::{Error, Explain, Result, io_reason};
use chariot_core::sys::fork::{self, Change, Forked};
use chariot_core::sys::{self, Call, mounts, namespaces, signals};

/// The descriptors by which a hook finds the container's root, and the bundle that the OCI runtime interface promises
/// it: a directory with `config.json`. No path leads to either.
const ROOT: i32 = 3;
const BUNDLE: i32 = 4;

/// More than this of what a hook says is not passed on, in bytes.
const LONGEST: usize = 2048;

/// Runs them one after the other.
pub(super) fn run(plan: &Plan, root: BorrowedFd<'_>) -> Result<()> {
    if plan.hooks.is_empty() {
        return Ok(());
    }
    let bundle = bundle(plan).explain(|| "can't prepare what devices want run".into())?;
    for hook in &plan.hooks {
        let what = format!("can't run {} for a device", hook.path.display());
        let deadline = Instant::now() + hook.patience;
        let (child, output) = start(hook, root, bundle.as_fd()).explain(|| what.clone())?;
        let (text, has_ended) = helper::read_for(output, deadline, LONGEST);
        let text = String::from_utf8_lossy(&text);
        let text = text.trim().replace('\n', "; ");
        match has_ended.then(|| end_of(&child, deadline)).flatten() {
            Some(Change::Exited(0)) => {
                if !text.is_empty() {
                    tracing::debug!("{}: {text}", hook.path.display());
                }
            }
            Some(change) => {
                let how = match change {
                    Change::Exited(code) => format!("it ended with status {code}"),
                    _ => "it was killed".into(),
                };
                return Err(Error::new(format!("{what}: {how}: {text}")).hint(
                    "the administrator allowed it by cdi_hooks in the site configuration file",
                ));
            }
            None => {
                let _ = child.signal(nix::sys::signal::Signal::SIGKILL);
                let seconds = hook.patience.as_secs();
                return Err(
                    Error::new(format!("{what}: it took longer than {seconds} seconds"))
                        .hint("a specification can give it less time by `timeout`, and not more"),
                );
            }
        }
    }
    Ok(())
}

/// The directory with the description of the container, in a file system that nobody else sees.
fn bundle(plan: &Plan) -> Call<OwnedFd> {
    let tree = mounts::tmpfs(Some(1 << 20), "755")?;
    let variables = chariot_core::environment::apply(&plan.before, &plan.environment);
    let variables: Vec<String> = variables
        .iter()
        .map(|(name, value)| format!("{}={}", name.to_string_lossy(), value.to_string_lossy()))
        .collect();
    let words = plan.task.command.iter().map(|word| word.to_string_lossy());
    let config = json!({
        "ociVersion": "1.2.0",
        "root": {"path": format!("/proc/self/fd/{ROOT}"), "readonly": true},
        "process": {"args": words.collect::<Vec<_>>(), "env": variables, "cwd": "/"},
    });
    let file = mounts::make_file(&tree, Path::new("config.json"))?;
    mounts::fill(file, config.to_string().as_bytes())?;
    sys::open_in_root(&tree, Path::new("/"), OFlags::PATH | OFlags::DIRECTORY)
}

fn start(hook: &Hook, root: BorrowedFd<'_>, bundle: BorrowedFd<'_>) -> Call<(Forked, OwnedFd)> {
    let number = std::process::id();
    let state = json!({
        "ociVersion": "1.2.0",
        "id": format!("chariot-{number}"),
        "status": "created",
        "pid": number,
        "bundle": format!("/proc/self/fd/{BUNDLE}"),
    });
    let input = sys::memory_file_of(c"state", state.to_string().as_bytes())?;
    let (output, writer) = descriptors::pipe()?;
    let copy = |file: BorrowedFd<'_>| descriptors::copy_of(file.as_raw_fd());
    let files = vec![
        (input, 0),
        (copy(writer.as_fd())?, 1),
        (writer, 2),
        (copy(root)?, ROOT),
        (copy(bundle)?, BUNDLE),
    ];
    let child = fork::fork(move || become_hook(hook, files))?;
    child.lead_group();
    Ok((child, output))
}

fn become_hook(hook: &Hook, files: Vec<(OwnedFd, i32)>) -> u8 {
    fork::lead_own_group();
    let prepared = fork::place(files)
        .and_then(|()| namespaces::no_new_privileges())
        .and_then(|()| namespaces::drop_capabilities())
        .and_then(|()| namespaces::change_directory(Path::new("/")));
    signals::settle(&[]);
    let reason = match prepared {
        Ok(()) => {
            let (name, arguments) = hook.words.split_first().map_or(
                (hook.path.to_str().unwrap_or_default(), &[][..]),
                |(name, rest)| (name.as_str(), rest),
            );
            let variables = hook
                .environment
                .iter()
                .filter_map(|word| word.split_once('='));
            let error = Command::new(PathBuf::from(&hook.path))
                .arg0(name)
                .args(arguments)
                .env_clear()
                .envs(variables)
                .exec();
            format!("execve(): {}", io_reason(&error))
        }
        Err(error) => error.to_string(),
    };
    print::message(&reason);
    126
}

/// How it ended, if it does in time. It has closed its output already.
fn end_of(child: &Forked, deadline: Instant) -> Option<Change> {
    loop {
        match child.change() {
            Ok(Change::None | Change::Stopped) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(2));
            }
            Ok(change @ (Change::Exited(_) | Change::Killed(_))) => return Some(change),
            _ => return None,
        }
    }
}
