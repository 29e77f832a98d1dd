"""
Standby: a worker follows partitions that others own (rule 23). When their owner is killed it takes them over with
nothing left to read; one that has no partition follows what it would get; a head that is cut under it costs a new reading
(rule 19); when the namespace grows it lets go.
"""
import json
import os
import re
import signal
import sys
import time

from harness import Log, Worker, check, effects, wait_until

JOBS = 12
STEPS = 100
PARTITIONS = 4


def numbers(worker, text):
    return {int(number) for number in re.findall(r"partition (\d+) " + text, worker.text())}


def takeovers(worker):
    """{partition: the newest report}; the worker speaks JSON."""
    lines = [json.loads(line) for line in worker.text().splitlines() if line.startswith("{")]
    return {line["takeover"]["partition"]: line["takeover"] for line in lines if "takeover" in line}


def begin(log, name, *arguments, **more):
    options = {"environment": {"PERDURE_EFFECT_LEDGER": os.path.join(log.folder, "ledger"), "PERDURE_STEP_DELAY_MS": "100"}}
    return Worker(log, "chores", data=os.path.join(log.folder, name), arguments=("--name", name, *arguments), **options, **more)


def followed(worker, partitions):
    wait_until("it follows %s up to their ends" % partitions,
               lambda: partitions <= numbers(worker, "is followed up to its end"))


def fill(log, megabytes):
    """Journal that a takeover would have to read: jobs that have ended."""
    jobs = ["haul-%d" % i for i in range(8)]
    log.start_all("haul", {job: "%d 50000" % (megabytes * 20 // len(jobs)) for job in jobs})
    check(len(list(log.results(jobs))) == len(jobs), "not all have ended")


def end(log, worker, jobs, kills, verify=True):
    for job, result in log.results(jobs):
        check(result == "%d steps" % STEPS, "wrong result of " + job)
    ledger = [effect for effect in effects(os.path.join(log.folder, "ledger")) if effect.job in jobs]
    most = len(jobs) * (STEPS + kills)
    check(len(jobs) * STEPS <= len(ledger) <= most, "%d effects, %d at most" % (len(ledger), most))
    check(worker.stop(seconds=60) == 0, "the worker failed: " + worker.text())
    if verify:
        print(log.verify().strip().splitlines()[-1])
    log.remove()


def an_owner_dies():
    """Two workers; `b` has the second row of two, so it gets the first when `a` dies: the nearer one it has followed."""
    log = Log("kafka", partitions=PARTITIONS)
    a = begin(log, "a", "--session-timeout", "6s", "--retention", "off")
    wait_until("it owns all", lambda: len(numbers(a, "is ours")) == PARTITIONS)
    b = begin(log, "b", "--session-timeout", "6s", "--standby", "1", "--retention", "off", "--json")
    wait_until("the second owns half", lambda: len(takeovers(b)) == PARTITIONS // 2)
    check(set(takeovers(b)) == {2, 3}, "range did not give it the second row: %s" % takeovers(b))
    fill(log, 8)
    jobs = ["job-%d" % i for i in range(JOBS)]
    log.start_all("chain", {job: str(STEPS) for job in jobs})
    followed(b, {1})
    time.sleep(1)
    a.kill()
    wait_until("the second owns all", lambda: set(takeovers(b)) == set(range(PARTITIONS)))
    near, far = takeovers(b)[1], takeovers(b)[0]
    print(near, far, sep="\n")
    for told in (near, far):
        check(told["cause"] == "unplanned" and told["previous"] == "a", "not said who died: %s" % told)
        check(told["silent_ms"] > 3000, "no session timeout was waited for: %s" % told)
        check(0 <= told["progress_us"] < 60e6 and told["claim_us"] > 0, "no times: %s" % told)
    check(near["followed"] and not far["followed"], "followed: %s %s" % (near, far))
    check(far["bytes"] > 600000, "there was not much to read: %s" % far)
    check(near["bytes"] < far["bytes"] / 20, "what was followed is read again: %s" % near)
    check("does not answer" in b.text() and "(it was followed)" in b.text(), "not told in words: " + b.text())
    end(log, b, jobs, 1)


def one_to_spare():
    """The third of two partitions has none: it gets the last when any of the others goes. Its head is cut meanwhile."""
    log = Log("kafka", partitions=2)
    arguments = ("--session-timeout", "30s", "--retention", "512K")
    one = begin(log, "one", *arguments)
    two = begin(log, "two", *arguments)
    wait_until("both own", lambda: numbers(one, "is ours") and numbers(two, "is ours"))
    wait_until("it gave one up", lambda: {0, 1} == numbers(one, "taken over") | numbers(two, "taken over"))
    xtra = begin(log, "xtra", *arguments, "--standby", "1", "--json")
    followed(xtra, {1})
    check(numbers(xtra, "is followed: standby") == {1}, "it follows another than it will get: " + xtra.text())
    jobs = ["job-%d" % i for i in range(JOBS)]
    log.start_all("chain", {job: str(STEPS) for job in jobs})
    os.kill(xtra.process.pid, signal.SIGSTOP)
    fill(log, 24)
    wait_until("the head is cut", lambda: two.text().count("partition 1: journal cut") >= 3)
    os.kill(xtra.process.pid, signal.SIGCONT)
    xtra.wait_for("partition 1: reading the journal from its start")
    wait_until("it has read it anew", lambda: xtra.text().count("partition 1 is followed up to its end") >= 2)
    xtra.wait_for("partition 1 is followed up to its end")
    check(one.stop() == 0, "the worker failed: " + one.text()) # it comes back not: for the group it is still there
    check(two.process.poll() is None, "the other ended")
    os.kill(two.process.pid, signal.SIGUSR1)
    two.process.wait(60)
    wait_until("the spare owns the last", lambda: 1 in takeovers(xtra))
    told = takeovers(xtra)[1]
    print(told)
    check(told["followed"] and told["cause"] == "planned" and told["previous"] == "two", "not as it was: %s" % told)
    check(told["bytes"] < 100000, "what was followed is read again: %s" % told)
    wait_until("it owns all", lambda: set(takeovers(xtra)) == {0, 1}, seconds=90)
    end(log, xtra, jobs, 2)


def a_namespace_that_grows():
    log = Log("kafka", partitions=2)
    one = begin(log, "one", "--standby", "8")
    two = begin(log, "two", "--standby", "8")
    wait_until("both follow", lambda: numbers(one, "is followed: standby") and numbers(two, "is followed: standby"))
    jobs = ["job-%d" % i for i in range(JOBS)]
    log.start_all("chain", {job: str(STEPS) for job in jobs})
    done = log.run("namespace", "grow", "--partitions", "4", "--dev", "--timeout", "60s")
    check(done.returncode == 0, "grow: exit %d %s%s\n%s" % (done.returncode, done.stdout, done.stderr, one.text()))
    check(one.stop(seconds=60) == 0, "the worker failed: " + one.text())
    end(log, two, jobs, 2, verify=False) # the checker judges no journal in which slots moved


def main():
    for part in sys.argv[2:] or ["an_owner_dies", "one_to_spare", "a_namespace_that_grows"]:
        print("----", part, flush=True)
        globals()[part]()


main()
