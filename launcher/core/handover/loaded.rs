//! What the plugin that a step has loaded says of itself to `chariot check --cluster`, in the variable by which it was
//! asked. A node whose Slurm loads none leaves the question as it is.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{line, read_line, version};
use crate::arguments::Arguments;
use crate::text;

/// The variable.
pub const QUESTION: &str = "CHARIOT_CHECK";

/// Its value until somebody answers.
pub const ASKED: &str = "which plugin?";

/// A plugin that was loaded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Loaded {
    /// Of which version it is.
    pub version: String,
    /// The program that it executes.
    #[serde(with = "text")]
    pub launcher: PathBuf,
    /// The site's file that it reads.
    #[serde(with = "text")]
    pub config: PathBuf,
    /// What is wrong with either file or with its arguments, so that no container can be had.
    pub broken: Option<String>,
}

impl Loaded {
    /// This version with these arguments.
    pub fn by(arguments: &Arguments, broken: Option<String>) -> Loaded {
        Loaded {
            version: version().to_owned(),
            launcher: arguments.launcher.clone(),
            config: arguments.config.clone(),
            broken,
        }
    }

    /// As the variable has it.
    pub fn answer(&self) -> String {
        line(self)
    }

    /// Who has answered; none if nobody has.
    pub fn read(answer: &str) -> Option<Loaded> {
        read_line(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_arrives_as_it_was_given_and_a_question_is_none() {
        let loaded = Loaded::by(&Arguments::default(), Some("a\n\"mistake\"".into()));
        assert_eq!(Loaded::read(&loaded.answer()), Some(loaded));
        assert_eq!(Loaded::read(ASKED), None);
    }
}
