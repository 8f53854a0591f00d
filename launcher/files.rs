//! The room in which files and directories are made, named, replaced and removed; nobody else does that.
//!
//! | module | what it answers for |
//! |---|---|
//! | [`output`] | what gets its name when it is complete, in place of what had it, which stays whole until then |
//! | [`maker`] | names of what is not complete, which tell who makes it, so that a later run knows what is left over |
//! | [`removal`] | taking trees away: below a descriptor, after asking whether it is still what was noted |
//! | [`own`] | directories that Chariot made for itself: they carry a mark, and only below one is anything swept |
//! | `new_tree`, `paths` | what is made, renamed and taken away in a new directory, on paths of any length |
//! | [`confined`] | a directory as the root of the process that fills it |
//! | [`share`] | one file under two names |
//! | [`space`] | room on a file system, and what to do where there is none |

#![allow(
    clippy::disallowed_methods,
    reason = "this is the room that they are kept to"
)]

#[cfg(feature = "launcher")]
pub mod confined;
#[cfg(feature = "launcher")]
mod look;
#[cfg(feature = "launcher")]
pub mod maker;
#[cfg(feature = "launcher")]
pub(crate) mod new_tree;
#[cfg(feature = "launcher")]
pub mod output;
#[cfg(feature = "launcher")]
pub mod own;
#[cfg(feature = "launcher")]
pub(crate) mod paths;
#[cfg(feature = "launcher")]
pub mod removal;
#[cfg(feature = "launcher")]
pub mod share;
#[cfg(feature = "launcher")]
pub mod space;
#[cfg(feature = "launcher")]
mod sync;

#[cfg(feature = "launcher")]
pub use look::Identity;
#[cfg(feature = "launcher")]
pub(crate) use look::UNFINISHED;
#[cfg(feature = "launcher")]
use look::{is_directory, look, open_directory, open_parent, split, touched};
#[cfg(feature = "launcher")]
pub use output::{Output, write, write_first, write_in};

/// Where an image's mark lies in it. What has none is not taken for an image that Chariot made.
pub const MARK: &str = ".chariot/image.json";
