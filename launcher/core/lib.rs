//! What Chariot's launcher and its Slurm plugin share, and all of Chariot that runs in slurmd, slurmstepd, srun and sbatch
//! beside the plugin itself.
//!
//! | room | what it answers for |
//! |---|---|
//! | [`options`] | what can be asked for: one table of options, and the uses of them |
//! | [`edf`] | options in a file that users share |
//! | [`config`], [`arguments`] | the site's file; what plugstack.conf gives the plugin |
//! | [`environment`] | variables, and changes of them |
//! | [`handover`], [`text`] | what one process of Chariot's says to another |
//! | [`join`] | joining a container that another process has made |
//! | [`trusted`], [`sif`] | which image files root may have the kernel mount, and which bytes of them |
//! | [`memory`] | limits of memory, and whom the kernel kills where it runs out |
//! | [`private`](mod@private), [`open`], [`seldom`] | whose a directory is; opening what others named; saying something once an hour |
//! | [`places`] | the directories in which a job was asked for |
//! | [`users`] | the user database |
//! | [`error`], [`escape`] | sentences, and what may be in them |
//! | [`sys`] | system calls, and nothing else is `unsafe` |
//!
//! No code here may panic, start a thread or print: what Slurm loads lives in its processes.

#![cfg_attr(
    test,
    allow(clippy::disallowed_methods, reason = "tests make what they need")
)]

pub mod arguments;
pub mod config;
pub mod edf;
pub mod environment;
pub mod error;
pub mod escape;
pub mod handover;
pub mod join;
pub mod memory;
pub mod near;
pub mod open;
pub mod options;
pub mod places;
pub mod private;
pub mod seldom;
pub mod sif;
pub mod sys;
pub mod text;
pub mod trusted;
pub mod users;
