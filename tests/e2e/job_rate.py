"""
A rate of a job type: sixty jobs wait for a worker, begin one after the other, are told why they wait, and form their line
anew when the worker is killed in the middle; signals, cancellation and other types do not wait.
"""
import collections
import os
import sys

from harness import Log, Worker, check, effects, wait_until

JOBS = 60
SLOW, QUICK = 2, 20 # a second: of the worker that is looked at, of the one after it
LIMIT = "job-rate chain=%d/s" % SLOW


def begun(ledger):
    """When the first step of each job began, by the process that ran it: {pid: {job: [time, ...]}}."""
    times = collections.defaultdict(lambda: collections.defaultdict(list))
    for effect in effects(ledger):
        if effect.job.startswith("chain-") and effect.text == "0":
            times[effect.pid][effect.job].append(effect.time)
    return times


def check_rate(ledger, rates):
    """Rates by process. A second's worth may be saved up, so twice as many may begin within a second."""
    times = begun(ledger)
    check(set(times) == set(rates), "processes %s ran steps, not %s" % (list(times), list(rates)))
    for pid, jobs in times.items():
        check(all(len(each) == 1 for each in jobs.values()), "process %d began a job twice: %s" % (pid, dict(jobs)))
        order = sorted(each[0] for each in jobs.values())
        most = max(sum(first <= time < first + 1000 for time in order) for first in order)
        print("process %d: %d jobs began in %.1f s, at most %d within a second" %
              (pid, len(order), (order[-1] - order[0]) / 1000, most))
        check(most <= 2 * rates[pid], "%d jobs began within a second" % most)


def held(log):
    """Jobs that are shown to wait for the rate."""
    return [status["id"] for status in log.lines("list", "--type", "chain") for waiting in status["waiting"]
            if waiting["kind"] == "start" and waiting.get("limit") == LIMIT]


def check_shown(log):
    """What it waits for is told until it begins; nothing has begun without being told."""
    def shown():
        for job in held(log)[:3]: # it may begin while it is asked for
            text = log.run("describe", job).stdout
            if "state     waiting" in text and "not begun: no room in " + LIMIT in text:
                return True
        return False
    wait_until("describe names the rate", shown, 30)
    wait_until("list names the rate", lambda: "start chores/chain, no room in " + LIMIT in log.run("list").stdout, 30)


def cancel_one(log, ledger):
    """One that stands in line ends at once, and does nothing."""
    def cancelled():
        line = held(log)
        check(line, "nothing stands in line any more")
        job = line[-1]
        done = log.run("cancel", job)
        check(done.returncode == 0, "cancel %s: %s" % (job, done.stderr))
        wait_until("%s is cancelled" % job, lambda: log.state(job) in ("cancelled", "completed"), 30)
        return job if log.state(job) == "cancelled" and all(e.job != job for e in effects(ledger)) else None
    return wait_until("one is cancelled in line", cancelled, 60)


def refused(log):
    log.refused(2, 'job rate "chain=0/s": write TYPE=N/s', "worker", "--module", "x.so", "--job-rate", "chain=0/s")
    worker = Worker(log, "chores", arguments=("--job-rate", "chian=5/s"))
    worker.wait_ended(2, 'job rate of "chian": no module of this worker has that job type')


def main():
    log = Log(sys.argv[1], partitions=4)
    ledger = os.path.join(log.folder, "ledger")
    environment = {"PERDURE_EFFECT_LEDGER": ledger, "PERDURE_STEP_DELAY_MS": "20"}
    options = "chain=%d/s,chores/collect=0.1/s"
    refused(log)
    jobs = ["chain-%d" % i for i in range(JOBS)]
    worker = Worker(log, "chores", environment=environment) # the types have to be known once, or the starts are refused
    worker.wait_for("is ours")
    check(worker.stop() == 0, "the worker failed: " + worker.text())
    log.start_all("chores/chain", {job: "2" for job in jobs}) # no worker: all are there when it comes
    log.start_all("chores/collect", {"mail-0": "1", "mail-1": "1"})

    worker = Worker(log, "chores", environment=environment, arguments=("--job-rate", options % SLOW))
    rates = {worker.process.pid: SLOW}
    wait_until("some begin", lambda: effects(ledger))
    log.start("chores/grow", "other", "10")
    check(log.result("other") == "x" * 10, "a job of another type")
    check(len({effect.job for effect in effects(ledger)}) < JOBS, "the other type was no quicker")
    check_shown(log)
    for job in ("mail-0", "mail-1"): # one of them has begun; none is late
        done = log.run("signal", job, "item", "--input", '"word"', "--json")
        check(done.returncode == 0 and "accepted" in done.stdout, "signal: %s%s" % (done.stdout, done.stderr))
    jobs.remove(cancel_one(log, ledger))
    wait_until("several have begun", lambda: len({effect.job for effect in effects(ledger)}) >= 3 * SLOW)
    check(len(held(log)) > 3 * SLOW, "little is left for the next worker")
    worker.kill()

    worker = Worker(log, "chores", environment=environment, arguments=("--job-rate", options % QUICK))
    rates[worker.process.pid] = QUICK
    wait_until("all have begun", lambda: {e.job for e in effects(ledger)} >= set(jobs), 120)
    for job, result in log.results(jobs + ["mail-0", "mail-1"]):
        check(result == ("word" if job.startswith("mail") else "2 steps"), "%s: %s" % (job, result))
    check(held(log) == [], "who has ended waits for nothing")
    check(worker.stop() == 0, "the worker failed: " + worker.text())
    check_rate(ledger, rates)
    for job in jobs[:5]:
        kinds = [event["type"] for event in log.lines("history", job)]
        check(kinds == ["started", "step_completed", "step_completed", "completed"], "%s: %s" % (job, kinds))
    print(log.verify().strip().splitlines()[-1])
    log.remove()


main()
