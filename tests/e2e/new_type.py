"""
A new version is rolled out: a worker joins with a job type that those before it have never heard of. Its starts are taken
wherever they arrive, and wait for a worker that has the type; a type that nobody has is refused.
"""
import os
import signal
import time

from harness import Log, Worker, check, wait_until

JOBS = 16
PARTITIONS = 4


def main():
    log = Log("kafka", partitions=PARTITIONS)
    first = Worker(log, "chores", data=os.path.join(log.folder, "first"))
    wait_until("it owns all", lambda: first.text().count("is ours") == PARTITIONS)
    log.refused(2, 'there is no job type "tree"', "start", "tree", "--id", "early", "--input", '"0 x"')

    second = Worker(log, "family", data=os.path.join(log.folder, "second"))
    second.wait_for("is ours")
    time.sleep(1)  # what the first worker has read of the types no longer counts as fresh
    jobs = {"job-%d" % i: "0 n%d" % i for i in range(JOBS)}
    log.start_all("tree", jobs)
    told = {job: str(log.json("describe", job)) for job in jobs}
    waiting = [job for job in jobs if "waits for a worker with the module of `family/tree`" in told[job]]
    print("waiting at once: %d of %d" % (len(waiting), JOBS), flush=True)
    check(waiting, "no start waits at the worker without the module: %s" % told)

    first.send(signal.SIGUSR1)
    first.wait_ended(0, "", seconds=60)
    for job, result in log.results(jobs):
        check(result == "<%s>" % jobs[job][1:], "wrong result of %s: %s" % (job, result))
    check(second.stop() == 0, second.text())
    log.verify()
    log.remove()


main()
