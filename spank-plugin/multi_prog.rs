//! `srun --multi-prog`, of which Slurm tells its plugins nothing: each task has another command, and what looks like
//! the step's command is the name and the text of a file.

use std::env;

use crate::spank::{Context, Slurm, set_own_variable};

/// How many words follow the option in its component of srun's command line. Only the node knows which of them are
/// the command, in which a word like it is the program's own.
const AFTER: &str = "SLURM_CHARIOT_MULTI_PROG";

/// In srun, sbatch and salloc: notes for the node what only srun's command line says.
pub(crate) fn note(context: Context) {
    let after = match context {
        Context::Step if env::var_os("SLURM_MULTI_PROG").is_some() => Some(usize::MAX),
        Context::Step => {
            let words: Vec<_> = env::args_os().collect();
            words
                .split(|word| word == ":")
                .filter_map(words_after)
                .max()
        }
        _ => None,
    };
    let after = after.map(|after| after.to_string());
    set_own_variable(AFTER.as_ref(), after.as_deref());
}

/// The words after the first that could be the option; getopt_long(3) takes abbreviations.
fn words_after(component: &[std::ffi::OsString]) -> Option<usize> {
    let is_named = |word: &std::ffi::OsString| {
        let word = word.to_string_lossy();
        word.len() > 4 && "--multi-prog".starts_with(&*word)
    };
    let at = component.iter().position(is_named)?;
    Some(component.len() - at - 1)
}

/// On a node: whether the tasks of this step have commands of their own. srun adds one word to the command, the text
/// of the file; if there are still fewer words after the option, it is one of them and the program's.
pub(crate) fn is_set(slurm: &Slurm<'_>) -> bool {
    let after = slurm
        .variable(AFTER)
        .and_then(|after| after.into_string().ok());
    let after = after.and_then(|after| after.parse::<usize>().ok());
    after.is_some_and(|after| after.saturating_add(1) >= slurm.command().len())
}
