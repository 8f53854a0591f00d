//! The environment as ch-run makes it: the host's, a few changes of its own, then `--set-env` and `--unset-env` in the
//! order in which they were typed.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use chariot_core::environment::{Edit, apply};
use chariot_core::environment::{Environment, find};

/// One use of `--set-env`, `--set-env0` or `--unset-env`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// `NAME=VALUE`.
    Set(OsString, OsString),
    /// All variables whose names match.
    Unset(String),
}

/// Reads a file of `NAME=VALUE` lines, or of such records that end in NUL.
///
/// # Errors
/// The number of a line that is no assignment.
pub(super) fn assignments(bytes: &[u8], separator: u8) -> Result<Vec<Change>, String> {
    let lines = bytes.split(|byte| *byte == separator).enumerate();
    lines
        .filter(|(_, line)| !line.is_empty())
        .map(|(number, line)| {
            assignment(line).map_err(|reason| format!("{}: {reason}", number + 1))
        })
        .collect()
}

/// Reads `NAME=VALUE`; one pair of single quotes around the value goes away.
///
/// # Errors
/// It has no name, or no delimiter.
pub(super) fn assignment(line: &[u8]) -> Result<Change, String> {
    let at = line
        .iter()
        .position(|byte| *byte == b'=')
        .ok_or("no delimiter")?;
    let (name, value) = (&line[..at], &line[at + 1..]);
    if name.is_empty() {
        return Err("empty name".into());
    }
    let unquoted = value
        .strip_prefix(b"'")
        .and_then(|value| value.strip_suffix(b"'"));
    let os = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
    Ok(Change::Set(os(name), os(unquoted.unwrap_or(value))))
}

/// All changes of an environment, in order.
pub(super) fn edits(
    own: Vec<Edit>,
    changes: &[Change],
    before: &Environment,
    expand: bool,
) -> Vec<Edit> {
    let mut edits = own;
    for change in changes {
        let now = apply(before, &edits);
        match change {
            Change::Set(name, value) if expand => {
                edits.push(Edit::set(name, expanded(value, &now), "--set-env"))
            }
            Change::Set(name, value) => edits.push(Edit::set(name, value, "--set-env")),
            Change::Unset(glob) => {
                let gone = now
                    .iter()
                    .filter(|(name, _)| matches(glob.as_bytes(), name.as_bytes()));
                edits.extend(gone.map(|(name, _)| Edit::unset(name, "--unset-env")));
            }
        }
    }
    edits
}

/// Replaces items of a list with colons that are `$NAME`; one that is unset or empty goes away with its colon.
fn expanded(value: &OsStr, now: &Environment) -> OsString {
    let mut items = Vec::new();
    for item in value.as_bytes().split(|byte| *byte == b':') {
        match item.strip_prefix(b"$").filter(|name| !name.is_empty()) {
            Some(name) => {
                let value = find(now, &String::from_utf8_lossy(name)).unwrap_or_default();
                items.extend(Some(value.as_bytes()).filter(|value| !value.is_empty()));
            }
            None => items.push(item),
        }
    }
    OsString::from_vec(items.join(&b':'))
}

/// fnmatch(3) with the extended patterns of ksh: `?(A|B)`, `*(A|B)`, `+(A|B)`, `@(A|B)`, `!(A|B)`.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    if let [kind @ (b'?' | b'*' | b'+' | b'@' | b'!'), b'(', ..] = pattern
        && let Some((choices, rest)) = group(&pattern[2..])
    {
        return matches_group(*kind, &choices, rest, text, 0);
    }
    match (pattern, text) {
        ([], _) => text.is_empty(),
        ([b'*', rest @ ..], _) => (0..=text.len()).any(|at| matches(rest, &text[at..])),
        ([b'?', rest @ ..], [_, left @ ..]) => matches(rest, left),
        ([b'[', ..], [first, left @ ..]) => match class(pattern, *first) {
            Some((is_in, rest)) => is_in && matches(rest, left),
            None => *first == b'[' && matches(&pattern[1..], left),
        },
        ([b'\\', literal, rest @ ..], [first, left @ ..]) => {
            literal == first && matches(rest, left)
        }
        ([literal, rest @ ..], [first, left @ ..]) => literal == first && matches(rest, left),
        _ => false,
    }
}

/// The choices of a group after its opening parenthesis, and what follows it.
fn group(pattern: &[u8]) -> Option<(Vec<&[u8]>, &[u8])> {
    let (mut choices, mut start, mut depth) = (Vec::new(), 0, 0);
    for (at, byte) in pattern.iter().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' if depth == 0 => {
                choices.push(&pattern[start..at]);
                return Some((choices, &pattern[at + 1..]));
            }
            b')' => depth -= 1,
            b'|' if depth == 0 => {
                choices.push(&pattern[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    None
}

/// `count` is how often a choice has matched already.
fn matches_group(kind: u8, choices: &[&[u8]], rest: &[u8], text: &[u8], count: usize) -> bool {
    let is_one = |part: &[u8]| choices.iter().any(|choice| matches(choice, part));
    if kind == b'!' {
        return (0..=text.len()).any(|at| !is_one(&text[..at]) && matches(rest, &text[at..]));
    }
    let may_end = matches!(kind, b'?' | b'*') || count > 0;
    if may_end && matches(rest, text) {
        return true;
    }
    let may_go_on = matches!(kind, b'*' | b'+') || count == 0;
    may_go_on
        && (1..=text.len()).any(|at| {
            is_one(&text[..at]) && matches_group(kind, choices, rest, &text[at..], count + 1)
        })
}

/// Whether a byte is in the class that a pattern begins with, and what follows the class.
fn class(pattern: &[u8], byte: u8) -> Option<(bool, &[u8])> {
    let mut at = 1;
    let is_negated = matches!(pattern.get(at), Some(b'!' | b'^'));
    at += usize::from(is_negated);
    let (start, mut found) = (at, false);
    loop {
        match pattern.get(at..)? {
            [b']', ..] if at > start => return Some((found != is_negated, &pattern[at + 1..])),
            [low, b'-', high, ..] if *high != b']' => {
                found |= (*low..=*high).contains(&byte);
                at += 3;
            }
            [one, ..] => {
                found |= *one == byte;
                at += 1;
            }
            [] => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str, value: &str) -> Change {
        Change::Set(name.into(), value.into())
    }

    #[test]
    fn assignments_are_read_to_the_letter() {
        let read = |text: &str| assignments(text.as_bytes(), b'\n');
        assert_eq!(
            read("A=b\n\nB='c d'\nC=\"q\"\nD='\nE=x=y\n").unwrap(),
            [
                set("A", "b"),
                set("B", "c d"),
                set("C", "\"q\""),
                set("D", "'"),
                set("E", "x=y")
            ]
        );
        assert_eq!(read("A=b\nnothing\n").unwrap_err(), "2: no delimiter");
        assert_eq!(read("=b").unwrap_err(), "1: empty name");
        assert_eq!(
            assignments(b"A=b\nc\0B=d\0", 0).unwrap(),
            [set("A", "b\nc"), set("B", "d")]
        );
    }

    #[test]
    fn items_of_a_list_are_replaced_or_dropped() {
        let before: Environment = vec![("A".into(), "a".into()), ("EMPTY".into(), "".into())];
        for (value, expected) in [
            ("$A", "a"),
            ("x:$A:y", "x:a:y"),
            ("$NONE:x:$EMPTY", "x"),
            ("x$A", "x$A"),
            ("$", "$"),
            ("", ""),
            ("a::b", "a::b"),
        ] {
            assert_eq!(expanded(OsStr::new(value), &before), expected, "{value}");
        }
        let edits = edits(
            Vec::new(),
            &[set("A", "b"), set("B", "$A"), Change::Unset("A".into())],
            &before,
            true,
        );
        assert_eq!(
            apply(&before, &edits),
            [
                ("EMPTY".into(), "".into()),
                ("B".into(), OsString::from("b"))
            ]
        );
    }

    #[test]
    fn globs_match_as_fnmatch_with_extended_patterns() {
        for (pattern, yes, no) in [
            ("SLURM*", "SLURM_JOB_ID", "XSLURM"),
            ("A?C", "ABC", "AC"),
            ("[A-C]X", "BX", "DX"),
            ("[!A-C]X", "DX", "BX"),
            ("!(A*|B*)", "CDE", "ABC"),
            ("@(A|B)C", "BC", "ABC"),
            ("+(A|B)", "ABBA", ""),
            ("*(AB)C", "ABABC", "ABAC"),
            ("X?(A|B)", "X", "XAB"),
            ("\\*", "*", "A"),
            ("*", "", "\u{0}never"),
        ] {
            assert!(
                matches(pattern.as_bytes(), yes.as_bytes()),
                "{pattern} {yes}"
            );
            if !no.starts_with('\u{0}') {
                assert!(
                    !matches(pattern.as_bytes(), no.as_bytes()),
                    "{pattern} {no}"
                );
            }
        }
    }
}
