//! Devices: the Container Device Interface, version 1.1. A specification, written by who makes the driver, says what a
//! container needs in order to use a device; what it says becomes mounts, variables and files of the plan.
//!
//! The interface is made for runtimes that are root. What it wants of them is had otherwise here: device nodes are
//! bound, not made; the hooks of NVIDIA's toolkit, which change files of the image, become files that are mounted over
//! them (`nvidia`, `loader`). What cannot be had without privilege is said once.

mod edits;
pub mod elf;
mod gpus;
pub mod ld_cache;
mod loader;
mod nvidia;
pub mod spec;
mod specifications;

use std::path::PathBuf;
use std::time::Duration;

use crate::host::Host;
use crate::image::Image;
use crate::mount::Mount;
use chariot_core::config::Config;
use chariot_core::error::{Error, Result};
use chariot_core::options::Options;
use specifications::Specifications;

/// What a container gets for the devices that it was asked for.
#[derive(Debug, Default)]
pub struct Devices {
    /// Their names, with who wanted them.
    pub names: Vec<String>,
    /// What is mounted for them.
    pub mounts: Vec<Mount>,
    /// Whether /dev gets an entry that the host's has not.
    pub own_dev: bool,
    /// Variables: a name, a value, and who wanted it.
    pub environment: Vec<(String, String, String)>,
    /// Programs that run before the container is entered.
    pub hooks: Vec<Hook>,
    /// What could not be had.
    pub warnings: Vec<Error>,
}

/// A program that runs before the container is entered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// Its file, absolute.
    pub path: PathBuf,
    /// Its words, the first of which is its name.
    pub words: Vec<String>,
    /// Its variables, as NAME=VALUE; it has no others.
    pub environment: Vec<String>,
    /// How long it may take.
    pub patience: Duration,
}

impl Devices {
    /// Decides what the devices need that were asked for, or that Slurm gave the step.
    ///
    /// # Errors
    /// A device that no specification describes, or what it needs and the host does not have.
    pub fn plan(options: &Options, config: &Config, host: &Host, image: &Image) -> Result<Devices> {
        let mut asked = options.devices.clone();
        if asked.is_empty() && !options.no_other_devices {
            asked = gpus::of_the_step(config, host);
        }
        if asked.is_empty() {
            return Ok(Devices::default());
        }
        let registry = Specifications::read(&config.cdi_dirs);
        let chosen = registry.choose(&asked)?;
        let overlay = options.overlay.as_ref().map(|overlay| &overlay.value);
        let changes = overlay.map(|directory| directory.join(crate::mount::UPPER));
        let seen = loader::Seen {
            image,
            changes: changes.as_deref(),
            is_changeable: overlay.is_some()
                || options
                    .writable
                    .as_ref()
                    .is_some_and(|asked| asked.value.is_some()),
        };
        edits::collect(&asked, &chosen, config, &seen)
    }
}

/// The kinds of devices that are specified in directories, or in files.
pub fn kinds(places: &[PathBuf]) -> Vec<String> {
    Specifications::read(places).kinds()
}

/// What is described in directories, a line for each kind: `nvidia.com/gpu: 0, 1, all`.
///
/// # Errors
/// The first file that is broken.
pub fn described(places: &[PathBuf]) -> Result<Vec<String>> {
    Specifications::read(places).described()
}
