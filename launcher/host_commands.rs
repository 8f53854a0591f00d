//! Slurm's commands in a container: `srun` inside starts the host's `srun` outside.
//!
//! ```text
//!        in the container                          outside, one for each container
//! srun ─► chariot, called as srun  ── socket ──►  chariot-agent ──► /usr/bin/srun
//!         arguments, variables,                    the user's process, with the
//!         directory, descriptors, signals          host's files and libraries
//! ```
//!
//! No Slurm has to be in the image, and no library of the host comes in. The agent is started before the container is
//! made and ends with the step. Its socket lies in a file system of the container's own, which no path outside leads to.
//! The command gets the very terminal, pipes and files that its caller has, as descriptors; what is forwarded is signals.

mod agent;
pub mod call;
mod caller;
mod command;
mod environment;

pub use agent::Agent;
pub use caller::{is_called, main};
