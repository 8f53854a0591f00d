//! Each process of Chariot's is in its step's part of slurmstepd's scope, where it is counted and ends with the step.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::root;
use crate::{Site, site, support};

/// What the kernel says of a process of Chariot's: the program and its first word, and its group.
type Seen = BTreeSet<(String, String)>;

fn chariots() -> Seen {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let of = |process: &Path| {
        let name = std::fs::read_to_string(process.join("comm")).ok()?;
        if !name.starts_with("chariot") {
            return None;
        }
        let line = std::fs::read(process.join("cmdline")).ok()?;
        let word = line.split(|byte| *byte == 0).nth(1).unwrap_or_default();
        let groups = std::fs::read_to_string(process.join("cgroup")).ok()?;
        let word = String::from_utf8_lossy(word);
        Some((format!("{} {word}", name.trim()), groups.trim().to_owned()))
    };
    processes
        .filter_map(|process| of(&process.path()))
        .filter(|(name, _)| !name.starts_with("chariot-tests"))
        .collect()
}

/// All that are seen while `work` runs.
fn seen_while(work: impl FnOnce()) -> Seen {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let mut seen = Seen::new();
            while !over.load(Ordering::Relaxed) {
                seen.extend(chariots());
            }
            seen
        });
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        over.store(true, Ordering::Relaxed);
        result.unwrap();
        watching.join().unwrap()
    })
}

/// An image of root's in a directory that the site trusts, which the kernel mounts.
fn trusted_image(site: &Site) -> String {
    let file = "/srv/trusted/image.sqfs";
    root(&format!(
        "mkdir -p /srv/trusted && cp {}.sqfs {file}",
        site.image
    ))
    .ok();
    file.to_owned()
}

#[test]
#[ignore = "alone: changes the site's file"]
fn each_process_of_chariots_is_in_its_steps_group_and_ends_with_it() {
    let site = site!();
    let trusted = trusted_image(&site);
    let served = format!("{}.sqfs", site.image);
    site.with_file("kernel_mount = [\"/srv/trusted\"]\n", || {
        let mut seen = Seen::new();
        for image in [&trusted, &served] {
            let script = format!(
                "sbatch -W -n2 -o out --mem=200 --ch-image={image} --wrap 'sinfo -h -o %R; sleep 1; srun -n2 --overlap cat /etc/motd' >/dev/null; cat out"
            );
            seen.extend(seen_while(|| {
                assert_eq!(
                    site.run(&script).ok(),
                    "main\nan image in a file\nan image in a file"
                );
            }));
        }
        let shown: Vec<_> = seen
            .iter()
            .map(|(name, group)| format!("{name} {group}"))
            .collect();
        println!("{}", shown.join("\n"));
        for name in [
            "chariot-serve ",
            "chariot-watch ",
            "chariot-agent ",
            "chariot step",
            "chariot open",
        ] {
            assert!(
                seen.iter().any(|(seen, _)| seen.starts_with(name)),
                "{name} was not seen: {seen:#?}"
            );
        }
        // Slurm's directories of jobs have other names in each release.
        let inside = |group: &str| group.contains("slurmstepd.scope/") && group.contains("/step_");
        assert!(seen.iter().all(|(_, group)| inside(group)), "{seen:#?}");
        support::until("nothing of the step is left", || chariots().is_empty());
    });
    site.nodes_are_fine();
}
