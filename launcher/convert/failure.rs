//! What went wrong with a source or a target: which of its names, and whose fault it was.

use std::io;

pub(super) fn changed() -> io::Error {
    io::Error::other("its files changed while it was read")
}

/// What the system said of a file or directory of the target.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {}", chariot_core::error::io_reason(&io::Error::from_raw_os_error(*.number)))]
pub(super) struct NotWritten {
    pub(super) path: String,
    pub(super) number: i32,
}

/// What is wrong with an image that is read, and what to do about it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{text}")]
pub(super) struct NotRead {
    pub(super) text: String,
    pub(super) advice: &'static str,
}

/// Puts a member's path in front of what is wrong with it.
pub(super) fn within(path: &[u8], error: &io::Error) -> io::Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    if let Some(NotRead { text, advice }) = inner {
        let text = format!("{}: {text}", shown(path));
        return io::Error::new(error.kind(), NotRead { text, advice });
    }
    let reason = chariot_core::error::innermost(error);
    io::Error::new(error.kind(), format!("{}: {reason}", shown(path)))
}

/// The most of a path that a message has, in bytes: an image's can be a mebibyte long.
const LONGEST_SHOWN: usize = 1000;

/// A path for a message: its beginning and its end, if it is very long.
pub(super) fn shown(path: &[u8]) -> String {
    match path.len() {
        0..=LONGEST_SHOWN => String::from_utf8_lossy(path).into_owned(),
        length => {
            let (start, end) = (
                &path[..LONGEST_SHOWN / 2],
                &path[length - LONGEST_SHOWN / 2..],
            );
            let [start, end] = [start, end].map(String::from_utf8_lossy);
            format!("{start}...{end}")
        }
    }
}

/// Puts a name of the target in front of what the system says.
pub(super) fn named(path: &[u8], error: &io::Error) -> io::Error {
    let Some(number) = error.raw_os_error() else {
        let reason = chariot_core::error::io_reason(error);
        return io::Error::new(error.kind(), format!("{}: {reason}", shown(path)));
    };
    let path = shown(path);
    io::Error::new(error.kind(), NotWritten { path, number })
}
