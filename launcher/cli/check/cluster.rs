//! All nodes of a job in one table: a step without a container asks each, and those that say the same share a line.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio};

use clap::ArgMatches;
use serde::Serialize;

use super::node::Node;
use crate::print;
use crate::running::nodes::{self, LAST};
use crate::running::slurm;
use chariot_core::error::{Error, Explain, Result};
use chariot_core::handover::{ASKED, QUESTION};

/// What JSON has.
#[derive(Debug, Serialize)]
struct Report {
    ok: bool,
    /// Whether all nodes have the same plugin, launcher and site file.
    same: bool,
    nodes: Vec<Node>,
    /// Those that have said nothing.
    silent: Vec<String>,
    /// Why what the nodes say may not be all.
    faults: Vec<String>,
}

pub(super) fn check(matches: &ArgMatches) -> Result<ExitCode> {
    let words: Vec<OsString> = matches
        .get_many("srun")
        .map(|words| words.cloned().collect())
        .unwrap_or_default();
    let report = compare(ask(words)?);
    match matches.get_flag("json") {
        true => print::json(&report)?,
        false => print::lines(lines(&report))?,
    };
    Ok(ExitCode::from(u8::from(!report.ok)))
}

/// What came back.
#[derive(Debug)]
struct Answers {
    nodes: Vec<Node>,
    /// Those that were asked, or why that is not known.
    asked: std::result::Result<Vec<String>, String>,
    /// How the step ended, if not well.
    ended: Option<String>,
}

/// Runs the step. srun's own words, and those of the nodes that have no container at all, go to standard error.
fn ask(words: Vec<OsString>) -> Result<Answers> {
    let what = || "can't ask the nodes".to_owned();
    let own = env::current_exe().explain(what)?;
    let mut command = Command::new("srun");
    match env::var_os("SLURM_JOB_NUM_NODES") {
        Some(count) if words.is_empty() => {
            let count = count.to_string_lossy();
            command.args([
                format!("--nodes={count}"),
                format!("--ntasks={count}"),
                "--overlap".into(),
            ]);
        }
        None if words.is_empty() => {
            return Err(Error::new(format!("{}: this is no job", what()))
                .hint("say which nodes: chariot check --cluster -- -N4, with srun's own options; or run it in a job"));
        }
        _ => {}
    }
    command
        .args([
            "--ntasks-per-node=1",
            "--mpi=none",
            "--kill-on-bad-exit=0",
            "--input=none",
        ])
        .arg(format!("--wait={LAST}"))
        .args(words)
        // Without a container, whatever the job or the site has by default: the host is what is asked about.
        .env("CH_IMAGE", "none")
        .env(QUESTION, ASKED)
        .arg(own)
        .args(["check", "--report"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut step = command.spawn().explain(|| format!("{}: srun", what()))?;
    let nodes = step.stdout.take().map(BufReader::new).map(heard);
    let nodes = nodes.transpose().explain(what)?.unwrap_or_default();
    let status = step.wait().explain(what)?;
    if nodes.is_empty() {
        return Err(Error::new(format!("{}: none has answered", what()))
            .hint("srun has said why; a plugin that cannot be loaded here keeps it from starting: chariot check --login"));
    }
    let lists: BTreeSet<_> = nodes
        .iter()
        .filter_map(|node| node.list.as_deref())
        .collect();
    Ok(Answers {
        asked: slurm::names(&Vec::from_iter(lists).join(",")),
        nodes,
        ended: (!status.success()).then(|| format!("srun ended with {status}")),
    })
}

fn heard(out: impl BufRead) -> io::Result<Vec<Node>> {
    nodes::heard(out, |node: &Node| !node.name.is_empty())
}

fn compare(answers: Answers) -> Report {
    let Answers {
        mut nodes,
        asked,
        ended,
    } = answers;
    nodes.sort_by(|a, b| a.name.cmp(&b.name).then_with(|| a.cmp(b)));
    // Of several tasks on a node each answers.
    nodes.dedup();
    let unknown = asked.as_ref().err();
    let unknown = unknown.map(|why| format!("which nodes were asked is not known: {why}"));
    let faults: Vec<_> = unknown.into_iter().chain(ended).collect();
    let heard: BTreeSet<_> = nodes.iter().map(|node| node.name.clone()).collect();
    let silent: Vec<_> = asked
        .into_iter()
        .flatten()
        .filter(|name| !heard.contains(name))
        .collect();
    let kinds: BTreeSet<_> = nodes
        .iter()
        .map(|node| (&node.plugin, &node.launcher, &node.site_file))
        .collect();
    let same = kinds.len() < 2;
    let is_well =
        |node: &Node| node.plugin.is_some() && node.launcher.is_some() && node.faults.is_empty();
    let ok = same && silent.is_empty() && faults.is_empty() && nodes.iter().all(is_well);
    Report {
        ok,
        same,
        nodes,
        silent,
        faults,
    }
}

/// The table, and below it what is wrong.
fn lines(report: &Report) -> Vec<String> {
    let mut groups: BTreeMap<Node, Vec<String>> = BTreeMap::new();
    for node in &report.nodes {
        let kind = Node {
            name: String::new(),
            list: None,
            ..node.clone()
        };
        groups.entry(kind).or_default().push(node.name.clone());
    }
    let mut rows = vec![HEADER.map(str::to_owned)];
    rows.extend(groups.iter().map(|(kind, names)| row(kind, names)));
    let mut lines = aligned(&rows);
    if !report.silent.is_empty() {
        lines.push(format!("{} did not answer", folded(&report.silent)));
    }
    lines.extend(report.faults.iter().cloned());
    for (kind, names) in &groups {
        let faults = kind.faults.iter();
        lines.extend(faults.map(|fault| format!("{}: {fault}", folded(names))));
    }
    if !report.same {
        lines.push("the nodes differ: a job on several of them has several Chariots".to_owned());
    }
    lines
}

const HEADER: [&str; 7] = [
    "nodes",
    "plugin",
    "launcher",
    "site file",
    "Linux",
    "user namespaces",
    "FUSE",
];

fn row(kind: &Node, names: &[String]) -> [String; 7] {
    let yes = |is_so| if is_so { "yes" } else { "NO" }.to_owned();
    let or_missing = |text: &Option<String>| text.clone().unwrap_or_else(|| "MISSING".to_owned());
    [
        folded(names),
        or_missing(&kind.plugin),
        or_missing(&kind.launcher),
        kind.site_file.clone().unwrap_or_else(|| "none".to_owned()),
        kind.kernel.clone(),
        yes(kind.user_namespaces),
        yes(kind.fuse),
    ]
}

fn aligned<const N: usize>(rows: &[[String; N]]) -> Vec<String> {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: [usize; N] = std::array::from_fn(|column| width(column).unwrap_or(0));
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths);
        let line: String = cells
            .map(|(cell, width)| format!("{cell:width$}  "))
            .collect();
        line.trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// Names as Slurm writes them, with their numbers in brackets: `login,n[1-3,7]`.
fn folded(names: &[String]) -> String {
    let mut sorted: Vec<_> = names.iter().map(|name| split(name)).collect();
    sorted.sort_by_key(|(stem, digits)| (*stem, digits.len(), *digits));
    sorted.dedup();
    let parts = sorted.chunk_by(|(one, _), (other, _)| one == other);
    let shown = parts.map(|part| {
        let (stem, _) = part[0];
        let digits: Vec<_> = part.iter().map(|(_, digits)| *digits).collect();
        match digits.as_slice() {
            [one] => format!("{stem}{one}"),
            all => format!("{stem}[{}]", ranges(all)),
        }
    });
    shown.collect::<Vec<_>>().join(",")
}

fn ranges(digits: &[&str]) -> String {
    let runs = digits.chunk_by(|before, next| follows(before, next));
    let shown = runs.map(|run| match run {
        [first, .., last] => format!("{first}-{last}"),
        one => one.concat(),
    });
    shown.collect::<Vec<_>>().join(",")
}

/// The number at the end of a name.
fn split(name: &str) -> (&str, &str) {
    name.split_at(
        name.trim_end_matches(|last: char| last.is_ascii_digit())
            .len(),
    )
}

/// Whether a range that has got as far as `before` goes on with `next`, written as wide.
fn follows(before: &str, next: &str) -> bool {
    let number = before.parse::<u64>().ok();
    let number = number.and_then(|number| number.checked_add(1));
    number.is_some_and(|number| format!("{number:0width$}", width = before.len()) == next)
}

#[cfg(test)]
#[path = "cluster/tests.rs"]
mod tests;
