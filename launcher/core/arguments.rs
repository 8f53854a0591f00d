//! What stands behind chariot.so in plugstack.conf. The plugin acts by it, and `chariot check` says what it will do.

use std::path::PathBuf;

use crate::config::{self, Config};
use crate::error::{Error, Result};

/// The plugin's arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arguments {
    /// The program that makes containers.
    pub launcher: PathBuf,
    /// The site's file.
    pub config: PathBuf,
    /// Whether no step runs while that is broken, also none that asked for no container: by the site's default it
    /// might have been in one.
    pub strict: bool,
}

impl Default for Arguments {
    fn default() -> Arguments {
        Arguments {
            launcher: PathBuf::from("/usr/bin/chariot"),
            config: PathBuf::from(config::PATH),
            strict: false,
        }
    }
}

impl Arguments {
    /// Reads the words after the plugin's name in plugstack.conf.
    ///
    /// # Errors
    /// One is not understood; all others hold.
    pub fn read(&mut self, words: &[String]) -> Result<()> {
        let mut result = Ok(());
        for word in words {
            match word.split_once('=') {
                Some(("launcher", path)) if path.starts_with('/') => self.launcher = path.into(),
                Some(("config", path)) if path.starts_with('/') => self.config = path.into(),
                None if word == "strict" => self.strict = true,
                _ => {
                    result = Err(Error::new(format!(
                        "plugstack.conf gives chariot.so the argument \"{word}\""
                    ))
                    .hint("it takes launcher=PATH and config=PATH, both absolute, and strict"));
                }
            }
        }
        result
    }

    /// Reads the site's file.
    ///
    /// # Errors
    /// As [`Config::load`]; with `strict`, also if there is none.
    pub fn site(&self) -> Result<Config> {
        match self.strict {
            true => Config::load_existing(&self.config),
            false => Config::load(&self.config),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_is_not_understood_is_named_and_all_others_hold() {
        let read = |words: &[&str]| {
            let mut arguments = Arguments::default();
            let words: Vec<_> = words.iter().map(ToString::to_string).collect();
            let result = arguments.read(&words);
            (arguments, result)
        };
        assert_eq!(read(&[]), (Arguments::default(), Ok(())));
        for word in ["lancher=/x", "config=relative", "strict=yes", "launcher"] {
            let (arguments, result) = read(&[word, "launcher=/l", "config=/c", "strict"]);
            let error = result.unwrap_err();
            assert!(
                error.to_string().contains(&format!("\"{word}\"")),
                "{error}"
            );
            assert!(error.advice().unwrap().contains("launcher=PATH"));
            let expected = Arguments {
                launcher: "/l".into(),
                config: "/c".into(),
                strict: true,
            };
            assert_eq!(arguments, expected);
        }
    }
}
