"""The kinds of steps of a soak. Each is a function of the site, a name that no other step has, and its own chance; it says what
went wrong, if something did."""
import contextlib, os, pathlib, shutil, signal, time

from site_of_soak import end


def srun(site, name, *words, nodes=1, tasks=2):
    nodes = min(nodes, len(site.nodes))
    return ["srun", "-Q", "-J", name, f"-N{nodes}", f"-n{max(tasks, nodes)}", "--mem=100", *words]


def good(site, words, lines):
    """A step whose tasks all say `here`."""
    code, out, err = site.run(words)
    if code or out.split() != ["here"] * lines:
        return f"exit status {code}, said {out!r} and {err!r}"


def bad(site, words, codes, sentence=""):
    code, out, err = site.run(words)
    if code not in codes or "RAN" in out or sentence not in err:
        return f"exit status {code}, said {out!r} and {err!r}"


def until(is_so, seconds=100):
    limit = time.monotonic() + seconds
    while not (found := is_so()):
        if time.monotonic() > limit:
            raise RuntimeError("it does not come so far")
        time.sleep(0.05)
    return found


def job(site, name):
    return site.said("squeue", "-h", "-n", name, "-o", "%i").split()[:1]


def own_file(site, name):
    """A copy of the image, whose server can be told from others."""
    path = site.home / f"{name}.sqfs"
    shutil.copy(site.images / "busybox.sqfs", path)
    os.chmod(path, 0o644)
    return path


def image(site, tag):
    return f"--ch-image=docker://{site.registry.host}/team/small:{tag}"


def without_a_container(site, name, chance):
    return good(site, srun(site, name, "echo", "here", nodes=2), 2)


def a_directory(site, name, chance):
    return good(site, srun(site, name, f"--ch-image={site.images}/busybox", "echo", "here", nodes=2, tasks=4), 4)


def a_file(site, name, chance):
    return good(site, srun(site, name, f"--ch-image={site.images}/busybox.sqfs", "echo", "here", nodes=2, tasks=4), 4)


def many_tasks(site, name, chance):
    return good(site, srun(site, name, f"--ch-image={site.images}/busybox.sqfs", "echo", "here", tasks=24), 24)


def a_writable_one(site, name, chance):
    command = ["sh", "-c", "echo >/new && rm /etc/motd && echo here"]
    return good(site, srun(site, name, f"--ch-image={site.images}/busybox.sqfs", "--ch-writable", "--ch-private-tmp", *command, tasks=1), 1)


def an_overlay(site, name, chance):
    words = [f"--ch-image={site.images}/busybox", f"--ch-overlay=./{name}.overlay", "sh", "-c", "echo >>/new && echo here"]
    site.directory(f"{name}.overlay")
    try:
        return good(site, srun(site, name, *words, tasks=1), 1) or good(site, srun(site, name, *words, tasks=1), 1)
    finally:
        shutil.rmtree(site.home / f"{name}.overlay", ignore_errors=True)


def of_a_registry(site, name, chance):
    return good(site, srun(site, name, image(site, chance.choice(["one", "two"])), "echo", "here", nodes=4, tasks=4), 4)


def a_script(site, name, chance):
    script, out = site.home / f"{name}.sh", site.home / f"{name}.out"
    script.write_text("#!/bin/sh\necho here\nsrun -Q -n2 echo here\n")
    words = ["sbatch", "-Q", "-W", "-J", name, "-N1", "-n2", "--mem=100", "-o", out, f"--ch-image={site.images}/busybox.sqfs", script]
    code, _, err = site.run(words)
    said = out.read_text().split() if out.exists() else []
    script.unlink()
    out.unlink(missing_ok=True)
    if code or said != ["here"] * 3:
        return f"exit status {code}, said {said!r} and {err!r}"


def no_image(site, name, chance):
    return bad(site, srun(site, name, "--ch-image=./no-such.sqfs", "echo", "RAN"), [125], "can't use the image")


def a_broken_image(site, name, chance):
    path = site.home / f"{name}.sqfs"
    path.write_bytes((site.images / "busybox.sqfs").read_bytes()[:5000])
    try:
        return bad(site, srun(site, name, f"--ch-image={path}", "echo", "RAN"), [125])
    finally:
        path.unlink()


def a_fetch_that_fails(site, name, chance):
    return bad(site, srun(site, name, image(site, "broken"), "echo", "RAN", nodes=2), [125])


def no_command(site, name, chance):
    return bad(site, srun(site, name, f"--ch-image={site.images}/busybox", "/no/such/command"), [2, 127])


def an_exit_status(site, name, chance):
    return bad(site, srun(site, name, f"--ch-image={site.images}/busybox.sqfs", "sh", "-c", "exit 7"), [7])


def a_signal(site, name, chance):
    return bad(site, srun(site, name, f"--ch-image={site.images}/busybox.sqfs", "sh", "-c", "kill -9 $$", tasks=1), [137])


def cancelled(site, name, chance):
    """At any moment, that of its start among them."""
    step = site.popen(srun(site, name, f"--ch-image={site.images}/busybox.sqfs", "sleep", "100", nodes=2, tasks=4))
    time.sleep(chance.random() * 1.5)
    until(lambda: step.poll() is not None or job(site, name))
    site.said("scancel", "--name", name)
    return None if end(step)[0] else "it was cancelled, and ended well"


def interrupted(site, name, chance):
    """As by Ctrl-C, twice."""
    step = site.popen(srun(site, name, f"--ch-image={site.images}/busybox", "sleep", "100", tasks=4))
    time.sleep(chance.random() * 1.5)
    until(lambda: step.poll() is not None or job(site, name))
    for _ in range(2):
        step.send_signal(signal.SIGINT)
        time.sleep(0.2)
    try:
        code = end(step, 60)[0]
    finally:
        site.said("scancel", "--name", name)
    return None if code else "it was interrupted, and ended well"


def suspended(site, name, chance):
    up = site.home / f"{name}.up"
    step = site.popen(srun(site, name, f"--ch-image={site.images}/busybox.sqfs", "sh", "-c", f"echo >{up.name}; sleep 2; cat /etc/motd >/dev/null; echo here", tasks=1))
    until(lambda: step.poll() is not None or up.exists())
    for number in job(site, name):
        site.said("scontrol", "suspend", number)
        time.sleep(chance.random() * 2)
        site.said("scontrol", "resume", number)
    code, out, err = end(step)
    up.unlink(missing_ok=True)
    if code or out.split() != ["here"]:
        return f"exit status {code}, said {out!r} and {err!r}"


def whose_server_is_shot(site, name, chance):
    path, up = own_file(site, name), site.home / f"{name}.up"
    step = site.popen(srun(site, name, f"--ch-image={path}", "sh", "-c", f"echo >{up.name}; sleep 100", tasks=1))
    until(lambda: step.poll() is not None or up.exists())
    time.sleep(chance.random() / 5)
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if process.joinpath("cmdline").read_bytes().startswith(b"chariot-serve") and path.name in process.joinpath("cmdline").read_text():
                os.kill(int(process.name), signal.SIGKILL)
    site.said("scancel", "--name", name)
    code = end(step)[0]
    path.unlink()
    up.unlink(missing_ok=True)
    return None if code else "it was shot, and ended well"


def whose_creator_is_shot(site, name, chance):
    """While it converts an archive, if that does not happen to be done by then."""
    path = site.home / f"{name}.tar"
    shutil.copy(site.place / "soak.tar", path)
    os.chmod(path, 0o644)
    # The host has no such file.
    step = site.popen(srun(site, name, f"--ch-image={path}", "sh", "-c", "[ -e /srv/tag ] || echo RAN; sleep 1", nodes=2))
    shot, wait = 0, chance.random() / 4
    limit = time.monotonic() + 5
    while step.poll() is None and not shot and time.monotonic() < limit:
        for number in job(site, name):
            creators = [pid for pid in descendants(number) if is_creator(pid)]
            time.sleep(wait if creators else 0)
            for pid in creators:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
                    shot += 1
    code, out, err = end(step)
    path.unlink()
    if "RAN" in out or not shot and code:
        return f"{shot} were shot, exit status {code}, said {out!r} and {err!r}"


def is_creator(pid):
    try:
        words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        # It has ended meanwhile.
        return False
    return len(words) > 1 and words[0].endswith(b"/chariot") and words[1] == b"step"


def descendants(number):
    """Of the slurmstepd of a job."""
    parents, found = {}, set()
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            text = process.joinpath("stat").read_text()
            parents[int(process.name)] = int(text.rsplit(")", 1)[1].split()[1])
            if process.joinpath("cmdline").read_bytes().startswith(f"slurmstepd: [{number}.".encode()):
                found.add(int(process.name))
    while True:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        if not more:
            return found
        found |= more


KINDS = [without_a_container, a_directory, a_file, many_tasks, a_writable_one, an_overlay, of_a_registry, a_script, no_image, a_broken_image,
         a_fetch_that_fails, no_command, an_exit_status, a_signal, cancelled, interrupted, suspended, whose_server_is_shot, whose_creator_is_shot]
