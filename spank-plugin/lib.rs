//! Chariot's SPANK plugin: `srun --ch-image=IMAGE`.
//!
//! Slurm loads it into srun, sbatch and salloc, where it registers options and refuses malformed
//! ones (`submit`); into slurmstepd, where the tasks of a step meet to make one container and join
//! it (`task`, `creator`); and into slurmd, where it does nothing. `spank` is the boundary to Slurm, and the
//! only module that may be `unsafe`.

mod abi;
mod audit;
mod components;
mod creator;
mod gpus;
mod multi_prog;
mod prolog;
mod site;
mod spank;
mod spare;
mod state;
mod submit;
mod task;
mod trusted;
