//! stub
use chariot_core::error::Result;
use std::process::ExitCode;
pub(super) fn check(_: &clap::ArgMatches) -> Result<ExitCode> {
    Ok(ExitCode::SUCCESS)
}
