"""The cluster of a soak, its user, and a registry."""
import contextlib, os, pathlib, pwd, subprocess, sys

from small_registry import Registry

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


class Site:
    def __init__(self, place, nodes, seed):
        self.place, self.nodes, self.seed = place, [f"n{number + 1}" for number in range(nodes)], seed
        self.images = pathlib.Path(os.environ["CHARIOT_TEST_IMAGES"])
        self.user = pwd.getpwnam(os.environ["CHARIOT_TEST_USER"])
        self.home, self.cluster = place / "soak-home", place / "soak-cluster"
        self.cluster.mkdir()
        self.directory("")
        self.registry = Registry(place / "soak-layout")
        self.environment = {**os.environ, "CHARIOT_TEST_NODES": str(nodes)}
        self.variables = {"HOME": str(self.home), "USER": self.user.pw_name, "PATH": f"{place}:/usr/local/bin:/usr/bin:/bin",
                          "SLURM_CONF": f"{self.cluster}/slurm.conf", "PWD": str(self.home)}

    def __enter__(self):
        self.clustered("start", "site")
        (self.cluster / "chariot.toml").write_text(f"[registries.\"{self.registry.host}\"]\nplain_http = true\n")
        return self

    def __exit__(self, *_):
        self.clustered("stop")

    def directory(self, name):
        """One of the user's, in the home."""
        (self.home / name).mkdir()
        os.chown(self.home / name, self.user.pw_uid, self.user.pw_gid)

    def clustered(self, *words):
        tool = ROOT / "tests/tools/cluster"
        subprocess.run([tool, words[0], self.cluster, *words[1:]], check=True, env=self.environment, stdout=sys.stderr)

    def popen(self, words, **more):
        """A command of the user's."""
        as_user = ["setpriv", f"--reuid={self.user.pw_uid}", f"--regid={self.user.pw_gid}", "--init-groups"]
        return subprocess.Popen([*as_user, *map(str, words)], cwd=self.home, env=self.variables, stdin=subprocess.DEVNULL, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)

    def run(self, words, seconds=200):
        """Its exit status and what it said, on both."""
        return end(self.popen(words), seconds)

    def said(self, *words):
        """What a command of the administrator's says."""
        found = subprocess.run(words, env={**os.environ, "SLURM_CONF": self.variables["SLURM_CONF"]}, capture_output=True, text=True, timeout=100)
        return found.stdout

    def pid_of(self, node):
        return int((self.cluster / f"run/slurmd-{node}.pid").read_text())

    def collect(self):
        """What failed steps have left to be told goes on each node, as an administrator or the user would have it."""
        for node in self.nodes:
            of_node = ["nsenter", "--uts", f"--target={self.pid_of(node)}"]
            as_user = ["setpriv", f"--reuid={self.user.pw_uid}", f"--regid={self.user.pw_gid}", "--init-groups"]
            subprocess.run([*of_node, *as_user, self.place / "chariot", "gc", "--all", "--quiet", f"--config={self.cluster}/chariot.toml"], env=self.variables,
                           cwd=self.home, stdout=subprocess.DEVNULL, check=True, timeout=100)


def end(process, seconds=200):
    """Waits for a command, and kills one that does not end."""
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(OSError):
            process.kill()
        process.communicate()
        raise
    return process.returncode, out, err
