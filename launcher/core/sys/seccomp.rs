//! Filters of system calls, seccomp(2).
//!
//! The one behind `--fakeroot`: calls by which package managers give files and processes to other users answer success
//! and do nothing. A user namespace with one user has nobody to give anything to. It is no security: what it hides
//! would be refused by the kernel.
//!
//! The one of a command that root has run as a user: it types nothing into root's terminal.

use nix::errno::Errno;

use super::{Call, called};

/// What answers success without being done, on one ABI.
struct Abi {
    /// `AUDIT_ARCH_*`, linux/audit.h.
    arch: u32,
    /// chown(2), setuid(2), setgroups(2), capset(2) and their kin.
    calls: &'static [u32],
    /// mknod(2) and mknodat(2), with the number of the argument that is the mode.
    mknod: &'static [(u32, u32)],
}

/// A program of one ABI can start one of the 32-bit ABI beside it. Numbers are those of the kernel's tables; another
/// ABI is let through, x32 with it.
const ABIS: [Abi; 4] = [
    // x86-64: chown, fchown, lchown, setuid, setgid, setreuid, setregid, setgroups, setresuid, setresgid,
    // setfsuid, setfsgid, capset, fchownat.
    Abi {
        arch: 0xc000_003e,
        calls: &[
            92, 93, 94, 105, 106, 113, 114, 116, 117, 119, 122, 123, 126, 260,
        ],
        mknod: &[(133, 1), (259, 2)],
    },
    // i386: the same in the order of their numbers, most in a form for 16-bit and one for 32-bit IDs.
    Abi {
        arch: 0x4000_0003,
        calls: &[
            16, 23, 46, 70, 71, 81, 95, 138, 139, 164, 170, 182, 185, 198, 203, 204, 206, 207, 208,
            210, 212, 213, 214, 215, 216, 298,
        ],
        mknod: &[(14, 1), (297, 2)],
    },
    // aarch64: fchownat, fchown, capset, setregid, setgid, setreuid, setuid, setresuid, setresgid, setfsuid, setfsgid,
    // setgroups.
    Abi {
        arch: 0xc000_00b7,
        calls: &[54, 55, 91, 143, 144, 145, 146, 147, 149, 151, 152, 159],
        mknod: &[(33, 2)],
    },
    // arm: as i386, but for fchownat and mknodat.
    Abi {
        arch: 0x4000_0028,
        calls: &[
            16, 23, 46, 70, 71, 81, 95, 138, 139, 164, 170, 182, 185, 198, 203, 204, 206, 207, 208,
            210, 212, 213, 214, 215, 216, 325,
        ],
        mknod: &[(14, 1), (324, 2)],
    },
];

/// Where seccomp_data has what is looked at, in bytes.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;

const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const AND: u32 = libc::BPF_ALU | libc::BPF_AND | libc::BPF_K;
const EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;

/// Success: an error whose number is 0.
const PRETEND: u32 = libc::SECCOMP_RET_ERRNO;

/// Installs the filter in this process, for all that it starts: `prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER)`,
/// seccomp(2). It must have no_new_privs.
///
/// # Errors
/// EINVAL where the kernel has no filters.
pub fn pretend_to_change_owners() -> Call<()> {
    install(&program())
}

/// ioctl(2) of each ABI, x32 with the bit that it has in its numbers.
const IOCTL: [(u32, u32); 5] = [
    (0xc000_003e, 16),
    (0xc000_003e, 0x4000_0000 | 514),
    (0x4000_0003, 54),
    (0xc000_00b7, 29),
    (0x4000_0028, 54),
];

/// TIOCSTI and TIOCLINUX, by which a process can type into the terminal that it was started from, ioctl_tty(2).
const TYPING: [u32; 2] = [0x5412, 0x541c];

/// Keeps this process and all that it starts from typing into a terminal: what it typed, whoever reads that terminal
/// next would execute. Kernels since 6.2 can be told to forbid it to all, and not all are. It must have no_new_privs.
///
/// # Errors
/// EINVAL where the kernel has no filters.
pub fn refuse_typing() -> Call<()> {
    install(&without_typing())
}

fn without_typing() -> Vec<libc::sock_filter> {
    let refused = libc::SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs();
    let mut program = Vec::new();
    for (arch, number) in IOCTL {
        program.extend([
            load(ARCH),
            equal(arch, 0, 6),
            load(NUMBER),
            equal(number, 0, 4),
            // The kernel takes no more than the low half.
            load(ARGUMENTS + 8),
            equal(TYPING[0], 1, 0),
            equal(TYPING[1], 0, 1),
            answer(refused),
        ]);
    }
    program.push(answer(libc::SECCOMP_RET_ALLOW));
    program
}

fn install(program: &[libc::sock_filter]) -> Call<()> {
    let Ok(len) = program.len().try_into() else {
        return Err(crate::error::CallError::new("seccomp()", Errno::E2BIG));
    };
    let filter = libc::sock_fprog {
        len,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: the kernel copies `len` instructions, which is how many there are, and writes none.
    let result = unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            &raw const filter,
        )
    };
    called(Errno::result(result).map(drop), || {
        "prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER)".into()
    })
}

/// One block for each ABI, each ending in an answer, and an answer for all others.
fn program() -> Vec<libc::sock_filter> {
    let mut program = vec![load(ARCH)];
    for abi in &ABIS {
        let block = block(abi);
        // A block is shorter than a jump can be, 255.
        let length = u8::try_from(block.len()).unwrap_or(u8::MAX);
        program.push(equal(abi.arch, 0, length));
        program.extend(block);
    }
    program.push(answer(libc::SECCOMP_RET_ALLOW));
    program
}

fn block(abi: &Abi) -> Vec<libc::sock_filter> {
    let mut block = vec![load(NUMBER)];
    for number in abi.calls {
        block.extend([equal(*number, 0, 1), answer(PRETEND)]);
    }
    for (number, mode) in abi.mknod {
        // The low half of a 64-bit argument comes first on all of these.
        block.extend([
            equal(*number, 0, 6),
            load(ARGUMENTS + 8 * mode),
            instruction(AND, 0, 0, libc::S_IFMT),
            equal(libc::S_IFCHR, 1, 0),
            equal(libc::S_IFBLK, 0, 1),
            answer(PRETEND),
            answer(libc::SECCOMP_RET_ALLOW),
        ]);
    }
    block.push(answer(libc::SECCOMP_RET_ALLOW));
    block
}

fn load(offset: u32) -> libc::sock_filter {
    instruction(LOAD, 0, 0, offset)
}

/// Goes on `yes` or `no` instructions further.
fn equal(value: u32, yes: u8, no: u8) -> libc::sock_filter {
    instruction(EQUAL, yes, no, value)
}

fn answer(value: u32) -> libc::sock_filter {
    instruction(RETURN, 0, 0, value)
}

fn instruction(code: u32, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    // All codes are below 256; 0 would be refused by the kernel.
    let code = u16::try_from(code).unwrap_or(0);
    libc::sock_filter { code, jt, jf, k }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the filter as the kernel would.
    fn answer_to(arch: u32, number: u32, arguments: [u32; 4]) -> u32 {
        answer_of(&program(), arch, number, arguments)
    }

    fn answer_of(
        program: &[libc::sock_filter],
        arch: u32,
        number: u32,
        arguments: [u32; 4],
    ) -> u32 {
        let (mut at, mut value) = (0, 0);
        loop {
            let step = program[at];
            at += 1;
            match u32::from(step.code) {
                LOAD => {
                    value = match step.k {
                        NUMBER => number,
                        ARCH => arch,
                        offset => arguments[usize::try_from((offset - ARGUMENTS) / 8).unwrap()],
                    }
                }
                AND => value &= step.k,
                EQUAL if value == step.k => at += usize::from(step.jt),
                EQUAL => at += usize::from(step.jf),
                RETURN => return step.k,
                code => panic!("instruction {code}"),
            }
        }
    }

    #[test]
    fn owners_and_devices_are_pretended_and_all_else_is_let_through() {
        let allow = libc::SECCOMP_RET_ALLOW;
        for abi in &ABIS {
            let answer = |number, arguments| answer_to(abi.arch, number, arguments);
            for number in 0..450 {
                let is_pretended = abi.calls.contains(&number);
                let expected = if is_pretended { PRETEND } else { allow };
                assert_eq!(answer(number, [0; 4]), expected, "{:x} {number}", abi.arch);
            }
            for (number, mode) in abi.mknod {
                let with_mode = |kind: u32| {
                    let mut arguments = [0; 4];
                    arguments[*mode as usize] = kind | 0o644;
                    answer(*number, arguments)
                };
                assert_eq!(with_mode(libc::S_IFCHR), PRETEND);
                assert_eq!(with_mode(libc::S_IFBLK), PRETEND);
                assert_eq!(with_mode(libc::S_IFIFO), allow);
                assert_eq!(with_mode(libc::S_IFREG), allow);
            }
        }
        // s390x, and x32, which is x86-64 with a bit in its numbers.
        assert_eq!(answer_to(0x8000_0016, 92, [0; 4]), allow);
        assert_eq!(answer_to(0xc000_003e, 0x4000_0000 | 92, [0; 4]), allow);
    }

    #[test]
    fn typing_into_a_terminal_is_refused_in_every_abi_and_no_other_ioctl_is() {
        let program = without_typing();
        let allow = libc::SECCOMP_RET_ALLOW;
        let answer = |arch, number, request| answer_of(&program, arch, number, [1, request, 0, 0]);
        for (arch, number) in IOCTL {
            for request in TYPING {
                assert_ne!(answer(arch, number, request), allow, "{arch:x} {number}");
                assert_eq!(answer(arch, number + 1, request), allow);
            }
            assert_eq!(answer(arch, number, 0x5413), allow, "TIOCGWINSZ");
        }
        assert_eq!(answer(0x8000_0016, 54, TYPING[0]), allow, "another ABI");
    }

    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    #[test]
    fn the_numbers_of_this_machine_are_those_of_its_library() {
        // Newer ABIs have no calls without a directory's descriptor.
        let mut names = [
            #[cfg(target_arch = "x86_64")]
            libc::SYS_chown,
            #[cfg(target_arch = "x86_64")]
            libc::SYS_lchown,
            libc::SYS_fchown,
            libc::SYS_setuid,
            libc::SYS_setgid,
            libc::SYS_setreuid,
            libc::SYS_setregid,
            libc::SYS_setgroups,
            libc::SYS_setresuid,
            libc::SYS_setresgid,
            libc::SYS_setfsuid,
            libc::SYS_setfsgid,
            libc::SYS_capset,
            libc::SYS_fchownat,
        ];
        let mknod = [
            #[cfg(target_arch = "x86_64")]
            (libc::SYS_mknod, 1),
            (libc::SYS_mknodat, 2),
        ];
        let arch = match cfg!(target_arch = "x86_64") {
            true => 0xc000_003e,
            false => 0xc000_00b7,
        };
        names.sort_unstable();
        let number = |number| u32::try_from(number).unwrap();
        let names = names.map(number);
        let mknod = mknod.map(|(call, mode)| (number(call), mode));
        let abi = ABIS.iter().find(|abi| abi.arch == arch).unwrap();
        assert_eq!((&names[..], &mknod[..]), (abi.calls, abi.mknod));
        let ioctl = IOCTL.iter().find(|(one, _)| *one == arch).unwrap();
        assert_eq!(ioctl.1, number(libc::SYS_ioctl));
    }
}
