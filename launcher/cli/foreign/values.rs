//! Values of other tools' options in the words of Chariot's own.

use chariot_core::sys::rights;
use chariot_core::users;

/// Uses of Chariot's own options, by name and value; or what is wrong.
pub(super) type Uses = std::result::Result<Vec<(&'static str, String)>, String>;

pub(super) fn one(name: &'static str, value: &str) -> Uses {
    Ok(vec![(name, value.to_owned())])
}

/// `SRC:DST[:FLAG,FLAG]`; what SELinux and macOS want is not needed.
pub(super) fn volume(value: &str) -> Uses {
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
pub(super) fn mount(value: &str) -> Uses {
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
pub(super) fn tmpfs_option(value: &str) -> Uses {
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
pub(super) fn variable(value: &str) -> Uses {
    match value.contains('=') {
        true => one("set-env", value),
        false => one("keep-env", value),
    }
}

/// `USER[:GROUP]`, which can be nobody but root in looks, or the caller.
pub(super) fn user(value: &str) -> Uses {
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

pub(super) fn gpus(value: &str) -> Uses {
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
pub(super) fn of_the_host(value: &str) -> Uses {
    match value {
        "host" => Ok(Vec::new()),
        _ => Err("the container shares the host's: leave it out".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
