"""Runs one command in the disposable root, of which this process is the first, and stops it as a shot says."""

import os
import select
import signal
import socket
import time

import root
import shots
import system

# How long what a launcher leaves may go on, and a suspended one lies still.
PATIENCE, SUSPENDED = 3.0, 2.5


class Ended:
    """How a run went."""

    def __init__(self):
        self.code = None
        self.out = self.err = self.at = ""
        self.seconds = 0.0
        self.trace = []
        self.fired = False
        self.hung = False
        self.left = []
        # Whether the call that failed is one for which a disk can be full.
        self.writes = True
        # Whether the helper was shot at, and whether one was there that could clean up.
        self.helper_killed = self.had_helper = False


class Run:
    """A run of `command`; `shot` is None for one that nobody stops. `lacking`: on a file system that cannot
    do more than it has to."""

    def __init__(self, command, words, shot=None, limit=60.0, keep_trace=False, lacking=False):
        self.command, self.words, self.shot, self.limit = command, words, shot, limit
        self.keep_trace, self.lacking = keep_trace, lacking
        self.traced = set(system.NUMBERS) - {"fcntl"} if keep_trace else set()
        if shot and shot.call:
            self.traced.add(shot.call)
        if lacking:
            self.traced |= {*shots.LACKING, "fcntl", "openat"} & set(system.NUMBERS)
        self.ended = Ended()
        self.counts = {}
        self.resume_at = None
        # A script's program is its interpreter.
        interpreter = "/opt/chariot/busybox"
        data = os.stat(interpreter if os.path.exists(interpreter) else "/opt/chariot/chariot")
        self.program = (data.st_dev, data.st_ino)

    def go(self):
        self.out, self.err = os.memfd_create("out"), os.memfd_create("err")
        self.start()
        began = time.monotonic()
        shot, ended = self.shot, self.ended
        moment = began + shot.moment if shot and shot.moment is not None else None
        gone_at = None
        while True:
            now = time.monotonic()
            if moment is not None and now >= moment:
                moment = None
                if ended.code is None:
                    self.fire()
            if self.resume_at is not None and now >= self.resume_at:
                self.resume_at = None
                self.kill(self.child, signal.SIGCONT)
            self.reap()
            if ended.code is not None:
                if gone_at is None:
                    gone_at, ended.seconds = now, now - began
                others = self.processes()
                if not others:
                    break
                if now - gone_at > PATIENCE:
                    ended.left = [self.describe(pid) for pid in others]
                    break
            elif now - began > self.limit:
                ended.hung = True
                ended.left = [self.describe(pid) for pid in self.processes()]
                break
            waits = [1.0, *(at - now for at in (moment, self.resume_at) if at is not None)]
            self.serve(max(0.0, min(waits)) if ended.code is None else 0.005)
        for pid in self.processes():
            self.kill(pid, signal.SIGKILL)
        if self.listener is not None:
            os.close(self.listener)
        while self.processes():
            self.reap()
            time.sleep(0.002)
        self.reap()
        os.close(self.pidfd)
        ended.out, ended.err = self.read(self.out), self.read(self.err)
        return ended

    def read(self, file):
        os.lseek(file, 0, os.SEEK_SET)
        text = b""
        while part := os.read(file, 1 << 20):
            text += part
        os.close(file)
        return text.decode(errors="replace")

    def start(self):
        ours, theirs = socket.socketpair()
        self.child = os.fork()
        if self.child == 0:
            try:
                self.become(theirs)
            finally:
                os._exit(255)
        theirs.close()
        self.pidfd = os.pidfd_open(self.child)
        self.listener = None
        if self.traced:
            _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
            self.listener = descriptors[0]
        ours.close()

    def become(self, sock):
        os.setsid()
        null = os.open("/dev/null", os.O_RDONLY)
        for number, file in enumerate((null, self.out, self.err)):
            os.dup2(file, number)
        os.umask(0o022)
        os.chdir("/desk")
        for number in (signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        if self.traced:
            socket.send_fds(sock, [b"x"], [system.listen(system.NUMBERS[call] for call in self.traced)])
        os.setgroups([])
        os.setgid(self.command.user)
        os.setuid(self.command.user)
        os.execvpe(self.words[0], self.words, self.command.environment)

    def serve(self, seconds):
        """Waits for a call, or the end, or that the time is over."""
        poll = select.poll()
        if self.listener is not None:
            poll.register(self.listener, select.POLLIN)
        if self.ended.code is None:
            poll.register(self.pidfd, select.POLLIN)
        events = poll.poll(seconds * 1000)
        for file, event in events:
            if file == self.listener and event & select.POLLIN:
                try:
                    asked = system.Asked(self.listener)
                except OSError:
                    # Killed between asking and being heard.
                    continue
                asked.answer(self.decide(asked))
            elif file == self.listener:
                # Nobody is left who could ask.
                os.close(self.listener)
                self.listener = None

    def decide(self, asked):
        """The error with which a call fails, or 0. What the image's own programs call is none of our business."""
        if asked.program() != self.program:
            return 0
        call, path = asked.call, asked.path()
        if call in system.BY_DESCRIPTOR and (not path.startswith("/") or path.startswith(("/memfd:", "/dev/"))):
            return 0
        if call == "close" and not self.is_written(asked):
            return 0
        if self.lacking and (error := shots.lack(call, asked.arguments)):
            return error
        if call == "fcntl":
            return 0
        group = asked.thread_group()
        number = self.counts[call] = self.counts.get(call, 0) + 1
        if self.keep_trace:
            flags = asked.arguments[4] if call == "renameat2" else 0
            self.ended.trace.append((call, number, "launcher" if group == self.child else "helper", path, flags))
        shot = self.shot
        if shot is None or shot.call != call:
            return 0
        if shot.always:
            if call == "renameat2" and not asked.arguments[4]:
                return 0
            self.ended.fired, self.ended.at = True, path
            return shot.errno
        if shot.number != number:
            return 0
        self.ended.at, self.ended.writes = path, shots.writes(call, asked.arguments)
        if shot.error:
            self.ended.fired = True
            return shot.errno
        self.fire()
        return 0

    def is_written(self, asked):
        """Closing fails for files that were written, where what a server was not told before comes to light."""
        try:
            with open(f"/proc/{asked.pid}/fdinfo/{asked.arguments[0] & 0xFFFFFFFF}") as file:
                return any(line.startswith("flags:") and int(line.split()[1], 8) & 3 for line in file)
        except OSError:
            return False

    def fire(self):
        """Sends the signal."""
        signal_number, target = self.shot.signal, self.shot.target
        helpers = [pid for pid in self.processes() if pid != self.child and self.is_ours(pid)]
        if target in ("first", "last"):
            helpers = sorted(helpers)[:1] if target == "first" else sorted(helpers)[-1:]
            target = "helper"
        if self.ended.code is not None and target != "helper":
            return
        self.ended.had_helper = any(self.is_deaf(pid) for pid in helpers)
        if target == "group":
            self.kill(-self.child, signal_number)
        if target in ("launcher", "both"):
            self.kill(self.child, signal_number)
        if target in ("helper", "both"):
            for pid in helpers:
                self.kill(pid, signal_number)
            self.ended.helper_killed = bool(helpers)
        self.ended.fired = target != "helper" or bool(helpers)
        if signal_number == signal.SIGSTOP:
            self.resume_at = time.monotonic() + SUSPENDED

    def kill(self, pid, number):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass

    def is_ours(self, pid):
        try:
            data = os.stat(f"/proc/{pid}/exe")
        except OSError:
            return False
        return (data.st_dev, data.st_ino) == self.program

    def is_deaf(self, pid):
        """Whether a polite signal does not end it, so that it can clean up for its launcher."""
        masks = 0
        try:
            with open(f"/proc/{pid}/status") as file:
                for line in file:
                    if line.startswith(("SigBlk:", "SigIgn:", "SigCgt:")):
                        masks |= int(line.split()[1], 16)
        except OSError:
            return False
        return masks >> (signal.SIGINT - 1) & 1 == 1

    def reap(self):
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.child:
                self.ended.code = os.waitstatus_to_exitcode(status)

    def processes(self):
        """Everybody but this one, the dead that were not waited for left out."""
        found = []
        for name in os.listdir("/proc"):
            if not name.isdigit() or name == "1":
                continue
            try:
                with open(f"/proc/{name}/stat") as file:
                    state = file.read().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if state not in "ZX":
                found.append(int(name))
        return found

    def describe(self, pid):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = os.fsdecode(file.read()).replace("\0", " ").strip()
            with open(f"/proc/{pid}/stat") as file:
                name = file.read().split("(", 1)[1].rpartition(")")[0]
            return f"{name}: {words}"[:100]
        except OSError:
            return "?"
