//! The commands of docs/coming-from.md, which has to be right.

const PAGE: &str = include_str!("../../docs/coming-from.md");

/// Chariot's commands that begin with one of `words`, in the page's order, with the tests' own registry.
pub(crate) fn examples(words: &[&str], registry: &str) -> Vec<String> {
    let ours = PAGE
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` | `"));
    let commands = ours.filter_map(|(_, ours)| ours.split_once('`'));
    commands
        .map(|(command, _)| command.replace("registry.example.org", registry))
        .filter(|command| words.iter().any(|word| command.starts_with(word)))
        .collect()
}
