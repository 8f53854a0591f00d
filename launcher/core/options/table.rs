//! The option table: every option once. From here come the plugin's registration with Slurm, the
//! launcher's flags, the environment variables, the site file's defaults, help, man page and
//! completions.

/// What may stand after an option's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One value; the strongest use of the option counts.
    Word,
    /// One value; all uses count, the strongest last.
    List,
    /// `=yes`, `=no`, or nothing, which means yes.
    Switch,
    /// A value, `=yes`, `=no`, or nothing, which means yes.
    SwitchOrValue,
}

/// One option, wherever it is given.
#[derive(Debug, PartialEq, Eq)]
pub struct OptionRow {
    /// The name without a prefix: `bind` is `--bind`, `--ch-bind`, `CH_BIND` and `bind` in files.
    pub name: &'static str,
    /// How help calls the value.
    pub value: &'static str,
    /// Whether a value is needed and how several uses add up.
    pub shape: Shape,
    /// Whether it means something to Slurm's commands alone.
    pub slurm_only: bool,
    /// Help in one line.
    pub short: &'static str,
    /// What the short help leaves out; may be empty.
    pub long: &'static str,
}

impl OptionRow {
    /// The environment variable: `CH_PRIVATE_TMP`.
    pub fn variable(&self) -> String {
        format!("CH_{}", self.key().to_uppercase())
    }

    /// The key in the site's file: `private_tmp`.
    pub fn key(&self) -> String {
        self.name.replace('-', "_")
    }

    /// The option as Slurm's commands take it: `ch-private-tmp`.
    pub fn slurm_name(&self) -> String {
        format!("ch-{}", self.name)
    }

    /// Whether the value may be left out.
    pub fn value_is_optional(&self) -> bool {
        matches!(self.shape, Shape::Switch | Shape::SwitchOrValue)
    }
}

/// The row of an option by its name.
pub fn find(name: &str) -> Option<&'static OptionRow> {
    TABLE.iter().find(|row| row.name == name)
}

/// All options, in the order in which help shows them.
pub const TABLE: &[OptionRow] = &[
    OptionRow {
        name: "image",
        value: "IMAGE",
        shape: Shape::Word,
        slurm_only: false,
        short: "run in this image",
        long: "A file or directory, docker://HOST/NAME:TAG, or the name of an image in your store \
         or in the site's image directories; `chariot help image` says more. `none` turns an inherited choice off.",
    },
    OptionRow {
        name: "pull",
        value: "newer|missing|always|never",
        shape: Shape::Word,
        slurm_only: false,
        short: "when to ask a registry what an image's name means",
        long: "newer, as without this: each time, and where it does not answer, what the name meant last is run. missing: only \
               of names whose image is not here. always: each time, or fail. never: not at all. A job asks once.",
    },
    OptionRow {
        name: "bind",
        value: "SRC[:DST[:OPT[+OPT]]][,...]",
        shape: Shape::List,
        slurm_only: false,
        short: "make a file or directory of the host visible inside",
        long: "DST is SRC's own path when left out, and is made if the image lacks it. OPT is ro, \
               rw, optional (skip if SRC is missing), private (later mounts on the host do not \
               show) or sqsh (SRC is a SquashFS file: mount what is in it). `tmpfs:DST[:size=N]` mounts an empty file system in memory. A backslash \
               before a comma or colon takes it literally.",
    },
    OptionRow {
        name: "workdir",
        value: "DIR",
        shape: Shape::Word,
        slurm_only: false,
        short: "start in this directory of the container",
        long: "An absolute path. Without it, the command starts in the caller's directory if that is \
         visible inside, else in the image's own working directory, else in /.",
    },
    OptionRow {
        name: "set-env",
        value: "NAME=VALUE|FILE",
        shape: Shape::List,
        slurm_only: false,
        short: "set a variable inside, whatever else sets it",
        long: "A word without an equals sign is a file with one NAME=VALUE per line. An entry $NAME or \
         ${NAME} of a value with colons stands for what that variable has inside before this: PATH=/opt/x:$PATH. PREPEND_PATH \
         and APPEND_PATH add to PATH.",
    },
    OptionRow {
        name: "unset-env",
        value: "GLOB",
        shape: Shape::List,
        slurm_only: false,
        short: "remove variables whose name matches",
        long: "",
    },
    OptionRow {
        name: "keep-env",
        value: "NAME[,...]",
        shape: Shape::List,
        slurm_only: false,
        short: "the host's value of these variables wins over the image's",
        long: "This also lets in LD_PRELOAD and LD_LIBRARY_PATH, which stay outside otherwise.",
    },
    OptionRow {
        name: "home",
        value: "yes|no",
        shape: Shape::Switch,
        slurm_only: false,
        short: "bind your home directory at its own path",
        long: "",
    },
    OptionRow {
        name: "device",
        value: "VENDOR/CLASS[=NAME]|none",
        shape: Shape::List,
        slurm_only: false,
        short: "give the container a device, by its CDI name",
        long: "CDI is the Container Device Interface. Without NAME, or with `all`, all devices of that \
         kind. `none` takes away the devices that the site, the job or the step's GPUs would give. A path of the host, /dev/NAME, is understood too.",
    },
    OptionRow {
        name: "edf",
        value: "NAME|FILE|none",
        shape: Shape::Word,
        slurm_only: false,
        short: "take options from an environment definition file",
        long: "FILE begins with . or / or ends in .toml; NAME is looked for in EDF_PATH, in ~/.edf and where the site \
               says. Typed options and CH_ variables override it. `chariot edf render` shows the result.",
    },
    OptionRow {
        name: "entrypoint",
        value: "yes|no",
        shape: Shape::Switch,
        slurm_only: false,
        short: "run the image's entrypoint, with the command as its arguments",
        long: "`chariot run IMAGE` without a command runs the entrypoint with the image's own arguments in any case. \
               A batch script is not run by it; the steps that it starts are.",
    },
    OptionRow {
        name: "private-tmp",
        value: "yes|no",
        shape: Shape::Switch,
        slurm_only: false,
        short: "an empty /tmp in memory in place of the host's",
        long: "",
    },
    OptionRow {
        name: "writable",
        value: "SIZE|yes|no",
        shape: Shape::SwitchOrValue,
        slurm_only: false,
        short: "let the image be written to; the changes are thrown away",
        long: "The changes live in memory, at most SIZE (1G when left out; K, M, G and T are \
               understood). Only what you may write in the image can be changed.",
    },
    OptionRow {
        name: "overlay",
        value: "DIR",
        shape: Shape::Word,
        slurm_only: false,
        short: "let the image be written to; the changes are kept in DIR",
        long: "DIR must lie on a local file system and serves one container at a time.",
    },
    OptionRow {
        name: "root",
        value: "yes|no",
        shape: Shape::Switch,
        slurm_only: false,
        short: "appear as uid 0 inside",
        long: "With the capabilities of the container's user namespace, which give nothing \
               outside it.",
    },
    OptionRow {
        name: "fakeroot",
        value: "yes|no",
        shape: Shape::Switch,
        slurm_only: false,
        short: "pretend that files change owner, for package managers",
        long: "chown, setuid and the like, and mknod of devices, report success and do nothing. With --root and \
               --overlay (or --writable), apt, dnf and apk install packages.",
    },
    OptionRow {
        name: "batch",
        value: "container|host",
        shape: Shape::Word,
        slurm_only: true,
        short: "where the script of sbatch itself runs",
        long: "In the container unless this says host; its steps run in the image either way.",
    },
    OptionRow {
        name: "inherit",
        value: "yes|no",
        shape: Shape::Switch,
        slurm_only: true,
        short: "a job submitted in a job runs in what that one runs in",
        long: "For sbatch and salloc that are called in a job: its image and its other options come along, weaker than what \
               is said for the new one. Without it a new job inherits nothing; called in a container, they say what it runs in.",
    },
    OptionRow {
        name: "pytorch",
        value: "yes|no",
        shape: Shape::Switch,
        slurm_only: false,
        short: "tell the tasks of a step where they meet, as PyTorch reads it",
        long: "MASTER_ADDR, MASTER_PORT, WORLD_SIZE, RANK and LOCAL_RANK, from what Slurm tells each task. The image's and \
               --set-env's win, and a caller's own address, port and size.",
    },
    OptionRow {
        name: "verbose",
        value: "yes|no",
        shape: Shape::Switch,
        slurm_only: false,
        short: "report each step of the start and how long it took",
        long: "",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_unique_and_short_enough_for_slurm() {
        for (index, row) in TABLE.iter().enumerate() {
            // spank.h: names of options may have 75 characters.
            assert!(row.slurm_name().len() <= 75);
            assert!(
                TABLE[index + 1..]
                    .iter()
                    .all(|other| other.name != row.name),
                "{}",
                row.name
            );
        }
    }

    #[test]
    fn every_option_has_help_that_fits_a_line() {
        for row in TABLE {
            assert!(
                !row.short.is_empty() && row.short.len() < 70,
                "{}",
                row.name
            );
            assert!(!row.short.ends_with('.'), "{}", row.name);
        }
    }

    #[test]
    fn names_map_to_variables_and_keys() {
        let row = find("private-tmp").unwrap();
        assert_eq!(row.variable(), "CH_PRIVATE_TMP");
        assert_eq!(row.key(), "private_tmp");
        assert_eq!(row.slurm_name(), "ch-private-tmp");
    }
}
