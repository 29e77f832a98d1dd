"""
The checker on a log in use: while jobs come, end and are forgotten, the worker cuts its journals' heads away at any moment, and the
namespace grows twice, each verdict must be "sound", as of the ends that it asked for.
"""
import json
import os
import random
import re
import signal
import sys
import threading
import time

from harness import Log, Worker, check

SECONDS = 300 if os.environ.get("PERDURE_SOAK") else 60
SPARKS = 40
OPTIONS = ("--life", "15s", "--keep", "16s", "--retention-age", "2s", "--retention", "64K")


class Load(threading.Thread):
    """Parents with many children each, in all partitions, one burst after another."""

    def __init__(self, log, name):
        super().__init__(daemon=True)
        self.log, self.name, self.over, self.started, self.problem = log, name, False, 0, None
        self.unreached = []

    def run(self):
        while not self.over and not self.problem:
            job = "%s-%d" % (self.name, self.started)
            done = self.log.run("start", "burst", "--id", job, "--input", '"%d"' % SPARKS, "--wait", "60s", "--json")
            self.started += 1
            # A client that could not get through, or came while topics were widened, is not what this is about.
            if done.returncode in (4, 5) or (done.returncode == 2 and "partitions is" in done.stderr):
                self.unreached.append(done.stderr.strip())
            elif done.returncode != 0:
                self.problem = "%s: exit %d %s" % (job, done.returncode, done.stderr)


def verdicts(log, worker, until):
    """Each verdict until then. Every other checker is stopped somewhere in its reading for longer than two cuts are apart."""
    number = 0
    with open(log.folder + "/small", "w") as file: # many fetches, so that a stop finds a journal half read
        file.write("fetch.message.max.bytes=4000\n")
    while time.time() < until:
        number += 1
        verify = log.begin("verify", "--json", "--save", log.folder + "/dump", "--kafka-config", log.folder + "/small")
        if number % 2 == 0:
            time.sleep(random.uniform(0, 0.4))
            verify.send_signal(signal.SIGSTOP)
            time.sleep(2.5)
            verify.send_signal(signal.SIGCONT)
        out, err = verify.communicate(timeout=300)
        check(worker.process.poll() is None, "the worker ended:\n" + worker.text())
        check(verify.returncode in (0, 1), "verify: exit %d %s" % (verify.returncode, err))
        yield json.loads(out), err


def main():
    log = Log(sys.argv[1], partitions=2)
    worker = Worker(log, "burst", arguments=OPTIONS)
    worker.wait_for("is ours")
    loads = [Load(log, "load%d" % i) for i in range(2)]
    for load in loads:
        load.start()
    count, begun_again, heads_cut, forwarded = 0, 0, 0, 0
    begin, growing = time.time(), []
    for verdict, said in verdicts(log, worker, begin + SECONDS):
        over = not growing or growing[-1].poll() is not None # one growth after another
        if over and len(growing) < 2 and time.time() > begin + SECONDS * (len(growing) + 1) / 4:
            growing.append(log.begin("namespace", "grow", "--partitions", str(4 << len(growing)), "--dev", "--timeout", "100s"))
        count += 1
        begun_again += said.count("begins again")
        heads_cut += verdict["as_of"]["heads_cut"]
        forwarded = max(forwarded, verdict["inbox"]["forwarded"])
        if not verdict["ok"]:
            print("verdict %d: %d violations, the dump is %s/dump" % (count, verdict["violation_count"], log.folder))
            for violation in verdict["violations"][:10]:
                print(violation)
            for load in loads:
                load.over = True
            check(False, "a live log was called unsound")
    for load in loads:
        load.over = True
        load.join()
        check(not load.problem, load.problem)
    for grow in growing:
        out, err = grow.communicate(timeout=150)
        check(grow.returncode == 0, "grow: exit %d %s%s" % (grow.returncode, out, err))
    cuts = len(re.findall(r"journal cut below", worker.text()))
    print("%d verdicts, %d bursts of %d jobs, %d cuts, %d of them while a head was read, begun again %d times, %d forwarded" %
          (count, sum(load.started for load in loads), SPARKS + 1, cuts, heads_cut, begun_again, forwarded), flush=True)
    for line in [line for load in loads for line in load.unreached]:
        print("client:", line)
    check(count >= 5 and cuts >= 5 and heads_cut + begun_again > 0, "too little happened")
    worker.stop()
    growths = json.loads(log.verify("--json"))["growths"]
    check(growing, "too slow: it never grew")
    check(growths[-1]["settled"] and growths[-1]["partitions"] == 2 << len(growing), "growths: %s" % growths)
    log.remove()


main()
