//! Whose the site's file has to be.

use std::fs::File;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use super::cannot_use;
use crate::error::{Error, Explain, Result};
use crate::open;
use crate::private::{self, Whose};
use crate::sys::rights;

/// Root takes orders from a file only if nobody else could have written it, or put it there; others from their own too.
pub(super) fn refuse_foreign(file: &File, path: &Path) -> Result<()> {
    refuse_foreign_to(rights::is_root(), file, path)
}

/// Refuses a file that root would not take orders from, whoever asks. One that is not there is none of those.
///
/// # Errors
/// As [`Config::load`](super::Config::load).
pub fn refuse_all_but_roots(path: &Path) -> Result<()> {
    match open::typed(path) {
        Ok(file) => refuse_foreign_to(true, &file, path),
        Err(_) => Ok(()),
    }
}

fn refuse_foreign_to(is_root: bool, file: &File, path: &Path) -> Result<()> {
    let what = || cannot_use(path);
    let data = file.metadata().explain(what)?;
    // A user's shell can give a pipe the name of a file.
    if !is_root && !data.is_file() {
        return Ok(());
    }
    let whose = match is_root {
        true => Whose::Roots,
        false => Whose::Trusted,
    };
    // What anybody writes to /dev/null nobody reads.
    let refused = match data.file_type().is_char_device() {
        true => private::refuse_way(path, whose),
        false => private::refuse_file(file, path, whose),
    };
    refused.map_err(|refusal| {
        let error = Error::new(format!("{}: {refusal}", what()));
        match refusal.is_foreign() {
            true => error.hint("others could change it: chown root it, and chmod go-w it"),
            false => error,
        }
    })
}
