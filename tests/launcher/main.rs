//! The launcher as a person uses it, in real user namespaces, as an ordinary user.

#![allow(clippy::disallowed_methods, reason = "tests make what they need")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that cannot go on fails"
)]
#![allow(clippy::panic, reason = "a test that cannot go on fails")]

#[path = "../support/mod.rs"]
mod support;

mod advisories;
mod attack;
mod ch_run;
mod check;
mod coming_from;
mod completion;
mod corpus;
mod destinations;
mod devices;
mod distributions;
mod documents;
mod drivers;
mod edf;
mod entering;
mod foreign;
mod habits;
mod host_commands;
mod house;
mod interrupted;
mod layouts;
mod limits;
mod oldest_kernel;
mod overlay;
mod overlay_property;
mod pack;
mod packages;
mod prepared;
mod printed;
mod registry;
mod run;
mod running;
mod shipped;
mod squashfs;
mod terminal;
mod trees;
mod unpack;

use std::path::Path;

use support::Said;
use tempfile::TempDir;

/// One test's directory with a small image in it, and the launcher.
struct Place {
    place: TempDir,
    launcher: String,
}

impl Place {
    /// None where user namespaces or busybox are missing.
    fn new() -> Option<Place> {
        let place = support::scratch();
        let launcher = std::env::var("CHARIOT").unwrap_or(env!("CARGO_BIN_EXE_chariot").into());
        let site = Place { place, launcher };
        let image = site.here().join("img");
        std::fs::create_dir_all(image.join("bin")).unwrap();
        std::fs::create_dir_all(image.join("etc")).unwrap();
        std::fs::copy("/bin/busybox", image.join("bin/busybox")).ok()?;
        for applet in [
            "sh", "echo", "true", "ls", "cat", "id", "readlink", "touch", "grep", "stat", "sleep",
            "mkdir", "dirname", "head", "od",
        ] {
            std::os::unix::fs::symlink("busybox", image.join("bin").join(applet)).unwrap();
        }
        (site.run("$C run ./img true").code != 125 || site.run("$C run ./img sh -c :").code == 0)
            .then_some(site)
    }

    fn here(&self) -> &Path {
        self.place.path()
    }

    /// Runs a script as the ordinary user; `$C` is the launcher, and no site's file disturbs.
    fn run(&self, script: &str) -> Said {
        self.run_with(script, &[])
    }

    fn run_with(&self, script: &str, more: &[(&str, &str)]) -> Said {
        let launcher = format!("{} --config /dev/null", self.launcher);
        let mut variables = vec![("C", launcher.as_str())];
        variables.extend_from_slice(more);
        support::shell(script, self.here(), &variables)
    }
}

/// A place, or a skip.
#[macro_export]
macro_rules! place {
    () => {
        match $crate::Place::new() {
            Some(place) => place,
            None => {
                $crate::skip!("no user namespaces, or no /bin/busybox (package busybox-static)")
            }
        }
    };
}
