//! Programs of MPI that are about to start as many programs of one rank each, since nobody connects them.

use std::path::Path;

use crate::cdi::elf;
use crate::plan::Plan;
use crate::plan::environment::is_of_starter;
use chariot_core::environment::find;

/// What to do.
pub(super) const ADVICE: &str = "srun --mpi=pmix for Open MPI, --mpi=pmi2 for MPICH and its relatives; `chariot check IMAGE` says which fits both";

/// The sentence, where a step of several tasks runs a program that asks for MPI, and Slurm was not told to connect them. Of a
/// step's nodes the first says it. An interpreter's modules are not seen here.
pub(super) fn alone(plan: &Plan, program: &Path) -> Option<String> {
    let variable = |name: &str| find(&plan.before, name)?.to_str();
    let tasks: u32 = variable("SLURM_STEP_NUM_TASKS")?.parse().ok()?;
    let is_asked = plan.task.is_of_step && tasks > 1 && variable("SLURM_NODEID") == Some("0");
    let mut names = plan.before.iter().map(|(name, _)| name.to_string_lossy());
    let is_connected = names.any(|name| is_of_starter(&name));
    if !is_asked || is_connected {
        return None;
    }
    let needed = elf::needed(program);
    let library = needed.iter().find(|name| is_of_mpi(name))?;
    Some(format!(
        "{} is a program of MPI ({library}), and nothing connects these {tasks} tasks: each will take itself for rank 0 of 1",
        program.display()
    ))
}

/// Open MPI's, MPICH's and their relatives' libraries: for C, for Fortran.
fn is_of_mpi(library: &str) -> bool {
    let rest = library.strip_prefix("libmpi");
    rest.is_some_and(|rest| rest.contains(".so"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_of_mpi_are_known_by_their_names() {
        for (name, is_one) in [
            ("libmpi.so.40", true),
            ("libmpi.so.12", true),
            ("libmpich.so.12", true),
            ("libmpi_mpifh.so.40", true),
            ("libmpifort.so.12", true),
            ("libmp.so.1", false),
            ("libmpfr.so.6", false),
            ("libc.so.6", false),
        ] {
            assert_eq!(is_of_mpi(name), is_one, "{name}");
        }
    }
}
