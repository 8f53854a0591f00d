//! What the user reads when something fails: one sentence, and a hint what to do.

use std::fmt;
use std::io;
use std::panic::AssertUnwindSafe;

use nix::errno::Errno;

/// How a failed launch ends, so that a script can tell the container's failure from the program's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// The container could not be had.
    Container = 125,
    /// The command is there and cannot be run.
    CannotRun = 126,
    /// The command is not in the container.
    NotFound = 127,
}

impl Exit {
    /// The one with this exit status, or the container's.
    pub fn of(code: u8) -> Exit {
        [Exit::CannotRun, Exit::NotFound]
            .into_iter()
            .find(|exit| exit.code() == code)
            .unwrap_or(Exit::Container)
    }

    /// The exit status, as wait(2) reports it.
    pub fn code(self) -> u8 {
        self as u8
    }
}

/// A failure as it is told to the user: what could not be done and why, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{sentence}")]
pub struct Error {
    sentence: String,
    hint: Option<String>,
    exit: Exit,
    told: bool,
}

/// The result of everything that can fail in front of a user.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A failure told by `sentence`: lower case, no full stop, paths as the user typed them.
    pub fn new(sentence: impl Into<String>) -> Self {
        Error {
            sentence: sentence.into(),
            hint: None,
            exit: Exit::Container,
            told: false,
        }
    }

    /// The same with what the user can do. An earlier hint is kept: it was nearer to the cause.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint.get_or_insert(hint.into());
        self
    }

    /// The same with another hint, of somebody who knows more.
    #[must_use]
    pub fn hinted_anew(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same with another exit status than 125.
    #[must_use]
    pub fn exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// The same with what it kept from being done in front: `can't read the request: …`.
    #[must_use]
    pub fn within(mut self, what: &str) -> Self {
        self.sentence = format!("{what}: {}", self.sentence);
        self
    }

    /// The same, which somebody else tells the user.
    #[must_use]
    pub fn told_elsewhere(mut self) -> Self {
        self.told = true;
        self
    }

    /// Whether the user hears of it from somebody else.
    pub fn is_told_elsewhere(&self) -> bool {
        self.told
    }

    /// The exit status that this failure ends in.
    pub fn exit_code(&self) -> u8 {
        self.exit.code()
    }

    /// What to do, if there is something.
    pub fn advice(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

/// A system call that failed, written the way strace(1) would write it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallError {
    call: String,
    errno: Errno,
}

impl CallError {
    /// `call` is the call with its arguments, as strace(1) would print it.
    pub fn new(call: impl Into<String>, errno: Errno) -> Self {
        CallError {
            call: call.into(),
            errno,
        }
    }

    /// What the kernel answered.
    pub fn errno(&self) -> Errno {
        self.errno
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.call, self.errno.desc())
    }
}

impl std::error::Error for CallError {}

/// Puts in front of a failed call what it was meant to achieve.
pub trait Explain<T> {
    /// `what` says what could not be done: `can't bind /scratch to /mnt`.
    fn explain(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Explain<T> for std::result::Result<T, CallError> {
    fn explain(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| {
            let told = Error::new(format!("{}: {error}", what()));
            match general_hint(&error) {
                Some(hint) => told.hint(hint),
                None => told,
            }
        })
    }
}

impl<T> Explain<T> for io::Result<T> {
    fn explain(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| {
            let told = Error::new(format!("{}: {}", what(), io_reason(&error)));
            match general_advice(&error) {
                Some(hint) => told.hint(hint),
                None => told,
            }
        })
    }
}

/// What is to be done about an I/O error, wherever it comes from.
pub fn general_advice(error: &io::Error) -> Option<&'static str> {
    if let Some(call) = error.get_ref().and_then(|inner| inner.downcast_ref()) {
        return general_hint(call);
    }
    let errno = error.raw_os_error().map(Errno::from_raw)?;
    general_hint(&CallError::new("", errno))
}

/// Runs `work` in a thread for which somebody waits: a panic there, which is a mistake in this program, is an error, so
/// that nobody waits for ever, or takes what is missing for the end.
pub fn caught<T>(work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let result = std::panic::catch_unwind(AssertUnwindSafe(work));
    result.unwrap_or_else(|_| {
        Err(io::Error::other(
            "a thread of Chariot panicked, please report it",
        ))
    })
}

/// The text of an I/O error without Rust's "(os error 2)".
pub fn io_reason(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => Errno::from_raw(number).desc().to_owned(),
        None => error.to_string(),
    }
}

/// The reason at the bottom of an I/O error: libraries wrap it into what they were doing, with paths of their
/// own view.
pub fn innermost(error: &io::Error) -> String {
    let mut source: &dyn std::error::Error = error;
    while let Some(inner) = source.source() {
        source = inner;
    }
    match source.downcast_ref::<io::Error>() {
        Some(inner) => io_reason(inner),
        None => source.to_string(),
    }
}

/// Hints for answers of the kernel that mislead, whatever was being done.
fn general_hint(error: &CallError) -> Option<&'static str> {
    let call = error.call.split('(').next().unwrap_or_default();
    match (call, error.errno) {
        ("unshare", Errno::ENOSPC) => Some(
            "user namespaces are off or used up on this machine (sysctl user.max_user_namespaces); \
             `chariot check` says what the administrator can do",
        ),
        ("unshare" | "write", Errno::EPERM | Errno::EACCES) => Some(
            "this machine does not let ordinary users make user namespaces; `chariot check` says \
             which setting forbids it",
        ),
        (_, Errno::ENOSYS) => Some("Chariot needs Linux 5.14 or newer"),
        (_, Errno::EIO) => {
            Some("the disk or the file server that this is on fails: tell your administrator")
        }
        (_, Errno::ESTALE) => Some("the file server that this is on has lost it: try again"),
        (_, Errno::EDQUOT) => Some("your quota on the file system that this is on is used up"),
        (_, Errno::EMFILE) => Some("you may not open more files here: `ulimit -n` is the limit"),
        ("statx" | "openat2", Errno::ENOTCONN | Errno::ECONNABORTED)
        | ("sendmsg", Errno::EPIPE) => Some(
            "the process that was to answer has ended: was it killed? limits on memory and on processes \
                 (`ulimit -u`) hold for it too",
        ),
        ("fork" | "clone", Errno::EAGAIN) => Some(
            "you may not start more processes here: `ulimit -u` is a limit, a job may have its own",
        ),
        ("move_mount" | "open_tree" | "mount" | "fsmount", Errno::ENOSPC) => {
            Some("too many mounts for one namespace (sysctl fs.mount-max)")
        }
        (_, Errno::ENOSPC) => Some("the file system that this is on is full"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_call_reads_as_sentence_call_and_reason() {
        let call = CallError::new("mount(\"/scratch\", \"/mnt\", MS_BIND)", Errno::ENOENT);
        let error = Err::<(), _>(call)
            .explain(|| "can't bind /scratch to /mnt".into())
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "can't bind /scratch to /mnt: mount(\"/scratch\", \"/mnt\", MS_BIND): \
             No such file or directory"
        );
        assert_eq!(error.exit_code(), 125);
    }

    #[test]
    fn user_namespaces_used_up_are_named_as_such() {
        let call = CallError::new("unshare(CLONE_NEWUSER)", Errno::ENOSPC);
        let error = Err::<(), _>(call)
            .explain(|| "can't create a container".into())
            .unwrap_err();
        assert!(error.advice().unwrap().contains("user.max_user_namespaces"));
    }

    #[test]
    fn limits_that_a_user_can_raise_are_named() {
        for (call, errno, limit) in [
            ("open_tree(\"etc\")", Errno::EMFILE, "ulimit -n"),
            ("fork()", Errno::EAGAIN, "ulimit -u"),
        ] {
            let failed = Err::<(), _>(CallError::new(call, errno));
            let error = failed.explain(|| "can't".into()).unwrap_err();
            assert!(error.advice().unwrap().contains(limit), "{error}");
        }
    }

    #[test]
    fn the_hint_nearest_to_the_cause_stays() {
        let error = Error::new("x").hint("near").hint("far");
        assert_eq!(error.advice(), Some("near"));
    }
}
