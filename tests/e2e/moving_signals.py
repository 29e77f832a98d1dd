"""
Signals while ownership moves without a pause between two workers that are stopped, killed and started by turns: 30 jobs
wait, and every signal that was acknowledged is absorbed exactly once.
"""
import collections
import os
import random
import signal
import sys
import threading
import time

from harness import Log, Worker, check, wait_until

JOBS = 30
SIGNALS = 6 if sys.argv[1] == "sqlite" else 3 # each
CLIENTS = 6


class Senders:
    """Clients that send every signal until it is acknowledged; a repeat carries the name of its first request."""

    def __init__(self, log):
        self.log = log
        self.todo = collections.deque((job, number) for number in range(SIGNALS) for job in range(JOBS))
        self.lock = threading.Lock()
        self.acknowledged = set()
        self.repeats = 0
        self.problems = []
        self.threads = [threading.Thread(target=self.send, daemon=True) for i in range(CLIENTS)]
        for thread in self.threads:
            thread.start()

    def take(self):
        with self.lock:
            return self.todo.popleft() if self.todo else None

    def send(self):
        while item := self.take():
            job, number = item
            while True:
                done = self.log.run("signal", "job-%d" % job, "item", "--input", '"%d"' % number, "--request",
                                    "s-%d-%d" % item, timeout=150)
                if done.returncode == 0:
                    break
                if done.returncode not in (4, 5): # neither acknowledged nor to be repeated
                    self.problems.append("signal %s: exit %d %s" % (item, done.returncode, done.stderr))
                    return
                with self.lock:
                    self.repeats += 1
            with self.lock:
                self.acknowledged.add(item)

    def ended(self):
        return not any(thread.is_alive() for thread in self.threads)


class Movers:
    """Two workers; moves ownership once at each call."""

    def __init__(self, log, kind):
        self.log = log
        self.kind = kind
        self.arguments = ("--session-timeout", "6s") if kind == "kafka" else ()
        self.workers = {}
        self.moves = 0
        self.begin("a")
        if kind == "kafka":
            self.begin("b")

    def begin(self, name):
        self.workers[name] = Worker(self.log, "chores", data=os.path.join(self.log.folder, "data-" + name),
                                    arguments=self.arguments)

    def end(self, name, kill):
        worker = self.workers.pop(name)
        if kill:
            worker.kill()
        else:
            check(worker.stop() == 0, "a worker failed on SIGTERM:\n" + worker.text())

    def move_kafka(self):
        """Of the two, one is killed and comes back at once, or stays away until its partitions have moved."""
        name = "ab"[self.moves % 2]
        way = self.moves % 3
        if way == 2: # stopped past its session: the other takes over; then it wakes up
            worker = self.workers[name]
            worker.send(signal.SIGSTOP)
            time.sleep(7.5)
            worker.send(signal.SIGCONT)
        else:
            self.end(name, kill=way == 0)
            time.sleep(0 if self.moves % 4 < 2 else 7)
            self.begin(name)
        time.sleep(1.5)
        self.moves += 1

    def move_sqlite(self):
        """One ends and the other one begins."""
        before = next(iter(self.workers))
        after = "b" if before == "a" else "a"
        self.end(before, kill=self.moves % 2 == 0)
        self.begin(after)
        self.workers[after].wait_for("is ours")
        time.sleep(random.random() * 0.3)
        self.moves += 1

    def move(self):
        self.move_kafka() if self.kind == "kafka" else self.move_sqlite()


def check_job(log, job, result):
    """Every signal once in the result and once in the history."""
    got = result.split(" ")
    check(sorted(got) == [str(number) for number in range(SIGNALS)], "%s received %s" % (job, got))
    requests = [event["request"] for event in log.lines("history", job) if event["type"] == "signal_received"]
    check(len(requests) == len(set(requests)) == SIGNALS, "%s: %d signals recorded" % (job, len(requests)))


def main(kind):
    log = Log(kind, partitions=8)
    movers = Movers(log, kind)
    wait_until("a worker owns something", lambda: any("is ours" in w.text() for w in movers.workers.values()))
    jobs = ["job-%d" % i for i in range(JOBS)]
    log.start_all("collect", {job: str(SIGNALS) for job in jobs})
    senders = Senders(log)
    until = time.time() + 150
    least = 6 if kind == "kafka" else 15
    while (not senders.ended() or movers.moves < least) and time.time() < until:
        movers.move()
    for thread in senders.threads:
        thread.join(60)
    check(not senders.problems, "; ".join(senders.problems))
    check(senders.ended() and len(senders.acknowledged) == JOBS * SIGNALS,
          "%d of %d signals are acknowledged" % (len(senders.acknowledged), JOBS * SIGNALS))
    for job, result in log.results(jobs):
        check_job(log, job, result)
    for worker in movers.workers.values():
        check(worker.stop() == 0, "a worker failed at its end:\n" + worker.text())
    print(log.verify().strip().splitlines()[-1])
    print("%s: %d signals, %d moves of ownership, %d sent again" %
          (kind, len(senders.acknowledged), movers.moves, senders.repeats))
    log.remove()


main(sys.argv[1])
