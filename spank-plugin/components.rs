//! Heterogeneous jobs and steps. Slurm keeps one value of each option for all components of a command, the last, and
//! one environment: a component that asked for no container would get another's, or, worse, run on the host. So what
//! they ask for is compared while it is typed, and has to be the same.

use chariot_core::error::Error;
use chariot_core::options::{Dialect, Given, Options};

/// What a component asked for.
#[derive(Debug)]
pub(crate) struct Asked {
    givens: Vec<Given>,
    options: Options,
    /// How many components have asked for it.
    count: usize,
}

/// Whether this component is the first, whose wishes are then kept.
///
/// # Errors
/// It is not, and asks for something else.
pub(crate) fn is_first(
    first: &mut Option<Asked>,
    givens: &[Given],
    options: &Options,
) -> Result<bool, Error> {
    match first {
        None => {
            *first = Some(Asked {
                givens: givens.to_owned(),
                options: options.clone(),
                count: 1,
            });
            Ok(true)
        }
        Some(first) if first.options == *options => {
            first.count = first.count.saturating_add(1);
            Ok(false)
        }
        Some(first) => Err(different(first, givens)),
    }
}

/// Names an option that one has and the other has not.
fn different(first: &Asked, givens: &[Given]) -> Error {
    let spelled = |given: &Given| {
        let option = given.spelled(Dialect::Slurm);
        format!("{option}={}", given.value)
    };
    let only_in = |some: &[Given], others: &[Given]| {
        let mut only = some.iter().rev().filter(|given| !others.contains(given));
        only.next().map(spelled)
    };
    let number = first.count.saturating_add(1);
    let why = if let Some(option) = only_in(givens, &first.givens) {
        format!("component {number} has {option}, and component 1 does not")
    } else if let Some(option) = only_in(&first.givens, givens) {
        format!("component 1 has {option}, and component {number} does not")
    } else {
        format!("component {number} has the options of component 1 in another order")
    };
    Error::new(format!(
        "components of one job or step can't have different containers: {why}"
    ))
    .hint(
        "give every component the same --ch options; for different containers start a step for each, by an srun \
         of its own with --het-group",
    )
}
