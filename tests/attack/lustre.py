"""A file system that can do as little as Lustre mounted without flock, and says so as that does: another directory, shown
by FUSE, for which this program answers the kernel. What it does not answer the kernel takes for lacking: flock(2) and locks
of fcntl(2) are ENOSYS, flags of renameat2(2) EINVAL, O_TMPFILE, attributes and fallocate(2) EOPNOTSUPP. No library: those of
Debian keep locks to themselves, so that they would work."""

import ctypes
import errno
import os
import resource
import stat
import struct
import time
import traceback

import system

# The kernel's names and numbers: include/uapi/linux/fuse.h, form 7.31.
MAJOR, MINOR = 7, 31
POSIX_LOCKS, BIG_WRITES, FLOCK_LOCKS = 1 << 1, 1 << 5, 1 << 10
FORGET, INTERRUPT, BATCH_FORGET, INIT, DESTROY = 2, 36, 42, 26, 38
MODE, UID, GID, SIZE, ATIME, MTIME, HANDLE, ATIME_NOW, MTIME_NOW = (1 << bit for bit in (0, 1, 2, 3, 4, 5, 6, 7, 8))
LARGEST = 1 << 17
# For how many seconds the kernel may believe what it was told: nobody else changes the directory.
KNOWN = 1
HEAD, ANSWER = struct.Struct("=IIQQIIII"), struct.Struct("=IiQ")


def start(under, top):
    """Shows what is in the directory `under` at `top`, until this process ends."""
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other"
    system.mount("lustre", top, "fuse", 0, options)
    if os.fork() == 0:
        try:
            system.die_with_parent()
            Server(device, under).serve()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    os.close(device)


class Node:
    def __init__(self, file, key):
        self.file, self.key, self.known = file, key, 0

    def path(self):
        return f"/proc/self/fd/{self.file}"


class Listing:
    """An open directory."""

    def __init__(self, node):
        self.node, self.entries = node, []

    def read(self):
        with os.scandir(self.node.path()) as found:
            self.entries = [(b".", 1, stat.S_IFDIR), (b"..", 1, stat.S_IFDIR)]
            self.entries += [(os.fsencode(entry.name), entry.inode(), entry.stat(follow_symlinks=False).st_mode) for entry in found]


class Server:
    def __init__(self, device, under):
        self.device, self.under = device, under
        self.nodes, self.keys, self.handles = {}, {}, {}
        self.next = 2
        root = Node(os.open(under, os.O_PATH | os.O_DIRECTORY), None)
        self.nodes[1] = root
        self.calls = {
            1: self.lookup, 3: self.getattr, 4: self.setattr, 5: self.readlink, 6: self.symlink, 8: self.mknod, 9: self.mkdir,
            10: self.unlink, 11: self.rmdir, 12: self.rename, 13: self.link, 14: self.open, 15: self.read, 16: self.write,
            17: self.statfs, 18: self.release, 20: self.fsync, 25: self.nothing, INIT: self.init, 27: self.opendir,
            28: self.readdir, 29: self.release, 30: self.nothing, 35: self.create,
        }

    def serve(self):
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        os.umask(0)
        while True:
            try:
                asked = os.read(self.device, LARGEST + 8192)
            except OSError as error:
                # Whoever has asked was killed meanwhile.
                if error.errno in (errno.EINTR, errno.ENOENT, errno.EAGAIN):
                    continue
                return
            _, call, unique, node, self.user, self.group, _, _ = HEAD.unpack_from(asked)
            body = asked[HEAD.size:]
            if call == DESTROY:
                return
            if call == FORGET:
                self.forget(node, struct.unpack("=Q", body)[0])
            elif call == BATCH_FORGET:
                for place in range(struct.unpack_from("=I", body)[0]):
                    self.forget(*struct.unpack_from("=QQ", body, 8 + 16 * place))
            elif call != INTERRUPT:
                self.answer(unique, call, node, body)

    def answer(self, unique, call, node, body):
        error, text = 0, b""
        try:
            work = self.calls.get(call)
            if work is None:
                error = errno.ENOSYS
            else:
                text = work(self.nodes.get(node), body)
        except OSError as failed:
            error, text = failed.errno or errno.EIO, b""
        try:
            os.writev(self.device, [ANSWER.pack(ANSWER.size + len(text), -error, unique), text])
        except OSError:
            # Nobody waits for it any more.
            pass

    def forget(self, number, count):
        node = self.nodes.get(number)
        if node and number != 1:
            node.known -= count
            if node.known <= 0:
                os.close(node.file)
                del self.nodes[number], self.keys[node.key]

    def entry(self, above, name):
        """What has a name, by a number that it keeps."""
        file = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=above.file)
        data = os.fstat(file)
        key = (data.st_dev, data.st_ino)
        number = self.keys.get(key)
        if number is None:
            number = self.keys[key] = self.next
            self.next += 1
            self.nodes[number] = Node(file, key)
        else:
            os.close(file)
        self.nodes[number].known += 1
        return struct.pack("=QQQQII", number, 0, KNOWN, KNOWN, 0, 0) + attributes(data)

    def made(self, above, name):
        """What was just made: it belongs to who asked."""
        data = os.fstat(above.file)
        group = data.st_gid if data.st_mode & stat.S_ISGID else self.group
        os.chown(name, self.user, group, dir_fd=above.file, follow_symlinks=False)
        return self.entry(above, name)

    def handle(self, what):
        number = self.next
        self.next += 1
        self.handles[number] = what
        return struct.pack("=QII", number, 0, 0)

    def init(self, _, body):
        _, _, readahead, flags = struct.unpack_from("=IIII", body)
        flags &= POSIX_LOCKS | BIG_WRITES | FLOCK_LOCKS
        return struct.pack("=IIIIHHIIHHI28x", MAJOR, MINOR, readahead, flags, 16, 12, LARGEST, 1, 0, 0, 0)

    def nothing(self, *_):
        return b""

    def lookup(self, node, body):
        return self.entry(node, body[:-1])

    def getattr(self, node, _):
        return struct.pack("=QII", KNOWN, 0, 0) + attributes(os.fstat(node.file))

    def setattr(self, node, body):
        valid, _, handle, size, _, *times, _ = struct.unpack_from("=IIQQQQQQIII", body)
        mode, _, user, group = struct.unpack_from("=IIII", body, 68)
        if valid & (UID | GID):
            ids = [number if valid & bit else 0xFFFFFFFF for bit, number in ((UID, user), (GID, group))]
            empty = 0x1000
            system.check(system.libc.fchownat(node.file, b"", *map(ctypes.c_uint, ids), empty), "chown")
        if valid & MODE:
            os.chmod(node.path(), stat.S_IMODE(mode))
        if valid & SIZE:
            os.truncate(self.handles[handle] if valid & HANDLE else node.path(), size)
        if valid & (ATIME | MTIME):
            data, now = os.fstat(node.file), time.time_ns()
            kept = [data.st_atime_ns, data.st_mtime_ns]
            for place, (bit, bit_now) in enumerate(((ATIME, ATIME_NOW), (MTIME, MTIME_NOW))):
                if valid & bit:
                    kept[place] = now if valid & bit_now else times[place] * 10**9 + times[place + 3]
            os.utime(node.path(), ns=tuple(kept))
        return self.getattr(node, None)

    def readlink(self, node, _):
        return os.readlink(b"", dir_fd=node.file)

    def symlink(self, node, body):
        name, target, _ = body.split(b"\0")
        os.symlink(target, name, dir_fd=node.file)
        return self.made(node, name)

    def mknod(self, node, body):
        mode, device = struct.unpack_from("=II", body)
        os.mknod(body[16:-1], mode, device, dir_fd=node.file)
        return self.made(node, body[16:-1])

    def mkdir(self, node, body):
        mode = struct.unpack_from("=I", body)[0]
        os.mkdir(body[8:-1], mode, dir_fd=node.file)
        return self.made(node, body[8:-1])

    def unlink(self, node, body):
        os.unlink(body[:-1], dir_fd=node.file)
        return b""

    def rmdir(self, node, body):
        os.rmdir(body[:-1], dir_fd=node.file)
        return b""

    def rename(self, node, body):
        to = self.nodes[struct.unpack_from("=Q", body)[0]]
        old, new, _ = body[8:].split(b"\0")
        os.rename(old, new, src_dir_fd=node.file, dst_dir_fd=to.file)
        return b""

    def link(self, node, body):
        old = self.nodes[struct.unpack_from("=Q", body)[0]]
        os.link(old.path(), body[8:-1], dst_dir_fd=node.file, follow_symlinks=True)
        return self.entry(node, body[8:-1])

    def open(self, node, body):
        flags = struct.unpack_from("=I", body)[0]
        return self.handle(os.open(node.path(), flags & os.O_ACCMODE))

    def create(self, node, body):
        flags, mode = struct.unpack_from("=II", body)
        name = body[16:-1]
        kept = os.O_ACCMODE | os.O_EXCL
        file = os.open(name, flags & kept | os.O_CREAT | os.O_NOFOLLOW, mode, dir_fd=node.file)
        return self.made(node, name) + self.handle(file)

    def read(self, _, body):
        handle, offset, size = struct.unpack_from("=QQI", body)
        return os.pread(self.handles[handle], size, offset)

    def write(self, _, body):
        handle, offset, size = struct.unpack_from("=QQI", body)
        return struct.pack("=II", os.pwrite(self.handles[handle], body[40:40 + size], offset), 0)

    def fsync(self, _, body):
        os.fsync(self.handles[struct.unpack_from("=Q", body)[0]])
        return b""

    def release(self, _, body):
        what = self.handles.pop(struct.unpack_from("=Q", body)[0])
        if isinstance(what, int):
            os.close(what)
        return b""

    def opendir(self, node, _):
        return self.handle(Listing(node))

    def readdir(self, _, body):
        handle, offset, size = struct.unpack_from("=QQI", body)
        listing, text = self.handles[handle], b""
        if offset == 0:
            listing.read()
        for place, (name, number, mode) in enumerate(listing.entries[offset:], offset + 1):
            one = struct.pack("=QQII", number, place, len(name), stat.S_IFMT(mode) >> 12) + name
            one += bytes(-len(one) % 8)
            if len(text) + len(one) > size:
                break
            text += one
        return text

    def statfs(self, *_):
        data = os.statvfs(self.under)
        return struct.pack(
            "=QQQQQIII28x", data.f_blocks, data.f_bfree, data.f_bavail, data.f_files, data.f_ffree, data.f_bsize, 255, data.f_frsize)


def attributes(data):
    times = (data.st_atime_ns, data.st_mtime_ns, data.st_ctime_ns)
    return struct.pack(
        "=6Q10I", data.st_ino, data.st_size, data.st_blocks, *(ns // 10**9 for ns in times), *(ns % 10**9 for ns in times),
        data.st_mode, data.st_nlink, data.st_uid, data.st_gid, data.st_rdev & 0xFFFFFFFF, data.st_blksize, 0)
