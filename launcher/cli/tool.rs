//! What the commands need that make and keep images: the site's file, who is asking, and work in a process of its
//! own that shows how far it is and leaves nothing half done.

use std::env;
use std::process::ExitCode;

use clap::ArgMatches;

use super::asked::{config_path, refuse_disabled};
use super::convert::refuse_other_file;
use super::progress::Display;
use crate::config::Config;
use crate::convert::Summary;
use crate::error::Result;
use crate::files::Output;
use crate::files::output::Scratch;
use crate::host::Host;
use crate::log::{self, Reader};
use crate::options::given;
use crate::work::{self, Reporter};

/// What the commands need that make and keep images.
#[derive(Debug)]
pub(super) struct Tool {
    pub(super) config: Config,
    pub(super) host: Host,
    pub(super) quiet: bool,
}

impl Tool {
    pub(super) fn read(matches: &ArgMatches) -> Result<Tool> {
        let config = Config::load(config_path(matches))?;
        log::start(Reader::Person, log::level(&config.log_level));
        refuse_disabled(&config)?;
        Ok(Tool {
            host: Host::look(env::vars_os().collect(), given::working_directory()),
            quiet: matches
                .try_get_one("quiet")
                .ok()
                .flatten()
                .copied()
                .unwrap_or(false),
            config,
        })
    }

    /// Runs `work` in a process of its own. The output goes away if that fails, or if this process is killed.
    pub(super) fn make(
        &self,
        output: &Output,
        what: &str,
        work: impl FnOnce(&Reporter) -> Result<Summary>,
    ) -> Result<Summary> {
        self.make_by(output, None, what, work)
    }

    /// The same, where another program has a place of its own for what it writes.
    pub(super) fn make_by(
        &self,
        output: &Output,
        scratch: Option<&Scratch>,
        what: &str,
        work: impl FnOnce(&Reporter) -> Result<Summary>,
    ) -> Result<Summary> {
        let mut display = Display::new(self.quiet);
        let done = work::run_with(
            what,
            |_| {
                output.abandon();
                if let Some(scratch) = scratch {
                    scratch.remove();
                }
            },
            |reporter| {
                let made = work(reporter).map_err(|error| error.within(what));
                let summary = made.and_then(|summary| output.sync().map(|()| summary))?;
                Ok(summary.to_line())
            },
            |progress| display.see(progress),
        );
        display.end();
        done.map(|line| Summary::from_line(&line))
    }

    /// Gives the output its name, or removes it.
    pub(super) fn finish(
        &self,
        output: &Output,
        made: Result<Summary>,
        said: &str,
    ) -> Result<ExitCode> {
        let finished = made.and_then(|summary| {
            // Of a directory finishing itself asks whether it is an image.
            output.finish_if(|| match output.made().metadata() {
                Ok(data) if data.is_dir() => Ok(()),
                _ => refuse_other_file(output.destination()),
            })?;
            Ok(summary)
        });
        match finished {
            Ok(summary) => {
                if !self.quiet {
                    tracing::info!("{said}: {summary}");
                }
                Ok(ExitCode::SUCCESS)
            }
            Err(error) => {
                // The first failure is the one to tell.
                output.abandon();
                Err(error)
            }
        }
    }
}
