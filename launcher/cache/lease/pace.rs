//! How often those who wait look. Each look asks the shared file system something, and a thousand nodes that wait for one
//! should not be felt: all nodes of a step together ask it no more than [`OPERATIONS`] a second, however many they are.
//!
//! Of many nodes the first few look after the lease each second, so that a dead holder is noticed as early as by one; the
//! others look seldom, one after the other, and only whether something has happened.

use std::ffi::OsStr;
use std::time::Duration;

use crate::host::Host;

/// How many operations all nodes together may ask for in a second.
const OPERATIONS: u32 = 1000;

/// What one look costs at a file server, as tests/bench/scale counts: a lease is opened, read and closed, with what is
/// asked of its directory and its length; or its attributes are asked for, of a file that is known.
const READ: u32 = 5;
const GLANCE: u32 = 1;

/// How many look after the lease where not all can. These nodes would have to end together for anybody to notice.
const WATCHERS: u32 = 32;

/// How long after one look the next comes: at least, and at most while not many wait.
const SHORTEST: Duration = Duration::from_millis(50);
const LATER: Duration = Duration::from_secs(1);
const MUCH_LATER: Duration = Duration::from_secs(2);

/// How long somebody has waited when all look less often.
const LONG: Duration = Duration::from_secs(60);

/// No node waits longer between two looks, however many there are said to be: anybody can set the variables that say it.
const LONGEST: Duration = Duration::from_secs(30);

/// Which of how many nodes waits, as far as it knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crowd {
    node: u32,
    nodes: u32,
}

impl Crowd {
    /// One node that knows of no other.
    pub const ALONE: Crowd = Crowd { node: 0, nodes: 1 };

    /// The nodes of this step, as Slurm says.
    pub fn of(host: &Host) -> Crowd {
        let number = |name: &str| -> Option<u32> {
            host.variable(name).and_then(OsStr::to_str)?.parse().ok()
        };
        let nodes = ["SLURM_STEP_NUM_NODES", "SLURM_NNODES"].map(number);
        let nodes = nodes.into_iter().flatten().next();
        match (number("SLURM_NODEID"), nodes) {
            (Some(node), Some(nodes)) if node < nodes => Crowd { node, nodes },
            _ => Crowd::ALONE,
        }
    }
}

/// When one of many looks, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Whether it only glances at the lease, and leaves it to others to read it.
    pub(super) glances: bool,
    first: Duration,
    least: Duration,
}

impl Pace {
    pub(super) fn of(crowd: Crowd) -> Pace {
        let Crowd { node, nodes } = crowd;
        let glances = nodes > OPERATIONS / READ && node >= WATCHERS;
        let for_watchers = WATCHERS * READ;
        // Those who look as this one does, its place among them, and what all of them may ask for in a second.
        let (place, among, cost, share) = match glances {
            true => (
                node - WATCHERS,
                nodes - WATCHERS,
                GLANCE,
                OPERATIONS - for_watchers,
            ),
            false if nodes > OPERATIONS / READ => (node, WATCHERS, READ, for_watchers),
            false => (node, nodes, READ, OPERATIONS),
        };
        let least = f64::from(among) * f64::from(cost) / f64::from(share);
        let least = least.min(LONGEST.as_secs_f64());
        Pace {
            glances,
            // One after the other, and then all at the same distance.
            first: SHORTEST + Duration::from_secs_f64(least * f64::from(place) / f64::from(among)),
            least: Duration::from_secs_f64(least),
        }
    }

    /// How long to wait before the next look: none was before the first. A wait of a moment ends a moment late at most,
    /// and one of minutes a second or two, unless there are more nodes than can look so often.
    pub(super) fn pause(self, waited: Option<Duration>) -> Duration {
        let Some(waited) = waited else {
            return self.first;
        };
        let most = match waited > LONG {
            true => MUCH_LATER,
            false => LATER,
        };
        (waited / 2).clamp(SHORTEST, most).max(self.least)
    }
}

#[cfg(test)]
#[path = "pace/tests.rs"]
mod tests;
