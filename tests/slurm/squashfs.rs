//! SquashFS images in Slurm: one server per step and node, which ends with the step.

use crate::support::servers;
use crate::{Site, site, skip, support};

/// A SquashFS file of the test's own, by which its servers can be told from those of other tests.
fn image(site: &Site) -> Option<String> {
    let packed = support::images()?.join("busybox.sqfs");
    let own = site.here().join("own.sqfs");
    std::fs::copy(packed, &own).ok()?;
    Some(own.to_string_lossy().into_owned())
}

macro_rules! image {
    ($site:expr) => {
        match image(&$site) {
            Some(image) => image,
            None => skip!("no SquashFS image: tests/run makes one"),
        }
    };
}

#[track_caller]
fn no_server_is_left(image: &str) {
    support::until("no server is left", || servers(image).is_empty());
}

#[test]
fn one_server_on_each_node_serves_all_tasks_and_ends_with_the_step() {
    let site = site!();
    let image = image!(site);
    let script = format!(
        "srun -N4 --ntasks-per-node=16 --ch-image={image} sh -c \
         '[ $SLURM_PROCID = 0 ] && touch up; while [ ! -e go ]; do sleep 0.2; done; \
         echo $SLURM_NODEID $(readlink /proc/self/ns/mnt) $(cat /etc/motd)' | sort | uniq -c"
    );
    let said = site.run_while(&script, || {
        // Task 0 can be there before the other nodes are.
        support::until("four servers", || servers(&image).len() >= 4);
        assert_eq!(servers(&image).len(), 4);
    });
    let lines: Vec<&str> = said.ok().lines().collect();
    assert_eq!(lines.len(), 4, "{said:#?}");
    assert!(
        lines.iter().all(|line| line.trim().starts_with("16 ")),
        "{said:#?}"
    );
    no_server_is_left(&image);
}

#[test]
fn the_server_has_the_steps_processors_its_score_and_none_of_its_descriptors() {
    let site = site!();
    let image = image!(site);
    let script = format!(
        "srun -n2 --mpi=pmi2 --ch-image={image} sh -c \
         '[ $SLURM_PROCID = 0 ] && touch up; while [ ! -e go ]; do sleep 0.2; done'"
    );
    site.run_while(&script, || {
        let server = servers(&image)[0];
        let read = |name: &str| std::fs::read_to_string(format!("/proc/{server}/{name}")).unwrap();
        // Where the step has a limit of memory, the kernel is to take the server last.
        let score = read("oom_score_adj");
        let is_spared = site.has_cgroups() && score.trim() == "-999";
        assert!(score.trim() == "0" || is_spared, "{score}");
        if let Some(user) = support::user() {
            let owner = std::process::Command::new("stat")
                .args(["-c", "%U", &format!("/proc/{server}")])
                .output();
            assert_eq!(String::from_utf8_lossy(&owner.unwrap().stdout).trim(), user);
        }
        for file in std::fs::read_dir(format!("/proc/{server}/fd"))
            .unwrap()
            .flatten()
        {
            let target = file.path().read_link().unwrap_or_default();
            let target = target.to_string_lossy();
            let known = ["/dev/null", "/dev/fuse", "socket:", "pipe:", &image];
            assert!(
                known.iter().any(|known| target.starts_with(known)),
                "{target}"
            );
        }
        if site.has_cgroups() {
            assert!(read("cgroup").contains("/step_"), "{}", read("cgroup"));
        }
    });
    no_server_is_left(&image);
}

#[test]
fn signals_of_scancel_reach_the_tasks_and_not_the_server() {
    let site = site!();
    let image = image!(site);
    let said = site.run(&format!(
        "srun -J served --ch-image={image} sh -c 'trap \"cat /etc/motd; exit 9\" USR1; touch ready; \
         while :; do sleep 0.1; done' & \
         while [ ! -e ready ]; do sleep 0.1; done; \
         scancel -s USR1 $(squeue -h -o %i -n served); wait $!"
    ));
    assert_eq!(
        (said.code, said.out.trim_end()),
        (9, "an image in a file"),
        "{said:#?}"
    );
    no_server_is_left(&image);
}

#[test]
fn a_server_does_not_hold_up_the_end_of_a_step() {
    let site = site!();
    let image = image!(site);
    // From scancel to the end of the step, in seconds; when it starts is up to the tests beside this one.
    let time = |options: &str| -> u64 {
        let said = site.run(&format!(
            "srun -J ending -N2 -n4 {options} sh -c 'touch ready-$SLURM_PROCID; exec sleep 7300' & \
             while [ ! -e ready-3 ]; do sleep 0.05; done; SECONDS=0; scancel -n ending; wait; \
             echo $SECONDS; rm -f ready-*"
        ));
        assert!(!said.err.contains("chariot"), "{said:#?}");
        said.out.trim_end().parse().unwrap()
    };
    let (without, with) = (time(""), time(&format!("--ch-image={image}")));
    // The time-out for what cannot be killed is 30 seconds in these clusters.
    assert!(
        with < without + 15,
        "{with} s, and {without} s without a container"
    );
    no_server_is_left(&image);
    site.nodes_are_fine();
}

#[test]
fn a_killed_server_is_told_once_on_the_jobs_standard_error() {
    let site = site!();
    let image = image!(site);
    let script = format!(
        "srun -n2 --ch-image={image} sh -c \
         '[ $SLURM_PROCID = 0 ] && touch up; while [ ! -e go ]; do sleep 0.2; done; cat /etc/group >/dev/null; ls /bin | wc -l' \
         2>err; cat err >&2"
    );
    let said = site.run_while(&script, || {
        for server in servers(&image) {
            let killed = std::process::Command::new("kill")
                .args(["-9", &server.to_string()])
                .status();
            assert!(killed.unwrap().success());
        }
        // Somebody has to be in the container still: it is their standard error.
        support::until("the server's end is told", || {
            std::fs::read_to_string(site.here().join("err"))
                .is_ok_and(|text| text.contains("hint: "))
        });
    });
    assert_eq!(
        said.err.matches("was killed by signal 9").count(),
        1,
        "{said:#?}"
    );
    no_server_is_left(&image);
    site.nodes_are_fine();
}

#[test]
fn the_audit_line_says_how_the_image_was_mounted_and_its_files_can_be_changed() {
    let site = site!();
    let image = image!(site);
    let said = site.run(&format!(
        "srun -w n1 --ch-image={image} --ch-writable sh -c 'echo more >>/etc/motd; cat /etc/motd'"
    ));
    assert_eq!(said.ok(), "an image in a file\nmore");
    let log = std::fs::read_to_string(site.cluster.join("log/slurmd-n1.log")).unwrap();
    let line = log
        .lines()
        .find(|line| line.contains("chariot: user=") && line.contains(&image));
    assert!(
        line.is_some_and(|line| line.contains("mount=\"squashfs\"")),
        "{line:?}"
    );
}
