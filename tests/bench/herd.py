"""
A restart with very many sleeping jobs: what it costs, and whether a new short job is served meanwhile. Not a test: run by
hand, on a machine with nothing else to do.

    [PERDURE_KAFKA=HOST:PORT] PERDURE_BUILD=BUILD PERDURE_SOURCE=. python3 tests/bench/herd.py sqlite|kafka [JOBS]

Two scenes: all sleep an hour, and the worker is killed and started again; all are due at one moment, at which no worker
runs, and one is started. The floor of both is the same probe on the same worker with nothing else to do.
"""
import json
import os
import re
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
from harness import BUILD, Log, Worker, check, processor_seconds, wait_until

KIND = sys.argv[1] if len(sys.argv) > 1 else "sqlite"
JOBS = int(sys.argv[2]) if len(sys.argv) > 2 else 100000
PARTITIONS = 1 if KIND == "sqlite" else 8
BENCH = os.path.join(BUILD, "perdure-bench")


def bench(log, *arguments):
    done = subprocess.run([BENCH, "load", log.uri, *arguments], text=True, capture_output=True, timeout=900)
    check(done.returncode == 0, "%s: %s" % (arguments, done.stderr))
    return json.loads(done.stdout)


def status(pid, field):
    with open("/proc/%d/status" % pid) as file:
        return int(re.search(field + r":\s+(\d+) kB", file.read()).group(1)) / 1024


def lines(path):
    try:
        with open(path, "rb") as file:
            return file.read().count(b"\n")
    except FileNotFoundError:
        return 0


def begin(log, ledger):
    """A worker, and when it owned everything."""
    started = time.time()
    worker = Worker(log, "sleepers", data=os.path.join(log.folder, "worker"), environment={"PERDURE_EFFECT_LEDGER": ledger})
    wait_until("it owns all", lambda: worker.text().count("is ours") >= PARTITIONS, seconds=300, pause=0.005)
    return worker, time.time() - started


def show(name, worker, owned, probe, floor):
    pid = worker.process.pid
    print("%-14s owns all after %5.2f s   probe first %7.1f ms, p50 %7.1f, max %8.1f (floor p50 %.1f: %.1f times)   "
          "RSS %4.0f MiB, peak %4.0f   CPU %5.1f s" %
          (name, owned, probe["first_ms"], probe["p50_ms"], probe["max_ms"], floor["p50_ms"],
           probe["p50_ms"] / floor["p50_ms"], status(pid, "VmRSS"), status(pid, "VmHWM"), processor_seconds(pid)), flush=True)


def said_at_the_end(worker):
    worker.stop(seconds=120)
    for line in worker.text().splitlines():
        if "rebuilt" in line:
            print("   ", line)


def sleeping():
    log = Log(KIND, partitions=PARTITIONS)
    ledger = os.path.join(log.folder, "ledger")
    worker, owned = begin(log, ledger)
    floor = bench(log, "sleepers/wink", "probe", "50", "10")
    show("empty", worker, owned, floor, floor)
    print("    %d jobs started at %.0f a second" %
          (JOBS, JOBS / bench(log, "sleepers/nap", "start", "nap", str(JOBS), "3600000")["seconds"]), flush=True)
    time.sleep(12) # what moved just before may not have been shown: it is brought back
    show("all asleep", worker, owned, bench(log, "sleepers/wink", "probe", "50", "10"), floor)
    worker.kill()
    worker, owned = begin(log, ledger)
    probe = bench(log, "sleepers/wink", "probe", "50", "10")
    show("restarted", worker, owned, probe, floor)
    time.sleep(20)
    show("20 s later", worker, owned, bench(log, "sleepers/wink", "probe", "50", "10"), floor)
    said_at_the_end(worker)
    log.remove()
    return floor


def due_at_once(floor):
    log = Log(KIND, partitions=PARTITIONS)
    ledger = os.path.join(log.folder, "ledger")
    worker, owned = begin(log, ledger)
    due = int(time.time() * 1000) + 2 * JOBS + 20000
    bench(log, "sleepers/until", "start", "until", str(JOBS), str(due))
    left = due / 1000 - time.time()
    check(left > 2, "the machine is too slow: they are due while they are started")
    time.sleep(1.5)
    worker.kill()
    check(lines(ledger) == 0, "some were awake")
    time.sleep(due / 1000 - time.time() + 1)
    began = time.time()
    worker, owned = begin(log, ledger)
    probe = bench(log, "sleepers/wink", "probe", "50", "10")
    show("due at once", worker, owned, probe, floor)
    wait_until("all are done", lambda: lines(ledger) >= JOBS + 50, seconds=600)
    print("    all done %.1f s after the start of the worker: %.0f a second; peak RSS %.0f MiB" %
          (time.time() - began, JOBS / (time.time() - began), status(worker.process.pid, "VmHWM")))
    said_at_the_end(worker)
    log.remove()


if __name__ == "__main__":
    floor = sleeping()
    due_at_once(floor)
