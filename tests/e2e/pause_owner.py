"""
SIGSTOP of an owner past its session timeout while another worker takes over and makes progress, then SIGCONT: no forked
history, no output of the fenced one, and the old one goes on as a healthy member.
"""
import os
import re
import signal
import time

from harness import Log, Worker, check, effects, wait_until

JOBS = 12
STEPS = 250
PARTITIONS = 4


def ours(worker):
    """Partitions of which the worker said that they are its own, in order."""
    return [int(number) for number in re.findall(r"partition (\d+) is ours", worker.text())]


def pids(log, job):
    """Which process did each recorded step, with the time of the record."""
    return [(event["result"], event["time"]) for event in log.lines("history", job) if event["type"] == "step_completed"]


def main():
    log = Log("kafka", partitions=PARTITIONS)
    ledger = os.path.join(log.folder, "ledger")
    environment = {"PERDURE_EFFECT_LEDGER": ledger, "PERDURE_STEP_DELAY_MS": "60"}
    options = {"environment": environment, "arguments": ("--session-timeout", "6s")}

    old = Worker(log, "chores", data=os.path.join(log.folder, "old"), **options)
    wait_until("the old worker owns all", lambda: len(ours(old)) == PARTITIONS)
    jobs = ["job-%d" % i for i in range(JOBS)]
    log.start_all("chain", {job: str(STEPS) for job in jobs})
    new = Worker(log, "chores", data=os.path.join(log.folder, "new"), **options)
    wait_until("the new worker owns some", lambda: ours(new))
    wait_until("both make progress",
               lambda: {effect.pid for effect in effects(ledger)[-30:]} == {old.process.pid, new.process.pid})

    # Jobs that the old one runs now, and will lose.
    recent = {effect.job: effect.pid for effect in effects(ledger)}
    held = sorted(job for job in jobs if recent.get(job) == old.process.pid)
    check(held, "the old worker has no job")
    old.send(signal.SIGSTOP)
    stopped = time.time() * 1000
    print("stopped with %s" % held, flush=True)

    def taken_over():
        later = [effect for effect in effects(ledger) if effect.pid == new.process.pid and effect.time > stopped]
        return all(sum(effect.job == job for effect in later) >= 5 for job in held)
    wait_until("the new worker goes on with the jobs of the stopped one", taken_over, seconds=60)
    check(len(set(ours(new))) == PARTITIONS, "the new worker does not own all: %s" % new.text())
    takeover = {job: min(effect.time for effect in effects(ledger)
                         if effect.job == job and effect.pid == new.process.pid and effect.time > stopped)
                for job in held}

    claims = len(ours(old))
    old.send(signal.SIGCONT)
    resumed = time.time() * 1000
    print("resumed after %.1f s" % ((resumed - stopped) / 1000), flush=True)
    for job, result in log.results(jobs):
        check(result == "%d steps" % STEPS, "wrong result of " + job)
    wait_until("the old worker owns a partition again", lambda: len(ours(old)) > claims, seconds=60)
    check(old.process.poll() is None, "the old worker ended:\n" + old.text())

    # Nothing of the fenced one counted: per job its records end where the other one's begin, until it claimed again.
    again = reclaim_time(old, claims)
    for job in held:
        records = pids(log, job)
        check(len(records) == STEPS, "%s has %d steps recorded" % (job, len(records)))
        wrong = [when for pid, when in records if int(pid) == old.process.pid and takeover[job] < when < again]
        check(not wrong, "%s: %d records of the fenced worker count" % (job, len(wrong)))
        # What was in flight when it was stopped, or had just been handed to a thread, may still come: one a job.
        late = [effect for effect in effects(ledger)
                if effect.job == job and effect.pid == old.process.pid and resumed <= effect.time < again]
        check(len(late) <= 1, "%s: the fenced worker did %d effects: %s" % (job, len(late), late))

    # Healthy: alone, it takes what there is.
    check(new.stop() == 0, "the new worker failed: " + new.text())
    after = ["after-%d" % i for i in range(8)]
    log.start_all("chain", {job: "2" for job in after})
    for job, result in log.results(after):
        check(result == "2 steps", "wrong result of " + job)
    check(old.stop() == 0, "the old worker failed: " + old.text())
    print(log.verify().strip().splitlines()[-1])
    log.remove()


def reclaim_time(worker, claims):
    """When it said for the first time after the pause that a partition is its own, in milliseconds since 1970."""
    clocks = re.findall(r"^(\d+):(\d+):(\d+)\.(\d+) +partition \d+ is ours", worker.text(), re.M)
    hour, minute, second, ms = map(int, clocks[claims])
    day = time.localtime()
    begin = time.mktime((day.tm_year, day.tm_mon, day.tm_mday, hour, minute, second, 0, 0, -1))
    return begin * 1000 + ms


main()
