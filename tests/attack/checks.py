"""What has to be true after a stop: nothing changed that the command had no business with, the destination old or new,
nothing left, one sentence. Each check gives violations, pairs of a kind and what was seen."""

import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import tarfile

import root

# The marks of what is being made: a name that begins with a dot and tells that it is a part, or a build's directory.
PART = re.compile(r"/\.[^/]*\.part\.|/\.building\.|/\.tmp[A-Za-z0-9]{6}$")
# Removing is what these do; if one of them fails, something may stay until the next run.
REMOVING = {
    "unlink", "unlinkat", "rmdir", "rename", "renameat", "renameat2", "open", "openat", "openat2", "getdents64", "statx",
    "newfstatat", "fstat", "fchmod", "fchmodat", "fchmodat2", "close",
}


def look(path):
    """All of one file that matters."""
    data = os.lstat(path)
    kind = stat.S_IFMT(data.st_mode)
    entry = {
        "kind": kind, "mode": stat.S_IMODE(data.st_mode), "owner": (data.st_uid, data.st_gid), "mtime": data.st_mtime_ns,
        "size": data.st_size if kind == stat.S_IFREG else 0, "link": "", "text": "",
    }
    if kind == stat.S_IFLNK:
        entry["link"] = os.readlink(path)
    if kind == stat.S_IFREG:
        with open(path, "rb") as file:
            entry["text"] = hashlib.sha1(file.read()).hexdigest()
    return entry


def walk(top, found):
    for entry in os.scandir(top):
        path = os.path.join(top, entry.name)
        if path in root.NOT_LOOKED_AT:
            continue
        try:
            found[path] = look(path)
            if entry.is_dir(follow_symlinks=False):
                walk(path, found)
        except FileNotFoundError:
            # Somebody is still at work.
            pass


def snapshot():
    """Everything that can be written in the disposable root."""
    found = {}
    walk("/", found)
    walk("/dev/shm", found)
    return found


def is_below(path, tops):
    return any(path == top or path.startswith(top + "/") for top in tops)


def below(seen, top):
    """What a snapshot has at a path and below."""
    return {path[len(top):]: entry for path, entry in seen.items() if is_below(path, [top])}


def untouched(before, after, command):
    """Violations: what is not the command's to change is as it was."""
    found = []
    own = [*command.destinations, *command.own]
    for path, old in before.items():
        if is_below(path, own) and not is_below(path, command.canaries):
            continue
        new = after.get(path)
        if new is None:
            found.append(("canary lost", path))
            continue
        # The time of a directory says that something was made beside it.
        differs = [key for key in old if old[key] != new[key] and not (key == "mtime" and old["kind"] == stat.S_IFDIR)]
        if differs:
            found.append(("canary changed", f"{path}: {', '.join(differs)}"))
    if len(found) > 5:
        kinds = {kind for kind, _ in found}
        found = [(kind, f"{sum(k == kind for k, _ in found)} files, {next(t for k, t in found if k == kind)} first") for kind in sorted(kinds)]
    return found


def plain(entries):
    """A tree without what differs from one making to the next: times, and the mark that has a time in it."""
    result = {}
    for path, entry in entries.items():
        of_the_mark = path.endswith("/.chariot/image.json")
        owner_and_mode = "" if entry["kind"] == stat.S_IFLNK else entry["mode"]
        result[path] = [entry["kind"], owner_and_mode, entry["link"], "mark" if of_the_mark else entry["text"]]
    return result


class Broken(Exception):
    """An output is no image, or a part of one."""


def contents(path, seen):
    """What an output holds, so that two of them can be compared: whatever form it has."""
    entry = seen.get(path)
    if entry is None:
        return None
    if entry["kind"] == stat.S_IFDIR:
        return plain(below(seen, path))
    if entry["kind"] != stat.S_IFREG:
        raise Broken("it is neither a file nor a directory")
    with open(path, "rb") as file:
        head = file.read(4)
    return of_squashfs(path) if head == b"hsqs" else of_archive(path)


def of_squashfs(path):
    said = subprocess.run(["unsquashfs", "-s", path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if said.returncode:
        raise Broken(said.stdout.strip().splitlines()[-1])
    target = "/check/unpacked"
    words = ["unsquashfs", "-no-progress", "-quiet", "-no-xattrs", "-processors", "1", "-d", target, path]
    said = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        if said.returncode:
            raise Broken(said.stdout.strip().splitlines()[-1])
        found = {}
        walk(target, found)
        return plain({path[len(target):]: entry for path, entry in found.items()})
    finally:
        shutil.rmtree(target, ignore_errors=True)


def of_archive(path):
    found = {}
    try:
        # Through to the end: a cut archive may have all its members.
        with tarfile.open(path, "r:*") as archive:
            for member in archive:
                text = archive.extractfile(member).read() if member.isfile() else b""
                name = member.name.removeprefix("./")
                mark = name.endswith(".chariot/image.json")
                found[name] = [member.type.decode(), member.mode, member.linkname, "mark" if mark else hashlib.sha1(text).hexdigest()]
            archive.fileobj.read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise Broken(str(error)) from None
    if not found:
        raise Broken("an archive without members")
    return found


def destinations(before, after, command, reference):
    """Violations, and for each destination its state: old, new or absent."""
    found, states = [], []
    for path in command.destinations:
        old, now = below(before, path), below(after, path)
        if old == now:
            states.append("old" if old else "absent")
            continue
        if not now:
            if reference["contents"][path] is None:
                states.append("new")
            else:
                found.append(("old destination lost", path))
                states.append("lost")
            continue
        try:
            same = contents(path, after) == reference["contents"][path]
            why = "" if same else difference(contents(path, after), reference["contents"][path])
        except Broken as error:
            same, why = False, str(error)
        states.append("new" if same else "bad")
        if not same:
            found.append(("destination incomplete", f"{path}: {why}"))
    return found, states


def difference(seen, wanted):
    wanted = wanted or {}
    for name in sorted({*seen, *wanted}):
        if seen.get(name) != wanted.get(name):
            return f"{name or 'itself'} is {seen.get(name)}, not {wanted.get(name)}"
    return "nothing"


def is_part(path):
    return PART.search(path) is not None


def left_behind(before, after, command, reference):
    """Violations: what is new and no destination, after a run that could clean up itself."""
    new = [path for path in after if path not in before and not is_below(path, command.destinations)]
    # Directories on the way to Chariot's own are made and stay.
    ours = [path for path in new if not is_below(path, command.own) and not any(own.startswith(path + "/") for own in command.own) or is_part(path)]
    ours = [path for path in ours if not is_complete(path, ours, after, reference)]
    # What came of a layer stays, so that the next run need not fetch it again; that run, or gc, removes it.
    ours = [path for path in ours if not (is_part(path) and "/blobs/" in path)]
    return [("left behind", several(ours))] if ours else []


def is_complete(path, new, after, reference):
    """Whether only its name is missing: then the launcher was about to give it when it ended, and the helper had
    nothing more to look after."""
    top = next((other for other in new if path == other or path.startswith(other + "/")), path)
    if is_whole_image(top):
        return True
    try:
        held = contents(top, after)
    except Broken:
        return False
    held.pop("/.chariot-unfinished", None)
    return held in [wanted for wanted in reference["contents"].values() if wanted]


def is_whole_image(path):
    """Whether a file is SquashFS with all of its bytes, as it says itself."""
    try:
        with open(path, "rb") as file:
            head = file.read(48)
            length = int.from_bytes(head[40:48], "little")
            return head[:4] == b"hsqs" and 0 < length <= os.fstat(file.fileno()).st_size
    except OSError:
        return False


def several(paths):
    # The uppermost say it.
    paths = [path for path in sorted(paths) if os.path.dirname(path) not in paths]
    return ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")


def shape(seen, command):
    """The names that are there, without digests and numbers, which differ from run to run."""
    names = {path for path in seen if not is_below(path, command.destinations)}
    return {re.sub(r"[0-9a-f]{16,}", "HEX", name) for name in names}


def leases_alone(after, command, reference):
    """Whether the next run has left nothing but leases of who died."""
    left = shape(after, command) - set(reference["shape"])
    return bool(left) and all("/leases/" in path for path in left)


def cleaned(after, command, reference):
    """Violations: after the next run all is as if nobody had stopped the one before it."""
    seen, wanted = shape(after, command), set(reference["shape"])
    found = []
    # Some bytes by which the cache finds an image of the store to which it could give no second name.
    seen -= {f"{place}/files/HEX" for place in command.own}
    if seen - wanted:
        found.append(("not cleaned", several(seen - wanted)))
    # What Chariot keeps for itself it may have learnt to do without.
    missing = {name for name in wanted - seen if not is_below(name, command.own)}
    if missing:
        found.append(("missing after the next run", several(missing)))
    return found


def sentences(said):
    return [line for line in said.splitlines() if "can't " in line and "hint:" not in line]


# Where a user's files and Chariot's are; nothing said of where: the file system that is full.
PLACES = ("/home", "/desk", "/scratch", "/var", "/tmp", "/data")


def names_place(said, command, at):
    """Whether it says where: the destination or Chariot's own room, or else the file that the call was about."""
    if at.startswith("/data"):
        return "/data" in said
    places = [*command.destinations, *command.own]
    places += [os.path.dirname(path) for path in command.destinations]
    return any(place in said for place in places) or bool(at) and at in said


def message(ended, shot, command):
    """Violations: what failed is said once; a full disk and a broken one with the place, the former with a hint."""
    said = ended.err
    if not said.strip():
        return [("silent", f"exit code {ended.code}, and not a word")]
    found = []
    told = sentences(said)
    brief = " | ".join(said.strip().splitlines()[:4])
    if ended.code not in command.failing:
        found.append(("wrong exit code", f"{ended.code}: {brief}"))
    if len(told) != 1:
        found.append(("not one sentence", f"{len(told)}: {brief}"))
    if "panicked" in said:
        found.append(("panic", brief))
    # A container's own files in memory have no place that a user knows, nor has /proc, nor a file without a name; a program
    # that PATH leads to is named by its word.
    has_place = not (ended.at.startswith(("/proc", "/etc", "/dev", "/opt")) or ended.at.endswith("(deleted)") or command.runs and not ended.at.startswith(PLACES))
    if shot.error in ("ENOSPC", "EDQUOT") and (not ended.writes or not has_place):
        return found
    if "hint:" not in said and shot.error in ("ENOSPC", "EDQUOT"):
        found.append(("no hint", brief))
    if shot.error in ("ENOSPC", "EDQUOT", "EIO") and has_place and told and not names_place(said, command, ended.at):
        found.append(("place not named", brief))
    return found


def to_json(value):
    return json.dumps(value)
