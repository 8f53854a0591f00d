use super::table::TABLE;
use super::*;
use chariot_core::options::{Dialect, Given, Source, table as option_table};

fn options(givens: &[(&str, &str)]) -> Options {
    let given = |(name, value): &(&str, &str)| Given {
        row: option_table::find(name).unwrap(),
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
    let unasked = unasked(&options, &host, &metadata, &[]);
    let edits = decide(&options, &host, "img", &unasked, &assigned);
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

/// What is settled in a container that shows of the places that `host` names those that are still there, as they were.
fn settled(
    givens: &[(&str, &str)],
    host: &Environment,
    home: &str,
    image: &[Edit],
    hide: impl FnOnce(),
) -> Vec<(String, String)> {
    let options = options(givens);
    let assigned = assigned(&options.set_env).unwrap();
    let open = Open::of(&options, host, Path::new(home), &assigned);
    hide();
    let is_directory = |path: &Path| path.is_dir();
    let edits = settle(image, host, &open, false, is_directory).into_iter();
    let value = |edit: Edit| {
        edit.value
            .map_or("unset".into(), |value| value.into_string().unwrap())
    };
    edits
        .map(|edit| (edit.name.clone().into_string().unwrap(), value(edit)))
        .collect()
}

/// A directory with these in it.
fn places(names: &[&str]) -> (tempfile::TempDir, impl Fn(&str) -> String) {
    let place = tempfile::tempdir().unwrap();
    for name in names {
        std::fs::create_dir(place.path().join(name)).unwrap();
    }
    let root = place.path().to_owned();
    (place, move |name: &str| {
        root.join(name).to_str().unwrap().to_owned()
    })
}

#[test]
fn home_is_the_home_directory_or_says_that_there_is_none() {
    let (_place, at) = places(&["home", "gone", "alike"]);
    // Of its name, and not it.
    let look_alike = || {
        std::fs::rename(at("alike"), at("elsewhere")).unwrap();
        std::fs::create_dir(at("alike")).unwrap();
    };
    let home = |value: &str| environment(&[("HOME", value)]);
    let is = |value: &str| pairs(&[("HOME", value)]);
    let none = Environment::new;
    let own = at("home");
    assert_eq!(settled(&[], &home(&own), &own, &[], || ()), pairs(&[]));
    assert_eq!(settled(&[], &none(), &own, &[], || ()), is(&own));
    assert_eq!(settled(&[], &home(""), &own, &[], || ()), is(&own));
    assert_eq!(settled(&[], &home(&at("none")), &own, &[], || ()), is(&own));
    assert_eq!(
        settled(&[], &home(&at("alike")), "/x", &[], look_alike),
        is("/")
    );
    let gone = || std::fs::remove_dir(at("gone")).unwrap();
    assert_eq!(
        settled(&[], &home(&at("gone")), &at("gone"), &[], gone),
        is("/")
    );
    // The image's own word, and what was asked for wherever it was.
    let image = [Edit::set("HOME", at("alike"), "the image")];
    assert_eq!(settled(&[], &home("/x"), "/x", &image, || ()), pairs(&[]));
    let image = [Edit::set("HOME", "/nowhere", "CH_SET_ENV")];
    let said = [("set-env", "HOME=/nowhere")];
    assert_eq!(settled(&said, &none(), "/x", &image, || ()), pairs(&[]));
    for kept in [("keep-env", "HOME"), ("unset-env", "HO*")] {
        assert_eq!(settled(&[kept], &home("/x"), "/x", &[], || ()), pairs(&[]));
    }
}

#[test]
fn what_names_a_place_that_is_not_shown_stays_outside() {
    let (_place, at) = places(&["seen", "hidden"]);
    let (seen, hidden) = (at("seen"), at("hidden"));
    let both = format!("{seen}:{hidden}::relative");
    let bus = format!("unix:path={hidden},guid=1");
    let host = environment(&[
        ("HOME", &seen),
        ("TMPDIR", &hidden),
        ("TMP", &seen),
        ("TEMP", "/nowhere"),
        ("XDG_RUNTIME_DIR", &hidden),
        ("XDG_CACHE_HOME", &seen),
        ("DBUS_SESSION_BUS_ADDRESS", &bus),
        ("PYTHONHOME", &hidden),
        ("PYTHONPATH", &both),
        ("PERL5LIB", &hidden),
        ("R_LIBS", &seen),
        ("MINE", &hidden),
    ]);
    let hide = || std::fs::remove_dir(at("hidden")).unwrap();
    let given = [("set-env", "R_HOME=/nowhere")];
    let shown = format!("{seen}::relative");
    assert_eq!(
        settled(&given, &host, "/x", &[], hide),
        pairs(&[
            ("TMPDIR", "/tmp"),
            ("TEMP", "/tmp"),
            ("XDG_RUNTIME_DIR", "unset"),
            ("DBUS_SESSION_BUS_ADDRESS", "unset"),
            ("PYTHONHOME", "unset"),
            ("PYTHONPATH", &shown),
            ("PERL5LIB", "unset"),
        ])
    );
    let kept = [(
        "keep-env",
        "TMPDIR,TEMP,XDG_RUNTIME_DIR,DBUS_SESSION_BUS_ADDRESS,PYTHONHOME,PYTHONPATH,PERL5LIB",
    )];
    assert_eq!(settled(&kept, &host, "/x", &[], || ()), pairs(&[]));
}

#[test]
fn a_value_can_add_to_a_list_of_the_image() {
    let host = [BIN, ("LIST", "/host")];
    let image = [("PATH", "/image/bin:/bin"), ("LIST", "/image")];
    for (given, path) in [
        ("PATH=/x:$PATH", "/x:/image/bin:/bin"),
        ("PATH=$PATH:/x", "/image/bin:/bin:/x"),
        ("PREPEND_PATH=/x", "/x:/image/bin:/bin"),
        ("APPEND_PATH=/x", "/image/bin:/bin:/x"),
        // The caller's word is the last.
        ("PATH=/x", "/x"),
    ] {
        let seen = seen(
            &[("set-env", given), ("set-env", "LIST=/y:$LIST")],
            &host,
            &image,
        );
        assert_eq!(
            seen,
            pairs(&[("LIST", "/y:/image"), ("PATH", path)]),
            "{given}"
        );
    }
}

#[test]
fn what_is_added_to_path_never_makes_the_current_directory_an_entry() {
    for (given, path, now) in [
        ("PREPEND_PATH=", Some("/usr/bin:/bin"), "/usr/bin:/bin"),
        ("APPEND_PATH=", Some("/usr/bin:/bin"), "/usr/bin:/bin"),
        ("PREPEND_PATH=:/x:", Some("/bin"), "/x:/bin"),
        ("APPEND_PATH=/x::/y:", Some("/bin"), "/bin:/x:/y"),
        ("PREPEND_PATH=$NONE", Some("/bin"), "/bin"),
        ("PREPEND_PATH=/x", Some(""), &format!("/x:{PATH}")),
        ("PATH=/x:${PATH}", Some("/usr/bin"), "/x:/usr/bin:/bin"),
        ("PATH=/x:$PATH", None, &format!("/x:{PATH}")),
        ("PATH=/x:${PATH}", None, &format!("/x:{PATH}")),
        ("PREPEND_PATH=/x", None, &format!("/x:{PATH}")),
        ("APPEND_PATH=/x", None, &format!("{PATH}:/x")),
    ] {
        let host: Vec<_> = path.iter().map(|path| ("PATH", *path)).collect();
        let seen = seen(&[("set-env", given)], &host, &[]);
        assert_eq!(seen, pairs(&[("PATH", now)]), "{given} with {path:?}");
    }
}

#[test]
fn a_value_names_what_a_variable_has_inside() {
    let (_place, at) = places(&["seen", "hidden"]);
    let (seen, hidden) = (at("seen"), at("hidden"));
    let host = environment(&[
        BIN,
        ("HOME", &hidden),
        ("TMPDIR", &hidden),
        ("PYTHONPATH", &format!("{hidden}:{seen}")),
        ("PERL5LIB", &hidden),
        ("R_LIBS", &hidden),
        ("JAVA_HOME", &seen),
        ("MINE", &hidden),
    ]);
    let given = [
        ("set-env", "PYTHONPATH=/x:$PYTHONPATH"),
        ("set-env", "PERL5LIB=/x:${PERL5LIB}"),
        ("set-env", "A=$HOME:1"),
        ("set-env", "B=$TMPDIR:$JAVA_HOME:$A"),
        ("set-env", "C=$MINE"),
        ("set-env", "D=$R_LIBS:1"),
        ("set-env", "PREPEND_PATH=$HOME"),
        ("keep-env", "R_LIBS"),
    ];
    let assigned = assigned(&options(&given).set_env).unwrap();
    let unasked = unasked(&options(&given), &host, &Default::default(), &[]);
    let plan = decide(&options(&given), &host, "img", &unasked, &assigned);
    let open = Open::of(&options(&given), &host, Path::new("/x"), &assigned).with_unasked(unasked);
    std::fs::remove_dir(&hidden).unwrap();
    let mut edits = plan.clone();
    edits.extend(settle(&plan, &host, &open, false, |path| path.is_dir()));
    let now = apply(&host, &edits);
    let is = |name: &str| find(&now, name).unwrap_or_default().to_str().unwrap();
    assert_eq!(is("PYTHONPATH"), format!("/x:{seen}"));
    assert_eq!(is("PERL5LIB"), "/x");
    assert_eq!(is("A"), "/:1");
    assert_eq!(is("B"), format!("/tmp:{seen}:/:1"));
    assert_eq!(is("C"), hidden);
    assert_eq!(is("D"), format!("{hidden}:1"));
    assert_eq!(is("PATH"), "/:/bin");
}

#[test]
fn values_that_name_each_other_do_not_grow_without_end() {
    let mut given = vec![("set-env", "A0=0123456789".to_owned())];
    for number in 1..20 {
        let all = vec![format!("$A{}", number - 1); 50].join(":");
        given.push(("set-env", format!("A{number}={all}")));
        given.push((
            "set-env",
            format!("B{number}=$SLURM_PROCID:$B{}:{all}", number - 1),
        ));
    }
    let given: Vec<_> = given.iter().map(|(a, b)| (*a, b.as_str())).collect();
    let assigned = assigned(&options(&given).set_env).unwrap();
    let host = environment(&[BIN]);
    let edits = decide(&options(&given), &host, "img", &[], &assigned);
    let lengths = edits.iter().filter_map(|edit| edit.value.as_ref());
    let longest = lengths.map(|value| value.len()).max();
    assert!(
        longest > Some(LONGEST_VALUE) && longest < Some(4 * LONGEST_VALUE),
        "{longest:?}"
    );
    assert!(refuse_too_long(&edits).is_err());
}

#[test]
fn what_each_task_has_for_itself_is_not_the_first_tasks_for_all() {
    let first = environment(&[
        BIN,
        ("SLURM_PROCID", "0"),
        ("HOME", "/h"),
        ("M", "\\$PMI_RANK"),
    ]);
    let given = [
        ("set-env", "A=$SLURM_PROCID"),
        (
            "set-env",
            "B=a:${SLURM_LOCALID}:$HOME:\\$PMI_RANK:$A:$M:$NONE",
        ),
        ("set-env", "A=5"),
        ("set-env", "C=$A"),
        ("set-env", "PMI_RANK=7"),
        ("set-env", "D=$PMI_RANK:$PMI_RANK"),
    ];
    let assigned = assigned(&options(&given).set_env).unwrap();
    let unasked = unasked(&options(&given), &first, &Default::default(), &[]);
    let mut edits = decide(&options(&given), &first, "img", &unasked, &assigned);
    let open = Open::of(&options(&given), &first, Path::new("/h"), &assigned).with_unasked(unasked);
    edits.extend(settle(&edits, &first, &open, false, |path| path.is_dir()));
    let third = environment(&[BIN, ("SLURM_PROCID", "3"), ("SLURM_LOCALID", "1")]);
    let now = apply(&third, &edits);
    let is = |name: &str| find(&now, name).unwrap_or_default().to_str().unwrap();
    assert_eq!(is("B"), "a:1:/:$PMI_RANK:3:\\$PMI_RANK");
    assert_eq!([is("C"), is("D")], ["5", "7:7"]);
}

#[test]
fn what_runs_the_hosts_programs_or_leads_to_its_files_stays_outside() {
    let (_place, at) = places(&["hidden"]);
    let hidden = at("hidden");
    let runs = [
        ("GCONV_PATH", "/usr/lib64/gconv"),
        ("LESSOPEN", "||/usr/bin/lesspipe.sh %s"),
        ("LESSCLOSE", "/usr/bin/lesspipe %s %s"),
        ("PROMPT_COMMAND", "__vte_prompt_command"),
        ("BASH_FUNC_spack%%", "() { /opt/spack/bin/spack; }"),
    ];
    assert_eq!(seen(&[], &[&[BIN][..], &runs].concat(), &[]), pairs(&[BIN]));
    for name in [
        "PIP_CERT",
        "GIT_SSL_CAINFO",
        "GIT_SSL_CAPATH",
        "NODE_EXTRA_CA_CERTS",
        "CARGO_HOME",
        "RUSTUP_HOME",
        "ZDOTDIR",
        "PERL_LOCAL_LIB_ROOT",
        "PERL_MB_OPT",
        "PERL_MM_OPT",
    ] {
        std::fs::create_dir_all(&hidden).unwrap();
        let value = match name {
            "PERL_MB_OPT" => format!("--install_base \"{hidden}\""),
            "PERL_MM_OPT" => format!("INSTALL_BASE={hidden}"),
            _ => hidden.clone(),
        };
        let host = environment(&[("HOME", "/"), (name, &value)]);
        assert_eq!(settled(&[], &host, "/", &[], || ()), pairs(&[]), "{name}");
        let hide = || std::fs::remove_dir(&hidden).unwrap();
        assert_eq!(
            settled(&[], &host, "/", &[], hide),
            pairs(&[(name, "unset")])
        );
    }
}

#[test]
fn no_variable_has_two_rules() {
    let mut names: Vec<_> = TABLE.iter().flat_map(|row| row.names).collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all);
}
