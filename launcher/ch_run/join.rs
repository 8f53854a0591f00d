//! `--join`: the tasks of a step on a node share one container. The first to come makes it and leaves a process behind
//! that hands its namespaces to the others, through a socket in Linux's abstract names: nothing in /dev/shm, nothing
//! that a killed task would leave. Another user can take such a name first; the kernel says who is at its other end.

use chariot_core::sys::rights;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::time::{Duration, Instant};

use clap::ArgMatches;

use crate::enter::Entered;
use crate::host::Host;
use chariot_core::error::{Error, Explain, Result};
use chariot_core::sys::namespaces::{self, Namespaces};
use chariot_core::sys::{detached, message, process, sharing};

/// How long the others wait for the first, and the process that it leaves behind for the others.
const PATIENCE: Duration = Duration::from_secs(30);

const CANT_LET_IN: &str = "can't let others join";

const PAUSE: Duration = Duration::from_millis(5);

/// Whose turn it is.
pub(super) enum Turn {
    /// This process makes the container.
    First(Room),
    /// Another has made it.
    Later(Namespaces),
}

/// Where the others wait.
pub(super) struct Room {
    listener: UnixListener,
    others: u32,
}

pub(super) fn is_wanted(matches: &ArgMatches) -> bool {
    matches.get_flag("join") || matches.contains_id("join-ct") || matches.contains_id("join-tag")
}

/// Takes the name, or waits for the one who has it.
pub(super) fn meet(matches: &ArgMatches, host: &Host) -> Result<Turn> {
    let what = || "can't join".to_owned();
    let count = count(matches, host).ok_or_else(|| {
        Error::new("join: no valid peer group size found")
            .hint("--join-ct=N says how many tasks share a container")
    })?;
    let address = SocketAddr::from_abstract_name(name(matches, host)).explain(what)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match UnixListener::bind_addr(&address) {
            Ok(listener) => {
                return Ok(Turn::First(Room {
                    listener,
                    others: count.saturating_sub(1),
                }));
            }
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(error).explain(what),
        }
        if let Ok(stream) = UnixStream::connect_addr(&address) {
            return receive(&stream, host).map(Turn::Later);
        }
        if Instant::now() >= deadline {
            return Err(Error::new(format!(
                "join: waited {} seconds for another task",
                PATIENCE.as_secs()
            )));
        }
        std::thread::sleep(PAUSE);
    }
}

fn receive(stream: &UnixStream, host: &Host) -> Result<Namespaces> {
    let what = || "can't join".to_owned();
    let peer = message::user_of_peer(stream).explain(what)?;
    if peer != host.uid {
        return Err(
            Error::new(format!("can't join: the name is taken by user {peer}"))
                .hint("--join-tag=TAG takes another name"),
        );
    }
    stream.set_read_timeout(Some(PATIENCE)).explain(what)?;
    let [user, mount] = sharing::receive_from(stream.as_fd()).explain(what)?;
    Ok(Namespaces { user, mount })
}

impl Room {
    /// Leaves a process behind that lets the others in, once the container is made. To be called before that: inside,
    /// all users but one have the same number, and who connects could not be told from the user.
    pub(super) fn open(self) -> Result<Door> {
        let what = || CANT_LET_IN.to_owned();
        if self.others == 0 {
            return Ok(Door(None));
        }
        let (go, ready) = sharing::pair().explain(what)?;
        let keep = vec![self.listener.as_raw_fd(), ready.as_raw_fd()];
        let work = move || {
            if namespaces::no_new_privileges().is_err() {
                return 1;
            }
            match sharing::receive_from(ready.as_fd()) {
                Ok([user, mount]) => self.serve(&Namespaces { user, mount }),
                // There is no container.
                Err(_) => 0,
            }
        };
        detached::start(c"ch-run-join", keep, work).explain(what)?;
        Ok(Door(Some(go)))
    }

    fn serve(&self, namespaces: &Namespaces) -> u8 {
        let deadline = Instant::now() + PATIENCE;
        let mut left = self.others;
        let _ = self.listener.set_nonblocking(true);
        while left > 0 && Instant::now() < deadline {
            match message::accept(self.listener.as_fd()) {
                Ok(Some((stream, user))) if user == rights::user() => {
                    // One who went away again needs nothing.
                    let _ = sharing::send(
                        stream.as_fd(),
                        &[namespaces.user.as_fd(), namespaces.mount.as_fd()],
                    );
                    left -= 1;
                }
                // Somebody else, who gets nothing and counts for nobody.
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => std::thread::sleep(PAUSE),
            }
        }
        0
    }
}

/// Behind it the others wait.
pub(super) struct Door(Option<OwnedFd>);

impl Door {
    /// The container is made, and this process is in it.
    pub(super) fn let_in(self, entered: &Entered) -> Result<()> {
        let what = || CANT_LET_IN.to_owned();
        let Some(go) = self.0 else { return Ok(()) };
        let namespaces = Namespaces::in_directory(&entered.process).explain(what)?;
        let files = [namespaces.user.as_fd(), namespaces.mount.as_fd()];
        sharing::send(go.as_fd(), &files).explain(what)
    }
}

fn text_of(host: &Host, name: &str) -> Option<String> {
    let value = host.variable(name)?;
    Some(value.to_string_lossy().into_owned())
}

/// By user, job and step, where Charliecloud has the step alone.
fn name(matches: &ArgMatches, host: &Host) -> String {
    let variable = |name: &str| text_of(host, name);
    let tag = matches.get_one::<String>("join-tag").cloned();
    let tag = tag.or_else(|| {
        Some(format!(
            "{}.{}",
            variable("SLURM_JOB_ID").unwrap_or_default(),
            variable("SLURM_STEP_ID")?
        ))
    });
    let tag = tag.unwrap_or_else(|| process::parent().to_string());
    let node = variable("SLURM_NODEID").unwrap_or_default();
    format!("chariot-ch-run/{}/{node}/{tag}", host.uid)
}

/// How many tasks share: of a list such as `2(x3),1` the entry of this node.
fn count(matches: &ArgMatches, host: &Host) -> Option<u32> {
    if let Some(count) = matches.get_one::<u32>("join-ct") {
        return Some(*count);
    }
    let variable = |name: &str| text_of(host, name);
    if let Some(count) = variable("OMPI_COMM_WORLD_LOCAL_SIZE").and_then(|text| text.parse().ok()) {
        return Some(count);
    }
    let node = variable("SLURM_NODEID")
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    let tasks = variable("SLURM_STEP_TASKS_PER_NODE").and_then(|text| of_node(&text, node));
    tasks.or_else(|| variable("SLURM_CPUS_ON_NODE")?.parse().ok())
}

fn of_node(list: &str, node: usize) -> Option<u32> {
    let mut nodes = 0;
    for item in list.split(',') {
        let (tasks, times) = match item.split_once("(x") {
            Some((tasks, times)) => (tasks, times.trim_end_matches(')').parse().ok()?),
            None => (item, 1),
        };
        nodes += times;
        if node < nodes {
            return tasks.parse().ok();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_node_has_its_own_number_of_tasks() {
        for (list, node, expected) in [
            ("4", 0, Some(4)),
            ("4,2", 1, Some(2)),
            ("4(x2),3", 1, Some(4)),
            ("4(x2),3", 2, Some(3)),
            ("4", 1, None),
            ("x", 0, None),
        ] {
            assert_eq!(of_node(list, node), expected, "{list} {node}");
        }
    }
}
