//! All specifications of this machine, and which of them describes a device: the one of the later directory, and none
//! if two of one directory do.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::spec::{Device, Spec};
use chariot_core::error::{Error, Result};
use chariot_core::options::Sourced;
use chariot_core::options::device::{self, ALL};
use chariot_core::private::{self, Whose};

/// One file, and how strong its directory is.
struct File {
    path: PathBuf,
    strength: usize,
    spec: Spec,
}

/// All files.
pub(super) struct Specifications {
    files: Vec<File>,
    /// What is wrong with those that could not be read.
    broken: Vec<Error>,
    directories: Vec<PathBuf>,
}

/// A device that was found.
#[derive(Clone, Copy)]
pub(super) struct Chosen<'a> {
    pub(super) path: &'a Path,
    pub(super) spec: &'a Spec,
    pub(super) device: &'a Device,
    /// Who wanted it.
    pub(super) origin: &'a str,
}

impl Specifications {
    /// Reads `*.json` and `*.yaml` of each directory, weakest first; in place of a directory there can be a file. One
    /// that is broken takes away its own devices.
    pub(super) fn read(directories: &[PathBuf]) -> Specifications {
        let mut registry = Specifications {
            files: Vec::new(),
            broken: Vec::new(),
            directories: directories.to_vec(),
        };
        for (strength, directory) in directories.iter().enumerate() {
            // Who describes a device says what a container has of the host.
            let parent = directory.parent().unwrap_or(directory);
            let refused = private::refuse_foreign(directory, Whose::Shared).and_then(|()| {
                match directory.is_file() {
                    true => private::refuse_foreign(parent, Whose::Shared),
                    false => Ok(()),
                }
            });
            if let Err(refusal) = refused {
                let what = format!("can't use the devices of {}", directory.display());
                registry.broken.push(refusal.told(&what));
                continue;
            }
            let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
            let mut paths: Vec<PathBuf> = entries
                .map(|entry| entry.path())
                .filter(|path| {
                    path.extension()
                        .is_some_and(|end| end == "json" || end == "yaml")
                })
                .collect();
            paths.sort();
            if directory.is_file() {
                paths.push(directory.clone());
            }
            for path in paths {
                match Spec::read(&path) {
                    Ok(spec) => registry.files.push(File {
                        path,
                        strength,
                        spec,
                    }),
                    Err(error) => registry.broken.push(error),
                }
            }
        }
        registry
    }

    /// All kinds of devices.
    pub(super) fn kinds(&self) -> Vec<String> {
        let kinds: BTreeSet<&String> = self.files.iter().map(|file| &file.spec.kind).collect();
        kinds.into_iter().cloned().collect()
    }

    /// A line for each kind, with its devices.
    ///
    /// # Errors
    /// The first file that is broken.
    pub(super) fn described(&self) -> Result<Vec<String>> {
        if let Some(error) = self.broken.first() {
            return Err(error.clone());
        }
        let line = |kind: String| format!("{kind}: {}", self.names(&kind).join(", "));
        Ok(self.kinds().into_iter().map(line).collect())
    }

    /// The names of all devices of a kind.
    fn names(&self, kind: &str) -> Vec<&str> {
        let of_kind = self.files.iter().filter(|file| file.spec.kind == kind);
        let devices = of_kind.flat_map(|file| &file.spec.devices);
        let names: BTreeSet<&str> = devices.map(|device| device.name.as_str()).collect();
        names.into_iter().collect()
    }

    /// The devices that were asked for by name, each once, in the order in which they were asked for.
    ///
    /// # Errors
    /// There is none of that name, or there are two.
    pub(super) fn choose<'a>(
        &'a self,
        asked: &'a [Sourced<device::Device>],
    ) -> Result<Vec<Chosen<'a>>> {
        let mut chosen: Vec<Chosen<'a>> = Vec::new();
        for Sourced { value, origin } in asked {
            let device::Device::Named { kind, name } = value else {
                continue;
            };
            for found in self.find(kind, name, origin)? {
                if !chosen
                    .iter()
                    .any(|known| std::ptr::eq(known.device, found.device))
                {
                    chosen.push(found);
                }
            }
        }
        Ok(chosen)
    }

    fn find<'a>(&'a self, kind: &str, name: &str, origin: &'a str) -> Result<Vec<Chosen<'a>>> {
        let of_kind: Vec<&File> = self
            .files
            .iter()
            .filter(|file| file.spec.kind == kind)
            .collect();
        let names = self.names(kind);
        if names.contains(&name) {
            return Ok(vec![self.strongest(&of_kind, name, origin)?]);
        }
        if name != ALL || names.is_empty() {
            return Err(self.missing(kind, name, origin, &names));
        }
        names
            .into_iter()
            .map(|name| self.strongest(&of_kind, name, origin))
            .collect()
    }

    fn strongest<'a>(
        &'a self,
        files: &[&'a File],
        name: &str,
        origin: &'a str,
    ) -> Result<Chosen<'a>> {
        let mut found: Vec<(&File, &Device)> = Vec::new();
        for file in files {
            let devices = file.spec.devices.iter();
            found.extend(
                devices
                    .filter(|device| device.name == name)
                    .map(|device| (*file, device)),
            );
        }
        let most = found.iter().map(|(file, _)| file.strength).max();
        found.retain(|(file, _)| Some(file.strength) == most);
        match found.as_slice() {
            [(file, device)] => Ok(Chosen {
                path: &file.path,
                spec: &file.spec,
                device,
                origin,
            }),
            others => {
                let files: Vec<_> = others
                    .iter()
                    .map(|(file, _)| file.path.display().to_string())
                    .collect();
                Err(Error::new(format!(
                    "can't give the container the device {name}: {} both describe it, so neither counts",
                    files.join(" and ")
                ))
                .hint("the administrator has to take one of them away"))
            }
        }
    }

    fn missing(&self, kind: &str, name: &str, origin: &str, names: &[&str]) -> Error {
        let what = format!("can't give the container the device {kind}={name} ({origin})");
        if !names.is_empty() {
            return Error::new(format!("{what}: this machine has no such device"))
                .hint(format!("available: {kind}={}", names.join(", =")));
        }
        if let Some(broken) = self.broken.first() {
            return Error::new(format!("{what}: {broken}"));
        }
        let kinds = self.kinds();
        let directories: Vec<_> = self
            .directories
            .iter()
            .map(|directory| directory.display().to_string())
            .collect();
        let error = Error::new(format!(
            "{what}: no file in {} describes devices of that kind",
            directories.join(" or ")
        ));
        match kinds.is_empty() {
            true => error.hint(
                "the vendor's tools write such files: nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml",
            ),
            false => error.hint(format!("there is {}", kinds.join(", "))),
        }
    }
}
