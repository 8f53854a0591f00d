//! Chariot puts a command, or every task of a Slurm job, into a container of the user's choice: user
//! and mount namespaces only, so the kernel is the boundary, and nothing privileged is installed.
//!
//! What happens, in this order:
//!
//! ```text
//! command line, srun's options, CH_* variables ──► Options ──► Image ─┐
//!                     Config (the site), Host (who is asking) ────────┴─► Plan
//!                                                                         │
//!   chariot run:  enter::create(&plan), then exec of the command          │
//!   in Slurm:     the step's first task executes `chariot`, which creates;┘
//!                 every task joins; Slurm executes the command
//! ```
//!
//! What is no image to be run in yet becomes one in the [`cache`]: [`registry`] fetches layers, [`convert`] makes
//! SquashFS of them, or of an archive, and of all nodes that want it one does the work.
//!
//! What a device needs, by the Container Device Interface, is mounts and variables of the plan: [`cdi`].
//!
//! In a job, commands of the host that are called inside run outside: [`host_commands`].
//!
//! An image that is a file is read by [`image::squashfs`] and served to the kernel by [`serve`], one process
//! for each container, which ends when the kernel unmounts the image.

#![cfg_attr(
    test,
    allow(clippy::disallowed_methods, reason = "tests make what they need")
)]

pub mod cache;
pub mod cdi;
pub mod ch_run;
pub mod cli;
pub mod convert;
pub mod enter;
pub mod files;
pub mod host;
pub mod host_commands;
pub mod image;
pub mod locate;
pub mod log;
pub mod mount;
pub mod oci;
pub mod plan;
pub mod print;
pub mod registry;
pub mod serve;
pub mod threads;
pub mod work;
