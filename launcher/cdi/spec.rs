//! A specification as it is written, in JSON or YAML. Unknown keys are refused, as the interface wants it: what is not
//! understood could be what makes the device safe to use.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde::de::IgnoredAny;

use chariot_core::error::{Error, Explain, Result};
use chariot_core::open;
use chariot_core::options::device::{check_kind, check_name};

/// The largest file that is read, in bytes.
const LARGEST: u64 = 8 << 20;

/// The versions of the interface, oldest first.
const VERSIONS: [&str; 10] = [
    "0.1.0", "0.2.0", "0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0",
];

/// One file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Spec {
    cdi_version: String,
    /// VENDOR/CLASS.
    pub(super) kind: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    /// The devices.
    pub(super) devices: Vec<Device>,
    /// What each of them needs.
    #[serde(default)]
    pub(super) container_edits: Edits,
}

/// One device.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Device {
    pub(super) name: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    pub(super) container_edits: Edits,
}

/// What a container needs.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(super) struct Edits {
    pub(super) env: Vec<String>,
    pub(super) device_nodes: Vec<Node>,
    pub(super) net_devices: Vec<NetDevice>,
    pub(super) mounts: Vec<MountPoint>,
    pub(super) hooks: Vec<HookWords>,
    pub(super) intel_rdt: Option<IgnoredAny>,
    pub(super) additional_gids: Vec<u32>,
}

/// A device node. Its numbers, owner and permissions are for who makes it; here the host's own is shown.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Node {
    pub(super) path: String,
    pub(super) host_path: Option<String>,
    #[serde(rename = "type")]
    _type: Option<String>,
    #[serde(rename = "major")]
    _major: Option<i64>,
    #[serde(rename = "minor")]
    _minor: Option<i64>,
    #[serde(rename = "fileMode")]
    _file_mode: Option<u32>,
    #[serde(rename = "permissions")]
    _permissions: Option<String>,
    #[serde(rename = "uid")]
    _uid: Option<u32>,
    #[serde(rename = "gid")]
    _gid: Option<u32>,
}

/// A network interface to be moved into the container.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct NetDevice {
    pub(super) host_interface_name: String,
    #[serde(rename = "name")]
    _name: Option<String>,
}

/// A mount.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct MountPoint {
    pub(super) host_path: String,
    pub(super) container_path: String,
    #[serde(default)]
    pub(super) options: Vec<String>,
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
}

/// A program to be run at some moment.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct HookWords {
    pub(super) hook_name: String,
    pub(super) path: String,
    #[serde(default)]
    pub(super) args: Vec<String>,
    #[serde(default)]
    pub(super) env: Vec<String>,
    pub(super) timeout: Option<u64>,
}

impl Spec {
    /// Reads a file, by the end of its name.
    ///
    /// # Errors
    /// The file, and what is wrong with it.
    pub fn read(path: &Path) -> Result<Spec> {
        let what = || format!("can't use the devices of {}", path.display());
        let text = open::read_text(path, LARGEST).explain(what)?;
        let is_json = path.extension().is_some_and(|end| end == "json");
        Spec::parse(&text, is_json).map_err(|reason| Error::new(format!("{}: {reason}", what())))
    }

    /// Reads a text.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str, is_json: bool) -> std::result::Result<Spec, String> {
        let spec: Spec = match is_json {
            true => serde_json::from_str(text).map_err(|error| error.to_string())?,
            false => {
                serde_saphyr::from_str(text).map_err(|error| first_line(&error.to_string()))?
            }
        };
        spec.check()?;
        Ok(spec)
    }

    fn check(&self) -> std::result::Result<(), String> {
        let place = |version: &str| VERSIONS.iter().position(|known| *known == version);
        let Some(declared) = place(&self.cdi_version) else {
            return Err(format!(
                "it is of version {} of the interface, and Chariot knows those up to {}",
                self.cdi_version,
                VERSIONS.last().unwrap_or(&"")
            ));
        };
        check_kind(&self.kind)?;
        if self.devices.is_empty() {
            return Err("it has no devices".into());
        }
        let mut names = Vec::new();
        for device in &self.devices {
            check_name(&device.name)?;
            if names.contains(&&device.name) {
                return Err(format!("it has two devices {}", device.name));
            }
            names.push(&device.name);
        }
        let (needed, key) = self.needs();
        match place(needed) {
            Some(least) if least > declared => Err(format!(
                "{key} came with version {needed} of the interface, and it is of {}",
                self.cdi_version
            )),
            _ => Ok(()),
        }
    }

    /// The version that a specification needs at least, and for which key.
    fn needs(&self) -> (&'static str, &'static str) {
        let edits = || {
            let own = self.devices.iter().map(|device| &device.container_edits);
            std::iter::once(&self.container_edits).chain(own)
        };
        let any = |has: fn(&Edits) -> bool| edits().any(has);
        let mut annotations = self.devices.iter().map(|device| &device.annotations);
        let starts_with_digit = |name: &str| name.starts_with(|first: char| first.is_ascii_digit());
        let has_dot = self
            .kind
            .split('/')
            .nth(1)
            .is_some_and(|class| class.contains('.'));
        let needed = [
            (
                any(|edits| !edits.net_devices.is_empty()),
                "1.1.0",
                "netDevices",
            ),
            (any(|edits| edits.intel_rdt.is_some()), "0.7.0", "intelRdt"),
            (
                any(|edits| !edits.additional_gids.is_empty()),
                "0.7.0",
                "additionalGids",
            ),
            (
                !self.annotations.is_empty() || annotations.any(|own| !own.is_empty()),
                "0.6.0",
                "annotations",
            ),
            (has_dot, "0.6.0", "a class with a dot"),
            (
                any(|edits| {
                    edits
                        .device_nodes
                        .iter()
                        .any(|node| node.host_path.is_some())
                }),
                "0.5.0",
                "hostPath of a device node",
            ),
            (
                self.devices
                    .iter()
                    .any(|device| starts_with_digit(&device.name)),
                "0.5.0",
                "a name that begins with a digit",
            ),
            (
                any(|edits| edits.mounts.iter().any(|mount| mount.kind.is_some())),
                "0.4.0",
                "type of a mount",
            ),
        ];
        let first = needed.into_iter().find(|(is_there, ..)| *is_there);
        first.map_or(("0.1.0", ""), |(_, version, key)| (version, key))
    }
}

/// A reader's message without its picture of the place.
fn first_line(message: &str) -> String {
    let lines = message.lines().map(str::trim);
    lines
        .take_while(|line| !line.is_empty() && !line.starts_with("-->"))
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "cdiVersion: 0.5.0\nkind: example.com/thing\ndevices:\n- name: \"0\"\n  containerEdits:\n    \
                        deviceNodes:\n    - path: /dev/null\n      permissions: rw\n      major: 1\n";

    #[test]
    fn yaml_and_json_say_the_same() {
        let yaml = Spec::parse(GOOD, false).unwrap();
        let json = r#"{"cdiVersion": "0.5.0", "kind": "example.com/thing", "devices": [{"name": "0", "containerEdits":
            {"deviceNodes": [{"path": "/dev/null", "permissions": "rw", "major": 1}]}}]}"#;
        let json = Spec::parse(json, true).unwrap();
        assert_eq!(format!("{yaml:?}"), format!("{json:?}"));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for (from, to, reason) in [
            ("0.5.0", "9.0.0", "Chariot knows those up to 1.1.0"),
            (
                "0.5.0",
                "0.4.0",
                "a name that begins with a digit came with version 0.5.0",
            ),
            ("path:", "paht:", "paht"),
            ("example.com/thing", "thing", "is not VENDOR/CLASS"),
            ("\"0\"", "\"a b\"", "cannot be the name"),
            ("permissions: rw", "permissions: [rw", ""),
            (
                "    deviceNodes:",
                "    netDevices:\n    - hostInterfaceName: e\n    deviceNodes:",
                "netDevices came with",
            ),
        ] {
            assert!(GOOD.contains(from), "{from}");
            let error = Spec::parse(&GOOD.replacen(from, to, 1), false).unwrap_err();
            assert!(error.contains(reason), "{to}: {error}");
        }
    }
}
