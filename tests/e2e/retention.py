"""Constant load on a log that forgets: journal, file and memory stay bounded; a job that lives through it all is whole."""
import os
import re
import sys

from harness import Log, Worker, check, wait_until

KIND = sys.argv[1]
ROUNDS, BURSTS, SPARKS = (10, 4, 500) if KIND == "sqlite" else (6, 2, 200)
# Life is long enough for a machine that has much else to do: what a job sends must arrive within it.
OPTIONS = ("--life", "20s", "--keep", "21s", "--retention-age", "10s", "--retention", "1M" if KIND == "sqlite" else "64K")

log = Log(KIND, partitions=2)
worker = Worker(log, "burst", arguments=OPTIONS)
worker.wait_for("is ours")


def memory():
    with open("/proc/%d/status" % worker.process.pid) as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))


def file_bytes():
    return sum(os.path.getsize(path) for path in (log.uri[7:], log.uri[7:] + "-wal") if os.path.exists(path))


def again():
    return Worker(log, "burst", arguments=OPTIONS, data=worker.data)


log.start("ember", "ember", "20")
sizes = []
for number in range(ROUNDS):
    jobs = ["round%d-%d" % (number, i) for i in range(BURSTS)]
    log.start_all("burst", {job: str(SPARKS) for job in jobs})
    if number in (ROUNDS // 3, 2 * ROUNDS // 3): # in the middle of whatever it does
        worker.kill()
        worker = again()
    for job, result in log.results(jobs):
        check(result == str(SPARKS), "%s: %s of %d children were right" % (job, result, SPARKS))
    sizes.append((memory(), file_bytes() if KIND == "sqlite" else 0))
    print("round %d: %d KiB of memory, %d bytes of file" % (number, *sizes[-1]), flush=True)

first, last = sizes[ROUNDS // 2], sizes[-1]
check(last[0] < 1.5 * first[0] + 20000, "memory grew from %d to %d KiB in the second half" % (first[0], last[0]))
check(last[1] < 1.5 * first[1] + 2000000, "the file grew from %d to %d bytes in the second half" % (first[1], last[1]))

# A result can be asked for while the keep time lasts; after it there is no such job, and the id is free.
wait_until("the first round is forgotten", lambda: log.run("describe", "round0-0").returncode == 3, 240, 1)
check(log.run("result", "round0-0", "--wait", "0s").returncode == 3, "a forgotten job has no result")
left = len(log.lines("list", "--limit", "100000"))
check(left < ROUNDS * BURSTS * SPARKS / 2, "%d jobs are still listed" % left)
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
