//! `chariot check IMAGE`: which MPI the image has, what this Slurm offers it, and which `srun --mpi=` fits. Where they
//! do not fit, each rank takes itself for rank 0 of 1, which no error message says.

use chariot_core::sys::helper;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::check::finding::{Finding, MPI, MPI_OF_SLURM, PMIX, SRUN};
use crate::image::Image;

/// Where libraries are, and below each where distributions put one MPI beside another.
const DIRECTORIES: [&str; 8] = [
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
    "/usr/local/lib64",
    "/usr/local/lib",
    "/lib64",
    "/lib",
];
const BELOW: [&str; 5] = ["", "openmpi/lib", "mpich/lib", "mvapich2/lib", "mpi/lib"];

/// How long srun may take to say what it offers.
const PATIENCE: Duration = Duration::from_secs(10);

/// A family of MPI libraries, whose programs run with each other's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    /// Open MPI, with its version as far as the library's name tells.
    OpenMpi(&'static str),
    /// MPICH and what shares its binary interface.
    Mpich,
}

impl Family {
    /// Told by the number in a library's name, which stands for its binary interface.
    fn of_library(name: &str) -> Option<Family> {
        let number = name
            .strip_prefix("libmpi.so.")
            .or_else(|| name.strip_prefix("libmpich.so."))?;
        let mut parts = number.split('.');
        match (parts.next()?, parts.next()) {
            ("12", _) => Some(Family::Mpich),
            ("40", minor) => Some(Family::OpenMpi(match minor {
                Some("0") => "3.0",
                Some("10") => "3.1",
                Some("20") => "4.0",
                Some("30") => "4.1",
                Some("40") => "5.0",
                _ => "3, 4 or 5",
            })),
            _ => None,
        }
    }

    fn name(self) -> String {
        match self {
            Family::OpenMpi(version) => format!("Open MPI {version}"),
            Family::Mpich => {
                "MPICH, or one with its ABI (Intel MPI, MVAPICH2, Cray MPICH)".to_owned()
            }
        }
    }

    /// What `srun --mpi=` may be, the best first.
    fn wants(self, has_pmix: bool) -> &'static [&'static str] {
        match self {
            Family::OpenMpi("5.0") => &["pmix"],
            Family::OpenMpi(_) => &["pmix", "pmi2"],
            Family::Mpich if has_pmix => &["pmi2", "pmix", "cray_shasta"],
            Family::Mpich => &["pmi2", "cray_shasta"],
        }
    }
}

/// What was found.
pub(super) fn findings(image: &Image) -> Vec<Finding> {
    let libraries = libraries(image);
    let mpi = libraries.iter().filter_map(|path| {
        let name = path.file_name()?.to_str()?;
        Some((Family::of_library(name)?, path))
    });
    // The longest name says most; the others are links to it.
    let found = mpi.max_by_key(|(_, path)| path.as_os_str().len());
    let pmix = pmix(image, &libraries);
    let offered = offered();
    let mut findings = Vec::new();
    findings.push(match &found {
        Some((family, path)) => {
            Finding::good(MPI, format!("{} ({})", family.name(), path.display()))
        }
        None => Finding::bad(
            MPI,
            "none in the usual directories",
            "programs may bring their own",
        )
        .optional(),
    });
    if let Some(pmix) = &pmix {
        findings.push(Finding::good(PMIX, pmix));
    }
    findings.push(match &offered {
        Some(offered) => Finding::good(MPI_OF_SLURM, offered.join(", ")),
        None => Finding::bad(
            MPI_OF_SLURM,
            "srun --mpi=list says nothing here",
            "ask on a login node",
        )
        .optional(),
    });
    if let Some((family, _)) = found {
        findings.push(advice(family.wants(pmix.is_some()), offered.as_deref()));
    }
    findings
}

fn advice(wanted: &[&str], offered: Option<&[String]>) -> Finding {
    let what = SRUN;
    let why = "with another, each rank is rank 0 of 1";
    let Some(offered) = offered else {
        return Finding::good(what, format!("--mpi={}; {why}", wanted.join(" or --mpi=")));
    };
    match wanted.iter().find(|wanted| offered.iter().any(|offer| offer == *wanted)) {
        Some(best) => Finding::good(what, format!("--mpi={best}; {why}")),
        None => Finding::bad(
            what,
            format!("the image's MPI wants --mpi={}, which this Slurm does not offer", wanted.join(" or --mpi=")),
            "start the ranks of one node by the image's own mpirun, or take an image with another MPI",
        )
        .optional(),
    }
}

/// Paths of all libraries of MPI and of what starts it.
fn libraries(image: &Image) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for directory in DIRECTORIES {
        for below in BELOW {
            let directory = Path::new(directory).join(below);
            for name in image.names(&directory) {
                let text = name.to_string_lossy();
                if ["libmpi.so.", "libmpich.so.", "libpmix.so."]
                    .iter()
                    .any(|start| text.starts_with(start))
                {
                    found.push(directory.join(&name));
                }
            }
        }
    }
    found
}

/// The version of the image's PMIx, as the library says it of itself.
fn pmix(image: &Image, libraries: &[PathBuf]) -> Option<String> {
    let is_pmix = |path: &&PathBuf| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("libpmix.so."))
    };
    let path = libraries.iter().find(is_pmix)?;
    let contents = image.read(path).ok().flatten().unwrap_or_default();
    let version = version_in(&contents).unwrap_or_else(|| "of an unknown version".to_owned());
    Some(format!("{version} ({})", path.display()))
}

fn version_in(library: &[u8]) -> Option<String> {
    let mark = b"OpenPMIx ";
    let start = library
        .windows(mark.len())
        .position(|window| window == mark)?
        + mark.len();
    let rest = library[start..].iter().take(16);
    let version: Vec<u8> = rest
        .copied()
        .take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'.')
        .collect();
    String::from_utf8(version)
        .ok()
        .filter(|version| version.contains('.'))
}

/// The kinds that `srun --mpi=list` names.
fn offered() -> Option<Vec<String>> {
    let mut command = Command::new("sh");
    // Older releases write the list to standard error.
    command.args(["-c", "srun --mpi=list 2>&1"]);
    let said = helper::start_asking(command).ok()?.report(PATIENCE).ok()?;
    let kinds = kinds_in(&said);
    (!kinds.is_empty()).then_some(kinds)
}

fn kinds_in(said: &str) -> Vec<String> {
    const KNOWN: [&str; 5] = ["none", "pmi2", "pmix", "cray_shasta", "openmpi"];
    let words =
        said.split(|character: char| !(character.is_ascii_alphanumeric() || character == '_'));
    let mut kinds: Vec<String> = words
        .filter(|word| KNOWN.contains(word) || word.starts_with("pmix_v"))
        .map(str::to_owned)
        .collect();
    kinds.sort();
    kinds.dedup();
    match said.contains("MPI plugin types") {
        true => kinds,
        // An error of srun's, with such a word in it.
        false => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_told_by_their_libraries() {
        for (name, family) in [
            ("libmpi.so.40.30.4", Some(Family::OpenMpi("4.1"))),
            ("libmpi.so.40.40.7", Some(Family::OpenMpi("5.0"))),
            ("libmpi.so.40", Some(Family::OpenMpi("3, 4 or 5"))),
            ("libmpi.so.12.3.1", Some(Family::Mpich)),
            ("libmpich.so.12", Some(Family::Mpich)),
            ("libmpi.so.1", None),
            ("libmpi_cxx.so.40", None),
        ] {
            assert_eq!(Family::of_library(name), family, "{name}");
        }
    }

    #[test]
    fn what_srun_offers_is_read_in_the_words_of_each_release() {
        let old = "MPI plugin types are...\n\tpmi2\n\tnone\n\tcray_shasta\n\tpmix\nspecific pmix plugin versions available: pmix_v4\n";
        assert_eq!(
            kinds_in(old),
            ["cray_shasta", "none", "pmi2", "pmix", "pmix_v4"]
        );
        assert!(kinds_in("srun: error: no pmix here\n").is_empty());
    }

    #[test]
    fn the_best_of_what_both_have_is_advised() {
        let offered = ["none".to_owned(), "pmi2".to_owned()];
        let line = |family: Family| {
            let finding = advice(family.wants(true), Some(&offered));
            (finding.ok, finding.found)
        };
        assert!(line(Family::OpenMpi("4.1")).1.starts_with("--mpi=pmi2;"));
        assert!(line(Family::Mpich).1.starts_with("--mpi=pmi2;"));
        assert!(!line(Family::OpenMpi("5.0")).0);
        assert!(
            advice(&["pmix", "pmi2"], None)
                .found
                .starts_with("--mpi=pmix or --mpi=pmi2;")
        );
    }

    #[test]
    fn a_library_says_its_version() {
        assert_eq!(
            version_in(b"\0x OpenPMIx 4.2.2rc2 (PMIx Standard: 4.2").as_deref(),
            Some("4.2.2rc2")
        );
        assert_eq!(version_in(b"OpenPMIx "), None);
    }
}
