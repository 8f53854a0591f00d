//! What Slurm knows of a job: whose it is, where it runs, which steps it has; and how something is started there.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::job::{self, Wanted};
use chariot_core::environment::Environment;
use chariot_core::error::{Error, Exit, Explain, Result};
use chariot_core::options::given::CALLED_IN;
use chariot_core::sys::{self, helper, rights};

/// How long Slurm's commands may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Of parts of a job, so many are named.
const MOST_NAMED: usize = 8;

/// Variables of Slurm's commands that say where Slurm is. All others say how an enclosing job's steps are to be, which a
/// step of another kind has no use for.
const OF_PLACE: [&str; 6] = [
    "SLURM_CONF",
    "SLURM_CONF_SERVER",
    "SLURM_JWT",
    "SLURM_SACK_JWKS",
    "SLURM_SACK_KEY",
    "SLURM_CLUSTERS",
];

/// A job that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The number that it alone has.
    pub number: u32,
    /// As squeue shows it.
    pub name: String,
    /// Whose it is.
    pub user: u32,
    /// Its nodes, as Slurm writes them.
    pub list: String,
}

/// This node, as Slurm calls it.
pub fn this_node() -> String {
    let named = env::var("SLURMD_NODENAME").ok();
    named.unwrap_or_else(|| {
        let name = sys::host_name().to_string_lossy().into_owned();
        name.split('.').next().unwrap_or_default().to_owned()
    })
}

/// The one job that is meant, which runs, and is the caller's unless that is root.
///
/// # Errors
/// It is none of these; `what` says what was to be done.
pub fn running(wanted: &Wanted, what: &str) -> Result<Job> {
    let name = wanted.job();
    let said = ask(
        "squeue",
        &[
            "-h",
            "-a",
            "-r",
            "-t",
            "all",
            "-o",
            "%A %U %T %i %N",
            "-j",
            &name,
        ],
        what,
    )?;
    let mut rows: Vec<(Job, String)> = said.lines().filter_map(row).collect();
    // Of a heterogeneous job squeue shows all components.
    rows.retain(|(job, _)| !wanted.is_part() || job.name == name);
    if rows.is_empty() {
        return Err(match said.lines().next().unwrap_or_default().trim() {
            "" => unknown(&name, what),
            line if line.contains("Invalid job id") => unknown(&name, what),
            line if row(line).is_some() => unknown(&name, what),
            line => Error::new(format!(
                "{what}: squeue says: {}",
                line.trim_start_matches("squeue: error: ")
            ))
            .hint("is Slurm running, and is this one of its machines? `scontrol ping` tells"),
        });
    }
    let own = rights::user();
    if let Some((job, _)) = rows.iter().find(|(job, _)| own != 0 && job.user != own) {
        return Err(
            Error::new(format!("{what}: it belongs to user {}", job.user))
                .hint("only its owner can enter a job's containers, and root as its owner"),
        );
    }
    let is_running = |(_, state): &(Job, String)| state == "RUNNING";
    if rows.iter().any(is_running) {
        rows.retain(is_running);
    }
    match rows.as_slice() {
        [(job, state)] if state == "RUNNING" => Ok(job.clone()),
        [(_, state), ..] if state != "RUNNING" => Err(not_running(&name, state, what)),
        several => {
            let names = several.iter().map(|(job, _)| job.name.as_str());
            let names = listed(names);
            Err(Error::new(format!("{what}: it has several parts"))
                .hint(format!("say which: {names}")))
        }
    }
}

/// Some of many names.
pub fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    let shown = names.iter().take(MOST_NAMED).copied();
    let shown = shown.collect::<Vec<_>>().join(", ");
    match names.len() > MOST_NAMED {
        true => format!("{shown}, …"),
        false => shown,
    }
}

fn row(line: &str) -> Option<(Job, String)> {
    let mut words = line.split_whitespace();
    let job = Job {
        number: job::number(words.next()?)?,
        user: job::number(words.next()?)?,
        name: String::new(),
        list: String::new(),
    };
    let state = words.next()?.to_owned();
    let name = words.next()?.to_owned();
    let list = words.next().unwrap_or_default().to_owned();
    Some((Job { name, list, ..job }, state))
}

fn unknown(name: &str, what: &str) -> Error {
    Error::new(format!("{what}: Slurm knows no job {name}"))
        .hint("`squeue --me` lists yours; one that has ended is soon forgotten")
}

fn not_running(name: &str, state: &str, what: &str) -> Error {
    let hint = match state {
        "PENDING" | "CONFIGURING" | "REQUEUED" | "REQUEUE_HOLD" | "SPECIAL_EXIT" => {
            format!("its containers are made when it starts: squeue -j {name}")
        }
        "SUSPENDED" | "STOPPED" => format!("it goes on with `scontrol resume {name}`"),
        _ => "its containers have ended with it".to_owned(),
    };
    let state = state.to_ascii_lowercase().replace('_', " ");
    Error::new(format!("{what}: it does not run, Slurm says: {state}")).hint(hint)
}

/// The steps of a job, each with its nodes.
///
/// # Errors
/// squeue does not answer.
pub fn steps(job: &Job, what: &str) -> Result<Vec<(String, String)>> {
    let number = job.number.to_string();
    let said = ask("squeue", &["-h", "-s", "-o", "%i %N", "-j", &number], what)?;
    let row = |line: &str| {
        let (name, nodes) = line.trim().split_once(' ')?;
        let (_, step) = name.rsplit_once('.')?;
        Some((job::step_name(step)?, nodes.trim().to_owned()))
    };
    Ok(said.lines().filter_map(row).collect())
}

/// The names in a list of Slurm's, which scontrol knows by itself.
///
/// # Errors
/// Why they are not known.
pub fn names(list: &str) -> std::result::Result<Vec<String>, String> {
    let mut command = Command::new("scontrol");
    command.args(["show", "hostnames", list]);
    let said = helper::start_asking(command).and_then(|helper| helper.report(PATIENCE));
    match said {
        Err(error) => Err(format!("scontrol: {error}")),
        Ok(said) if list.is_empty() || said.trim().is_empty() => {
            Err("`scontrol show hostnames` names none".to_owned())
        }
        Ok(said) => Ok(said.lines().map(str::to_owned).collect()),
    }
}

/// All that a command of Slurm's prints, in English, failed or not.
fn ask(name: &str, words: &[&str], what: &str) -> Result<String> {
    let program = program(name, what)?;
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", "exec \"$0\" \"$@\" 2>&1"])
        .arg(program)
        .args(words)
        .env("LC_ALL", "C");
    helper::start_asking(shell)
        .and_then(|helper| helper.report(PATIENCE))
        .explain(|| format!("{what}: {name}"))
}

/// A command of Slurm's.
///
/// # Errors
/// This machine has none of that name.
pub fn program(name: &str, what: &str) -> Result<PathBuf> {
    let search = env::var_os("PATH").unwrap_or_default();
    let mut places = env::split_paths(&search).map(|directory| directory.join(name));
    let can_run = |path: &PathBuf| path.is_file() && sys::may_execute(path).is_ok();
    places.find(can_run).ok_or_else(|| {
        Error::new(format!(
            "{what}: this machine has no {name}, by which its nodes are found"
        ))
        .exit(Exit::NotFound)
        .hint("PATH has to have Slurm's commands; on a node of the job `chariot ps` needs none")
    })
}

/// The words by which srun starts this program without a container on nodes of a job, beside all that runs there.
///
/// # Errors
/// This program has no name.
pub fn beside(job: &Job, more: &[String], what: &str) -> Result<Vec<OsString>> {
    let mut words: Vec<OsString> = [
        "srun",
        "--overlap",
        "--quiet",
        "--mpi=none",
        "--ch-image=none",
    ]
    .map(OsString::from)
    .into();
    // Of a heterogeneous job the first component speaks for all.
    match job.name.split_once('+') {
        Some((whole, component)) => words.extend([
            format!("--jobid={whole}").into(),
            format!("--het-group={component}").into(),
        ]),
        None => words.push(format!("--jobid={}", job.number).into()),
    }
    words.extend(more.iter().map(OsString::from));
    words.push(own(what)?);
    Ok(words)
}

/// This program as a node can start it. In a container its file is seen at another place than outside.
fn own(what: &str) -> Result<OsString> {
    let path = env::current_exe().explain(|| what.to_owned())?;
    let is_outside = env::var_os(crate::plan::environment::RUNNING).is_none()
        || !path.parent().is_some_and(is_of_commands);
    match is_outside {
        true => Ok(path.into()),
        false => Ok("chariot".into()),
    }
}

fn is_of_commands(directory: &Path) -> bool {
    directory.ends_with(crate::plan::host_commands::NAME)
}

/// The variables for srun: without those by which the step that this process is of, if it is, would decide what the new one is.
pub fn environment() -> Environment {
    let is_passed = |name: &OsString| {
        let name = name.to_string_lossy();
        let of_slurm = ["SLURM_", "SLURMD_", "SRUN_", "PMI_", "PMIX_", "PMI2_"];
        OF_PLACE.contains(&name.as_ref())
            || name == CALLED_IN
            || !of_slurm.iter().any(|start| name.starts_with(start))
    };
    env::vars_os().filter(|(name, _)| is_passed(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_squeue_says_of_a_job_is_read_with_and_without_nodes() {
        let (job, state) = row("45 1000 RUNNING 42_3 n[1-4]").unwrap();
        assert_eq!(
            (job.number, job.user, job.name.as_str()),
            (45, 1000, "42_3")
        );
        assert_eq!((job.list.as_str(), state.as_str()), ("n[1-4]", "RUNNING"));
        let (job, _) = row("45 1000 PENDING 42_3").unwrap();
        assert_eq!(job.list, "");
        assert!(row("slurm_load_jobs error: Invalid job id specified").is_none());
    }

    #[test]
    fn the_state_of_a_job_says_what_is_to_be_done() {
        for (state, hint) in [
            ("PENDING", "when it starts"),
            ("SUSPENDED", "scontrol resume 7"),
            ("COMPLETED", "have ended with it"),
            ("OUT_OF_MEMORY", "have ended with it"),
        ] {
            let error = not_running("7", state, "can't");
            assert!(error.advice().unwrap().contains(hint), "{state}");
        }
        let error = not_running("7", "NODE_FAIL", "can't");
        assert!(error.to_string().ends_with("Slurm says: node fail"));
    }
}
