"""One shot, from the disposable root's making to the verdict, in namespaces of its own."""

import os
import traceback

import checks
import root
import shots
import system
from run import Run

# What is mounted for a shot in memory, if nothing has to be full.
ROOM = 256 << 20


def apart(work, answer):
    """Runs `work` as the first process of new namespaces, and writes what it gives to the descriptor `answer`."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        system.die_with_parent()
        system.unshare(system.NEWNS | system.NEWPID | system.NEWIPC)
        first = os.fork()
        if first == 0:
            system.die_with_parent()
            try:
                text = checks.to_json(work())
            except BaseException:
                text = checks.to_json({"crash": traceback.format_exc()})
            with open(answer, "w") as out:
                out.write(text)
            os._exit(0)
        os.waitpid(first, 0)
        status = 0
    finally:
        os._exit(status)


def room(path):
    """What of a file system is used: bytes, inodes."""
    data = os.statvfs(path)
    return (data.f_blocks - data.f_bfree) * data.f_frsize, data.f_files - data.f_ffree


class Place:
    """Where a shot is: `home` has templates and images; `top` is a directory that nobody else uses, on the file
    system that is tried, or None for one in memory."""

    def __init__(self, home, command, number, top=None, lacking=False):
        self.home, self.command, self.top, self.lacking = home, command, top, lacking
        self.root = f"{top or home}/shot-{number}"
        os.mkdir(self.root)

    def enter(self, full=None, growth=None):
        template = f"{self.home}/template/{self.command.name}"
        if self.top is None:
            system.mount(None, "/", None, system.REC | system.PRIVATE)
            system.mount("shot", self.root, "tmpfs", 0, f"mode=755,size={ROOM}")
        root.copy(template, self.root)
        if full:
            used = room(self.root)[0 if full.what == "bytes" else 1]
            most = used + int(growth[full.what] * full.part) + (4096 if full.what == "bytes" else 1)
            option = "size" if full.what == "bytes" else "nr_inodes"
            system.mount(None, self.root, None, system.REMOUNT, f"{option}={most}")
        root.enter(self.root, self.home)

    def make_room(self):
        system.mount(None, "/", None, system.REMOUNT, f"size={ROOM},nr_inodes=100000")


def reference(place):
    """What a run does that nobody stops: its output, what it leaves after being run twice, how long it takes."""
    place.enter()
    command = place.command
    before, used = checks.snapshot(), room("/")
    first = Run(command, command.words, lacking=place.lacking, limit=20).go()
    after, more = checks.snapshot(), room("/")
    found = checks.untouched(before, after, command)
    if first.hung or first.code not in command.ok or first.left:
        found.append(("fails by itself", f"exit code {first.code}, left {first.left}: {first.err.strip()[-500:]}"))
    try:
        contents = {path: checks.contents(path, after) for path in command.destinations}
    except checks.Broken as error:
        contents = {}
        found.append(("fails by itself", str(error)))
    for path, held in contents.items():
        # All images have this file, whatever form they came in.
        if held is not None and not any(name.endswith("srv/what") for name in held):
            found.append(("fails by itself", f"{path} is not the image: it has {', '.join(sorted(held)[:9])}"))
    second = Run(command, command.words, lacking=place.lacking, limit=20).go()
    after = checks.snapshot()
    found += checks.untouched(before, after, command)
    if second.code not in command.again:
        found.append(("fails the second time", f"{second.code}: {second.err.strip()[-500:]}"))
    return {
        "name": command.name, "seconds": first.seconds, "contents": contents, "shape": sorted(checks.shape(after, command)),
        "code": first.code, "out": first.out, "violations": [list(item) for item in dict.fromkeys(found)], "mounts": root.mounts(),
        "growth": {"bytes": more[0] - used[0], "inodes": more[1] - used[1]},
    }


def trace(place):
    place.enter()
    run = Run(place.command, place.command.words, keep_trace=True, lacking=place.lacking, limit=20).go()
    return {"trace": run.trace, "code": run.code}


def shoot(place, shot, wanted):
    """A shot and its violations."""
    command = place.command
    place.enter(shot if shot.kind == "full" else None, wanted["growth"])
    before, mounted = checks.snapshot(), root.mounts()
    limit = 20 + 20 * wanted["seconds"]
    ended = Run(command, command.words, shot, limit, lacking=place.lacking).go()
    after = checks.snapshot()
    fired = ended.fired or shot.kind == "full"
    found = checks.untouched(before, after, command)
    if ended.hung:
        found.append(("hangs", f"for {limit:.0f} s: {', '.join(ended.left)}"))
    elif ended.left:
        found.append(("process left", ", ".join(ended.left)))
    if root.mounts() != mounted:
        found.append(("mount left", str(set(root.mounts()) - set(mounted))))
    more, states = checks.destinations(before, after, command, wanted)
    found += more
    # Who could clean: the launcher that has failed, or the helper that has lost it.
    if ended.had_helper and shot.target in ("launcher", "group") or shot.target in shots.HELPERS or shot.error and shot.call not in checks.REMOVING:
        found += checks.left_behind(before, after, command, wanted)
    found += outcome(ended, shot, states, wanted, command, fired)
    if shot.kind == "full":
        place.make_room()
    found += next_run(place, before, wanted, {kind for kind, _ in found})
    return {
        "violations": found, "fired": fired, "states": states, "code": ended.code, "said": ended.err.strip()[-600:],
        "at": ended.at, "seconds": ended.seconds,
    }


def outcome(ended, shot, states, wanted, command, fired):
    """Violations in how the run itself ended."""
    if ended.hung or not fired:
        return []
    # The image's own command may fail by a full disk, and by the death of what serves its files: that is its business.
    if command.runs and ended.code not in (0, *command.failing):
        return []
    found = []
    done = ended.code == wanted["code"] and ended.code in command.ok and (ended.code != 0 or ended.out == wanted["out"])
    if ended.code == 0 and (ended.out != wanted["out"] or "old" in states or "absent" in states) and command.ok == (0,):
        wrong = [path for path, state in zip(command.destinations, states) if state in ("old", "absent") and wanted["contents"][path] is not None]
        if wrong or ended.out != wanted["out"]:
            found.append(("success that is none", f"{', '.join(wrong)}: {states}, {ended.out[:80]!r}"))
    if shot.error and not done and ended.code != 0:
        found += checks.message(ended, shot, command)
    if shot.always and not done and ended.code != 0:
        found.append(("cannot do without", f"{shot.call}(): {shot.error}: {ended.err.strip()[:200]}"))
    if shot.target in shots.HELPERS and ended.code not in (0, wanted["code"]):
        found += checks.message(ended, shot, command)
    if shot.text.startswith("time:STOP") and not done:
        found.append(("a pause is too much", f"{ended.code}: {ended.err.strip()[:200]}"))
    return found


def next_run(place, before, wanted, known):
    """Violations of the same command once more; what is lost already is lost again."""
    command = place.command
    ended = Run(command, command.words, lacking=place.lacking).go()
    after = checks.snapshot()
    found = []
    if ended.hung:
        return [("next run hangs", ", ".join(ended.left))]
    if ended.code not in command.again:
        return [("next run fails", f"{ended.code}: {ended.err.strip()[:300]}")]
    if ended.code == 0 and ended.out != wanted["out"]:
        found.append(("next run wrong", ended.out[:100]))
    lost = checks.untouched(before, after, command)
    more, states = checks.destinations(before, after, command, wanted)
    if ended.code == 0 and command.ok == (0,) and any(state not in ("new", "absent") for state in states):
        more.append(("next run wrong", str(states)))
    found += [(f"{kind} (next run)", text) for kind, text in lost + more if kind not in known]
    if ended.left:
        found.append(("process left (next run)", ", ".join(ended.left)))
    is_lost = "canary lost" in known
    more = cleaned(place, after, command, wanted)
    return found + [(kind, text) for kind, text in more if not is_lost or kind == "not cleaned"]


def cleaned(place, after, command, wanted):
    """Violations in what the next run left. Where it finds the image it looks for no leases: those are for `gc`."""
    if checks.leases_alone(after, command, wanted):
        Run(command, ["chariot", "gc", "--quiet"], lacking=place.lacking).go()
        after = checks.snapshot()
    return checks.cleaned(after, command, wanted)
