//! What the tests share: skipping by name, running a command as an ordinary user, images.

#![allow(dead_code, reason = "each test program uses a part")]

pub(crate) mod examples;
pub(crate) mod registry;
pub(crate) mod users;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// Ends a test that this machine cannot run. With `CHARIOT_MUST_WORK=1` that is a failure.
#[macro_export]
macro_rules! skip {
    ($why:expr) => {{
        assert!(
            std::env::var_os("CHARIOT_MUST_WORK").is_none(),
            "CHARIOT_MUST_WORK is set, and this test cannot run: {}",
            $why
        );
        eprintln!("skipped: {}", $why);
        return;
    }};
}

/// What a command said and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    /// Standard output.
    pub(crate) out: String,
    /// Standard error.
    pub(crate) err: String,
    /// The exit status; 128 and more for signals.
    pub(crate) code: i32,
}

impl Said {
    /// Asserts success and gives standard output without the last newline.
    #[track_caller]
    pub(crate) fn ok(&self) -> &str {
        assert_eq!(self.code, 0, "{self:#?}");
        self.out.trim_end()
    }

    /// Standard error without what root is told who runs an image, as whoever runs these tests may be.
    pub(crate) fn complaints(&self) -> String {
        let is_for_root = |line: &str| {
            line.contains("as root on this machine") || line.contains("run by an ordinary user")
        };
        let lines = self.err.lines().filter(|line| !is_for_root(line));
        lines.map(|line| format!("{line}\n")).collect()
    }

    /// Asserts that it ended with `code` and told `sentence` on standard error, so often, with a hint.
    #[track_caller]
    pub(crate) fn failed(&self, code: i32, sentence: &str, times: usize) {
        assert_eq!(self.code, code, "{self:#?}");
        assert_eq!(
            self.err.matches(sentence).count(),
            times,
            "{sentence}: {self:#?}"
        );
        assert!(self.err.contains("hint: "), "{self:#?}");
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Said {
        Said {
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
            code: output.status.code().unwrap_or(255),
        }
    }
}

/// The ordinary user that `tests/run` made; the caller itself where nobody is root.
pub(crate) fn user() -> Option<String> {
    std::env::var("CHARIOT_TEST_USER").ok()
}

/// The directory in which `tests/run` prepared images.
pub(crate) fn images() -> Option<PathBuf> {
    std::env::var_os("CHARIOT_TEST_IMAGES").map(PathBuf::from)
}

/// The small image.
pub(crate) fn busybox() -> Option<String> {
    images().map(|images| images.join("busybox").to_string_lossy().into_owned())
}

/// A directory of the user's own for one test, removed at its end.
pub(crate) fn scratch() -> tempfile::TempDir {
    let parent =
        std::env::var_os("CHARIOT_TEST_SCRATCH").map_or_else(std::env::temp_dir, PathBuf::from);
    let place = tempfile::Builder::new()
        .prefix("chariot-test.")
        .tempdir_in(parent)
        .unwrap();
    if let Some(user) = user() {
        let status = Command::new("chown")
            .arg(format!("{user}:"))
            .arg(place.path())
            .status();
        assert!(status.unwrap().success());
    }
    place
}

/// How often as long as on a machine of its own something may take here: an emulated processor is slow.
pub(crate) fn patience() -> u32 {
    let patience = std::env::var("CHARIOT_TEST_PATIENCE").ok();
    patience.and_then(|word| word.parse().ok()).unwrap_or(1)
}

/// Runs a shell script as the ordinary user in `directory`, for at most two minutes, or as many times that as `patience` says.
pub(crate) fn shell(script: &str, directory: &Path, variables: &[(&str, &str)]) -> Said {
    shell_as(user().as_deref(), script, directory, variables)
}

/// The same as another user, or as whoever runs the tests.
pub(crate) fn shell_as(
    user: Option<&str>,
    script: &str,
    directory: &Path,
    variables: &[(&str, &str)],
) -> Said {
    let mut command = Command::new("timeout");
    command.args(["-k", "5", &(120 * patience()).to_string()]);
    if let Some(user) = user {
        // runuser(1) has its own idea of HOME.
        let home = format!("HOME={}", directory.display());
        command.args(["runuser", "-u", user, "--", "env", &home]);
    }
    command
        .args(["bash", "-c", script])
        .current_dir(directory)
        .env_clear();
    command.env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin");
    command.env("HOME", directory).env("PWD", directory);
    command.envs(variables.iter().copied());
    command
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap()
        .into()
}

/// Waits until something is so, for a minute at most, or as many as `patience` says: the machine may be busy with other
/// tests. A test that slept for what usually is enough would fail there.
#[track_caller]
pub(crate) fn until(what: &str, is_so: impl Fn() -> bool) {
    let most = Duration::from_secs(60) * patience();
    let deadline = Instant::now() + most;
    while !is_so() {
        assert!(Instant::now() < deadline, "not in {most:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A function of a script: the user's servers of the image files whose path begins so. Nobody may look which files they
/// have open; ps(1) shows it.
pub(crate) const SERVERS: &str = "servers() { pgrep -u $(id -u) -f \"^chariot-serve $1\"; }; ";

/// The servers of an image file that are running on this machine. Where there was little room for it, only the end of
/// its path is shown.
pub(crate) fn servers(image: &str) -> Vec<u32> {
    let serves = |process: &Path| {
        let title = std::fs::read(process.join("cmdline")).unwrap_or_default();
        let title = String::from_utf8_lossy(&title).into_owned();
        let shown = title.trim_end_matches('\0').strip_prefix("chariot-serve ");
        shown.is_some_and(|shown| !shown.is_empty() && image.ends_with(shown))
    };
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter(|process| serves(&process.path()))
        .filter_map(|process| process.file_name().to_str()?.parse().ok())
        .collect()
}
