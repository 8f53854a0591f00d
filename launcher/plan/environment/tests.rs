use super::*;
use chariot_core::options::{Dialect, Given, Source, table};

fn options(givens: &[(&str, &str)]) -> Options {
    let given = |(name, value): &(&str, &str)| Given {
        row: table::find(name).unwrap(),
        value: (*value).into(),
        source: Source::Typed,
    };
    Options::resolve(givens.iter().map(given).collect(), Dialect::Launcher).unwrap()
}

fn environment(pairs: &[(&str, &str)]) -> Environment {
    pairs
        .iter()
        .map(|(name, value)| ((*name).into(), (*value).into()))
        .collect()
}

fn seen(
    givens: &[(&str, &str)],
    host: &[(&str, &str)],
    image: &[(&str, &str)],
) -> Vec<(String, String)> {
    let options = options(givens);
    let metadata = metadata::Metadata {
        environment: image
            .iter()
            .map(|(a, b)| ((*a).into(), (*b).into()))
            .collect(),
        environment_from: "/ch/environment",
        ..Default::default()
    };
    let assigned = assigned(&options.set_env).unwrap();
    let host = environment(host);
    let edits = decide(&options, &host, "img", &metadata, &[], &assigned);
    let mut seen: Vec<_> = apply(&host, &edits)
        .iter()
        .map(|(a, b)| (a.to_str().unwrap().into(), b.to_str().unwrap().into()))
        .filter(|(name, _)| name != RUNNING)
        .collect();
    seen.sort();
    seen
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(a, b)| ((*a).into(), (*b).into()))
        .collect()
}

const BIN: (&str, &str) = ("PATH", "/bin");

#[test]
fn the_image_wins_over_the_host_and_set_env_over_both() {
    let host = [("A", "host"), ("B", "host"), ("C", "host"), BIN];
    let image = [("B", "image"), ("C", "image"), ("D", "image")];
    assert_eq!(
        seen(&[("set-env", "C=asked")], &host, &image),
        pairs(&[
            ("A", "host"),
            ("B", "image"),
            ("C", "asked"),
            ("D", "image"),
            BIN
        ])
    );
}

#[test]
fn keep_env_reverses_it_for_names_that_the_host_has() {
    let image = [("A", "image"), ("B", "image")];
    assert_eq!(
        seen(&[("keep-env", "A,B")], &[("A", "host"), BIN], &image),
        pairs(&[("A", "host"), ("B", "image"), BIN])
    );
}

#[test]
fn the_hosts_libraries_stay_outside_unless_kept() {
    let host = [("LD_LIBRARY_PATH", "/h"), ("LD_PRELOAD", "x.so"), BIN];
    assert_eq!(seen(&[], &host, &[]), pairs(&[BIN]));
    assert_eq!(
        seen(&[("keep-env", "LD_PRELOAD")], &host, &[]),
        pairs(&[("LD_PRELOAD", "x.so"), BIN])
    );
    let image = [("LD_LIBRARY_PATH", "/image")];
    assert_eq!(
        seen(&[], &host, &image),
        pairs(&[("LD_LIBRARY_PATH", "/image"), BIN])
    );
}

#[test]
fn an_image_cannot_set_what_belongs_to_a_task() {
    let image = [
        ("SLURM_PROCID", "0"),
        ("PMI_FD", "3"),
        ("PMIX_RANK", "0"),
        ("CUDA_VISIBLE_DEVICES", "all"),
        ("DISPLAY", ":9"),
    ];
    assert_eq!(
        seen(&[], &[("SLURM_PROCID", "4"), BIN], &image),
        pairs(&[BIN, ("SLURM_PROCID", "4")])
    );
}

#[test]
fn unset_env_removes_what_matches_and_set_env_still_has_the_last_word() {
    let host = [("MODULE_A", "1"), ("MODULE_B", "2"), ("OTHER", "3"), BIN];
    assert_eq!(
        seen(
            &[("unset-env", "MODULE*"), ("set-env", "MODULE_B=new")],
            &host,
            &[("MODULE_C", "x")]
        ),
        pairs(&[("MODULE_B", "new"), ("OTHER", "3"), BIN])
    );
}

#[test]
fn path_is_never_without_bin() {
    assert_eq!(seen(&[], &[], &[]), pairs(&[("PATH", PATH)]));
    assert_eq!(
        seen(&[], &[("PATH", "/x:/bin2")], &[]),
        pairs(&[("PATH", "/x:/bin2:/bin")])
    );
    assert_eq!(
        seen(&[], &[("PATH", "/bin:/x")], &[]),
        pairs(&[("PATH", "/bin:/x")])
    );
}

#[test]
fn home_and_tmpdir_point_to_directories_that_are_there() {
    let host = environment(&[("HOME", "/home/ada"), ("TMPDIR", "/local/1")]);
    let settled = |visible: &'static [&'static str], is_root| {
        settle(&[], &host, is_root, |path| {
            visible.iter().any(|known| path == *known)
        })
        .into_iter()
        .map(|edit| {
            (
                edit.name.into_string().unwrap(),
                edit.value.unwrap().into_string().unwrap(),
            )
        })
        .collect::<Vec<_>>()
    };
    assert_eq!(
        settled(&[], false),
        pairs(&[("HOME", "/"), ("TMPDIR", "/tmp")])
    );
    assert_eq!(
        settled(&["/root"], true),
        pairs(&[("HOME", "/root"), ("TMPDIR", "/tmp")])
    );
    assert_eq!(settled(&["/home/ada", "/local/1"], false), pairs(&[]));
    let asked = [Edit::set("HOME", "/nowhere", "--set-env")];
    let edits = settle(&asked, &host, false, |_| false);
    assert!(edits.iter().all(|edit| edit.name != "HOME"));
}
