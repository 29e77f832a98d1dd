"""Constant load on a log that forgets: journal, file and memory stay bounded; a job that lives through it all is whole."""
import os
import re
import sys

from harness import Log, Worker, check, wait_until

KIND = sys.argv[1]
ROUNDS, BURSTS, SPARKS = (5, 4, 500) if KIND == "sqlite" else (3, 2, 200) # twice
# Life is long enough for a machine that has much else to do: what a job sends must arrive within it.
OPTIONS = ("--life", "15s", "--keep", "16s", "--retention-age", "8s", "--retention", "1M" if KIND == "sqlite" else "64K")

log = Log(KIND, partitions=2)
if KIND == "kafka": # the smallest: cuts go beyond whole segments, which the broker keeps on disk for minutes
    log.alter_topic("journal", "segment.bytes=1048576")
worker = Worker(log, "burst", arguments=OPTIONS)
worker.wait_for("is ours")


def memory():
    with open("/proc/%d/status" % worker.process.pid) as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))


def file_bytes():
    return sum(os.path.getsize(path) for path in (log.uri[7:], log.uri[7:] + "-wal") if os.path.exists(path))


def again():
    return Worker(log, "burst", arguments=OPTIONS, data=worker.data)


def load(first):
    """Jobs by the thousand, a worker killed in the middle; memory and file when they are over."""
    global worker
    most = [0, 0]
    for number in range(first, first + ROUNDS):
        jobs = ["round%d-%d" % (number, i) for i in range(BURSTS)]
        log.start_all("burst", {job: str(SPARKS) for job in jobs})
        if number == first + ROUNDS // 2: # in the middle of whatever it does
            worker.kill()
            worker = again()
        for job, result in log.results(jobs):
            check(result == str(SPARKS), "%s: %s of %d children were right" % (job, result, SPARKS))
        most = [max(most[0], memory()), max(most[1], file_bytes() if KIND == "sqlite" else 0)]
    print("%d jobs: %d KiB of memory, %d bytes of file" % (ROUNDS * BURSTS * (SPARKS + 1), *most), flush=True)
    return most


def forgotten():
    return len(log.lines("list", "--limit", "100000")) <= 1


log.start("ember", "ember", "20")
first = load(0)
check(log.result("round0-0") == str(SPARKS), "the result of a job that is kept")
wait_until("the first load is forgotten", forgotten, 300, 1)
second = load(ROUNDS)
wait_until("the second load is forgotten", forgotten, 300, 1)
# The same again costs no more room: what was forgotten has left it.
check(second[0] < 1.3 * first[0] + 10000, "memory grew from %d to %d KiB" % (first[0], second[0]))
check(second[1] < 1.3 * first[1] + 4000000, "the file grew from %d to %d bytes" % (first[1], second[1]))

# After the keep time there is no such job, and the id is free.
check(log.run("result", "round0-0", "--wait", "0s").returncode == 3, "a forgotten job has no result")
log.start("burst", "round0-0", "1")
check(log.result("round0-0") == "1", "an id that was forgotten is free")

# The long one was copied forward again and again.
events = log.lines("history", "ember")
check(len(events) >= 21, "the history of a copied job has %d events" % len(events))
worker.stop()
records = int(re.search(r"journal +(\d+) records", log.verify()).group(1))
cut = {}
for other in log.workers:
    cut.update((int(p), int(offset)) for p, offset in re.findall(r"partition (\d+): journal cut below (\d+)", other.text()))
print("journal: %d records, cut below %s" % (records, cut))
check(cut and records < sum(cut.values()), "%d records are left, cut at %s" % (records, cut))
worker = again()
for number in range(20):
    check(log.run("signal", "ember", "blow", "--input", '"%d"' % number).returncode == 0, "signal")
check(log.result("ember") == "380", "the job that was copied forward is whole")
worker.stop()
log.verify()
log.remove()
print("ok")
