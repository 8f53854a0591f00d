use super::row::image;
use super::*;

struct Files {
    place: tempfile::TempDir,
}

impl Files {
    fn new(files: &[(&str, &str)]) -> Files {
        let place = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = place.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Files { place }
    }

    fn around<T>(&self, work: impl FnOnce(&Surroundings<'_>) -> T) -> T {
        let here = self.place.path();
        let variable = |name: &str| match name {
            "EDF_PATH" => Some(format!("{0}/first::{0}/second", here.display())),
            "HOME" => Some(here.join("home").display().to_string()),
            "USER" => Some("ada".to_owned()),
            _ => None,
        };
        work(&Surroundings {
            directories: &[here.join("site")],
            here,
            variable: &variable,
            entrypoint: false,
        })
    }

    fn load(&self, word: &str) -> Result<Definition> {
        self.around(|around| Definition::load(word, around))
    }

    fn options(&self, word: &str) -> Result<Vec<String>> {
        self.around(|around| {
            let givens = Definition::load(word, around)?.givens(around)?;
            Ok(givens
                .iter()
                .map(|given| format!("{}={}", given.row.name, given.value))
                .collect())
        })
    }
}

const WHOLE: &str = r#"
image = "nvcr.io#nvidia/pytorch:24.01-py3"
workdir = "/home/${USER}"
entrypoint = true
writable = false
mounts = ["/scratch/${USER}:/scratch:ro", "./data:/data"]

[env]
A = "${NOTHING:-a}"
GONE = ""

[annotations]
com.hooks.ssh.enabled = "true"
com.hooks.cxi.enabled = true
"#;

#[test]
fn every_key_becomes_its_option() {
    let files = Files::new(&[("e.toml", WHOLE)]);
    let here = files.place.path().display().to_string();
    assert_eq!(
        files.options("./e.toml").unwrap(),
        [
            "entrypoint=yes",
            "set-env=A=a",
            "unset-env=GONE",
            "image=docker://nvcr.io/nvidia/pytorch:24.01-py3",
            "bind=/scratch/ada:/scratch:ro",
            &format!("bind={here}/./data:/data"),
            "workdir=/home/ada",
            "writable=no",
        ]
    );
    let definition = files.load("e.toml").unwrap();
    let annotations: Vec<_> = definition
        .annotations()
        .map(|entry| (entry.key.as_str(), entry.value.as_str()))
        .collect();
    assert_eq!(
        annotations,
        [
            ("annotations.com.hooks.cxi.enabled", "true"),
            ("annotations.com.hooks.ssh.enabled", "true"),
        ]
    );
}

#[test]
fn a_file_builds_on_others_and_has_the_last_word() {
    let files = Files::new(&[
        (
            "first/a.toml",
            "image = '/a'\nmounts = ['/a:/a']\nenv.X = 'a'\nenv.Y = 'a'\nwritable = false\n",
        ),
        (
            "home/.edf/b.toml",
            "base_environment = 'a'\nworkdir = '/b'\nmounts = ['/b:/b']\nenv.X = 'b'\n",
        ),
        (
            "site/c.toml",
            "base_environment = ['a', 'b']\nimage = '/c'\nenv.Y = ''\n",
        ),
    ]);
    let mut options = files.options("c").unwrap();
    options.sort();
    assert_eq!(
        options,
        [
            "bind=/a:/a",
            "bind=/a:/a",
            "bind=/b:/b",
            "image=/c",
            "set-env=X=b",
            "unset-env=Y",
            "workdir=/b",
            "writable=no",
        ]
    );
    // Each line says where it came from, and the whole is a file that says the same.
    let text = files.load("c").unwrap().lines().join("\n");
    assert!(text.contains("image = \"/c\"  # "), "{text}");
    assert!(text.contains("b.toml:2"), "{text}");
    let again = Files::new(&[("again.toml", &text)]);
    let mut same = again.options("./again.toml").unwrap();
    same.sort();
    assert_eq!(same, options);
}

/// Found by a fuzzer: TOML has such names, in quotes.
#[test]
fn a_name_without_a_letter_is_printed_as_one() {
    let files = Files::new(&[("one.toml", "image = '/i'\n[env]\n'' = 'v'\n")]);
    let text = files.load("./one.toml").unwrap().lines().join("\n");
    let again = Files::new(&[("again.toml", &text)]);
    let entries = again.load("./again.toml").unwrap().entries;
    assert!(
        entries
            .iter()
            .any(|entry| entry.key == "env." && entry.value == "v")
    );
}

/// Found by a fuzzer: variables are replaced in values, and not in names.
#[test]
fn a_dollar_in_a_name_is_printed_as_it_is_read() {
    let files = Files::new(&[(
        "one.toml",
        "image = '/i'\n[annotations]\n\"x$y\" = 'v$$w'\n",
    )]);
    let of = |files: &Files, word: &str| {
        let definition = files.load(word).unwrap();
        let annotation = definition.annotations().next().unwrap();
        (annotation.key.clone(), annotation.value.clone())
    };
    assert_eq!(
        of(&files, "./one.toml"),
        ("annotations.x$y".into(), "v$w".into())
    );
    let text = files.load("./one.toml").unwrap().lines().join("\n");
    let again = Files::new(&[("again.toml", &text)]);
    assert_eq!(of(&again, "./again.toml"), of(&files, "./one.toml"));
}

#[test]
fn names_are_looked_for_in_order_and_paths_are_not() {
    let files = Files::new(&[
        ("second/x.toml", "image = '/second'"),
        ("home/.edf/x.toml", "image = '/home'"),
        ("home/.edf/y.toml", "image = '/home'"),
        ("site/y.toml", "image = '/site'"),
        ("x.toml", "image = '/here'"),
    ]);
    let image = |word: &str| files.load(word).unwrap().entries[0].value.clone();
    assert_eq!(image("x"), "/second");
    assert_eq!(image("y"), "/home");
    assert_eq!(image("x.toml"), "/here");
    let error = files.load("z").unwrap_err();
    assert!(
        error.to_string().contains("there is no z.toml in "),
        "{error}"
    );
    assert!(error.to_string().contains("/second, "), "{error}");
}

#[test]
fn what_is_wrong_is_told_with_file_line_and_column() {
    for (text, expected) in [
        ("image = 1", ":1:9: image is not a string"),
        ("\nimagge = '/x'", ":2:1: unknown key \"imagge\""),
        (
            "image = '/x'\nwritable = 'yes'",
            ":2:12: writable is not true or false",
        ),
        ("mounts = ['/a:/b', '/a']", ":1:20: a mount is SRC:DST"),
        ("mounts = ['a:/b']", ":1:11: the source a begins"),
        (
            "mounts = ['/a:/b:nosuch']",
            ":1:11: \"nosuch\" is not one of",
        ),
        ("workdir = '${NO}'", ":1:11: the variable NO is not set"),
        ("workdir = 'here'", ":1:11: "),
        ("env.A.B = 'x'", "env.A is not a string"),
        ("image = '/x", ":1:"),
        (
            "devices = ['nvidia.com=all']",
            ":1:12: \"nvidia.com\" is not VENDOR/CLASS",
        ),
        (
            "base_environment = 'nothing'",
            ":1:20: can't find an environment named nothing",
        ),
    ] {
        let files = Files::new(&[("e.toml", text)]);
        let error = files.options("./e.toml").unwrap_err();
        assert!(error.to_string().contains(expected), "{text}: {error}");
    }
    let files = Files::new(&[("e.toml", "base_environment = './e.toml'")]);
    let error = files.load("./e.toml").unwrap_err();
    assert!(error.to_string().contains("more than 10 files"), "{error}");
}

#[test]
fn images_are_paths_or_in_a_registry() {
    for (word, expected) in [
        ("/a/b.sqsh", "/a/b.sqsh"),
        ("./b.sqsh", "./b.sqsh"),
        ("ubuntu:24.04", "docker://ubuntu:24.04"),
        ("nvcr.io#nvidia/cuda:12", "docker://nvcr.io/nvidia/cuda:12"),
        (
            "me@registry.example:5000#a/b",
            "docker://registry.example:5000/a/b",
        ),
        ("quay.io/a/b@sha256:abc", "docker://quay.io/a/b@sha256:abc"),
        ("docker://host/a", "docker://host/a"),
    ] {
        assert_eq!(image(word), expected);
    }
}

#[test]
fn the_strongest_name_counts_and_what_was_there_before_it_goes() {
    let files = Files::new(&[
        ("home/.edf/a.toml", "image = '/a'"),
        ("home/.edf/b.toml", "image = '/b'"),
    ]);
    let given = |name: &str, value: &str, source| Given {
        row: table::find(name).unwrap(),
        value: value.into(),
        source,
    };
    let image = |givens: &[Given]| {
        let mut givens = givens.to_vec();
        files.around(|around| replace(&mut givens, around)).unwrap();
        let options = Options::resolve(givens, Dialect::Slurm).unwrap();
        options.image.map(|image| image.value)
    };
    let (site, typed) = (
        given("edf", "a", Source::Site),
        given("edf", "b", Source::Typed),
    );
    assert_eq!(image(std::slice::from_ref(&site)).as_deref(), Some("/a"));
    assert_eq!(image(&[typed.clone(), site.clone()]).as_deref(), Some("/b"));
    let job = [
        given("edf", "a", Source::Inherited),
        given("image", "/job", Source::Definition),
    ];
    assert_eq!(image(&job).as_deref(), Some("/job"));
    assert_eq!(image(&[&job[..], &[typed]].concat()).as_deref(), Some("/b"));
    let none = given("edf", "none", Source::Typed);
    assert_eq!(image(&[&job[..], &[none]].concat()), None);
    let image_of_its_own = given("image", "/own", Source::Variable);
    assert_eq!(image(&[site, image_of_its_own]).as_deref(), Some("/own"));
}
