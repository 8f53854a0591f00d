//! Words of other tools: docker, podman, apptainer, ch-run, enroot and pyxis. Options that mean the same simply work; of the
//! rest, and of commands that Chariot does not have, one sentence says how it is done here.

use std::path::Path;

use clap::{Arg, ArgAction, ArgMatches};

use chariot_core::error::{Error, Result};
use chariot_core::options::table;
use chariot_core::options::{Dialect, Given, Source};
use chariot_core::sys::rights;
use chariot_core::users;

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
    let fields: Vec<&str> = value.split(':').collect();
    let (source, destination, flags) = match fields.as_slice() {
        [source, destination] => (*source, *destination, ""),
        [source, destination, flags] => (*source, *destination, *flags),
        _ => return Err("it wants SRC:DST or SRC:DST:FLAGS".into()),
    };
    if !source.contains(['/', '.', '~', '$']) {
        return Err(format!(
            "there are no volumes with names: give a directory, ./{source}"
        ));
    }
    let needless = [
        "",
        "z",
        "Z",
        "rw",
        "cached",
        "delegated",
        "consistent",
        "rslave",
        "rprivate",
    ];
    let flags = flags.split(',').filter(|flag| !needless.contains(flag));
    bind(source, destination, &flags.collect::<Vec<_>>())
}

fn bind(source: &str, destination: &str, flags: &[&str]) -> Uses {
    // `tmpfs` alone would be no directory.
    let source = if source == "tmpfs" { "./tmpfs" } else { source };
    let mut bind = format!("{}:{}", escaped(source), escaped(destination));
    if !flags.is_empty() {
        bind += &format!(":{}", flags.join("+"));
    }
    one("bind", &bind)
}

fn escaped(path: &str) -> String {
    path.replace('\\', "\\\\")
        .replace(':', "\\:")
        .replace(',', "\\,")
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
            "bind-propagation" | "consistency" | "relabel" => {}
            _ => {
                return Err(format!(
                    "\"{key}\" is not type, source, target, readonly or tmpfs-size"
                ));
            }
        }
    }
    let flags: &[&str] = if read_only { &["ro"] } else { &[] };
    match kind {
        "bind" if source.is_empty() || target.is_empty() => {
            Err("it wants source=DIR and target=DIR".into())
        }
        "bind" => bind(source, target, flags),
        "tmpfs" if read_only => Err("nothing could ever be in it: leave out readonly".into()),
        "tmpfs" if target.is_empty() => Err("it wants target=DIR".into()),
        "tmpfs" => tmpfs(target, size),
        _ => Err("only type=bind and type=tmpfs are there, and no volumes with names".into()),
    }
}

fn tmpfs(target: &str, size: &str) -> Uses {
    let size = if size.is_empty() {
        String::new()
    } else {
        format!(":size={size}")
    };
    one("bind", &format!("tmpfs:{}{size}", escaped(target)))
}

/// `DST[:OPTION,OPTION]`, of which a size is understood.
fn tmpfs_option(value: &str) -> Uses {
    let (target, options) = value.split_once(':').unwrap_or((value, ""));
    let mut size = "";
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some(("size", value)) => size = value,
            _ if matches!(option, "rw" | "noexec" | "nosuid" | "nodev") => {}
            _ => return Err(format!("\"{option}\" is not size=N")),
        }
    }
    tmpfs(target, size)
}

/// `NAME=VALUE`; a name alone is one whose value comes from outside.
fn variable(value: &str) -> Uses {
    match value.contains('=') {
        true => one("set-env", value),
        false => one("keep-env", value),
    }
}

/// `USER[:GROUP]`, which can be nobody but root in looks, or the caller.
fn user(value: &str) -> Uses {
    let (name, group) = match value.split_once(':') {
        Some((name, group)) => (name, Some(group)),
        None => (value, None),
    };
    let is_root = |name: &str| matches!(name, "0" | "root");
    let own = rights::user();
    let is_own = |name: &str| {
        name == own.to_string() || users::user(own).is_some_and(|user| user.name == name)
    };
    let is_own_group = |group: &str| group == rights::group().to_string();
    match name {
        _ if is_root(name) && group.is_none_or(is_root) => one("root", "yes"),
        _ if is_own(name) && group.is_none_or(is_own_group) => Ok(Vec::new()),
        _ => Err("inside you are who you are, or look like root with --root".into()),
    }
}

/// More are in no machine.
const MOST_GPUS: u16 = 64;

fn gpus(value: &str) -> Uses {
    let value = value.trim_matches('"');
    let device = |name: &str| ("device", format!("nvidia.com/gpu={name}"));
    let told = || "it wants all, a number, or device=NAME".to_owned();
    if let Ok(count) = value.parse::<u16>() {
        return match (1..=MOST_GPUS).contains(&count) {
            true => Ok((0..count)
                .map(|number| device(&number.to_string()))
                .collect()),
            false => Err(told()),
        };
    }
    match value.split_once('=') {
        None if value == "all" => Ok(vec![device("all")]),
        Some(("device", names)) if !names.is_empty() => Ok(names.split(',').map(device).collect()),
        _ => Err(told()),
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

/// As it can have been typed: which of its names it was, the parser does not say.
fn dashed(option: &Foreign) -> String {
    let dashed = |name: &&str| match name.len() {
        1 => format!("-{name}"),
        _ => format!("--{name}"),
    };
    option
        .names
        .iter()
        .map(dashed)
        .collect::<Vec<_>>()
        .join(", ")
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

/// What was typed of them, as uses of Chariot's own, each with its place on the command line.
pub(super) fn typed(matches: &ArgMatches, directory: &Path) -> Result<Vec<(usize, Given)>> {
    let mut givens = Vec::new();
    for option in OPTIONS {
        let id = id(option);
        let Ok(Some(values)) = matches.try_get_many::<String>(&id) else {
            continue;
        };
        refuse_behind_image(option, matches, &id)?;
        let places = matches.indices_of(&id).into_iter().flatten();
        for (place, value) in places.zip(values) {
            for (name, value) in uses(option, value)? {
                let Some(row) = table::find(name) else {
                    continue;
                };
                let (source, dialect) = (Source::Typed, Dialect::Launcher);
                let given = Given::new(row, Some(&value), source, directory, dialect)?;
                givens.push((place, given));
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
    Error::new(format!("Chariot has nothing like {word}")).hint(instead)
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
    Some(Error::new(format!("Chariot has no command {word}")).hint(*instead))
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
        for value in ["/a", "/a:/b:ro:/c", ""] {
            assert!(volume(value).is_err(), "{value}");
        }
    }

    #[test]
    fn a_mount_of_dockers_is_a_bind() {
        for (value, expected) in [
            ("type=bind,source=/a,target=/b", "/a:/b"),
            ("type=bind,src=/a,dst=/b,readonly", "/a:/b:ro"),
            ("type=tmpfs,target=/b,tmpfs-size=1M", "tmpfs:/b:size=1M"),
            ("type=bind,source=tmpfs,target=/b", "./tmpfs:/b"),
            ("type=bind,source=./a:/c,target=rw", "./a\\:/c:rw"),
        ] {
            assert_eq!(mount(value), one("bind", expected), "{value}");
        }
        for value in [
            "type=volume,source=a,target=/b",
            "source=/a,target=/b",
            "type=bind,what=1",
            "type=tmpfs,target=/b,readonly",
            "type=tmpfs,target=/b,tmpfs-mode=0700",
        ] {
            assert!(mount(value).is_err(), "{value}");
        }
    }

    #[test]
    fn a_user_is_who_calls_or_looks_like_root() {
        let (own, group) = (rights::user(), rights::group());
        assert_eq!(user("0"), one("root", "yes"));
        assert_eq!(user("root:0"), one("root", "yes"));
        assert!(user(&format!("{own}:{group}")).is_ok());
        for value in ["0:1000", "daemon", ":0", "0:0:0", "", "4294967295"] {
            assert!(user(value).is_err(), "{value}");
        }
    }

    #[test]
    fn gpus_are_as_many_as_a_machine_can_have() {
        assert_eq!(gpus("2").unwrap().len(), 2);
        assert_eq!(gpus("\"device=0,1\"").unwrap().len(), 2);
        for value in ["0", "65535", "-1", "device=", "", "capabilities=utility"] {
            assert!(gpus(value).is_err(), "{value}");
        }
    }
}
