//! The process that watches the server, and what the two tell the user. They have nothing of the job's to
//! write to; what is to be told goes to the standard error of a process in the container, found by its mount
//! namespace.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, Dir, OFlags, statat};

use super::{Service, answers};
use crate::print;
use chariot_core::escape;
use chariot_core::memory::spare;
use chariot_core::sys::{self, Call, detached, fork, message, namespaces};

/// Who ends a step kills server, watcher and tasks in one go, and nobody is to hear of it. Not longer: who could not read
/// a file is about to end, and the sentence with them.
const WHOLE_STEP: Duration = Duration::from_millis(50);

/// By which the server tells the process that watches it a sentence that the user should read, and its hint.
#[derive(Debug)]
pub(super) struct Complaints(Mutex<Option<UnixStream>>);

impl Complaints {
    /// Tells the user one thing, the first.
    pub(super) fn tell(&self, lines: [&str; 2]) {
        let stream = self
            .0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .take();
        if let Some(mut stream) = stream {
            let [sentence, hint] = lines.map(escape::line);
            let _ = writeln!(stream, "{sentence}\n{hint}");
        }
    }
}

/// In the process that watches: starts the server, passes on its complaint, and says if it was killed.
pub(super) fn run(device: OwnedFd, ready: OwnedFd, hears: &OwnedFd, service: Service) -> u8 {
    let word = service.word.clone();
    let (file, inside) = (service.file.display().to_string(), service.owner.0);
    let Ok((heard, told)) = UnixStream::pair() else {
        return 125;
    };
    let shown = file.clone();
    let server = fork::fork(move || {
        let complaints = Complaints(Mutex::new(Some(told)));
        // Only a name in ps(1).
        let _ = detached::set_name(spare::SERVER);
        detached::set_title(&spare::SERVER.to_string_lossy(), &shown);
        detached::keep_heap_small();
        answers::serve(device, ready, service, complaints)
    });
    let Ok(server) = server else {
        return 125;
    };
    detached::set_title("chariot-watch", &file);
    // None if the container is never made.
    let container = Container::hear(hears, inside).ok().flatten();
    let complaint: Vec<String> = BufReader::new(heard)
        .lines()
        .map_while(io::Result::ok)
        .take(2)
        .collect();
    let tell = |lines: &[&str]| {
        if let Some(container) = &container {
            container.tell(lines);
        }
    };
    if !complaint.is_empty() {
        tell(&complaint.iter().map(String::as_str).collect::<Vec<_>>());
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

/// Its mount namespace, and the host's processes to find one in it.
struct Container {
    namespace: String,
    processes: OwnedFd,
}

impl Container {
    /// Waits until there is one, and then gives up what is not needed to reach it.
    fn hear(hears: &OwnedFd, inside: u32) -> Call<Option<Container>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let processes = sys::open(Path::new("/proc"), flags)?;
        let (namespace, files) = message::receive(hears.as_fd())?;
        let Some(empty) = files.first() else {
            return Ok(None);
        };
        detached::shut_in(empty)?;
        namespaces::no_new_privileges()?;
        match inside {
            // Its processes have capabilities, and the kernel asks for as many of who wants to reach them.
            0 => namespaces::keep_tracing_alone()?,
            _ => namespaces::clear_capabilities()?,
        }
        let namespace = String::from_utf8_lossy(&namespace).into_owned();
        Ok(Some(Container {
            namespace,
            processes,
        }))
    }

    /// Writes to the standard error of a process in it.
    fn tell(&self, lines: &[&str]) {
        let Ok(entries) = Dir::read_from(&self.processes) else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name().to_str().ok();
            let Some(number) = name.and_then(|name| name.parse::<i32>().ok()) else {
                continue;
            };
            let its = mount_namespace(&self.processes, &format!("{number}/ns/mnt"));
            if !its.is_ok_and(|its| its == self.namespace) {
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
}

/// The mount namespace of this process.
pub(super) fn own_mount_namespace() -> io::Result<String> {
    mount_namespace(CWD, "/proc/self/ns/mnt")
}

/// A mount namespace, by device and inode, proc_pid_ns(5).
fn mount_namespace(directory: impl AsFd, path: &str) -> io::Result<String> {
    let data = statat(directory, path, AtFlags::empty())?;
    Ok(format!("{}:{}", data.st_dev, data.st_ino))
}
