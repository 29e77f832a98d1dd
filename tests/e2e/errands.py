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
sys.path.insert(0, os.path.join(SOURCE, "workers", "python"))

from confluent_kafka import Consumer, TopicPartition  # noqa: E402

import perdure_wire as wire  # noqa: E402


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


def read_all(log, topic, partitions, count):
    """(partition, time, job) of its records, until they are of so many jobs."""
    namespace, settings = wire.kafka_settings(log.uri)
    reader = Consumer({**settings, "group.id": "test", "enable.auto.commit": False})
    reader.assign([TopicPartition(namespace + topic, partition, 0) for partition in range(partitions)])
    found = []

    def enough():
        message = reader.poll(0.1)
        if message is not None and not message.error():
            found.append((message.partition(), message.timestamp()[1], wire.decode(message.value()).header.job))
        return len({job for _, _, job in found}) >= count
    wait_until("records of %d jobs in %s" % (count, topic), enough, 60, 0)
    reader.close()
    return found


def rate_is_shared():
    """The rate of a queue is for all partitions of its owner alike, not for the first one first."""
    log = Log("kafka", partitions=4)
    check(log.run("namespace", "queue", "create", "errands", "--partitions", "2").returncode == 0, "queue create")
    jobs = ["job-%d" % i for i in range(80)]
    log.start_all("errands/shout", {job: job for job in jobs})
    homes = {job: partition for partition, _, job in read_all(log, ".inbox", 4, len(jobs))}
    worker = Worker(log, "errands", arguments=("--queue-rate", "errands=4/s"))
    tasks = sorted(read_all(log, ".tasks.errands", 2, 12), key=lambda task: task[1])[:12]
    served = {homes[job] for _, _, job in tasks}
    check(len(served) >= 3, "the first 12 tasks are of partitions %s alone" % served)
    worker.kill()
    log.remove()
    print("the rate of a queue: the first 12 tasks are of partitions %s" % sorted(served))


def main():
    rate_is_shared()
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
