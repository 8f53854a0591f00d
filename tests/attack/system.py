"""System calls that Python's library lacks: namespaces, mounts, and a seccomp listener, which stops a process at a
call of our choice and answers in the kernel's place."""

import ctypes
import errno
import fcntl
import os
import signal
import struct

libc = ctypes.CDLL(None, use_errno=True)

NEWNS, NEWUTS, NEWIPC, NEWPID, NEWNET = 0x20000, 0x4000000, 0x8000000, 0x20000000, 0x40000000
RDONLY, REMOUNT, BIND, REC, PRIVATE = 1, 32, 4096, 16384, 1 << 18
DETACH = 2

# The names of the file calls, with their numbers on x86-64 and on arm64; the latter lacks the old ones.
CALLS = {
    "open": (2, None), "openat": (257, 56), "openat2": (437, 437), "creat": (85, None),
    "mkdir": (83, None), "mkdirat": (258, 34), "mknodat": (259, 33),
    "write": (1, 64), "pwrite64": (18, 68), "writev": (20, 66), "pwritev": (296, 70), "copy_file_range": (326, 285),
    "sendfile": (40, 71), "fallocate": (285, 47), "ftruncate": (77, 46), "truncate": (76, 45),
    "fsync": (74, 82), "fdatasync": (75, 83), "syncfs": (306, 267),
    "rename": (82, None), "renameat": (264, 38), "renameat2": (316, 276),
    "unlink": (87, None), "unlinkat": (263, 35), "rmdir": (84, None),
    "link": (86, None), "linkat": (265, 37), "symlink": (88, None), "symlinkat": (266, 36),
    "flock": (73, 32), "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452),
    "utimensat": (280, 88), "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7),
    "getxattr": (191, 8), "lgetxattr": (192, 9), "fgetxattr": (193, 10), "listxattr": (194, 11),
    "llistxattr": (195, 12), "flistxattr": (196, 13),
    "statfs": (137, 43), "fstatfs": (138, 44), "getdents64": (217, 61), "close": (3, 57),
    "read": (0, 63), "pread64": (17, 67), "statx": (332, 291), "newfstatat": (262, 79), "fstat": (5, 80),
    "readlinkat": (267, 78), "readlink": (89, None), "fcntl": (72, 25),
}
X86 = os.uname().machine == "x86_64"
NUMBERS = {name: numbers[0 if X86 else 1] for name, numbers in CALLS.items() if numbers[0 if X86 else 1] is not None}
NAMES = {number: name for name, number in NUMBERS.items()}
# Of these the first argument is a descriptor and there is no name.
BY_DESCRIPTOR = {
    "write", "pwrite64", "writev", "pwritev", "copy_file_range", "sendfile", "fallocate", "ftruncate", "fsync",
    "fdatasync", "syncfs", "flock", "fchmod", "fsetxattr", "fgetxattr", "flistxattr", "fstatfs", "getdents64", "close",
    "read", "pread64", "fstat", "fcntl",
}
# Of these the second argument is a name that the first is the directory of.
AT = {
    "openat", "openat2", "mkdirat", "mknodat", "renameat", "renameat2", "unlinkat", "linkat", "fchmodat", "fchmodat2",
    "utimensat", "statx", "newfstatat", "readlinkat",
}


def check(result, what):
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def unshare(flags):
    check(libc.unshare(flags), "unshare")


def mount(source, target, kind=None, flags=0, data=None):
    encoded = [None if text is None else os.fsencode(text) for text in (source, target, kind)]
    data = None if data is None else data.encode()
    check(libc.mount(*encoded, ctypes.c_ulong(flags), data), f"mount {source} at {target}")


def bind(source, target, read_only=True, recursive=False):
    mount(source, target, None, BIND | (REC if recursive else 0))
    if read_only:
        mount(None, target, None, BIND | REMOUNT | RDONLY)


def unmount(target, flags=0):
    check(libc.umount2(os.fsencode(target), flags), f"umount {target}")


def pivot_root(new, old):
    number = 155 if X86 else 41
    check(libc.syscall(number, os.fsencode(new), os.fsencode(old)), "pivot_root")


def die_with_parent(sign=signal.SIGKILL):
    check(libc.prctl(1, int(sign), 0, 0, 0), "prctl")


def sethostname(name):
    check(libc.sethostname(name.encode(), len(name)), "sethostname")


def raise_loopback():
    """Brings up lo in a network namespace of our own."""
    import socket
    with socket.socket() as sock:
        fcntl.ioctl(sock, 0x8914, struct.pack("16sH14x", b"lo", 1 | 64))


class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


def listen(numbers):
    """Installs a filter that asks the listener about these calls, for this process and all that come of it. Only
    for one that has privilege: no_new_privs would change what is tested."""
    allow, ask = 0x7FFF0000, 0x7FC00000
    code = [struct.pack("HBBI", 0x20, 0, 0, 0)]
    numbers = sorted(numbers)
    for place, number in enumerate(numbers):
        code.append(struct.pack("HBBI", 0x15, len(numbers) - place, 0, number))
    code += [struct.pack("HBBI", 0x06, 0, 0, allow), struct.pack("HBBI", 0x06, 0, 0, ask)]
    data = ctypes.create_string_buffer(b"".join(code))
    program = Program(len(code), ctypes.addressof(data))
    # A listener; and signals that are not deadly wait until it has answered, where the kernel can (Linux 5.19).
    for flags in (8 | 32, 8):
        result = libc.syscall(317 if X86 else 277, 1, flags, ctypes.byref(program))
        if result >= 0:
            return result
        if ctypes.get_errno() != errno.EINVAL:
            break
    return check(result, "seccomp")


class Asked:
    """A call that waits for an answer."""

    RECEIVE, SEND = 0xC0502100, 0xC0182101

    def __init__(self, listener):
        self.listener = listener
        buffer = bytearray(80)
        fcntl.ioctl(listener, Asked.RECEIVE, buffer)
        self.id, self.pid, _, number, _, _ = struct.unpack_from("QIIiIQ", buffer)
        self.arguments = struct.unpack_from("6Q", buffer, 32)
        self.call = NAMES.get(number, str(number))

    def answer(self, error=0):
        """The kernel does it, or it fails with an error."""
        reply = struct.pack("QqiI", self.id, 0, -error, 0 if error else 1)
        try:
            fcntl.ioctl(self.listener, Asked.SEND, bytearray(reply))
        except OSError as failure:
            # It is dead, or a signal came between.
            if failure.errno not in (errno.ENOENT, errno.EINPROGRESS):
                raise

    def descriptor(self, number):
        try:
            return os.readlink(f"/proc/{self.pid}/fd/{number}")
        except OSError:
            return "?"

    def text(self, address):
        try:
            with open(f"/proc/{self.pid}/mem", "rb", buffering=0) as memory:
                memory.seek(address)
                return os.fsdecode(memory.read(4096).split(b"\0")[0])
        except (OSError, ValueError, OverflowError):
            return "?"

    def path(self):
        """What the call is about, for people."""
        if self.call in BY_DESCRIPTOR:
            return self.descriptor(self.arguments[0] & 0xFFFFFFFF)
        if self.call == "symlinkat":
            return self.text(self.arguments[2])
        name = self.text(self.arguments[1 if self.call in AT else 0])
        if self.call not in AT or name.startswith("/"):
            return name
        directory = self.arguments[0] & 0xFFFFFFFF
        base = "." if directory == 0xFFFFFF9C else self.descriptor(directory)
        return f"{base.rstrip('/')}/{name}" if name else base

    def thread_group(self):
        try:
            with open(f"/proc/{self.pid}/status") as status:
                for line in status:
                    if line.startswith("Tgid:"):
                        return int(line.split()[1])
        except OSError:
            pass
        return self.pid

    def program(self):
        """Device and inode of what the caller runs."""
        try:
            data = os.stat(f"/proc/{self.pid}/exe")
            return data.st_dev, data.st_ino
        except OSError:
            return None
