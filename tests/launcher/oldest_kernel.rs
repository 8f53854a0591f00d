//! The oldest kernel that is promised: every call and flag is as old, and every command works where newer ones do not exist.
//! What file systems can do by themselves there, machines of their own show (`tests/vm`).

use std::collections::BTreeSet;
use std::path::Path;

use crate::place;
use crate::support::registry::{Access, Registry, plain};

/// Runs a program as on Linux 5.14.
const OLD: &str = include_str!("../tools/as-on-linux-5.14");
const LAYOUT: &str = include_str!("../tools/make-oci-layout");

/// What `launcher/core/sys` and the server of images name, and the Linux that had it first. Calls are named as their pages
/// of the manual, which stand beside each use; what ends in `=` are options of mounts.
const SINCE: &[(u32, u32, &str)] = &[
    (
        2,
        6,
        "_exit accept4 access bind capset chdir chown chroot connect dup2 execve fchmodat fchown fchownat fcntl fork \
         futex getegid geteuid getgroups gethostname getxattr getpid getppid getrlimit ioctl ioctl_tty keyctl kill killpg \
         lchown listen lseek mkdirat mknod mknodat mmap mount open openat pipe2 pivot_root poll ptrace readlinkat \
         recvmsg sched_getaffinity sched_setaffinity sendmsg setfsgid setfsuid setgid setgroups setpgid setregid \
         setresgid setresuid setreuid setrlimit setuid sigaction signal signalfd sigprocmask socket socketpair statfs \
         symlinkat umask uname unshare waitpid write",
    ),
    (
        2,
        6,
        "AT_EMPTY_PATH AT_FDCWD AT_RECURSIVE AT_SECURE AT_SYMLINK_NOFOLLOW CLONE_NEWNS F_DUPFD_CLOEXEC F_GETFD F_RDLCK \
         F_SETFD F_SETLEASE F_SETSIG F_UNLCK F_WRLCK KEYCTL_JOIN_SESSION_KEYRING LOOP_GET_STATUS64 MSG_CMSG_CLOEXEC \
         MSG_DONTWAIT MSG_NOSIGNAL MSG_PEEK PR_SET_DUMPABLE PR_SET_NAME PR_SET_PDEATHSIG PR_SET_SECCOMP PR_SET_SECUREBITS \
         SCM_MAX_FD SCM_RIGHTS SECBIT_NOROOT SO_PEERCRED",
    ),
    (2, 6, "FUSE_ASYNC_READ FUSE_NOTIFY_STORE"),
    (
        2,
        6,
        "mode= size= source= ro= fd= rootmode= user_id= group_id= max_read= default_permissions= allow_other= subtype=",
    ),
    (3, 0, "setns"),
    (3, 1, "LOOP_CTL_GET_FREE"),
    (
        3,
        5,
        "seccomp SECCOMP_MODE_FILTER SECCOMP_RET_ALLOW SECCOMP_RET_ERRNO PR_SET_NO_NEW_PRIVS",
    ),
    (3, 8, "CLONE_NEWUSER"),
    (3, 9, "FUSE_DO_READDIRPLUS"),
    (3, 15, "FUSE_NO_OPEN_SUPPORT"),
    (3, 17, "memfd_create MFD_CLOEXEC"),
    (3, 18, "lowerdir= upperdir= workdir="),
    (4, 7, "FUSE_PARALLEL_DIROPS"),
    (4, 9, "ioctl_ns NS_GET_USERNS"),
    (4, 11, "statx NS_GET_OWNER_UID"),
    (4, 13, "index="),
    (4, 20, "FUSE_CACHE_SYMLINKS"),
    (5, 1, "FUSE_NO_OPENDIR_SUPPORT"),
    (
        5,
        2,
        "fsopen fsconfig fsmount move_mount FSOPEN_CLOEXEC FSCONFIG_CMD_CREATE FSMOUNT_CLOEXEC MOUNT_ATTR_NODEV \
         MOUNT_ATTR_NOSUID MOUNT_ATTR_RDONLY MOVE_MOUNT_F_EMPTY_PATH MOVE_MOUNT_T_EMPTY_PATH open_tree OPEN_TREE_CLOEXEC \
         OPEN_TREE_CLONE",
    ),
    (5, 3, "pidfd_open"),
    (
        5,
        6,
        "openat2 pidfd_getfd RESOLVE_IN_ROOT RESOLVE_NO_MAGICLINKS",
    ),
    (5, 8, "LOOP_CONFIGURE STATX_MNT_ID"),
    (5, 9, "close_range"),
    (5, 10, "volatile="),
    (5, 11, "userxattr= CLOSE_RANGE_CLOEXEC"),
    (5, 12, "mount_setattr"),
];

/// Beginnings of the names of flags that the kernel has by and by.
const FLAGS: [&str; 23] = [
    "AT_",
    "CLONE_",
    "CLOSE_RANGE_",
    "F_",
    "FSCONFIG_",
    "FSMOUNT_",
    "FSOPEN_",
    "FUSE_",
    "KEYCTL_",
    "LOOP_",
    "MFD_",
    "MOUNT_ATTR_",
    "MOVE_MOUNT_",
    "MSG_",
    "NS_",
    "OPEN_TREE_",
    "PR_",
    "RESOLVE_",
    "SCM_",
    "SECBIT_",
    "SECCOMP_",
    "SO_",
    "STATX_",
];

/// What a source names: pages of the manual's second section, numbers of calls, flags, and options of mounts.
fn named(text: &str) -> BTreeSet<String> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices("(2)") {
        let before = text[..at].trim_end_matches(is_part);
        let is_method = before.ends_with(['.', ':']);
        found.extend((!is_method).then(|| text[before.len()..at].to_owned()));
    }
    let words = text.split(|letter| !is_part(letter));
    let flags = words.filter(|word| FLAGS.iter().any(|flag| word.starts_with(flag)));
    found.extend(flags.map(str::to_owned));
    let numbers = text.split(|letter| !is_part(letter));
    let numbers = numbers.filter_map(|word| word.strip_prefix("SYS_"));
    let numbers =
        numbers.filter(|name| name.starts_with(|letter: char| letter.is_ascii_lowercase()));
    found.extend(numbers.map(str::to_owned));
    for part in text.split("(\"").skip(1) {
        let option = part.split_once("\", ").map(|(option, _)| option);
        let is_name = |option: &&str| !option.is_empty() && option.chars().all(is_part);
        found.extend(option.filter(is_name).map(|option| format!("{option}=")));
    }
    found
}

#[test]
fn every_call_and_flag_is_as_old_as_the_oldest_kernel_that_is_promised() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut text = String::new();
    for place in ["launcher/core/sys", "launcher/serve"] {
        let mut files = vec![repository.join(place).with_extension("rs")];
        let inside = std::fs::read_dir(repository.join(place)).unwrap();
        files.extend(inside.map(|entry| entry.unwrap().path()));
        files.retain(|file| file.is_file());
        for file in files {
            text += &std::fs::read_to_string(file).unwrap();
        }
    }
    let named = named(&text);
    let known = SINCE
        .iter()
        .flat_map(|(_, _, names)| names.split_whitespace());
    let known: BTreeSet<_> = known.map(str::to_owned).collect();
    assert_eq!(named, known, "see the Linux that had it first");
    let oldest = chariot::host::OLDEST_KERNEL;
    for (major, minor, names) in SINCE {
        assert!((*major, *minor) <= oldest, "{names}");
    }
}

/// The commands, each with what it says. `$C` is the launcher without a site's file, `$L` the launcher alone.
const COMMANDS: [(&str, &str); 9] = [
    ("$C run ./img echo ran", "ran"),
    (
        "$C pack --quiet ./img i.sqfs && $C run ./i.sqfs echo ran && $C inspect ./i.sqfs >/dev/null",
        "ran",
    ),
    (
        "tar cf a.tar -C img . && $C unpack --quiet ./a.tar one && $C run ./one echo ran; $C run ./a.tar echo ran",
        "ran\nran",
    ),
    (
        "$C unpack --quiet ./i.sqfs two && $C run ./two echo ran; \
         $C export --quiet ./i.sqfs b.tar && tar tf b.tar | grep -c bin/busybox",
        "ran\n1",
    ),
    (
        "cp -a img own; $C run --writable --root ./own sh -c 'id -u; echo changed >/etc/new; cat /etc/new'; ls own/etc",
        "0\nchanged",
    ),
    (
        "mkdir kept; $C run --overlay ./kept ./own sh -c 'echo changed >/etc/new'; \
         $C run --overlay ./kept ./own cat /etc/new; ls own/etc",
        "changed",
    ),
    (
        "mkdir dir; echo bound >dir/file; $C run --private-tmp --bind ./dir:/opt/deep ./img cat /opt/deep/file",
        "bound",
    ),
    (
        "$C run ./i.sqfs sh -c 'touch up; exec sleep 60' & \
         until [ -e up ]; do sleep 0.1; done; $C exec $! echo inside; kill $!; wait",
        "inside",
    ),
    (
        "gzip -k a.tar; python3 ./layout.py layout one a.tar.gz; $C run oci:layout:one echo ran; \
         $C explain oci:layout:one true >/dev/null && $C check >/dev/null; echo $?",
        "ran\n0",
    ),
];

/// A site whose registry has no TLS.
const PULL: (&str, &str) = (
    "$L --config ./site.toml pull --quiet $REGISTRY/team/small:1 && $C run team+small:1 echo pulled",
    "pulled",
);

#[test]
fn each_command_works_where_the_calls_of_newer_kernels_do_not_exist() {
    let place = place!();
    std::fs::write(place.here().join("old.py"), OLD).unwrap();
    std::fs::write(place.here().join("layout.py"), LAYOUT).unwrap();
    let registry = Registry::start(Access::Plain);
    let host = registry.as_ref().map(|registry| registry.host.as_str());
    let host = host.unwrap_or_default();
    std::fs::write(place.here().join("site.toml"), plain(host)).unwrap();
    let run = |script: &str| {
        place.run_with(
            "python3 ./old.py bash -c \"$SCRIPT\"",
            &[
                ("SCRIPT", script),
                ("L", &place.launcher),
                ("REGISTRY", host),
            ],
        )
    };
    // cachestat(2), of Linux 6.5, and a flag of pidfd_open(2), of 6.9.
    let newer = "python3 -c 'import ctypes, os; c = ctypes.CDLL(None, use_errno=True); \
                 print([(c.syscall(*call), os.strerror(ctypes.get_errno())) \
                 for call in ((451, 0, 0, 0, 0), (434, os.getpid(), 0o200))])'";
    assert_eq!(
        run(newer).ok(),
        "[(-1, 'Function not implemented'), (-1, 'Invalid argument')]"
    );
    let of_registry = registry.is_some().then_some(PULL);
    for (script, expected) in COMMANDS.into_iter().chain(of_registry) {
        assert_eq!(run(script).ok(), expected, "{script}");
    }
}

/// Calls without which there is no container, whatever the kernel says of itself: in a container of another program's, a
/// filter of calls may be older than the kernel.
const NEEDED: [&str; 7] = [
    "open_tree",
    "move_mount",
    "mount_setattr",
    "openat2",
    "fsopen",
    "fsmount",
    "statx",
];

/// Calls that have another way.
const SPARED: &str = "clone3,rseq,renameat2,syncfs";

#[test]
fn who_lacks_a_call_is_told_which_kernel_it_takes() {
    let place = place!();
    if !Path::new("/usr/bin/strace").exists() {
        crate::skip!("no strace (package strace)");
    }
    place
        .run("$C pack --quiet ./img i.sqfs; mkdir kept; tar cf a.tar -C img .")
        .ok();
    let lacking = |calls: &str, script: &str| {
        let tool =
            format!("strace -f -qq -o /dev/null -e trace={calls} -e inject={calls}:error=ENOSYS");
        place.run(&format!("C=\"{tool} $C\"; {script}"))
    };
    for call in NEEDED {
        for words in ["./img", "./i.sqfs", "--overlay ./kept ./img"] {
            let said = lacking(call, &format!("$C run {words} echo ran"));
            assert_eq!(
                (said.code, said.out.as_str()),
                (125, ""),
                "{call}: {said:#?}"
            );
            assert!(
                said.err.contains(
                    "Function not implemented\nchariot: hint: Chariot needs Linux 5.14 or newer"
                ),
                "{call} {words}: {said:#?}"
            );
        }
    }
    let said = lacking(
        SPARED,
        "$C run ./i.sqfs echo ran; $C unpack --quiet ./a.tar one; $C unpack --quiet ./a.tar one && $C run ./one echo ran; \
         $C pack --quiet ./img j.sqfs && $C run ./j.sqfs echo ran",
    );
    assert_eq!(said.ok(), "ran\nran\nran", "{said:#?}");
}

#[test]
fn an_older_kernel_is_refused_by_name_by_each_command_that_needs_a_newer_one() {
    let place = place!();
    if !Path::new("/usr/bin/strace").exists() {
        crate::skip!("no strace (package strace)");
    }
    // `struct utsname`: each name has 65 bytes, and the third is the release.
    let mut names = [0; 195];
    names[..5].copy_from_slice(b"Linux");
    let release = b"4.18.0-553.el8.x86_64";
    names[130..][..release.len()].copy_from_slice(release);
    let names: String = names
        .iter()
        .map(|byte: &u8| format!("{byte:02x}"))
        .collect();
    place
        .run("$C pack --quiet ./img i.sqfs; tar cf a.tar img")
        .ok();
    for words in [
        "run ./img true",
        "pack ./img j.sqfs",
        "unpack ./a.tar one",
        "export ./i.sqfs b.tar",
        "pull 127.0.0.1:9/a:1",
        "build ./img",
    ] {
        let said = place.run(&format!(
            "strace -f -qq -o /dev/null -e trace=uname -e inject=uname:retval=0:poke_exit=@arg1={names} $C {words}; \
             echo $?; ls -A"
        ));
        assert_eq!(said.out, "125\na.tar\ni.sqfs\nimg\n", "{words}: {said:#?}");
        let sentence = "Linux 4.18.0-553.el8.x86_64 is too old for Chariot\nchariot: hint: Chariot needs Linux 5.14 or newer";
        assert!(said.err.contains(sentence), "{words}: {said:#?}");
    }
}

#[test]
fn where_what_is_removed_cannot_be_noted_the_user_knows() {
    let place = place!();
    if !Path::new("/usr/bin/strace").exists() {
        crate::skip!("no strace (package strace)");
    }
    // tmpfs before Linux 6.6.
    let lacking =
        "strace -f -qq -o /dev/null -e trace=getxattr -e inject=getxattr:error=EOPNOTSUPP";
    for (words, hint) in [
        ("--writable", "`--overlay DIR` on a disk"),
        ("--overlay ./kept", "another can hold them"),
    ] {
        let said = place.run(&format!(
            "mkdir -p kept; {lacking} $C run {words} ./img echo ran; $C run {words} ./img echo ran"
        ));
        assert_eq!(said.ok(), "ran\nran");
        let sentence = "warning: directories of the image can be written to, but not be removed\nchariot: hint: ";
        assert_eq!(said.err.matches(sentence).count(), 1, "{said:#?}");
        assert!(said.err.contains(hint), "{said:#?}");
    }
}
