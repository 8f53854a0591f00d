//! The site's file, as it is read for steps and as root reads it in slurmstepd, and what it names.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::Role;
use super::finding::{DEVICES, Finding, IMAGE_DIRS, SITE, USER};
use crate::cdi;
use chariot_core::arguments::Arguments;
use chariot_core::config::{self, Config};
use chariot_core::error::Result;
use chariot_core::sys::rights;
use chariot_core::users;

/// Which file it is, and who reads it.
#[derive(Debug)]
pub(super) struct SiteFile {
    /// By which the plugin would read it.
    pub(super) arguments: Arguments,
    /// Whether slurmstepd reads it as root.
    pub(super) is_for_root: bool,
}

impl SiteFile {
    pub(super) fn load(&self) -> Result<Config> {
        if self.is_for_root {
            config::refuse_all_but_roots(&self.arguments.config)?;
        }
        self.arguments.site()
    }
}

/// What is said of the site's file, and of what it names.
pub(super) fn findings(site: &SiteFile, role: Role) -> Vec<Finding> {
    let loaded = site.load();
    let config = loaded.as_ref().cloned().unwrap_or_default();
    let mut findings = vec![file(&site.arguments.config, loaded, role)];
    findings.extend(image_dirs(&config));
    findings.push(devices(&config));
    findings
}

fn file(path: &Path, loaded: Result<Config>, role: Role) -> Finding {
    let shown = path.display();
    match loaded {
        Ok(_) if !path.exists() => {
            Finding::good(SITE, format!("{shown} is not there; defaults hold"))
        }
        // Whoever has turned it off wants no node to be taken out of service for that.
        Ok(config) if !config.enabled => {
            let found = format!("{shown} turns Chariot off");
            Finding::bad(SITE, found, "set enabled = true").needed_if(role == Role::Any)
        }
        Ok(_) if rights::is_root() && !is_for_all(path) => Finding::bad(
            SITE,
            format!("{shown} cannot be read by users, whose containers are made by it"),
            format!("chmod a+r {shown}"),
        ),
        Ok(_) => Finding::good(SITE, shown.to_string()),
        Err(error) => {
            let advice = error
                .advice()
                .filter(|advice| !advice.contains("chariot check"));
            let advice = advice.unwrap_or("correct the file").to_owned();
            Finding::bad(SITE, error.to_string(), advice)
        }
    }
}

/// Whether everybody may read a file, by its own mode.
fn is_for_all(path: &Path) -> bool {
    let data = path.metadata();
    data.is_ok_and(|data| !data.is_file() || data.permissions().mode() & 0o004 != 0)
}

/// Directories that are not there: no image is found in them by its name.
fn image_dirs(config: &Config) -> Option<Finding> {
    let dirs = &config.image_dirs;
    let shown = |dirs: &[&PathBuf]| {
        let dirs: Vec<_> = dirs.iter().map(|dir| dir.to_string_lossy()).collect();
        dirs.join(", ")
    };
    let missing: Vec<_> = dirs.iter().filter(|dir| !dir.is_dir()).collect();
    match missing.len() {
        _ if dirs.is_empty() => None,
        0 => Some(Finding::good(
            IMAGE_DIRS,
            shown(&dirs.iter().collect::<Vec<_>>()),
        )),
        count => {
            let finding = Finding::bad(
                IMAGE_DIRS,
                format!(
                    "image_dirs has what is no directory here: {}",
                    shown(&missing)
                ),
                "mount or make it, or take it out of image_dirs",
            );
            // Where nothing else may be run, nothing can be.
            Some(finding.needed_if(config.only_image_dirs && count == dirs.len()))
        }
    }
}

/// What `--device` could give.
fn devices(config: &Config) -> Finding {
    match cdi::described(&config.cdi_dirs) {
        Ok(lines) if lines.is_empty() => Finding::good(DEVICES, "none are described"),
        Ok(lines) => Finding::good(DEVICES, lines.join("; ")),
        Err(error) => Finding::bad(
            DEVICES,
            error.to_string(),
            "let the vendor's tool write the file again",
        ),
    }
    .optional()
}

pub(super) fn user() -> Finding {
    let uid = rights::user();
    match users::user(uid) {
        Some(user) => Finding::good(USER, format!("{} is uid {uid}", user.name)),
        _ => Finding::bad(
            USER,
            format!("uid {uid} has no name on this machine"),
            "a made-up name is used; does this machine ask the site's LDAP?",
        ),
    }
    .optional()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding_of(text: &str, role: Role) -> Vec<Finding> {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("chariot.toml");
        let text = text.replace("HERE", &place.path().to_string_lossy());
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let site = SiteFile {
            arguments: Arguments {
                config: path,
                ..Arguments::default()
            },
            is_for_root: false,
        };
        findings(&site, role)
    }

    #[test]
    fn who_turns_chariot_off_loses_no_node_and_is_told() {
        for (role, is_fatal) in [(Role::Any, true), (Role::Node, false), (Role::Login, false)] {
            let finding = finding_of("enabled = false\n", role).remove(0);
            assert!(!finding.ok);
            assert_eq!(finding.is_fatal(), is_fatal);
        }
    }

    #[test]
    fn directories_of_images_that_are_not_there_are_named() {
        let of = |text: &str| {
            let findings = finding_of(text, Role::Any);
            findings
                .into_iter()
                .find(|finding| finding.is_of(IMAGE_DIRS))
        };
        assert_eq!(of(""), None);
        assert!(of("image_dirs = [\"HERE\"]").unwrap().ok);
        let some = of("image_dirs = [\"HERE\", \"/nosuch\"]\nonly_image_dirs = true").unwrap();
        assert!(!some.ok && !some.is_fatal() && some.found.ends_with("here: /nosuch"));
        let all = of("image_dirs = [\"/nosuch\"]\nonly_image_dirs = true").unwrap();
        assert!(all.is_fatal());
    }

    #[test]
    fn a_mistake_is_told_with_its_line_and_with_what_to_do() {
        let finding = finding_of("\nenabeld = true\n", Role::Node).remove(0);
        assert!(finding.is_fatal() && finding.found.contains("line 2: unknown key \"enabeld\""));
        assert_eq!(finding.advice.as_deref(), Some("did you mean enabled?"));
    }
}
