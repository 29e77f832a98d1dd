"""
kill -9 of the worker, many times in one manifest of 2,000 files: each kill hits the owner while a step is in flight and
after progress since the last one. The result is byte for byte that of sha256sum, each file's step is recorded exactly
once, and a ledger of effects, kept outside the log, agrees.
"""
import collections
import os
import random
import re
import signal
import subprocess
import sys
import time

from harness import Log, Worker, check, fail, wait_until

FILES = 2000
KILLS = 100 if os.environ.get("PERDURE_SOAK") else 20


def make_tree(folder):
    random.seed(7)
    names = []
    for i in range(FILES):
        name = "d%02d/%s-%d" % (i % 37, random.choice(["a b", "ü", "plain", "x'y", "dash-"]), i)
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(random.randbytes(random.randrange(3000)))
        names.append(name)
    return names


def ledger_lines(path):
    if not os.path.exists(path):
        return []
    with open(path, "rb") as file:
        return file.read().split(b"\n")[:-1]


def main(kind):
    log = Log(kind)
    tree = os.path.join(log.folder, "tree")
    output = os.path.join(log.folder, "SHA256SUMS")
    ledger = os.path.join(log.folder, "ledger")
    make_tree(tree)
    environment = {"PERDURE_EFFECT_LEDGER": ledger, "PERDURE_STEP_DELAY_MS": "25"}

    worker = Worker(log, "manifest", environment=environment)
    worker.wait_for("is ours")
    started = log.run("start", "manifest", "--id", "m", "--input",
                      '{"directory": "%s", "output": "%s"}' % (tree, output))
    check(started.returncode == 0, "start: " + started.stderr)

    begun = time.time()
    kills = 0
    last = 0
    boundaries = []
    while kills < KILLS:
        # Progress since the last kill, by the ledger: effects of this worker, some of which are in flight now.
        goal = last + max(20, (FILES - last) // (KILLS - kills + 1))
        wait_until("progress after kill %d:\n%s" % (kills, worker.text()),
                   lambda: len(ledger_lines(ledger)) >= goal, seconds=120, pause=0.005)
        worker.kill()
        last = len(ledger_lines(ledger))
        boundaries.append(last)
        kills += 1
        print("kill %2d after %d effects" % (kills, last), flush=True)
        worker = Worker(log, "manifest", environment=environment)
        worker.wait_for("replayed") # so it had not ended: closed jobs are not rebuilt

    done = log.run("result", "m", "--wait", "120s", "--json", timeout=180)
    check(done.returncode == 0, "result: exit %d %s %s\n%s" % (done.returncode, done.stdout, done.stderr, worker.text()))
    expected = subprocess.run("find . -type f | sed 's#^\\./##' | LC_ALL=C sort | xargs -d '\\n' sha256sum",
                              shell=True, cwd=tree, stdout=subprocess.PIPE, check=True).stdout
    with open(output, "rb") as file:
        check(file.read() == expected, "the manifest differs from sha256sum's")

    steps = [event for event in log.lines("history", "m") if event["type"] == "step_completed"]
    hashed = [event for event in steps if event["name"].endswith("hash_file")]
    check(len(hashed) == FILES, "%d hash steps are recorded, not %d" % (len(hashed), FILES))
    check(len({event["op"] for event in hashed}) == FILES, "an operation is recorded twice")

    # Every recorded step has an effect; a step has one more effect per kill at most that it was in flight at.
    lines = ledger_lines(ledger)
    effects = collections.Counter(line.split(b" ", 1)[0] for line in lines)
    check(len(effects) == FILES, "%d keys in the ledger, not %d" % (len(effects), FILES))
    repeated = sum(count - 1 for count in effects.values())
    check(repeated <= kills * 16, "%d effects were repeated by %d kills of at most 16 steps in flight" % (repeated, kills))
    check(max(effects.values()) <= kills + 1, "a step ran more often than it was killed")
    # An effect on both sides of a kill: its step was in flight.
    keys = [line.split(b" ", 1)[0] for line in lines]
    missed = [i + 1 for i, at in enumerate(boundaries) if not set(keys[:at]) & set(keys[at:])]
    check(not missed, "kills %s hit no step in flight" % missed)
    check(worker.stop() == 0, "the worker failed at its end:\n" + worker.text())
    print(log.verify().strip().splitlines()[-1])
    print("%s: %d kills, %d files, %d effects repeated, %.1f s" %
          (kind, kills, FILES, repeated, time.time() - begun))
    log.remove()


main(sys.argv[1])
