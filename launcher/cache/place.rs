//! Where a user's cache is: where the site says; where somebody else was first, at home; and where there is no home to be
//! written, in a directory of this node's, so that nobody stops anybody's job.

use chariot_core::sys::rights;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{Access, access};

use crate::host::Host;
use chariot_core::config::Config;
use chariot_core::error::Result;
use chariot_core::private::{self, Refusal, Whose};

/// Where it is if not where the site says.
const AT_HOME: [&str; 2] = ["$XDG_CACHE_HOME/chariot", "~/.cache/chariot"];

/// The place, and why it is not the site's.
pub(super) fn of(config: &Config, host: &Host) -> Result<(PathBuf, Option<String>)> {
    let root = host.expand("cache", &config.cache)?;
    let Err(refusal) = private::refuse_foreign(&root, Whose::Own) else {
        return Ok((root, None));
    };
    let mut at_home = AT_HOME
        .iter()
        .filter_map(|text| host.expand("cache", text).ok());
    let other = match at_home.find(|other| can_be_had(other)) {
        Some(other) => other,
        // Who made it so is told what is wrong with it.
        None if is_own_fault(&refusal) => return Ok((root, None)),
        None => on_this_node(host),
    };
    let moved = format!(
        "the cache is {} and not {}: {refusal}",
        other.display(),
        root.display()
    );
    Ok((other, Some(moved)))
}

/// Whether this user has let others write there.
fn is_own_fault(refusal: &Refusal) -> bool {
    match refusal {
        Refusal::Foreign { place, .. } => place
            .symlink_metadata()
            .is_ok_and(|data| data.uid() == rights::user()),
        Refusal::Failed { .. } => false,
    }
}

/// Whether it is nobody else's, and is there to be written or could be made.
fn can_be_had(place: &Path) -> bool {
    let may_write = |path: &Path| access(path, Access::WRITE_OK | Access::EXEC_OK).is_ok();
    private::refuse_foreign(place, Whose::Own).is_ok()
        && place
            .ancestors()
            .find(|above| above.symlink_metadata().is_ok())
            .is_some_and(may_write)
}

/// One that this user has in the directory for temporary files, or a new one, whose name nobody can have foreseen. It
/// stays, so that what is converted there is converted once.
fn on_this_node(host: &Host) -> PathBuf {
    let above = host.variable("TMPDIR").map(PathBuf::from);
    let above = above.filter(|above| above.is_absolute() && can_be_had(&above.join("chariot")));
    let above = above.unwrap_or_else(|| "/tmp".into());
    let name = format!("chariot-cache-{}.", rights::user());
    let entries = above.read_dir().into_iter().flatten().flatten();
    let known = entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&name))
        .map(|entry| entry.path())
        .filter(|path| private::look(path, Whose::Own).is_ok());
    known.min().unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let time = now.unwrap_or_default().as_nanos();
        above.join(format!("{name}{}-{time:x}", std::process::id()))
    })
}
