//! What a shell shows in front of each line, so that whoever types sees where that is.

use chariot_core::environment::{Edit, Environment, find};

const ORIGIN: &str = "so that the prompt tells where one is";

/// Set by srun where it gives a step a terminal.
const TERMINAL: &str = "SLURM_PTY_PORT";

/// Whether a person is at the other end.
pub(super) fn is_for_a_person(environment: &Environment) -> bool {
    find(environment, TERMINAL).is_some()
}

/// The prompt of shells that read it from their environment, in the form that all of them understand, and what the prompts of
/// Debian's and its relatives' shells begin with. What a user's own files say comes later and wins. `planned` wins too.
pub(super) fn edits(word: &str, is_root: bool, planned: &[Edit]) -> Vec<Edit> {
    let name = shown(word);
    let end = if is_root { "#" } else { "$" };
    let edits = [
        // Not the directory: its name could act on the terminal, and shells show it in different ways.
        Edit::set("PS1", format!("({name}) {end} "), ORIGIN),
        Edit::set("debian_chroot", name, ORIGIN),
    ];
    let is_free = |edit: &Edit| planned.iter().all(|planned| planned.name != edit.name);
    edits.into_iter().filter(is_free).collect()
}

/// The last part of an image's name, without what a shell would act on.
fn shown(word: &str) -> String {
    let last = word.trim_end_matches('/').rsplit('/').next();
    let plain = |character: char| match character {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '_' | '-' | '+' | ':' | '@' => character,
        _ => '?',
    };
    last.unwrap_or_default().chars().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_has_the_images_name_and_nothing_that_a_shell_runs() {
        for (word, name) in [
            ("./small.sqfs", "small.sqfs"),
            ("docker://h:5000/team/app:1", "app:1"),
            ("tree/", "tree"),
            ("./a$(id)`x`\\w\u{1b}", "a??id??x??w?"),
        ] {
            assert_eq!(shown(word), name);
        }
        let edits = edits("a", true, &[Edit::set("PS1", "mine", "")]);
        assert_eq!(edits.len(), 1);
        assert_eq!(edits[0].name, "debian_chroot");
    }
}
