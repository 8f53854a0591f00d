//! A site's file that cannot be used, on a node. Nothing that the site decided is known then: not which images may be
//! run, and not whether a step that asks for none has one.

use std::time::Duration;

use chariot_core::arguments::Arguments;
use chariot_core::error::Error;
use chariot_core::options::{Given, Source};
use chariot_core::seldom;

use crate::spank::{self, NAME};
use crate::state::State;

/// How often slurmd's log has it. Each step is a process of its own, and there are thousands.
const PAUSE: Duration = Duration::from_secs(3600);

/// Tells the administrator, once in a while.
pub(crate) fn complain(broken: &Error, paths: &Arguments) {
    let topic = format!("broken{}", paths.config.display());
    if seldom::is_time(&topic, PAUSE) {
        let which = match paths.strict {
            true => "every step",
            false => "every step that asks for a container",
        };
        spank::error(&format!(
            "{NAME}: {broken}; until it is fixed, {which} fails"
        ));
    }
}

/// Whether no step may run here.
pub(crate) fn is_closed(state: &State) -> bool {
    state.paths.strict && state.broken.is_some()
}

/// Whether a step without an image asks for a container all the same: it has options for one, and took none of the
/// site's. Variables are a habit, and ask for nothing.
pub(crate) fn asks(givens: &[Given]) -> bool {
    let names_image = givens.iter().any(|given| given.row.name == "image");
    let is_asked = |given: &Given| match given.row.name {
        "batch" => false,
        "edf" => given.value != "none",
        _ => matches!(given.source, Source::Typed | Source::Inherited),
    };
    !names_image && givens.iter().any(is_asked)
}
