//! Containers that run: nobody keeps a list of them. Those of this node are found in proc(5), as far as it shows them to
//! whoever asks; on other nodes Slurm starts somebody to look.
//!
//! What a process says of itself, its variables, can be anything: it is shown, and decides what is found where the kernel
//! and Slurm have said nothing; whom a container belongs to the kernel says.

pub mod job;
pub mod nodes;
mod process;
pub mod slurm;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::enter::member::Member;
use chariot_core::error::{Error, Explain, Result};
use chariot_core::open;
use chariot_core::sys::rights;
use job::{Step, Wanted};
use process::{Place, Process};
use slurm::Job;

/// How many processes of a container are asked what they know of their step.
const MOST_ASKED: usize = 64;

/// A container on a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// Its processes, the oldest first.
    pub pids: Vec<i32>,
    /// Whose it is.
    pub user: u32,
    /// The image, as its processes have it in their variables.
    pub image: Option<String>,
    /// Which step of a job it is of.
    pub step: Option<Step>,
    /// The node, as Slurm calls it.
    pub node: Option<String>,
    /// When the oldest process started, in seconds since 1970.
    pub started: u64,
    /// What the processes have in memory, in bytes; what they share counts for each.
    pub memory: u64,
    #[serde(skip)]
    place: Place,
}

impl Container {
    /// One of its processes, held.
    ///
    /// # Errors
    /// All have ended.
    pub fn member(&self) -> Result<Member> {
        let is_of_it = |member: &Member| {
            Process::place_of(member) == Some(self.place) && member.owner() == self.user
        };
        let found = self.pids.iter().find_map(|pid| {
            let member = Member::find(*pid).ok();
            member.filter(is_of_it)
        });
        found.ok_or_else(|| {
            Error::new(format!(
                "can't enter the container of {}: it has just ended",
                self.name()
            ))
            .hint("`chariot ps` lists those that there are")
        })
    }

    /// What it is called.
    pub fn name(&self) -> String {
        match (&self.step, self.pids.first()) {
            (Some(step), _) => step.to_string(),
            (None, Some(pid)) => format!("process {pid}"),
            (None, None) => String::new(),
        }
    }

    fn of(place: Place, mut processes: Vec<Process>) -> Option<Container> {
        processes.sort_by_key(|process| (process.started, process.number));
        let first = processes.first()?;
        let asked = || processes.iter().take(MOST_ASKED);
        let image = asked().find_map(|process| process.variable("CH_RUNNING"));
        let step = process::step_of(asked);
        // A sandbox that some other program has made for itself.
        if image.is_none() && step.is_none() {
            return None;
        }
        Some(Container {
            user: first.owner,
            started: first.started,
            memory: processes.iter().map(|process| process.memory).sum(),
            pids: processes.iter().map(|process| process.number).collect(),
            node: step.as_ref().and_then(|step| {
                let mut of_step = asked().filter(|process| process.says_job(step.job));
                of_step.find_map(|process| process.variable("SLURMD_NODENAME"))
            }),
            image,
            step,
            place,
        })
    }
}

/// The containers on this node: the caller's, and root's are everybody's.
///
/// # Errors
/// There is no /proc to look into.
pub fn containers() -> Result<Vec<Container>> {
    let what = || "can't look for containers".to_owned();
    let own = rights::user();
    let mut found: BTreeMap<Place, Vec<Process>> = BTreeMap::new();
    let up = process::seconds_up().explain(what)?;
    let directory = open::directory("/proc".as_ref()).explain(what)?;
    for entry in rustix::fs::Dir::read_from(&directory)
        .map_err(std::io::Error::from)
        .explain(what)?
    {
        let entry = entry.map_err(std::io::Error::from).explain(what)?;
        let Some(number) = entry
            .file_name()
            .to_str()
            .ok()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let process = Process::look(number, up);
        if let Some(process) = process.filter(|process| own == 0 || process.owner == own) {
            found.entry(process.place).or_default().push(process);
        }
    }
    let containers = found.into_iter();
    let mut containers: Vec<_> = containers
        .filter_map(|(place, processes)| Container::of(place, processes))
        .collect();
    containers.sort_by_key(|container| (container.started, container.pids.first().copied()));
    Ok(containers)
}

/// Those of a job that Slurm has told of, and of nobody but its owner: processes can claim any job.
///
/// # Errors
/// As [`containers`].
pub fn of_owner(job: &Job, step: Option<String>, node: Option<&str>) -> Result<Vec<Container>> {
    let mut found = of_job(&Wanted::numbered(job.number, step), node)?;
    found.retain(|container| container.user == job.user);
    Ok(found)
}

/// Those that are of a job, or a step of one; on a node, if one is named. Root asks for those [`of_owner`].
///
/// # Errors
/// As [`containers`].
pub fn of_job(wanted: &Wanted, node: Option<&str>) -> Result<Vec<Container>> {
    let mut containers = containers()?;
    let here = slurm::this_node();
    containers.retain(|container| {
        let node_of = container.node.as_ref().unwrap_or(&here);
        container.step.as_ref().is_some_and(|step| wanted.is(step))
            && node.is_none_or(|node| node == node_of)
    });
    Ok(containers)
}
