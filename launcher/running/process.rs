//! A process in a container: what proc(5) shows of it, and which step it is of.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::job::{self, Part, Step};
use crate::enter::member::Member;
use chariot_core::handover;
use chariot_core::open;
use chariot_core::sys::{self, rights};

/// The longest of the kernel's own texts, in bytes.
const LARGEST: u64 = 1 << 20;

/// Times in proc_pid_stat(5) have this many to a second on all machines that Chariot runs on.
const TICKS: u64 = 100;

/// So far above a process its slurmstepd is looked for.
const MOST_PARENTS: usize = 64;

/// What is remembered of a process's variables, and all whose names begin with the last.
const VARIABLES: [&str; 6] = [
    "CH_RUNNING",
    "SLURM_JOB_ID",
    "SLURM_STEP_ID",
    "SLURM_ARRAY_JOB_ID",
    "SLURM_ARRAY_TASK_ID",
    "SLURMD_NODENAME",
];
const COMPONENTS: &str = "SLURM_JOB_ID_HET_GROUP_";

/// The mount namespace, which a container has for itself.
pub(super) type Place = (u32, u32, u64);

/// A process in a container.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) number: i32,
    pub(super) owner: u32,
    pub(super) place: Place,
    /// In seconds since 1970.
    pub(super) started: u64,
    /// In bytes.
    pub(super) memory: u64,
    parent: i32,
    /// The step whose control group it is in.
    group: Option<(u32, String)>,
    variables: BTreeMap<String, String>,
}

impl Process {
    /// Looks at a process. None if it is in no container, or this process may not know, or it has just ended.
    pub(super) fn look(number: i32, up: u64) -> Option<Process> {
        let member = Member::find(number).ok()?;
        let stat = Stat::read(&member.file("stat")?)?;
        let status = member.file("status")?;
        let group = member.file("cgroup").unwrap_or_default();
        let variables = member.file("environ").unwrap_or_default();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
        Some(Process {
            number,
            owner: member.owner(),
            place: Process::place_of(&member)?,
            started: now.saturating_sub(up.saturating_sub(stat.started / TICKS)),
            memory: memory(&status),
            parent: stat.parent,
            group: step_in_path(&String::from_utf8_lossy(&group), rights::user() == 0),
            variables: known(&variables),
        })
    }

    /// In which container a process is.
    pub(super) fn place_of(member: &Member) -> Option<Place> {
        let place = sys::place_of(&member.namespaces().mount).ok()?;
        Some((place.device.0, place.device.1, place.inode))
    }

    /// A variable.
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }

    fn number_in(&self, name: &str) -> Option<u32> {
        job::number(self.variables.get(name)?)
    }

    /// Whether its variables are of a job. A step of a heterogeneous one has the first component's number everywhere, and a
    /// list of all.
    pub(super) fn says_job(&self, job: u32) -> bool {
        self.number_in("SLURM_JOB_ID") == Some(job) || self.component(job).is_some()
    }

    /// Which component a job is of the heterogeneous one that this process is in.
    fn component(&self, job: u32) -> Option<u32> {
        let mut listed = self.variables.iter().filter_map(|(name, value)| {
            let component = job::number(name.strip_prefix(COMPONENTS)?)?;
            Some((component, job::number(value)?))
        });
        listed.find_map(|(component, number)| (number == job).then_some(component))
    }

    /// What the job is called besides.
    fn part(&self, job: u32) -> Option<Part> {
        let array = self.number_in("SLURM_ARRAY_JOB_ID");
        if let Some((whole, one)) = array.zip(self.number_in("SLURM_ARRAY_TASK_ID")) {
            return Some(Part::Task(whole, one));
        }
        let whole = self.number_in(&format!("{COMPONENTS}0"))?;
        Some(Part::Component(whole, self.component(job)?))
    }

    /// The step that its variables name.
    fn claimed(&self) -> Option<(u32, String)> {
        let step = job::step_name(self.variables.get("SLURM_STEP_ID")?)?;
        Some((self.number_in("SLURM_JOB_ID")?, step))
    }

    /// The step whose slurmstepd has started it.
    fn started_by(&self) -> Option<(u32, String)> {
        let mut number = self.parent;
        for _ in 0..MOST_PARENTS {
            if number < 2 {
                return None;
            }
            // Held, since the number can be another's at any moment.
            let place = open::directory(Path::new(&format!("/proc/{number}"))).ok()?;
            let step = step_in_title(&String::from_utf8_lossy(&text(&place, "cmdline")?));
            // Anybody can have any title, and tell their own user so.
            if step.is_some() && (rights::user() != 0 || is_roots(&text(&place, "status")?)) {
                return step;
            }
            number = Stat::read(&text(&place, "stat")?)?.parent;
        }
        None
    }
}

/// Of which step a container is: whose control group a process is in, or whose slurmstepd has started it, as Slurm has it;
/// else what the processes say, to their own user alone: root is told no user's tales.
pub(super) fn step_of<'a, T: Iterator<Item = &'a Process>>(
    processes: impl Fn() -> T,
) -> Option<Step> {
    let (job, step) = processes()
        .find_map(|process| process.group.clone())
        .or_else(|| processes().find_map(Process::started_by))
        .or_else(|| {
            let claims = || processes().find_map(Process::claimed);
            (rights::user() != 0).then(claims).flatten()
        })?;
    let said = || {
        let mut of_job = processes().filter(|process| process.says_job(job));
        of_job.find_map(|process| process.part(job))
    };
    let part = (rights::user() != 0).then(said).flatten();
    Some(Step { job, part, step })
}

/// How long this machine has been up, in seconds: proc_uptime(5).
pub(super) fn seconds_up() -> io::Result<u64> {
    let bytes =
        open::regular("/proc/uptime".as_ref()).and_then(|file| open::all_of(&file, LARGEST))?;
    let whole = bytes.split(|byte| !byte.is_ascii_digit()).next();
    let seconds = whole.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    Ok(seconds.unwrap_or(0))
}

fn text(directory: &impl AsFd, name: &str) -> Option<Vec<u8>> {
    let (file, _) = open::regular_at(directory, Path::new(name)).ok()?;
    open::all_of(&file, LARGEST).ok()
}

/// Whether root has started a process, by proc_pid_status(5).
fn is_roots(status: &[u8]) -> bool {
    let status = String::from_utf8_lossy(status);
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    line.and_then(|line| line.split_whitespace().next()) == Some("0")
}

/// Of proc_pid_stat(5).
struct Stat {
    parent: i32,
    /// In ticks since the machine started.
    started: u64,
}

impl Stat {
    /// The name in it can be anything, brackets among it.
    fn read(bytes: &[u8]) -> Option<Stat> {
        let end = bytes.iter().rposition(|byte| *byte == b')')?;
        let rest = std::str::from_utf8(bytes.get(end + 1..)?).ok()?;
        let mut fields = rest.split_ascii_whitespace();
        // Fields 4 and 22; the first here is 3.
        Some(Stat {
            parent: fields.nth(1)?.parse().ok()?,
            started: fields.nth(17)?.parse().ok()?,
        })
    }
}

/// What is resident, of proc_pid_status(5).
fn memory(status: &[u8]) -> u64 {
    let status = String::from_utf8_lossy(status);
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    number.unwrap_or(0).saturating_mul(1024)
}

/// Those that are wanted. Of one that stands there twice the first counts, as getenv(3) has it.
fn known(bytes: &[u8]) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for text in bytes.split(|byte| *byte == 0) {
        let Some((name, value)) = handover::split(OsStr::from_bytes(text)) else {
            continue;
        };
        let name = name.to_string_lossy();
        if VARIABLES.contains(&name.as_ref()) || name.starts_with(COMPONENTS) {
            let value = || value.to_string_lossy().into_owned();
            found.entry(name.into_owned()).or_insert_with(value);
        }
    }
    found
}

/// The step in a path of proc_pid_cgroup(5): `…/job_42/step_0/…`, below whatever Slurm has its groups in. A user to whom
/// systemd has given groups can make such ones there: root believes those `of_slurm` alone.
fn step_in_path(text: &str, of_slurm: bool) -> Option<(u32, String)> {
    text.lines().find_map(|line| {
        let parts: Vec<&str> = line.split('/').collect();
        let is_of_slurm = match parts.as_slice() {
            [_, "system.slice", scope, ..] => scope.ends_with("slurmstepd.scope"),
            [_, first, ..] => first.starts_with("slurm"),
            _ => false,
        };
        if of_slurm && !is_of_slurm {
            return None;
        }
        parts.windows(2).find_map(|pair| {
            let job = job::number(pair[0].strip_prefix("job_")?)?;
            Some((job, job::step_name(pair[1].strip_prefix("step_")?)?))
        })
    })
}

/// The step in the title of its slurmstepd: `slurmstepd: [42.0]`.
fn step_in_title(text: &str) -> Option<(u32, String)> {
    let name = text.strip_prefix("slurmstepd: [")?.split(']').next()?;
    let (job, step) = name.split_once('.')?;
    Some((job::number(job)?, job::step_name(step)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_step_is_where_slurm_writes_it_and_nowhere_else() {
        let zero = Some((42, "0".to_owned()));
        for path in [
            "9:memory:/slurm/uid_1000/job_42/step_0/task_1\n0::/user.slice\n",
            "0::/system.slice/slurmstepd.scope/job_42/step_0/user/task_0\n",
        ] {
            assert_eq!(step_in_path(path, true), zero);
        }
        for path in [
            "",
            "0::/\n",
            "0::/job_42\n",
            "0::/job_x/step_0\n",
            "0::/job_42/x/step_0\n",
        ] {
            assert_eq!(step_in_path(path, false), None, "{path}");
        }
        let own = "0::/user.slice/user-1000.slice/user@1000.service/slurm/job_42/step_0\n";
        assert_eq!(
            (step_in_path(own, true), step_in_path(own, false)),
            (None, zero.clone())
        );
        assert!(
            is_roots(b"Name:\tx\nUid:\t0\t1000\t0\t0\n") && !is_roots(b"Uid:\t1000\t0\t0\t0\n")
        );
        assert_eq!(step_in_title("slurmstepd: [42.0]\0"), zero);
        assert_eq!(
            step_in_title("slurmstepd: [42.batch]"),
            Some((42, "batch".to_owned()))
        );
        assert_eq!(step_in_title("sh -c slurmstepd: [42.0]"), None);
    }

    #[test]
    fn a_name_with_brackets_and_numbers_is_no_other_process() {
        let fields = "S 7 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 1 2";
        for name in ["sh", "a) S 9 (b", "\n) (", "\u{fffd}"] {
            let stat = Stat::read(format!("3 ({name}) {fields}\n").as_bytes()).unwrap();
            assert_eq!((stat.parent, stat.started), (7, 4711), "{name}");
        }
        assert!(Stat::read(b"").is_none() && Stat::read(b"3 (x)").is_none());
    }

    #[test]
    fn of_a_variable_that_is_there_twice_the_first_counts_and_any_bytes_may_be_there() {
        let read = known(b"SLURM_JOB_ID=1\0SLURM_JOB_ID=2\0\xff\0=\0CH_RUNNING=a\n\xff\0X=1");
        assert_eq!(read["SLURM_JOB_ID"], "1");
        assert_eq!(read["CH_RUNNING"], "a\n\u{fffd}");
        assert_eq!(read.len(), 2);
    }
}
