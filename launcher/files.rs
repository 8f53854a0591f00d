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

pub mod confined;
mod look;
pub mod maker;
pub(crate) mod new_tree;
pub mod output;
pub mod own;
pub(crate) mod paths;
pub mod removal;
pub mod share;
pub mod space;
mod sync;

pub use look::Identity;
pub(crate) use look::UNFINISHED;
use look::{is_directory, look, open_directory, open_parent, split, touched};
pub use output::{Output, make_private, write, write_first, write_in, write_secret};

/// Where an image's mark lies in it. What has none is not taken for an image that Chariot made.
pub const MARK: &str = ".chariot/image.json";
