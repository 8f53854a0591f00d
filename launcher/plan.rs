//! What will be done: `Plan`, the second of the three stages. Plain data: it can be printed and
//! compared, and making it changes nothing. It is the last place where a user can be wrong in what
//! can be known from outside the container.

pub mod environment;
pub mod explain;
pub mod identity;
pub mod mounts;

use std::ffi::OsString;
use std::path::PathBuf;

use crate::config::Config;
use crate::enter::settle::Known;
use crate::error::{Error, Result};
use crate::host::{Environment, Host};
use crate::image::Image;
use crate::options::{Options, Sourced};
use environment::Edit;
use identity::Identity;
use mounts::Mount;

/// What is to run, and what only the caller knows about it.
#[derive(Debug, Clone, Default)]
pub struct Task {
    /// The command and its arguments; empty where Slurm alone knows them.
    pub command: Vec<OsString>,
    /// The batch script, which lies in slurmd's spool directory.
    pub script: Option<PathBuf>,
    /// Slurm's directory for temporary files on this node, in which PMIx makes one for the step.
    pub scratch: Option<PathBuf>,
}

/// What the container's root is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Root {
    /// The image, read-only.
    ReadOnly,
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
    /// Who the user is inside.
    pub identity: Identity,
    /// What is mounted, in this order.
    pub mounts: Vec<Mount>,
    /// The caller's environment.
    pub before: Environment,
    /// What changes in the environment.
    pub environment: Vec<Edit>,
    /// Where the command starts.
    pub workdir: Workdir,
    /// What runs.
    pub task: Task,
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
        task: Task,
    ) -> Result<Plan> {
        let identity = Identity::of(host, &image, Options::on(&options.root))?;
        let mounts = mounts::plan(options, config, host, &image, &identity, &task)?;
        let environment = environment::plan(options, host, &image)?;
        let root = root(options)?;
        let warnings = warnings(&root, host, &image, &task);
        let workdir = Workdir {
            asked: options.workdir.clone(),
            caller: host.directory.as_deref().and_then(Known::new),
            image: image.metadata.working_directory.clone(),
        };
        let before = host.environment.clone();
        Ok(Plan {
            image,
            root,
            identity,
            mounts,
            before,
            environment,
            workdir,
            task,
            warnings,
        })
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
            let reason = crate::error::io_reason(&error);
            Err(Error::new(format!(
                "{what}: stat(\"{}\"): {reason}",
                directory.display()
            ))
            .hint(format!("mkdir {}", directory.display())))
        }
    }
}

fn warnings(root: &Root, host: &Host, image: &Image, task: &Task) -> Vec<Error> {
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
    warnings.extend(
        task.script
            .as_ref()
            .and_then(|script| srun_inside(script, image)),
    );
    warnings
}

/// A script that runs in an image without Slurm cannot start steps; the shell's own `srun: not
/// found` would not say what to do.
fn srun_inside(script: &std::path::Path, image: &Image) -> Option<Error> {
    let text = std::fs::read_to_string(script).ok()?;
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
