//! Names and texts of others on one line: of users, images, archives, registries. A terminal obeys control characters,
//! a newline makes a line that nobody wrote, and marks of direction turn a line around before the reader's eyes.

use std::borrow::Cow;
use std::fmt::Write as _;

/// A text as one line that shows what is in it, and does nothing to the terminal or the log that it is written to. What
/// is escaped already stays as it is, so that a text may pass several processes.
///
/// ```
/// let shown = chariot_core::escape::line("one\nchariot: two");
/// assert_eq!(shown.lines().count(), 1);
/// ```
pub fn line(text: &str) -> Cow<'_, str> {
    if !text.chars().any(acts) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        put(&mut shown, character);
    }
    Cow::Owned(shown)
}

/// Bytes between quotes, from which they can be had back: a field of a line that programs read.
pub fn quoted(bytes: &[u8]) -> String {
    let mut shown = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' | '\\' => shown.extend(['\\', character]),
                other => put(&mut shown, other),
            }
        }
        for byte in chunk.invalid() {
            // Writing to a String cannot fail.
            let _ = write!(shown, "\\x{byte:02x}");
        }
    }
    shown + "\""
}

/// The same as JSON, in which bytes that are no text cannot be written and are replaced.
pub fn json(bytes: &[u8]) -> String {
    let text = serde_json::to_string(&String::from_utf8_lossy(bytes));
    // A string cannot fail to be JSON.
    json_for_terminals(&text.unwrap_or_default())
}

/// JSON without what acts on a terminal, of which it leaves some alone. Outside of strings there is none but newlines.
pub fn json_for_terminals(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match acts(character) && character != '\n' {
            // Writing to a String cannot fail.
            true => drop(write!(shown, "\\u{:04x}", u32::from(character))),
            false => shown.push(character),
        }
    }
    shown
}

/// Whether a character does more than to be seen: controls of ASCII and of ISO 6429 (a terminal takes U+009B for
/// ESC [), separators of lines, and what turns the direction of writing, by which text passes for other text.
pub fn acts(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

fn put(shown: &mut String, character: char) {
    let number = u32::from(character);
    // Writing to a String cannot fail.
    let _ = match character {
        '\n' => shown.write_str("\\n"),
        '\r' => shown.write_str("\\r"),
        '\t' => shown.write_str("\\t"),
        ascii if ascii.is_ascii_control() => write!(shown, "\\x{number:02x}"),
        other if acts(other) => write!(shown, "\\u{{{number:x}}}"),
        other => shown.write_char(other),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_on_a_terminal_or_makes_a_line_is_shown_instead() {
        for (text, shown) in [
            ("a\nb\tc\r", "a\\nb\\tc\\r"),
            ("\x1b]0;title\x07\x7f", "\\x1b]0;title\\x07\\x7f"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("exe\u{202e}gpj\u{2066}", "exe\\u{202e}gpj\\u{2066}"),
            ("\u{2028}", "\\u{2028}"),
        ] {
            assert_eq!(line(text), shown);
            assert_eq!(line(&line(text)), shown, "a second time");
        }
    }

    #[test]
    fn what_only_is_seen_stays_as_it_is() {
        for text in ["", "C:\\dir \"x\" $y", "Größe 大 שלום 👩‍🚀"] {
            assert!(matches!(line(text), Cow::Borrowed(same) if same == text));
        }
    }

    #[test]
    fn a_json_string_is_read_back_as_it_was() {
        let text = "/a b=\"c\"\\ \n\u{9b}\u{202e}\u{7f}ä";
        let shown = json(text.as_bytes());
        assert!(!shown.chars().any(acts));
        assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), text);
        assert_eq!(json(b"\xff"), "\"\u{fffd}\"");
    }

    #[test]
    fn json_is_the_same_value_without_characters_that_act() {
        let text = serde_json::to_string_pretty(&["\x1b\u{9b}\u{202e}\n\u{7f}ä"]).unwrap();
        let shown = json_for_terminals(&text);
        assert!(!shown.chars().any(|one| one != '\n' && acts(one)));
        let read: Vec<String> = serde_json::from_str(&shown).unwrap();
        assert_eq!(read, ["\x1b\u{9b}\u{202e}\n\u{7f}ä"]);
    }

    #[test]
    fn a_quoted_field_ends_where_it_ends() {
        assert_eq!(quoted(b"/a b=\"c\"\\ \n\xff"), r#""/a b=\"c\"\\ \n\xff""#);
    }
}
