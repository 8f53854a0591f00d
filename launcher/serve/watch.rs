//! The process that watches the server, and what the two tell the user. They have nothing of the job's to
//! write to; what is to be told goes to the standard error of a process in the container, found by its mount
//! namespace.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::time::Duration;

use super::{Service, answers};
use crate::escape;
use crate::print;
use crate::sys::{detached, fork};

/// Who ends a step kills server, watcher and tasks in one go, and nobody is to hear of it. Not longer: who could not read
/// a file is about to end, and the sentence with them.
const WHOLE_STEP: Duration = Duration::from_millis(50);

/// What the server tells the process that watches it: first the container's mount namespace, then one line
/// that the user should read.
#[derive(Debug)]
pub(super) struct Complaints(Mutex<Option<UnixStream>>);

impl Complaints {
    /// Says which mount namespace the container has.
    pub(super) fn namespace(&self, namespace: &str) {
        if let Some(stream) = self
            .0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .as_mut()
        {
            // Without its watcher the server serves on.
            let _ = writeln!(stream, "{namespace}");
        }
    }

    /// Tells the user one thing, the first.
    pub(super) fn tell(&self, text: &str) {
        let stream = self
            .0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .take();
        if let Some(mut stream) = stream {
            let _ = writeln!(stream, "{}", escape::line(text));
        }
    }
}

/// In the process that watches: starts the server, passes on its complaint, and says if it was killed.
pub(super) fn run(device: OwnedFd, ready: OwnedFd, service: Service) -> u8 {
    let word = service.word.clone();
    let Ok((heard, told)) = UnixStream::pair() else {
        return 125;
    };
    let server = fork::fork(move || {
        let complaints = Complaints(Mutex::new(Some(told)));
        // Only a name in ps(1).
        let _ = detached::set_name(c"chariot-serve");
        detached::keep_heap_small();
        answers::serve(device, ready, service, complaints)
    });
    let Ok(server) = server else {
        return 125;
    };
    let mut lines = BufReader::new(heard).lines().map_while(io::Result::ok);
    let namespace = lines.next();
    let complaint = lines.next();
    let tell = |lines: &[&str]| {
        if let Some(namespace) = &namespace {
            tell(namespace, lines);
        }
    };
    if let Some(complaint) = complaint {
        tell(&[&complaint]);
    }
    if let Some(signal) = server.killed_by() {
        std::thread::sleep(WHOLE_STEP);
        let killed = format!(
            "chariot: the server of the image {word} was killed by signal {signal}: its files cannot be \
             read any more"
        );
        let hint = "chariot: hint: was it the memory limit of the job, or somebody's kill -9? Start the container again";
        tell(&[&killed, hint]);
    }
    0
}

/// A process's mount namespace, by device and inode, proc_pid_ns(5).
pub(super) fn mount_namespace(process: &str) -> io::Result<String> {
    let data = fs::metadata(format!("/proc/{process}/ns/mnt"))?;
    Ok(format!("{}:{}", data.dev(), data.ino()))
}

/// Writes to the standard error of a process in that mount namespace.
fn tell(namespace: &str, lines: &[&str]) {
    let Ok(processes) = fs::read_dir("/proc") else {
        return;
    };
    for process in processes.flatten() {
        let name = process.file_name();
        let Some(number) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        if !mount_namespace(&number.to_string()).is_ok_and(|its| its == namespace) {
            continue;
        }
        let Ok(error) = detached::descriptor_of(number, 2) else {
            continue;
        };
        if print::elsewhere(File::from(error), lines).is_ok() {
            return;
        }
    }
}
