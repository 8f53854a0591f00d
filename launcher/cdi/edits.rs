//! What all chosen devices need together, in the words of the plan.

use chariot_core::sys::rights;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::loader::{self, Libraries, Seen};
use super::nvidia::{self, Wish};
use super::spec::{Edits, HookWords, MountPoint, Node};
use super::specifications::Chosen;
use super::{Devices, Hook};
use crate::mount::{Mount, MountSource};
use chariot_core::config::Config;
use chariot_core::error::{Error, Result, io_reason};
use chariot_core::options::Sourced;
use chariot_core::options::device::Device;
use chariot_core::sys::mounts::Restrictions;

/// How long a hook may take, unless its specification says less.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the driver's library reads before it makes device nodes.
const DRIVER_PARAMETERS: &str = "/proc/driver/nvidia/params";
const MAKES_NODES: &str = "ModifyDeviceFiles: 1";
/// Where EGL looks for what it may see.
const PROFILE: &str = "/etc/nvidia/nvidia-application-profiles-rc.d/10-container.conf";

/// Puts together what all of `chosen`, and the nodes among `asked`, need.
///
/// # Errors
/// The host lacks something that a device needs, or a device needs a program that the site does not allow.
pub(super) fn collect(
    asked: &[Sourced<Device>],
    chosen: &[Chosen<'_>],
    config: &Config,
    seen: &Seen<'_>,
) -> Result<Devices> {
    let mut collector = Collector {
        devices: Devices::default(),
        wishes: Vec::new(),
        nodes: Vec::new(),
        config,
    };
    let mut added: Vec<&Path> = Vec::new();
    for found in chosen {
        let name = format!("{}={}", found.spec.kind, found.device.name);
        let shown = format!("{name} ({}, {})", found.path.display(), found.origin);
        collector.devices.names.push(shown);
        if !added.contains(&found.path) {
            added.push(found.path);
            collector.add(&found.spec.container_edits, &name)?;
        }
        collector.add(&found.device.container_edits, &name)?;
    }
    for Sourced { value, origin } in asked {
        if let Device::Node {
            source,
            destination,
        } = value
        {
            let shown = format!("{} ({origin})", source.display());
            collector.devices.names.push(shown);
            collector.node(source, destination, &source.display().to_string())?;
        }
    }
    let Collector {
        mut devices,
        wishes,
        nodes,
        ..
    } = collector;
    // Those nearer to the root first, so that none hides another; otherwise as they were written.
    devices
        .mounts
        .sort_by_key(|mount| mount.destination.components().count());
    fulfil(&wishes, &nodes, seen, &mut devices)?;
    Ok(devices)
}

struct Collector<'a> {
    devices: Devices,
    /// What hooks of NVIDIA's toolkit want, with the device that wants it.
    wishes: Vec<(Wish, String)>,
    /// The device nodes, by their paths in the container.
    nodes: Vec<PathBuf>,
    config: &'a Config,
}

impl Collector<'_> {
    fn add(&mut self, edits: &Edits, name: &str) -> Result<()> {
        for variable in &edits.env {
            let (variable, value) = variable.split_once('=').unwrap_or((variable, ""));
            self.devices
                .environment
                .retain(|(known, ..)| known != variable);
            let origin = format!("device {name}");
            self.devices
                .environment
                .push((variable.to_owned(), value.to_owned(), origin));
        }
        for Node {
            path, host_path, ..
        } in &edits.device_nodes
        {
            let source = host_path.as_ref().unwrap_or(path);
            self.node(Path::new(source), Path::new(path), name)?;
        }
        for mount in &edits.mounts {
            self.mount(mount, name)?;
        }
        for hook in &edits.hooks {
            self.hook(hook, name)?;
        }
        self.warn(edits, name);
        Ok(())
    }

    /// A device node is bound. All of the host's /dev is in every container, so that mostly nothing is to be done.
    fn node(&mut self, source: &Path, destination: &Path, name: &str) -> Result<()> {
        check(source, name)?;
        self.nodes.push(destination.to_owned());
        let of_dev = Path::new("/dev");
        let is_shown = destination.starts_with(of_dev);
        if source == destination && is_shown {
            return Ok(());
        }
        self.devices.own_dev |= is_shown && destination.symlink_metadata().is_err();
        self.put(Mount::own(
            MountSource::Host(source.to_owned()),
            destination,
            &format!("device {name}"),
        ));
        Ok(())
    }

    fn mount(&mut self, mount: &MountPoint, name: &str) -> Result<()> {
        let source = Path::new(&mount.host_path);
        let has = |options: &[&str]| {
            mount
                .options
                .iter()
                .any(|option| options.contains(&option.as_str()))
        };
        let kind = match mount.kind.as_deref() {
            Some("tmpfs") => MountSource::Tmpfs(None),
            None | Some("" | "bind" | "none") => {
                check(source, name)?;
                MountSource::Host(source.to_owned())
            }
            Some(other) => {
                return Err(cant(
                    name,
                    &format!("a mount of type {other}, which requires privileges"),
                ));
            }
        };
        self.put(Mount {
            source: kind,
            destination: PathBuf::from(&mount.container_path),
            restrictions: Restrictions {
                read_only: has(&["ro"]),
                private: has(&["private", "rprivate"]),
                no_privilege: has(&["nosuid"]) && has(&["nodev"]),
            },
            follow: true,
            origin: format!("device {name}"),
        });
        Ok(())
    }

    /// Of two mounts at one place the later counts.
    fn put(&mut self, mount: Mount) {
        let place = &mount.destination;
        self.devices
            .mounts
            .retain(|known| known.destination != *place);
        self.devices.mounts.push(mount);
    }

    fn hook(&mut self, hook: &HookWords, name: &str) -> Result<()> {
        if let Some(wish) = nvidia::understand(hook) {
            self.wishes.push((wish, name.to_owned()));
            return Ok(());
        }
        let path = PathBuf::from(&hook.path);
        if !self.config.cdi_hooks.contains(&path) {
            let needs = format!(
                "the program {}, which this site does not let run",
                hook.path
            );
            return Err(cant(name, &needs)
                .hint("the administrator can allow it: cdi_hooks in the site configuration file"));
        }
        if matches!(hook.hook_name.as_str(), "poststart" | "poststop") {
            self.note(format!(
                "the device {name} wants {} run later ({}), when nothing of Chariot is left to do it",
                hook.path, hook.hook_name
            ));
            return Ok(());
        }
        let wanted = hook
            .timeout
            .map(Duration::from_secs)
            .filter(|time| !time.is_zero());
        self.devices.hooks.push(Hook {
            words: match hook.args.is_empty() {
                true => vec![hook.path.clone()],
                false => hook.args.clone(),
            },
            environment: hook.env.clone(),
            patience: wanted.map_or(PATIENCE, |wanted| wanted.min(PATIENCE)),
            path,
        });
        Ok(())
    }

    /// What takes privilege.
    fn warn(&mut self, edits: &Edits, name: &str) {
        let own = rights::groups();
        let others: Vec<String> = edits
            .additional_gids
            .iter()
            .filter(|group| !own.contains(group))
            .map(u32::to_string)
            .collect();
        if !others.is_empty() {
            self.note(format!(
                "the device {name} wants the groups {}, which you are not in",
                others.join(", ")
            ));
        }
        for device in &edits.net_devices {
            self.note(format!(
                "the device {name} wants the network interface {} to itself; the container has the host's network",
                device.host_interface_name
            ));
        }
        if edits.intel_rdt.is_some() {
            self.note(format!(
                "the device {name} wants a share of the processor's cache (intelRdt), which requires privileges"
            ));
        }
    }

    /// Says something once.
    fn note(&mut self, sentence: String) {
        let warning =
            Error::new(sentence).hint("the administrator can give it to the step in Slurm");
        if !self.devices.warnings.contains(&warning) {
            self.devices.warnings.push(warning);
        }
    }
}

fn cant(name: &str, needs: &str) -> Error {
    Error::new(format!(
        "can't give the container the device {name}: it needs {needs}"
    ))
}

/// Whether the host has what a device needs.
fn check(path: &Path, name: &str) -> Result<()> {
    match path.metadata() {
        Ok(_) => Ok(()),
        Err(error) => {
            let path = path.display();
            let reason = io_reason(&error);
            Err(cant(name, &format!("{path}: stat(\"{path}\"): {reason}"))
                .hint("does the device exist on this node, and does its description match the installed driver?"))
        }
    }
}

/// What hooks of NVIDIA's toolkit want together.
#[derive(Default)]
struct Wanted {
    /// Directories in which the loader finds libraries.
    folders: Vec<PathBuf>,
    /// Directories in which libraries have links of the names by which programs ask for them.
    named: Vec<PathBuf>,
    /// Other links: what they say, and where they are.
    links: Vec<(PathBuf, PathBuf)>,
    /// The image's own libraries that are newer than the host's.
    compatibility: Option<Vec<String>>,
}

/// Does what the toolkit's hooks would have done.
fn fulfil(
    wishes: &[(Wish, String)],
    nodes: &[PathBuf],
    seen: &Seen<'_>,
    devices: &mut Devices,
) -> Result<()> {
    let Some((_, name)) = wishes.first() else {
        return Ok(());
    };
    let origin = format!("device {name}");
    let mut wanted = Wanted::default();
    for (wish, _) in wishes {
        match wish {
            Wish::LoaderCache(folders) => wanted.folders.extend(folders.iter().cloned()),
            Wish::SonameLinks(folders) => wanted.named.extend(folders.iter().cloned()),
            Wish::Links(links) => wanted.links.extend(links.iter().cloned()),
            Wish::Compatibility { driver, cuda } => {
                let (driver, cuda) = (driver.as_deref(), cuda.as_deref());
                wanted.compatibility = loader::compatibility(seen.image, driver, cuda);
            }
            Wish::NoDeviceNodes => devices.mounts.extend(driver_parameters(&origin)),
            Wish::ApplicationProfile => devices.mounts.push(profile(nodes, &origin)),
            Wish::Nothing => {}
        }
    }
    find_libraries(wanted, seen, devices, &origin)
}

/// Has programs find the libraries: links first, then the loader's own files, as ldconfig(8) does it. That the image's
/// own libraries come before the host's is known by then, whatever the order of hooks was.
fn find_libraries(
    wanted: Wanted,
    seen: &Seen<'_>,
    devices: &mut Devices,
    origin: &str,
) -> Result<()> {
    let named: Vec<PathBuf> = wanted
        .named
        .iter()
        .chain(&wanted.folders)
        .cloned()
        .collect();
    let mut links = Libraries::of(&devices.mounts, &named).links();
    links.extend(wanted.links);
    let libraries = Libraries::of(&devices.mounts, &wanted.folders);
    let places = devices.mounts.iter().map(|mount| mount.destination.clone());
    let mut taken: BTreeSet<PathBuf> = places.collect();
    for (target, link) in links {
        // A file that was put there is what a link would lead to.
        if taken.insert(link.clone()) {
            let link = Mount::own(MountSource::Link(target), link, origin);
            devices.mounts.push(link);
        }
    }
    if wanted.folders.is_empty() {
        return Ok(());
    }
    let compatibility = wanted.compatibility.as_deref();
    let files = loader::files(seen, &wanted.folders, &libraries, compatibility, origin)?;
    devices.mounts.extend(files);
    Ok(())
}

/// The driver's parameters, which tell its library that it need not make device nodes.
fn driver_parameters(origin: &str) -> Option<Mount> {
    let text = chariot_core::open::read_text(Path::new(DRIVER_PARAMETERS), 1 << 20).ok()?;
    text.contains(MAKES_NODES).then(|| {
        let text = text.replace(MAKES_NODES, "ModifyDeviceFiles: 0");
        Mount::own(MountSource::Text(text), DRIVER_PARAMETERS, origin)
    })
}

/// Which GPUs EGL may see: those whose nodes were asked for, as a mask of their minor numbers.
fn profile(nodes: &[PathBuf], origin: &str) -> Mount {
    let numbers = nodes.iter().filter_map(|node| {
        let path = node.to_str()?;
        path.strip_prefix("/dev/nvidia")?.parse::<u32>().ok()
    });
    let mask = numbers.fold(0_u64, |mask, number| {
        mask | 1_u64.checked_shl(number).unwrap_or(0)
    });
    let text = format!(
        "{{\"profiles\":[{{\"name\":\"_container_\",\"settings\":[\"EGLVisibleDGPUDevices\",{mask:#x}]}}],\
         \"rules\":[{{\"pattern\":[],\"profile\":\"_container_\"}}]}}\n"
    );
    Mount::own(MountSource::Text(text), PROFILE, origin)
}
