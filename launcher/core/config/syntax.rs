//! What to say of a text that is no TOML: the parser's words are about the language, not about what somebody has meant.

use super::key::line_of;
use crate::error::Error;

/// Words that mean a switch elsewhere, and what they are here.
const SWITCHES: [(&str, &str); 6] = [
    ("yes", "true"),
    ("on", "true"),
    ("true", "true"),
    ("no", "false"),
    ("off", "false"),
    ("false", "false"),
];

pub(super) fn mistake(text: &str, error: &toml::de::Error) -> Error {
    let number = line_of(text, error.span().map_or(0, |span| span.start));
    let line = text.lines().nth(number - 1).unwrap_or_default();
    match bare_word(line) {
        Some((key, word)) => {
            let told = Error::new(format!("line {number}: {key} = {word} is no value"));
            let lower = word.to_ascii_lowercase();
            match SWITCHES.iter().find(|(known, _)| *known == lower) {
                Some((_, switch)) => {
                    told.hint(format!("a switch is true or false: {key} = {switch}"))
                }
                None => told.hint(format!("a text needs quotes: {key} = \"{word}\"")),
            }
        }
        None => {
            let reason = error.message().replace('\n', ", ");
            Error::new(format!("line {number}: {reason}"))
        }
    }
}

/// The key and the value of a line whose value is a word without quotes.
fn bare_word(line: &str) -> Option<(&str, &str)> {
    let (key, value) = line.split('#').next()?.split_once('=')?;
    let (key, value) = (key.trim(), value.trim());
    let is_word = value
        .starts_with(|first: char| first.is_ascii_alphabetic() || first == '/' || first == '$')
        && !value.contains(['"', '\'', '[', '{', '=', ' ']);
    let is_known = matches!(value, "true" | "false" | "inf" | "nan");
    (is_word && !is_known && !key.is_empty()).then_some((key, value))
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn a_word_that_is_no_value_is_told_with_what_was_meant() {
        for (text, sentence, hint) in [
            (
                "enabled = no",
                "line 1: enabled = no is no value",
                "a switch is true or false: enabled = false",
            ),
            (
                "\nenabled=Yes # up",
                "line 2: enabled = Yes is no value",
                "a switch is true or false: enabled = true",
            ),
            (
                "enabled = off",
                "line 1: enabled = off is no value",
                "a switch is true or false: enabled = false",
            ),
            (
                "enabled = True",
                "line 1: enabled = True is no value",
                "a switch is true or false: enabled = true",
            ),
            (
                "log_level = info",
                "line 1: log_level = info is no value",
                "a text needs quotes: log_level = \"info\"",
            ),
            (
                "store = /images",
                "line 1: store = /images is no value",
                "a text needs quotes: store = \"/images\"",
            ),
        ] {
            let error = Config::parse(text).unwrap_err();
            assert_eq!(error.to_string(), sentence);
            assert_eq!(error.advice(), Some(hint));
        }
        for text in ["enabled = ", "enabled", "image_dirs = [\"/a\"", "a = \"b"] {
            let error = Config::parse(text).unwrap_err();
            assert!(error.to_string().starts_with("line 1: "), "{error}");
            assert_eq!(error.advice(), None);
        }
    }
}
