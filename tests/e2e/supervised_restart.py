"""
The process that runs jobs is killed again and again: its supervisor has it back at once, with its partitions, and nothing
is done twice but what was in flight. A supervisor that is killed takes it along; told to stop, both end, with its exit code.
"""
import json
import os
import re
import signal
import socket
import sys
import time

from harness import Log, Worker, check, effects, wait_until

KILLS = 5
APART = 2.5 # seconds between kills: crashes in quick succession are answered more slowly each time
STEPS = 6000 # more than can be done before the last kill


def gone(pid):
    return not os.path.exists("/proc/%d" % pid)


def progress_after(ledger, pid):
    """When the process `pid` did its first effect, in milliseconds since 1970."""
    return min([effect.time for effect in effects(ledger) if effect.pid == pid], default=None)


def kills(log, worker, ledger):
    """Milliseconds from each kill -9 to the first step that its successor begins."""
    times = []
    child = worker.child()
    for _ in range(KILLS):
        done = len(effects(ledger))
        time.sleep(APART)
        wait_until("it makes progress", lambda: len(effects(ledger)) > done + 3)
        os.kill(child, signal.SIGKILL)
        killed = time.time() * 1000
        last, child = child, worker.child(other_than=child)
        times.append(wait_until("the next one makes progress", lambda: progress_after(ledger, child)) - killed)
        check(gone(last) or last != child, "it has not been replaced")
    return times


def manager(log):
    """The socket of a service manager."""
    path = os.path.join(log.folder, "notify")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(path)
    listener.settimeout(60)
    return path, listener


def main(kind):
    log = Log(kind, partitions=4)
    ledger = os.path.join(log.folder, "ledger")
    path, listener = manager(log)
    worker = Worker(log, "chores", supervised=True,
                    environment={"PERDURE_EFFECT_LEDGER": ledger, "PERDURE_STEP_DELAY_MS": "5", "NOTIFY_SOCKET": path,
                                 "WATCHDOG_USEC": "2000000"})
    check(listener.recv(100) == b"READY=1", "it is not ready")
    log.start("chain", "chain", str(STEPS))
    times = kills(log, worker, ledger)
    print("from kill -9 to progress: %s ms" % ", ".join("%.0f" % ms for ms in times))
    check("killed by SIGKILL" in worker.text(), "it does not say what happened:\n" + worker.text())
    check(log.result("chain", wait="120s") == "%d steps" % STEPS, "wrong result")
    done = [event for event in log.lines("history", "chain") if event["type"] == "step_completed"]
    check(len(done) == STEPS, "%d steps recorded" % len(done))
    keys = [effect.key for effect in effects(ledger)]
    check(len(set(keys)) == STEPS and len(keys) <= STEPS + KILLS, "%d effects of %d steps" % (len(keys), len(set(keys))))
    check(listener.recv(100) == b"WATCHDOG=1", "no sign of life for the service manager")

    # Ended together, by its own will: the exit code is the worker's.
    child = worker.child()
    check(worker.stop() == 0, "exit code: " + worker.text())
    check(gone(child), "the worker outlives its supervisor")
    message = b""
    while message != b"STOPPING=1":
        message = listener.recv(100)

    # Killed: the kernel takes the worker along.
    worker = Worker(log, "chores", supervised=True)
    worker.wait_for("is ours")
    child = worker.child()
    worker.kill()
    wait_until("the worker dies with its supervisor", lambda: gone(child))

    # What no restart repairs is not tried again.
    worker = Worker(log, "/nowhere/nothing.so", supervised=True)
    worker.wait_ended(2, "nothing.so")
    check("started again" not in worker.text(), worker.text())
    print(log.verify().strip().splitlines()[-1])
    log.remove()


main(sys.argv[1])
