//! What ch-run's options come to: the same kind of plan that `chariot run` makes, by Charliecloud's rules.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use clap::ArgMatches;

use super::{devices, environment};
use crate::host::Host;
use crate::image::Image;
use crate::log::warn_once;
use crate::mount::{Mount, MountSource};
use crate::plan::environment::Open;
use crate::plan::identity::Identity;
use crate::plan::mounts::{add_devices, kernel};
use crate::plan::{Plan, Root, Task, Workdir, steering};
use chariot_core::config::Config;
use chariot_core::environment::Edit;
use chariot_core::error::{Error, Result, io_reason};
use chariot_core::options::{Sourced, size};
use chariot_core::private::{self, Whose};
use chariot_core::users::user;

/// What every container has if host and image have it.
const OPTIONAL: [&str; 11] = [
    "/etc/hosts",
    "/etc/machine-id",
    "/etc/resolv.conf",
    "/var/lib/hugetlbfs",
    "/etc/opt/cray/wlm_detect",
    "/opt/cray/wlm_detect",
    "/opt/cray/alps",
    "/opt/cray/udreg",
    "/opt/cray/ugni",
    "/opt/cray/xpmem",
    "/var/spool/slurmd",
];

/// The part of the memory that `--write-fake` may take if nobody says.
const WRITE_FAKE: &str = "12%";

pub(super) fn plan(
    matches: &ArgMatches,
    config: &Config,
    host: &Host,
    command: Vec<OsString>,
) -> Result<Plan> {
    let user_name = variable(host, "USER").ok_or_else(|| Error::new("$USER not set"))?;
    let image = image(matches, config, host, &user_name)?;
    let home = Path::new("/home").join(&user_name);
    let identity = identity(matches, host);
    let devices = devices::plan(matches, config, host, &image)?;
    let mut mounts = mounts(matches, host, &image, &identity, &home)?;
    add_devices(&mut mounts, &devices);
    let mut own = own_edits(matches, host, &image, &home);
    let variables = devices.environment.iter();
    own.extend(variables.map(|(name, value, origin)| Edit::set(name, value, origin)));
    let changes = super::changes(matches, || image.read(Path::new("/ch/environment")))?;
    let expand = !matches.get_flag("env-no-expand");
    let mut environment = environment::edits(own, &changes, &host.environment, expand);
    let typed = environment
        .iter()
        .filter(|edit| edit.origin.ends_with("set-env"));
    let said = typed.map(|edit| edit.name.to_string_lossy().into_owned());
    let open = Open::for_charliecloud(&host.environment, said.collect());
    environment.push(Edit::set(
        "CH_RUNNING",
        "Weird Al Yankovic",
        "every container",
    ));
    let workdir = matches
        .get_one::<PathBuf>("cd")
        .cloned()
        .unwrap_or_else(|| PathBuf::from("/"));
    let mut warnings = devices.warnings;
    warnings.extend(host.is_root.then(|| steering::warning(&image)));
    Ok(Plan {
        root: root(matches)?,
        is_of_root: host.is_root,
        identity,
        mounts,
        files: Vec::new(),
        before: host.environment.clone(),
        environment,
        open,
        workdir: Workdir {
            asked: Some(Sourced {
                value: workdir,
                origin: "--cd".into(),
            }),
            caller: None,
            also: None,
            is_named: false,
            image: None,
        },
        task: Task {
            command,
            ..Task::default()
        },
        entrypoint: Vec::new(),
        fakeroot: matches.get_flag("seccomp"),
        host_commands: None,
        devices: devices.names,
        hooks: devices.hooks,
        annotations: Vec::new(),
        warnings,
        image,
    })
}

fn variable(host: &Host, name: &str) -> Option<OsString> {
    host.variable(name)
        .filter(|value| !value.is_empty())
        .map(OsStr::to_owned)
}

/// An image of ch-image's storage by its name, or a directory or SquashFS file by its path.
fn image(matches: &ArgMatches, config: &Config, host: &Host, user: &OsStr) -> Result<Image> {
    let word = matches
        .get_one::<OsString>("image")
        .cloned()
        .unwrap_or_default();
    let text = word.to_string_lossy().into_owned();
    let storage = matches.get_one::<PathBuf>("storage").cloned();
    let storage = storage.or_else(|| variable(host, "CH_IMAGE_STORAGE").map(PathBuf::from));
    let storage = storage.unwrap_or_else(|| {
        let mut name = user.to_owned();
        name.push(".ch");
        Path::new("/var/tmp").join(name)
    });
    let named = storage
        .join("img")
        .join(text.replace('/', "%").replace(':', "+"));
    // The default lies where all may write, so that somebody else may have made it, with an image of any name.
    let refused = private::refuse_foreign(&storage.join("img"), Whose::Own).err();
    if let Some(refusal) = &refused {
        warn_once(&format!(
            "the storage {} is not used: {refusal}",
            storage.display()
        ));
    }
    if refused.is_none() && named.symlink_metadata().is_ok() {
        if matches.get_flag("write") && !matches.get_flag("unsafe") {
            return Err(Error::new("--write invalid when running by name"));
        }
        return Image::open(&text, &named, config);
    }
    let path = PathBuf::from(&word);
    let real = path
        .canonicalize()
        .map_err(|error| Error::new(format!("can't stat: {text}: {}", io_reason(&error))))?;
    if real.starts_with(&storage) && !matches.get_flag("unsafe") {
        return Err(Error::new("can't run directory images from storage").hint("run by name"));
    }
    Image::open(&text, &real, config)
}

fn root(matches: &ArgMatches) -> Result<Root> {
    let fake = matches
        .get_many::<OsString>("write-fake")
        .and_then(Iterator::last);
    match (fake, matches.get_flag("home"), matches.get_flag("write")) {
        (Some(text), _, _) if !text.is_empty() => throwaway(&text.to_string_lossy()),
        (Some(_), ..) | (_, true, _) => throwaway(WRITE_FAKE),
        (_, _, true) => Ok(Root::AsItIs),
        _ => Ok(Root::ReadOnly),
    }
}

/// A size as tmpfs(5) has it: bytes, k, m or g, or a part of the memory.
fn throwaway(text: &str) -> Result<Root> {
    let wrong = || {
        Error::new(format!(
            "cannot mount tmpfs for overlay: {text}: Invalid argument"
        ))
    };
    if let Some(percent) = text.strip_suffix('%') {
        let percent: u64 = percent.parse().map_err(|_| wrong())?;
        return Ok(Root::Throwaway(memory().saturating_mul(percent) / 100));
    }
    size::parse(&text.to_uppercase())
        .map(Root::Throwaway)
        .map_err(|_| wrong())
}

/// This machine's memory, in bytes.
fn memory() -> u64 {
    let text =
        chariot_core::open::read_text(Path::new("/proc/meminfo"), 1 << 20).unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kilobytes = total.and_then(|total| total.split_whitespace().next()?.parse().ok());
    kilobytes.unwrap_or(1 << 20) * 1024
}

fn identity(matches: &ArgMatches, host: &Host) -> Identity {
    let number = |name: &str, own: u32| matches.get_one::<u32>(name).copied().unwrap_or(own);
    let (uid, gid) = (number("uid", host.uid), number("gid", host.gid));
    let known = match uid == host.uid {
        true => Some(host.user.clone()),
        false => user(uid),
    };
    let name = known.map_or_else(
        || ("charlie".to_owned(), "Charlie".to_owned()),
        |user| (user.name, user.gecos),
    );
    let group = match gid == host.gid {
        true => host.group.clone(),
        false => "charliegroup".to_owned(),
    };
    let line = |id: u32, others: &[u32], text: String| (!others.contains(&id)).then_some(text);
    let passwd = [
        Some("root:x:0:0:root:/root:/bin/sh".to_owned()),
        Some("nobody:x:65534:65534:nobody:/:/bin/false".to_owned()),
        line(
            uid,
            &[0, 65534],
            format!("{}:x:{uid}:{gid}:{}:/:/bin/sh", name.0, name.1),
        ),
    ];
    let groups = [
        Some("root:x:0:".to_owned()),
        Some("nogroup:x:65534:".to_owned()),
        line(gid, &[0, 65534], format!("{group}:x:{gid}:")),
    ];
    let lines = |lines: [Option<String>; 3]| {
        lines.into_iter().flatten().collect::<Vec<_>>().join("\n") + "\n"
    };
    Identity {
        user: (uid, host.uid),
        group: (gid, host.gid),
        passwd: lines(passwd),
        group_file: lines(groups),
        is_in_image: false,
        shell: "/bin/sh".to_owned(),
    }
}

fn mounts(
    matches: &ArgMatches,
    host: &Host,
    image: &Image,
    identity: &Identity,
    home: &Path,
) -> Result<Vec<Mount>> {
    let origin = "every container";
    let mut mounts = kernel(host);
    for path in OPTIONAL.map(Path::new) {
        if path.exists() && image.has(path) {
            mounts.push(Mount::same(path, origin));
        }
    }
    if !matches.get_flag("no-passwd") {
        mounts.push(Mount::own(
            MountSource::Text(identity.passwd.clone()),
            "/etc/passwd",
            origin,
        ));
        mounts.push(Mount::own(
            MountSource::Text(identity.group_file.clone()),
            "/etc/group",
            origin,
        ));
    }
    let tmp = match matches.get_flag("private-tmp") {
        true => MountSource::Tmpfs(None),
        false => MountSource::Host(
            variable(host, "TMPDIR").map_or_else(|| PathBuf::from("/tmp"), PathBuf::from),
        ),
    };
    mounts.push(Mount::own(tmp, "/tmp", origin));
    if matches.get_flag("home") {
        let own =
            variable(host, "HOME").ok_or_else(|| Error::new("--home failed: $HOME not set"))?;
        mounts.push(Mount::own(MountSource::Host(own.into()), home, "--home"));
    }
    for text in matches.get_many::<OsString>("bind").into_iter().flatten() {
        mounts.push(bind(text)?);
    }
    Ok(mounts)
}

/// `SRC[:DST]`, split at the first colon.
fn bind(text: &OsStr) -> Result<Mount> {
    let bytes = text.as_bytes();
    let (source, destination) = match bytes.iter().position(|byte| *byte == b':') {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (bytes, bytes),
    };
    let refuse = |reason: &str| Err(Error::new(format!("--bind: {reason}")));
    match (source, destination) {
        ([], _) => return refuse("no source provided"),
        (_, []) => return refuse("no destination provided"),
        (_, b"/") => return refuse("destination can't be /"),
        (_, [first, ..]) if *first != b'/' => return refuse("destination must be absolute"),
        _ => {}
    }
    let path = Path::new(OsStr::from_bytes(source));
    let real = path.canonicalize().map_err(|error| {
        Error::new(format!(
            "can't bind: source not found: {}: {}",
            path.display(),
            io_reason(&error)
        ))
    })?;
    let mut mount = Mount::own(
        MountSource::Host(real),
        OsStr::from_bytes(destination),
        "--bind",
    );
    mount.follow = true;
    Ok(mount)
}

/// HOME, PATH and TMPDIR.
fn own_edits(matches: &ArgMatches, host: &Host, image: &Image, home: &Path) -> Vec<Edit> {
    let origin = "every container";
    let home = match (matches.get_flag("home"), image.has(Path::new("/root"))) {
        (true, _) => home,
        (false, true) => Path::new("/root"),
        (false, false) => Path::new("/"),
    };
    let mut edits = vec![Edit::set("HOME", home, origin)];
    if let Some(path) = host.variable("PATH") {
        let text = path.to_string_lossy();
        if !text.starts_with("/bin") && !text.contains(":/bin") {
            let mut longer = path.to_owned();
            longer.push(":/bin");
            edits.push(Edit::set("PATH", longer, origin));
        }
    }
    edits.push(Edit::unset("TMPDIR", origin));
    edits
}
