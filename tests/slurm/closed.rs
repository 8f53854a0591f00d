//! Failing closed: no command that somebody wanted in a container runs on the host, whatever was forgotten, mistyped or
//! mixed up.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::{Site, site, with_text};

/// Runs a command that must be refused where it is typed, before anything runs or is queued.
#[track_caller]
fn refused(site: &Site, command: &str, sentence: &str) {
    let said = site.run(command);
    assert_ne!(said.code, 0, "{command}: {said:#?}");
    assert_eq!(
        said.err.matches(sentence).count(),
        1,
        "{command}: {said:#?}"
    );
    assert!(said.err.contains("hint: "), "{command}: {said:#?}");
    let is_silent = !said.out.contains("RAN") && !said.out.contains("Submitted");
    assert!(is_silent, "{command}: {said:#?}");
}

const DIFFERENT: &str = "components of one job or step can't have different containers";

#[test]
fn components_that_ask_for_different_containers_are_refused_where_they_are_typed() {
    let site = site!();
    let ran = "/bin/echo RAN";
    for (first, second) in [
        ("--ch-image=$I", "--ch-image=none"),
        ("--ch-image=none", "--ch-image=$I"),
        ("--ch-image=$I", ""),
        ("", "--ch-image=$I"),
        ("--ch-image=$I", "--ch-image=$I.sqfs"),
        ("--ch-image=$I --ch-bind=/usr:/mnt", "--ch-image=$I"),
        ("--ch-image=$I", "--ch-image=$I --ch-writable"),
    ] {
        refused(
            &site,
            &format!("srun -n1 {first} {ran} : -n1 {second} {ran}"),
            DIFFERENT,
        );
        refused(
            &site,
            &format!("salloc -n1 {first} : -n1 {second} {ran}"),
            DIFFERENT,
        );
        refused(
            &site,
            &format!("sbatch -n1 {first} : -n1 {second} --wrap={ran:?}"),
            DIFFERENT,
        );
        let lines = format!(
            "#!/bin/sh\n#SBATCH -n1 {first}\n#SBATCH hetjob\n#SBATCH -n1 {second}\n{ran}\n"
        );
        site.script("job", &lines.replace("$I", &site.image));
        refused(&site, "sbatch job", DIFFERENT);
        refused(&site, "sbatch <job", DIFFERENT);
    }
}

#[test]
fn components_that_ask_for_the_same_container_run_in_it() {
    let site = site!();
    let where_ = "sh -c 'echo $CH_RUNNING $A'";
    let own = "-n1 --ch-image=$I --ch-set-env=A=a";
    let both = format!("{0} a\n{0} a", site.image);
    assert_eq!(
        site.run(&format!("srun {own} {where_} : {own} {where_}"))
            .ok(),
        both
    );
    // What a variable or the job says holds for all of them.
    let said = site.run(&format!(
        "CH_IMAGE=$I CH_SET_ENV=A=a srun -n1 {where_} : -n1 {where_}"
    ));
    assert_eq!(said.ok(), both);
    let said = site.run(&format!(
        "salloc {own} : {own} srun --het-group=0,1 {where_}"
    ));
    assert_eq!(said.ok(), both);
    let step = "srun -n1 --het-group=0 $W : -n1 --het-group=1 $W";
    site.script("where", "#!/bin/sh\necho $CH_RUNNING $A\n");
    site.script(
        "job",
        &format!("#!/bin/sh\n#SBATCH {own} --ch-batch=host\n#SBATCH hetjob\n#SBATCH {own} --ch-batch=host\nW=$PWD/where\n{step}\n")
            .replace("$I", &site.image),
    );
    assert_eq!(site.run("sbatch -W -o out job >&2; cat out").ok(), both);
    // Different containers, a step for each.
    let each =
        "srun --het-group=0 --ch-image=none ./where; srun --het-group=1 --ch-image=$I ./where";
    let said = site.run(&format!("salloc -n1 : -n1 bash -c '{each}'"));
    assert_eq!(said.ok(), format!("\n{}", site.image));
}

#[test]
fn an_option_without_an_image_is_refused_where_it_is_typed() {
    let site = site!();
    site.script("job", "#!/bin/sh\necho RAN\n");
    std::fs::write(site.here().join("bare.toml"), "workdir = \"/\"\n").unwrap();
    for (options, name) in [
        ("--ch-bind=/tmp:/x", "--ch-bind"),
        ("--ch-writable", "--ch-writable"),
        ("--ch-verbose", "--ch-verbose"),
        ("--ch-batch=container", "--ch-batch"),
        ("--ch-edf=./bare.toml", "--ch-edf"),
        ("--ch-image=none --ch-home", "--ch-home"),
    ] {
        for command in ["srun", "sbatch", "salloc"] {
            let sentence = format!("{name} has nothing to apply to");
            refused(&site, &format!("{command} {options} ./job"), &sentence);
        }
    }
    // Nothing is asked for by these; and a variable may be somebody's habit for the steps that have an image.
    for harmless in [
        "srun --ch-image=none",
        "srun --ch-edf=none",
        "CH_BIND=/tmp:/x srun",
    ] {
        assert_eq!(site.run(&format!("{harmless} echo ran")).ok(), "ran");
    }
}

#[test]
#[ignore = "alone: changes the site's file"]
fn an_option_without_an_image_applies_to_the_sites_default() {
    let site = site!();
    site.with_file(&format!("[defaults]\nimage = \"{}\"\n", site.image), || {
        for command in ["srun", "salloc srun"] {
            let said = site.run(&format!("{command} --ch-bind=/usr:/mnt ls -d /mnt/bin"));
            assert_eq!(said.ok(), "/mnt/bin");
        }
        refused(
            &site,
            "srun --ch-image=none --ch-home echo RAN",
            "--ch-home has nothing to apply to",
        );
    });
}

/// What is said of a site's file that cannot be used.
const BROKEN: [&str; 4] = [
    "there is none",
    "unknown key \"enabeld\"",
    "longer than",
    "can be written by everybody",
];

/// Makes a file one of which that is said.
fn break_file(reason: &str, file: &Path) {
    match reason {
        "there is none" => std::fs::remove_file(file).unwrap(),
        "longer than" => std::fs::write(file, "#".repeat(1 << 20) + "\nenabled = false\n").unwrap(),
        "can be written by everybody" => {
            let all = std::fs::Permissions::from_mode(0o666);
            std::fs::set_permissions(file, all).unwrap();
        }
        _ => std::fs::write(file, "enabeld = true\n").unwrap(),
    }
}

/// Takes away what keeps slurmd's log from having a line for each step.
fn forget_stamp(site: &Site) {
    let name = site.file().display().to_string().replace('/', "-");
    let _ = std::fs::remove_file(format!("/run/chariot-broken{name}"));
}

/// Runs `work` with each of them in place of a site's file by which everybody is in a container.
fn with_broken_files(site: &Site, work: impl Fn(&str)) {
    let usable = format!(
        "only_image_dirs = false\n[defaults]\nimage = \"{}\"\n",
        site.image
    );
    for reason in BROKEN {
        site.with_file(&usable, || {
            break_file(reason, &site.file());
            work(reason);
        });
    }
    forget_stamp(site);
}

#[test]
#[ignore = "alone: changes the site's file"]
fn a_site_file_that_cannot_be_used_stops_who_asked_for_a_container_and_nobody_else() {
    let site = site!();
    with_broken_files(&site, |reason| {
        for options in ["--ch-image=$I", "--ch-bind=/usr:/mnt"] {
            let said = site.run(&format!("srun -N2 -n4 {options} echo RAN"));
            // The submitting machine does not know whether the site has a default, nor do the two nodes.
            let times = said.err.matches(reason).count();
            assert!(
                times == 2 || times == 1 && options.contains("bind"),
                "{said:#?}"
            );
            assert!(said.code != 0 && !said.out.contains("RAN"), "{said:#?}");
        }
        for options in ["", "--ch-image=none"] {
            assert_eq!(
                site.run(&format!("srun {options} echo undisturbed")).ok(),
                "undisturbed"
            );
        }
    });
    site.nodes_are_fine();
}

#[test]
#[ignore = "alone: changes the site's file and plugstack.conf"]
fn with_strict_no_step_runs_while_the_sites_file_cannot_be_used() {
    let site = site!();
    let plugstack = site.cluster.join("plugstack.conf.d/chariot.conf");
    let strict = std::fs::read_to_string(&plugstack)
        .unwrap()
        .trim_end()
        .to_owned()
        + " strict\n";
    site.script("job", "#!/bin/sh\necho RAN\n");
    with_text(plugstack, &strict, || {
        assert_eq!(site.run("srun echo fine").ok(), "fine");
        with_broken_files(&site, |reason| {
            for options in ["", "--ch-image=none", "--ch-image=$I"] {
                let said = site.run(&format!("srun -N2 -n4 {options} echo RAN"));
                said.failed(125, reason, 2);
                assert!(!said.out.contains("RAN"), "{said:#?}");
            }
            let said = site.run("sbatch -W -o out job >&2; code=$?; cat out; exit $code");
            assert!(said.code == 125 && said.out.contains(reason), "{said:#?}");
            assert!(!said.out.contains("RAN"), "{said:#?}");
        });
        assert_eq!(site.run("srun echo fine").ok(), "fine");
    });
    site.nodes_are_fine();
}

#[test]
#[ignore = "alone: changes the site's file"]
fn of_a_site_file_that_cannot_be_used_slurmds_log_has_one_line_an_hour() {
    let site = site!();
    if site.is_rootless() {
        // Where slurmd is not root's, each step has its line.
        return;
    }
    forget_stamp(&site);
    let lines = || {
        let log =
            |node| std::fs::read_to_string(site.cluster.join(format!("log/slurmd-n{node}.log")));
        let logs: String = (1..=4).map(|node| log(node).unwrap()).collect();
        logs.matches("until it is fixed, every step that asks for a container fails")
            .count()
    };
    let before = lines();
    site.with_file("enabeld = true\n", || {
        for _ in 0..3 {
            site.run("srun -N4 true").ok();
        }
        site.run("srun -N4 --ch-image=$I true");
    });
    assert_eq!(lines() - before, 1);
    forget_stamp(&site);
}

#[test]
fn a_word_of_the_programs_own_is_not_taken_for_multi_prog() {
    let site = site!();
    std::fs::write(site.here().join("programs"), "* nosuch\n").unwrap();
    for words in [
        "nosuch --multi",
        "nosuch x --multi-prog y",
        "nosuch -- --multi-prog",
    ] {
        let said = site.run(&format!("srun -n2 --ch-image=$I {words}"));
        said.failed(127, "can't run nosuch: not found in the image", 1);
    }
    // It is Slurm that looks for the commands of a file; or each task's launcher for its own, where a release needs one.
    for option in ["--multi-prog", "--multi"] {
        let said = site.run(&format!("srun -n2 --ch-image=$I {option} programs"));
        let by_slurm = said.err.contains("nosuch: No such file") && !said.err.contains("chariot:");
        let own = said.err.matches("can't run nosuch: not found in the image");
        assert!(by_slurm || own.count() == 2, "{said:#?}");
    }
}

#[test]
fn a_program_for_another_machine_or_without_its_loader_ends_in_126_or_127() {
    let site = site!();
    let put = |name: &str, bytes: &[u8]| {
        site.script(name, "");
        std::fs::write(site.here().join(name), bytes).unwrap();
    };
    let mut foreign = std::fs::read(Path::new(&site.image).join("bin/busybox")).unwrap();
    foreign[18] = if cfg!(target_arch = "aarch64") {
        62
    } else {
        183
    };
    put("foreign", &foreign);
    // The image has no C library.
    put("lost", &std::fs::read("/bin/true").unwrap());
    for (program, code, sentence) in [
        ("./foreign", 126, "can't run ./foreign: it is a program for"),
        ("./lost", 127, "can't run ./lost: it is loaded by /lib"),
    ] {
        let said = site.run(&format!("srun -N2 -n4 --ch-image=$I {program}"));
        said.failed(code, sentence, 2);
    }
    site.nodes_are_fine();
}
