//! Images of a registry in jobs: pinned when submitted, fetched once, awaited by the other nodes.

use std::path::Path;

use crate::support::registry::{self, Access, Registry, plain};
use crate::support::until;
use crate::{site, support};

/// A registry, or a skip.
macro_rules! registry {
    () => {
        match Registry::start(Access::Plain) {
            Some(registry) => registry,
            None => $crate::skip!("no registry: tests/run prepares one"),
        }
    };
}

fn image(host: &str) -> String {
    format!("docker://{host}/team/small:1")
}

#[test]
#[ignore = "alone: changes the site's file"]
fn each_blob_is_fetched_once_for_all_nodes_and_tasks_and_not_at_all_when_warm() {
    let site = site!();
    let registry = registry!();
    site.with_file(&plain(&registry.host), || {
        let step = format!(
            "srun -N4 -n64 --ch-image={} sh -c 'echo $SLURMD_NODENAME $GREETING $(ls /srv/data)'",
            image(&registry.host)
        );
        let said = site.run(&step);
        let mut lines: Vec<_> = said.ok().lines().collect();
        assert_eq!(lines.len(), 64, "{said:#?}");
        lines.sort_unstable();
        lines.dedup();
        let expected = [1, 2, 3, 4].map(|node| format!("n{node} hello from small last"));
        assert_eq!(lines, expected);
        let blobs = registry.blobs();
        let mut once = blobs.clone();
        once.sort();
        once.dedup();
        assert_eq!((blobs.len(), once.len()), (5, 5), "{}", registry.log());
        assert_eq!(site.run(&step).ok().lines().count(), 64);
        assert_eq!(registry.blobs().len(), 5);
    });
}

#[test]
#[ignore = "alone: changes the site's file"]
fn two_jobs_that_need_one_image_at_once_fetch_it_once() {
    let site = site!();
    let registry = registry!();
    let slow = registry::slow_way(&registry.host, 500_000);
    site.with_file(&plain(&slow), || {
        let step = |node: &str| {
            format!(
                "srun -w {node} -n2 --ch-image={} sh -c 'echo $GREETING'",
                image(&slow)
            )
        };
        let said = site.run(&format!("{} & {} & wait", step("n1"), step("n2")));
        assert_eq!(said.out.matches("hello from small").count(), 4, "{said:#?}");
        assert_eq!(registry.blobs().len(), 5, "{}", registry.log());
    });
}

#[test]
#[ignore = "alone: changes the site's file"]
fn a_job_runs_the_digest_that_its_image_had_when_it_was_submitted() {
    let site = site!();
    let registry = registry!();
    site.with_file(&plain(&registry.host), || {
        let script = "#!/bin/sh\n#SBATCH --ch-batch=host\necho \"$SLURM_CHARIOT_OPTIONS\"\nsrun sh -c 'echo $GREETING'\n";
        site.script("job", script);
        let said = site.run(&format!("sbatch -W -N2 -o out --ch-image={} job && cat out", image(&registry.host)));
        assert!(said.out.contains("/team/small:1@sha256:"), "{said:#?}");
        assert_eq!(said.out.matches("hello from small").count(), 2, "{said:#?}");
    });
}

#[test]
#[ignore = "alone: changes the site's file"]
fn where_the_registry_cannot_be_asked_at_submission_the_first_node_asks_for_the_whole_job() {
    let site = site!();
    if registry::oci().is_none() {
        crate::skip!("no registry: tests/run prepares one");
    }
    let port = registry::free_port();
    let host = format!("127.0.0.1:{port}");
    site.with_file(&format!("{}[waits]\nlook_up = 1\n", plain(&host)), || {
        site.script("job", "#!/bin/sh\n#SBATCH --ch-batch=host\nsrun sh -c 'echo $GREETING'; srun sh -c 'echo $GREETING'\n");
        let said = site.run(&format!("sbatch --parsable --hold -N2 -o out --ch-image={} job", image(&host)));
        let job = said.ok().to_owned();
        let registry = Registry::start_at(Access::Plain, port).unwrap();
        site.run(&format!("scontrol release {job}")).ok();
        let done = || std::fs::read_to_string(site.here().join("out")).is_ok_and(|text| text.matches("hello").count() == 4);
        until("the job runs", done);
        let manifests = registry.log().matches("/manifests/").count();
        assert_eq!(manifests, 1, "{}", registry.log());
        let pins = site.here().join(format!(".cache/chariot/jobs/chariot.{job}"));
        assert_eq!(std::fs::read_dir(pins).unwrap().count(), 1);
    });
}

#[test]
#[ignore = "alone: changes the site's file"]
fn an_image_that_the_registry_does_not_have_is_refused_before_anything_is_queued() {
    let site = site!();
    let registry = registry!();
    site.with_file(&plain(&registry.host), || {
        let said = site.run(&format!("srun --ch-image=docker://{}/team/nothing:1 echo RAN; sbatch --ch-image=docker://{0}/team/small:none --wrap true; squeue -h", registry.host));
        assert!(!said.out.contains("RAN") && !said.out.contains("wrap"), "{said:#?}");
        assert!(said.err.contains("has no manifests/1 of team/nothing"), "{said:#?}");
        assert!(said.err.contains("has no manifests/none of team/small"), "{said:#?}");
    });
    site.nodes_are_fine();
}

#[test]
#[ignore = "alone: changes the site's file, and takes a while"]
fn when_the_fetching_node_dies_another_goes_on_and_the_user_sees_progress() {
    let site = site!();
    if site.has_private_tmp() || site.is_rootless() {
        // Nothing in this is another there, and it takes its time.
        return;
    }
    let registry = registry!();
    // Slow enough for Slurm, which takes some seconds to kill a step whose tasks have not started.
    let slow = registry::slow_way(&registry.host, 60_000);
    // Others wait for a container of their own step as long as they see the fetch go on.
    let file = format!("{}[waits]\ncontainer = 3\n", plain(&slow));
    site.with_file(&file, || {
        let step = |node: &str| format!("srun -w {node} -n2 --ch-image={} sh -c 'echo $GREETING'", image(&slow));
        let script = format!(
            "({} > first 2>&1; touch ended) & sleep 2; {} > second 2> second.err; wait; cat second; cat second.err >&2",
            step("n1"),
            step("n2")
        );
        std::thread::scope(|scope| {
            let running = scope.spawn(|| site.run(&script));
            let leases = site.here().join(".cache/chariot/leases");
            let holder = || {
                let lease = std::fs::read_dir(&leases).ok()?.flatten().next()?;
                std::fs::read_to_string(lease.path()).ok().filter(|text| text.contains(" layer "))
            };
            until("somebody fetches", || holder().is_some());
            let waits = || std::fs::read_to_string(site.here().join("second.err")).is_ok_and(|text| text.contains(" is working: "));
            until("the other waits", waits);
            site.run("scancel -s KILL $(squeue -h -w n1 -o %i -t R)").ok();
            let said = running.join().unwrap();
            assert_eq!(said.out, "hello from small\nhello from small\n", "{said:#?}");
            assert!(said.err.contains(" is working: "), "{said:#?}");
            let first = std::fs::read_to_string(site.here().join("first")).unwrap();
            assert!(!first.contains("hello"), "{first}");
            assert!(first.contains("fetching"), "{first}");
        });
        no_temporaries(&site.here().join(".cache/chariot/images"));
    });
    site.nodes_are_fine();
}

fn no_temporaries(directory: &Path) {
    let names: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    assert_eq!(names.len(), 1, "{names:?}");
}

#[test]
#[ignore = "alone: changes the site's file"]
fn a_cache_that_cannot_be_written_fails_the_job_with_a_sentence() {
    let site = site!();
    let registry = registry!();
    let file = format!("cache = \"/proc/chariot\"\n{}", plain(&registry.host));
    site.with_file(&file, || {
        let said = site.run(&format!(
            "srun -N2 --ch-image={} echo RAN",
            image(&registry.host)
        ));
        said.failed(125, "can't use the cache /proc/chariot", 2);
        assert_eq!(said.out, "");
    });
    site.nodes_are_fine();
}

#[test]
#[ignore = "alone: changes the site's file"]
fn an_image_of_the_sites_cache_is_run_without_asking_for_a_blob() {
    let site = site!();
    if site.is_rootless() || !nix_root() {
        return;
    }
    let registry = registry!();
    let cache = tempfile::Builder::new()
        .prefix("chariot-site-cache.")
        .tempdir_in("/var/tmp")
        .unwrap();
    open_to_all(cache.path());
    let file = format!(
        "site_cache = \"{}\"\n{}",
        cache.path().display(),
        plain(&registry.host)
    );
    site.with_file(&file, || {
        let launcher = std::env::var("CHARIOT").unwrap();
        let output = std::process::Command::new(launcher)
            .arg("--config")
            .arg(site.cluster.join("chariot.toml"))
            .args(["pull", "--quiet", "--site", &image(&registry.host)])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let before = registry.blobs().len();
        let said = site.run(&format!(
            "srun -N2 --ch-image={} sh -c 'echo $GREETING'",
            image(&registry.host)
        ));
        assert_eq!(
            said.out, "hello from small\nhello from small\n",
            "{said:#?}"
        );
        assert_eq!(registry.blobs().len(), before);
    });
}

fn nix_root() -> bool {
    std::fs::metadata("/proc/self")
        .is_ok_and(|data| std::os::unix::fs::MetadataExt::uid(&data) == 0)
}

fn open_to_all(directory: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
#[ignore = "alone: changes the site's file"]
fn an_image_is_copied_to_a_node_once_if_the_site_says_so() {
    let site = site!();
    let stage = site.here().join("stage");
    let file = format!("stage = \"node\"\nstage_dir = \"{}\"\n", stage.display());
    site.with_file(&file, || {
        let image = support::images().unwrap().join("busybox.sqfs");
        let image = image.display();
        let said = site.run(&format!("cp {image} own.sqfs; for i in 1 2; do srun -N2 -n4 --ch-image=./own.sqfs cat /etc/motd; done; ls stage/images | wc -l; stat -c %a stage"));
        let lines: Vec<_> = said.ok().lines().collect();
        assert_eq!(lines.iter().filter(|line| **line == "an image in a file").count(), 8, "{said:#?}");
        assert_eq!(lines[8..], ["1", "700"], "{said:#?}");
        let log = site.run("cmp own.sqfs stage/images/*.sqfs");
        log.ok();
    });
}

#[test]
fn archives_and_layouts_run_in_jobs_as_they_are() {
    let site = site!();
    let Some(oci) = registry::oci() else {
        crate::skip!("no images of layers: tests/run prepares them");
    };
    let oci = oci.display();
    for word in [
        format!("oci:{oci}/layout:small"),
        format!("{oci}/docker.tar"),
        format!("oci-archive:{oci}/oci.tar"),
    ] {
        let said = site.run(&format!(
            "srun -N2 -n8 --ch-image={word} sh -c 'echo $GREETING'"
        ));
        assert_eq!(
            said.ok().matches("hello from small").count(),
            8,
            "{word}: {said:#?}"
        );
    }
}

#[test]
fn the_entrypoint_runs_the_command_where_slurm_can_put_it_there() {
    let site = site!();
    let Some(oci) = registry::oci() else {
        crate::skip!("no images of layers: tests/run prepares them");
    };
    let said = site.run(&format!(
        "srun -n2 --ch-image=oci:{}/layout:small --ch-entrypoint echo hello",
        oci.display()
    ));
    match said.code {
        0 => {
            // Each rank says the one before the other; whose line comes first is Slurm's affair.
            let mut lines: Vec<_> = said.out.lines().collect();
            lines.sort_unstable();
            let rank = ["entrypoint: echo hello", "hello"];
            assert_eq!(lines, [rank[0], rank[0], rank[1], rank[1]], "{said:#?}");
        }
        _ => {
            assert!(
                site.run("srun --version").ok().contains(" 22.05"),
                "{said:#?}"
            );
            assert!(
                said.err.contains("can't run the image's entrypoint"),
                "{said:#?}"
            );
        }
    }
}
