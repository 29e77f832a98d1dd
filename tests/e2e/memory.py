"""
A small memory budget: jobs that hold ten times as much between them all end right, and the worker stays well below what
it takes without one. Jobs that wait are evicted; those that are brought back for their signals come in one after the other.
Log and store have caches of their own beside it. Then steps that all bring as much as they may at the same moment, to a log that
stands still just then: no more run at a time than there is room for.
"""
import os
import re
import subprocess
import sys
import time

from harness import BUILD, Log, Worker, check, wait_until

JOBS = 400
DIGITS = "0123" # results of 100 kB each, 400 kB a job: 160 MB
PARTITIONS = 4
BESIDE = 40 if sys.argv[1:] == ["sqlite"] else 100 # MiB: caches of log and store, librdkafka's queues


def tell(log, lines):
    done = subprocess.run([os.path.join(BUILD, "perdure-chaos-client")], input="".join(lines), text=True,
                          env=dict(os.environ, PERDURE_LOG=log.uri), capture_output=True, timeout=300)
    check(done.returncode == 0 and "refused" not in done.stdout, "commands: exit %d %s%s" %
          (done.returncode, done.stdout[-1000:], done.stderr))


def peak(worker):
    with open("/proc/%d/status" % worker.process.pid) as file:
        return int(re.search(r"VmHWM:\s+(\d+) kB", file.read()).group(1)) / 1024


def waits_for(log, job):
    waiting = (log.json("describe", job) or {}).get("waiting")
    return waiting[0]["kind"] if waiting else None


def run(kind, budget):
    """The peak of the worker's memory, in MiB, and how many jobs were evicted."""
    log = Log(kind, partitions=PARTITIONS)
    worker = Worker(log, "sleepers", data=os.path.join(log.folder, "worker"), arguments=("--memory", budget))
    worker.wait_for("is ours")
    base = peak(worker)
    jobs = ["hoard-%d" % i for i in range(JOBS)]
    tell(log, ["start s%d %s sleepers/hoard %s\n" % (i, job, DIGITS) for i, job in enumerate(jobs)])
    for job in jobs[::40]:
        wait_until(job + " waits for its signal", lambda: waits_for(log, job) == "signal", seconds=300)
    tell(log, ["signal g%d %s go now%d\n" % (i, job, i) for i, job in enumerate(jobs)])
    for first in range(0, JOBS, 20): # a process each
        for job, result in log.results(jobs[first:first + 20]):
            check(result == DIGITS + "now" + job[6:], "wrong result of %s: %r" % (job, result))
    most = peak(worker)
    check(worker.stop() == 0, "the worker failed: " + worker.text())
    counts = re.search(r"(\d+) jobs were rebuilt, (\d+) evicted; at most (\d+) were in memory", worker.text())
    print("budget %s: peak RSS %.0f MiB, %.0f before any job; %s rebuilt, %s evicted, at most %s in memory in one partition" %
          (budget, most, base, *counts.groups()), flush=True)
    print(log.verify().strip().splitlines()[-1], flush=True)
    log.remove()
    return most, int(counts.group(2))


HEAVERS = 100
RESULT = 900000


def together(kind):
    """Results near the limit, of all that run at once: the worker's memory does not grow by all of them."""
    log = Log(kind, partitions=PARTITIONS)
    gate, still = os.path.join(log.folder, "together"), os.path.join(log.folder, "still")
    worker = Worker(log, "sleepers", data=os.path.join(log.folder, "worker"), arguments=("--memory", "16M"),
                    environment={"PERDURE_TOGETHER": gate, "PERDURE_SLOW_DISK": log.folder,
                                 "LD_PRELOAD": os.path.join(BUILD, "perdure-slow-disk.so")})
    worker.wait_for("is ours")
    tell(log, ["start w%d heaver-%d sleepers/heaver %c\n" % (i, i, "abcd"[i % 4]) for i in range(HEAVERS)])
    base = peak(worker)
    if kind == "sqlite":
        open(still, "w").close()
    open(gate, "w").close()
    time.sleep(2)
    stalled = peak(worker)
    if kind == "sqlite":
        os.unlink(still)
    jobs = ["heaver-%d" % i for i in range(HEAVERS)]
    for first in range(0, HEAVERS, 20):
        for job, result in log.results(jobs[first:first + 20], wait="300s"):
            check(result == "%d %c" % (RESULT, "abcd"[int(job[7:]) % 4]), "wrong result of %s: %r" % (job, result))
    most = peak(worker)
    check(worker.stop() == 0, "the worker failed: " + worker.text())
    print("%d results of %d kB at once, budget 16M: RSS %.0f MiB before, %.0f when all that ran had ended, at most %.0f" %
          (HEAVERS, RESULT // 1000, base, stalled, most), flush=True)
    # Afterwards the allocator's and SQLite's caches are in it, once for each thread; on Kafka, where nothing stalls, from the
    # beginning, with librdkafka's queues.
    check(kind == "kafka" or stalled < base + 16 + BESIDE,
          "with a budget of 16 MiB the worker grew from %.0f to %.0f MiB" % (base, stalled))
    log.remove()


def main(kind):
    log = Log(kind, partitions=1)
    log.refused(2, ["--memory", "256M or 2G"], "worker", "--module", "x.so", "--memory", "12")
    log.refused(2, ["--memory", "at least 16M"], "worker", "--module", "x.so", "--memory", "1M")
    log.remove()
    together(kind)
    free, _ = run(kind, "4G")
    most, evicted = run(kind, "16M")
    check(evicted >= JOBS // 2, "hardly anything was evicted")
    check(most < 0.6 * free, "with a budget the worker grew to %.0f MiB, without to %.0f" % (most, free))


main(sys.argv[1])
