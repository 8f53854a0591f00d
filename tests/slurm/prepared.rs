//! What another user has prepared on a node, where Slurm and Chariot use names that can be foretold.

use std::os::unix::fs::{lchown, symlink};
use std::path::Path;

use crate::releases::PMIX;
use crate::{Site, lacks, site, skip, support};

/// The user who does that.
const EVE: u32 = 4711;

/// Has eve make it: a link, or a directory with a file in it.
fn squat(path: &Path, target: Option<&str>) {
    match target {
        Some(target) => symlink(target, path).unwrap(),
        None => {
            std::fs::create_dir(path).unwrap();
            std::fs::write(path.join("hers"), "").unwrap();
        }
    }
    lchown(path, Some(EVE), Some(EVE)).unwrap();
}

/// What eve made, gone at the end of a test.
struct Squatted(Vec<std::path::PathBuf>);

impl Drop for Squatted {
    fn drop(&mut self) {
        for path in &self.0 {
            let _ = std::fs::remove_file(path).or_else(|_| std::fs::remove_dir_all(path));
        }
    }
}

/// Nodes' directories for temporary files, in which all may write.
fn scratch(site: &Site, node: u32) -> std::path::PathBuf {
    site.cluster.join(format!("tmp-n{node}"))
}

#[test]
fn names_of_directories_that_slurm_will_make_keep_no_job_of_others_from_running() {
    let site = site!();
    if site.is_rootless() {
        // One user has it all.
        return;
    }
    let script = "salloc -Q -N2 -w n1,n2 bash -c 'echo $SLURM_JOB_ID > job; mv job up; while [ ! -e go ]; do sleep 0.1; done; \
                  for i in 1 2 3; do srun -N2 --ch-image=$I sh -c \"echo ran; ls -d '$D'/tmp-n*/spmix_appdir_* 2>/dev/null; true\"; done'";
    let script = script.replace("'$D'", &site.cluster.display().to_string());
    let mut squatted = Squatted(Vec::new());
    let said = site.run_while(&script, || {
        let job = std::fs::read_to_string(site.here().join("up")).unwrap();
        let job = job.trim();
        for node in [1, 2] {
            for (step, target) in [(0, Some("/nonexistent")), (1, Some("/etc")), (2, None)] {
                let path = scratch(&site, node).join(format!("spmix_appdir_x_{job}.{step}"));
                squat(&path, target);
                squatted.0.push(path);
            }
        }
    });
    assert_eq!(said.out.matches("ran\n").count(), 6, "{said:#?}");
    assert!(!said.out.contains("spmix_appdir"), "{said:#?}");
    assert!(!said.err.contains("chariot: "), "{said:#?}");
    site.nodes_are_fine();
    lacks!(site, PMIX);
    // What Slurm has made is there.
    let said = site.run(&format!(
        "srun -N1 -w n1 --mpi=pmix --ch-image=$I sh -c 'ls -d {}/spmix_appdir_* $PMIX_SERVER_TMPDIR | wc -l'",
        scratch(&site, 1).display()
    ));
    assert_eq!(said.ok(), "2");
    assert!(!said.err.contains("chariot: "), "{said:#?}");
}

#[test]
#[ignore = "alone: changes the site's file"]
fn where_the_place_for_copies_is_taken_a_step_runs_without_one_and_says_so_once_a_node() {
    let site = site!();
    if site.is_rootless() {
        // One user has it all.
        return;
    }
    let Some(images) = support::images() else {
        skip!("no SquashFS image: tests/run makes one");
    };
    let user = support::user().unwrap();
    let image = images.join("busybox.sqfs").display().to_string();
    let place = scratch(&site, 1);
    let file = format!(
        "stage = \"node\"\nstage_dir = \"{}/chariot-$USER\"\n",
        place.display()
    );
    let mut squatted = Squatted(Vec::new());
    let path = place.join(format!("chariot-{user}"));
    squatted.0.push(path.clone());
    site.with_file(&file, || {
        for target in [
            None,
            Some("/nonexistent"),
            Some(site.here().to_str().unwrap()),
        ] {
            squat(&path, target);
            let said = site.run(&format!(
                "srun -N1 -n4 -w n1 --ch-image={image} cat /etc/motd"
            ));
            assert_eq!(said.ok(), ["an image in a file"; 4].join("\n"), "{said:#?}");
            assert_eq!(
                said.err.matches("not from a copy on the node").count(),
                1,
                "{said:#?}"
            );
            let _ = std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir_all(&path));
        }
        let said = site.run(&format!(
            "srun -N1 -n4 -w n1 --ch-image={image} cat /etc/motd"
        ));
        assert_eq!(said.ok(), ["an image in a file"; 4].join("\n"), "{said:#?}");
        assert!(!said.err.contains("not from a copy"), "{said:#?}");
        assert!(path.join("images").is_dir());
    });
    site.nodes_are_fine();
}
