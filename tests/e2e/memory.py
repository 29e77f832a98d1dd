"""
A small memory budget: jobs that hold ten times as much between them all end right, in a worker that stays small. Jobs
that wait are evicted; those that are brought back for their signals come in one after the other.
"""
import os
import re
import subprocess
import sys

from harness import BUILD, Log, Worker, check, wait_until

JOBS = 400
DIGITS = "0123" # results of 100 kB each, 400 kB a job: 160 MB
BUDGET = 16
PARTITIONS = 4


def tell(log, lines):
    done = subprocess.run([os.path.join(BUILD, "perdure-chaos-client")], input="".join(lines), text=True,
                          env=dict(os.environ, PERDURE_LOG=log.uri), capture_output=True, timeout=300)
    check(done.returncode == 0 and "refused" not in done.stdout, "commands: exit %d %s%s" %
          (done.returncode, done.stdout[-1000:], done.stderr))


def peak(worker):
    with open("/proc/%d/status" % worker.process.pid) as file:
        return int(re.search(r"VmHWM:\s+(\d+) kB", file.read()).group(1)) / 1024


def main(kind):
    log = Log(kind, partitions=PARTITIONS)
    log.refused(2, ["--memory", "256M or 2G"], "worker", "--module", "x.so", "--memory", "12")
    log.refused(2, ["--memory", "at least 16M"], "worker", "--module", "x.so", "--memory", "1M")
    worker = Worker(log, "sleepers", data=os.path.join(log.folder, "worker"), arguments=("--memory", "%dM" % BUDGET, "--retention", "off"))
    worker.wait_for("jobs may take %d MiB of memory (as told)" % BUDGET)
    worker.wait_for("is ours")
    base = peak(worker)
    jobs = ["hoard-%d" % i for i in range(JOBS)]
    tell(log, ["start s%d %s sleepers/hoard %s\n" % (i, job, DIGITS) for i, job in enumerate(jobs)])
    for job in jobs[::40]:
        wait_until(job + " waits for its signal", lambda: (log.json("describe", job) or {}).get("waiting", [{}])[0].get("kind") == "signal",
                   seconds=300)
    tell(log, ["signal g%d %s go now%d\n" % (i, job, i) for i, job in enumerate(jobs)])
    for first in range(0, JOBS, 20): # a process each
        for job, result in log.results(jobs[first:first + 20]):
            check(result == DIGITS + "now" + job[6:], "wrong result of %s: %r" % (job, result))
    most = peak(worker)
    check(worker.stop() == 0, "the worker failed: " + worker.text())
    counts = re.search(r"(\d+) jobs were rebuilt, (\d+) evicted; at most (\d+) were in memory", worker.text())
    print("peak RSS %.0f MiB, %.0f before any job; %s rebuilt, %s evicted, at most %s in memory in one partition" %
          (most, base, *counts.groups()))
    check(int(counts.group(2)) >= JOBS // 2, "hardly anything was evicted")
    check(most - base < 64 + BUDGET * 4, "the worker grew to %.0f MiB" % most) # the caches of log and store: 64 MiB at most
    print(log.verify().strip().splitlines()[-1])
    log.remove()


main(sys.argv[1])
