"""
Limits on steps that run in a worker, over all its partitions: so many with a key, so many of a step, so many a second; who
waits says for what, and a key that is full holds up no other.
"""
import collections
import os
import sys
import time

from harness import Log, Worker, check, wait_until

JOBS = 8


def most_at_once(path):
    """By key, and of all: the most that ran at the same time."""
    running, most = collections.Counter(), collections.Counter()
    with open(path) as file:
        for line in file:
            what, key = line.split()
            for name in (key, "all"):
                running[name] += 1 if what == "begin" else -1
                most[name] = max(most[name], running[name])
    return most


def run(log, number, keys, *arguments):
    """The worker, and the file that its steps wrote, when jobs with these keys have ended; and who waited for what."""
    path = os.path.join(log.folder, "steps-%d" % number)
    jobs = {"job-%d-%d" % (number, i): key for i, key in enumerate(keys)}
    log.start_all("limits/caller", jobs)  # before the worker: on a slow machine the first would be done before the last comes
    worker = Worker(log, "limits", environment={"LIMITS_FILE": path}, data=os.path.join(log.folder, "data"), arguments=arguments)
    worker.wait_for("is ours")
    limits, began = set(), time.time()

    def all_have_ended():
        states = {state["id"]: state for state in log.lines("list", "--limit", "1000")}
        limits.update(waiting.get("limit") for state in states.values() for waiting in state.get("waiting", []))
        return all(states.get(job, {}).get("state") == "completed" for job in jobs)
    wait_until("all have ended", all_have_ended, 120, 0.1)
    check(worker.stop() == 0, "the worker failed: " + worker.text())
    return most_at_once(path), limits - {None}, time.time() - began


def main():
    log = Log(sys.argv[1], partitions=4)
    log.refused(2, 'step rate "busy=0/s": write STEP=N/s', "worker", "--module", "x.so", "--step-rate", "busy=0/s")
    log.refused(2, 'step limit "busy": write STEP=N', "worker", "--module", "x.so", "--step-limit", "busy")
    worker = Worker(log, "limits", data=os.path.join(log.folder, "data")) # an embedded log begins with its worker
    worker.wait_for("is ours")
    check(worker.stop() == 0, "the worker failed: " + worker.text())
    most, limits, _ = run(log, 1, ["tenant"] * JOBS + ["pair:2"] * JOBS)
    check(most["tenant"] == 1 and most["pair:2"] == 2, "at the same time: %s" % most)
    check("concurrency key tenant=1" in limits, "waited for: %s" % limits)
    most, limits, _ = run(log, 2, ["-"] * JOBS + ["other"] * JOBS, "--step-limit", "busy=3")
    check(most["all"] == 3 and most["other"] == 1, "at the same time: %s" % most)
    check("step-limit busy=3" in limits, "waited for: %s" % limits)
    _, limits, seconds = run(log, 3, ["-"] * JOBS, "--step-rate", "limits/busy=2/s")
    check(seconds > (JOBS - 2) / 2, "%d steps of two a second took %.1f s" % (JOBS, seconds))
    check("step-rate limits/busy=2/s" in limits, "waited for: %s" % limits)
    print(log.verify().strip().splitlines()[-1])
    log.remove()


main()
