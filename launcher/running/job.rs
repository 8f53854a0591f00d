//! How jobs and their steps are called: as squeue shows them and as people type them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Steps that Slurm has names for, by the numbers that older releases show.
const NAMED: [(u32, &str); 3] = [
    (0xffff_fffa, "interactive"),
    (0xffff_fffb, "batch"),
    (0xffff_fffc, "extern"),
];

/// A part of a job that is one of several under one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Part {
    /// A task of an array, as in `42_3`.
    Task(u32, u32),
    /// A component of a heterogeneous job, as in `42+1`.
    Component(u32, u32),
}

/// A step of a job.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Step {
    /// The number that the job alone has.
    pub job: u32,
    /// What else it is called.
    pub part: Option<Part>,
    /// Which step of it.
    pub step: String,
}

impl fmt::Display for Step {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.part {
            Some(Part::Task(array, task)) => write!(out, "{array}_{task}.{}", self.step),
            Some(Part::Component(job, offset)) => write!(out, "{job}+{offset}.{}", self.step),
            None => write!(out, "{}.{}", self.job, self.step),
        }
    }
}

/// What is a step's name: a number, or one of Slurm's words.
pub fn step_name(text: &str) -> Option<String> {
    if NAMED.iter().any(|(_, name)| *name == text) {
        return Some(text.to_owned());
    }
    let number: u32 = number(text)?;
    let named = NAMED.iter().find(|(known, _)| *known == number);
    Some(named.map_or_else(|| number.to_string(), |(_, name)| (*name).to_owned()))
}

/// A number of Slurm's, which has digits alone.
pub(super) fn number(text: &str) -> Option<u32> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

/// A job or a step as somebody names it: `42`, `42.0`, `42_3.batch`, `42+1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    job: u32,
    part: Option<Part>,
    /// Whether the number is the one that the job alone has, and no array's or heterogeneous job's.
    is_exact: bool,
    /// The step, if one is named.
    pub step: Option<String>,
}

impl Wanted {
    /// The job that has this number alone.
    pub fn numbered(job: u32, step: Option<String>) -> Wanted {
        Wanted {
            job,
            part: None,
            is_exact: true,
            step,
        }
    }

    /// The same, by the number that the job alone has: so a node is told.
    pub fn exactly(&self) -> Wanted {
        Wanted::numbered(self.job, self.step.clone())
    }

    /// Whether a part of a job is meant.
    pub fn is_part(&self) -> bool {
        self.part.is_some()
    }

    /// The job, without the step.
    pub fn job(&self) -> String {
        match self.part {
            Some(Part::Task(array, task)) => format!("{array}_{task}"),
            Some(Part::Component(job, offset)) => format!("{job}+{offset}"),
            None => self.job.to_string(),
        }
    }

    /// Whether a step is one that is meant. The number of an array or of a heterogeneous job stands for each part.
    pub fn is(&self, step: &Step) -> bool {
        let is_job = match (self.part, step.part) {
            (Some(part), of_step) => Some(part) == of_step,
            (None, _) if step.job == self.job => true,
            (None, _) if self.is_exact => false,
            (None, Some(Part::Task(whole, _) | Part::Component(whole, _))) => whole == self.job,
            (None, None) => false,
        };
        is_job && self.step.as_ref().is_none_or(|wanted| *wanted == step.step)
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.step {
            Some(step) => write!(out, "{}.{step}", self.job()),
            None => write!(out, "{}", self.job()),
        }
    }
}

impl FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Wanted, String> {
        let read = || {
            let (job, step) = match text.split_once('.') {
                Some((job, step)) => (job, Some(step_name(step)?)),
                None => (text, None),
            };
            let (job, part) = match (job.split_once('_'), job.split_once('+')) {
                (Some((array, task)), _) => {
                    let array = number(array)?;
                    (array, Some(Part::Task(array, number(task)?)))
                }
                (None, Some((job, offset))) => {
                    let job = number(job)?;
                    (job, Some(Part::Component(job, number(offset)?)))
                }
                (None, None) => (number(job)?, None),
            };
            Some(Wanted {
                job,
                part,
                is_exact: false,
                step,
            })
        };
        read().ok_or_else(|| {
            "it is not the number of a job or a step, as 42, 42.0, 42_3 or 42+1".to_owned()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_a_job_is_read_as_it_is_shown() {
        for name in [
            "42",
            "42.0",
            "42.batch",
            "42_3",
            "42_3.1",
            "42+1",
            "42+0.extern",
        ] {
            assert_eq!(name.parse::<Wanted>().unwrap().to_string(), name);
        }
        let old: Wanted = "42.4294967291".parse().unwrap();
        assert_eq!(old.to_string(), "42.batch");
        for name in [
            "",
            "x",
            "-1",
            "+1",
            "42.",
            "42.x",
            "42_",
            "_3",
            "42_[1-3]",
            "42.0.1",
            "42 1",
            "4294967296",
        ] {
            assert!(name.parse::<Wanted>().is_err(), "{name}");
        }
    }

    #[test]
    fn a_job_is_meant_by_each_of_its_names() {
        let step = |job, part| Step {
            job,
            part,
            step: "0".to_owned(),
        };
        let is = |name: &str, step: &Step| name.parse::<Wanted>().unwrap().is(step);
        let task = step(45, Some(Part::Task(42, 3)));
        for name in ["45", "45.0", "42", "42_3", "42_3.0"] {
            assert!(is(name, &task), "{name}");
        }
        for name in ["42_2", "42_45", "42+3", "43", "42_3.1"] {
            assert!(!is(name, &task), "{name}");
        }
        assert!(!Wanted::numbered(42, None).is(&task) && Wanted::numbered(45, None).is(&task));
        assert!(is("42+1", &step(43, Some(Part::Component(42, 1)))));
        assert!(is("42", &step(42, None)) && !is("42_3", &step(42, None)));
    }
}
