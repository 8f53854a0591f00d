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
//! | room | what it answers for |
//! |---|---|
//! | [`cli`], [`ch_run`] | the command line, and another tool's |
//! | [`locate`] | what the word for an image names, and getting from there to an image that can be run in |
//! | [`image`] | reading images, SquashFS among them |
//! | [`registry`], [`convert`], [`cache`] | fetching layers, making one file or a tree of them, and of all nodes that want it one does the work |
//! | [`oci`] | what images of OCI and Docker say of themselves, and what they are called |
//! | [`cdi`] | what a device needs: mounts and variables |
//! | [`host`] | who is asking |
//! | [`plan`], [`mount`] | what will be done |
//! | [`enter`] | doing it, on one page |
//! | [`running`] | which containers there are, on this node and on a job's |
//! | [`serve`] | an image's server, which ends when the kernel unmounts the image |
//! | [`host_commands`] | commands of the host that are called inside and run outside |
//! | [`files`] | making, naming and removing files |
//! | [`work`], [`threads`] | long work in a process of its own; threads |
//! | [`mod@print`], [`log`] | the only place that prints; messages |
//!
//! What the Slurm plugin has too is [`chariot_core`]: options, configuration, handover, joining and the system calls.

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
pub mod running;
pub mod serve;
pub mod threads;
pub mod work;
