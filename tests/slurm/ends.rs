//! Ends: exit codes, signals, and that nothing is left behind.

use std::time::{Duration, Instant};

use crate::{Site, site, skip, support};

/// Waits until no process on this machine has `marker` in its command line.
#[track_caller]
fn nothing_left(marker: &str) {
    support::until(&format!("no sleep {marker} is left"), || {
        std::fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().parse::<u32>().is_ok())
            .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
            .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
            .all(|line| !(line.starts_with("sleep") && line.contains(marker)))
    });
}

/// How many mount namespaces with `image` mounted processes of this machine are in.
fn containers_of(image: &str) -> usize {
    let name = std::path::Path::new(image)
        .file_name()
        .unwrap()
        .to_string_lossy()
        .into_owned();
    std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| std::fs::read_to_string(entry.path().join("mountinfo")).ok())
        .filter(|text| text.contains(&format!("/{name}/bin /bin ")))
        .count()
}

#[test]
fn exit_codes_pass_through() {
    let site = site!();
    for code in [0, 1, 7, 125, 200] {
        assert_eq!(
            site.run(&format!("srun --ch-image=$I sh -c 'exit {code}'"))
                .code,
            code
        );
    }
}

#[test]
fn signals_of_scancel_reach_the_task() {
    let site = site!();
    let said = site.run(
        "srun -J signals --ch-image=$I sh -c 'trap \"echo caught; exit 9\" USR1; touch ready; \
         while :; do sleep 0.1; done' & \
         while [ ! -e ready ]; do sleep 0.1; done; \
         scancel -s USR1 $(squeue -h -o %i -n signals); wait $!",
    );
    assert_eq!((said.code, said.out.trim_end()), (9, "caught"), "{said:#?}");
}

fn private_copy(site: &Site, name: &str) -> String {
    let image = site.here().join(name);
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .args([site.image.as_ref(), image.as_path()])
        .status();
    assert!(copied.unwrap().success());
    image.to_string_lossy().into_owned()
}

/// Runs a script with a step of `sleep MARKER` on two nodes, which it ends, and looks for what that left.
#[track_caller]
fn leaves_nothing(marker: &str, script: impl Fn(&str) -> String) {
    let site = site!();
    let image = private_copy(&site, &format!("left-{marker}"));
    site.run(&script(&format!(
        "srun -J ends-{marker} -N2 -n4 --ch-image={image}"
    )));
    nothing_left(marker);
    support::until("no container is left", || containers_of(&image) == 0);
    site.nodes_are_fine();
}

// Slurm's shortest is a minute: it begins before most tests, which run beside it.
#[test]
fn a_time_limit_leaves_nothing() {
    leaves_nothing("7002", |step| format!("{step} -t 1 sleep 7002"));
}

#[test]
fn scancel_leaves_nothing() {
    leaves_nothing("7001", |step| {
        format!(
            "{step} sh -c 'touch up; exec sleep 7001' & until [ -e up ]; do sleep 0.1; done; scancel -n ends-7001; wait"
        )
    });
}

#[test]
fn a_killed_task_leaves_nothing() {
    leaves_nothing("7003", |step| {
        format!("{step} -K sh -c '[ $SLURM_PROCID = 0 ] && kill -9 $$; sleep 7003'")
    });
}

#[test]
#[ignore = "alone: kills whichever task makes a container"]
fn the_death_of_the_creating_task_at_any_moment_leaves_nothing_and_hangs_nobody() {
    let site = site!();
    if support::user().is_none() {
        skip!("only root sees all tasks");
    }
    for delay in [0, 1, 2, 4, 8, 16] {
        // Kill the launcher's parent, which is the creating task, shortly after the launcher starts.
        let killer = format!(
            "for i in $(seq 400); do p=$(pgrep -u $U -f 'step --socket' | head -n1); \
             [ -n \"$p\" ] && {{ sleep 0.00{delay}; kill -9 $(ps -o ppid= -p $p) 2>/dev/null; break; }}; \
             sleep 0.002; done"
        );
        let mut killer = std::process::Command::new("bash")
            .args(["-c", &killer])
            .env("U", support::user().unwrap())
            .spawn()
            .unwrap();
        let start = Instant::now();
        site.run(
            "srun -J deaths -N1 -n4 --ch-image=$I sleep 7004 & sleep 3; scancel -n deaths; wait",
        );
        killer.wait().unwrap();
        assert!(start.elapsed() < Duration::from_secs(40), "the step hung");
        nothing_left("7004");
    }
    site.nodes_are_fine();
}

#[test]
fn background_children_are_killed_with_the_step() {
    let site = site!();
    if !site.has_cgroups() {
        // Slurm's linuxproc loses sight of a child whose parent has ended, container or not.
        return;
    }
    site.run("srun --ch-image=$I sh -c 'sleep 7005 & true'");
    nothing_left("7005");
}

#[test]
#[ignore = "alone: Slurm itself takes its time to get over a killed slurmstepd"]
fn a_killed_slurmstepd_leaves_no_container_once_its_tasks_are_gone() {
    let site = site!();
    let Some(user) = support::user() else {
        skip!("only root can kill slurmstepd")
    };
    let image = private_copy(&site, "left-by-stepd");
    let script = format!(
        "srun -J stepd -w n4 -n2 --ch-image={image} sh -c 'touch up; exec sleep 7006' & \
         while [ ! -e up ]; do sleep 0.1; done; sleep 0.5; \
         squeue -h -o %i -n stepd >job; while [ -e job ]; do sleep 0.1; done; scancel -n stepd; wait"
    );
    std::thread::scope(|scope| {
        let step = scope.spawn(|| site.run(&script));
        let job = site.here().join("job");
        let number = || std::fs::read_to_string(&job).unwrap_or_default();
        support::until("the step starts", || number().ends_with('\n'));
        let number = number().trim().to_owned();
        assert!(containers_of(&image) > 0);
        let kill = format!(
            "pkill -KILL -f 'slurmstepd: .{number}[.]0'; sleep 0.5; pkill -KILL -x sleep -u {user}"
        );
        std::process::Command::new("sh")
            .args(["-c", &kill])
            .status()
            .unwrap();
        std::fs::remove_file(job).unwrap();
        step.join().unwrap();
    });
    support::until("no container is left", || containers_of(&image) == 0);
}

#[test]
fn a_file_system_that_the_host_unmounts_is_not_held_by_a_container() {
    let site = site!();
    if !site.has_cgroups() || support::user().is_none() {
        // Unmounts travel only where mounts are shared, as on a site's nodes.
        return;
    }
    let point = site.here().join("point");
    std::fs::create_dir(&point).unwrap();
    let shell = |script: String| {
        let status = std::process::Command::new("sh")
            .args(["-c", &script])
            .status();
        assert!(status.unwrap().success(), "{script}");
    };
    shell(format!(
        "mount -t tmpfs chariot-unmounted {}",
        point.display()
    ));
    let mounted = || {
        std::fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .filter_map(|entry| std::fs::read_to_string(entry.path().join("mountinfo")).ok())
            .filter(|text| {
                text.contains("chariot-unmounted") && text.contains("/busybox/bin /bin ")
            })
            .count()
    };
    // Seen through the bind of /tmp. What a user binds by name stays until the step ends.
    let step = "srun --ch-image=$I sh -c 'ls -d $PWD/point && touch up; until [ -e go ]; do sleep 0.1; done'";
    let said = site.run_while(step, || {
        assert!(
            mounted() > 0,
            "the file system is not in the container at all"
        );
        shell(format!("umount {}", point.display()));
        support::until("no container holds what the host has unmounted", || {
            mounted() == 0
        });
    });
    said.ok();
}
