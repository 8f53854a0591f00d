//! What the commands need that make and keep images: the site's file, who is asking, and work in a process of its
//! own that shows how far it is and leaves nothing half done.

use std::env;
use std::process::ExitCode;

use clap::ArgMatches;

use super::asked::{config_path, refuse_disabled};
use super::convert::refuse_other_file;
use super::progress::Display;
use crate::cache::Cache;
use crate::cache::lease::{Lease, Turn};
use crate::convert::Summary;
use crate::files::Output;
use crate::files::output::Scratch;
use crate::host::{Host, refuse_old_kernel};
use crate::log::{self, Reader};
use crate::registry::Resolved;
use crate::work::{self, Progress, Reporter};
use chariot_core::config::Config;
use chariot_core::error::Result;
use chariot_core::options::given;

/// What the commands need that make and keep images.
#[derive(Debug)]
pub(super) struct Tool {
    pub(super) config: Config,
    pub(super) host: Host,
    pub(super) quiet: bool,
    /// That it is this one's turn to fetch an image which others may want too; until the command ends.
    turn: Option<Lease>,
}

impl Drop for Tool {
    fn drop(&mut self) {
        self.end_turn();
    }
}

impl Tool {
    /// For a command that makes an image, which takes the calls of a container.
    pub(super) fn to_make(matches: &ArgMatches) -> Result<Tool> {
        refuse_old_kernel()?;
        Tool::read(matches)
    }

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
            turn: None,
            config,
        })
    }

    /// Waits while somebody else fetches an image. Whether that is there then, as `is_there` has it; if not, nobody else
    /// fetches it, and nobody drops its layers, until the command ends.
    pub(super) fn take_turn(
        &mut self,
        resolved: &Resolved,
        is_there: impl Fn(&Cache<'_>) -> bool,
    ) -> Result<bool> {
        let cache = Cache::of(&self.config, &self.host);
        let word = resolved.reference.to_string();
        let mut display = Display::new(self.quiet);
        let is_there = || is_there(&cache);
        let see = &mut |progress: &Progress| display.see(progress);
        let turn = cache.turn(&resolved.digest, &word, is_there, see);
        display.end();
        match turn? {
            Turn::Made => Ok(true),
            Turn::Mine(lease) => {
                self.turn = Some(lease);
                Ok(false)
            }
        }
    }

    /// Lets others fetch it. They try by themselves if this one has failed: that may have been for a reason of its own.
    pub(super) fn end_turn(&mut self) {
        if let Some(lease) = self.turn.take() {
            lease.end();
        }
    }

    /// Runs `work`, and shows all the while those who wait for their turn that it is running.
    pub(super) fn in_turn<T>(
        &self,
        reporter: &Reporter,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        match &self.turn {
            Some(lease) => lease.beat_while(reporter, work),
            None => work(),
        }
    }

    /// Lets others go on when this process is gone.
    pub(super) fn abandon_turn(&self, is_unwanted: bool) {
        if is_unwanted && let Some(lease) = &self.turn {
            lease.end();
        }
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
        // Who enters a directory to fill it must have no second thread.
        let is_alone = output.made().metadata().is_ok_and(|data| data.is_dir());
        let done = work::run_with(
            what,
            |is_unwanted| {
                output.abandon();
                if let Some(scratch) = scratch {
                    scratch.remove();
                }
                self.abandon_turn(is_unwanted);
            },
            |reporter| {
                let make = || {
                    let made = work(reporter).map_err(|error| error.within(what));
                    made.and_then(|summary| output.sync().map(|()| summary))
                };
                match is_alone {
                    true => make(),
                    false => self.in_turn(reporter, make),
                }
            },
            |progress| {
                display.see(progress);
                if let Some(lease) = self.turn.as_ref().filter(|_| is_alone) {
                    lease.show(progress);
                }
            },
        );
        display.end();
        done
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
                _ => refuse_other_file(output.destination(), &self.config),
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
