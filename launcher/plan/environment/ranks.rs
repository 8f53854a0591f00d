//! What programs of PyTorch's kind ask for to find each other, from what Slurm tells a task.

use chariot_core::environment::{Edit, Environment, find};

/// The five variables, which all come together: a script's own RANK would be the same for all ranks.
const RANK: &str = "RANK";
const ORIGIN: &str = "from Slurm, for PyTorch";

/// Ports that are neither well known nor given out by Linux to whoever asks for any, ip(7).
const PORTS: std::ops::Range<u64> = 61_000..65_536;

/// So many steps of a job come before the next job's first has the same port; it has no factor in common with the number of ports.
const STEPS: u64 = 61;

/// What changes for the tasks of a step; nothing where there is none. `planned` wins, and so do an address, a port and a size of
/// the caller's own, unless another rank hands them on, as a shell that is one does: they are about its step.
pub(super) fn edits(environment: &Environment, planned: &[Edit]) -> Vec<Edit> {
    let text = |name: &str| find(environment, name)?.to_str();
    let number = |name: &str| text(name)?.parse::<u64>().ok();
    let (Some(nodes), Some(job), Some(step)) = (
        text("SLURM_STEP_NODELIST"),
        number("SLURM_JOB_ID"),
        number("SLURM_STEP_ID"),
    ) else {
        return Vec::new();
    };
    let is_callers = |name: &str| text(name).is_some() && text(RANK).is_none();
    let size = text("SLURM_STEP_NUM_TASKS").unwrap_or("1");
    let same = [
        ("MASTER_ADDR", first_node(nodes)),
        ("MASTER_PORT", port(job, step).to_string()),
        ("WORLD_SIZE", size.to_owned()),
    ];
    let same = same.into_iter().filter(|(name, _)| !is_callers(name));
    let same = same.map(|(name, value)| Edit::set(name, value, ORIGIN));
    let own = [(RANK, "$SLURM_PROCID"), ("LOCAL_RANK", "$SLURM_LOCALID")];
    let own = own.map(|(name, value)| Edit::set(name, value, ORIGIN).by_each_task());
    let is_free = |edit: &Edit| planned.iter().all(|planned| planned.name != edit.name);
    same.chain(own).filter(is_free).collect()
}

/// A port for a step: two steps of a job have two, and so have jobs that follow each other, which can share a node.
fn port(job: u64, step: u64) -> u64 {
    let number = job.wrapping_mul(STEPS).wrapping_add(step);
    PORTS.start + number % (PORTS.end - PORTS.start)
}

/// The first node of a list as Slurm writes it, `n[01-04,7],m3`: of each range the first.
fn first_node(list: &str) -> String {
    let mut name = String::new();
    let mut rest = list;
    while let Some(next) = rest.find(['[', ',']) {
        let (before, after) = rest.split_at(next);
        name.push_str(before);
        let Some((ranges, after)) = after
            .strip_prefix('[')
            .and_then(|in_it| in_it.split_once(']'))
        else {
            return name;
        };
        name.push_str(ranges.split(['-', ',']).next().unwrap_or_default());
        rest = after;
    }
    name + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use chariot_core::environment::apply;

    fn step(more: &[(&str, &str)]) -> Environment {
        let slurm = [
            ("SLURM_STEP_NODELIST", "n[3-4]"),
            ("SLURM_JOB_ID", "4536"),
            ("SLURM_STEP_ID", "2"),
            ("SLURM_STEP_NUM_TASKS", "8"),
            ("SLURM_PROCID", "5"),
            ("SLURM_LOCALID", "1"),
        ];
        let all = slurm.iter().chain(more);
        all.map(|(name, value)| ((*name).into(), (*value).into()))
            .collect()
    }

    fn seen(more: &[(&str, &str)], planned: &[Edit]) -> String {
        let environment = step(more);
        let mut all = planned.to_vec();
        all.extend(edits(&environment, planned));
        let now = apply(&environment, &all);
        let names = [
            "MASTER_ADDR",
            "MASTER_PORT",
            "WORLD_SIZE",
            RANK,
            "LOCAL_RANK",
        ];
        names
            .map(|name| find(&now, name).unwrap_or_default().to_string_lossy())
            .join(" ")
    }

    #[test]
    fn the_first_node_of_a_list_is_found_as_slurm_writes_it() {
        for (list, first) in [
            ("n1", "n1"),
            ("n[1-4]", "n1"),
            ("n[003,7-9]", "n003"),
            ("a,b", "a"),
            ("n[01-02],m[3-4]", "n01"),
            ("r[1-2]c[3-4]x", "r1c3x"),
            ("r[1-2]c[3-4],y", "r1c3"),
            ("n[", "n"),
            ("", ""),
        ] {
            assert_eq!(first_node(list), first, "{list}");
        }
    }

    #[test]
    fn a_rank_learns_where_the_others_are_and_which_it_is() {
        assert_eq!(seen(&[], &[]), "n3 61002 8 5 1");
        let all = (100..110).flat_map(|job| (0..50).map(move |step| port(job, step)));
        let different: std::collections::BTreeSet<u64> = all.collect();
        assert_eq!(different.len(), 500);
    }

    #[test]
    fn the_callers_place_to_meet_wins_but_not_one_that_another_rank_hands_on() {
        let own = [
            ("MASTER_ADDR", "me"),
            ("MASTER_PORT", "1"),
            ("WORLD_SIZE", "2"),
        ];
        assert_eq!(seen(&own, &[]), "me 1 2 5 1");
        let of_a_rank = [&own[..], &[(RANK, "0")]].concat();
        assert_eq!(seen(&of_a_rank, &[]), "n3 61002 8 5 1");
        let asked = [Edit::set(RANK, "9", "")];
        assert_eq!(seen(&[], &asked), "n3 61002 8 9 1");
    }

    #[test]
    fn where_no_step_is_nothing_is_set() {
        assert_eq!(edits(&Environment::new(), &[]), []);
    }
}
