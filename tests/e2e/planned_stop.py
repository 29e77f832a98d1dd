"""
A worker that is told to stop lets its running steps end: none is done twice. Told to leave, it gives its partitions away
at once, long before its session timeout; else it gets them back when it is started again.
"""
import os
import re
import signal
import time

from harness import Log, Worker, check, effects, wait_until

JOBS = 8
STEPS = 12
PARTITIONS = 4
SESSION = 60


def ours(worker):
    return len(re.findall(r"partition \d+ is ours", worker.text()))


def busy(ledger, worker, count):
    """It does steps of so many jobs at this moment."""
    now = time.time() * 1000
    recent = {effect.job for effect in effects(ledger) if effect.pid == worker.process.pid and effect.time > now - 700}
    return len(recent) >= count


def main():
    log = Log("kafka", partitions=PARTITIONS)
    ledger = os.path.join(log.folder, "ledger")
    options = {"environment": {"PERDURE_EFFECT_LEDGER": ledger, "PERDURE_STEP_DELAY_MS": "700"},
               "arguments": ("--session-timeout", "%ds" % SESSION, "--drain-timeout", "60s")}
    first = Worker(log, "chores", data=os.path.join(log.folder, "first"), **options)
    wait_until("it owns all", lambda: ours(first) == PARTITIONS)
    jobs = ["job-%d" % i for i in range(JOBS)]
    log.start_all("chain", {job: str(STEPS) for job in jobs})
    wait_until("all jobs are in a step", lambda: busy(ledger, first, JOBS))

    # A restart: the same member is back with its partitions.
    check(first.stop(seconds=60) == 0, "it failed: " + first.text())
    check("steps may end" in first.text(), "it did not drain:\n" + first.text())
    again = Worker(log, "chores", data=os.path.join(log.folder, "first"), **options)
    wait_until("it owns all again", lambda: ours(again) == PARTITIONS, seconds=SESSION - 5)
    wait_until("all jobs are in a step again", lambda: busy(ledger, again, JOBS))

    # For good: the other one goes on at once. Who owns what can be asked from outside.
    check([line["owned"] for line in log.lines("workers")] == [True] * PARTITIONS, "not all are owned")
    before = {line["worker"] for line in log.lines("workers")}
    check(len(before) == 1, "it owns all: %s" % before)
    other = Worker(log, "chores", data=os.path.join(log.folder, "other"), **options)
    wait_until("it joined", lambda: ours(other) > 0)
    left = time.time()
    again.send(signal.SIGUSR1)
    again.wait_ended(0, "steps may end", seconds=60)
    wait_until("the other owns all", lambda: ours(other) >= PARTITIONS, seconds=SESSION - 10)
    after = {line["worker"] for line in log.lines("workers")}
    check(len(after) == 1 and after != before, "owners: %s, before: %s" % (after, before))
    print("left, and all taken over, in %.1f s" % (time.time() - left), flush=True)

    for job, result in log.results(jobs):
        check(result == "%d steps" % STEPS, "wrong result of " + job)
    keys = [effect.key for effect in effects(ledger)]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    check(not twice, "steps were done twice: %s" % twice)
    check(len(keys) == JOBS * STEPS, "%d effects" % len(keys))

    # --leave says so from the start.
    check(other.stop(seconds=60) == 0, "it failed: " + other.text())
    last = Worker(log, "chores", data=os.path.join(log.folder, "last"), environment=options["environment"],
                  arguments=("--session-timeout", "%ds" % SESSION, "--leave"))
    wait_until("it joined, or waits for the one before", lambda: "runs" in last.text())
    check(last.stop(seconds=60) == 0, "it failed: " + last.text())
    print(log.verify().strip().splitlines()[-1])
    log.remove()


main()
