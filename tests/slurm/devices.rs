//! Devices in steps: those that were asked for, and the GPUs that Slurm gave.

use crate::site;

/// Names each GPU of the clusters as a device that says its number; and one more.
fn specify(site: &crate::Site) -> String {
    let device = |number| {
        format!("- {{name: \"{number}\", containerEdits: {{env: [\"GPU{number}=1\"]}}}}\n")
    };
    let text = format!(
        "cdiVersion: 0.5.0\nkind: example.com/gpu\ncontainerEdits: {{env: [GPUS=some]}}\ndevices:\n{}",
        (0..4).map(device).collect::<String>()
    );
    let directory = site.here().join("cdi");
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(directory.join("gpus.yaml"), text).unwrap();
    format!("cdi_dirs = [\"{}\"]\n", directory.display())
}

const SHOW: &str = "sh -c 'echo $SLURM_PROCID $GPUS ${GPU0-0}${GPU1-0}${GPU2-0}${GPU3-0} ${CUDA_VISIBLE_DEVICES-none}'";

#[test]
#[ignore = "alone: changes the site's file"]
fn a_step_gets_exactly_the_gpus_that_slurm_gave_it() {
    let site = site!();
    let file = specify(&site) + "[gpu]\nkind = \"example.com/gpu\"\n";
    site.with_file(&file, || {
        let said = site.run(&format!("srun -n1 --gres=gpu:2 --ch-image=$I {SHOW}"));
        assert_eq!(said.ok(), "0 some 1100 0,1");
        // The container has the GPUs of both tasks, and each task is told its own.
        let said = site.run(&format!(
            "srun -N1 -n2 --gpus-per-task=1 --ch-image=$I {SHOW} | sort"
        ));
        assert_eq!(said.ok(), "0 some 1100 0\n1 some 1100 1");
        let said = site.run(&format!("srun -n1 --ch-image=$I {SHOW}"));
        assert_eq!(said.ok(), "0 0000 none");
        let none = format!("srun -n1 --gres=gpu:2 --ch-device=none --ch-image=$I {SHOW}");
        assert_eq!(site.run(&none).ok(), "0 0000 0,1");
        let asked =
            format!("srun -n1 --gres=gpu:1 --ch-device=example.com/gpu=3 --ch-image=$I {SHOW}");
        assert_eq!(site.run(&asked).ok(), "0 some 0001 0");
        // In the script of a job with two, a step with one, and a step with none.
        site.script(
            "job",
            &format!(
                "#!/bin/sh\n{SHOW}\nsrun -n1 --gres=gpu:1 {SHOW}\nsrun -n1 --gres=none {SHOW}\n"
            ),
        );
        let said =
            site.run("sbatch -W -n1 --gres=gpu:2 -o out -e err --ch-image=$I job >&2; cat out");
        assert_eq!(said.ok(), "0 some 1100 0,1\n0 some 1000 0\n0 0000 none");
    });
}

#[test]
#[ignore = "alone: changes the site's file"]
fn a_device_is_had_on_each_node_or_the_step_does_not_run_there() {
    let site = site!();
    let file = specify(&site);
    site.with_file(&file, || {
        let device = "--ch-device=example.com/gpu=0 --ch-device=example.com/gpu=2";
        let said = site.run(&format!("srun -N4 -n4 {device} --ch-image=$I {SHOW}"));
        assert_eq!(said.ok().matches("some 1010").count(), 4, "{said:#?}");
        let said = site.run("srun -N2 -n2 --ch-device=example.com/gpu=7 --ch-image=$I echo ran");
        said.failed(125, "this machine has no such device", 2);
        assert_eq!(said.out, "");
        let said = site.run("srun --ch-device=gpu --ch-image=$I echo ran");
        assert!(
            said.err.contains("\"gpu\" is not VENDOR/CLASS"),
            "{said:#?}"
        );
        assert_eq!(said.out, "");
        site.nodes_are_fine();
    });
}
