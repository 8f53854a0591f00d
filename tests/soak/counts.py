"""What is there of everything that a step could leave behind."""
import contextlib, os, pathlib, re, time

# slurmd may grow by so much in all, and for each step: what it keeps of plain ones, too.
MEMORY, MEMORY_OF_STEP = 2 << 20, 8 << 10
# How long after the last step something may still be on its way.
PATIENCE = 90


def read(path):
    with contextlib.suppress(OSError):
        return path.read_text(errors="replace")
    return ""


def links(directory):
    found = []
    with contextlib.suppress(OSError):
        for entry in os.scandir(directory):
            with contextlib.suppress(OSError):
                found.append(os.readlink(entry.path))
    return found


def is_of(entry, user):
    with contextlib.suppress(OSError):
        return entry.stat(follow_symlinks=False).st_uid == user
    return False


class Counts:
    def __init__(self, site):
        self.site = site

    def look(self):
        site = self.site
        daemons = {"slurmctld": int((site.cluster / "run/slurmctld.pid").read_text()), **{node: site.pid_of(node) for node in site.nodes}}
        found = {"processes of the user": 0, "processes of Chariot and of steps": 0}
        namespaces = set()
        for process in pathlib.Path("/proc").glob("[0-9]*"):
            status = read(process / "status")
            name = re.search(r"^Name:\t(.*)$", status, re.M)
            owner = re.search(r"^Uid:\t(\d+)", status, re.M)
            if not name or not owner:
                continue
            found["processes of the user"] += int(owner.group(1)) == site.user.pw_uid
            found["processes of Chariot and of steps"] += name.group(1).startswith(("chariot", "slurmstepd"))
            for link in [*links(process / "ns"), *links(process / "fd")]:
                if re.fullmatch(r"(mnt|user|pid|uts|ipc|net):\[\d+\]", link):
                    namespaces.add(link)
        found["namespaces"] = len(namespaces)
        for name, pid in daemons.items():
            found[f"descriptors of {name}"] = len(links(f"/proc/{pid}/fd"))
            found[f"mounts of {name}"] = len(read(pathlib.Path(f"/proc/{pid}/mountinfo")).splitlines())
        cgroups = [pathlib.Path(above) for top in pathlib.Path("/sys/fs/cgroup").glob("*/slurm_n[1-9]*")
                   for above, _, _ in os.walk(top)]
        found["cgroups with processes"] = sum(read(cgroup / "cgroup.procs") != "" for cgroup in cgroups)
        self.empty = len(cgroups) - found["cgroups with processes"]
        cache = site.home / ".cache/chariot"
        found["leases"] = sum(1 for _ in (cache / "leases").glob("*"))
        found["temporary files"] = sum(1 for _, directories, files in os.walk(site.home) for file in [*directories, *files]
                                       if re.search(r"\.(part|old)\.", file))
        for place in ("/tmp", "/dev/shm", "/run", "/var/tmp", *(str(site.cluster / f"tmp-{node}") for node in site.nodes)):
            found[f"the user's in {place.replace(str(site.place), '…')}"] = sum(is_of(entry, site.user.pw_uid) for entry in os.scandir(place))
        self.memory = {name: int(re.search(r"^RssAnon:\s+(\d+)", read(pathlib.Path(f"/proc/{pid}/status")), re.M).group(1)) << 10
                       for name, pid in daemons.items()}
        self.found = found
        return self

    def settled(self, before=None):
        """Looks until no more is there than was before, or the same twice."""
        limit, last = time.monotonic() + PATIENCE, None
        while True:
            found = dict(self.look().found)
            is_enough = found == last if before is None else not self.more(before)
            if is_enough or time.monotonic() > limit:
                return self
            last = found
            time.sleep(5 if before is None else 1)

    def more(self, before):
        return [f"{what}: {before.found[what]} before, {count} after" for what, count in self.found.items() if count > before.found[what]]

    def growth(self, before, steps):
        """What there is more of, in sentences."""
        allowed = MEMORY + MEMORY_OF_STEP * steps
        grown = [f"memory of {name}: {before.memory[name] >> 10} KiB before, {memory >> 10} KiB after"
                 for name, memory in self.memory.items() if name != "slurmctld" and memory > before.memory[name] + allowed]
        return [f"there is more than before: {what}" for what in self.more(before) + grown]

    def tell(self, before):
        print(f"{'':40} {'before':>8} {'after':>8}")
        for what, count in self.found.items():
            print(f"{what:40} {before.found[what]:8} {count:8}")
        for name, memory in self.memory.items():
            print(f"{'KiB of ' + name:40} {before.memory[name] >> 10:8} {memory >> 10:8}")
        # Slurm 22.05 leaves those of steps that are cancelled while their tasks are set up, without Chariot, too.
        print(f"{'empty cgroups, which are not judged':40} {before.empty:8} {self.empty:8}")
