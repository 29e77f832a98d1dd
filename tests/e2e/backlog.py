"""
Commands by the thousand at a worker whose log stands still: its memory stays within what --memory allows, nothing is lost,
and all are answered when the log goes on.

On Kafka the journal stands still while the inbox goes on: the journal wants three replicas, and one of three brokers is down.
Then, with a part of it worked off, all brokers stop for a moment. On an embedded log nothing can be made durable: a disk that
stands still in the middle of a commit, then one that is full.
"""
import json
import os
import re
import subprocess
import sys
import threading
import time

from harness import BUILD, Cluster, Log, Worker, check, wait_until

SOAK = bool(os.environ.get("PERDURE_SOAK"))
COMMANDS = 100000 if SOAK else 20000
SIGNALS = 9 # of a job
JOBS = COMMANDS // (1 + SIGNALS)
CLIENTS = 2
PADDING = "x" * 200
# On Kafka an append is in doubt after 30 s. A client of an embedded log gives up when its owner does not answer for 20 s.
STILL_SECONDS = 45 if SOAK and sys.argv[1] == "kafka" else 6
BUDGET_MIB = 16
# Beside the budget: what the worker is before any job, the heads of jobs, librdkafka's queues (docs/operations.md).
BESIDE_MIB = 160


class Client:
    """A client with many commands on the way, and what it was told of them."""

    def __init__(self, log, number):
        jobs = range(number, JOBS, CLIENTS)
        self.lines = ["start s%d gather-%d sleepers/gatherer %d\n" % (job, job, SIGNALS) for job in jobs]
        self.lines += ["signal g%d-%d gather-%d drop %d.%s\n" % (job, i, job, i, PADDING) for i in range(SIGNALS) for job in jobs]
        self.told = {"logged": 0, "answered": 0, "refused": 0}
        self.path = os.path.join(log.folder, "client-%d" % number)
        self.process = subprocess.Popen([os.path.join(BUILD, "perdure-chaos-client")], env=dict(os.environ, PERDURE_LOG=log.uri),
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=open(self.path, "w"), text=True)
        self.threads = [threading.Thread(target=self.write, daemon=True), threading.Thread(target=self.read, daemon=True)]
        for thread in self.threads:
            thread.start()

    def write(self):
        self.process.stdin.writelines(self.lines)
        self.process.stdin.close()

    def read(self):
        for line in self.process.stdout:
            self.told[line.split(" ", 1)[0]] += 1

    def look(self):
        with open(self.path) as file:
            check(not self.process.poll(), "a client ended with %s: %s" % (self.process.returncode, file.read()))

    def end(self):
        self.process.wait(600)
        for thread in self.threads:
            thread.join()
        self.look()


class Backlog:
    def __init__(self, log, worker):
        self.log, self.worker = log, worker
        self.base = self.memory("VmRSS")
        self.began = time.time()
        self.clients = [Client(log, number) for number in range(CLIENTS)]

    def memory(self, name):
        """MiB."""
        with open("/proc/%d/status" % self.worker.process.pid) as file:
            return int(re.search(name + r":\s+(\d+) kB", file.read()).group(1)) / 1024

    def told(self, what):
        return sum(client.told[what] for client in self.clients)

    def say(self, what):
        check(self.worker.process.poll() is None, "the worker ended:\n" + self.worker.text())
        print("%5.1f s: %s: %d commands in the log, %d answered; the worker has %.0f MiB, at most %.0f" %
              (time.time() - self.began, what, self.told("logged"), self.told("answered"), self.memory("VmRSS"),
               self.memory("VmHWM")), flush=True)

    def wait(self, what, condition, seconds=300):
        """Until then, saying how it goes."""
        begin = said = time.time()
        while not condition():
            now = time.time()
            for client in self.clients:
                client.look()
            check(now < begin + seconds, "timed out: %s; %d in the log, %d answered\n%s" %
                  (what, self.told("logged"), self.told("answered"), self.worker.text()))
            if now - said >= 20:
                said = now
                self.say("...")
            time.sleep(0.1)
        self.say(what)

    def judge(self):
        self.wait("all are answered", lambda: self.told("answered") + self.told("refused") >= COMMANDS, 900)
        for client in self.clients:
            client.end()
        check(self.told("refused") == 0 and self.told("answered") == COMMANDS, "%d refused, %d answered of %d" %
              (self.told("refused"), self.told("answered"), COMMANDS))
        wait_until("all jobs have ended", lambda: len(self.log.lines("list", "--state", "completed", "--limit", str(JOBS))) == JOBS,
                   seconds=120, pause=0.5)
        for job in ("gather-0", "gather-%d" % (JOBS - 1)):
            check(self.log.result(job) == str(sum(range(SIGNALS))), "wrong result of " + job)
        most = self.memory("VmHWM")
        check(most < self.base + BUDGET_MIB + BESIDE_MIB, "the worker grew to %.0f MiB, from %.0f: --memory %dM" %
              (most, self.base, BUDGET_MIB))
        check(self.worker.stop() == 0, "the worker failed: " + self.worker.text())
        acked = os.path.join(self.log.folder, "acked")
        with open(acked, "w") as file:
            for job in range(JOBS):
                file.write("start s%d gather-%d\n" % (job, job))
                file.writelines("signal g%d-%d gather-%d\n" % (job, i, job) for i in range(SIGNALS))
        verdict = json.loads(self.log.verify("--acked", acked, "--json"))
        check(verdict["ok"], "verify: %s" % verdict["violations"])
        print("%5.1f s: every start and signal stands in its history once: %d records, %d events" %
              (time.time() - self.began, verdict["journal"]["records"], verdict["journal"]["events"]), flush=True)
        self.log.remove()


def begin(log, **more):
    worker = Worker(log, "sleepers", arguments=("--memory", "%dM" % BUDGET_MIB), **more)
    worker.wait_for("is ours")
    log.start("sleepers/wink", "warm", "up")
    check(log.result("warm") == "up", "wrong result")
    return worker


def on_kafka():
    cluster = Cluster(3)
    log = Log("kafka", partitions=4, brokers=cluster.brokers, dev=False)
    worker = begin(log)
    log.alter_topic("journal", "min.insync.replicas=3")
    cluster.run("kill", "3")
    time.sleep(4) # until it is no replica any more; cluster: broker.session.timeout.ms
    backlog = Backlog(log, worker)
    backlog.wait("the journal stands still", lambda: backlog.told("logged") == COMMANDS)
    time.sleep(STILL_SECONDS)
    backlog.say("and still does")
    check(backlog.told("answered") == 0, "the journal did not stand still")
    cluster.run("restart", "3")
    backlog.wait("a part is worked off", lambda: backlog.told("answered") > COMMANDS // 10)
    for broker in "123":
        cluster.run("pause", broker)
    time.sleep(STILL_SECONDS)
    backlog.say("all brokers stand still")
    for broker in "123":
        cluster.run("resume", broker)
    backlog.judge()


def on_sqlite(how):
    log = Log("sqlite")
    worker = begin(log, environment={"LD_PRELOAD": os.path.join(BUILD, "perdure-slow-disk.so"), "PERDURE_SLOW_DISK": log.folder})
    print("a disk that is %s" % how, flush=True)
    trouble = os.path.join(log.folder, how)
    open(trouble, "w").close()
    backlog = Backlog(log, worker)
    time.sleep(STILL_SECONDS)
    backlog.say("the log stands still")
    check(backlog.told("logged") == 0, "the log did not stand still")
    os.unlink(trouble)
    backlog.wait("a part is worked off", lambda: backlog.told("answered") > COMMANDS // 10)
    open(trouble, "w").close()
    time.sleep(STILL_SECONDS)
    backlog.say("the log stands still")
    os.unlink(trouble)
    backlog.judge()


if sys.argv[1] == "kafka":
    on_kafka()
else:
    on_sqlite("still")
    on_sqlite("full")
