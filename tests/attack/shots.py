"""What a shot is, and which are chosen: signals at moments and at calls, errors of calls, full disks.

A shot's text says all of it, and is what --shot takes:
    time:KILL-both:0.43          after this part of the time that the command usually takes; "helper" is all that the launcher
                                 has started, "first" and "last" one of those
    call:INT-group:openat:17     when the launcher or its helper makes its seventeenth openat(2)
    error:ENOSPC:write:3         the third write(2) to a file fails
    always:EINVAL:renameat2      each fails, as on a file system that lacks it
    full:bytes:0.5               the file system, really, has room for half of what is written; or full:inodes:0.5
"""

import errno
import os
import random
import signal

SIGNALS = ["INT-group", "TERM-launcher", "HUP-group", "KILL-launcher", "KILL-helper", "KILL-both", "TERM-group", "KILL-first", "KILL-last", "STOP-launcher"]
HELPERS = ("helper", "first", "last")
ERRORS = ["ENOSPC", "EIO", "ENOSYS", "EINVAL", "EDQUOT", "ESTALE"]
# What one does not know how to do without, on reading.
READING = {
    "read", "pread64", "statx", "newfstatat", "fstat", "readlinkat", "readlink", "getdents64", "statfs", "fstatfs",
    "getxattr", "lgetxattr", "fgetxattr", "listxattr", "llistxattr", "flistxattr",
}
WRITING = {
    "creat", "mkdir", "mkdirat", "write", "pwrite64", "writev", "pwritev", "copy_file_range", "sendfile", "fallocate", "ftruncate",
    "fsync", "fdatasync", "syncfs", "rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat", "setxattr",
    "lsetxattr", "fsetxattr", "close",
}
# What a file system may lack, and how it says so. Each has to be done without.
LACKING = {
    "flock": ["ENOSYS", "EOPNOTSUPP", "ENOLCK", "EINVAL"], "renameat2": ["EINVAL", "ENOSYS"], "fallocate": ["EOPNOTSUPP", "ENOSYS"],
    "copy_file_range": ["ENOSYS", "EXDEV", "EINVAL"], "syncfs": ["ENOSYS"], "sendfile": ["EINVAL"],
    "fsetxattr": ["EOPNOTSUPP"], "lsetxattr": ["EOPNOTSUPP"], "setxattr": ["EOPNOTSUPP"],
    "getxattr": ["EOPNOTSUPP"], "lgetxattr": ["EOPNOTSUPP"], "fgetxattr": ["EOPNOTSUPP"],
    "listxattr": ["EOPNOTSUPP"], "llistxattr": ["EOPNOTSUPP"], "flistxattr": ["EOPNOTSUPP"],
}


class Shot:
    def __init__(self, text, usual=0.0):
        self.text = text
        self.kind, *parts = text.split(":")
        self.call = self.number = self.error = self.errno = self.signal = self.target = self.moment = None
        self.always = self.kind == "always"
        if self.kind in ("time", "call"):
            name, self.target = parts[0].split("-")
            self.signal = getattr(signal, "SIG" + name)
        if self.kind == "time":
            self.moment = float(parts[1]) * usual
        if self.kind == "call":
            self.call, self.number = parts[1], int(parts[2])
        if self.kind in ("error", "always"):
            self.error, self.call = parts[0], parts[1]
            self.errno = getattr(errno, self.error)
            self.number = int(parts[2]) if len(parts) > 2 else None
        if self.kind == "full":
            self.error = "ENOSPC"
            self.what, self.part = parts[0], float(parts[1])


def lack(call, arguments):
    """What a file system answers that cannot do more than it has to, as Lustre without locks: 0 if it can."""
    needless = {
        "renameat2": arguments[4] != 0, "fcntl": arguments[1] in (1024, 1025),
        "openat": arguments[2] & os.O_TMPFILE == os.O_TMPFILE,
    }
    if not needless.get(call, call in LACKING):
        return 0
    return {"openat": errno.EOPNOTSUPP, "fcntl": errno.EINVAL}.get(call) or getattr(errno, LACKING[call][0])


def writes(call, arguments):
    """Whether a call takes room on a file system."""
    flags = {"open": arguments[1], "openat": arguments[2]}
    return bool(flags[call] & 0o100) if call in flags else call in WRITING


def errors_of(call):
    return ["EIO", "ESTALE"] if call in READING else ERRORS


def interesting(trace):
    """The calls of a clean run that are about files of the user, of Chariot or of an image; of those that are about
    the machine, /proc and such, only the first ones."""
    kept, few = [], {}
    for call, number, who, path, flags in trace:
        # What loads a launcher that is not static is no business of its own.
        if path.startswith(("/usr/lib", "/lib", "/etc/ld.so")):
            continue
        of_the_machine = path.startswith(("/proc", "/sys", "/dev", "/etc")) or not path.startswith("/")
        few[call, who] = few.get((call, who), 0) + of_the_machine
        if not of_the_machine or few[call, who] <= 2:
            kept.append((call, number, who))
    return kept


def spread(items, count, dice):
    """So many of a list, from its beginning to its end."""
    if count >= len(items):
        return list(items)
    step = len(items) / count
    return [items[min(len(items) - 1, int((place + dice.random()) * step))] for place in range(count)]


def choose(reference, count, seed, everything):
    """The texts of the shots at a command: about `count`."""
    dice = random.Random(f"{seed} {reference['name']}")
    calls = interesting(reference["trace"])
    has_helper = any(who == "helper" for _, _, who in calls)
    signals = [name for name in SIGNALS if has_helper or name.split("-")[1] not in HELPERS]
    lacking = [f"always:{error}:{call}" for call, errors in LACKING.items() for error in errors
               if any(made == call for made, *_ in reference["trace"])]
    full = [f"full:{what}:{dice.random():.2f}" for what in ("bytes", "inodes") if reference["growth"][what] > 0]
    if everything:
        turn = dice.randrange(len(ERRORS))
        texts = []
        for place, (call, number, _) in enumerate(calls):
            errors = errors_of(call)
            texts.append(f"error:{errors[(place + turn) % len(errors)]}:{call}:{number}")
            name = signals[(place + turn) % (len(signals) - 1)]
            texts.append(f"call:{name}:{call}:{number}")
        times = [f"time:{name}:{(place + 0.5) / 12:.2f}" for name in signals for place in range(12)]
        return lacking + full + times + texts
    half = int(count * 0.45)
    texts = lacking[:] if count > 30 else dice.sample(lacking, min(len(lacking), 2))
    texts += full
    # Suspending takes seconds: once for each command.
    names = signals[:-1]
    timed = [f"time:{names[place % len(names)]}:{(place + dice.random()) / (half // 2 or 1) :.2f}" for place in range(half // 2)]
    late = [item for item in calls if item[2] == "helper"] or calls
    at_calls = [f"call:{names[(place * 4) % len(names)]}:{call}:{number}"
                for place, (call, number, _) in enumerate(spread(late, half - len(timed), dice))]
    texts += timed + at_calls + [f"time:STOP-launcher:{dice.random():.2f}"]
    # Each call in turn, so that the many writes do not crowd out the one rename.
    kinds = {}
    for call, number, _ in calls:
        kinds.setdefault(call, []).append(number)
    rounds = {call: dice.sample(errors_of(call), len(errors_of(call))) for call in dice.sample(sorted(kinds), len(kinds))}
    # First all calls, then all errors.
    pairs = [(call, errors[place]) for place in range(len(ERRORS)) for call, errors in rounds.items() if place < len(errors)]
    for call, error in pairs[:max(0, count - len(texts))]:
        texts.append(f"error:{error}:{call}:{dice.choice(kinds[call])}")
    return texts
