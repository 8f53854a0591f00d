//! Jobs: sbatch, salloc, and what their steps inherit.

use crate::releases::EXPORT_WITHOUT_ROOT;
use crate::site;

const SCRIPT: &str = "#!/bin/sh\necho script in ${CH_RUNNING-host}\n";

const STEPS: &str = "#!/bin/bash
echo script in ${CH_RUNNING-host}
srun sh -c 'echo step in ${CH_RUNNING-host}'
srun --ch-image=none sh -c 'echo none in ${CH_RUNNING-host}'
srun --export=NONE /bin/sh -c 'echo bare in ${CH_RUNNING-host}'
";

#[test]
fn the_script_of_sbatch_runs_in_the_container() {
    let site = site!();
    site.script("job", SCRIPT);
    for options in ["", "--export=NONE", "--export=A=1"] {
        if !options.is_empty() && site.is_rootless() && EXPORT_WITHOUT_ROOT.is_missing() {
            continue;
        }
        let said = site.run(&format!(
            "sbatch -W {options} -o out --ch-image=$I job >&2; cat out"
        ));
        assert_eq!(said.ok(), format!("script in {}", site.image), "{options}");
    }
}

#[test]
fn batch_host_leaves_the_script_outside_and_its_steps_inside() {
    let site = site!();
    let expected = format!(
        "script in host\nstep in {0}\nnone in host\nbare in {0}",
        site.image
    );
    site.script("job", STEPS);
    let said = site.run("sbatch -W -o out -e err --ch-image=$I --ch-batch=host job >&2; cat out");
    assert_eq!(said.ok(), expected);
    let lines = STEPS.replacen(
        '\n',
        &format!("\n#SBATCH --ch-image={} --ch-batch=host\n", site.image),
        1,
    );
    site.script("job", &lines);
    assert_eq!(
        site.run("sbatch -W -o out -e err job >&2; cat out").ok(),
        expected
    );
    let said = site.run("sbatch -W -o out -e err --ch-image=none job >&2; cat out");
    assert_eq!(
        said.ok(),
        "script in host\nstep in host\nnone in host\nbare in host"
    );
}

#[test]
fn options_of_sbatch_lines_and_of_the_command_add_up() {
    let site = site!();
    site.script(
        "job",
        "#!/bin/bash\n#SBATCH --ch-set-env=A=1 --ch-batch=host\n#SBATCH --ch-set-env=B=2\n\
         srun --ch-set-env=D=4 sh -c 'echo $A$B$C$D'\n",
    );
    let said = site.run("sbatch -W -o out -e err --ch-image=$I --ch-set-env=C=3 job >&2; cat out");
    assert_eq!(said.ok(), "1234");
}

#[test]
fn a_variable_does_not_outdo_what_was_typed_for_the_job() {
    let site = site!();
    site.script("job", "#!/bin/bash\nsrun sh -c 'echo $CH_RUNNING'\n");
    let said = site.run(
        "CH_IMAGE=/nonexistent sbatch -W -o out -e err --ch-image=$I --ch-batch=host job >&2; cat out",
    );
    assert_eq!(said.ok(), site.image);
}

#[test]
fn a_script_whose_interpreter_the_image_lacks_is_told_so() {
    let site = site!();
    site.script("job", "#!/usr/bin/python3\nprint(1)\n");
    let said = site.run("sbatch -W -o out --ch-image=$I job >&2; code=$?; cat out; exit $code");
    assert_eq!(said.code, 126, "{said:#?}");
    assert!(
        said.out
            .contains("asks for /usr/bin/python3, which the image"),
        "{said:#?}"
    );
    site.nodes_are_fine();
}

#[test]
fn salloc_passes_its_image_to_its_steps_and_to_its_shell() {
    let site = site!();
    let said = site.run("salloc -n2 --ch-image=$I srun sh -c 'echo $CH_RUNNING'");
    assert_eq!(said.ok(), format!("{0}\n{0}", site.image));
    let said = site.run("SHELL=/bin/sh salloc -n1 --ch-image=$I <<<'echo shell in $CH_RUNNING'");
    assert_eq!(said.ok(), format!("shell in {}", site.image));
}

#[test]
fn a_job_that_a_job_submits_says_what_it_runs_in_and_can_inherit_that() {
    let site = site!();
    let image = &site.image;
    let inner = "sbatch -W -o inner --ch-inherit --wrap 'echo inner in ${CH_RUNNING-host}'";
    site.script(
        "job",
        &format!(
            "#!/bin/sh\n{plain}; cat inner\n{inner}; cat inner\nexport CH_INHERIT=1\n{plain}; cat inner\n{none}; cat inner\n",
            plain = inner.replace(" --ch-inherit", ""),
            none = inner.replace("--ch-inherit", "--ch-image=none"),
        ),
    );
    let said =
        site.run("sbatch -W -o out -e err --ch-image=$I job >&2; grep inner out; cat err >&2");
    assert_eq!(
        said.ok(),
        format!("inner in host\ninner in {image}\ninner in {image}\ninner in host"),
        "{said:#?}"
    );
    let told = |text: &str| said.err.matches(text).count();
    assert_eq!(
        told("the new job runs on the host, and not in"),
        1,
        "{said:#?}"
    );
    assert_eq!(
        told(&format!("the new job runs in {image}")),
        2,
        "{said:#?}"
    );
    // Nor is anything said where nothing is to be confused.
    let said = site.run("salloc --ch-image=$I id -u; salloc --ch-image=$I srun true; salloc id -u");
    assert_eq!(
        said.err.matches("id runs on this machine").count(),
        1,
        "{said:#?}"
    );
    assert_eq!(said.err.matches("runs on").count(), 1, "{said:#?}");
}

#[test]
fn every_element_of_an_array_runs_in_the_container() {
    let site = site!();
    site.script("job", "#!/bin/sh\necho $SLURM_ARRAY_TASK_ID $CH_RUNNING\n");
    let said = site.run("sbatch -W -a 1-3 -o out.%a --ch-image=$I job >&2; cat out.1 out.2 out.3");
    assert_eq!(said.ok(), format!("1 {0}\n2 {0}\n3 {0}", site.image));
}

#[test]
fn malformed_options_are_refused_before_anything_is_queued() {
    let site = site!();
    site.script("job", SCRIPT);
    for (option, reason) in [
        ("--ch-workdir=rel", "must be absolute"),
        ("--ch-bind=:/x", "no source"),
        ("--ch-bind=/a:", "no destination"),
        ("--ch-bind=/a:/b:zz", "not one of ro, rw"),
        ("--ch-set-env==x", "without a name"),
        ("--ch-home=maybe", "neither yes nor no"),
        ("--ch-batch=node", "neither container nor host"),
        ("--ch-writable --ch-overlay=/o", "use only one of"),
    ] {
        for command in ["srun", "sbatch", "salloc"] {
            let said = site.run(&format!("{command} --ch-image=$I {option} ./job"));
            assert_ne!(said.code, 0, "{option}");
            assert_eq!(
                said.err.matches(reason).count(),
                1,
                "{command} {option}: {said:#?}"
            );
            assert!(said.err.contains("hint: "), "{said:#?}");
            assert!(
                !said.out.contains("Submitted") && !said.out.contains("script in"),
                "{said:#?}"
            );
        }
    }
    for command in [
        "srun --ch-image=$I --ch-home yes ./job",
        // sbatch itself says before that there is no such script.
        "salloc --ch-image=$I --ch-writable 2G ./job",
    ] {
        let said = site.run(command);
        assert!(
            said.code != 0 && said.err.contains("the value has to be attached"),
            "{said:#?}"
        );
        assert_eq!(said.out, "", "{said:#?}");
    }
    assert!(site.run("srun --help").out.contains("--ch-home=[yes|no]"));
    let said = site.run("sbatch --ch-image=$I --wrap=true --ch-nonsense=1");
    assert_ne!(said.code, 0);
}
