"""What is shot: each command that writes, as a user types it, with what it may change and what it has to leave."""

import os
import subprocess

import root

STORE = f"{root.HOME}/.local/share/chariot"
CACHE = f"{root.HOME}/.cache/chariot"
CHANGE = "echo x >/etc/persist; mkdir -p /opt/d; echo y >/opt/d/f; rm -f /srv/new; mv /opt/d/f /opt/d/g; cat /etc/persist /opt/d/g"


class Command:
    """`destinations` are old, new or absent after a stop; `own` is Chariot's room; `canaries` lie in it and stay."""

    def __init__(self, name, words, destinations=(), own=(), canaries=(), setup=(), prepare=None, ok=(0,), again=None,
                 failing=(125,), variables=None, user=root.ADA):
        self.name = name
        self.words = words.split() if isinstance(words, str) else words
        self.destinations = list(destinations)
        self.own = [CACHE, *own]
        self.canaries = list(canaries)
        self.setup = [line.split() if isinstance(line, str) else line for line in setup]
        self.prepare = prepare
        self.ok = ok
        self.again = again or ok
        self.failing = failing
        self.runs = "--" in self.words
        self.user = user
        whose = {} if user else {"HOME": "/root", "USER": "root", "LOGNAME": "root", "XDG_RUNTIME_DIR": "/run"}
        self.environment = {**root.ENVIRONMENT, **whose, **(variables or {})}


def with_fifo(template):
    os.mkfifo(f"{template}/desk/fifo", 0o600)
    os.chown(f"{template}/desk/fifo", root.ADA, root.ADA)


def with_changes(template):
    root.directory(f"{template}/desk/changes", root.ADA)


def aged(template):
    """All of the cache was used last year; and a photograph has come in there."""
    place = f"{template}{CACHE}/images"
    root.write(f"{place}/photo.jpg", "a photograph\n" * 99, root.ADA)
    root.write(f"{template}{CACHE}/notes", "notes\n", root.ADA)
    subprocess.run(["find", f"{template}{CACHE}", "-type", "f", "-exec", "touch", "-d", "400 days ago", "{}", "+"], check=True)


def foreign(template):
    """A directory of the user's own whose parts are called as those of a cache are."""
    mine = f"{template}{root.HOME}/mine"
    for name in ["", "/jobs", "/jobs/2024", "/files", "/images", "/leases", "/blobs", "/blobs/sha256"]:
        root.directory(mine + name, root.ADA)
    for name in ["jobs/2024/result", "files/thesis", "images/photo.jpg", "leases/flat.pdf", "blobs/sha256/list"]:
        root.write(f"{mine}/{name}", "mine\n" * 99, root.ADA)
    subprocess.run(["find", mine, "-exec", "touch", "-d", "400 days ago", "{}", "+"], check=True)


def store_of(name):
    return f"{STORE}/{name}.sqfs"


OTHERS = [f"chariot pack --quiet /data/old.tar {STORE}/other.sqfs"]
MAKE_STORE = [["mkdir", "-p", STORE]]
IMAGE = f"docker://{root.REGISTRY}/team/small:1"
OLD_FILE = "chariot pack --quiet /data/old.tar /desk/out.sqfs"
OLD_TREE = "chariot unpack --quiet /data/old.tar /desk/tree"
IN_STORE = store_of("team+small:1")

COMMANDS = [
    Command("pack", "chariot pack --quiet /data/tree /desk/out.sqfs", ["/desk/out.sqfs"]),
    Command("pack-over", "chariot pack --quiet /data/docker.tar /desk/out.sqfs", ["/desk/out.sqfs"], setup=[OLD_FILE]),
    Command("pack-tar", "chariot pack --quiet /data/tree.sqfs /desk/out.tar.gz", ["/desk/out.tar.gz"]),
    Command("pack-shared", "chariot pack --quiet /data/tree /scratch/shared/out.sqfs", ["/scratch/shared/out.sqfs"]),
    Command("pack-fifo", "chariot pack --quiet /data/flat.tar /desk/out.sqfs", ["/desk/out.sqfs"], prepare=with_fifo),
    Command("unpack", "chariot unpack --quiet /data/docker.tar /desk/tree", ["/desk/tree"]),
    Command("unpack-gz", "chariot unpack --quiet docker-archive:/data/docker.tar.gz /desk/tree", ["/desk/tree"]),
    Command("unpack-over", "chariot unpack --quiet /data/docker.tar /desk/tree", ["/desk/tree"], setup=[OLD_TREE]),
    Command("unpack-flat", "chariot unpack --quiet /data/flat.tar /home/bob/open/tree", ["/home/bob/open/tree"]),
    Command("unpack-squashfs", "chariot unpack --quiet /data/tree.sqfs /scratch/shared/tree", ["/scratch/shared/tree"]),
    Command("unpack-broken", "chariot unpack --quiet /data/broken.tar /desk/tree", ["/desk/tree"], ok=(125,), setup=[OLD_TREE]),
    Command("unpack-broken-gz", "chariot unpack --quiet /data/broken.tar.gz /desk/tree", ["/desk/tree"], ok=(125,)),
    Command("unpack-cut", "chariot unpack --quiet /data/cut.tar.gz /desk/tree", ["/desk/tree"], ok=(125,)),
    Command("unpack-missing", "chariot unpack --quiet /data/nothing.tar /desk/tree", ["/desk/tree"], ok=(125,)),
    Command("export", "chariot export --quiet other /desk/out.tar", ["/desk/out.tar"], setup=MAKE_STORE + OTHERS),
    Command("pull", f"chariot pull --quiet {IMAGE}", [IN_STORE], [STORE], [store_of("other")], MAKE_STORE + OTHERS),
    Command("pull-file", f"chariot pull --quiet {IMAGE} /desk/out.sqfs", ["/desk/out.sqfs"], setup=[OLD_FILE]),
    Command("pull-tree", f"chariot pull --quiet {IMAGE} /desk/tree", ["/desk/tree"], setup=[OLD_TREE]),
    Command("build", "chariot build --quiet -t built /data/context", [store_of("built")], [STORE], [store_of("other")], MAKE_STORE + OTHERS),
    Command("run-archive", "chariot run /data/flat.tar -- cat /srv/what"),
    Command("run-registry", f"chariot run {IMAGE} -- cat /srv/what"),
    Command("run-edf", "chariot run --edf /data/image.toml -- sh -c".split() + ["echo x >/etc/new; cat /etc/new /srv/what"]),
    Command("run-overlay", "chariot run --overlay /desk/changes /data/tree.sqfs -- sh -c".split() + [CHANGE], own=["/desk/changes"], prepare=with_changes),
    Command("stage", "chariot --config /etc/chariot/stage.toml run /data/tree.sqfs -- cat /srv/what".split(),
            own=["/var/tmp/chariot-ada"], variables={"SLURM_JOB_ID": "42"}),
    Command("gc", "chariot gc --quiet --all --size 0", canaries=[f"{CACHE}/images/photo.jpg", f"{CACHE}/notes"],
            setup=["chariot run /data/flat.tar -- true", f"chariot run {IMAGE} -- true"], prepare=aged),
    Command("gc-foreign", "chariot --config /etc/chariot/foreign.toml gc --quiet --age 30", prepare=foreign, ok=(0, 125)),
    # Root's mistakes would cost everybody's files.
    Command("root-unpack", "chariot unpack --quiet /data/docker.tar /srv/tree", ["/srv/tree"], own=["/root/.cache"], user=0),
    Command("root-broken", "chariot unpack --quiet /data/broken.tar /srv/tree", ["/srv/tree"], own=["/root/.cache"], ok=(125,), user=0),
    Command("root-pull", f"chariot --config /etc/chariot/site.toml pull --quiet --site {IMAGE}", own=["/srv/cache", "/root/.cache"], user=0),
    Command("rm", "chariot rm new", [store_of("new")], [STORE], [store_of("other")],
            MAKE_STORE + OTHERS + [f"chariot pack --quiet /data/tree {STORE}/new.sqfs"], again=(0, 125)),
    Command("ch-run", "ch-run --write-fake /data/tree.sqfs -- cat /srv/what", failing=(31,)),
    Command("ch-run-write", "ch-run -w /desk/tree -- sh -c".split() + ["echo x >/srv/x; cat /srv/x /srv/what"], own=["/desk/tree"],
            setup=[OLD_TREE], failing=(31,)),
]
