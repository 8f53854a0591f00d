//! Attacks by which others have been escaped from or deceived, tried here; docs/advisories.md says which test holds which.

use std::os::unix::fs::symlink;
use std::path::Path;

use crate::devices::specify;
use crate::place;

/// CVE-2024-21626: a working directory by a descriptor that the runtime forgot to close.
#[test]
fn a_working_directory_by_a_descriptor_is_none_of_the_hosts() {
    let place = place!();
    std::fs::create_dir_all(place.here().join("img/.chariot")).unwrap();
    for number in 3..16 {
        let directory = format!("/proc/self/fd/{number}");
        let mark = format!(r#"{{"source": "x", "time": 1, "working_directory": "{directory}"}}"#);
        std::fs::write(place.here().join("img/.chariot/image.json"), mark).unwrap();
        for options in [format!("--workdir {directory}"), String::new()] {
            let said = place.run(&format!(
                "cd /; $C run {options} $OLDPWD/img sh -c 'stat -c %d:%i / ../../../../../../../..'"
            ));
            let roots: Vec<_> = said.out.lines().collect();
            assert!(
                said.code == 125 || roots.len() == 2 && roots[0] == roots[1],
                "{options}: {said:#?}"
            );
        }
    }
}

/// CVE-2019-5736: the runtime's own file, by /proc/self/exe of a process that has entered.
#[test]
fn the_launcher_is_not_written_by_what_it_starts() {
    let place = place!();
    let own = place.here().join("launcher");
    std::fs::copy(&place.launcher, &own).unwrap();
    let before = std::fs::read(&own).unwrap();
    for (name, text) in [
        ("bin/again", "#!/proc/self/exe\n"),
        (
            "bin/write",
            "#!/bin/sh\nfor p in /proc/[0-9]*; do echo x >$p/exe; done 2>/dev/null; echo wrote\n",
        ),
    ] {
        let path = place.here().join("img").join(name);
        std::fs::write(&path, text).unwrap();
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let said = place.run("C=${C#* }; ./launcher $C run ./img again; ./launcher $C run ./img write");
    assert!(said.out.contains("wrote"), "{said:#?}");
    assert!(std::fs::read(&own).unwrap() == before, "{said:#?}");
}

/// CVE-2025-31133, CVE-2025-52565: what is masked or bound is a link to something of the host.
#[test]
fn devices_that_an_image_has_replaced_by_links_aim_at_nothing_of_the_host() {
    let place = place!();
    let victim = place.here().join("victim");
    std::fs::write(&victim, "whole").unwrap();
    let image = place.here().join("img");
    for name in [
        "dev/null",
        "dev/console",
        "dev/pts",
        "dev/shm",
        "etc/hosts",
        "etc/resolv.conf",
    ] {
        let path = image.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(&victim, path).unwrap();
    }
    for options in ["", "--root", "--writable"] {
        let said = place.run(&format!(
            "$C run {options} ./img sh -c 'echo x >/dev/null && stat -c %t:%T /dev/null'"
        ));
        assert!(
            said.code == 125 || said.ok() == "1:3",
            "{options}: {said:#?}"
        );
    }
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "whole");
}

/// CVE-2026-48785: a directory that is allowed, and one whose name begins alike.
#[test]
fn a_directory_whose_name_begins_as_the_sites_is_not_the_sites() {
    let place = place!();
    let here = place.here().display();
    let text = format!("image_dirs = [\"{here}/site\"]\nonly_image_dirs = true\n");
    std::fs::write(place.here().join("site.toml"), text).unwrap();
    let said = place.run(
        "mkdir site; cp -a img site/img; cp -a site site2; ln -s ../site2/img site/link; C=\"${C% --config*} --config $PWD/site.toml\"; \
         $C run ./site/img echo ours; for i in ./site2/img ./site/../site2/img ./site/link; do $C run $i echo escaped; done",
    );
    assert_eq!(said.out, "ours\n", "{said:#?}");
}

/// CVE-2024-0134: links that a device wants lead out of the root.
#[test]
fn links_that_a_device_wants_are_made_in_the_container_alone() {
    let place = place!();
    let thing = r#"
cdiVersion: "0.6.0"
kind: example.com/thing
devices:
- name: one
  containerEdits:
    hooks:
    - hookName: createContainer
      path: /usr/bin/nvidia-cdi-hook
      args: [nvidia-cdi-hook, create-symlinks, --link, "x::../../../../../../../..HERE/escaped", --link, "x::HERE/up/escaped"]
"#;
    specify(&place, &[("weak/thing.yaml", thing)], "");
    symlink("/../../../../..", place.here().join("img/up")).unwrap();
    let said = place.run(
        "${C% --config*} --config $PWD/site.toml run --device example.com/thing=one ./img true",
    );
    assert!(matches!(said.code, 0 | 125), "{said:#?}");
    assert!(place.here().join("escaped").symlink_metadata().is_err());
}

/// Names of tests that documents promise rot when tests are renamed.
#[test]
fn every_test_and_file_that_the_documents_name_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (document, fewest) in [("SECURITY.md", 30), ("docs/advisories.md", 20)] {
        let text = std::fs::read_to_string(root.join(document)).unwrap();
        let mut named = 0;
        for word in text.split('`').skip(1).step_by(2) {
            // By its name alone nobody finds a test, nor does this one.
            let is_name = word
                .bytes()
                .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'));
            assert!(
                !is_name || word.matches('_').count() < 4,
                "{document}: in which file is {word}?"
            );
            let Some((file, test)) = word
                .split_once(".rs")
                .filter(|(file, _)| file.contains('/'))
            else {
                continue;
            };
            let source = std::fs::read_to_string(root.join(format!("{file}.rs")));
            let source = source.unwrap_or_else(|_| panic!("{document}: there is no {file}.rs"));
            if let Some(name) = test.strip_prefix("::") {
                let place = source.find(&format!("fn {name}("));
                let before = place
                    .and_then(|place| source.get(..place))
                    .unwrap_or_default();
                // Between the two are attributes alone, such as that it takes a cluster for itself. Parsers of foreign
                // bytes have a list of names, and a macro.
                let attributes = before.rsplit_once("#[test]").map_or("", |(_, rest)| rest);
                assert!(
                    before.contains("#[test]") && !attributes.contains('}'),
                    "{document}: {word} is no test"
                );
                named += 1;
            }
        }
        assert!(named >= fewest, "{document} names {named}");
    }
    // Each promise of what somebody could try has a test behind it.
    let text = std::fs::read_to_string(root.join("SECURITY.md")).unwrap();
    let (_, model) = text.split_once("## Who is attacking").unwrap();
    for promise in model.split("\n- ").skip(1) {
        let promise = promise.split("\n\n").next().unwrap_or_default();
        assert!(promise.contains(".rs::"), "no test: {promise}");
    }
}
