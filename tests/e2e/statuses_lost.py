"""
The brokers take no status records for a while, and then the worker is killed: the next one shows what had happened, however
long ago that was (rule 9).
"""
import time

from harness import Cluster, Log, Worker, check, wait_until

EARLY = ["early-%d" % i for i in range(20)]
LATE = ["late-%d" % i for i in range(6)]


def states(log):
    return {job["id"]: job["state"] for job in log.lines("list", "--json", "--limit", "1000")}


def main():
    cluster = Cluster(3)
    log = Log("kafka", partitions=2, brokers=cluster.brokers, dev=False)
    worker = Worker(log, "chores")
    worker.wait_for("is ours")
    log.start("chain", "before", "2")
    wait_until("it is shown", lambda: states(log).get("before") == "completed")

    log.alter_topic("jobs", "min.insync.replicas=3")  # two are left, and refuse all: they are asked again and again
    cluster.run("kill", "3")
    wait_until("the other brokers serve all", lambda: log.run("start", "chain", "--id", "first", "--input", '"2"').returncode == 0)
    log.start_all("chain", {job: "2" for job in EARLY})
    for job, result in log.results(EARLY):
        check(result == "2 steps", "%s: wrong result: %r" % (job, result))
    for job in LATE:  # the journal goes on, and Marks with it
        time.sleep(2)
        log.start("chain", job, "2")
    check(log.result(LATE[-1]) == "2 steps", "wrong result")
    shown = states(log)
    check(list(shown) == ["before"], "a status came through: this shows nothing: %s" % shown)
    worker.kill()
    log.alter_topic("jobs", "min.insync.replicas=2")
    cluster.run("restart", "3")

    worker = Worker(log, "chores", data=worker.data)
    wait_until("all are shown as they ended", lambda: all(states(log).get(job) == "completed" for job in EARLY + LATE))
    check(worker.stop() == 0, "the worker failed: " + worker.text())
    print(log.verify().strip().splitlines()[-1])
    log.remove()
    cluster.remove()


main()
