"""
Code that misbehaves: a step that hangs is timed out; a step that ends its process, and a job that uses up its stack, end
the worker, and once repaired go on with the next one; a job that never awaits holds its worker until it does.
"""
import json
import os
import signal
import time

from harness import Log, Worker, check


def switch(log, name):
    """The file whose being there makes the job behave."""
    return os.path.join(log.folder, name)


def repair(path):
    with open(path, "w"):
        pass


def dies(log, kind, job):
    """The worker ends by a signal each time it comes to this job; others are not harmed; repaired, it goes on."""
    path = switch(log, job)
    worker = Worker(log, "trouble")
    worker.wait_for("is ours")
    log.start("good", "good-" + job, "hello")
    check(log.result("good-" + job) == "hello", "wrong result")
    check(log.run("start", kind, "--id", job, "--input", json.dumps(path)).returncode in (0, 4, 5), "start")
    for attempt in range(2):
        code = worker.process.wait(30)
        check(code == -signal.SIGSEGV, "%s: the worker ended with %d:\n%s" % (kind, code, worker.text()))
        check(log.state(job) in ("running", "waiting", "queued"), "%s is %s" % (job, log.state(job)))
        worker = Worker(log, "trouble")
    worker.process.wait(30)
    repair(path)
    worker = Worker(log, "trouble")
    log.result(job)
    steps = [event["name"] for event in log.lines("history", job) if event["type"] == "step_completed"]
    check(len(steps) == len(set(steps)), "%s: steps %s" % (job, steps))
    check(worker.stop() == 0, "the worker failed: " + worker.text())


def hangs(log):
    """Two attempts of 300 ms, then it fails; the thread is lost until its function returns, the worker is not."""
    path = switch(log, "hangs")
    worker = Worker(log, "trouble")
    worker.wait_for("is ours")
    log.start("hanging", "hangs", path)
    done = log.run("result", "hangs", "--wait", "20s", "--json")
    error = json.loads(done.stdout)["error"]
    check(done.returncode == 1 and error["type"] == "TimedOut", "it ended with %s" % done.stdout)
    attempts = [(event["type"], event["attempt"]) for event in log.lines("history", "hangs") if "attempt" in event]
    check(attempts == [("attempt_failed", 1), ("step_failed", 2)], "its attempts are %s" % attempts)
    log.start("good", "beside", "hello")
    check(log.result("beside") == "hello", "wrong result")
    # A stop does not wait for ever for a step that hangs.
    begin = time.time()
    check(worker.stop(40) == 0, "the worker failed: " + worker.text())
    check("left behind" in worker.text() and time.time() - begin < 30, "the stop:\n" + worker.text())
    repair(path)


def spins(log):
    """While a job computes without an await, nothing else of its worker goes on: documented. After that all does."""
    path = switch(log, "spins")
    worker = Worker(log, "trouble")
    worker.wait_for("is ours")
    log.start("good", "before", "hello")
    check(log.result("before") == "hello", "wrong result")
    check(log.run("start", "spinning", "--id", "spins", "--input", json.dumps(path)).returncode in (0, 5), "start")
    time.sleep(1)
    begin = time.time()
    done = log.run("describe", "spins")
    check(time.time() - begin < 30 and done.returncode in (0, 5), "describe: exit %d %s" % (done.returncode, done.stderr))
    if done.returncode == 5:
        check("does not answer" in done.stderr, "describe: " + done.stderr)
    repair(path)
    check(log.result("spins") == "stopped", "wrong result")
    log.start("good", "after", "hello")
    check(log.result("after") == "hello", "wrong result")

    # A worker that spins can be killed; the job is rebuilt.
    os.unlink(path)
    log.run("start", "spinning", "--id", "spins-2", "--input", json.dumps(path))
    time.sleep(0.5)
    worker.kill()
    repair(path)
    worker = Worker(log, "trouble")
    check(log.result("spins-2") == "stopped", "wrong result")
    check(worker.stop() == 0, "the worker failed: " + worker.text())


def main():
    log = Log("sqlite")
    hangs(log)
    dies(log, "crashing", "crashes")
    dies(log, "overflowing", "overflows")
    spins(log)
    print(log.verify().strip().splitlines()[-1])
    log.remove()


main()
