use super::*;

fn settings() -> Settings {
    Settings {
        most: Some(65_536),
        clone: None,
        apparmor: None,
        profile: "/nosuch".into(),
        is_built_in: true,
        is_filtered: false,
        has_selinux: false,
    }
}

fn of(settings: &Settings, outcome: Outcome) -> Finding {
    of_outcome(outcome, settings, Path::new("/usr/bin/chariot"))
}

#[test]
fn a_setting_that_forbids_nothing_here_is_no_failure() {
    let forbids = Settings {
        most: Some(0),
        clone: Some(0),
        apparmor: Some(1),
        is_filtered: true,
        has_selinux: true,
        ..settings()
    };
    assert!(of(&forbids, Outcome::Worked).ok);
}

#[test]
fn each_cause_of_a_failure_has_its_own_remedy() {
    let none = settings();
    let cases = [
        (
            Errno::ENOSPC,
            Settings {
                most: Some(0),
                ..none.clone()
            },
            "user.max_user_namespaces=65536",
        ),
        (Errno::ENOSPC, none.clone(), "larger number"),
        (
            Errno::EPERM,
            Settings {
                clone: Some(0),
                ..none.clone()
            },
            "unprivileged_userns_clone=1",
        ),
        (
            Errno::EACCES,
            Settings {
                apparmor: Some(1),
                ..none.clone()
            },
            "apparmor_parser --replace",
        ),
        (
            Errno::EPERM,
            Settings {
                is_filtered: true,
                ..none.clone()
            },
            "filter",
        ),
        (
            Errno::EACCES,
            Settings {
                has_selinux: true,
                ..none.clone()
            },
            "ausearch",
        ),
        (
            Errno::EINVAL,
            Settings {
                is_built_in: false,
                ..none.clone()
            },
            "CONFIG_USER_NS",
        ),
        // What is fine does not explain anything.
        (
            Errno::EPERM,
            Settings {
                clone: Some(1),
                apparmor: Some(0),
                ..none.clone()
            },
            "chroot",
        ),
        (Errno::EPERM, none, "chroot"),
    ];
    let remedies = cases.map(|(errno, settings, part)| {
        let finding = of(&settings, Outcome::NoContainer(errno));
        let advice = finding.advice.clone().unwrap_or_default();
        assert!(finding.is_fatal() && advice.contains(part), "{finding:?}");
        assert!(!advice.contains("modprobe"), "{finding:?}");
        advice
    });
    let mut different = remedies.to_vec();
    different.sort();
    different.dedup();
    assert_eq!(different.len(), remedies.len() - 1);
}

#[test]
fn a_profile_for_this_path_is_to_be_loaded_and_one_for_another_to_be_changed() {
    let place = tempfile::tempdir().unwrap();
    let settings = Settings {
        apparmor: Some(1),
        profile: place.path().join("chariot"),
        ..settings()
    };
    let remedy = |launcher: &str| settings.explain(Errno::EPERM, Path::new(launcher)).1;
    assert!(remedy("/usr/bin/chariot").starts_with("write etc/apparmor.d/chariot"));
    std::fs::write(
        &settings.profile,
        include_str!("../../../../etc/apparmor.d/chariot"),
    )
    .unwrap();
    assert!(remedy("/usr/bin/chariot").starts_with("apparmor_parser --replace"));
    assert!(remedy("/opt/chariot").contains("is for another path: write /opt/chariot"));
}
