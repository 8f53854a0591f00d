//! `chariot check`: walks the host and says what works, what is missing and what to do.

use chariot_core::sys::rights;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command};
use rustix::fs::OFlags;
use serde::Serialize;

use super::asked::config_path;
use super::run::locate;
use super::{flag, mpi};
use crate::cdi;
use crate::host::{Host, refuse_old_kernel};
use crate::print;
use chariot_core::config::Config;
use chariot_core::error::{Result, io_reason};
use chariot_core::open;
use chariot_core::options::given;
use chariot_core::sys::{self, Call, fork, mounts, namespaces, process};
use chariot_core::users;

/// The longest of the system's small files that is read, in bytes.
const LARGEST: u64 = 1 << 20;

/// One thing that was looked at.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    what: &'static str,
    pub(super) ok: bool,
    /// Whether no container can run without it.
    needed: bool,
    pub(super) found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

impl Finding {
    pub(super) fn good(what: &'static str, found: impl Into<String>) -> Finding {
        Finding {
            what,
            ok: true,
            needed: true,
            found: found.into(),
            advice: None,
        }
    }

    pub(super) fn bad(
        what: &'static str,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Finding {
        Finding {
            what,
            ok: false,
            needed: true,
            found: found.into(),
            advice: Some(advice.into()),
        }
    }

    pub(super) fn optional(mut self) -> Finding {
        self.needed = false;
        self
    }
}

pub(super) fn command() -> Command {
    Command::new("check")
        .about("Check this machine, or an image's MPI")
        .arg(
            Arg::new("image").value_name("IMAGE").help(
                "check the MPI of this image, and what Slurm offers it, instead of the machine",
            ),
        )
        .arg(flag("json", "print the findings as JSON"))
}

/// Looks at everything, prints it, and exits with 1 if a container cannot run.
pub(super) fn check(matches: &ArgMatches) -> Result<ExitCode> {
    let findings = match matches.get_one::<String>("image") {
        Some(word) => of_image(word, config_path(matches))?,
        None => of_machine(config_path(matches)),
    };
    match matches.get_flag("json") {
        true => print::json(&findings)?,
        false => print::lines(findings.iter().flat_map(lines))?,
    };
    let works = findings.iter().all(|finding| finding.ok || !finding.needed);
    Ok(ExitCode::from(u8::from(!works)))
}

fn of_machine(config: &Path) -> Vec<Finding> {
    let mut findings = vec![kernel(), mount_interface(), openat2()];
    findings.extend(sysctls());
    findings.extend(yama());
    findings.extend([container(), overlay(), fuse(), user()]);
    findings.extend([site_file(config), plugstack()]);
    findings.push(devices(&Config::load(config).unwrap_or_default()));
    findings
}

/// What `--device` could give.
fn devices(config: &Config) -> Finding {
    let what = "devices";
    match cdi::described(&config.cdi_dirs) {
        Ok(lines) if lines.is_empty() => Finding::good(what, "none are described"),
        Ok(lines) => Finding::good(what, lines.join("; ")),
        Err(error) => Finding::bad(
            what,
            error.to_string(),
            "let the vendor's tool write the file again",
        ),
    }
    .optional()
}

fn of_image(word: &str, config: &Path) -> Result<Vec<Finding>> {
    let config = Config::load(config)?;
    let host = Host::look(std::env::vars_os().collect(), given::working_directory());
    Ok(mpi::findings(&locate(word, &config, &host, true)?))
}

fn lines(finding: &Finding) -> Vec<String> {
    let mark = match (finding.ok, finding.needed) {
        (true, _) => "ok     ",
        (false, true) => "MISSING",
        (false, false) => "without",
    };
    let found = format!("{mark} {:<22} {}", finding.what, finding.found);
    let advice = finding.advice.as_ref();
    let advice = advice.map(|advice| format!("        what to do: {advice}"));
    [found].into_iter().chain(advice).collect()
}

fn kernel() -> Finding {
    let release = sys::kernel().unwrap_or_default();
    match refuse_old_kernel() {
        Ok(()) => Finding::good("Linux", release),
        Err(error) => Finding::bad("Linux", error.to_string(), "install a newer kernel"),
    }
}

fn mount_interface() -> Finding {
    // Cloning a tree needs privilege; a kernel without the call says ENOSYS instead of EPERM.
    match mounts::clone_tree(Path::new("/")) {
        Err(error) if error.errno() == nix::errno::Errno::ENOSYS => Finding::bad(
            "mount interface",
            error.to_string(),
            "install Linux 5.14 or newer",
        ),
        _ => Finding::good("mount interface", "open_tree, move_mount, mount_setattr"),
    }
}

fn openat2() -> Finding {
    let opened = sys::open(Path::new("/"), OFlags::PATH)
        .and_then(|root| sys::open_in_root(root, Path::new("/"), OFlags::PATH));
    match opened {
        Ok(_) => Finding::good("openat2", "works"),
        Err(error) => Finding::bad("openat2", error.to_string(), "install Linux 5.6 or newer"),
    }
}

/// Whether a setting of this value lets users make user namespaces.
type Allows = fn(u64) -> bool;

/// Settings by which sites turn user namespaces off. A setting that does not exist forbids nothing.
fn sysctls() -> Vec<Finding> {
    let rows: [(&str, Allows, &str); 3] = [
        (
            "user.max_user_namespaces",
            |value| value > 0,
            "sysctl -w user.max_user_namespaces=65536",
        ),
        (
            "kernel.unprivileged_userns_clone",
            |value| value == 1,
            "sysctl -w kernel.unprivileged_userns_clone=1",
        ),
        (
            "kernel.apparmor_restrict_unprivileged_userns",
            |value| value == 0,
            "AppArmor lets only named programs make user namespaces here: install the package, which \
             brings a profile for /usr/bin/chariot (etc/apparmor.d/chariot), or \
             sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
    ];
    let mut findings = Vec::new();
    for (name, allows, advice) in rows {
        let path = PathBuf::from("/proc/sys").join(name.replace('.', "/"));
        let Ok(text) = open::read_text(&path, LARGEST) else {
            continue;
        };
        let Ok(value) = text.trim().parse() else {
            continue;
        };
        findings.push(match allows(value) {
            true => Finding::good("sysctl", format!("{name} = {value}")),
            false => Finding::bad("sysctl", format!("{name} = {value}"), advice),
        });
    }
    findings
}

/// Whether processes of one user may read each other's memory, which MPI does between the ranks of a node
/// (process_vm_readv); it copies more slowly where they may not. No container needs it.
fn yama() -> Option<Finding> {
    let name = "kernel.yama.ptrace_scope";
    let text = open::read_text(Path::new("/proc/sys/kernel/yama/ptrace_scope"), LARGEST).ok()?;
    let value = text.trim();
    let found = format!("{name} = {value}");
    Some(match value {
        "0" => Finding::good("sysctl", found).optional(),
        "1" => Finding::bad(
            "sysctl",
            format!("{found}: a process may be read by its parents, or by whom it names"),
            "MPI libraries that use CMA ask for that themselves or copy twice; with 0 they need not",
        )
        .optional(),
        _ => Finding::bad(
            "sysctl",
            format!("{found}: MPI ranks of one node cannot read each other's memory (CMA)"),
            "sysctl -w kernel.yama.ptrace_scope=0 on compute nodes",
        )
        .optional(),
    })
}

/// The real thing: namespaces, maps and mounts, in a child process.
fn container() -> Finding {
    let what = "user namespaces";
    match try_inside(|| Ok(())) {
        Ok(()) => Finding::good(what, "can be made, and mounts in them"),
        Err(error) => Finding::bad(what, error, "see the settings above; ask the administrator"),
    }
}

fn overlay() -> Finding {
    let attempt = || {
        let memory = mounts::tmpfs(Some(1 << 20), "755")?;
        mounts::attach_over_root(&memory)?;
        let layer = |name: &str| {
            mounts::make_directory(&memory, Path::new(name))?;
            sys::open_in_root(&memory, Path::new(name), OFlags::PATH)
        };
        let lower = layer("lower")?;
        mounts::overlay(&[lower.as_fd()], layer("upper")?, layer("work")?, false).map(drop)
    };
    match try_inside(attempt) {
        Ok(()) => Finding::good("overlayfs", "can be mounted in a user namespace"),
        Err(error) => Finding::bad(
            "overlayfs",
            error,
            "--writable and --overlay need it: load the kernel's module, modprobe overlay",
        ),
    }
    .optional()
}

/// Runs `attempt` in a container that goes away at once. Only the errno comes back from the child.
fn try_inside(attempt: impl FnOnce() -> Call<()>) -> std::result::Result<(), String> {
    let (user, group) = (rights::user(), rights::group());
    let work = || {
        let result = namespaces::unshare_user()
            .and_then(|()| process::own_directory())
            .and_then(|own| namespaces::write_id_maps(own, (user, user), (group, group)))
            .and_then(|()| namespaces::unshare_mounts())
            .and_then(|()| mounts::receive_only())
            .and_then(|()| attempt());
        result.map_or_else(
            |error| u8::try_from(error.errno() as i32).unwrap_or(255),
            |()| 0,
        )
    };
    match fork::fork(work).and_then(|child| child.wait()) {
        Ok(0) => Ok(()),
        Ok(number) => Err(nix::errno::Errno::from_raw(number.into()).desc().to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "it is a device that is asked for"
)]
fn fuse() -> Finding {
    match fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/fuse")
    {
        Ok(_) => Finding::good("FUSE", "/dev/fuse can be opened"),
        Err(error) => Finding::bad(
            "FUSE",
            format!("/dev/fuse: {}", io_reason(&error)),
            "SquashFS images need it, directories do not: modprobe fuse; chmod 666 /dev/fuse",
        ),
    }
    .optional()
}

fn user() -> Finding {
    let uid = rights::user();
    match users::user(uid) {
        Some(user) => Finding::good("user database", format!("{} is uid {uid}", user.name)),
        _ => Finding::bad(
            "user database",
            format!("uid {uid} has no name on this machine"),
            "a made-up name is used; does this machine ask the site's LDAP?",
        ),
    }
    .optional()
}

fn site_file(path: &Path) -> Finding {
    match Config::load(path) {
        Ok(_) if !path.exists() => Finding::good(
            "site file",
            format!("{} is not there; defaults hold", path.display()),
        ),
        Ok(config) if !config.enabled => Finding::bad(
            "site file",
            format!("{} turns Chariot off", path.display()),
            "set enabled = true",
        ),
        Ok(_) => Finding::good("site file", path.display().to_string()),
        Err(error) => {
            let advice = error.advice().unwrap_or("correct the file").to_owned();
            Finding::bad("site file", error.to_string(), advice)
        }
    }
}

/// Whether Slurm on this machine loads the plugin, and whether the plugin is where it is said to be.
fn plugstack() -> Finding {
    let what = "Slurm plugin";
    let conf = std::env::var_os("SLURM_CONF")
        .map_or_else(|| PathBuf::from("/etc/slurm/slurm.conf"), PathBuf::from);
    let directory = conf.parent().unwrap_or(Path::new("/etc/slurm")).to_owned();
    let Some((file, line)) = plugstack_line(&directory) else {
        let found = format!(
            "no line with chariot.so in {}/plugstack.conf",
            directory.display()
        );
        return Finding::bad(
            what,
            found,
            "only for Slurm: the administrator's guide says how, \
         docs/admin/install.md",
        )
        .optional();
    };
    let mut words = line.split_whitespace();
    let (flag, plugin) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    if flag != "required" {
        let found = format!("{}: \"{flag}\" lets tasks run on the host", file.display());
        return Finding::bad(what, found, "write `required chariot.so`").optional();
    }
    // A bare name lies in Slurm's plugin directory, which only Slurm knows.
    let path = Path::new(plugin);
    if path.is_absolute() && !fs::metadata(path).is_ok_and(|data| is_safe(&data)) {
        let found = format!("{plugin} is missing, or others than root can write it");
        return Finding::bad(what, found, "install it as root, mode 644").optional();
    }
    Finding::good(what, format!("{}: {line}", file.display()))
}

fn is_safe(data: &fs::Metadata) -> bool {
    data.is_file() && data.uid() == 0 && data.permissions().mode() & 0o022 == 0
}

fn plugstack_line(directory: &Path) -> Option<(PathBuf, String)> {
    let mut files = vec![directory.join("plugstack.conf")];
    if let Ok(entries) = fs::read_dir(directory.join("plugstack.conf.d")) {
        let paths = entries.flatten().map(|entry| entry.path());
        files.extend(paths.filter(|path| path.extension().is_some_and(|kind| kind == "conf")));
    }
    files.into_iter().find_map(|file| {
        let text = open::read_text(&file, LARGEST).ok()?;
        let is_ours = |line: &&str| !line.trim_start().starts_with('#') && line.contains("chariot");
        let line = text.lines().find(is_ours)?.trim().to_owned();
        (!line.starts_with("include")).then_some((file, line))
    })
}
