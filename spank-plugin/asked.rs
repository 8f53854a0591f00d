//! What the plugin says of itself to `chariot check --cluster`: only here is it known that a node's Slurm has loaded it.

use chariot_core::error::Error;
use chariot_core::handover::{ASKED, Loaded, QUESTION, Told};

use crate::spank::Slurm;
use crate::state::State;

/// Answers in a task that runs in no container, and was asked.
pub(crate) fn answer(slurm: &Slurm<'_>, state: &State) -> Result<(), Error> {
    if slurm
        .variable(QUESTION)
        .is_none_or(|question| question != ASKED)
    {
        return Ok(());
    }
    let broken = state.broken.as_ref().or(state.problem.as_ref());
    let loaded = Loaded::by(&state.paths, broken.map(|error| Told::from(error).sentence));
    slurm.edit(QUESTION.as_ref(), Some(loaded.answer().as_ref()))
}
