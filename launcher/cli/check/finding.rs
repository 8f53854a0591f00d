//! What a look at something gives, how it is printed, and what it means for the exit status.

use serde::{Deserialize, Serialize};

/// What is looked at: the name that JSON has for it, which never changes, and what people read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Topic(pub(crate) &'static str, pub(crate) &'static str);

// docs/admin/verify.md names each.
pub(crate) const KERNEL: Topic = Topic("kernel", "Linux");
pub(crate) const MOUNTS: Topic = Topic("mount_interface", "mount interface");
pub(crate) const OPENAT2: Topic = Topic("openat2", "openat2");
pub(crate) const CONTAINERS: Topic = Topic("user_namespaces", "user namespaces");
pub(crate) const OVERLAY: Topic = Topic("overlayfs", "overlayfs");
pub(crate) const FUSE: Topic = Topic("fuse", "FUSE");
pub(crate) const MEMORY: Topic = Topic("cross_memory_attach", "cross memory attach");
pub(crate) const USER: Topic = Topic("user_database", "user database");
pub(crate) const PLUGIN: Topic = Topic("slurm_plugin", "Slurm plugin");
pub(crate) const LAUNCHER: Topic = Topic("slurm_launcher", "plugin's launcher");
pub(crate) const SITE: Topic = Topic("site_file", "site file");
pub(crate) const IMAGE_DIRS: Topic = Topic("image_dirs", "image directories");
pub(crate) const DEVICES: Topic = Topic("devices", "devices");
// Those of an image.
pub(crate) const MPI: Topic = Topic("mpi_of_image", "MPI of the image");
pub(crate) const PMIX: Topic = Topic("pmix_of_image", "PMIx of the image");
pub(crate) const MPI_OF_SLURM: Topic = Topic("mpi_of_slurm", "MPI of this Slurm");
pub(crate) const SRUN: Topic = Topic("srun", "srun");

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Finding {
    /// The topic's name for programs.
    pub(crate) key: String,
    what: String,
    pub(crate) ok: bool,
    /// Whether what was asked about cannot work without it.
    pub(crate) needed: bool,
    pub(crate) found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) advice: Option<String>,
}

impl Finding {
    pub(crate) fn good(topic: Topic, found: impl Into<String>) -> Finding {
        Finding {
            key: topic.0.to_owned(),
            what: topic.1.to_owned(),
            ok: true,
            needed: true,
            found: found.into(),
            advice: None,
        }
    }

    pub(crate) fn bad(
        topic: Topic,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Finding {
        Finding {
            ok: false,
            advice: Some(advice.into()),
            ..Finding::good(topic, found)
        }
    }

    /// What cannot be said, since something else that has its own finding is in the way.
    pub(crate) fn unknown(topic: Topic, why: &str) -> Finding {
        Finding {
            ok: false,
            needed: false,
            ..Finding::good(topic, format!("not tried: {why}"))
        }
    }

    pub(crate) fn optional(self) -> Finding {
        self.needed_if(false)
    }

    pub(crate) fn needed_if(mut self, needed: bool) -> Finding {
        self.needed = needed;
        self
    }

    /// Whether it keeps what was asked about from working.
    pub(crate) fn is_fatal(&self) -> bool {
        self.needed && !self.ok
    }

    pub(crate) fn is_of(&self, topic: Topic) -> bool {
        self.key == topic.0
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        let mark = match (self.ok, self.needed) {
            (true, _) => "ok     ",
            (false, true) => "MISSING",
            (false, false) => "without",
        };
        let found = format!("{mark} {:<22} {}", self.what, self.found);
        let advice = self.advice.as_ref();
        let advice = advice.map(|advice| format!("        what to do: {advice}"));
        [found].into_iter().chain(advice).collect()
    }
}
