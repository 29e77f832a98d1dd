"""
Brokers are killed with SIGKILL and restarted under load, one by one and all at once: nothing that was acknowledged is
lost, and every job completes.
"""
import collections
import json
import os
import threading
import time

from harness import Cluster, Log, Worker, check, effects, wait_until

BROKERS = 3 if os.environ.get("PERDURE_SOAK") else 1
CLIENTS = 3
STEPS = 20
STEADY_STEPS = 600
SECONDS = 20


class Load:
    """Clients that start a job after another; what was acknowledged must complete."""

    def __init__(self, log):
        self.log = log
        self.acknowledged = []
        self.unknown = 0
        self.problems = []
        self.stopping = False
        self.threads = [threading.Thread(target=self.run, args=(i,), daemon=True) for i in range(CLIENTS)]
        for thread in self.threads:
            thread.start()

    def run(self, client):
        number = 0
        while not self.stopping:
            job = "c%d-%d" % (client, number)
            number += 1
            done = self.log.run("start", "chain", "--id", job, "--input", '"%d"' % STEPS, "--json", timeout=150)
            if done.returncode == 0:
                self.acknowledged.append((job, json.loads(done.stdout)["state"]))
            elif done.returncode in (4, 5): # not acknowledged: it may have happened or not
                self.unknown += 1
            else:
                self.problems.append("%s: exit %d %s" % (job, done.returncode, done.stderr))

    def stop(self):
        self.stopping = True
        for thread in self.threads:
            thread.join(180)
            check(not thread.is_alive(), "a client hangs")
        check(not self.problems, "; ".join(self.problems))


def wait_while_it_moves(ledger, steps):
    """Until so many effects were made by the steady jobs: however slow the machine is, but not if nothing moves."""
    count, moved = 0, time.time()
    while count < steps and time.time() - moved < 120:
        now = sum(effect.job.startswith("steady") for effect in effects(ledger))
        if now > count:
            count, moved = now, time.time()
        time.sleep(0.5)


def main():
    cluster = Cluster(BROKERS)
    log = Log("kafka", partitions=4, brokers=cluster.brokers, dev=BROKERS == 1)
    ledger = os.path.join(log.folder, "ledger")
    environment = {"PERDURE_STEP_DELAY_MS": "20", "PERDURE_EFFECT_LEDGER": ledger}
    worker = Worker(log, "chores", environment=environment)
    worker.wait_for("is ours")
    steady = ["steady-%d" % i for i in range(16)] # so that appends are in flight at every kill
    log.start_all("chain", {job: str(STEADY_STEPS) for job in steady})
    load = Load(log)
    wait_until("the load runs", lambda: len(load.acknowledged) >= 2 * CLIENTS)

    until = time.time() + SECONDS
    kills = 0
    while time.time() < until or kills < 2:
        broker = str(1 + kills % BROKERS)
        cluster.run("kill", broker)
        time.sleep(2 if kills % 2 == 0 else 0)
        cluster.run("restart", broker)
        kills += 1
        before = len(load.acknowledged)
        restarted = time.time()
        wait_until("starts after the restart", lambda: len(load.acknowledged) >= before + 3, seconds=90)
        print("broker %s killed and restarted after %d starts; the next ones %.1f s later" %
              (broker, before, time.time() - restarted), flush=True)
    if BROKERS > 1:
        for broker in range(1, BROKERS + 1):
            cluster.run("kill", str(broker))
        cluster.run("start")
    load.stop()
    check(worker.process.poll() is None, "the worker ended:\n" + worker.text())

    wait_while_it_moves(ledger, STEADY_STEPS * len(steady))
    for job, result in log.results(steady):
        check(result == "%d steps" % STEADY_STEPS, "%s: wrong result %s" % (job, result))
    jobs = [job for job, state in load.acknowledged]
    done = 0
    for at in range(0, len(jobs), 8):
        for job, result in log.results(jobs[at:at + 8]):
            check(result == "%d steps" % STEPS, "%s: wrong result %s" % (job, result))
            done += 1
    check(done == len(jobs), "%d of %d acknowledged jobs completed" % (done, len(jobs)))
    # What was in flight at a kill may be done again, nothing else: and never is a recorded step missing.
    counts = collections.Counter(effect.job for effect in effects(ledger))
    check(all(counts[job] >= STEADY_STEPS for job in steady), "effects are missing: %s" % counts)
    wait_until("no job is open", lambda: not log.lines("list", "--state", "running") and
               not log.lines("list", "--state", "waiting"))
    check(worker.stop() == 0, "the worker failed:\n" + worker.text())
    print(log.verify().strip().splitlines()[-1])
    print("%d kills, %d jobs acknowledged, all complete; %d starts without an answer" % (kills, done, load.unknown))
    log.remove()


main()
