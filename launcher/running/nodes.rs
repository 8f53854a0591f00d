//! The containers of a job on all of its nodes: a step without a container looks on each.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::process::{Command, Stdio};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Container;
use super::job::Wanted;
use super::slurm::{self, Job};
use crate::print;
use chariot_core::error::{Error, Explain, Result};
use chariot_core::handover;
use chariot_core::sys;

/// How long nodes that do not answer are waited for once the first has, in seconds.
pub const LAST: u32 = 60;

/// What a node says.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Answer {
    /// Which node.
    pub node: String,
    /// What is there.
    pub containers: Vec<Container>,
}

/// Asks all nodes of a job. The second is those that have said nothing, as far as that is known.
///
/// # Errors
/// None has answered.
pub fn containers(
    job: &Job,
    step: Option<String>,
    what: &str,
) -> Result<(Vec<Container>, Vec<String>)> {
    let nodes = slurm::names(&job.list).map_err(|why| Error::new(format!("{what}: {why}")))?;
    let options = [
        format!("--nodes={}", nodes.len()),
        format!("--ntasks={}", nodes.len()),
        "--ntasks-per-node=1".to_owned(),
        "--kill-on-bad-exit=0".to_owned(),
        "--input=none".to_owned(),
        format!("--wait={LAST}"),
    ];
    let mut words = slurm::beside(job, &options, what)?
        .into_iter()
        .skip(1)
        .collect::<Vec<_>>();
    let wanted = Wanted::numbered(job.number, step);
    words.extend([
        "ps".into(),
        "--here".into(),
        format!("--job={wanted}").into(),
    ]);
    // Of a step that is over so soon srun complains, although all have answered.
    let said = sys::memory_file(c"srun").explain(|| what.to_owned())?;
    let mut command = Command::new(slurm::program("srun", what)?);
    command
        .args(words)
        .env_clear()
        .envs(slurm::environment())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(said.try_clone().explain(|| what.to_owned())?);
    let mut step = command.spawn().explain(|| format!("{what}: srun"))?;
    let heard = |out| {
        heard(BufReader::new(out), |answer: &Answer| {
            !answer.node.is_empty()
        })
    };
    let answers = step.stdout.take().map(heard).transpose();
    let answers = answers.explain(|| what.to_owned())?.unwrap_or_default();
    step.wait().explain(|| what.to_owned())?;
    let has_answered = |node: &String| answers.iter().any(|answer| answer.node == *node);
    let silent: Vec<String> = nodes
        .iter()
        .filter(|node| !has_answered(node))
        .cloned()
        .collect();
    if !silent.is_empty() {
        print::pass_on(File::from(said));
    }
    if answers.is_empty() {
        return Err(
            Error::new(format!("{what}: none of its nodes has answered")).hint(
                "srun has said why; `chariot check --login` tells whether it loads the plugin here",
            ),
        );
    }
    let mut containers: Vec<Container> = Vec::new();
    for Answer {
        node,
        containers: found,
    } in answers
    {
        containers.extend(found.into_iter().map(|container| Container {
            node: Some(node.clone()),
            ..container
        }));
    }
    containers.sort_by(|one, other| (&one.node, one.started).cmp(&(&other.node, other.started)));
    Ok((containers, silent))
}

/// The nodes' answers among all lines of a step, by what makes one: a task prolog can print between, whatever it likes.
///
/// # Errors
/// As read(2).
pub fn heard<T: DeserializeOwned>(
    out: impl BufRead,
    is_one: impl Fn(&T) -> bool,
) -> io::Result<Vec<T>> {
    let mut answers = Vec::new();
    for line in out.split(b'\n') {
        let answer = handover::read_line::<T>(&String::from_utf8_lossy(&line?));
        answers.extend(answer.filter(&is_one));
    }
    Ok(answers)
}
