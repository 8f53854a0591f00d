//! Chariot's SPANK plugin: `srun --ch-image=IMAGE`.
//!
//! Slurm loads it into srun, sbatch and salloc, where it registers options and refuses malformed
//! ones (`submit`); into slurmstepd, where the tasks of a step meet to make one container and join
//! it (`task`, `creator`); and into slurmd, where it does nothing. `hooks` is what Slurm calls, `spank` what is
//! called of Slurm, and the only module with `unsafe` blocks.

mod abi;
mod asked;
mod audit;
mod components;
mod creator;
mod gpus;
mod hooks;
mod multi_prog;
mod prolog;
mod site;
mod spank;
mod spare;
mod state;
mod submit;
mod task;
mod trusted;
