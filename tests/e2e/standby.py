"""
Standby: a worker follows the partitions next to its own, takes over what it followed when their owner is killed, and
gives back what is taken from it. Two that follow everything find each other's journals read.
"""
import os
import re

from harness import Log, Worker, check, effects, wait_until

JOBS = 12
STEPS = 120
PARTITIONS = 4


def numbers(worker, text):
    return {int(number) for number in re.findall(r"partition (\d+) " + text, worker.text())}


def main():
    log = Log("kafka", partitions=PARTITIONS)
    ledger = os.path.join(log.folder, "ledger")
    options = {"environment": {"PERDURE_EFFECT_LEDGER": ledger, "PERDURE_STEP_DELAY_MS": "100"}}
    arguments = ("--session-timeout", "6s", "--standby")
    one = Worker(log, "chores", data=os.path.join(log.folder, "one"), arguments=(*arguments, "4"), **options)
    wait_until("it owns all", lambda: len(numbers(one, "is ours")) == PARTITIONS)
    jobs = ["job-%d" % i for i in range(JOBS)]
    log.start_all("chain", {job: str(STEPS) for job in jobs})

    two = Worker(log, "chores", data=os.path.join(log.folder, "two"), arguments=(*arguments, "1"), **options)
    wait_until("the second owns half", lambda: len(numbers(two, "is ours")) == 2)
    own = numbers(two, "is ours")
    nearest = 1 if 2 in own else 2 # the group gives it 2 and 3, or 0 and 1
    wait_until("it follows the nearest", lambda: nearest in numbers(two, "is followed"))

    one.kill()
    wait_until("the second owns all", lambda: len(numbers(two, "is ours")) == PARTITIONS)
    wait_until("it tells of them", lambda: len(numbers(two, "taken over")) == PARTITIONS)
    told = {int(line.group(1)): line.group(0)
            for line in re.finditer(r"partition (\d+) taken over.*", two.text())}
    for partition in set(range(PARTITIONS)) - own:
        check("does not answer" in told[partition], "not said: the owner before died: " + told[partition])
    check("it was followed" in told[nearest], "it was not followed: " + told[nearest])
    for job, result in log.results(jobs):
        check(result == "%d steps" % STEPS, "wrong result of " + job)
    count = len(effects(ledger))
    check(JOBS * STEPS <= count <= JOBS * STEPS + JOBS, "%d effects of %d steps and one kill" % (count, JOBS * STEPS))
    check(two.stop(seconds=60) == 0, "the worker failed: " + two.text())
    print(log.verify().strip().splitlines()[-1])
    log.remove()


main()
