"""
Thousands of sleeping jobs and a worker that is killed: the next one replays none of them. All due at once, while no worker
runs: they are brought back a few at a time, each ends once, and a new job does not wait behind them.
"""
import json
import os
import re
import subprocess
import sys
import time

from harness import BUILD, Log, Worker, check, wait_until

JOBS = 4000
PARTITIONS = 4
WOKEN_LIMIT = 1024 # of a partition: runtime/constants.h
BENCH = os.path.join(BUILD, "perdure-bench")


def start_many(log, kind, text):
    done = subprocess.run([BENCH, "load", log.uri, "sleepers/" + kind, "start", kind, str(JOBS), text], text=True,
                          capture_output=True, timeout=300)
    check(done.returncode == 0, "start %s: %s" % (kind, done.stderr))


def ledger_of(log):
    path = os.path.join(log.folder, "ledger")
    if not os.path.exists(path):
        return []
    with open(path) as file:
        return [line.split(" ")[0] for line in file.read().splitlines()]


def worker_of(log):
    return Worker(log, "sleepers", data=os.path.join(log.folder, "worker"),
                  environment={"PERDURE_EFFECT_LEDGER": os.path.join(log.folder, "ledger")})


def counts(worker):
    check(worker.stop() == 0, "the worker failed: " + worker.text())
    found = re.search(r"(\d+) jobs were rebuilt, (\d+) evicted; at most (\d+) were in memory, (\d+) brought back", worker.text())
    check(found, "it does not say what it rebuilt: " + worker.text())
    return [int(number) for number in found.groups()]


def sleeping(log):
    worker = worker_of(log)
    worker.wait_for("is ours")
    start_many(log, "nap", "3600000")
    time.sleep(12) # until a Mark says that all of them are shown; others are brought back
    log.start_all("wink", {"last-%d" % i: "x" for i in range(4 * PARTITIONS)}) # a later record in each partition
    time.sleep(2)
    worker.kill()

    worker = worker_of(log)
    worker.wait_for("is ours")
    check(log.json("start", "wink", "--id", "new", "--input", '"y"', "--wait", "60s") is not None, "a new job does not end")
    for number in range(0, JOBS, JOBS // 3): # they are there, and one that something comes for is brought back for it
        job = "nap-%07d" % number
        status = log.json("describe", job)
        check(status["state"] == "waiting" and status["waiting"][0]["kind"] == "timer", "%s is not asleep: %s" % (job, status))
        check(log.run("cancel", job).returncode == 0, "cancel " + job)
        wait_until(job + " is cancelled", lambda: log.state(job) == "cancelled")
    replays, _, most, woken = counts(worker)
    print("%d jobs asleep: %d rebuilt, at most %d in memory, %d brought back" % (JOBS, replays, most, woken))
    check(3 <= replays < JOBS // 20, "%d jobs were rebuilt" % replays)


def due_at_once(log):
    worker = worker_of(log)
    worker.wait_for("is ours")
    due = int(time.time() * 1000) + 30000
    start_many(log, "until", str(due))
    worker.kill()
    before = len(ledger_of(log))
    check(not [job for job in ledger_of(log) if job.startswith("until")], "the machine is too slow: some are due already")
    time.sleep(max(0, due / 1000 - time.time()) + 0.5)
    wink = log.begin("start", "wink", "--id", "between", "--input", '"z"', "--wait", "60s")
    wait_until("its start is in the log", lambda: log.state("between") == "queued")

    worker = worker_of(log)
    wait_until("all are done", lambda: len(ledger_of(log)) >= before + JOBS + 1, seconds=120)
    check(wink.wait(60) == 0, "the new job failed: " + wink.stderr.read())
    effects = ledger_of(log)[before:]
    names = [job for job in effects if job.startswith("until")]
    check(len(names) == JOBS and len(set(names)) == JOBS, "%d effects of %d jobs" % (len(names), len(set(names))))
    place = effects.index("between")
    last = log.result("until-%07d" % (JOBS - 1))
    check(last == str(due), "wrong result: %r" % last)
    replays, _, most, woken = counts(worker)
    print("%d jobs due at once: %d rebuilt, at most %d in memory, %d brought back at a time; the new job was done after %d" %
          (JOBS, replays, most, woken, place))
    check(woken <= WOKEN_LIMIT and most <= WOKEN_LIMIT + 16, "they were not held back")
    check(place < JOBS // 2, "a new job waited behind %d others" % place)


def main(kind):
    for scene in (sleeping, due_at_once):
        log = Log(kind, partitions=PARTITIONS)
        scene(log)
        print(log.verify().strip().splitlines()[-1])
        log.remove()


main(sys.argv[1])
