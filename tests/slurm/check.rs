//! `chariot check` says what srun does: each way in which an administrator can get it wrong, tried with both.

use std::fs;

use crate::{Site, site, support, with_text};

/// A state of a site: what plugstack.conf and the file that it includes say, what `chariot check` says of it, and whether
/// srun works without a container all the same. `None` is a file that is not there.
struct State {
    plugstack: Option<&'static str>,
    line: &'static str,
    said: &'static str,
    is_harmless: bool,
}

const INCLUDE: Option<&str> = Some("include plugstack.conf.d/*.conf\n");

/// SO is the plugin, LAUNCHER and CONFIG are the arguments that are right, and HERE is a directory of the test's own.
const STATES: [State; 13] = [
    State {
        plugstack: INCLUDE,
        line: "required SO LAUNCHER CONFIG",
        said: "",
        is_harmless: true,
    },
    State {
        plugstack: INCLUDE,
        line: "optional SO LAUNCHER CONFIG strict",
        said: "",
        is_harmless: true,
    },
    State {
        plugstack: None,
        line: "required SO LAUNCHER CONFIG",
        said: "there is no ",
        is_harmless: true,
    },
    State {
        plugstack: Some("# nothing\n"),
        line: "required SO LAUNCHER CONFIG",
        said: "does not include it",
        is_harmless: true,
    },
    State {
        plugstack: Some("include *.conf.d\n"),
        line: "required SO LAUNCHER CONFIG",
        said: "does not include it",
        is_harmless: true,
    },
    State {
        plugstack: INCLUDE,
        line: "# required SO",
        said: "Slurm loads none",
        is_harmless: true,
    },
    State {
        plugstack: INCLUDE,
        line: "requird SO LAUNCHER CONFIG",
        said: "Slurm ignores the line",
        is_harmless: true,
    },
    State {
        plugstack: INCLUDE,
        line: "required chariot.so LAUNCHER CONFIG",
        said: "it is not in PluginDir",
        is_harmless: false,
    },
    State {
        plugstack: INCLUDE,
        line: "required HERE/gone/chariot.so LAUNCHER CONFIG",
        said: "there is no ",
        is_harmless: false,
    },
    State {
        plugstack: INCLUDE,
        line: "required HERE/chariot.so LAUNCHER CONFIG",
        said: "is no shared library",
        is_harmless: false,
    },
    State {
        plugstack: INCLUDE,
        line: "required SO lancher=/x CONFIG",
        said: "the argument \"lancher=/x\"",
        is_harmless: false,
    },
    State {
        plugstack: INCLUDE,
        line: "required SO launcher=/nosuch CONFIG",
        said: "install `chariot` there",
        is_harmless: true,
    },
    State {
        plugstack: INCLUDE,
        line: "required SO LAUNCHER config=/nosuch",
        said: "there is none",
        is_harmless: true,
    },
];

fn launcher() -> String {
    std::env::var("CHARIOT").unwrap()
}

/// Runs `work` with the site in that state.
fn in_state(site: &Site, state: &State, work: impl FnOnce()) {
    let plugstack = site.cluster.join("plugstack.conf");
    let line = site.cluster.join("plugstack.conf.d/chariot.conf");
    fs::write(site.here().join("chariot.so"), "a text").unwrap();
    let text = state
        .line
        .replace("SO", &std::env::var("CHARIOT_SO").unwrap())
        .replace("LAUNCHER", &format!("launcher={}", launcher()))
        .replace("CONFIG", &format!("config={}", site.file().display()))
        .replace("HERE", &site.here().display().to_string());
    with_text(
        plugstack.clone(),
        state.plugstack.unwrap_or_default(),
        || {
            if state.plugstack.is_none() {
                fs::remove_file(&plugstack).unwrap();
            }
            with_text(line, &(text + "\n"), work);
        },
    );
}

#[test]
#[ignore = "alone: changes plugstack.conf"]
fn what_check_says_is_what_srun_does() {
    let site = site!();
    for state in &STATES {
        in_state(&site, state, || {
            let check = site.run(&format!("{} check --node", launcher()));
            let contained = site.run("srun --ch-image=$I sh -c 'echo $CH_RUNNING'");
            let plain = site.run("srun echo plain");
            let told = format!(
                "{:?} {}\n{check:#?}\n{contained:#?}\n{plain:#?}",
                state.plugstack, state.line
            );
            let works = contained.code == 0 && contained.out.trim() == site.image;
            assert_eq!(works, state.said.is_empty(), "{told}");
            assert_eq!(check.code, i32::from(!works), "{told}");
            assert_eq!(plain.code == 0, state.is_harmless, "{told}");
            assert!(check.out.contains(state.said), "{told}");
            // One cause, one remedy.
            assert_eq!(
                check.out.matches("MISSING").count(),
                usize::from(!works),
                "{told}"
            );
        });
    }
    site.nodes_are_fine();
}

#[test]
#[ignore = "alone: changes the site's file"]
fn a_site_file_that_keeps_containers_from_running_is_told_and_one_that_turns_them_off_costs_no_node()
 {
    let site = site!();
    let check = |role: &str| site.run(&format!("{} check {role}", launcher()));
    for (text, said) in [
        ("enabeld = true\n", "unknown key \"enabeld\""),
        ("enabled = no\n", "enabled = no is no value"),
    ] {
        site.with_file(text, || {
            assert_ne!(site.run("srun --ch-image=$I true").code, 0);
            let said_by_check = check("--node");
            assert!(
                said_by_check.code == 1 && said_by_check.out.contains(said),
                "{said_by_check:#?}"
            );
        });
    }
    site.with_file("enabled = false\n", || {
        assert_ne!(site.run("srun --ch-image=$I true").code, 0);
        assert_eq!(
            (check("").code, check("--node").code, check("--login").code),
            (1, 0, 0)
        );
    });
    site.with_file("image_dirs = [\"/nosuch\"]\n", || {
        assert_eq!(site.run("srun --ch-image=$I echo ran").ok(), "ran");
        let said = check("--node");
        assert!(said.ok().contains("without image directories"), "{said:#?}");
    });
    // root alone believes what is root's alone.
    site.with_file("", || {
        std::os::unix::fs::chown(site.file(), Some(4711), None).unwrap();
        assert_ne!(site.run("srun --ch-image=$I true").code, 0);
        let said = check("--node");
        assert!(
            said.code == 1 && said.out.contains("belongs to user 4711"),
            "{said:#?}"
        );
    });
}

#[test]
fn a_health_check_as_root_says_what_is_so_for_users() {
    let site = site!();
    let conf = site.cluster.join("slurm.conf");
    let variables = [("SLURM_CONF", conf.to_str().unwrap())];
    let said = support::shell_as(
        None,
        &format!("{} check --node --json", launcher()),
        site.here(),
        &variables,
    );
    let report: serde_json::Value = serde_json::from_str(said.ok()).unwrap();
    assert_eq!(
        (&report["ok"], &report["role"]),
        (&true.into(), &"node".into())
    );
    assert!(said.out.contains("by the user nobody"), "{said:#?}");
}

#[test]
fn where_slurmctld_does_not_answer_what_was_looked_at_is_told() {
    let site = site!();
    let text = fs::read_to_string(site.cluster.join("slurm.conf")).unwrap();
    // A port at which nobody listens.
    let deaf = text
        .lines()
        .map(|line| match line.starts_with("SlurmctldPort=") {
            true => "SlurmctldPort=9\nSlurmctldTimeout=10\nMessageTimeout=2",
            false => line,
        });
    let conf = site.here().join("slurm.conf");
    fs::write(&conf, deaf.collect::<Vec<_>>().join("\n") + "\n").unwrap();
    let said = site.run(&format!(
        "SLURM_CONF={} {} check --node",
        conf.display(),
        launcher()
    ));
    let looked = format!(
        "does not answer: looked at {}/plugstack.conf",
        site.cluster.display()
    );
    assert!(said.ok().contains(&looked), "{said:#?}");
}

#[test]
#[ignore = "alone: takes the plugin away"]
fn one_table_says_of_all_nodes_which_lack_the_plugin_or_differ() {
    let site = site!();
    let check = format!("{} check --cluster", launcher());
    for command in [format!("salloc -N4 {check}"), format!("{check} -- -N4")] {
        let said = site.run(&command);
        assert!(said.ok().contains("\nn[1-4]  "), "{said:#?}");
        assert!(!said.out.contains("MISSING"), "{said:#?}");
    }
    let said = site.run(&format!("{check} --json -- -N2"));
    let report: serde_json::Value = serde_json::from_str(said.ok()).unwrap();
    assert_eq!(report["nodes"].as_array().unwrap().len(), 2);

    // What a node's plugin has answered is taken away again.
    site.script(
        "prolog",
        "#!/bin/sh\n[ $SLURMD_NODENAME != n2 ] || echo 'export CHARIOT_CHECK=nobody'\n",
    );
    let said = site.run(&format!("{check} -- -N4 --task-prolog=$PWD/prolog"));
    let has = |part: &str| assert!(said.out.contains(part), "{part}: {said:#?}");
    assert_eq!(said.code, 1, "{said:#?}");
    has("\nn[1,3-4]  ");
    has("\nn2");
    has("n2: Slurm has loaded no plugin for this step");
    has("the nodes differ");

    let state = State {
        plugstack: INCLUDE,
        line: "# none",
        said: "",
        is_harmless: true,
    };
    in_state(&site, &state, || {
        let said = site.run(&format!("{check} -- -N4"));
        assert_eq!(said.code, 1, "{said:#?}");
        assert!(
            said.out
                .contains("n[1-4]: Slurm has loaded no plugin for this step"),
            "{said:#?}"
        );
    });
    let said = site.run(&check);
    said.failed(125, "can't ask the nodes: this is no job", 1);
    site.nodes_are_fine();
}
