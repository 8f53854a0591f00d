//! Devices by CDI, with specifications made for the tests over real device nodes.

use std::path::Path;

use crate::support::Said;
use crate::{Place, place};

/// Writes specifications and a site's file that names their directories, weak before strong.
pub(crate) fn specify(place: &Place, files: &[(&str, &str)], site: &str) {
    for (name, text) in files {
        let path = place.here().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let here = place.here().display().to_string();
        std::fs::write(path, text.replace("HERE", &here)).unwrap();
    }
    let here = place.here().display();
    let text = format!("cdi_dirs = [\"{here}/weak\", \"{here}/strong\"]\n{site}");
    std::fs::write(place.here().join("site.toml"), text).unwrap();
}

/// Runs `chariot run` with that site's file.
fn run(place: &Place, options: &str, command: &str) -> Said {
    run_image(place, options, "./img", command)
}

pub(crate) fn run_image(place: &Place, options: &str, image: &str, command: &str) -> Said {
    place.run(&format!(
        "${{C% --config*}} --config $PWD/site.toml run {options} {image} {command}"
    ))
}

const THINGS: &str = r#"
cdiVersion: "0.6.0"
kind: example.com/thing
containerEdits:
  env: [SHARED=1]
devices:
- name: one
  containerEdits:
    env: [ONE=1, SLURM_PROCID=9]
    deviceNodes:
    - path: /dev/null
    - {path: /dev/chariot-thing, hostPath: /dev/zero, permissions: r, uid: 7}
    - {path: /opt/things/random, hostPath: /dev/urandom}
    mounts:
    - {hostPath: HERE/data, containerPath: /opt/data, options: [ro, nosuid, nodev, rbind]}
- name: "2"
  containerEdits:
    env: [TWO=1]
"#;

#[test]
fn a_device_brings_its_variables_nodes_and_mounts() {
    let place = place!();
    specify(
        &place,
        &[("weak/things.yaml", THINGS), ("data/file", "data\n")],
        "",
    );
    let show = "sh -c 'echo $SHARED $ONE $TWO ${SLURM_PROCID-none}; cat /opt/data/file; touch /opt/data/x; \
                stat -c %t:%T /dev/chariot-thing /opt/things/random; head -c 2 /dev/chariot-thing | od -An -tx1; \
                readlink /dev/fd; ls -d /dev/pts /dev/null'";
    let said = run(&place, "--device example.com/thing=one", show);
    let lines: Vec<_> = said.ok().lines().map(str::trim).collect();
    assert_eq!(
        lines,
        [
            "1 1 none",
            "data",
            "1:5",
            "1:9",
            "00 00",
            "/proc/self/fd",
            "/dev/null",
            "/dev/pts"
        ],
        "{said:#?}"
    );
    assert!(said.err.contains("Read-only file system"), "{said:#?}");
    let said = place.run("${C% --config*} --config $PWD/site.toml check");
    assert!(
        said.out.contains("example.com/thing: 2, one\n"),
        "{said:#?}"
    );
    for all in ["example.com/thing", "example.com/thing=all"] {
        let said = run(
            &place,
            &format!("--device {all}"),
            "sh -c 'echo $SHARED $ONE $TWO'",
        );
        assert_eq!(said.ok(), "1 1 1");
    }
    let said = run(
        &place,
        "--device example.com/thing --device none",
        "sh -c 'echo ${ONE-none}'",
    );
    assert_eq!(said.ok(), "none");
    let said = run(
        &place,
        "--device /dev/null:/opt/null",
        "stat -c %t:%T /opt/null",
    );
    assert_eq!(said.ok(), "1:3");
}

#[test]
fn an_environment_file_names_devices_too() {
    let place = place!();
    specify(
        &place,
        &[
            ("weak/things.yaml", THINGS),
            ("data/file", ""),
            (
                "e.toml",
                "image = './img'\nwritable = false\ndevices = ['example.com/thing=2']\n",
            ),
        ],
        "",
    );
    let said = place
        .run("${C% --config*} --config $PWD/site.toml run --edf ./e.toml -- sh -c 'echo $TWO'");
    assert_eq!(said.ok(), "1");
}

#[test]
fn the_later_directory_wins_and_two_files_of_one_are_a_conflict() {
    let place = place!();
    let spec = |value: &str| {
        format!(
            r#"{{"cdiVersion": "0.5.0", "kind": "example.com/thing", "devices": [{{"name": "a", "containerEdits": {{"env": ["A={value}"]}}}}]}}"#
        )
    };
    specify(
        &place,
        &[
            ("weak/a.json", &spec("weak")),
            ("strong/b.json", &spec("strong")),
        ],
        "",
    );
    let options = "--device example.com/thing=a";
    assert_eq!(run(&place, options, "sh -c 'echo $A'").ok(), "strong");
    specify(&place, &[("strong/c.json", &spec("other"))], "");
    let said = run(&place, options, "true");
    said.failed(125, "both describe it, so neither counts", 1);
    assert!(said.err.contains("strong/b.json and "), "{said:#?}");
}

#[test]
fn what_is_missing_is_named_with_what_there_is() {
    let place = place!();
    let broken = "cdiVersion: 0.5.0\nkind: broken.com/x\ndevcies: []\n";
    let nothing = THINGS.replace("HERE/data", "/nonexistent/lib.so");
    specify(
        &place,
        &[("weak/things.yaml", &nothing), ("strong/b.yaml", broken)],
        "",
    );
    run(&place, "--device example.com/thing=5", "true").failed(
        125,
        "this machine has no such device",
        1,
    );
    run(&place, "--device example.com/thing=one", "true").failed(
        125,
        "it needs /nonexistent/lib.so: stat(\"/nonexistent/lib.so\"): No such file or directory",
        1,
    );
    let said = run(&place, "--device broken.com/x=1", "true");
    assert!(
        said.err.contains("strong/b.yaml") && said.err.contains("devcies"),
        "{said:#?}"
    );
    run(&place, "--device gpu", "true").failed(125, "\"gpu\" is not VENDOR/CLASS", 1);
    let said = place.run("$C run --device nvidia.com/gpu=all ./img true");
    said.failed(125, "describes devices of that kind", 1);
}

#[test]
fn what_takes_privilege_is_said_once_and_the_rest_is_had() {
    let place = place!();
    let spec = "cdiVersion: 1.1.0\nkind: example.com/nic\ncontainerEdits:\n  additionalGids: [4242]\n  \
                intelRdt: {closID: x}\ndevices:\n- name: a\n  containerEdits:\n    additionalGids: [4242]\n    \
                netDevices: [{hostInterfaceName: eth9}]\n    env: [A=1]\n";
    specify(&place, &[("weak/nic.yaml", spec)], "");
    let said = run(&place, "--device example.com/nic=a", "sh -c 'echo $A'");
    assert_eq!(said.ok(), "1");
    for (sentence, times) in [("4242", 1), ("eth9", 1), ("intelRdt", 1)] {
        assert_eq!(said.err.matches(sentence).count(), times, "{said:#?}");
    }
}

const HOOKED: &str = "cdiVersion: 0.5.0\nkind: example.com/thing\ndevices:\n- name: a\n  containerEdits:\n    hooks:\n    \
                      - {hookName: createContainer, path: HERE/hook, args: [hook, word], env: [H=1], timeout: 2}\n";

#[test]
fn a_hook_runs_only_if_the_site_allows_it_and_as_a_user_without_anything() {
    let place = place!();
    specify(&place, &[("weak/a.yaml", HOOKED)], "");
    let options =
        "--set-env LD_PRELOAD=/evil.so --set-env SECRET=1 --root --device example.com/thing=a";
    run(&place, options, "true").failed(125, "hook, which this site does not let run", 1);
    let allowed = format!("cdi_hooks = [\"{}/hook\"]\n", place.here().display());
    let hook = "#!/bin/bash\nexec >HERE/out/said 2>&1\necho \"$0 $* $H\"; env | grep -v -E '^(_|PWD|SHLVL|OLDPWD|H)='\n\
                cat; echo; grep -o '\"readonly\":true' /proc/self/fd/4/config.json\nls /proc/self/fd/3/bin/busybox >/dev/null && echo root\n\
                pwd; grep -E 'CapEff|NoNewPrivs' /proc/self/status\n";
    specify(&place, &[("hook", hook), ("out/x", "")], &allowed);
    place.run("true").ok();
    open(&place.here().join("hook"), 0o755);
    open(&place.here().join("out"), 0o777);
    let said = run(&place, options, "true");
    let told = std::fs::read_to_string(place.here().join("out/said"));
    assert_eq!(said.code, 0, "{said:#?} {told:?}");
    let told = told.unwrap();
    let lines: Vec<_> = told.lines().collect();
    assert!(lines[0].ends_with("hook word 1"), "{told}");
    assert!(
        lines[1].starts_with('{') && lines[1].contains("\"status\":\"created\""),
        "{told}"
    );
    assert_eq!(
        lines[2..],
        [
            "\"readonly\":true",
            "root",
            "/",
            "CapEff:\t0000000000000000",
            "NoNewPrivs:\t1"
        ]
    );
    for (text, sentence) in [
        (
            "#!/bin/sh\necho no luck; exit 3\n",
            "it ended with status 3: no luck",
        ),
        (
            "#!/bin/sh\nexec sleep 60\n",
            "it took longer than 2 seconds",
        ),
        (
            "#!/bin/sh\nexec >&- 2>&-; sleep 60\n",
            "it took longer than 2 seconds",
        ),
    ] {
        specify(&place, &[("hook", text)], &allowed);
        open(&place.here().join("hook"), 0o755);
        run(&place, options, "true").failed(125, sentence, 1);
    }
}

fn open(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}
