use super::super::SILENCE;
use super::*;

/// The seconds after its beginning at which a node looks, for so long a wait.
fn looks(crowd: Crowd, seconds: f64) -> Vec<f64> {
    let pace = Pace::of(crowd);
    let mut looks = vec![0.0];
    let mut at = pace.pause(None).as_secs_f64();
    while at < seconds {
        looks.push(at);
        at += pace.pause(Some(Duration::from_secs_f64(at))).as_secs_f64();
    }
    looks
}

fn crowd(nodes: u32) -> impl Iterator<Item = Crowd> {
    (0..nodes).map(move |node| Crowd { node, nodes })
}

/// Operations in each second of a wait of two minutes, but for the first look of each node, which all have at once.
fn operations(nodes: u32) -> Vec<u32> {
    let mut seconds = vec![0; 120];
    for one in crowd(nodes) {
        let cost = match Pace::of(one).glances {
            true => GLANCE,
            false => READ,
        };
        for at in &looks(one, 120.0)[1..] {
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a second of these"
            )]
            let second = *at as usize;
            seconds[second] += cost;
        }
    }
    seconds
}

#[test]
fn all_nodes_together_ask_for_no_more_than_a_thousand_operations_a_second() {
    for nodes in [
        1, 2, 10, 64, 65, 100, 333, 334, 400, 1_000, 3_000, 10_000, 20_000,
    ] {
        let seconds = operations(nodes);
        let most = *seconds.iter().max().unwrap();
        // A look more or less of each who look each second.
        assert!(most <= OPERATIONS + OPERATIONS / 10, "{nodes}: {most}");
        let late = *seconds[61..].iter().max().unwrap();
        assert!(late <= OPERATIONS + OPERATIONS / 10, "{nodes}: {late}");
    }
    // What is asked for without bound: as much as a single node does, on each.
    assert!(operations(1).iter().sum::<u32>() > 2 * 100);
}

/// When somebody takes a holder for dead that has shown itself last at `beat`, of the nodes that wait since 0: silent
/// for so long since the look that has first seen what it is now.
fn taken_over(waiting: impl Iterator<Item = Crowd>, beat: f64) -> f64 {
    let silence = SILENCE.as_secs_f64();
    let one = |crowd: Crowd| {
        let looks = looks(crowd, beat + 200.0);
        let seen = *looks.iter().find(|at| **at >= beat).unwrap();
        let is_late = |at: &&f64| **at > seen + silence;
        *looks.iter().find(is_late).unwrap()
    };
    waiting.map(one).fold(f64::INFINITY, f64::min) - beat
}

#[test]
fn a_dead_holder_is_taken_over_as_early_however_many_wait() {
    let silence = SILENCE.as_secs_f64();
    for beat in [0.0, 5.0, 20.0, 100.0] {
        for nodes in [2, 100, 1_000, 10_000] {
            let after = taken_over(crowd(nodes), beat);
            assert!(
                after <= silence + 2.0 * MUCH_LATER.as_secs_f64(),
                "{nodes} nodes, {beat}: {after}"
            );
        }
    }
}

#[test]
fn a_dead_holder_is_taken_over_also_where_nobody_is_left_who_watches() {
    let rest = crowd(10_000).filter(|crowd| crowd.node >= WATCHERS);
    let after = taken_over(rest, 20.0);
    assert!(after < 2.0 * SILENCE.as_secs_f64(), "{after}");
    // Whatever the variables say.
    let nodes = u32::MAX;
    let one = [Crowd {
        node: nodes - 1,
        nodes,
    }];
    let after = taken_over(one.into_iter(), 20.0);
    assert!(after <= 3.0 * LONGEST.as_secs_f64(), "{after}");
}

#[test]
fn few_nodes_lose_nothing_and_many_hear_within_what_they_cost() {
    // How long after the image is there the last node looks.
    let late = |nodes: u32, made: f64| {
        let one = |crowd| {
            let looks = looks(crowd, made + 100.0);
            looks.iter().find(|at| **at >= made).unwrap() - made
        };
        crowd(nodes).map(one).fold(0.0, f64::max)
    };
    for (nodes, made, most) in [
        (1, 0.2, 0.11),
        (1, 30.0, 1.0),
        (64, 0.2, 0.4),
        (64, 30.0, 1.0),
        (1_000, 0.2, 1.3),
        (1_000, 30.0, 1.3),
        (10_000, 30.0, 12.0),
    ] {
        let late = late(nodes, made);
        assert!(late <= most, "{nodes} nodes, {made}: {late}");
    }
}

#[test]
fn the_number_of_nodes_is_believed_as_far_as_it_can_be_true() {
    let host = |variables: &[(&str, &str)]| {
        let variables = variables
            .iter()
            .map(|(name, value)| (name.into(), value.into()));
        Host::look(variables.collect(), None)
    };
    let of = |variables: &[(&str, &str)]| Crowd::of(&host(variables));
    let node = ("SLURM_NODEID", "7");
    let step = ("SLURM_STEP_NUM_NODES", "8");
    assert_eq!(
        of(&[node, step, ("SLURM_NNODES", "100")]),
        Crowd { node: 7, nodes: 8 }
    );
    assert_eq!(
        of(&[node, ("SLURM_NNODES", "100")]),
        Crowd {
            node: 7,
            nodes: 100
        }
    );
    for odd in ["7", "0", "-1", "", "many", "99999999999"] {
        assert_eq!(of(&[node, ("SLURM_NNODES", odd)]), Crowd::ALONE, "{odd}");
    }
    assert_eq!(of(&[step]), Crowd::ALONE);
    let most = Pace::of(Crowd {
        node: u32::MAX - 1,
        nodes: u32::MAX,
    });
    assert!(most.first <= LONGEST + SHORTEST && most.pause(Some(LONG)) <= LONGEST);
}
