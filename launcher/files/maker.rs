//! Names of what is not complete: `.NAME.part.HOST.KERNEL.PID.START-COUNT`. They say who makes it, so that whoever comes
//! later knows without opening anything whether that process is still there. (A lock would have to be taken on
//! each file of that directory, and Lustre without `-o flock`, some FUSE file systems and old NFS have none.)
//!
//! KERNEL is of the boot and of the namespaces of PIDs and of time: numbers and starts of processes mean nothing in
//! others, and two machines may have one name. Of what is made elsewhere only its age tells.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use chariot_core::sys::{self, process};

/// What another machine left alone for so long is left over: nothing that is being written rests for a day.
const ABANDONED: Duration = Duration::from_secs(86_400);

/// The longest name that file systems take, in bytes; NAME_MAX.
const LONGEST: usize = 255;

/// How much of a name is kept where all of it would be too long.
const KEPT: usize = 60;

/// Why a name is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It will be what the name says.
    Part,
    /// It is what had the name before, out of the way until the new one has it.
    Old,
}

impl Role {
    fn word(self) -> &'static str {
        match self {
            Role::Part => "part",
            Role::Old => "old",
        }
    }
}

/// The process that makes something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Maker {
    host: String,
    kernel: String,
    pid: i32,
    /// When it started, in ticks since the boot.
    start: u64,
    /// What it had made before: its threads may make the same at once.
    count: u64,
}

static COUNT: AtomicU64 = AtomicU64::new(0);

impl Maker {
    /// This process, and something new that it makes.
    pub fn this() -> Maker {
        let pid = std::process::id().cast_signed();
        Maker {
            host: host_name(),
            kernel: kernel(),
            pid,
            start: look(pid).map_or(0, |(_, start)| start),
            count: COUNT.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// Whether it is there; none if this process cannot know.
    fn is_alive(&self) -> Option<bool> {
        let here = kernel();
        // A process that could not read its own start knows no better than one elsewhere.
        let is_unknown = here.starts_with(UNKNOWN) || self.start == 0;
        if self.kernel != here || self.host != host_name() || is_unknown {
            return None;
        }
        // Another process has the number by now if it started at another time.
        let is_it =
            || look(self.pid).is_none_or(|(has_ended, start)| !has_ended && start == self.start);
        Some(process::is_there(self.pid) && is_it())
    }

    /// Whether both are one process, whatever it makes.
    pub fn is_same_process(&self, other: &Maker) -> bool {
        let count = other.count;
        *other
            == Maker {
                count,
                ..self.clone()
            }
    }

    /// Whether what it made is left over, which was last written at `modified`. `now` is by the same clock: a file
    /// server has its own.
    pub fn is_gone(&self, modified: SystemTime, now: SystemTime) -> bool {
        match self.is_alive() {
            Some(is_alive) => !is_alive,
            None => now
                .duration_since(modified)
                .is_ok_and(|age| age > ABANDONED),
        }
    }

    /// The name that what it makes has meanwhile, beside the one that it will have.
    pub fn name(&self, name: &OsStr, role: Role) -> OsString {
        let (host, kernel, pid) = (&self.host, &self.kernel, self.pid);
        let (role, start, count) = (role.word(), self.start, self.count);
        let ending = format!(".{role}.{host}.{kernel}.{pid}.{start}-{count}");
        let mut all = OsString::from(".");
        all.push(label(name, ending.len()));
        all.push(ending);
        all
    }
}

/// The name itself, or what stands for one that is too long.
fn label(name: &OsStr, more: usize) -> OsString {
    if name.len() + more < LONGEST {
        return name.to_owned();
    }
    let bytes = name.as_bytes();
    let mut short = bytes[..KEPT.min(bytes.len())].to_vec();
    short.extend_from_slice(format!("~{:016x}", hash(bytes)).as_bytes());
    OsStr::from_bytes(&short).to_owned()
}

/// FNV-1a: the same in every process, and against accidents only.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Who makes what has this entry's name, and why it is there, if it is a name of this form. `name` is what it will
/// be, none if it may be anything.
pub fn read(entry: &OsStr, name: Option<&OsStr>) -> Option<(Role, Maker)> {
    let entry = entry.as_bytes().strip_prefix(b".")?;
    let mut parts = entry.rsplitn(6, |byte| *byte == b'.');
    let (start, count) = std::str::from_utf8(parts.next()?).ok()?.split_once('-')?;
    let (start, count) = (number(start.as_bytes())?, number(count.as_bytes())?);
    let pid = i32::try_from(number(parts.next()?)?).ok()?;
    let mut text = || std::str::from_utf8(parts.next()?).ok();
    let (kernel, host, role) = (text()?, text()?, text()?);
    let role = [Role::Part, Role::Old]
        .into_iter()
        .find(|known| known.word() == role)?;
    let maker = Maker {
        host: host.to_owned(),
        kernel: kernel.to_owned(),
        pid,
        start,
        count,
    };
    let said = parts.next().filter(|said| !said.is_empty())?;
    let is_wanted = name.is_none_or(|name| {
        let more = maker.name(OsStr::new(""), role).len() - 1;
        label(name, more).as_bytes() == said
    });
    (is_wanted && is_kernel(kernel) && pid > 0).then_some((role, maker))
}

/// A number as this module writes it.
fn number(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

/// This machine's name, as a part of file names.
pub fn host_name() -> String {
    let name = sys::host_name();
    name.to_string_lossy().replace(['/', '.'], "-")
}

/// What stands for a boot that is not known.
const UNKNOWN: &str = "00000000";

/// This boot and these namespaces: eight hexadecimal digits, and a number.
fn kernel() -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let boot = boot.get(..UNKNOWN.len()).unwrap_or(UNKNOWN);
    let number = |kind: &str| {
        let namespace = fs::metadata(format!("/proc/self/ns/{kind}"));
        namespace.map_or(0, |data| data.ino() & 0xffff_ffff)
    };
    format!("{boot}-{}", number("pid") << 32 | number("time"))
}

fn is_kernel(text: &str) -> bool {
    text.split_once('-').is_some_and(|(boot, namespace)| {
        boot.len() == UNKNOWN.len()
            && boot.bytes().all(|byte| byte.is_ascii_hexdigit())
            && number(namespace.as_bytes()).is_some()
    })
}

/// Whether a process has ended, and when it started, proc_pid_stat(5). One that has ended is there until it is waited for,
/// which where a container's first process does not is for ever.
fn look(pid: i32) -> Option<(bool, u64)> {
    let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The program's name may have spaces and brackets of its own.
    let end = text.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(text.get(end + 1..)?).ok()?;
    let mut words = rest.split_whitespace();
    let has_ended = matches!(words.next()?, "Z" | "X");
    Some((has_ended, words.nth(18)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_gone(maker: &Maker, age: u64) -> bool {
        let now = SystemTime::now();
        maker.is_gone(now - Duration::from_secs(age), now)
    }

    #[test]
    fn a_name_tells_who_makes_it_and_what_it_will_be() {
        let maker = Maker::this();
        for name in ["image.sqfs", "a.part.b", "x", &"long".repeat(60)] {
            let entry = maker.name(OsStr::new(name), Role::Old);
            assert!(entry.len() <= LONGEST);
            let read = |name| read(&entry, name);
            assert_eq!(
                read(Some(OsStr::new(name))),
                Some((Role::Old, maker.clone()))
            );
            assert_eq!(read(None), Some((Role::Old, maker.clone())));
            assert_eq!(read(Some(OsStr::new("other"))), None);
        }
    }

    #[test]
    fn names_that_people_give_are_not_taken_for_one() {
        for entry in [
            ".image.part.host.1",
            ".image.part.host.0badcafe-1.1.x",
            ".image.part.host.0badcafe-1.1.1",
            ".image.part.host.0badcafe-1.01.1-0",
            ".image.part.host.kernel.1.1-0",
            ".image.parts.host.0badcafe-1.1.1-0",
            "image.part.host.0badcafe-1.1.1-0",
            "..part.host.0badcafe-1.1.1-0",
            ".bashrc",
        ] {
            assert_eq!(read(OsStr::new(entry), None), None, "{entry}");
        }
    }

    #[test]
    fn who_is_here_is_asked_of_the_kernel_and_who_is_elsewhere_is_judged_by_age() {
        let this = Maker::this();
        assert!(!is_gone(&this, 1_000_000));
        let ended = std::process::Command::new("/bin/true").spawn().unwrap();
        let dead = Maker {
            pid: ended.id().cast_signed(),
            ..this.clone()
        };
        ended.wait_with_output().unwrap();
        assert!(is_gone(&dead, 0));
        // Its number is another process's by now.
        let again = Maker {
            start: this.start + 1,
            ..this.clone()
        };
        assert!(is_gone(&again, 0));
        // Nobody has waited for it.
        let mut ended = std::process::Command::new("/bin/true").spawn().unwrap();
        let pid = ended.id().cast_signed();
        let start = loop {
            match look(pid).unwrap() {
                (true, start) => break start,
                (false, _) => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        let unreaped = Maker {
            pid,
            start,
            ..this.clone()
        };
        assert!(is_gone(&unreaped, 0));
        ended.wait().unwrap();
        for elsewhere in [
            Maker {
                host: "elsewhere".into(),
                ..dead.clone()
            },
            Maker {
                kernel: "0badcafe-1".into(),
                ..dead
            },
        ] {
            assert!(!is_gone(&elsewhere, 3600));
            assert!(is_gone(&elsewhere, 90_000));
        }
    }
}
