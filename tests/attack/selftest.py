"""Launchers that are bad on purpose: a test that cannot fail proves nothing, so each has to be found out, and a good one
has to pass."""

import os
import shutil

import root
from commands import Command

# The good one, and in `case` what each of the others does differently. The interpreter is the launcher's program.
LAUNCHER = """#!/opt/chariot/busybox sh
case=$1 part=/desk/.out.sqfs.part.$$ to=/desk/out.sqfs
fail() { rm -f $part; echo "chariot: can't write $to: dd(): it says why" >&2; echo "chariot: hint: make room there" >&2; exit 125; }
finish() { mv $part $to; }
clean() { rm -f /desk/.out.sqfs.part.*; }
end() { rm -f $part; exit 130; }
case $case in
canary) end() { rm -rf /desk/results; exit 130; } ;;
others) end() { echo >>/scratch/shared/bob.open; exit 130; } ;;
mode) end() { chmod 777 /home/ada/notes-1; exit 130; } ;;
time) end() { touch -d @0 /home/ada/notes-1; exit 130; } ;;
direct) part=$to; finish() { :; }; end() { exit 130; } ;;
removes) rm -f $to ;;
leaves) end() { exit 130; }; clean() { :; } ;;
process) end() { setsid sleep 60 & exit 130; } ;;
memory) end() { echo >/dev/shm/left; exit 130; } ;;
silent) fail() { rm -f $part; exit 125; } ;;
twice) fail() { rm -f $part; echo "chariot: can't a $to; hint:"; echo "chariot: can't write $to" >&2; echo "chariot: can't pack $to" >&2; echo "chariot: hint: x" >&2; exit 125; } ;;
nowhere) fail() { rm -f $part; echo "chariot: can't pack it" >&2; echo "chariot: hint: x" >&2; exit 125; } ;;
nohint) fail() { rm -f $part; echo "chariot: can't write $to" >&2; exit 125; } ;;
code) fail() { rm -f $part; echo "chariot: can't write $to" >&2; echo "chariot: hint: x" >&2; exit 1; } ;;
pretends) fail() { rm -f $part; exit 0; } ;;
partial) fail() { finish; exit 0; } ;;
stays) fail() { echo "chariot: can't write $to" >&2; echo "chariot: hint: x" >&2; exit 125; } ;;
hangs) fail() { sleep 100; } ;;
lock) mkdir /desk/.lock 2>/dev/null || fail; finish() { mv $part $to; rmdir /desk/.lock; } ;;
esac
trap end INT TERM HUP
clean
dd if=/data/tree.sqfs of=$part bs=256k 2>/dev/null || fail
finish
exit 0
"""

STOP, FULL, KILL = "call:INT-group:write:2", "error:ENOSPC:write:2", "call:KILL-both:write:2"
CASES = [
    ("good", STOP, None), ("good", FULL, None), ("good", KILL, None), ("good", "time:TERM-group:0.5", None),
    ("good", "error:EIO:rename:1", "success that is none"),
    ("canary", STOP, "canary lost"), ("others", STOP, "canary changed"), ("mode", STOP, "canary changed"),
    ("time", STOP, "canary changed"), ("direct", STOP, "destination incomplete"), ("direct", KILL, "destination incomplete"),
    ("removes", KILL, "old destination lost"), ("leaves", KILL, "not cleaned"), ("process", STOP, "process left"),
    ("memory", STOP, "not cleaned"), ("silent", FULL, "silent"), ("twice", FULL, "not one sentence"),
    ("nowhere", FULL, "place not named"), ("nohint", FULL, "no hint"), ("code", FULL, "wrong exit code"),
    ("pretends", FULL, "success that is none"), ("partial", FULL, "destination incomplete"), ("stays", FULL, "left behind"),
    ("hangs", FULL, "hangs"), ("lock", KILL, "next run fails"),
]


def run(battery):
    place = f"{battery.home}/opt/chariot"
    shutil.copy(shutil.which("busybox"), f"{place}/busybox")
    root.write(f"{place}/chariot", LAUNCHER, 0, 0o755)

    def old(template):
        shutil.copy(f"{battery.home}/data/old.sqfs", f"{template}/desk/out.sqfs")
        os.chown(f"{template}/desk/out.sqfs", root.ADA, root.ADA)

    names = list(dict.fromkeys(name for name, _, _ in CASES))
    chosen = {name: Command(name, f"chariot {name}", ["/desk/out.sqfs"], prepare=old) for name in names}
    references = battery.references(list(chosen.values()))
    work = [battery.shot(chosen[name], text, references[name]) for name, text, _ in CASES]
    failed = 0
    for index, answer in battery.side_by_side(work):
        name, text, wanted = CASES[index]
        kinds = [kind for kind, _ in answer.get("violations", [("the test itself", "")])]
        # By the clock, it may have ended before.
        fired = answer.get("fired") or text.startswith("time:")
        if not fired or (wanted not in kinds if wanted else kinds):
            failed += 1
            print(f"FAILED --self-test: the launcher {name}, {text}: {wanted or 'nothing'} was to be found, found was {answer}")
    print(f"self-test: {len(CASES) - failed} passed, {failed} failed")
    return 1 if failed else 0
