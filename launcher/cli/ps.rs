//! `chariot ps`: the containers that run, on this node or on all nodes of a job.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::{ArgMatches, Command};
use indicatif::HumanBytes;
use serde::Serialize;

use super::exec::job_argument;
use super::flag;
use super::images::ago;
use super::tool::Tool;
use crate::print;
use crate::running::job::Wanted;
use crate::running::nodes::{self, Answer};
use crate::running::{self, Container, slurm};
use chariot_core::error::{Error, Result};
use chariot_core::escape;
use chariot_core::sys::rights;
use chariot_core::users;

/// How wide a line is, and of that an image at least.
const WIDTH: usize = 80;
const NARROWEST: usize = 12;

pub(super) fn command() -> Command {
    Command::new("ps")
        .about("List your containers that run on this node, or on the nodes of a job")
        .arg(job_argument().help("those of a job of yours, on all of its nodes"))
        .arg(flag("json", "print them as JSON"))
        .arg(flag("here", "print what this node says to --job").hide(true))
}

/// What JSON has.
#[derive(Debug, Serialize)]
struct Listed<'a> {
    /// The oldest process, by which `chariot exec` enters it.
    pid: Option<i32>,
    /// The step, as squeue calls it.
    job: Option<String>,
    node: Option<&'a str>,
    user: u32,
    image: Option<&'a str>,
    /// Seconds since 1970.
    started: u64,
    pids: &'a [i32],
    /// Bytes.
    memory: u64,
}

impl<'a> Listed<'a> {
    fn of(container: &'a Container) -> Listed<'a> {
        Listed {
            pid: container.pids.first().copied(),
            job: container.step.as_ref().map(ToString::to_string),
            node: container.node.as_deref(),
            user: container.user,
            image: container.image.as_deref(),
            started: container.started,
            pids: &container.pids,
            memory: container.memory,
        }
    }
}

pub(super) fn ps(matches: &ArgMatches) -> Result<ExitCode> {
    Tool::read(matches)?;
    let wanted = matches.get_one::<Wanted>("job");
    let found = match wanted {
        None => running::containers()?,
        Some(wanted) if matches.get_flag("here") => {
            let node = slurm::this_node();
            return print::line_of_json(&Answer {
                containers: running::of_job(&wanted.exactly(), Some(&node))?,
                node,
            });
        }
        Some(wanted) => of_job(wanted)?,
    };
    if matches.get_flag("json") {
        return print::json(&found.iter().map(Listed::of).collect::<Vec<_>>());
    }
    if found.is_empty() {
        return told_none(wanted);
    }
    print::lines(lines(&found, wanted.is_some()))
}

/// Those of a job, on all of its nodes. Root, who starts no steps of others, sees those of this node.
fn of_job(wanted: &Wanted) -> Result<Vec<Container>> {
    let what = format!("can't list the containers of job {wanted}");
    let job = slurm::running(wanted, &what)?;
    let here = slurm::this_node();
    let is_of_other = rights::user() != job.user;
    if job.list == here || is_of_other {
        let found = running::of_owner(&job, wanted.step.clone(), None)?;
        if is_of_other && job.list != here {
            let list = &job.list;
            tracing::warn!(
                "warning: of {list} this node alone was looked at: root starts no step in a user's job"
            );
        }
        // From inside of a container none is seen.
        if is_of_other || !found.is_empty() {
            return Ok(found);
        }
    }
    let (found, silent) = nodes::containers(&job, wanted.step.clone(), &what)?;
    if !silent.is_empty() {
        let silent = slurm::listed(silent.iter().map(String::as_str));
        tracing::warn!("warning: {silent} did not answer");
    }
    Ok(found)
}

/// Nobody is to take it for an empty machine where no other container could be seen.
fn told_none(wanted: Option<&Wanted>) -> Result<ExitCode> {
    let is_inside = std::env::var_os(crate::plan::environment::RUNNING).is_some();
    match wanted {
        None if is_inside => {
            return Err(
                Error::new("no other container is seen from inside of one").hint(
                    "chariot ps on the host; chariot ps --job JOB works in a job's container too",
                ),
            );
        }
        None => tracing::info!("no container of yours runs on this node"),
        Some(wanted) => tracing::info!("no container of job {wanted} runs"),
    }
    Ok(ExitCode::SUCCESS)
}

/// The table. What the processes say themselves comes last, and is cut.
fn lines(containers: &[Container], has_nodes: bool) -> Vec<String> {
    let is_root = rights::user() == 0;
    let mut names: BTreeMap<u32, String> = BTreeMap::new();
    let mut header = vec!["PID", "JOB"];
    header.extend(has_nodes.then_some("NODE"));
    header.extend(is_root.then_some("USER"));
    header.extend(["STARTED", "PROCS", "MEMORY"]);
    let mut rows: Vec<Vec<String>> = vec![header.into_iter().map(str::to_owned).collect()];
    for container in containers {
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let mut row = vec![
            or_none(container.pids.first().map(ToString::to_string)),
            or_none(container.step.as_ref().map(ToString::to_string)),
        ];
        if has_nodes {
            row.push(or_none(container.node.clone()));
        }
        if is_root {
            let name = || {
                let user = users::user(container.user);
                user.map_or_else(|| container.user.to_string(), |user| user.name)
            };
            row.push(names.entry(container.user).or_insert_with(name).clone());
        }
        row.push(format!("{} ago", ago(Some(container.started))));
        row.push(container.pids.len().to_string());
        row.push(HumanBytes(container.memory).to_string());
        rows.push(
            row.iter()
                .map(|cell| escape::line(cell).into_owned())
                .collect(),
        );
    }
    let images = containers
        .iter()
        .map(|container| container.image.as_deref().unwrap_or("-"));
    let images: Vec<&str> = ["IMAGE"].into_iter().chain(images).collect();
    aligned(&rows, &images)
}

fn aligned(rows: &[Vec<String>], images: &[&str]) -> Vec<String> {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..columns)
        .map(|column| width(column).unwrap_or(0))
        .collect();
    let left = WIDTH.saturating_sub(widths.iter().map(|width| width + 2).sum());
    let line = |(row, image): (&Vec<String>, &&str)| {
        let cells = row.iter().zip(&widths);
        let cells: String = cells
            .map(|(cell, width)| format!("{cell:width$}  "))
            .collect();
        format!(
            "{cells}{}",
            end_of(&escape::line(image), left.max(NARROWEST))
        )
    };
    rows.iter().zip(images).map(line).collect()
}

/// What fits: of a path the end tells more.
fn end_of(text: &str, width: usize) -> String {
    let count = text.chars().count();
    match count <= width {
        true => text.to_owned(),
        false => {
            let rest: String = text.chars().skip(count + 1 - width).collect();
            format!("…{rest}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(image: &str) -> Container {
        let mut container = Container::default();
        container.pids = vec![4_194_303];
        container.image = Some(image.to_owned());
        container.memory = 123 << 30;
        container
    }

    #[test]
    fn a_line_stays_one_of_eighty_characters_whatever_an_image_calls_itself() {
        let long = format!("/a/{}/app.sqfs", "b".repeat(300));
        let hostile = format!("x\n4242 42.0 \x1b[2J\u{202e}{}", "\n".repeat(300));
        for image in [long.as_str(), &hostile, "", "é"] {
            let shown = lines(&[container(image)], false);
            assert_eq!(shown.len(), 2);
            assert!(
                shown.iter().all(|line| line.chars().count() <= 80),
                "{shown:?}"
            );
            assert!(!shown.concat().chars().any(escape::acts), "{shown:?}");
        }
        let shown = lines(&[container(&long)], false);
        assert!(shown[1].ends_with("b/app.sqfs") && shown[1].contains('…'));
    }
}
