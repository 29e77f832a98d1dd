"""
A broker of three, the one that leads the metadata log, is killed with SIGKILL under load, and its disk is gone: it comes back
under its number with an empty one, its partitions and its part of the metadata log are copied from the others. With
PERDURE_SOAK=1 it is then the turn of the next, and of the third: no disk of the beginning is left. What was acknowledged is
there, once, and every job has ended right.
"""
import atexit
import collections
import json
import os
import subprocess
import sys
import threading
import time

import chaos_clients
from harness import BUILD, Cluster, Log, Worker, check, effects, wait_until

STEPS = 10
ITEMS = ["a", "b", "c"]
RATE = 5  # jobs a second
EARLY = ["early-%d" % i for i in range(8)]  # begun when no disk was lost, ended when all were


class Load:
    """Jobs `chain`, and `basket` with its signals; what the log has acknowledged counts."""

    grows = False

    def __init__(self, log):
        self.log, self.errors, self.problems = log, sys.stderr, []
        self.told_commands = collections.Counter()
        self.lock = threading.Lock()
        self.stopping = False
        self.client = chaos_clients.Client(self, 0)
        atexit.register(self.abandon)
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def told(self, command):
        kind, request, job, name, text = command.split(" ")
        with self.lock:
            self.told_commands[request] = 1
        if kind == "start" and name == "collect":
            for item in ITEMS if job not in EARLY else ["before"]:
                self.send("signal", "%s-%s" % (job, item), job, "item", item)

    def send(self, kind, request, job, name, text):
        self.client.send(request, " ".join((kind, request, job, name, text)))

    def run(self):
        for job in EARLY:
            self.send("start", job, job, "collect", "2")
        number = 0
        while not self.stopping:
            number += 1
            job = "%s-%d" % ("basket" if number % 5 == 0 else "chain", number)
            self.send("start", job, job, *(("collect", str(len(ITEMS))) if number % 5 == 0 else ("chain", str(STEPS))))
            time.sleep(1 / RATE)

    def acknowledged(self):
        with self.lock:
            return list(self.told_commands)

    def goes_on(self, when):
        before = len(self.acknowledged())
        wait_until("commands are taken " + when, lambda: len(self.acknowledged()) >= before + 2 * RATE)

    def abandon(self):
        """So that a failed test, which kills the client's process, does not make it begin another."""
        with self.client.lock:
            self.client.closing = True
            self.client.open.clear()

    def stop(self):
        self.stopping = True
        self.thread.join()
        for job in EARLY:
            self.send("signal", job + "-after", job, "item", "after")
        self.client.finish(time.time() + 60)
        check(not self.problems, "; ".join(self.problems))


def controller(cluster):
    """The broker that leads the metadata log, as another of them knows it: each of the three is a controller too."""
    with open(os.path.join(cluster.folder, "broker-1", "data", "__cluster_metadata-0", "quorum-state")) as file:
        return json.load(file)["leaderId"]


def in_sync(cluster):
    return subprocess.run([os.path.join(BUILD, "perdure-chaos-insync"), cluster.brokers], capture_output=True).returncode == 0


def journal_is_behind(log):
    return any("under-replicated now" in line and ".journal" in line for line in log.run("check").stdout.splitlines())


def lose(cluster, log, broker, load, at_once):
    """At once: it still counts as in sync, and as the leader of what it has lost."""
    begin = time.time()
    cluster.run("lose", str(broker))
    done = log.run("list", "--limit", "1") # a client that comes now is told of leaders that are dead
    check(done.returncode == 0, "a client that came when broker %d had gone: %s" % (broker, done.stderr))
    if not at_once:
        wait_until("perdure check names the journal", lambda: journal_is_behind(log), pause=1)
        load.goes_on("while broker %d is gone" % broker)
    cluster.run("restore", str(broker))
    wait_until("the replicas have caught up", lambda: in_sync(cluster), pause=0.5)
    load.goes_on("when broker %d is back" % broker)
    print("broker %d lost its disk and was restored%s: all in sync, and the load goes on, after %.1f s" %
          (broker, " at once" if at_once else "", time.time() - begin), flush=True)


def ended_right(log, jobs):
    """By what is shown of each, and, of those with signals, by their results."""
    wait_until("all have ended", lambda: not log.lines("list", "--state", "running") and
               not log.lines("list", "--state", "waiting"), pause=0.5)
    shown = [(job["id"], job["state"]) for job in log.lines("list", "--limit", "100000")]
    check(sorted(shown) == sorted((job, "completed") for job in jobs), "not as they were started: %s" %
          sorted(set(shown) ^ {(job, "completed") for job in jobs})[:10])
    baskets = [job for job in jobs if not job.startswith("chain")]
    for at in range(0, len(baskets), 4):
        for job, result in log.results(baskets[at:at + 4]):
            check(sorted(result.split(" ")) == (["after", "before"] if job in EARLY else ITEMS), "%s: %s" % (job, result))


def done_once(ledger, jobs, claims):
    """By what the steps did outside. Only one that was in flight when its partition was claimed anew may be begun again."""
    keys = collections.defaultdict(set)
    times = collections.Counter()
    for effect in effects(ledger):
        keys[effect.job].add(effect.key)
        times[effect.key] += 1
    for job in jobs:
        want = STEPS if job.startswith("chain") else 2 if job in EARLY else len(ITEMS)
        check(len(keys[job]) == want, "%s: %d steps were done, not %d" % (job, len(keys[job]), want))
    again = sum(times.values()) - len(times)
    check(again == 0 or claims > 0, "%d steps were done again, and no partition was claimed anew" % again)
    return len(times), again


def main():
    cluster = Cluster(3)
    log = Log("kafka", partitions=4, brokers=cluster.brokers, dev=False)
    ledger = os.path.join(log.folder, "ledger")
    workers = [Worker(log, "chores", data=os.path.join(log.folder, "data-%d" % i),
                      environment={"PERDURE_STEP_DELAY_MS": "20", "PERDURE_EFFECT_LEDGER": ledger}) for i in range(2)]
    for worker in workers:
        worker.wait_for("is ours")
    load = Load(log)
    load.goes_on("before all")

    first = controller(cluster)
    others = sorted({1, 2, 3} - {first}) if os.environ.get("PERDURE_SOAK") else []
    for broker in (first, *others):
        lose(cluster, log, broker, load, at_once=broker == first)
    load.stop()
    commands = load.acknowledged()
    jobs = [name for name in commands if name.count("-") == 1]
    ended_right(log, jobs)
    claims = sum(worker.text().count("claims anew") for worker in workers)
    steps, again = done_once(ledger, jobs, claims)
    for worker in workers:
        check(worker.stop() == 0, "the worker failed:\n" + worker.text())
    print(log.verify().strip().splitlines()[-1])
    done = log.run("check")
    check(done.returncode == 0, "perdure check: " + done.stdout)
    print("%d starts and %d signals acknowledged, all done; %d steps, %d of them begun twice (%d claims anew)" %
          (len(jobs), len(commands) - len(jobs), steps, again, claims))
    log.remove()
    cluster.remove()


main()
