"""
Remote steps for real: jobs in C, their steps in Python, Kafka in between. Fan-out, retries by the owner, cancel, a step
worker that is killed, an owner that is killed; each result stands in the history once.
"""
import collections
import json
import os
import subprocess
import sys
import time

from harness import Log, Worker, check, wait_until

SOURCE = os.environ["PERDURE_SOURCE"]


class Steps:
    """A step worker as a process."""

    count = 0

    def __init__(self, log, *arguments):
        Steps.count += 1
        self.name = "steps-%d" % Steps.count
        self.log_path = os.path.join(log.folder, self.name + ".log")
        self.ledger = os.path.join(log.folder, "ledger")
        folder = os.path.join(SOURCE, "workers", "python")
        command = [sys.executable, os.path.join(folder, "step_worker.py"), "--queue", "errands", "--name", self.name,
                   "--module", os.path.join(SOURCE, "tests", "e2e", "python_steps.py"), *arguments]
        log.workers.append(self)
        self.process = subprocess.Popen(command, stdout=open(self.log_path, "w"), stderr=subprocess.STDOUT,
                                        env=dict(os.environ, PERDURE_LOG=log.uri, PERDURE_EFFECT_LEDGER=self.ledger,
                                                 PYTHONPATH=folder))

    def effects(self):
        try:
            return [line.split(" ") for line in open(self.ledger).read().splitlines()]
        except FileNotFoundError:
            return []

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.terminate()
        check(self.process.wait(60) == 0, "the step worker failed: " + open(self.log_path).read())


def waiting(log, job):
    status = log.json("describe", job)
    return status["waiting"][0] if status and status["waiting"] else {}


def ends(log, job):
    """How often each operation has ended in the job's history."""
    return collections.Counter(event["op"] for event in log.lines("history", job)
                               if event["type"] in ("step_completed", "step_failed"))


def ordinary(log):
    check(log.result("early") == "BEFORE ANY WORKER", "a task waits for its worker")
    log.start("crowd", "crowd", "200")
    log.start("stubborn", "once", "once")
    log.start("stubborn", "final", "final")
    check(log.result("once") == "attempt 2", "a failed attempt is tried again")
    done = log.run("result", "final", "--wait", "60s", "--json")
    check(done.returncode == 1 and json.loads(done.stdout)["error"]["type"] == "NoUse", "final: %s" % done)
    check(log.result("crowd") == "200", "a fan-out")
    check(set(ends(log, "crowd").values()) == {1} and len(ends(log, "crowd")) == 200, "each ended once")
    print("fan-out, retries, final errors")


def cancelled(log, steps):
    log.start("sleepy", "cancelled", "120")
    wait_until("it is begun", lambda: waiting(log, "cancelled").get("phase") == "started")
    entry = waiting(log, "cancelled")
    check(entry["executor"] == steps.name, "executor: %s" % entry)
    begin = time.time()
    log.run("cancel", "cancelled")
    wait_until("the step is told", lambda: any(effect[0] == "stopped" for effect in steps.effects()))
    check(time.time() - begin < 30, "the cancel took %.1f s to reach the step" % (time.time() - begin))
    check(log.state("cancelled") == "cancelled", "the job is " + log.state("cancelled"))
    print("a cancel reached its step after %.2f s" % (time.time() - begin))


def worker_killed(log, steps):
    """Its attempt fails for its silence, the next goes to another worker."""
    log.start("sleepy", "orphan", "4")
    wait_until("it is begun", lambda: waiting(log, "orphan").get("phase") == "started")
    steps.kill()
    other = Steps(log)
    check(log.result("orphan", "120s") == "slept", "wrong result")
    failed = [event for event in log.lines("history", "orphan") if event["type"] == "attempt_failed"]
    check(len(failed) >= 1 and failed[0]["error"]["type"] == "TimedOut", "attempts: %s" % failed)
    check(list(ends(log, "orphan").values()) == [1], "ended once")
    print("a killed step worker: found by its silence")
    return other


def owner_killed(log, worker):
    """What is out is not dispatched again by the next owner, and its result is taken."""
    log.start("sleepy", "over", "3")
    wait_until("it is begun", lambda: waiting(log, "over").get("phase") == "started")
    for i in range(30):
        log.run("start", "shout", "--id", "s%d" % i, "--input", '"x%d"' % i)
    worker.kill()
    worker = Worker(log, "errands")
    check(log.result("over", "120s") == "slept", "wrong result")
    for i in range(30):
        check(log.result("s%d" % i) == "X%d" % i, "wrong result")
        check(list(ends(log, "s%d" % i).values()) == [1], "ended once")
    check(list(ends(log, "over").values()) == [1], "ended once")
    print("a killed owner: its tasks went on")
    return worker


def main():
    log = Log("kafka", partitions=4)
    worker = Worker(log, "errands")
    worker.wait_for("is ours")
    log.start("shout", "early", "before any worker")
    entry = wait_until("it waits", lambda: waiting(log, "early"))
    check((entry["queue"], entry["phase"]) == ("errands", "dispatched"), "waiting: %s" % entry)
    log.start("shout", "byhand", "x")
    token = wait_until("it waits", lambda: waiting(log, "byhand").get("token"))
    done = log.run("complete", token, "--result", '"by hand"')
    check(done.returncode == 0 and log.result("byhand") == "by hand", "complete: %s" % done)
    steps = Steps(log)
    ordinary(log)
    cancelled(log, steps)
    steps = worker_killed(log, steps)
    worker = owner_killed(log, worker)
    check(log.result("byhand") == "by hand" and list(ends(log, "byhand").values()) == [1], "completed once")
    steps.stop()
    check(worker.stop() == 0, "the worker failed: " + worker.text())
    print(log.verify().strip().splitlines()[-1])
    log.remove()


main()
