"""
Jobs and steps that crash their worker in every way C has: each crash is journaled against the right job, with signal and
backtrace; after three in a row that job is quarantined, takes signals all the same, and nobody else notices. Repaired and
resumed, each goes on; nothing that was done is done again.
"""
import json
import os
import sys

from harness import Log, Worker, check, wait_until

WAYS = { # job: (what its crashes are called, where, the signal)
    "segfault": ("SIGSEGV at address 0x0", "segfault", 11),
    "at_start": ("SIGSEGV at address 0x0", "at_start", 11),
    "aborts": ("SIGABRT", "aborts", 6),
    "divides": ("SIGFPE", "divides", 8),
    "recurses": ("stack overflow", "deeper", 11),
    "loops": ("no await for 1.0 s", "loops", 24),
    "exits": ("it called exit(3)", "exits", 0),
    "traps": ("SIGTRAP", "traps", 5),
    "on_signal": ("SIGSEGV at address 0x0", "on_signal", 11),
    "in_step": ("SIGSEGV at address 0x0", "step_segfault", 11),
    "in_step_exit": ("it called exit(0)", "step_exit", 0),
    "in_step_overflow": ("stack overflow", "deeper", 11),
}
STEPS = {"in_step": "step_segfault", "in_step_exit": "step_exit", "in_step_overflow": "step_overflow"}
NEIGHBOURS = 20


def crashes_of(log, job):
    return [event for event in log.lines("history", job) if event["type"] == "job_crashed"]


def check_history(log, job):
    """Three crashes, the last of which puts it aside; of a step, failed attempts between them."""
    reason, function, number = WAYS[job]
    events = log.lines("history", job)
    crashes = [event for event in events if event["type"] == "job_crashed" and event["count"] > 0]
    check([event["count"] for event in crashes] == [1, 2, 3], "%s: crashes %s" % (job, crashes))
    check([event["quarantined"] for event in crashes] == [False, False, True], "%s: %s" % (job, crashes))
    for event in crashes:
        check(reason in event["reason"] and event["signal"] == number, "%s: %s" % (job, event))
        check(any(function in line for line in event["trace"]), "%s: no %s in %s" % (job, function, event["trace"]))
        check(event["name"] == "crashes/" + STEPS.get(job, job), "%s: %s" % (job, event["name"]))
    if job in STEPS:
        failed = [(event["attempt"], event["error"]["type"]) for event in events if event["type"] == "attempt_failed"]
        check(failed == [(1, "Crashed"), (2, "Crashed")], "%s: %s" % (job, failed))
    status = log.json("describe", job)
    check(reason in status["report"] and status["waiting"][0]["kind"] == "resume", "%s: %s" % (job, status))


def stuck(log, worker):
    """Attempts that outlive their timeout: their threads are counted and replaced, up to the limit, and come back."""
    release = os.path.join(log.folder, "released")
    for i in range(3): # of three attempts each
        log.start("hangs", "hangs-%d" % i, release)
    worker.wait_for("3 threads for steps are stuck, 8 may be")
    worker.wait_for("no step begins any more")
    done = log.run("start", "good", "--id", "late", "--input", json.dumps(release))
    check(done.returncode == 0, "start late: " + done.stderr)
    for i in range(3):
        done = log.run("result", "hangs-%d" % i, "--wait", "60s", "--json")
        check(json.loads(done.stdout)["error"]["type"] == "TimedOut", done.stdout)
    wait_until("it is shown", lambda: log.state("late") != "queued", seconds=20)
    check(log.state("late") in ("running", "waiting"), "a step began: " + str(log.state("late")))
    with open(release, "w"):
        pass
    worker.wait_for("; 0 threads are stuck")
    check(log.result("late").startswith("survived"), "wrong result")


def main(kind):
    log = Log(kind, partitions=2)
    repair = os.path.join(log.folder, "repaired")
    worker = Worker(log, "crashes", "chores", supervised=True, arguments=("--watchdog", "1s"),
                    environment={"PERDURE_STEP_DELAY_MS": "5"})
    worker.wait_for("is ours")
    neighbours = {"neighbour-%d" % i: "100" for i in range(NEIGHBOURS)}
    log.start_all("chain", neighbours)
    for job in WAYS:
        done = log.run("start", job, "--id", job, "--input", json.dumps(repair))
        check(done.returncode == 0, "start %s: exit %d %s" % (job, done.returncode, done.stderr))
    check(log.run("signal", "on_signal", "poison", "--input", '"a"').returncode == 0, "signal")
    wait_until("all are quarantined", lambda: all(log.state(job) == "quarantined" for job in WAYS), seconds=120, pause=0.3)
    why = [line for line in log.run("list", "--state", "quarantined").stdout.splitlines() if line.startswith("segfault ")][0]
    check("SIGSEGV" in why and "3 times in a row" in why, "list says: " + why)
    for job in WAYS:
        check_history(log, job)
    for job, result in log.results(neighbours):
        check(result == "100 steps", "wrong result of " + job)
    for job in neighbours: # no innocent one has a crash held against it
        check(all(event["count"] == 0 for event in crashes_of(log, job)), "%s was blamed: %s" % (job, crashes_of(log, job)))

    # One whose crashes are fewer than its attempts fails, and its job hears of it.
    log.start("in_step_twice", "in_step_twice", repair)
    done = log.run("result", "in_step_twice", "--wait", "60s", "--json")
    check(json.loads(done.stdout)["error"]["type"] == "Crashed", done.stdout)

    # No handler sees _exit(): it is the code's own when nothing else ran.
    log.start("quits", "quits", repair)
    wait_until("it is quarantined", lambda: log.state("quits") == "quarantined")
    counted = [event["reason"] for event in crashes_of(log, "quits") if event["count"] > 0]
    check(len(counted) == 3 and all("exit(4)" in reason for reason in counted), str(crashes_of(log, "quits")))

    # Put aside, over a restart too: it absorbs, and does not run.
    check(log.run("signal", "segfault", "poison", "--input", '"b"').returncode == 0, "signal to a quarantined job")
    check(worker.stop() == 0, "exit code: " + worker.text())
    worker = Worker(log, "crashes", "chores", supervised=True, arguments=("--watchdog", "1s", "--crash-limit", "2", "--threads", "2"))
    worker.wait_for("is ours")
    wait_until("the status is the new worker's", lambda: log.state("aborts") == "quarantined")
    log.refused(3, "no job", "resume", "nobody")
    log.start("doze", "awake", "600000")
    log.refused(2, "neither quarantined nor diverged", "resume", "awake")

    # Resumed too early it comes back, after two this time.
    check(log.run("resume", "segfault", "--reason", "too early").returncode == 0, "resume")
    wait_until("it is quarantined again", lambda: len(crashes_of(log, "segfault")) == 5)
    wait_until("its state", lambda: log.state("segfault") == "quarantined")
    with open(repair, "w"):
        pass
    for job in WAYS:
        done = log.run("resume", job, "--json")
        check(done.returncode == 0 and json.loads(done.stdout)["answer"] == "accepted", "resume %s: %s" % (job, done.stderr))
    for job, result in log.results(WAYS):
        check(result == "a" if job == "on_signal" else result.startswith("survived"), "%s: %s" % (job, result))
    for job in WAYS: # replayed from its history, crashes and all, it is the same
        module = os.path.join(os.environ["PERDURE_BUILD"], "test-modules", "crashes.so")
        done = log.run("replay", "--module", module, job)
        check(done.returncode == 0, "replay %s: %s%s" % (job, done.stdout, done.stderr))
    check(log.run("terminate", "awake").returncode == 0, "terminate")
    stuck(log, worker)
    check(worker.stop() == 0, "exit code: " + worker.text())
    print(log.verify().strip().splitlines()[-1])
    log.remove()


main(sys.argv[1])
