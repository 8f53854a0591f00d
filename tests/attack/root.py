"""The disposable root in which everything is shot: a tree of its own with a user's home, a scratch directory that all
share and files of somebody else, and the machine's programs read-only. It is a mount namespace's, so nothing of it is
left when its last process has gone, however that ended."""

import os
import shutil
import stat
import subprocess

import system

# Two users that nobody has made on this machine: only the disposable root knows their names.
ADA, BOB = 23450, 23451
HOME = "/home/ada"
REGISTRY = "127.0.0.1:5000"
# What is mounted, or belongs to the program itself.
NOT_LOOKED_AT = {"/proc", "/sys", "/dev", "/usr", "/data", "/opt", "/check", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"}

SITE = f"""
builders = ["docker"]
[waits]
fetch = 60
byte = 10
[registries."{REGISTRY}"]
plain_http = true
"""

ENVIRONMENT = {
    "HOME": HOME, "USER": "ada", "LOGNAME": "ada", "LANG": "C.UTF-8",
    "PATH": "/opt/chariot:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
    "XDG_RUNTIME_DIR": f"/run/user/{ADA}", "PWD": "/desk",
}


def write(path, text, owner=0, mode=0o644):
    with open(path, "w") as file:
        file.write(text)
    os.chown(path, owner, owner)
    os.chmod(path, mode)


def directory(path, owner=0, mode=0o755):
    os.mkdir(path)
    os.chown(path, owner, owner)
    os.chmod(path, mode)


def belongings(place, owner):
    """What somebody keeps in a directory: canaries."""
    for number in range(4):
        write(f"{place}/notes-{number}", f"of {owner}, {number}\n" * 50, owner, 0o640 if number else 0o600)
    directory(f"{place}/results", owner, 0o750)
    write(f"{place}/results/table", "1 2 3\n" * 300, owner)
    os.link(f"{place}/results/table", f"{place}/results/same")
    directory(f"{place}/results/empty", owner, 0o700)
    os.symlink("results/table", f"{place}/link")
    os.lchown(f"{place}/link", owner, owner)
    # Names like those of unfinished images, which are not of Chariot's form.
    write(f"{place}/.out.sqfs.part", "mine\n", owner)
    write(f"{place}/.tree.part.of.mine", "mine\n", owner)
    directory(f"{place}/.tree.part", owner)
    write(f"{place}/.tree.part/file", "mine\n", owner)


def make_template(root):
    """The tree, without what is mounted over it."""
    directory(root)
    for name in ["etc", "home", "run", "run/user", "var", "usr", "proc", "sys", "dev", "data", "opt", "check"]:
        directory(f"{root}/{name}")
    for name in ["tmp", "var/tmp", "scratch", "scratch/shared"]:
        directory(f"{root}/{name}", 0, 0o1777)
    directory(f"{root}/run/user/{ADA}", ADA, 0o700)
    for name in ["bin", "sbin", "lib", "lib32", "lib64", "libx32"]:
        if os.path.islink(f"/{name}"):
            os.symlink(os.readlink(f"/{name}"), f"{root}/{name}")
        elif os.path.isdir(f"/{name}"):
            directory(f"{root}/{name}")
    for user, number, mode in (("ada", ADA, 0o755), ("bob", BOB, 0o755)):
        for place in (f"home/{user}", f"scratch/{user}"):
            directory(f"{root}/{place}", number, mode)
            belongings(f"{root}/{place}", number)
        for place in ("scratch", "scratch/shared", "tmp", "var/tmp"):
            write(f"{root}/{place}/{user}.dat", f"{user}'s\n" * 99, number, 0o600)
            # Anybody may write it; nobody but its owner may remove it, for the directory is sticky.
            write(f"{root}/{place}/{user}.open", f"{user}'s\n" * 9, number, 0o666)
    directory(f"{root}/root", 0, 0o700)
    directory(f"{root}/srv")
    belongings(f"{root}/srv", 0)
    directory(f"{root}/desk", ADA)
    belongings(f"{root}/desk", ADA)
    write(f"{root}/desk/bob.dat", "lent\n", BOB)
    # A directory in which all that is written belongs to bob's and ada's common work.
    directory(f"{root}/home/bob/open", BOB, 0o777)
    write(f"{root}/home/bob/open/file", "open\n", BOB, 0o666)
    etc = f"{root}/etc"
    write(f"{etc}/passwd", f"root:x:0:0::/root:/bin/sh\nada:x:{ADA}:{ADA}::{HOME}:/bin/sh\nbob:x:{BOB}:{BOB}::/home/bob:/bin/sh\n")
    write(f"{etc}/group", f"root:x:0:\nada:x:{ADA}:\nbob:x:{BOB}:\n")
    write(f"{etc}/hosts", "127.0.0.1 localhost attack\n")
    write(f"{etc}/resolv.conf", "")
    write(f"{etc}/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n")
    write(f"{etc}/machine-id", "0123456789abcdef0123456789abcdef\n")
    if os.path.exists("/etc/ld.so.cache"):
        shutil.copy("/etc/ld.so.cache", f"{etc}/ld.so.cache")
    directory(f"{etc}/chariot")
    write(f"{etc}/chariot/chariot.toml", SITE)
    write(f"{etc}/chariot/stage.toml", 'stage = "node"\nstage_dir = "/var/tmp/chariot-$USER"\n' + SITE)
    write(f"{etc}/chariot/site.toml", 'site_cache = "/srv/cache"\n' + SITE)
    write(f"{etc}/chariot/foreign.toml", f'cache = "{HOME}/mine"\n' + SITE)


def copy(template, root):
    """A copy of a template, with owners, times and hard links."""
    subprocess.run(["cp", "-a", "--", template + "/.", root], check=True)


def copy_new(template, root):
    os.mkdir(root)
    copy(template, root)


def enter(root, place):
    """Makes `root` this process's root; `place` has the images and the launcher. In a new mount namespace and as
    the first process of a new process namespace."""
    system.mount(None, "/", None, system.REC | system.PRIVATE)
    system.bind(root, root, read_only=False)
    system.bind("/usr", f"{root}/usr", recursive=True)
    for name in ["bin", "sbin", "lib", "lib32", "lib64", "libx32"]:
        if os.path.isdir(f"{root}/{name}") and not os.path.islink(f"{root}/{name}"):
            system.bind(f"/{name}", f"{root}/{name}")
    system.bind(f"{place}/data", f"{root}/data")
    system.bind(f"{place}/opt", f"{root}/opt")
    system.bind("/sys", f"{root}/sys")
    system.mount("proc", f"{root}/proc", "proc")
    system.mount("dev", f"{root}/dev", "tmpfs", 0, "mode=755")
    for name in ["null", "zero", "full", "random", "urandom", "tty", "fuse"]:
        os.close(os.open(f"{root}/dev/{name}", os.O_CREAT | os.O_WRONLY, 0o666))
        # One by one: what removes all that it finds finds nothing of the machine's.
        system.bind(f"/dev/{name}", f"{root}/dev/{name}", read_only=False)
    directory(f"{root}/dev/shm")
    system.mount("shm", f"{root}/dev/shm", "tmpfs", 0, "mode=1777")
    system.mount("check", f"{root}/check", "tmpfs", 0, "mode=700")
    os.mkdir(f"{root}/check/old-root")
    system.pivot_root(root, f"{root}/check/old-root")
    os.chdir("/")
    system.unmount("/check/old-root", system.DETACH)
    os.rmdir("/check/old-root")


def mounts():
    """What is mounted here."""
    with open("/proc/self/mountinfo") as file:
        return sorted(line.split(" ", 3)[3] for line in file)


def is_directory(path):
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False
