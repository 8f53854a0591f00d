use super::*;

#[test]
fn the_file_that_we_ship_has_every_default_and_nothing_else() {
    let shipped = include_str!("../../../etc/chariot.toml");
    assert_eq!(Config::parse(shipped).unwrap(), Config::default());
    for row in table::TABLE {
        assert!(
            shipped.contains(&format!("# {} = ", row.key())),
            "{}",
            row.key()
        );
    }
}

#[test]
fn a_misspelt_key_is_refused_with_its_line_and_what_was_meant() {
    let error = Config::parse("enabled = true\n\nbind_cdw = false\n").unwrap_err();
    assert_eq!(error.to_string(), "line 3: unknown key \"bind_cdw\"");
    assert_eq!(error.advice(), Some("did you mean bind_cwd?"));
    let error = Config::parse("[defaults]\nprivate-tmp = true\n").unwrap_err();
    assert_eq!(error.advice(), Some("did you mean private_tmp?"));
}

#[test]
fn values_of_the_wrong_kind_are_refused_with_their_line() {
    for (text, expected) in [
        ("enabled = 1", "line 1: enabled is not true or false"),
        (
            "\nlog_level = \"loud\"",
            "line 2: log_level is not one of error, warn",
        ),
        (
            "image_dirs = [\"rel\"]",
            "line 1: image_dirs is not a list of absolute",
        ),
        (
            "[waits]\ncontainer = 0",
            "line 2: container is not a number of seconds",
        ),
        (
            "[defaults]\nhome = \"yes\"",
            "line 2: home is not true or false",
        ),
        (
            "[defaults]\nbind = [\"/a:b\"]",
            "line 2: bind in the site configuration file=/a:b",
        ),
        (
            "host_commands = [\"/bin/srun\"]",
            "line 1: host_commands is not a list of names",
        ),
        (
            "site_cache = \"/images/$USER\"",
            "line 1: site_cache is not the same directory for everybody",
        ),
        ("enabled = ", "line 1: "),
        ("enabled = true\nenabled = true", "line 2: "),
    ] {
        let error = Config::parse(text).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{text}: {error}");
    }
}

#[test]
fn defaults_become_the_weakest_uses_of_options() {
    let text = "[defaults]\nimage = \"debian\"\nbind = [\"/a\", \"/b\"]\nwritable = true\n";
    let config = Config::parse(text).unwrap();
    let values: Vec<_> = config
        .defaults
        .iter()
        .map(|given| given.value.as_str())
        .collect();
    assert_eq!(values.len(), 4);
    for value in ["debian", "/a:/a", "/b:/b", "yes"] {
        assert!(values.contains(&value), "{value}");
    }
    assert!(
        config
            .defaults
            .iter()
            .all(|given| given.source == Source::Site)
    );
}

#[test]
fn a_file_that_is_named_and_missing_is_no_site_without_rules() {
    let error = Config::load(Path::new("/nonexistent/chariot.toml")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "can't use the site configuration file /nonexistent/chariot.toml: there is none"
    );
    assert!(error.advice().unwrap().contains("plugstack.conf"));
    // Whoever wants none says so.
    assert_eq!(Config::load(Path::new("/dev/null")), Ok(Config::default()));
}

#[test]
fn a_file_that_is_too_long_to_be_read_whole_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("chariot.toml");
    std::fs::write(&path, "#".repeat(1 << 20) + "\nenabled = false\n").unwrap();
    let error = Config::load(&path).unwrap_err();
    assert!(error.to_string().contains("longer than"), "{error}");
}
