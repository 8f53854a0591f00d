//! `chariot exec --job JOB[.STEP]`: the container of a job, by a process on this node if one is seen here; else on a node of
//! the job, where Slurm starts this program beside the step.

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::ArgMatches;
use clap::parser::ValueSource;

use super::super::asked::{HANDED_ON, config_path, typed, words};
use super::{OPTIONS, enter};
use crate::enter::program::become_command;
use crate::print;
use crate::running::job::Wanted;
use crate::running::slurm::{self, Job};
use crate::running::{self, Container, nodes};
use chariot_core::error::{Error, Explain, Result};
use chariot_core::options::{Dialect, Given, given};
use chariot_core::sys::rights;

/// What was asked for.
struct Search<'a> {
    wanted: &'a Wanted,
    node: Option<&'a str>,
    what: String,
}

pub(super) fn exec(matches: &ArgMatches, wanted: &Wanted) -> Result<ExitCode> {
    let exact = wanted.exactly();
    let is_here = matches.get_flag("here");
    let search = Search {
        wanted: if is_here { &exact } else { wanted },
        node: matches.get_one::<String>("node").map(String::as_str),
        what: format!("can't enter a container of job {wanted}"),
    };
    // Where a job is named, the first word is the command's.
    let first = matches.get_one::<OsString>("pid").cloned();
    let words: Vec<OsString> = first.into_iter().chain(words(matches)).collect();
    if words.is_empty() {
        return Err(Error::new("there is no command to run").hint(format!(
            "chariot exec --job {wanted} -- COMMAND; a shell is bash or sh"
        )));
    }
    if let Some(container) = search.chosen(search.here()?)? {
        return enter(&container.member()?, matches, &words);
    }
    match is_here {
        true => Err(search.none_on(&slurm::this_node())),
        false => search.elsewhere(matches, words),
    }
}

impl Search<'_> {
    /// What of the job is seen on this node. Processes can claim any job: whose it is, Slurm says where that does not follow
    /// from who asks.
    fn here(&self) -> Result<Vec<Container>> {
        if rights::user() != 0 {
            return running::of_job(self.wanted, self.node);
        }
        let job = slurm::running(self.wanted, &self.what)?;
        running::of_owner(&job, self.wanted.step.clone(), self.node)
    }

    /// The one that is meant. That a test has several nodes on one machine is no reason to ask.
    fn chosen(&self, found: Vec<Container>) -> Result<Option<Container>> {
        let what = &self.what;
        let steps: BTreeSet<_> = found.iter().filter_map(|one| one.step.clone()).collect();
        if steps.len() > 1 {
            let names: Vec<String> = steps.iter().map(ToString::to_string).collect();
            let names = slurm::listed(names.iter().map(String::as_str));
            return Err(Error::new(format!("{what}: several of its steps have one"))
                .hint(format!("say which: {names}")));
        }
        let node = found.iter().map(|one| one.node.clone()).min();
        let mut found: Vec<Container> = found;
        found.retain(|one| Some(&one.node) == node.as_ref());
        if found.len() > 1 {
            let pids = found.iter().filter_map(|one| one.pids.first());
            let pids: Vec<String> = pids.map(ToString::to_string).collect();
            let pids = slurm::listed(pids.iter().map(String::as_str));
            return Err(
                Error::new(format!("{what}: the step has several")).hint(format!(
                    "chariot exec PID enters one by a process, on its node: {pids}"
                )),
            );
        }
        Ok(found.pop())
    }

    fn none_on(&self, node: &str) -> Error {
        let job = self.wanted.job();
        Error::new(format!("{}: there is none on {node}", self.what)).hint(format!(
            "`chariot ps --job {job}` shows which there are; on the host, where a step without --ch-image is, srun --overlap --jobid={job} runs a command"
        ))
    }

    /// Becomes srun, which starts this program on a node of the job.
    fn elsewhere(&self, matches: &ArgMatches, words: Vec<OsString>) -> Result<ExitCode> {
        let what = &self.what;
        let job = slurm::running(self.wanted, what)?;
        if rights::user() != job.user {
            let nodes = &job.list;
            return Err(Error::new(format!(
                "{what}: it is on {nodes}, where root starts no step in a user's job"
            ))
            .hint("run the same command as root on that node, or as the job's user"));
        }
        let (step, node) = self.place(&job)?;
        let mut options = vec![
            "--nodes=1".to_owned(),
            "--ntasks=1".to_owned(),
            format!("--nodelist={node}"),
        ];
        if io::stdin().is_terminal() && print::is_shown() {
            options.push("--pty".to_owned());
        }
        let mut all = slurm::beside(&job, &options, what)?;
        if matches.value_source("config") == Some(ValueSource::CommandLine) {
            let config = std::path::absolute(config_path(matches)).explain(|| what.clone())?;
            all.extend(["--config".into(), config.into()]);
        }
        let wanted = Wanted::numbered(job.number, step);
        all.extend(["exec".into(), "--here".into()]);
        all.push(format!("--job={wanted}").into());
        all.push(format!("--node={node}").into());
        let base = given::working_directory().unwrap_or_else(|| PathBuf::from("/"));
        let is_own = |given: &Given| OPTIONS.contains(&given.row.name);
        let typed = typed(matches, &base)?.into_iter().filter(is_own);
        all.extend(typed.map(|given| format!("--{}={}", given.row.name, given.value).into()));
        all.push("--".into());
        all.extend(words);
        // Slurm hands on no variables of Chariot's. What somebody kept in one must not be seen in ps(1), as words are.
        let mut environment = slurm::environment();
        let of_variables =
            given::from_variables(|name| env::var_os(name), &base, Dialect::Launcher)?;
        let of_variables: Vec<Given> = of_variables.into_iter().filter(is_own).collect();
        environment.push((HANDED_ON.into(), given::encode(&of_variables).into()));
        become_command(&slurm::program("srun", what)?, &all, environment)
    }

    /// The step, if one has to be named, and the node.
    fn place(&self, job: &Job) -> Result<(Option<String>, String)> {
        let what = &self.what;
        let all = || slurm::names(&job.list).map_err(|why| Error::new(format!("{what}: {why}")));
        let step = self.wanted.step.clone();
        if let Some(node) = self.node {
            return match all()?.iter().any(|known| known == node) {
                true => Ok((step, node.to_owned())),
                false => Err(Error::new(format!("{what}: it does not run on {node}"))
                    .hint(format!("it is on {}", job.list))),
            };
        }
        let (name, list) = match &step {
            Some(step) => (self.wanted.to_string(), self.nodes_of(job, step)?),
            None => match all()?.as_slice() {
                [only] => return Ok((None, only.clone())),
                _ => return self.discovered(job),
            },
        };
        let names = slurm::names(&list).map_err(|why| Error::new(format!("{what}: {why}")))?;
        let first = names.first().cloned().unwrap_or_default();
        if names.len() > 1 {
            tell_node(&name, &list, &first);
        }
        Ok((step, first))
    }

    /// The nodes of a step.
    fn nodes_of(&self, job: &Job, step: &str) -> Result<String> {
        let steps = slurm::steps(job, &self.what)?;
        if let Some((_, nodes)) = steps.iter().find(|(known, _)| known == step) {
            return Ok(nodes.clone());
        }
        let there: Vec<String> = steps
            .iter()
            .map(|(step, _)| format!("{}.{step}", job.name))
            .collect();
        let there = slurm::listed(there.iter().map(String::as_str));
        Err(
            Error::new(format!("{}: it has no such step now", self.what)).hint(
                match there.as_str() {
                    "" => "squeue --steps lists steps".to_owned(),
                    there => format!("it has {there}"),
                },
            ),
        )
    }

    /// The one step that has containers, and the first of its nodes.
    fn discovered(&self, job: &Job) -> Result<(Option<String>, String)> {
        let (found, _) = nodes::containers(job, None, &self.what)?;
        let nodes: BTreeSet<&str> = found.iter().filter_map(|one| one.node.as_deref()).collect();
        let nodes: Vec<&str> = nodes.into_iter().collect();
        let list = slurm::listed(nodes.iter().copied());
        let several = nodes.len() > 1;
        let chosen = self.chosen(found.clone())?;
        let found = chosen.and_then(|one| one.step.zip(one.node));
        let (step, node) = found.ok_or_else(|| self.none_on(&job.list))?;
        if several {
            tell_node(&step.to_string(), &list, &node);
        }
        Ok((Some(step.step), node))
    }
}

/// Says which of several nodes it is.
fn tell_node(name: &str, list: &str, node: &str) {
    print::message(&format!(
        "chariot: {name} is on {list}; this is {node}, --node names another"
    ));
}
