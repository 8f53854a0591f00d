"""The program: its options, its place, templates and references, shots side by side, the report."""

import argparse
import collections
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import time

import commands
import lustre
import root
import selftest
import shoot
import shots
import sources
import system
from run import Run

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
NEEDED = ["busybox", "mksquashfs", "unsquashfs", "docker-registry", "skopeo", "cp"]
# A shot that is not done by then is broken itself.
LONGEST = 400


def options(about):
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chariot", default=os.environ.get("CHARIOT", f"{REPOSITORY}/target/package/chariot"))
    parser.add_argument("--count", type=int, default=640)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="")
    parser.add_argument("--shot")
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--fs", default="memory", choices=["memory", "ext4", "xfs", "bindfs", "lustre", "lacking"])
    parser.add_argument("--jobs", type=int, default=max(2, os.cpu_count() or 2))
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--self-test", action="store_true")
    parser.add_argument("--verbose", action="store_true")
    return parser.parse_args()


def main(about):
    given = options(about)
    if given.list:
        for command in commands.COMMANDS:
            print(f"{command.name:16} {' '.join(command.words)}")
        return 0
    if os.geteuid() != 0:
        return cannot("this needs root, for namespaces in which nothing of the machine can be lost")
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing:
        return cannot(f"no {', no '.join(missing)}: tests/tools/install-packages")
    if not given.self_test and not os.path.exists(given.chariot):
        return cannot(f"no launcher {given.chariot}: etc/build")
    # All that follows is in namespaces of its own, whose end is the end of everything in them.
    system.unshare(system.NEWNS | system.NEWPID | system.NEWIPC | system.NEWNET | system.NEWUTS)
    child = os.fork()
    if child == 0:
        system.die_with_parent()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        code = 1
        try:
            code = Battery(given).fire()
        except Skipped as why:
            code = cannot(why)
        except BaseException:
            import traceback
            traceback.print_exc()
        sys.stdout.flush()
        os._exit(code)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: os.kill(child, signal.SIGKILL))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 0xFF


class Skipped(Exception):
    """This machine cannot do that."""


def cannot(why):
    print(f"tests/attack/kill: skipped: {why}", file=sys.stderr)
    return 1 if os.environ.get("CHARIOT_MUST_WORK") else 0


class Battery:
    def __init__(self, given):
        self.given = given
        self.began = time.monotonic()
        self.numbers = 0
        self.failed = self.passed = self.missed = 0
        self.kinds = collections.Counter()
        system.mount(None, "/", None, system.REC | system.PRIVATE)
        system.mount("proc", "/proc", "proc")
        system.sethostname("attack")
        system.raise_loopback()
        self.home = self.settle()
        self.top, self.lacking = None, given.fs == "lacking"

    def settle(self):
        """In memory, over a directory that nothing of ours is in: none has to be made on the machine."""
        taken = [os.path.realpath(path) for path in (REPOSITORY, self.given.chariot, sys.executable)]
        place = next(place for place in ("/mnt", "/media", "/srv") if os.path.isdir(place)
                     and not any(path.startswith(place + "/") for path in taken))
        with open(self.given.chariot if not self.given.self_test else "/dev/null", "rb") as launcher:
            system.mount("attack", place, "tmpfs", 0, "mode=755")
            sources.make(place, REPOSITORY, f"/proc/self/fd/{launcher.fileno()}")
        sources.registry(place)
        os.mkdir(f"{place}/template")
        return place

    def file_system(self):
        """Another file system than memory, for the roots."""
        kind, home = self.given.fs, self.home
        if kind in ("memory", "lacking"):
            return
        program = {"bindfs": "bindfs", "lustre": None}.get(kind, f"mkfs.{kind}")
        if program and shutil.which(program) is None:
            raise Skipped(f"no {program}: tests/tools/install-packages")
        top = f"{home}/top"
        os.mkdir(top)
        if kind == "lustre":
            os.mkdir(f"{home}/under")
            lustre.start(f"{home}/under", top)
        elif kind == "bindfs":
            os.mkdir(f"{home}/under")
            words = ["bindfs", "-f", "-o", "allow_other,dev,suid", f"{home}/under", top]
            self.fuse = subprocess.Popen(words, preexec_fn=system.die_with_parent)
            for _ in range(100):
                if os.path.ismount(top):
                    break
                time.sleep(0.05)
        else:
            image = f"{home}/top.img"
            with open(image, "wb") as file:
                file.truncate(1 << 30)
            subprocess.run([f"mkfs.{kind}", "-q", image], check=True)
            subprocess.run(["mount", "-o", "loop", image, top])
        if not os.path.ismount(top):
            raise Skipped(f"no {kind} can be mounted here")
        os.chmod(top, 0o755)
        self.top = top

    def commands(self):
        wanted = [name for name in self.given.only.split(",") if name]
        unknown = set(wanted) - {command.name for command in commands.COMMANDS}
        if unknown:
            raise Skipped(f"no command {', '.join(sorted(unknown))}: --list shows them")
        return [command for command in commands.COMMANDS if not wanted or command.name in wanted]

    def fire(self):
        root.make_template(f"{self.home}/base")
        if self.given.self_test:
            return selftest.run(self)
        self.file_system()
        chosen = self.commands()
        references = self.references(chosen)
        for command in chosen:
            self.report(command, "nothing", {"violations": references[command.name]["violations"], "fired": True})
        # Shooting at what goes wrong by itself would say the same again and again.
        chosen = [command for command in chosen if not references[command.name]["violations"]]
        each = max(4, self.given.count // max(1, len(chosen)))
        todo = []
        for command in chosen:
            texts = [self.given.shot] * self.given.times if self.given.shot else shots.choose(references[command.name], each, self.given.seed, self.given.all)
            if self.top is not None:
                texts = [text for text in texts if not text.startswith("full:")]
            todo += [(command, text) for text in texts]
        work = [self.shot(command, text, references[command.name]) for command, text in todo]
        chance = []
        for index, answer in self.side_by_side(work):
            if by_chance(todo[index][1], answer):
                chance.append((todo[index], answer))
            else:
                self.report(*todo[index], answer)
        self.again(chance, references)
        return self.close()

    def again(self, chance, references):
        """Shots at a moment hit another call each time, on a busy machine above all. What only stayed behind has to do
        so once more in five; what was lost never gets here."""
        for (command, text), answer in chance:
            work = [self.shot(command, text, references[command.name])] * 5
            answers = [again for _, again in self.side_by_side(work)]
            worse = [again for again in answers if again.get("violations") or "crash" in again]
            if not worse:
                print(f"once in six: {line(command, text, answer)}", flush=True)
                answer = {**answer, "violations": []}
            self.report(command, text, worse[0] if worse else answer)

    def references(self, chosen):
        """Makes each command's template, and sees what it does when nobody stops it."""
        for command, answer in self.answers([lambda command=command: self.setup(command) for command in chosen], chosen):
            if answer.get("crash") or answer["failed"]:
                raise RuntimeError(f"can't set up {command.name}: {answer}")
        for command in chosen:
            if command.prepare:
                command.prepare(f"{self.home}/template/{command.name}")
        work = [lambda command=command: shoot.reference(self.place(command)) for command in chosen]
        found = {command.name: answer for command, answer in self.answers(work, chosen)}
        work = [lambda command=command: shoot.trace(self.place(command)) for command in chosen]
        for command, answer in self.answers(work, chosen):
            for part in (answer, found[command.name]):
                if "crash" in part:
                    raise RuntimeError(f"{command.name}: {part['crash']}")
            found[command.name]["trace"] = answer["trace"]
        return found

    def setup(self, command):
        """Runs what comes before the command, in its template."""
        template = f"{self.home}/template/{command.name}"
        root.copy_new(f"{self.home}/base", template)
        root.enter(template, self.home)
        failed = []
        for words in command.setup:
            ended = Run(command, words).go()
            if ended.code != 0:
                failed.append(f"{' '.join(words)}: {ended.code}: {ended.err}")
        return {"failed": failed}

    def place(self, command):
        return shoot.Place(self.home, command, self.numbers, self.top, self.lacking)

    def shot(self, command, text, reference):
        return lambda: shoot.shoot(self.place(command), shots.Shot(text, reference["seconds"]), reference)

    def answers(self, work, chosen):
        return [(chosen[index], answer) for index, answer in self.side_by_side(work)]

    def side_by_side(self, work):
        """Runs all of it, some at a time, each in namespaces of its own; gives answers as they come."""
        waiting = collections.deque(enumerate(work))
        selector = selectors.DefaultSelector()
        while waiting or selector.get_map():
            while waiting and len(selector.get_map()) < self.given.jobs:
                index, one = waiting.popleft()
                self.numbers += 1
                reader, writer = os.pipe()
                child = shoot.apart(one, writer)
                os.close(writer)
                selector.register(reader, selectors.EVENT_READ, [index, child, b"", time.monotonic(), self.numbers])
            for key, _ in selector.select(1):
                part = os.read(key.fd, 1 << 20)
                key.data[2] += part
                if not part:
                    yield self.end(selector, key)
            for key in list(selector.get_map().values()):
                if time.monotonic() - key.data[3] > LONGEST:
                    os.kill(key.data[1], signal.SIGKILL)

    def end(self, selector, key):
        index, child, text, _, number = key.data
        selector.unregister(key.fd)
        os.close(key.fd)
        os.waitpid(child, 0)
        if self.top is not None:
            shutil.rmtree(f"{self.top}/shot-{number}", ignore_errors=True)
        elif os.path.isdir(f"{self.home}/shot-{number}"):
            os.rmdir(f"{self.home}/shot-{number}")
        return index, json.loads(text or '{"crash": "killed, or too slow"}')

    def report(self, command, text, answer):
        if "crash" in answer:
            answer = {"violations": [("the test itself", answer["crash"].strip())], "fired": True}
        if not answer["fired"]:
            self.missed += 1
        elif answer["violations"]:
            self.failed += 1
        else:
            self.passed += 1
        for kind, seen in answer["violations"]:
            self.kinds[kind] += 1
        if answer["violations"]:
            print(line(command, text, answer), flush=True)
        if self.given.verbose:
            print(f"ok? {command.name} {text} {json.dumps({**answer, 'violations': len(answer['violations'])})}", flush=True)

    def close(self):
        for kind, count in self.kinds.most_common():
            print(f"{count:5} {kind}")
        seconds = time.monotonic() - self.began
        print(f"{self.passed} passed, {self.failed} failed; {self.missed} more came too late; {seconds:.0f} s")
        return 1 if self.failed else 0


def by_chance(text, answer):
    kinds = {kind for kind, _ in answer.get("violations", [])}
    return text.startswith("time:") and bool(kinds) and kinds <= {"left behind", "process left"}


def line(command, text, answer):
    """What went wrong, and how to see it again."""
    shot = "" if text == "nothing" else f" --shot {text}"
    at = f" ({answer['at']})" if answer.get("at") else ""
    seen = "; ".join(f"{kind}: {what}" for kind, what in answer["violations"])
    return f"FAILED --only {command.name}{shot}{at}: " + " ".join(seen.split())[:700]
