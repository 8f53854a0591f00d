//! The tables: options and commands of other tools, and what each is here.

use super::values::{Uses, gpus, mount, of_the_host, one, tmpfs_option, user, variable, volume};

/// An option of another tool.
pub(super) struct Foreign {
    /// As it is typed, without dashes: one letter after one dash, longer words after two.
    pub(super) names: &'static [&'static str],
    pub(super) value: Value,
    pub(super) means: Means,
}

/// What may stand after it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Value {
    None,
    Needed,
}

/// What it is here.
pub(super) enum Means {
    /// Uses of Chariot's own options, by name and value, of the value that it has.
    Own(fn(&str) -> Uses),
    /// Nothing, since it is so anyway.
    Nothing,
    /// Nothing that there is: what to do instead.
    Not(&'static str),
}

const NONE: Value = Value::None;
const NEEDED: Value = Value::Needed;

const fn own(names: &'static [&'static str], value: Value, means: fn(&str) -> Uses) -> Foreign {
    Foreign {
        names,
        value,
        means: Means::Own(means),
    }
}

const fn nothing(names: &'static [&'static str], value: Value) -> Foreign {
    Foreign {
        names,
        value,
        means: Means::Nothing,
    }
}

const fn not(names: &'static [&'static str], value: Value, instead: &'static str) -> Foreign {
    Foreign {
        names,
        value,
        means: Means::Not(instead),
    }
}

const NETWORK: &str =
    "the container has the host's network, and its ports are the host's: leave it out";
const LIMITS: &str =
    "limits are Slurm's (srun --mem, --cpus-per-task), or systemd-run's: leave it out";
const RIGHTS: &str =
    "nobody has more rights in a container than outside: leave it out; --root looks like root";
const APART: &str = "the container shares processes, network and /tmp with the host; --private-tmp gives it a /tmp of its own, and \
                     --home=no leaves your home out";

pub(super) static OPTIONS: &[Foreign] = &[
    own(&["v", "volume"], NEEDED, volume),
    own(&["B", "b", "container-mounts"], NEEDED, |value| {
        one("bind", value)
    }),
    own(&["mount"], NEEDED, mount),
    own(&["tmpfs"], NEEDED, tmpfs_option),
    own(&["e", "env"], NEEDED, variable),
    own(&["env-file"], NEEDED, |value| one("set-env", value)),
    own(&["container-env"], NEEDED, |value| one("keep-env", value)),
    own(
        &["w", "pwd", "cwd", "cd", "container-workdir"],
        NEEDED,
        |value| one("workdir", value),
    ),
    own(&["u", "user"], NEEDED, user),
    own(&["container-remap-root"], NONE, |_| one("root", "yes")),
    own(&["nv", "nvccli"], NONE, |_| {
        one("device", "nvidia.com/gpu=all")
    }),
    own(&["rocm"], NONE, |_| one("device", "amd.com/gpu=all")),
    own(&["gpus"], NEEDED, gpus),
    own(
        &["W", "writable-tmpfs", "write-fake", "container-writable"],
        NONE,
        |_| one("writable", "yes"),
    ),
    own(&["read-only", "container-readonly"], NONE, |_| {
        one("writable", "no")
    }),
    own(&["no-home", "no-container-mount-home"], NONE, |_| {
        one("home", "no")
    }),
    own(&["container-mount-home"], NONE, |_| one("home", "yes")),
    nothing(&["rm"], NONE),
    nothing(&["i", "interactive"], NONE),
    nothing(&["t", "tty"], NONE),
    nothing(&["init"], NONE),
    nothing(&["userns"], NONE),
    own(
        &["network", "net", "ipc", "pid", "uts"],
        NEEDED,
        of_the_host,
    ),
    not(
        &[
            "p",
            "publish",
            "P",
            "publish-all",
            "expose",
            "dns",
            "add-host",
        ],
        NEEDED,
        NETWORK,
    ),
    not(&["privileged"], NONE, RIGHTS),
    not(
        &[
            "cap-add",
            "cap-drop",
            "security-opt",
            "add-caps",
            "group-add",
            "g",
            "group",
        ],
        NEEDED,
        RIGHTS,
    ),
    not(
        &["m", "memory", "cpus", "cpuset-cpus", "ulimit", "pids-limit"],
        NEEDED,
        LIMITS,
    ),
    not(
        &["shm-size"],
        NEEDED,
        "/dev/shm is the host's, whose size the administrators set: leave it out",
    ),
    not(
        &["d", "detach"],
        NONE,
        "a container is a process of yours: end the line with &, or submit it with sbatch",
    ),
    not(
        &["name", "container-name"],
        NEEDED,
        "a container ends with its command and has no name: a second command enters it by `chariot exec PID`, or a job's by `chariot exec --job JOB`",
    ),
    not(
        &["hostname", "h"],
        NEEDED,
        "the container has the host's name: leave it out",
    ),
    not(
        &["container-image"],
        NEEDED,
        "the image stands before the command: chariot run IMAGE -- COMMAND; in a job it is srun --ch-image=IMAGE",
    ),
    not(
        &["container-save"],
        NEEDED,
        "keep changes with --overlay DIR, and make an image of them: chariot pack --overlay DIR IMAGE FILE",
    ),
    not(&["c", "contain", "containall"], NONE, APART),
    not(
        &["cleanenv"],
        NONE,
        "variables pass, without those that are made for the host; --unset-env 'NAME*' takes some away",
    ),
    not(
        &["no-mount", "scratch", "H"],
        NEEDED,
        "--bind, --home and --private-tmp say what is visible inside",
    ),
    not(
        &["rw", "write"],
        NONE,
        "--writable throws changes away at the end, --overlay DIR keeps them",
    ),
    not(
        &["join", "join-pid", "join-ct", "join-tag"],
        NONE,
        "the tasks of a Slurm step share a container without being told to; `chariot exec PID` or `--job JOB` enters another",
    ),
    not(
        &["platform", "arch"],
        NEEDED,
        "an image is fetched for the machine that it is run on: leave it out",
    ),
    not(
        &["label", "l", "restart", "log-driver", "cidfile"],
        NEEDED,
        "containers have no names and labels, and `chariot ps` lists those that run: leave it out",
    ),
    not(
        &["app"],
        NEEDED,
        "name the command of the app: /scif/apps/NAME/scif/runscript",
    ),
    not(
        &["storage", "s"],
        NEEDED,
        "`store` in the site configuration file says where images are",
    ),
];

/// Commands of other tools, and what to write instead.
pub(super) static COMMANDS: &[(&[&str], &str)] = &[
    (
        &["container", "instance", "top", "stats"],
        "`chariot ps` lists the containers that run; each is a process of yours, for top and kill; squeue shows jobs",
    ),
    (
        &["stop", "kill", "restart", "pause", "unpause", "wait"],
        "a container is a process of yours: kill PID, or scancel JOB.STEP, as `chariot ps` shows them",
    ),
    (
        &["start", "create"],
        "a container is made when its command starts: chariot run IMAGE -- COMMAND",
    ),
    (
        &["attach"],
        "chariot exec PID -- COMMAND runs a second command in a container, chariot exec --job JOB -- COMMAND in a job's",
    ),
    (
        &["image", "list", "ls"],
        "`chariot images` lists images, `chariot ps` the containers that run",
    ),
    (
        &["rmi", "remove", "delete"],
        "`chariot rm NAME` removes an image from your store",
    ),
    (
        &["prune", "system", "cache", "clean", "reset"],
        "`chariot gc` makes room in the cache; `chariot rm NAME` removes an image",
    ),
    (
        &["save", "convert", "sif"],
        "`chariot pack IMAGE FILE.sqfs` makes one file, `chariot export IMAGE FILE.tar` an archive",
    ),
    (
        &["load", "import"],
        "an archive needs no loading: chariot run ./image.tar; `chariot pack ./image.tar NAME.sqfs` makes an image of it",
    ),
    (
        &["commit", "diff"],
        "chariot pack --overlay DIR IMAGE FILE.sqfs makes an image of the changes in DIR",
    ),
    (
        &["cp"],
        "bind a directory: chariot run --bind DIR IMAGE -- cp …; `chariot unpack IMAGE DIR` makes a tree",
    ),
    (
        &["tag", "rename"],
        "an image's name in your store is that of its file",
    ),
    (
        &["push"],
        "skopeo copy pushes what `chariot export` writes; a SquashFS file is copied like any other",
    ),
    (
        &["registry", "remote", "key"],
        "`chariot login HOST` says who you are to a registry; what `podman login` and `docker login` leave is found too",
    ),
    (
        &["search"],
        "look on the registry's own pages; `chariot pull NAME` fetches",
    ),
    (
        &["logs", "log"],
        "what a container prints goes to the terminal, or to the job's file",
    ),
    (
        &["history", "test", "manifest", "sign", "verify"],
        "`chariot inspect IMAGE` shows what is known of an image",
    ),
    (
        &["undelete", "fromhost", "bundle"],
        "`chariot --help` lists the commands",
    ),
    (
        &["info", "config", "capability", "doctor"],
        "`chariot check` says what works here; the site's file is chariot.toml",
    ),
    (
        &[
            "network", "volume", "compose", "service", "swarm", "pod", "overlay",
        ],
        "there is no such thing here: `chariot run IMAGE -- COMMAND` is a process with the host's network and files",
    ),
];
