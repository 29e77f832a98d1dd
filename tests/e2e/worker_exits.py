"""
How a worker ends that cannot go on, and how one is seen to be well: exit 6 (its member id is another's), exit 7 (a partition
that it could not work on), the file that a container's health check looks at, and what one at rest takes.
"""
import json
import os
import signal
import subprocess
import sys
import time

from harness import PERDURE, Log, Worker, check, module, processor_seconds, wait_until

KIND = sys.argv[1]


def member_taken():
    """Two workers of one name: the older is fenced, joins again once, and ends. Its supervisor does not start it again."""
    log = Log(KIND, partitions=2)
    one = Worker(log, "hello", data=os.path.join(log.folder, "one"), arguments=("--name", "same"), supervised=True)
    wait_until("it owns all", lambda: one.text().count("is ours") == 2)
    two = Worker(log, "hello", data=os.path.join(log.folder, "two"), arguments=("--name", "same"), supervised=True)
    ended = wait_until("one of them ends", lambda: [w for w in (one, two) if w.process.poll() is not None])[0]
    other = two if ended is one else one
    ended.wait_ended(6, "another worker runs with our member id 'same'")
    check("give each its own data directory" in ended.text(), ended.text())
    check("joining again" in one.text(), "the first was not fenced: " + one.text())
    log.start("hello", "greeting", "world")
    check("world" in log.result("greeting"), "the other does not work: " + other.text())
    check(other.process.poll() is None, "the other ended too: " + other.text())
    check(other.stop() == 0, other.text())
    log.remove()


def lose_commands(log, partition, below):
    namespace = log.uri.rsplit("/", 1)[1]
    offsets = os.path.join(log.folder, "offsets.json")
    with open(offsets, "w") as file:
        json.dump({"partitions": [{"topic": namespace + ".inbox", "partition": partition, "offset": below}], "version": 1}, file)
    tool = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "kafka", "cluster")
    done = subprocess.run([tool, "tool", log.folder, "org.apache.kafka.tools.DeleteRecordsCommand", "--bootstrap-server",
                           os.environ["PERDURE_KAFKA"], "--offset-json-file", offsets], text=True, capture_output=True)
    check(done.returncode == 0, "DeleteRecordsCommand: " + done.stdout + done.stderr)


def partition_stopped():
    """One of two partitions has lost commands: it stops alone, its jobs stand still, and the worker says so when it ends."""
    log = Log(KIND, partitions=2)
    jobs = ["job-%d" % i for i in range(8)]
    log.start_all("hello", {job: "x" for job in jobs})
    lose_commands(log, 1, 1)
    worker = Worker(log, "hello", supervised=True)
    worker.wait_for("partition 1 is stopped")
    ended = wait_until("the other one works", lambda: [job for job in jobs if log.state(job) == "completed"])
    check(len(ended) < len(jobs), "jobs of the stopped partition ran")
    check(worker.process.poll() is None, "it ended: " + worker.text())
    check(worker.stop() == 7, "it was stopped, but does not say what stood still: " + worker.text())
    check("offsets 0 to 0 of inbox partition 1 are gone" in worker.text(), worker.text())
    again = Worker(log, "hello", arguments=("--accept-lost-commands",), supervised=True)
    wait_until("those that are left run", lambda: len([line for line in log.lines("list", "--state", "completed")
                                                       if line["id"] in jobs]) >= len(jobs) - 1) # one was lost, or sent twice
    check(again.stop() == 0, again.text())
    log.remove()


def nothing_left():
    """When the last one stops, the worker ends at once; its supervisor does not start it again."""
    log = Log(KIND, partitions=1)
    log.start("hello", "lost", "x")
    lose_commands(log, 0, 1)
    worker = Worker(log, "hello", supervised=True)
    worker.wait_ended(7, "partition 0 is stopped")
    check(worker.text().count("is stopped") == 1, "started again: " + worker.text())
    log.remove()


def session_refused():
    """A session timeout that the brokers do not take (they take 6s to 30m): to start it again would not help."""
    log = Log(KIND, partitions=2)
    for timeout in ("2s", "1h"):
        worker = Worker(log, "hello", arguments=("--session-timeout", timeout), supervised=True)
        worker.wait_ended(2, "group.min.session.timeout.ms")
    log.remove()


def age(path):
    return time.time() - os.stat(path).st_mtime


def health():
    """The file is there once the worker serves, is touched as long as its loop turns, and not while it does not."""
    log = Log(KIND, partitions=2)
    path = os.path.join(log.folder, "health")
    worker = Worker(log, "hello", supervised=True, environment={"PERDURE_HEALTH_FILE": path})
    wait_until("it is healthy", lambda: os.path.exists(path))
    for _ in range(3):
        wait_until("it is touched", lambda: age(path) < 1.5)
        time.sleep(1)
    child = worker.child()
    os.kill(child, signal.SIGSTOP)
    wait_until("it is not touched any more", lambda: age(path) > 4)
    os.kill(child, signal.SIGCONT)
    wait_until("it is touched again", lambda: age(path) < 1.5)
    check(worker.stop() == 0, worker.text())
    log.remove()


def at_rest():
    """A worker with nothing to do takes nothing."""
    log = Log(KIND)
    worker = Worker(log, "hello")
    worker.wait_for("is ours")
    time.sleep(0.5)
    before = processor_seconds(worker.process.pid)
    time.sleep(2)
    spent = processor_seconds(worker.process.pid) - before
    check(spent < 0.5, "with nothing to do it took %.1f of 2 s of a processor" % spent)
    check(worker.stop() == 0, worker.text())
    log.remove()


def stopped_before_it_serves():
    """While it looks for its brokers it may be told to stop: that is no failure."""
    log = Log(KIND)
    worker = Worker(log, "hello", supervised=True, uri="kafka://127.0.0.1:1/none")
    time.sleep(1)
    check(worker.process.poll() is None, "it did not look for its brokers: " + worker.text())
    code = worker.stop()
    check(code == 0, "told to stop, it ended with %d: %s" % (code, worker.text()))
    log.remove()


def forked():
    """What a step has forked and left behind does not keep the data directory from the next worker."""
    log = Log(KIND, partitions=2)
    release = os.path.join(log.folder, "released")
    worker = Worker(log, "crashes", supervised=True)
    worker.wait_for("is ours")
    log.start("forks", "forks", release)
    log.result("forks")
    child = worker.child()
    worker.kill()
    wait_until("its child is gone", lambda: not os.path.exists("/proc/%d" % child))
    again = Worker(log, "crashes", supervised=True)
    again.wait_for("is ours")
    check(again.stop() == 0, again.text())
    with open(release, "w"):
        pass
    log.remove()


def tried_out():
    """`perdure dev` has a supervisor too: one job that crashes it does not end it."""
    log = Log(KIND)
    process = subprocess.Popen([PERDURE, "dev", "--module", module("crashes"), "--module", module("hello"), "--log", log.uri],
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wait_until("it serves", lambda: log.run("start", "hello", "--id", "first", "--input", '"x"', "--wait", "5s").returncode == 0)
    log.start("segfault", "bad", "never")
    wait_until("it is put aside", lambda: log.state("bad") == "quarantined")
    log.start("hello", "greeting", "world")
    check("world" in log.result("greeting"), "the neighbour does not go on")
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=30)[0]
    check(process.returncode == 0 and "null_pointer" in said, "exit %d: %s" % (process.returncode, said))
    log.remove()


def children_ignored():
    """Started by somebody who ignores SIGCHLD, a supervisor sees the end of its child all the same."""
    log = Log(KIND, partitions=2)
    worker = Worker(log, "hello", supervised=True, wrap=("env", "--ignore-signal=CHLD"))
    worker.wait_for("is ours")
    first = worker.child()
    os.kill(first, signal.SIGKILL)
    worker.child(other_than=first)
    log.start("hello", "greeting", "world")
    check("world" in log.result("greeting"), worker.text())
    check(worker.stop() == 0, worker.text())
    log.remove()


def main():
    parts = {"sqlite": ["health", "at_rest", "stopped_before_it_serves", "children_ignored", "tried_out"],
             "kafka": ["member_taken", "partition_stopped", "nothing_left", "forked", "session_refused"]}
    for part in sys.argv[2:] or parts[KIND]:
        print("----", part, flush=True)
        globals()[part]()


main()
