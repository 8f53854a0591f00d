//! `chariot open`: opens the image of a Slurm step as its user, for root to mount if it trusts the file. Not for
//! people: the plugin executes it as the user, with a [`Request`](crate::handover::Request) on standard input.
//! It sends two descriptors, the file and a line of text with the image's place in it, or nothing.

use std::os::fd::AsFd;
use std::process::ExitCode;

use clap::{ArgMatches, Command};

use super::step;
use crate::cache::Access;
use crate::config::Config;
use crate::error::{Explain, Result};
use crate::host::Host;
use crate::image::Image;
use crate::sys::{self, sharing};

pub(super) fn command() -> Command {
    Command::new("open")
        .hide(true)
        .about("Open the image of a Slurm step for root to mount")
        .args(step::arguments())
}

/// Sends the image's file, if it is one that the kernel could mount for this step. Whatever is wrong is not told
/// here: the step's container is made later by the usual way, which says it.
pub(super) fn open(matches: &ArgMatches) -> Result<ExitCode> {
    let what = || "can't hand the image over".to_owned();
    let socket = step::socket(matches)?;
    let request = step::request()?;
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
        see: &mut |_| {},
    };
    let image = Image::locate(&word.value, &config, &host, &mut access)?;
    let Some(squashfs) = image.squashfs() else {
        return Ok(ExitCode::SUCCESS);
    };
    let (start, length) = squashfs.place();
    let place = format!("{start} {length}\n");
    let place = sys::memory_file_of(c"place", place.as_bytes()).explain(what)?;
    sharing::send(socket.as_fd(), &[squashfs.file().as_fd(), place.as_fd()]).explain(what)?;
    Ok(ExitCode::SUCCESS)
}
