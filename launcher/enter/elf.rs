//! What a program asks for before it runs: a machine and a loader; elf(5). Of what is wrong with either, execve(2) says
//! no more than "Exec format error", or of a file that is there "No such file or directory".

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use chariot_core::open;

/// So much of a file says what it is; a handler of binfmt_misc looks at no more than half of it.
pub(super) const START: usize = 256;

/// The largest table of segments that the kernel reads, and the longest name of a loader, in bytes.
const MOST_SEGMENTS: usize = 64 << 10;
const LONGEST_NAME: usize = 4096;

/// The kind of segment that names the loader.
const PT_INTERP: u64 = 3;

/// Machines by their number in the file, and by the names that uname(2) and the field have for them.
const MACHINES: [(u64, &str); 11] = [
    (3, "i386"),
    (8, "mips"),
    (20, "ppc"),
    (21, "ppc64"),
    (22, "s390x"),
    (40, "arm"),
    (43, "sparc64"),
    (62, "x86_64"),
    (183, "aarch64"),
    (243, "riscv64"),
    (258, "loongarch64"),
];

/// Where the kernel shows what it hands to an emulator.
const EMULATORS: &str = "/proc/sys/fs/binfmt_misc";

/// An ELF program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Program {
    machine: u64,
    /// The loader that is to load it, if it is not static.
    pub(super) loader: Option<PathBuf>,
}

impl Program {
    /// What a file whose first bytes are `start` is; none if it is no ELF file, or one of which the kernel says itself
    /// what is wrong.
    pub(super) fn read(file: &File, start: &[u8]) -> Option<Program> {
        let layout = Layout::of(start)?;
        let machine = layout.number(start, 18, 2)?;
        Some(Program {
            machine,
            loader: layout.loader(file, start),
        })
    }

    /// The machine that it is for, if that is not this one.
    pub(super) fn foreign_machine(&self, start: &[u8]) -> Option<String> {
        self.foreign_to(std::env::consts::ARCH, start, Path::new(EMULATORS))
    }

    fn foreign_to(&self, own: &str, start: &[u8], emulators: &Path) -> Option<String> {
        // The second are those whose programs the first run as well.
        let runs: &[&str] = match own {
            "x86_64" => &["x86_64", "i386"],
            "aarch64" => &["aarch64", "arm"],
            "powerpc64" => &["ppc64", "ppc"],
            "s390x" | "riscv64" | "loongarch64" => &[own],
            // Nothing is known of it, and nothing refused.
            _ => return None,
        };
        let known = MACHINES.iter().find(|(number, _)| *number == self.machine);
        let name = known.map_or_else(
            || format!("machine {}", self.machine),
            |(_, name)| (*name).into(),
        );
        let is_fine = runs.contains(&&*name) || has_emulator(start, emulators);
        (!is_fine).then_some(name)
    }
}

/// How a file of its class has its numbers.
struct Layout {
    is_long: bool,
    is_little: bool,
}

impl Layout {
    fn of(start: &[u8]) -> Option<Layout> {
        let [0x7f, b'E', b'L', b'F', class @ (1 | 2), order @ (1 | 2), ..] = start else {
            return None;
        };
        Some(Layout {
            is_long: *class == 2,
            is_little: *order == 1,
        })
    }

    fn number(&self, bytes: &[u8], at: usize, length: usize) -> Option<u64> {
        let bytes = bytes.get(at..at.checked_add(length)?)?;
        let add = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        Some(match self.is_little {
            true => bytes.iter().rev().fold(0, add),
            false => bytes.iter().fold(0, add),
        })
    }

    fn loader(&self, file: &File, start: &[u8]) -> Option<PathBuf> {
        // Offset of the table; sizes of an entry, of offsets and their places in it.
        let (table, size, count, entry, word, offset, length) = match self.is_long {
            true => ((32, 8), 54, 56, 56, 8, 8, 32),
            false => ((28, 4), 42, 44, 32, 4, 4, 16),
        };
        let table = self.number(start, table.0, table.1)?;
        if self.number(start, size, 2)? != entry {
            return None;
        }
        let entry = usize::try_from(entry).ok()?;
        let whole = usize::try_from(self.number(start, count, 2)?).ok()? * entry;
        if whole > MOST_SEGMENTS {
            return None;
        }
        let mut segments = vec![0; whole];
        file.read_exact_at(&mut segments, table).ok()?;
        let is_loader = |segment: &&[u8]| self.number(segment, 0, 4) == Some(PT_INTERP);
        let segment = segments.chunks_exact(entry).find(is_loader)?;
        let at = self.number(segment, offset, word)?;
        let length = usize::try_from(self.number(segment, length, word)?).ok()?;
        if length > LONGEST_NAME {
            return None;
        }
        let mut name = vec![0; length];
        file.read_exact_at(&mut name, at).ok()?;
        let name = name.split(|byte| *byte == 0).next()?;
        (!name.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(name)))
    }
}

/// Whether the kernel hands files that begin so to another program.
fn has_emulator(start: &[u8], emulators: &Path) -> bool {
    let entries = std::fs::read_dir(emulators).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| {
        let text = open::read_text(&entry.path(), 4096);
        text.is_ok_and(|text| takes(&text, start))
    })
}

/// Whether a handler, as binfmt_misc describes it, takes files that begin so.
fn takes(handler: &str, start: &[u8]) -> bool {
    let value = |key: &str| {
        let mut lines = handler.lines();
        lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))
    };
    let bytes = |key| value(key).and_then(hexadecimal);
    let offset = value("offset").and_then(|offset| offset.parse::<usize>().ok());
    let (Some(magic), Some(offset)) = (bytes("magic"), offset) else {
        return false;
    };
    let mask = bytes("mask").unwrap_or_else(|| vec![0xff; magic.len()]);
    let there = start.get(offset..).unwrap_or_default();
    let is_same = |((magic, mask), byte): ((&u8, &u8), &u8)| (magic ^ byte) & mask == 0;
    handler.starts_with("enabled")
        && !magic.is_empty()
        && there.len() >= magic.len()
        && magic.iter().zip(&mask).zip(there).all(is_same)
}

fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    let pair = |at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    (0..text.len()).step_by(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    fn read(bytes: &[u8]) -> Option<Program> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        Program::read(&file, &bytes[..bytes.len().min(START)])
    }

    /// The first bytes of this very program, which the C library's loader loads, or nobody.
    fn own() -> Vec<u8> {
        let mut start = vec![0; 8192];
        File::open("/proc/self/exe")
            .unwrap()
            .read_exact(&mut start)
            .unwrap();
        start
    }

    #[test]
    fn a_program_says_its_machine_and_its_loader() {
        let program = read(&own()).unwrap();
        assert_eq!(program.foreign_machine(&own()), None);
        if let Some(loader) = program.loader {
            assert!(loader.is_absolute() && loader.exists(), "{loader:?}");
        }
        assert_eq!(read(b"#!/bin/sh\n"), None);
    }

    #[test]
    fn bytes_that_lie_are_bounded_and_never_a_panic() {
        let own = own();
        for length in [0, 4, 5, 6, 18, 20, 40, 57, 63, 64, 200] {
            read(&own[..length]);
        }
        // Each number of the head at its largest, one after the other.
        for at in 0..64 {
            let mut bytes = own.clone();
            bytes[at..at + 8].fill(0xff);
            read(&bytes);
        }
    }

    #[test]
    fn another_machine_is_named_unless_an_emulator_takes_its_programs() {
        let mut bytes = own();
        let (machine, name) = match std::env::consts::ARCH {
            "aarch64" => (62, "x86_64"),
            _ => (183, "aarch64"),
        };
        bytes[18] = machine;
        let program = read(&bytes).unwrap();
        let place = tempfile::tempdir().unwrap();
        let foreign = || program.foreign_to(std::env::consts::ARCH, &bytes, place.path());
        assert_eq!(foreign().as_deref(), Some(name));
        let handler = |state: &str, machine: u8| {
            let text = format!(
                "{state}\ninterpreter /usr/bin/qemu\nflags: F\noffset 0\n\
                 magic 7f454c460201010000000000000000000200{machine:02x}00\n\
                 mask ffffffffffffff00fffffffffffffffffeffffff\n"
            );
            std::fs::write(place.path().join("qemu"), text).unwrap();
        };
        handler("disabled", machine);
        assert!(foreign().is_some());
        handler("enabled", 21);
        assert!(foreign().is_some());
        handler("enabled", machine);
        assert_eq!(foreign(), None);
    }
}
