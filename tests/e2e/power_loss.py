"""
A lone broker loses power: the tail of the journal, acknowledged long ago, is not on its disk (hazards 20 and 25). The
worker that read it notices, drops what it knows, and goes on from what is left: the histories are whole, every job ends
with the right result, nothing that a client was told is gone (the inbox is kept for a while), and what was lost is done
again.
"""
import collections
import os
import time

from harness import Cluster, Log, Worker, check, effects, wait_until

JOBS = 6
STEPS = 150
LOST = 12000 # bytes of the journal, a few dozen records


def cut(cluster, log):
    """What was written last is gone from the disk: in the middle of a batch, as it happens."""
    folder = os.path.join(cluster.folder, "broker-1", "data", log.uri.rsplit("/", 1)[1] + ".journal-0")
    path = max(os.path.join(folder, name) for name in os.listdir(folder) if name.endswith(".log"))
    with open(path, "rb") as file: # it was made as large as it may become: what counts ends where zeros begin
        size = len(file.read().rstrip(b"\0"))
    check(size > 4 * LOST, "the journal has only %d bytes" % size)
    os.truncate(path, size - LOST)
    return size


def main():
    cluster = Cluster()
    log = Log("kafka", partitions=1, brokers=cluster.brokers)
    ledger = os.path.join(log.folder, "ledger")
    worker = Worker(log, "chores", environment={"PERDURE_EFFECT_LEDGER": ledger, "PERDURE_STEP_DELAY_MS": "30"})
    worker.wait_for("is ours")
    jobs = ["job-%d" % i for i in range(JOBS)]
    log.start_all("chain", {job: str(STEPS) for job in jobs})
    wait_until("the jobs are in the middle", lambda: len(effects(ledger)) > JOBS * STEPS // 2, seconds=180)
    cluster.run("kill", "1")
    time.sleep(1) # what was begun has ended
    before = {effect.key for effect in effects(ledger)}
    size = cut(cluster, log)
    cluster.run("restart", "1")
    print("%d of %d bytes of the journal are lost" % (LOST, size), flush=True)
    for job, result in log.results(jobs, wait="280s"):
        check(result == "%d steps" % STEPS, "wrong result of " + job)
    check(worker.process.poll() is None, "the worker ended:\n" + worker.text())
    check("reading the journal from its start" in worker.text(), "it noticed nothing:\n" + worker.text())
    for job in jobs:
        done = [event for event in log.lines("history", job) if event["type"] == "step_completed"]
        check(len(done) == STEPS, "%s: %d steps recorded" % (job, len(done)))
    after = collections.Counter(effect.key for effect in effects(ledger))
    again = [key for key, count in after.items() if count > 1]
    check(again and all(key in before for key in again), "what was lost was not done again, or something else was: %s" % again)
    print("%d steps were done again" % len(again))
    check(worker.stop() == 0, "the worker failed: " + worker.text())
    print(log.verify().strip().splitlines()[-1])
    log.remove()


main()
