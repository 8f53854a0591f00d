use super::*;

/// A directory with these files in it.
fn files(files: &[(&str, &str)]) -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = place.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    place
}

fn read(place: &tempfile::TempDir) -> Stack {
    Stack::read(&place.path().join("plugstack.conf"))
}

#[test]
fn an_included_line_is_read_and_one_that_nobody_includes_is_not() {
    let line = "# why\n\n\trequired  chariot.so  strict launcher=/l # and why not\n";
    for (plugstack, is_read) in [
        ("include plugstack.conf.d/*.conf\n", true),
        ("include plugstack.conf.d/*\n", true),
        ("include plugstack.conf.d/c[a-i]ariot.conf", true),
        ("# include plugstack.conf.d/*.conf\n", false),
        ("include *.conf\n", false),
        ("include plugstack.conf.d\n", false),
        ("include /nosuch/*.conf\n", false),
        ("", false),
    ] {
        let place = files(&[
            ("plugstack.conf.d/chariot.conf", line),
            ("plugstack.conf", plugstack),
        ]);
        let stack = read(&place);
        assert_eq!(stack.line.is_some(), is_read, "{plugstack}");
        if let Some(line) = stack.line {
            assert_eq!(line.words, ["strict", "launcher=/l"]);
            assert!(line.is_required && line.place().ends_with("chariot.conf:3"));
            assert!(
                line.shown()
                    .ends_with(":3: required chariot.so strict launcher=/l")
            );
        }
    }
}

#[test]
fn hidden_files_and_removed_lines_are_not_included() {
    let place = files(&[
        ("plugstack.conf", "include plugstack.conf.d/*.conf\n"),
        (
            "plugstack.conf.d/chariot.conf.removed",
            "required chariot.so\n",
        ),
        ("plugstack.conf.d/.chariot.conf", "required chariot.so\n"),
    ]);
    assert_eq!(read(&place).line, None);
}

#[test]
fn the_first_line_that_names_the_plugin_counts() {
    let place = files(&[(
        "plugstack.conf",
        "required /opt/chariot/lib/other.so\noptional /opt/x/chariot.so a\nrequired chariot.so b\n",
    )]);
    let line = read(&place).line.unwrap();
    assert_eq!(
        (line.is_required, line.words),
        (false, vec!["a".to_owned()])
    );
}

#[test]
fn what_slurm_ignores_is_told() {
    for text in [
        "requird chariot.so\n",
        "chariot.so\n",
        "Required chariot.so\n",
    ] {
        let place = files(&[("plugstack.conf", text)]);
        let stack = read(&place);
        assert_eq!(stack.line, None);
        assert_eq!(stack.ignored[0].1, text.trim());
    }
}

#[test]
fn a_missing_file_is_an_empty_one_and_a_file_that_includes_itself_has_an_end() {
    let place = files(&[]);
    let stack = read(&place);
    assert!(stack.line.is_none() && stack.unreadable.is_none());
    let place = files(&[(
        "plugstack.conf",
        "include plugstack.conf\nrequired chariot.so\n",
    )]);
    assert!(read(&place).line.is_some());
    let place = files(&[]);
    std::os::unix::fs::symlink("plugstack.conf", place.path().join("plugstack.conf")).unwrap();
    assert!(
        read(&place)
            .unreadable
            .unwrap()
            .contains("plugstack.conf: ")
    );
}
