//! What is said matches what happened: who is cancelled hears of no accident.

use std::panic::AssertUnwindSafe;

use crate::failures::with_launcher;
use crate::{Site, site, support};

/// Whether Chariot said anything but what Slurm itself says of the plugin.
#[track_caller]
fn chariot_is_silent(said: &str) {
    assert!(
        !said.contains("chariot:") && !said.contains("memory"),
        "{said}"
    );
}

/// Runs a batch job in the image until its step is up, then does `end`, and gives what the job said.
fn ended(site: &Site, end: &str) -> String {
    site.script(
        "job",
        "#!/bin/sh\nrm -f up\nsrun --overlap sh -c 'touch up; exec sleep 100'\n",
    );
    let said = site.run(&format!(
        "rm -f up; sbatch -J told -o out --ch-image=$I job >&2; until [ -e up ]; do sleep 0.1; done; \
         {end}; until [ -z \"$(squeue -h -n told -u $(id -u))\" ]; do sleep 0.1; done; cat out"
    ));
    said.ok().to_owned()
}

#[test]
fn a_job_that_is_cancelled_while_srun_runs_inside_hears_of_no_accident() {
    let site = site!();
    for _ in 0..4 {
        chariot_is_silent(&ended(&site, "scancel -n told"));
        chariot_is_silent(&ended(&site, "scancel -s KILL -b -n told"));
        chariot_is_silent(&ended(&site, "scancel -f -s KILL -n told"));
    }
    site.nodes_are_fine();
}

#[test]
#[ignore = "alone: replaces the launcher"]
fn a_step_that_is_asked_to_end_while_its_container_is_made_ends_by_that_and_says_nothing() {
    let site = AssertUnwindSafe(site!());
    for (signal, code) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        with_launcher(Some(&format!("#!/bin/sh\nkill -{signal} $$\n")), || {
            let said = site.run("srun --ch-image=$I echo RAN");
            assert_eq!(said.code, code, "{said:#?}");
            assert!(said.out.is_empty(), "{said:#?}");
            chariot_is_silent(&said.err);
        });
    }
    // Killed with all of its step.
    with_launcher(
        Some(
            "#!/bin/sh\n(sleep 0.1; kill -9 $0) >/dev/null 2>&1 & kill -9 $$\n"
                .replace("$0", "$PPID")
                .as_str(),
        ),
        || {
            let said = site.run("srun --ch-image=$I echo RAN");
            assert_ne!(said.code, 0, "{said:#?}");
            assert!(said.out.is_empty(), "{said:#?}");
            chariot_is_silent(&said.err);
        },
    );
    // An accident is told.
    with_launcher(Some("#!/bin/sh\nkill -BUS $$\n"), || {
        let said = site.run("srun --ch-image=$I echo RAN");
        assert_eq!(said.code, 125, "{said:#?}");
        assert!(said.err.contains("was killed by SIGBUS"), "{said:#?}");
    });
}

#[test]
#[ignore = "alone: kills the agents of this user"]
fn who_is_killed_with_the_agent_says_nothing_of_it() {
    let site = site!();
    if support::user().is_none() {
        return;
    }
    site.script(
        "both",
        "#!/bin/sh\nsrun --overlap -n1 sh -c 'touch up; exec sleep 100' 2>err & srun=$!\n\
         until [ -e up ]; do sleep 0.1; done\n\
         kill -9 $(pgrep -x chariot-agent); sleep 0.1; kill -9 $srun; wait; cat err\n",
    );
    let said = site.run("srun -n1 --ch-image=$I ./both");
    chariot_is_silent(&said.out);
}
