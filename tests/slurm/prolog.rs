//! Slurm's task prolog: in the container, and on the host.

use crate::releases::{PREPEND, release};
use crate::{lacks, site, skip, support};

/// Exports one variable that says where it runs.
const PROLOG: &str = "#!/bin/sh\necho export FROM_PROLOG=in-${CH_RUNNING-host}\n";

/// Releases in which no prolog can run in a container; Chariot runs it on the host there.
fn never_in_a_container() -> bool {
    matches!(release(), 24_11_00..=24_11_06 | 25_05_00..=25_05_01)
}

#[test]
fn a_task_prolog_that_is_visible_inside_runs_and_its_exports_arrive() {
    let site = site!();
    site.script("prolog", PROLOG);
    let said = site.run("srun --task-prolog=$PWD/prolog --ch-image=$I sh -c 'echo $FROM_PROLOG'");
    let expected = match never_in_a_container() {
        true => "in-host".to_owned(),
        false => format!("in-{}", site.image),
    };
    assert_eq!(said.ok(), expected);
}

/// A prolog that only the host has: /tmp is private, and the working directory the root.
const HOST_ONLY: &str = "P=$PWD/prolog; cd /; srun --task-prolog=$P --ch-image=$I --ch-private-tmp";

#[test]
#[ignore = "alone: changes the site's file"]
fn a_prolog_on_the_host_comes_before_a_container_with_the_same_sharing() {
    let site = site!();
    lacks!(site, PREPEND);
    site.script("prolog", PROLOG);
    site.with_file("task_prolog = \"host\"\n", || {
        let said = site.run(&format!(
            "{HOST_ONLY} -N2 -n8 sh -c \
             'echo $FROM_PROLOG $CH_RUNNING $SLURM_NODEID $(readlink /proc/self/ns/mnt)' | sort -u"
        ));
        let lines: Vec<&str> = said.ok().lines().collect();
        assert_eq!(lines.len(), 2, "{said:#?}");
        let expected = format!("in-host {} ", site.image);
        assert!(
            lines.iter().all(|line| line.starts_with(&expected)),
            "{said:#?}"
        );
        let said = site.run("srun --ch-image=$I grep -E 'CapEff|NoNewPrivs' /proc/self/status");
        assert_eq!(said.ok(), "CapEff:\t0000000000000000\nNoNewPrivs:\t1");
        let open = site
            .run("srun --ch-image=$I ls /proc/self/fd")
            .ok()
            .lines()
            .count();
        assert_eq!(open, 4, "the container's descriptors are left open");
    });
}

#[test]
#[ignore = "alone: changes the site's file"]
fn promises_hold_with_a_prolog_on_the_host() {
    let site = site!();
    lacks!(site, PREPEND);
    site.script("prolog", PROLOG);
    site.script("job", "#!/bin/sh\necho $0 in $CH_RUNNING\n");
    site.script("programs", "0 echo first\n1 nothere\n");
    site.with_file("task_prolog = \"host\"\n", || {
        assert_eq!(site.run("srun --ch-image=$I sh -c 'exit 7'").code, 7);
        let said = site.run("srun -N2 -n8 --ch-image=$I nothere");
        said.failed(127, "can't run nothere: not found in the image", 2);
        let said = site.run("srun -N2 -n8 --ch-image=/nonexistent echo RAN");
        said.failed(125, "can't use the image /nonexistent", 2);
        assert!(!said.out.contains("RAN"), "{said:#?}");
        let said = site.run("srun -n2 --multi-prog --ch-image=$I programs");
        assert!(said.out.contains("first"), "{said:#?}");
        assert_eq!(
            said.err.matches("can't run nothere").count(),
            1,
            "{said:#?}"
        );
        let said = site.run("sbatch -W -o out --ch-image=$I job >&2; cat out");
        assert!(
            said.ok().ends_with(&format!("in {}", site.image)),
            "{said:#?}"
        );
        let said =
            site.run("srun --mpi=pmi2 -n2 --ch-image=$I sh -c 'readlink /proc/self/fd/$PMI_FD'");
        assert_eq!(said.ok().matches("socket:").count(), 2, "{said:#?}");
        let said = site.run(
            "(sleep 1; echo 'tty; exit 5'; sleep 2) | \
             script -qec 'srun --pty --ch-image=$I sh' /dev/null",
        );
        assert_eq!(said.code, 5, "{said:#?}");
    });
    site.nodes_are_fine();
}

#[test]
#[ignore = "alone: changes the site's file"]
fn a_path_that_the_prolog_on_the_host_extends_is_searched() {
    let site = site!();
    lacks!(site, PREPEND);
    if support::user().is_none() {
        skip!("needs the place that tests/run makes");
    }
    std::fs::create_dir(site.here().join("bin")).unwrap();
    site.script("bin/mine", "#!/bin/sh\necho mine\n");
    site.script(
        "prolog",
        "#!/bin/sh\necho export PATH=$OLDPWD/bin:$PWD/bin:$PATH\n",
    );
    site.with_file("task_prolog = \"host\"\n", || {
        let said = site.run("srun --task-prolog=$PWD/prolog --ch-image=$I mine");
        assert_eq!(said.ok(), "mine");
    });
}
