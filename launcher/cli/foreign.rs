//! Words of other tools: docker, podman, apptainer, ch-run, enroot and pyxis. Options that mean the same simply work; of the
//! rest, and of commands that Chariot does not have, one sentence says how it is done here.

use std::path::Path;

use clap::{Arg, ArgAction, ArgMatches};

use chariot_core::error::{Error, Result};
use chariot_core::options::table;
use chariot_core::options::{Dialect, Given, Source};
use chariot_core::sys::rights;

/// An option of another tool.
struct Foreign {
    /// As it is typed, without dashes: one letter after one dash, longer words after two.
    names: &'static [&'static str],
    value: Value,
    means: Means,
}

/// What may stand after it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Value {
    None,
    Needed,
}

/// What it is here.
enum Means {
    /// Uses of Chariot's own options, by name and value, of the value that it has.
    Own(fn(&str) -> Uses),
    /// Nothing, since it is so anyway.
    Nothing,
    /// Nothing that there is: what to do instead.
    Not(&'static str),
}

type Uses = std::result::Result<Vec<(&'static str, String)>, String>;

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

static OPTIONS: &[Foreign] = &[
    own(&["v", "volume"], NEEDED, volume),
    own(&["B", "b", "container-mounts"], NEEDED, |value| {
        one("bind", value)
    }),
    own(&["mount"], NEEDED, mount),
    own(&["tmpfs"], NEEDED, |value| {
        one("bind", &format!("tmpfs:{value}"))
    }),
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
        "a container ends with its command and has no name: a second command enters it by `chariot exec PID`",
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
        "the tasks of a Slurm step share a container without being told to; `chariot exec PID` enters another",
    ),
    not(
        &["platform", "arch"],
        NEEDED,
        "an image is fetched for the machine that it is run on: leave it out",
    ),
    not(
        &["label", "l", "restart", "log-driver", "cidfile"],
        NEEDED,
        "nothing keeps a list of containers: leave it out",
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
static COMMANDS: &[(&[&str], &str)] = &[
    (
        &["ps", "container", "instance", "top", "stats"],
        "a container is a process of yours: ps and top show it, and kill ends it; squeue shows jobs",
    ),
    (
        &["stop", "kill", "restart", "pause", "unpause", "wait"],
        "a container is a process of yours: kill PID, or scancel JOB",
    ),
    (
        &["start", "create"],
        "a container is made when its command starts: chariot run IMAGE -- COMMAND",
    ),
    (
        &["attach"],
        "chariot exec PID -- COMMAND runs a second command in a container",
    ),
    (&["image", "list", "ls"], "`chariot images` lists them"),
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
        &["login", "logout", "registry", "remote", "key"],
        "credentials are those of `podman login`, `docker login` or `skopeo login`",
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

fn one(name: &'static str, value: &str) -> Uses {
    Ok(vec![(name, value.to_owned())])
}

/// `SRC:DST[:FLAG,FLAG]`; what SELinux and macOS want is not needed.
fn volume(value: &str) -> Uses {
    let mut fields = value.split(':');
    let (source, destination) = (fields.next().unwrap_or_default(), fields.next());
    let flags = fields.next().unwrap_or_default().split(',');
    if !source.contains(['/', '.', '~', '$']) {
        return Err(format!(
            "there are no volumes with names: give a directory, ./{source}"
        ));
    }
    let flags: Vec<_> = flags
        .filter(|flag| {
            !matches!(
                *flag,
                "" | "z"
                    | "Z"
                    | "rw"
                    | "cached"
                    | "delegated"
                    | "consistent"
                    | "rslave"
                    | "rprivate"
            )
        })
        .collect();
    let escaped = |path: &str| path.replace(',', "\\,");
    let mut bind = escaped(source);
    if let Some(destination) = destination {
        bind += &format!(":{}", escaped(destination));
    }
    if !flags.is_empty() {
        if destination.is_none() {
            bind += &format!(":{}", escaped(source));
        }
        bind += &format!(":{}", flags.join("+"));
    }
    one("bind", &bind)
}

/// `type=bind,source=SRC,target=DST,readonly`.
fn mount(value: &str) -> Uses {
    let (mut kind, mut source, mut target, mut size, mut read_only) = ("volume", "", "", "", false);
    for field in value.split(',') {
        let (key, value) = field.split_once('=').unwrap_or((field, "true"));
        match key {
            "type" => kind = value,
            "source" | "src" => source = value,
            "target" | "destination" | "dst" => target = value,
            "tmpfs-size" => size = value,
            "readonly" | "ro" => read_only = !matches!(value, "false" | "0"),
            "bind-propagation" | "consistency" | "tmpfs-mode" | "relabel" => {}
            _ => {
                return Err(format!(
                    "\"{key}\" is not type, source, target, readonly or tmpfs-size"
                ));
            }
        }
    }
    match kind {
        "bind" if source.is_empty() || target.is_empty() => {
            Err("it wants source=DIR and target=DIR".into())
        }
        "bind" => one(
            "bind",
            &format!("{source}:{target}{}", if read_only { ":ro" } else { "" }),
        ),
        "tmpfs" if size.is_empty() => one("bind", &format!("tmpfs:{target}")),
        "tmpfs" => one("bind", &format!("tmpfs:{target}:size={size}")),
        _ => Err("only type=bind and type=tmpfs are there, and no volumes with names".into()),
    }
}

/// `NAME=VALUE`; a name alone is one whose value comes from outside.
fn variable(value: &str) -> Uses {
    match value.contains('=') {
        true => one("set-env", value),
        false => one("keep-env", value),
    }
}

fn user(value: &str) -> Uses {
    let name = value.split(':').next().unwrap_or_default();
    match name {
        "0" | "root" => one("root", "yes"),
        _ if name == rights::user().to_string() => Ok(Vec::new()),
        _ if std::env::var("USER").is_ok_and(|own| own == name) => Ok(Vec::new()),
        _ => Err("inside you are who you are, or look like root with --root".into()),
    }
}

fn gpus(value: &str) -> Uses {
    let value = value.trim_matches('"');
    let device = |name: &str| ("device", format!("nvidia.com/gpu={name}"));
    if let Ok(count) = value.parse::<u16>() {
        return Ok((0..count)
            .map(|number| device(&number.to_string()))
            .collect());
    }
    match value.split_once('=') {
        None if value == "all" => Ok(vec![device("all")]),
        Some(("device", names)) => Ok(names.split(',').map(device).collect()),
        _ => Err("it wants all, a number, or device=NAME".into()),
    }
}

/// A namespace that is not made.
fn of_the_host(value: &str) -> Uses {
    match value {
        "host" => Ok(Vec::new()),
        _ => Err("the container shares the host's: leave it out".into()),
    }
}

/// The id that one of them has in the parser.
fn id(option: &Foreign) -> String {
    let name = option.names.iter().max_by_key(|name| name.len());
    format!("foreign {}", name.unwrap_or(&""))
}

/// As it is typed.
fn dashed(option: &Foreign) -> String {
    let name = option
        .names
        .iter()
        .max_by_key(|name| name.len())
        .copied()
        .unwrap_or_default();
    match name.len() {
        1 => format!("-{name}"),
        _ => format!("--{name}"),
    }
}

/// The arguments of a command that runs something in an image. Help does not show them.
pub(super) fn arguments() -> impl Iterator<Item = Arg> {
    OPTIONS.iter().map(|option| {
        let argument = Arg::new(id(option)).hide(true).action(ArgAction::Append);
        let argument = match option.value {
            Value::None => argument.num_args(0).default_missing_value(""),
            Value::Needed => argument.num_args(1).allow_hyphen_values(false),
        };
        option.names.iter().fold(argument, |argument, name| {
            match (name.chars().next(), name.len()) {
                // It is help's.
                (Some('h'), 1) => argument,
                (Some(letter), 1) if argument.get_short().is_none() => argument.short(letter),
                (Some(letter), 1) => argument.short_alias(letter),
                _ if argument.get_long().is_none() => argument.long(*name),
                _ => argument.alias(*name),
            }
        })
    })
}

/// What was typed of them, as uses of Chariot's own.
pub(super) fn typed(matches: &ArgMatches, directory: &Path) -> Result<Vec<Given>> {
    let mut givens = Vec::new();
    for option in OPTIONS {
        let id = id(option);
        let Ok(Some(values)) = matches.try_get_many::<String>(&id) else {
            continue;
        };
        refuse_behind_image(option, matches, &id)?;
        for value in values {
            for (name, value) in uses(option, value)? {
                let Some(row) = table::find(name) else {
                    continue;
                };
                givens.push(Given::new(
                    row,
                    Some(&value),
                    Source::Typed,
                    directory,
                    Dialect::Launcher,
                )?);
            }
        }
    }
    Ok(givens)
}

/// Behind the image it can be the command's: which, is for the user to say.
fn refuse_behind_image(option: &Foreign, matches: &ArgMatches, id: &str) -> Result<()> {
    let image = matches.index_of("image-word");
    let mut indices = matches.indices_of(id).into_iter().flatten();
    if image.is_none_or(|image| indices.all(|index| index < image)) {
        return Ok(());
    }
    let option = dashed(option);
    Err(Error::new(format!(
        "{option} stands behind the image, where the command's words are"
    ))
    .hint(format!(
        "put it before the image; or -- before the command, if {option} is its own"
    )))
}

fn uses(option: &Foreign, value: &str) -> Result<Vec<(&'static str, String)>> {
    match &option.means {
        Means::Nothing => Ok(Vec::new()),
        Means::Not(instead) => Err(refused(&dashed(option), instead)),
        Means::Own(means) => means(value).map_err(|reason| {
            let shown = if value.is_empty() {
                String::new()
            } else {
                format!(" {value}")
            };
            Error::new(format!("{}{shown}: {reason}", dashed(option)))
                .hint("`chariot run --help` has Chariot's own options")
        }),
    }
}

fn refused(word: &str, instead: &str) -> Error {
    Error::new(format!("Chariot has no {word}")).hint(instead)
}

/// What is said of an option that a command does not take.
pub(super) fn option(typed: &str) -> Option<Error> {
    let name = typed.split('=').next()?;
    let bare = name.trim_start_matches('-');
    let found = OPTIONS.iter().find(|option| option.names.contains(&bare))?;
    match &found.means {
        Means::Not(instead) => Some(refused(name, instead)),
        Means::Nothing => Some(refused(name, "it is so anyway: leave it out")),
        Means::Own(_) => None,
    }
}

/// What is said of a command that there is not.
pub(super) fn command(word: &str) -> Option<Error> {
    let (_, instead) = COMMANDS.iter().find(|(names, _)| names.contains(&word))?;
    Some(refused(&format!("command {word}"), instead))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_word_stands_twice_and_none_is_chariots_own() {
        let mut names: Vec<_> = OPTIONS.iter().flat_map(|option| option.names).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(names.iter().all(|name| table::find(name).is_none()));
        let commands: Vec<_> = COMMANDS.iter().flat_map(|(names, _)| *names).collect();
        let own = super::super::command();
        assert!(
            commands
                .iter()
                .all(|name| own.find_subcommand(name).is_none()),
            "{commands:?}"
        );
    }

    #[test]
    fn a_volume_of_dockers_is_a_bind() {
        for (value, expected) in [
            ("/a:/b", "/a:/b"),
            ("/a:/b:ro,Z", "/a:/b:ro"),
            ("./a:/b:z", "./a:/b"),
            ("/a,b:/c", "/a\\,b:/c"),
        ] {
            assert_eq!(volume(value), one("bind", expected), "{value}");
        }
        assert!(volume("data:/b").unwrap_err().contains("./data"));
    }

    #[test]
    fn a_mount_of_dockers_is_a_bind() {
        for (value, expected) in [
            ("type=bind,source=/a,target=/b", "/a:/b"),
            ("type=bind,src=/a,dst=/b,readonly", "/a:/b:ro"),
            ("type=tmpfs,target=/b,tmpfs-size=1M", "tmpfs:/b:size=1M"),
        ] {
            assert_eq!(mount(value), one("bind", expected), "{value}");
        }
        for value in [
            "type=volume,source=a,target=/b",
            "source=/a,target=/b",
            "type=bind,what=1",
        ] {
            assert!(mount(value).is_err(), "{value}");
        }
    }
}
