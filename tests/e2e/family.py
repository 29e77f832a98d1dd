"""
Trees of jobs and rings of signals across partitions, while workers are killed: the results are those of a run without
any fault, every child ran once, and the log is sound.
"""
import os
import random
import sys
import time

from harness import Log, Worker, check

TREES = 4
DEPTH = 3 # 40 jobs each
RINGS = 3
ROUNDS = 6


def tree(depth, name):
    """What the job `tree` computes."""
    if depth == 0:
        return "<%s>" % name
    return "(%s)" % "".join(tree(depth - 1, "%s.%d" % (name, i)) for i in range(3))


def ring(job):
    """What `gathering` reports: who saw which numbers of the token."""
    return "".join("%s-%d:%s;" % (job, i, "".join("%d," % (1 + i + 4 * round) for round in range(ROUNDS)))
                   for i in range(4))


def main(kind):
    log = Log(kind, partitions=8)
    count = 2 if kind == "kafka" else 1

    def begin(number):
        # A session long enough that a worker killed and started again keeps its partitions.
        return Worker(log, "family", data=os.path.join(log.folder, "data-%d" % number))
    workers = [begin(number) for number in range(count)]
    for worker in workers:
        worker.wait_for("is ours")

    wanted = {"tree-%d" % i: tree(DEPTH, " t%d" % i) for i in range(TREES)}
    wanted.update({"ring-%d" % i: ring("ring-%d" % i) for i in range(RINGS)})
    log.start_all("tree", {"tree-%d" % i: "%d t%d" % (DEPTH, i) for i in range(TREES)})
    log.start_all("gathering", {"ring-%d" % i: str(ROUNDS) for i in range(RINGS)})

    random.seed(11)
    kills = 0
    while kills < 8:
        time.sleep(0.2 + random.random() * 0.4)
        number = kills % count
        workers[number].kill()
        workers[number] = begin(number)
        workers[number].wait_for("is ours")
        kills += 1
    for job, result in log.results(sorted(wanted)):
        check(result == wanted[job], "%s: %s\n, not %s" % (job, result, wanted[job]))

    listed = log.lines("list", "--limit", "1000")
    children = TREES * (3 ** (DEPTH + 1) - 1) // 2 + RINGS * 5
    check(len(listed) == children, "%d jobs, not %d" % (len(listed), children))
    check(all(job["state"] == "completed" for job in listed), "a job did not complete")
    for worker in workers:
        check(worker.stop() == 0, "a worker failed at its end:\n" + worker.text())
    print(log.verify().strip().splitlines()[-1])
    print("%s: %d jobs, %d kills" % (kind, children, kills))
    log.remove()


main(sys.argv[1])
