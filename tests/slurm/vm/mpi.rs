//! MPI by PMIx, in a Slurm that systemd has started and where each step has a cgroup of its own.

use crate::releases::PMIX;
use crate::steps::{TWO_RANKS, ranks_in};
use crate::{lacks, site, support};

#[test]
fn ranks_meet_and_read_each_others_memory_in_a_directory_and_in_a_file() {
    let site = site!();
    lacks!(site, PMIX);
    let directory = support::images().unwrap().join("debian");
    let file = directory.with_extension("sqfs");
    let command = ranks_in(&site).unwrap();
    for image in [directory, file] {
        let said = site.run(&format!(
            "srun -n2 --mpi=pmix --ch-image={} {command} | sort",
            image.display()
        ));
        assert_eq!(said.ok(), TWO_RANKS, "{said:#?}");
    }
    site.nodes_are_fine();
}
