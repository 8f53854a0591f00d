//! `--devices` and `--device`, as releases from 0.40 on have them: whole kinds of devices.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::ArgMatches;

use crate::cdi::{self, Devices};
use crate::host::Host;
use crate::image::Image;
use chariot_core::config::Config;
use chariot_core::error::{Error, Result};
use chariot_core::options::device::{ALL, Device};
use chariot_core::options::{Options, Sourced};

/// What the devices need that were asked for.
pub(super) fn plan(
    matches: &ArgMatches,
    config: &Config,
    host: &Host,
    image: &Image,
) -> Result<Devices> {
    let mut config = config.clone();
    if let Some(places) = places(matches, host) {
        config.cdi_dirs = places;
    }
    let asked = matches.get_many::<OsString>("device").into_iter().flatten();
    let asked: Vec<String> = asked
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let (files, mut kinds): (Vec<_>, Vec<_>) = asked
        .into_iter()
        .partition(|word| word.starts_with(['/', '.']));
    for file in files {
        let file = PathBuf::from(file);
        let of_file = cdi::kinds(std::slice::from_ref(&file));
        if of_file.is_empty() {
            return Err(Error::new(format!(
                "--device: no specification of devices: {}",
                file.display()
            )));
        }
        kinds.extend(of_file);
        config.cdi_dirs.push(file);
    }
    if matches.get_flag("devices") {
        kinds.extend(cdi::kinds(&config.cdi_dirs));
    }
    let device = |kind: String| Sourced {
        value: Device::Named {
            kind,
            name: ALL.to_owned(),
        },
        origin: "--device".to_owned(),
    };
    let options = Options {
        devices: kinds.into_iter().map(device).collect(),
        no_other_devices: true,
        ..Options::default()
    };
    Devices::plan(&options, &config, host, image)
}

/// Where specifications are, if this or the environment says so.
fn places(matches: &ArgMatches, host: &Host) -> Option<Vec<PathBuf>> {
    let typed = matches.get_one::<String>("cdi-dirs").cloned();
    let value = typed.or_else(|| {
        let value = host.variable("CH_RUN_CDI_DIRS")?;
        Some(value.to_string_lossy().into_owned())
    })?;
    Some(std::env::split_paths(&value).collect())
}
