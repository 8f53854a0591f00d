//! systemd kills what Slurm has of a step, all at once.

use super::life::node_is_back;
use super::root;
use crate::{site, support};

#[test]
#[ignore = "alone: kills steps"]
fn of_a_step_that_systemd_kills_nothing_is_left_and_the_next_one_runs() {
    let site = site!();
    // With which exit status srun ends is the release's affair.
    site.run_while(
        "srun --ch-image=$I.sqfs sh -c 'touch up; while :; do cat /etc/motd >/dev/null; sleep 0.2; done'",
        || {
            let kill = "for scope in $(systemctl list-units --plain --no-legend '*slurmstepd*.scope' | cut -d' ' -f1); do \
                        echo $scope; systemctl kill -s KILL $scope; done";
            assert!(root(kill).ok().contains("slurmstepd"));
            support::until("nothing of the step is left", || {
                root("pgrep -x chariot-serve; pgrep -x chariot-watch").out.is_empty()
            });
            // Slurm would find out by itself, some minutes later.
            root("scancel --user chariot-test").ok();
        },
    );
    root("systemctl restart slurmd").ok();
    node_is_back(&site);
    assert_eq!(
        site.run("srun --ch-image=$I.sqfs cat /etc/motd").ok(),
        "an image in a file"
    );
    site.nodes_are_fine();
}
