//! What is mounted in the container, in which order, and who wanted it.

use std::path::{Path, PathBuf};

use super::Task;
use super::host_commands::HostCommands;
use super::identity::Identity;
use super::{steering, task_files};
use crate::cdi::Devices;
use crate::host::Host;
use crate::image::Image;
use crate::mount::{APT_CONFIG, Mount, MountSource};
use chariot_core::config::Config;
use chariot_core::error::{Error, Result, io_reason};
use chariot_core::options::bind::{Bind, BindSource};
use chariot_core::options::{Options, Sourced};
use chariot_core::places;
use chariot_core::private::{self, Whose};
use chariot_core::sys::mounts::Restrictions;

/// What [`APT_CONFIG`] says.
const APT_SETTINGS: &str = "APT::Sandbox::User \"root\";\n";

/// What the list depends on besides what the user asked for.
pub(super) struct Inputs<'a> {
    pub(super) config: &'a Config,
    pub(super) host: &'a Host,
    pub(super) image: &'a Image,
    pub(super) identity: &'a Identity,
    pub(super) task: &'a Task,
    pub(super) host_commands: Option<&'a HostCommands>,
    pub(super) devices: &'a Devices,
}

/// The list of mounts of one container.
pub(super) fn plan(options: &Options, surroundings: &Inputs<'_>) -> Result<Vec<Mount>> {
    let Inputs {
        config,
        host,
        image,
        identity,
        task,
        host_commands,
        devices,
    } = *surroundings;
    let mut mounts = system(Options::on(&options.private_tmp), host);
    let changes_image = options.may_change_image();
    mounts.extend(files_of_etc(
        image,
        changes_image && Options::on(&options.root),
    ));
    if !(changes_image && identity.is_in_image) {
        mounts.extend(databases(identity));
    }
    if Options::on(&options.fakeroot) && image.has(Path::new("/etc/apt")) {
        mounts.push(Mount::own(
            MountSource::Text(APT_SETTINGS.into()),
            APT_CONFIG,
            "fakeroot",
        ));
    }
    mounts.extend(host_commands.into_iter().flat_map(HostCommands::mounts));
    add_devices(&mut mounts, devices);
    if Options::on(&options.home) {
        mounts.push(home(host, options)?);
    }
    let ordered = ordered(&options.binds)?;
    if Options::on(&options.home) {
        let others = places::names(&host.user.home).into_iter().skip(1);
        show_names(
            &mut mounts,
            others,
            "another name of the home directory",
            image,
            &ordered,
        );
    }
    if config.bind_cwd {
        let origin = "where the job was asked for (bind_cwd)";
        show_names(&mut mounts, of_the_job(host), origin, image, &ordered);
        mounts.extend(working_directory(host, image, &mounts, &ordered));
        let others = host
            .directory
            .iter()
            .flat_map(|path| places::names(path))
            .skip(1);
        show_names(
            &mut mounts,
            others,
            "another name of the directory you are in (bind_cwd)",
            image,
            &ordered,
        );
    }
    mounts.extend(ordered);
    for (path, origin) in task_files::of_the_task(host, task) {
        if shown_at_same_path(&mounts, &path) == Some(true) {
            continue;
        }
        if origin == task_files::PMIX && !task_files::is_slurms(&path) {
            continue;
        }
        mounts.push(Mount::same(path, origin));
        if origin == task_files::PMIX
            && let Err(error) = refuse_new_points_on_the_host(&mounts)
        {
            tracing::warn!("{error}: {origin} cannot be used");
            mounts.pop();
        }
    }
    refuse_new_points_on_the_host(&mounts)?;
    Ok(mounts)
}

fn system(private_tmp: bool, host: &Host) -> Vec<Mount> {
    let mut mounts = kernel(host);
    mounts.push(match private_tmp {
        true => Mount::own(MountSource::Tmpfs(None), "/tmp", "private-tmp"),
        false => Mount::same("/tmp", "every container"),
    });
    mounts
}

/// What the kernel shows of itself. In root's container that is not to be written.
pub(crate) fn kernel(host: &Host) -> Vec<Mount> {
    let mut mounts: Vec<Mount> = ["/dev", "/proc", "/sys"]
        .map(|path| Mount::same(path, "every container"))
        .into();
    if host.is_root {
        for mount in mounts
            .iter_mut()
            .filter(|mount| mount.destination == Path::new("/sys"))
        {
            mount.restrictions.read_only = true;
        }
        mounts.extend(steering::mounts());
    }
    mounts
}

/// Adds what devices need; if that is an entry in /dev that the host has not, in a /dev of the container's own.
pub(crate) fn add_devices(mounts: &mut Vec<Mount>, devices: &Devices) {
    if devices.own_dev {
        mounts.retain(|mount| mount.destination != Path::new("/dev"));
        mounts.extend(entries_of_dev(&devices.mounts));
    }
    mounts.extend(devices.mounts.iter().cloned());
}

/// A /dev in memory, with all that the host's has but for what `devices` have in its place.
fn entries_of_dev(devices: &[Mount]) -> Vec<Mount> {
    let origin = "every container";
    let memory = Mount::own(MountSource::Tmpfs(None), "/dev", "devices");
    let entries = std::fs::read_dir("/dev").into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    let others = paths.filter(|path| devices.iter().all(|device| device.destination != *path));
    let shown = others.map(|path| match path.read_link() {
        Ok(target) => Mount::own(MountSource::Link(target), path, origin),
        Err(_) => Mount::same(path, origin),
    });
    std::iter::once(memory).chain(shown).collect()
}

/// Small files in which programs look for the network, the machine and the time. Not the time where root may change
/// the image: scripts of tzdata put another link in its place and fail if they cannot, and nothing can take the place
/// of a mount. The others stay, as with everybody who makes containers: without them nothing could be fetched.
fn files_of_etc(image: &Image, root_changes_it: bool) -> Vec<Mount> {
    let names = ["/etc/hosts", "/etc/resolv.conf", "/etc/machine-id"];
    let time = (!root_changes_it).then_some("/etc/localtime");
    names
        .into_iter()
        .chain(time)
        .map(Path::new)
        .filter(|path| path.is_file() && !same_link(path, image))
        .map(|path| Mount {
            // They are the host's own files, which root in a container of its own could write.
            restrictions: Restrictions {
                read_only: true,
                ..Restrictions::default()
            },
            ..Mount::same(path, "every container")
        })
        .collect()
}

/// The user's name and group. Not where root may change the image: its own files have root's, and adduser(8), which
/// many packages call, changes them by putting others in their place, which no mount can be.
fn databases(identity: &Identity) -> Vec<Mount> {
    let text =
        |text: &str, path, origin| Mount::own(MountSource::Text(text.to_owned()), path, origin);
    vec![
        text(&identity.passwd, "/etc/passwd", "the image's users and you"),
        text(
            &identity.group_file,
            "/etc/group",
            "the image's groups and yours",
        ),
    ]
}

/// Whether host and image have the same symbolic link, such as /etc/localtime for the same time
/// zone, so that there is nothing to mount.
fn same_link(path: &Path, image: &Image) -> bool {
    let link = image.link(path);
    link.is_some() && link == path.read_link().ok() && image.has(path)
}

fn home(host: &Host, options: &Options) -> Result<Mount> {
    let home = &host.user.home;
    let origin = options
        .home
        .as_ref()
        .map_or("home", |home| home.origin.as_str());
    if !home.is_dir() || home == Path::new("/") {
        return Err(Error::new(format!(
            "can't bind your home directory {}: it is not a directory of this machine",
            home.display()
        ))
        .hint(format!("leave out {origin}")));
    }
    Ok(Mount {
        follow: true,
        ..Mount::same(home, origin)
    })
}

/// Binds of the site and the user, which must be there unless they are optional.
fn ordered(binds: &[Sourced<Bind>]) -> Result<Vec<Mount>> {
    let mut mounts = Vec::new();
    for Sourced {
        value: bind,
        origin,
    } in binds
    {
        let source = match &bind.source {
            BindSource::Tmpfs(size) => MountSource::Tmpfs(*size),
            BindSource::Host(path) => match path.metadata() {
                Ok(_) if bind.squashfs => MountSource::SquashFs(path.clone()),
                Ok(_) => MountSource::Host(path.clone()),
                Err(_) if bind.optional => continue,
                Err(error) => return Err(no_source(path, bind, origin, &error)),
            },
        };
        mounts.push(Mount {
            source,
            destination: bind.destination.clone(),
            restrictions: Restrictions {
                read_only: bind.read_only,
                private: bind.private,
                no_privilege: false,
            },
            follow: true,
            origin: origin.clone(),
        });
    }
    // What is bound below another would be hidden by it. Who has the last word is left so.
    for of_one in mounts.chunk_by_mut(|one, next| one.origin == next.origin) {
        of_one.sort_by_key(|mount| mount.destination.components().count());
    }
    Ok(mounts)
}

fn no_source(path: &Path, bind: &Bind, origin: &str, error: &std::io::Error) -> Error {
    let (source, destination) = (path.display(), bind.destination.display());
    Error::new(format!(
        "can't bind {source} to {destination}: stat(\"{source}\"): {}",
        io_reason(error)
    ))
    .hint(format!(
        "{origin}: is {source} there on this node? \"optional\" skips it where it is not"
    ))
}

/// The caller's directory at its own path, unless that would hide something of the image.
fn working_directory(
    host: &Host,
    image: &Image,
    mounts: &[Mount],
    ordered: &[Mount],
) -> Option<Mount> {
    let directory = host.directory.as_deref()?;
    shown_unless_taken(
        directory,
        image,
        mounts,
        ordered,
        "the directory you are in (bind_cwd)",
    )
}

/// Where the job was asked for, by all names, and what is above others first. None that is gone is missed. Root goes
/// by no way that somebody else may change meanwhile.
fn of_the_job(host: &Host) -> Vec<PathBuf> {
    let mut names: Vec<PathBuf> = host
        .places
        .iter()
        .flat_map(|path| places::names(path))
        .collect();
    names.retain(|name| {
        name.is_dir() && !(host.is_root && private::refuse_foreign(name, Whose::Trusted).is_err())
    });
    names.sort_by_key(|name| name.components().count());
    names
}

/// Shows directories that nobody asked for at their own paths: what takes none is left out.
fn show_names(
    mounts: &mut Vec<Mount>,
    names: impl IntoIterator<Item = PathBuf>,
    origin: &str,
    image: &Image,
    ordered: &[Mount],
) {
    for name in names {
        // What was asked for below it could not be made on the host.
        let is_in_the_way = |mount: &Mount| {
            mount.destination != name
                && mount.destination.starts_with(&name)
                && !mount.destination.exists()
        };
        if ordered.iter().any(is_in_the_way) {
            continue;
        }
        let Some(mount) = shown_unless_taken(&name, image, mounts, ordered, origin) else {
            continue;
        };
        mounts.push(mount);
        if let Err(error) = refuse_new_points_on_the_host(mounts) {
            tracing::debug!("{error}: {} is not shown", name.display());
            mounts.pop();
        }
    }
}

/// A directory at its own path, unless it is there, or would hide something of the image.
fn shown_unless_taken(
    directory: &Path,
    image: &Image,
    mounts: &[Mount],
    ordered: &[Mount],
    origin: &str,
) -> Option<Mount> {
    if directory == Path::new("/") {
        return None;
    }
    let shown = shown_at_same_path(mounts, directory);
    let will_be_shown = shown_at_same_path(ordered, directory) == Some(true);
    let taken = mounts.iter().any(|mount| mount.destination == directory);
    if shown == Some(true) || will_be_shown || taken {
        return None;
    }
    // Under a tmpfs the image's own contents are out of sight.
    if shown.is_none() && image.has_own(directory) {
        return None;
    }
    Some(Mount {
        follow: true,
        ..Mount::same(directory, origin)
    })
}

/// Whether the container shows the host's `path` at the same path; none if no mount covers it.
fn shown_at_same_path(mounts: &[Mount], path: &Path) -> Option<bool> {
    let covering = mounts
        .iter()
        .rev()
        .find(|mount| path.starts_with(&mount.destination))?;
    Some(matches!(&covering.source, MountSource::Host(source) if *source == covering.destination))
}

/// A mount point that would have to be made below a bind would be made on the host.
fn refuse_new_points_on_the_host(mounts: &[Mount]) -> Result<()> {
    for (index, mount) in mounts.iter().enumerate() {
        let below = mounts[..index].iter().rev().find(|earlier| {
            mount.destination != earlier.destination
                && mount.destination.starts_with(&earlier.destination)
        });
        let Some(Mount {
            source: MountSource::Host(source),
            destination,
            ..
        }) = below
        else {
            continue;
        };
        let rest = mount
            .destination
            .strip_prefix(destination)
            .unwrap_or(Path::new(""));
        if !source.join(rest).exists() {
            return Err(under_a_bind(
                &mount.destination,
                destination,
                &source.join(rest),
            ));
        }
    }
    Ok(())
}

/// The refusal of a mount point below a bind.
pub(crate) fn under_a_bind(point: &Path, bind: &Path, on_host: &Path) -> Error {
    Error::new(format!(
        "can't mount on {}: it would have to be made on the host, since {} is bound from there",
        point.display(),
        bind.display()
    ))
    .hint(format!(
        "make {} first, or choose another destination",
        on_host.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(source: &str, destination: &str) -> Mount {
        Mount::own(MountSource::Host(source.into()), destination, "test")
    }

    #[test]
    fn a_directory_is_shown_only_if_its_own_path_leads_to_it() {
        let mounts = [bind("/tmp", "/tmp"), bind("/data", "/scratch")];
        assert_eq!(shown_at_same_path(&mounts, Path::new("/tmp/x")), Some(true));
        assert_eq!(
            shown_at_same_path(&mounts, Path::new("/scratch/x")),
            Some(false)
        );
        assert_eq!(shown_at_same_path(&mounts, Path::new("/scratch2")), None);
    }

    #[test]
    fn a_mount_point_that_would_be_made_on_the_host_is_refused() {
        let place = tempfile::tempdir().unwrap();
        std::fs::create_dir(place.path().join("there")).unwrap();
        let host = place.path().to_str().unwrap();
        let good = [bind(host, "/mnt"), bind("/etc", "/mnt/there")];
        assert_eq!(refuse_new_points_on_the_host(&good), Ok(()));
        let bad = [bind(host, "/mnt"), bind("/etc", "/mnt/new")];
        let error = refuse_new_points_on_the_host(&bad).unwrap_err();
        assert!(
            error.to_string().contains("can't mount on /mnt/new"),
            "{error}"
        );
        assert!(
            error.advice().unwrap().contains("there") || error.advice().unwrap().contains("new")
        );
    }

    #[test]
    fn a_tmpfs_takes_new_mount_points() {
        let tmpfs = Mount::own(MountSource::Tmpfs(None), "/tmp", "test");
        assert_eq!(
            refuse_new_points_on_the_host(&[tmpfs, bind("/etc", "/tmp/new")]),
            Ok(())
        );
    }
}
