//! `chariot open`: says where the image of a Slurm step lies, for root to mount if it trusts the file. Not for
//! people: the plugin executes it as the user, with a [`Request`](chariot_core::handover::Request) on standard input.
//! It says the path, without a link in it, or nothing.

use std::process::ExitCode;

use clap::{ArgMatches, Command};

use super::step;
use crate::cache::Access;
use crate::host::Host;
use crate::locate;
use crate::print;
use chariot_core::config::Config;
use chariot_core::error::{Explain, Result};
use chariot_core::escape;
use chariot_core::handover::Said;

pub(super) fn command() -> Command {
    Command::new("open")
        .hide(true)
        .about("Say where the image of a Slurm step lies")
        .arg(step::parent())
}

/// Prints where the image's file is, if it is one that the kernel could mount for this step. Whatever is wrong is not told
/// here: the step's container is made later by the usual way, which says it.
pub(super) fn open(matches: &ArgMatches) -> Result<ExitCode> {
    step::end_with_parent(matches)?;
    let request = step::request(&mut Vec::new())?;
    let config = Config::load(&request.config)?;
    let options = step::options(&request, &config)?;
    let (Some(word), false) = (&options.image, options.may_change_image()) else {
        // The kernel shows files as belonging to whom the image says, whom nobody in the container is.
        return Ok(ExitCode::SUCCESS);
    };
    let host = Host::look(request.environment, None);
    let mut access = Access {
        may_fetch: false,
        may_ask: false,
        pull: options.pull,
        see: &mut |_| {},
    };
    let image = locate::image(&word.value, &config, &host, &mut access)?;
    if image.squashfs().is_none() {
        return Ok(ExitCode::SUCCESS);
    }
    let path = image
        .path
        .canonicalize()
        .explain(|| "can't say where the image lies".into())?;
    // A name that would not come as it is belongs to an image that is served.
    if let Some(path) = path.to_str().filter(|path| escape::line(path) == *path) {
        print::say(&Said::Image(path.to_owned()));
    }
    Ok(ExitCode::SUCCESS)
}
