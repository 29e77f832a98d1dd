"""
Takeovers, timed from outside: by the effects of steps, as their ledger has them. Not a test: run by hand, on a machine
with nothing else to do.

    PERDURE_KAFKA=HOST:PORT PERDURE_BUILD=BUILD PERDURE_SOURCE=. python3 tests/bench/takeover.py [SCENARIO...]

Scenarios: restart (kill -9 of the supervised worker), planned (a second worker joins), cold (kill -9 of one of two), warm
(the same, with --standby), journal=MB (the same as cold, over a journal of so many MB that nobody has in a store).
"""
import os
import re
import signal
import statistics
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
from harness import Log, Worker, check, effects, wait_until

PARTITIONS = 8
JOBS = 32
STEP_MS = 5
SESSION_S = 6
RUNS = int(os.environ.get("RUNS", "5"))


class Scene:
    def __init__(self, name, partitions=PARTITIONS):
        self.log = Log("kafka", partitions=partitions)
        self.ledger = os.path.join(self.log.folder, "ledger")
        self.count = 0
        self.jobs = ["job-%d" % i for i in range(JOBS)]

    def worker(self, *arguments, supervised=False):
        self.count += 1
        return Worker(self.log, "chores", data=os.path.join(self.log.folder, "worker-%d" % self.count), supervised=supervised,
                      environment={"PERDURE_EFFECT_LEDGER": self.ledger, "PERDURE_STEP_DELAY_MS": str(STEP_MS)},
                      arguments=("--session-timeout", "%ds" % SESSION_S, *arguments))

    def begin(self):
        self.log.start_all("chain", {job: "100000" for job in self.jobs})
        self.busy(self.jobs)

    def busy(self, jobs, seconds=60):
        def all_move():
            now = time.time() * 1000
            return jobs <= {effect.job for effect in self.tail() if effect.time > now - 1000}
        jobs = set(jobs)
        wait_until("all jobs move", all_move, seconds)

    def tail(self):
        """The newest effects: the ledger grows fast."""
        with open(self.ledger, "rb") as file:
            file.seek(max(0, os.path.getsize(self.ledger) - 4000000))
            lines = file.read().decode().split("\n")[1:-1]
        class Effect:
            pass
        found = []
        for line in lines:
            effect = Effect()
            effect.key, effect.job, pid, when, effect.text = line.split(" ", 4)
            effect.pid, effect.time = int(pid), int(when)
            found.append(effect)
        return found

    def owners(self):
        return {effect.job: effect.pid for effect in self.tail()}

    def gaps(self, jobs, since):
        """Of each job, the longest time without an effect."""
        gaps = {}
        for job in jobs:
            times = sorted(effect.time for effect in self.tail() if effect.job == job and effect.time >= since)
            gaps[job] = max([b - a for a, b in zip(times, times[1:])] or [0])
        return gaps

    def end(self):
        for worker in self.log.workers:
            if worker.process.poll() is None:
                worker.kill()
        self.log.remove()


def show(name, values, unit="ms"):
    values = sorted(values)
    print("%-28s p50 %6.0f   max %6.0f %s   (%d)" % (name, statistics.median(values), values[-1], unit, len(values)), flush=True)


def reports(worker):
    return [line for line in worker.text().splitlines() if "taken over" in line]


def restart():
    scene = Scene("restart")
    worker = scene.worker(supervised=True)
    wait_until("it owns all", lambda: worker.text().count("is ours") >= PARTITIONS)
    scene.begin()
    first, last = [], []
    for _ in range(RUNS):
        child = worker.child()
        time.sleep(3) # else it is a crash in a row
        killed = time.time() * 1000
        os.kill(child, signal.SIGKILL)
        begun = {}
        def all_begun():
            begun.clear()
            for effect in scene.tail():
                if effect.time >= killed and effect.pid != child:
                    begun.setdefault(effect.job, effect.time)
            return len(begun) == JOBS
        wait_until("all jobs go on", all_begun)
        first.append(min(begun.values()) - killed)
        last.append(max(begun.values()) - killed)
    show("restart: first job", first)
    show("restart: last job", last)
    print(reports(worker)[-1])
    scene.end()


def planned():
    moved, stayed = [], []
    for _ in range(RUNS):
        scene = Scene("planned")
        one = scene.worker()
        wait_until("it owns all", lambda: one.text().count("is ours") >= PARTITIONS)
        scene.begin()
        since = time.time() * 1000
        two = scene.worker()
        wait_until("the other owns half", lambda: two.text().count("taken over") >= PARTITIONS // 2)
        scene.busy(scene.jobs)
        time.sleep(1)
        owners = scene.owners()
        gaps = scene.gaps(scene.jobs, since - 200)
        moved += [gaps[job] for job in scene.jobs if owners[job] == two.process.pid]
        stayed += [gaps[job] for job in scene.jobs if owners[job] == one.process.pid]
        line = reports(two)[-1]
        scene.end()
    show("planned: jobs that moved", moved)
    show("planned: jobs that stayed", stayed)
    print(line)


def unplanned(name, *arguments):
    took = []
    for _ in range(RUNS):
        scene = Scene(name)
        one, two = scene.worker(*arguments), scene.worker(*arguments)
        wait_until("both own some", lambda: one.text().count("is ours") and two.text().count("is ours"))
        scene.begin()
        time.sleep(4)
        scene.busy(scene.jobs)
        owners = scene.owners()
        lost = [job for job in scene.jobs if owners[job] == one.process.pid]
        count = len(reports(two))
        killed = time.time() * 1000
        one.kill()
        wait_until("the other has them", lambda: len(reports(two)) > count, seconds=60)
        begun = {}
        def all_begun():
            begun.clear()
            for effect in scene.tail():
                if effect.time >= killed and effect.pid == two.process.pid and effect.job in lost:
                    begun.setdefault(effect.job, effect.time)
            return len(begun) == len(lost)
        wait_until("all jobs go on", all_begun)
        took += [begun[job] - killed - SESSION_S * 1000 for job in lost]
        line = reports(two)[-1]
        scene.end()
    show(name + ": beyond the session", took)
    print(line)


def journal(megabytes):
    """One partition; its journal grows by results of 60 KB; the one who wrote it dies, one with no store takes over."""
    scene = Scene("journal", partitions=1)
    one = scene.worker("--retention", "off")
    one.wait_for("is ours")
    size = 60000
    for begin in range(0, megabytes * 1000000 // size, 50):
        names = ["grow-%d-%d" % (begin, i) for i in range(50)]
        scene.log.start_all("grow", {name: str(size) for name in names})
    list(scene.log.results(names))
    one.kill()
    killed = time.time()
    two = scene.worker("--retention", "off")
    two.wait_for("taken over", seconds=600)
    print("journal of %d MB: %.1f s after the kill" % (megabytes, time.time() - killed))
    print(reports(two)[-1])
    scene.end()


def main():
    for name in sys.argv[1:] or ["restart", "planned", "cold", "warm"]:
        if name == "restart":
            restart()
        elif name == "planned":
            planned()
        elif name == "cold":
            unplanned("cold")
        elif name == "warm":
            unplanned("warm", "--standby", str(PARTITIONS))
        elif name.startswith("journal="):
            journal(int(name.split("=")[1]))
        else:
            check(False, "there is no scenario " + name)


main()
