"""
A step that takes all memory: the kernel kills the worker, in a control group that is as small as we make it. It comes back
each time; the job whose step ran is put aside after three times, others go on, and repaired and resumed it ends too.
"""
import os
import sys
import time

from harness import Log, Worker, check, wait_until

ROOT = "/sys/fs/cgroup"
LIMIT = 400 * 1024 * 1024
NEIGHBOURS = 10


def write(folder, name, text):
    with open(os.path.join(folder, name), "w") as file:
        file.write(str(text))


def group_of(name):
    """A control group with that much memory; None where this system lets us make none."""
    for parent, limit in ((os.path.join(ROOT, "memory"), "memory.limit_in_bytes"), (ROOT, "memory.max")):
        folder = os.path.join(parent, name)
        try:
            os.mkdir(folder)
        except OSError:
            continue
        try:
            write(folder, limit, LIMIT)
            return folder
        except OSError:
            os.rmdir(folder)
    return None


def remove(group):
    for _ in range(100): # its last process may not be gone yet
        try:
            return os.rmdir(group)
        except OSError:
            time.sleep(0.1)
    return None


def crashes_of(log, job):
    return [event for event in log.lines("history", job) if event["type"] == "job_crashed" and event["count"] > 0]


def run(kind, group):
    log = Log(kind, partitions=1)
    repaired = os.path.join(log.folder, "repaired")
    worker = Worker(log, "hungry", "chores", supervised=True, environment={"PERDURE_STEP_DELAY_MS": "5"},
                    wrap=("sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', group))
    worker.wait_for("is ours")
    neighbours = {"neighbour-%d" % i: "100" for i in range(NEIGHBOURS)}
    log.start_all("chain", neighbours)
    log.start("glutton", "glutton", repaired)
    wait_until("it is put aside", lambda: log.state("glutton") == "quarantined", 120, 0.3)
    check("by the kernel, for want of memory" in worker.text(), worker.text())
    crashes = crashes_of(log, "glutton")
    check([event["count"] for event in crashes] == [1, 2, 3], "crashes: %s" % crashes)
    check(all("out of memory" in event["reason"] and event["signal"] == 9 for event in crashes), "crashes: %s" % crashes)
    check("out of memory" in log.json("describe", "glutton")["report"], log.json("describe", "glutton"))
    for job, result in log.results(neighbours):
        check(result == "100 steps" and not crashes_of(log, job), "%s: %s %s" % (job, result, crashes_of(log, job)))
    write(log.folder, "repaired", "")
    check(log.run("resume", "glutton").returncode == 0, "resume")
    check(log.result("glutton") == "survived " + repaired, "result")
    check(worker.stop() == 0, "exit code: " + worker.text())
    print(log.verify().strip().splitlines()[-1])
    log.remove()


def main():
    group = group_of("perdure-test-%d" % os.getpid())
    if group is None:
        print("skipped: this system lets us make no control group for memory")
        sys.exit(77)
    try:
        run(sys.argv[1], group)
    finally:
        remove(group)


main()
