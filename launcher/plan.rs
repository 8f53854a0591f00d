//! What will be done: `Plan`, the second of the three stages. Plain data: it can be printed and
//! compared, and making it changes nothing. It is the last place where a user can be wrong in what
//! can be known from outside the container.

pub mod environment;
pub mod explain;
pub mod host_commands;
pub mod identity;
pub mod mounts;
pub(crate) mod steering;
mod task_files;

use std::ffi::OsString;
use std::path::PathBuf;

use crate::cdi::{Devices, Hook};
use chariot_core::config::Config;

use crate::host::{Host, Known};
use crate::image::Image;
use crate::mount::Mount;
use crate::mount::MountSource;
use chariot_core::environment::Edit;
use chariot_core::environment::Environment;
use chariot_core::error::{Error, Result};
use chariot_core::open;
use chariot_core::options::{Options, Sourced};
use chariot_core::places;
use host_commands::HostCommands;
use identity::Identity;

/// What is to run, and what only the caller knows about it.
#[derive(Debug, Clone, Default)]
pub struct Task {
    /// The command and its arguments; empty where Slurm alone knows them.
    pub command: Vec<OsString>,
    /// The batch script, which lies in slurmd's spool directory.
    pub script: Option<PathBuf>,
    /// Slurm's directory for temporary files on this node, in which PMIx makes one for the step.
    pub scratch: Option<PathBuf>,
    /// The directory of Slurm's commands on this node, where it is known.
    pub slurm: Option<PathBuf>,
    /// Whether the container is one that all tasks of a step share.
    pub is_of_step: bool,
    /// Whether it is a shell for somebody who types.
    pub is_interactive: bool,
}

/// What the container's root is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Root {
    /// The image, read-only.
    ReadOnly,
    /// The image itself, which is changed.
    AsItIs,
    /// The image under a tmpfs of so many bytes.
    Throwaway(u64),
    /// The image under a directory that keeps the changes.
    Kept(PathBuf),
}

/// Where the command starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workdir {
    /// A directory that was asked for; it must be there.
    pub asked: Option<Sourced<PathBuf>>,
    /// The caller's directory, taken if the container shows the same one.
    pub caller: Option<Known>,
    /// The same by its other name.
    pub also: Option<Known>,
    /// Whether the caller asked Slurm for it (`--chdir`), so that one of its name will do.
    pub is_named: bool,
    /// The image's own, taken if it is there.
    pub image: Option<PathBuf>,
}

/// All that will be done.
#[derive(Debug)]
pub struct Plan {
    /// The image, found and open.
    pub image: Image,
    /// What the root is made of.
    pub root: Root,
    /// Whether it is root of this machine who runs it, so that what is mounted has to be locked.
    pub is_of_root: bool,
    /// Who the user is inside.
    pub identity: Identity,
    /// What is mounted, in this order.
    pub mounts: Vec<Mount>,
    /// The SquashFS files among them, open, in the same order.
    pub files: Vec<Image>,
    /// The caller's environment.
    pub before: Environment,
    /// What changes in the environment.
    pub environment: Vec<Edit>,
    /// Which of it depends on what is seen inside.
    pub open: environment::Open,
    /// Where the command starts.
    pub workdir: Workdir,
    /// What runs.
    pub task: Task,
    /// The image's entrypoint, if it is to run the command; it is in the task's command already.
    pub entrypoint: Vec<String>,
    /// Whether changes of file owners are faked.
    pub fakeroot: bool,
    /// Commands of the host that can be called inside.
    pub host_commands: Option<HostCommands>,
    /// The devices that were asked for, with who asked.
    pub devices: Vec<String>,
    /// Programs that run before the container is entered.
    pub hooks: Vec<Hook>,
    /// Said in an environment file, and of no effect.
    pub annotations: Vec<String>,
    /// Told once, before the command runs.
    pub warnings: Vec<Error>,
}

impl Plan {
    /// Decides everything and does nothing.
    ///
    /// # Errors
    /// What the user asked for cannot be had.
    pub fn resolve(
        options: &Options,
        config: &Config,
        host: &Host,
        image: Image,
        mut task: Task,
    ) -> Result<Plan> {
        let entrypoint = entrypoint(options, &image, &task)?;
        task.command
            .splice(0..0, entrypoint.iter().map(OsString::from));
        let identity = Identity::of(host, &image, Options::on(&options.root))?;
        let host_commands = HostCommands::plan(options, config, host, &image, &task);
        let devices = Devices::plan(options, config, host, &image)?;
        let surroundings = mounts::Inputs {
            config,
            host,
            image: &image,
            identity: &identity,
            task: &task,
            host_commands: host_commands.as_ref(),
            devices: &devices,
        };
        let mounts = mounts::plan(options, &surroundings)?;
        let files = files(&mounts, config)?;
        let planned = environment::plan(options, host, &image, &devices.environment, &task)?;
        let mut environment = planned.edits;
        if let Some(commands) = host_commands.as_ref().filter(|_| !planned.path_was_asked) {
            environment::end_path_in(&commands.directory, &host.environment, &mut environment);
        }
        let root = root(options)?;
        let mut warnings = warnings(&root, host, &image, &task, host_commands.as_ref());
        warnings.extend(devices.warnings);
        warnings.extend(host.is_root.then(|| steering::warning(&image)));
        let workdir = Workdir {
            asked: options.workdir.clone(),
            caller: host.directory.as_deref().and_then(Known::new),
            also: host.directory.as_deref().and_then(other_name),
            is_named: is_named(host, &task),
            // A relative one is meant from the root.
            image: image
                .metadata
                .working_directory
                .as_ref()
                .map(|path| PathBuf::from("/").join(path)),
        };
        let before = host.environment.clone();
        Ok(Plan {
            image,
            root,
            is_of_root: host.is_root,
            identity,
            mounts,
            files,
            before,
            environment,
            open: planned.open,
            workdir,
            task,
            entrypoint,
            fakeroot: Options::on(&options.fakeroot),
            host_commands,
            devices: devices.names,
            hooks: devices.hooks,
            annotations: options.annotations.clone(),
            warnings,
        })
    }
}

fn other_name(directory: &std::path::Path) -> Option<Known> {
    places::names(directory)
        .get(1)
        .and_then(|name| Known::new(name))
}

/// Whether a task of a step or a script starts elsewhere than its command was typed.
fn is_named(host: &Host, task: &Task) -> bool {
    let typed = places::typed_in(&host.environment).filter(|_| task.is_of_step);
    let here = host.directory.as_deref().and_then(Known::new);
    typed
        .zip(here)
        .is_some_and(|(typed, here)| !here.is_called(&typed))
}

/// Opens the SquashFS files that are mounted beside the image.
fn files(mounts: &[Mount], config: &Config) -> Result<Vec<Image>> {
    let open = |mount: &Mount| {
        let MountSource::SquashFs(path) = &mount.source else {
            return None;
        };
        let word = path.display().to_string();
        let destination = mount.destination.display();
        let what = format!("can't mount {word} on {destination}");
        let opened = Image::open(&word, path, config).map_err(|error| error.within(&what));
        Some(opened.and_then(|image| {
            match image.is_tree() {
                true => Err(Error::new(format!("{what}: it is a directory"))
                    .hint(format!("{}: leave out sqsh", mount.origin))),
                false => Ok(image),
            }
        }))
    };
    mounts.iter().filter_map(open).collect()
}

fn entrypoint(options: &Options, image: &Image, task: &Task) -> Result<Vec<String>> {
    if !Options::on(&options.entrypoint) || task.script.is_some() {
        return Ok(Vec::new());
    }
    match image.metadata.entrypoint.is_empty() {
        false => Ok(image.metadata.entrypoint.clone()),
        true => Err(Error::new(format!(
            "can't run the entrypoint of the image {}: it has none",
            image.word
        ))
        .hint("leave out --entrypoint, or say --entrypoint=no if the job or the site asks for it")),
    }
}

fn root(options: &Options) -> Result<Root> {
    if let Some(bytes) = options
        .writable
        .as_ref()
        .and_then(|writable| writable.value)
    {
        return Ok(Root::Throwaway(bytes));
    }
    let Some(overlay) = &options.overlay else {
        return Ok(Root::ReadOnly);
    };
    let directory = &overlay.value;
    let what = format!("can't keep changes in {}", directory.display());
    match directory.metadata() {
        Ok(data) if data.is_dir() => Ok(Root::Kept(directory.clone())),
        Ok(_) => Err(Error::new(format!("{what}: it is not a directory"))),
        Err(error) => {
            let reason = chariot_core::error::io_reason(&error);
            Err(Error::new(format!(
                "{what}: stat(\"{}\"): {reason}",
                directory.display()
            ))
            .hint(format!("mkdir {}", directory.display())))
        }
    }
}

fn warnings(
    root: &Root,
    host: &Host,
    image: &Image,
    task: &Task,
    host_commands: Option<&HostCommands>,
) -> Vec<Error> {
    use std::os::unix::fs::MetadataExt;
    let mut warnings = Vec::new();
    let owner = image.path.metadata().map(|data| data.uid());
    let is_foreign = image.is_tree() && owner.is_ok_and(|owner| owner != host.uid);
    if *root != Root::ReadOnly && is_foreign {
        warnings.push(
            Error::new(format!(
                "the image {} belongs to somebody else: only what you may write in it can be changed",
                image.word
            ))
            .hint("the files of a SquashFS image, or of a tree that you unpacked yourself, are yours"),
        );
    }
    let has_srun =
        host_commands.is_some_and(|commands| commands.names.iter().any(|name| name == "srun"));
    let script = task.script.as_ref().filter(|_| !has_srun);
    warnings.extend(script.and_then(|script| srun_inside(script, image)));
    warnings
}

/// The longest batch script that is looked into, in bytes.
const LARGEST_SCRIPT: u64 = 4 << 20;

/// Where the site does not let srun be called from containers, a script that runs in an image without Slurm cannot
/// start steps; the shell's own `srun: not found` would not say what to do.
fn srun_inside(script: &std::path::Path, image: &Image) -> Option<Error> {
    let text = open::read_text(script, LARGEST_SCRIPT).ok()?;
    let calls = text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .flat_map(|line| line.split([';', '|', '&', '(', '`']))
        .any(|command| command.split_whitespace().next() == Some("srun"));
    let directories = ["/usr/local/bin", "/usr/bin", "/bin", "/opt/slurm/bin"];
    let has = directories
        .iter()
        .any(|directory| image.has(&PathBuf::from(directory).join("srun")));
    (calls && !has).then(|| {
        Error::new(format!(
            "the batch script calls srun, and the image {} has none: srun: not found",
            image.word
        ))
        .hint("--ch-batch=host leaves the script on the host; the steps that it starts run in the image")
    })
}
