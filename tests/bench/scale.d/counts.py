"""Counts what each node asks of the file system that all share, as scale.d/node lets its file system tell."""
import collections, os, re, selectors, statistics, sys, threading, time

# What a file server is asked for. FLUSH and GETXATTR stay on a node; the rest of linux/fuse.h is of no file.
COUNTED = set("LOOKUP GETATTR SETATTR READLINK MKNOD MKDIR UNLINK RMDIR RENAME RENAME2 LINK SYMLINK OPEN CREATE READ WRITE "
              "RELEASE FSYNC OPENDIR READDIR READDIRPLUS ACCESS".split())
REQUEST = re.compile(rb"unique: \d+, opcode: (\w+) ")


class Counts:
    """Reads the pipes of all nodes, in a thread of this process."""

    def __init__(self, place, names):
        self.events, self.selector = [], selectors.DefaultSelector()
        (place / "calls").mkdir()
        for name in names:
            path = place / "calls" / name
            os.mkfifo(path)
            # To write as well: nobody has opened the other end yet.
            self.selector.register(os.open(path, os.O_RDWR | os.O_NONBLOCK), selectors.EVENT_READ, [name, b""])
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        while True:
            for key, _ in self.selector.select():
                name, rest = key.data
                lines = (rest + os.read(key.fd, 1 << 16)).split(b"\n")
                key.data[1] = lines.pop()
                now = time.monotonic()
                for line in lines:
                    found = REQUEST.match(line)
                    if line.startswith((b"fuse:", b"bindfs:")):
                        print(f"{name}: {line.decode()}", file=sys.stderr)
                    if found and found.group(1).decode() in COUNTED:
                        self.events.append((now, name, found.group(1).decode()))

    def between(self, start, end=None):
        """What was asked for in a time: by node, by kind, and by second of all nodes together."""
        # A node's lines may still be on their way.
        time.sleep(0.5)
        events = [event for event in list(self.events) if event[0] >= start and (end is None or event[0] < end)]
        by_node = collections.Counter(name for _, name, _ in events)
        kinds = collections.Counter(kind for _, _, kind in events)
        seconds = collections.Counter(int(at - start) for at, _, _ in events)
        return by_node, kinds, [seconds[second] for second in range(max(seconds, default=-1) + 1)]

    def told(self, start, nodes, end=None):
        """The same in a few numbers."""
        by_node, kinds, seconds = self.between(start, end)
        each = sorted(by_node.get(name, 0) for name in nodes)
        return {"operations": sum(each), "a node, median": statistics.median(each), "a node, most": each[-1],
                "a second, most": max(seconds, default=0), "by second": seconds, "kinds": dict(kinds.most_common())}
