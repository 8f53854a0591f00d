//! Slurm's commands in a container, with programs of the test in Slurm's place.

use std::path::Path;

use crate::support;
use crate::{Place, place, skip};

/// Runs a script in a container of a job, with a program `srun` on the host that the container does not show.
fn run(place: &Place, srun: &str, script: &str) -> support::Said {
    run_as(place, srun, "$C run ../img sh ./script", script)
}

fn run_as(place: &Place, srun: &str, command: &str, script: &str) -> support::Said {
    let outside = place.here().join("outside");
    let inside = place.here().join("inside");
    for (directory, name, text) in [(&outside, "srun", srun), (&inside, "script", script)] {
        std::fs::create_dir_all(directory).unwrap();
        write(&directory.join(name), text);
    }
    mode(&inside, 0o777);
    let path = format!("{}:/usr/bin:/bin", outside.display());
    let command = format!("cd inside; PATH={path}; {command}");
    place.run_with(&command, &[("SLURM_JOB_ID", "1")])
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    mode(path, 0o755);
}

fn mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// The launcher of the tests, if it is one that runs in any image.
macro_rules! needs_static {
    () => {
        if std::env::var_os("CHARIOT_STATIC").is_none() {
            skip!("CHARIOT_STATIC names no static launcher: tests/run builds one");
        }
    };
}

#[test]
fn a_command_runs_outside_as_its_caller_would_have_run_it() {
    needs_static!();
    let place = place!();
    let srun = "#!/bin/sh\nfor word; do echo \"<$word>\"; done\npwd\numask\nulimit -n\ncat <&5\n\
                echo error >&2\necho ${CH_RUNNING-host} $A $PATH\nexit 7\n";
    let said = run(
        &place,
        srun,
        "umask 027; ulimit -n 99; echo five >5; A=1 srun 'a  b' '' -c 5<5; echo $?",
    );
    let here = place.here().canonicalize().unwrap();
    let here = here.display();
    assert_eq!(
        said.ok(),
        format!(
            "<a  b>\n<>\n<-c>\n{here}/inside\n0027\n99\nfive\nhost 1 {here}/outside:/usr/bin:/bin\n7"
        )
    );
    assert_eq!(said.err, "error\n");
}

#[test]
fn no_variable_set_inside_chooses_the_code_that_runs_outside() {
    needs_static!();
    let place = place!();
    let srun = "#!/bin/bash\necho ${LD_AUDIT-none} ${SLURM_CONF-none} ${LOCPATH-none} ${RES_OPTIONS-none} ${A-none}\n\
                echo \"$CH_SET_ENV\"\n";
    let said = run(
        &place,
        srun,
        "echo 'echo read' >rc; export LD_AUDIT=/x.so SLURM_CONF=/x LOCPATH=/x BASH_ENV=$PWD/rc RES_OPTIONS=debug A=1; srun",
    );
    let (steered, kept) = said.ok().split_once('\n').unwrap();
    assert_eq!(steered, "none none none none 1", "{said:#?}");
    assert!(
        kept.contains("LOCPATH=/x") && !kept.contains("SLURM_CONF"),
        "{said:#?}"
    );
    assert_eq!(said.err, "");
    // Nor does a function that takes the place of what a script of the host calls.
    let script = "env 'BASH_FUNC_echo%%=() { printf taken; }' srun";
    let said = run(&place, "#!/bin/bash\necho own\n", script);
    assert_eq!(said.ok(), "own");
}

#[test]
fn from_a_directory_of_the_image_steps_go_to_that_directory_again() {
    needs_static!();
    let place = place!();
    let srun = "#!/bin/sh\npwd; echo $PWD $CH_WORKDIR\n";
    let said = run(&place, srun, "cd /bin; srun");
    let here = place.here().canonicalize().unwrap();
    let here = here.display();
    assert_eq!(said.ok(), format!("{here}/inside\n{here}/inside /bin"));
}

#[test]
fn binds_do_not_hide_the_commands() {
    needs_static!();
    let place = place!();
    for directory in ["srv", "media", "run"] {
        std::fs::create_dir(place.here().join("img").join(directory)).unwrap();
    }
    let mut seen = std::collections::BTreeSet::new();
    for binds in [
        "",
        "--bind /usr:/srv",
        "--bind /usr:/srv --bind /usr:/media",
        "--bind /usr:/etc",
    ] {
        let command = format!("$C run {binds} ../img /bin/sh ./script");
        let said = run_as(
            &place,
            "#!/bin/sh\necho host\n",
            &command,
            "srun; readlink -f $(command -v srun)",
        );
        let (host, path) = said.ok().split_once('\n').unwrap();
        assert_eq!(host, "host", "{said:#?}");
        seen.insert(path.to_owned());
    }
    assert!(seen.len() >= 2, "{seen:?}");
    // Nor does the directory that the user is in, be it "/".
    let said = run_as(
        &place,
        "#!/bin/sh\npwd\n",
        "here=$PWD; cd /; $C run $here/../img /bin/sh -c 'readlink -f $(command -v srun); srun'",
        "",
    );
    assert!(
        said.ok().ends_with("chariot-commands/chariot\n/"),
        "{said:#?}"
    );
    assert!(!said.out.starts_with("/chariot-commands"), "{said:#?}");
}

#[test]
fn a_command_of_the_image_comes_before_the_hosts() {
    needs_static!();
    let place = place!();
    let own = place.here().join("img/bin/srun");
    write(&own, "#!/bin/sh\necho own\n");
    assert_eq!(run(&place, "#!/bin/sh\necho host\n", "srun").ok(), "own");
}

/// What a shell and a program look through that were given no PATH, or made their own.
#[test]
fn whoever_makes_a_path_of_their_own_finds_the_commands() {
    needs_static!();
    // An image that has nothing, an empty /usr, what others have, and links in the place of directories.
    for layout in [
        "",
        "mkdir -p $I/usr",
        "mkdir -p $I/usr/bin; touch $I/usr/bin/own",
        "mkdir -p $I/usr/local/bin; touch $I/usr/local/bin/own",
        "mv $I/bin $I/usr-bin; mkdir $I/usr; mv $I/usr-bin $I/usr/bin; ln -s usr/bin $I/bin",
        "mkdir -p $I/usr $I/opt; ln -s /opt/local $I/usr/local; mkdir $I/usr/bin",
        "mkdir -p $I/usr $I/opt/x; ln -s ../opt/x $I/usr/bin",
    ] {
        let place = place!();
        support::shell_as(None, &format!("I=img; {layout}"), place.here(), &[]).ok();
        let profile =
            "PATH=/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games\nexport PATH\n";
        std::fs::write(place.here().join("img/etc/profile"), profile).unwrap();
        for options in ["", "--writable"] {
            let said = run_as(
                &place,
                "#!/bin/sh\necho host $1\n",
                &format!("$C run {options} ../img sh ./script"),
                ". /etc/profile; srun profile; sh -l -c 'srun login'\n\
                 busybox env -i /bin/sh -c 'srun empty'\n\
                 ls /usr/bin/own /usr/local/bin/own 2>/dev/null || :",
            );
            let mut lines = said.ok().lines();
            let expected = ["host profile", "host login", "host empty"];
            assert!(
                expected.into_iter().all(|line| lines.next() == Some(line)),
                "{layout}: {said:#?}"
            );
            assert_eq!(
                lines.count(),
                usize::from(layout.contains("own")),
                "{said:#?}"
            );
        }
    }
}

#[test]
fn commands_of_the_image_win_wherever_its_programs_look_for_them() {
    needs_static!();
    for own in [
        "usr/local/bin/srun",
        "usr/bin/srun",
        "opt/slurm/bin/srun",
        "opt/x/srun",
    ] {
        let place = place!();
        for directory in ["ch", "usr/bin", "usr/local/bin", "opt/slurm/bin", "opt/x"] {
            std::fs::create_dir_all(place.here().join("img").join(directory)).unwrap();
        }
        write(&place.here().join("img").join(own), "#!/bin/sh\necho own\n");
        let path = "PATH=/usr/local/bin:/usr/bin:/bin:/opt/slurm/bin:/opt/x\n";
        std::fs::write(place.here().join("img/ch/environment"), path).unwrap();
        let script = "srun; squeue";
        let outside = "#!/bin/sh\necho host\n";
        std::fs::create_dir_all(place.here().join("outside")).unwrap();
        write(&place.here().join("outside/squeue"), outside);
        let said = run(&place, outside, script);
        assert_eq!(said.ok(), "own\nhost", "{own}");
    }
}

#[test]
fn a_command_is_found_on_the_host_by_whoever_has_no_path_there() {
    needs_static!();
    let place = place!();
    let said = run_as(
        &place,
        "",
        "C=\"$C\"; unset PATH; $C run ../img /bin/sh -c 'sinfo --version'",
        "",
    );
    // It finds no cluster, and it was found.
    if Path::new("/usr/bin/sinfo").exists() {
        assert!(!said.err.contains("can't run sinfo"), "{said:#?}");
    }
}

#[test]
fn signals_reach_the_command_and_its_end_is_the_callers() {
    needs_static!();
    let place = place!();
    let srun = "#!/bin/bash\ntrap 'touch usr1' USR1; trap 'touch winch' WINCH; touch up\n\
                until [ -e usr1 ] && [ -e winch ]; do sleep 0.05; done\nkill -KILL $$\n";
    let said = run(
        &place,
        srun,
        "srun & pid=$!; until [ -e up ]; do sleep 0.1; done; kill -USR1 $pid; kill -WINCH $pid\n\
         wait $pid; echo $?",
    );
    assert!(said.ok().ends_with("137"), "{said:#?}");
    // What its caller was told to be deaf to, the command is deaf to.
    let srun = "#!/bin/sh\ngrep SigIgn /proc/$$/status\n";
    let said = run(&place, srun, "trap '' HUP; srun");
    let mask = said.ok().rsplit('\t').next().unwrap();
    assert_eq!(u64::from_str_radix(mask, 16).unwrap() & 1, 1, "{said:#?}");
}

#[test]
fn a_killed_caller_takes_the_command_along() {
    needs_static!();
    let place = place!();
    let said = run(
        &place,
        "#!/bin/sh\necho $$ >number; exec sleep 600\n",
        "srun & pid=$!; until [ -s number ]; do sleep 0.1; done; kill -KILL $pid; wait $pid\n\
         while [ -e /proc/$(cat number) ]; do sleep 0.1; done; echo gone",
    );
    assert_eq!(said.ok(), "gone");
}

#[test]
fn control_z_stops_the_command_and_fg_lets_it_go_on() {
    needs_static!();
    let place = place!();
    let srun = "#!/bin/bash\necho $$ >number; for i in {1..100}; do sleep 0.1; [ -e go ] && echo went on && exit 3; done\n";
    let typed = "(sleep 1; echo srun; until [ -s number ]; do sleep 0.1; done; sleep 0.3; printf '\\032'; \
                 until grep -q 'T (stopped)' /proc/$(cat number)/status; do sleep 0.1; done; \
                 echo 'grep State /proc/$(cat number)/status; jobs; touch go; fg'; sleep 2; echo 'echo $? $((40+2)); exit') | \
                 script -qec \"$C run ../img sh -i\" /dev/null";
    let said = run_as(&place, srun, typed, "");
    for expected in ["T (stopped)", "Stopped", "went on", "3 42"] {
        assert!(said.out.contains(expected), "{expected}: {said:#?}");
    }
}

#[test]
fn a_command_in_the_background_takes_nothing_that_is_typed_for_the_shell() {
    needs_static!();
    let place = place!();
    let srun = "#!/bin/sh\necho $$ >number\ncat >got\necho ended\n";
    // What is typed after `fg` is typed once the terminal is the command's, and after its end once it is the shell's.
    let typed = "front() { [ $(ps -o tpgid= -p $(cat shell)) $1 $(ps -o pgid= -p $(cat shell)) ]; }; \
                 (sleep 1; echo 'echo $$ >shell; srun &'; until [ -s number ]; do sleep 0.1; done; sleep 0.5; \
                 echo 'echo $((40+2))'; sleep 0.5; echo fg; until front !=; do sleep 0.1; done; echo 'typed later'; \
                 sleep 0.3; printf '\\004'; until front =; do sleep 0.1; done; echo 'cat got; exit') | script -qec \"$C run ../img sh -i\" /dev/null";
    let said = run_as(&place, srun, typed, "");
    assert!(said.out.contains("42\r"), "{said:#?}");
    assert!(said.out.contains("ended\r"), "{said:#?}");
    let got = std::fs::read_to_string(place.here().join("inside/got"));
    assert_eq!(got.unwrap(), "typed later\n", "{said:#?}");
}

#[test]
fn a_killed_agent_is_told_in_a_sentence() {
    needs_static!();
    let place = place!();
    let said = run(
        &place,
        "#!/bin/sh\nkill -KILL $PPID; sleep 1\n",
        "srun; echo $?; srun; echo $?",
    );
    assert_eq!(said.ok(), "125\n125");
    assert!(
        said.err
            .contains("can't run srun on the host any further: its agent is gone"),
        "{said:#?}"
    );
    assert!(
        said.err.contains("/agent\"): Connection refused"),
        "{said:#?}"
    );
    assert_eq!(
        said.err.matches("hint: the process of this step").count(),
        2,
        "{said:#?}"
    );
}

#[test]
fn what_is_called_needs_no_descriptors_of_who_made_the_container() {
    needs_static!();
    let place = place!();
    let said = run_as(
        &place,
        "#!/bin/sh\nsleep 0.2; ulimit -S -n\n",
        "ulimit -S -n 40; $C run ../img sh ./script",
        "srun; srun & srun & wait; ulimit -S -n 50; srun",
    );
    let limits: Vec<_> = said.ok().lines().collect();
    assert_eq!(limits, ["40", "40", "40", "50"], "{said:#?}");
}

#[test]
fn an_agent_without_a_descriptor_for_a_caller_rests_and_goes_on() {
    needs_static!();
    let place = place!();
    // The agent is the parent of what it starts. It needs no processor while it waits.
    let srun = "#!/bin/bash\n[ -z \"$1\" ] || exec echo $1\n\
                ticks() { set -- $(sed 's/.*)//' /proc/$PPID/stat); echo $((${12} + ${13})); }\n\
                before=$(ticks); prlimit --pid $PPID --nofile=4:; touch full; sleep 2; after=$(ticks)\n\
                prlimit --pid $PPID --nofile=200:; echo spent $((after - before))\n";
    let script = "srun & until [ -e full ]; do sleep 0.1; done; srun later; wait; srun last";
    let said = run(&place, srun, script);
    let mut lines: Vec<_> = said.ok().lines().collect();
    let spent = lines.iter().position(|line| line.starts_with("spent "));
    let spent = lines.remove(spent.unwrap());
    assert_eq!(lines, ["later", "last"], "{said:#?}");
    let ticks: u32 = spent["spent ".len()..].parse().unwrap();
    assert!(
        ticks < 20,
        "{ticks} of a second's hundred, for two seconds: {said:#?}"
    );
}

#[test]
fn more_callers_than_there_are_descriptors_for_come_one_after_the_other() {
    needs_static!();
    let place = place!();
    let said = run_as(
        &place,
        "#!/bin/sh\nsleep 0.2; echo ran\n",
        "ulimit -n 40; $C run ../img sh ./script",
        "n=0; while [ $n -lt 50 ]; do srun & n=$((n + 1)); done; wait",
    );
    assert_eq!(said.ok(), ["ran"; 50].join("\n"), "{said:#?}");
    assert_eq!(said.err, "");
    // A call that brings more of them than there is room for is refused in a sentence.
    let said = run(
        &place,
        "#!/bin/sh\nprlimit --pid $PPID --nofile=$1:\n",
        "exec 3<. 4<. 5<. 6<. 7<. 8<. 9<.; for n in 30 28 26 24 22 20 18 16 14; do srun $n || break; done; \
         exec 3<&- 4<&- 5<&- 6<&- 7<&- 8<&- 9<&-; srun 99 && echo went on",
    );
    assert_eq!(said.ok(), "went on", "{said:#?}");
    said.failed(0, "can't read what was called: recvmsg(SCM_RIGHTS): ", 1);
}

#[test]
fn nothing_else_can_be_called_and_what_the_host_lacks_is_named() {
    needs_static!();
    let place = place!();
    let script = "d=$(dirname $(readlink -f $(command -v srun))); ln -s $d/chariot id; ./id; echo $?; sstat; echo $?";
    let said = run_as(
        &place,
        "#!/bin/sh\n",
        "PATH=${PATH%%:*}:/bin; $C run --set-env PATH=/bin ../img /bin/busybox sh ./script",
        script,
    );
    assert!(
        said.err
            .contains("can't run id on the host: the site does not let it"),
        "{said:#?}"
    );
    assert!(said.out.starts_with("125\n"), "{said:#?}");
    let said = place.run_with(
        "echo 'host_commands = []' >f; site=$PWD/f; cd inside; PATH=/usr/bin:/bin; ${C% --config*} --config $site run ../img sh -c 'srun; echo $PATH'",
        &[("SLURM_JOB_ID", "1")],
    );
    assert_eq!(said.out, "/usr/bin:/bin\n", "{said:#?}");
    assert!(said.err.contains("srun: not found"), "{said:#?}");
    // A task of a step has no agent of its own.
    let said = place.run_with(
        "cd inside; PATH=/usr/bin:/bin; $C run ../img sh -c 'echo $PATH'",
        &[("SLURM_JOB_ID", "1"), ("SLURM_STEP_ID", "0")],
    );
    assert_eq!(said.ok(), "/usr/bin:/bin");
}

#[test]
fn the_agent_and_what_it_started_end_with_the_container() {
    needs_static!();
    let place = place!();
    let said = run(
        &place,
        "#!/bin/sh\necho $PPID $$ >numbers; exec sleep 600\n",
        "srun & until [ -s numbers ]; do sleep 0.1; done",
    );
    said.ok();
    let numbers = std::fs::read_to_string(place.here().join("inside/numbers")).unwrap();
    for number in numbers.split_whitespace() {
        support::until("the process is gone", || {
            // One that has ended and that nobody has waited for is gone too.
            std::fs::read_to_string(format!("/proc/{number}/status"))
                .map_or(true, |status| status.contains("State:\tZ"))
        });
    }
}

#[test]
fn nobody_looks_into_the_agent_from_outside_or_inside() {
    needs_static!();
    let place = place!();
    if place.run("id -u").ok() == "0" {
        skip!("root may look into everything");
    }
    // What the agent starts can be looked into as ever.
    let srun = "#!/bin/sh\nreadlink /proc/$PPID/exe; ls /proc/$PPID/fd/; readlink /proc/self/exe; tr '\\0' ' ' </proc/$PPID/cmdline\n";
    let inside = "srun 2>/dev/null; for p in /proc/[0-9]*; do read n <$p/comm; [ $n != chariot-agent ] || ls -d $p/root/etc $p/fd/0; done 2>/dev/null";
    let said = run_as(&place, srun, "$C run --root ../img sh ./script", inside);
    let lines: Vec<_> = said.out.lines().map(str::trim_end).collect();
    assert!(
        lines.len() == 2 && lines[0].starts_with("/usr/bin/"),
        "{said:#?}"
    );
    let is_titled = lines[1].starts_with("chariot-agent /") && lines[1].ends_with("/img");
    assert!(is_titled, "{said:#?}");
}
