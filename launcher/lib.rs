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
//! An image that is a file is read by [`image::squashfs`] and served to the kernel by [`serve`], one process
//! for each container, which ends when the kernel unmounts the image.

#[cfg(feature = "launcher")]
pub mod cli;
pub mod config;
pub mod enter;
pub mod error;
pub mod handover;
pub mod host;
pub mod image;
#[cfg(feature = "launcher")]
pub mod log;
pub mod options;
pub mod plan;
#[cfg(feature = "launcher")]
pub mod serve;
/// The numbers of the installed Slurm's plugin interface, empty where it has no headers; build.rs.
pub mod slurm_abi {
    #![allow(missing_docs, reason = "generated")]
    include!(concat!(env!("OUT_DIR"), "/slurm_abi.rs"));
}
pub mod sys;
