"""Remote steps while owners and step workers are killed, in C and in Python: every job ends right, each step has one result."""
import os
import random
import time

from harness import Log, Worker, check, wait_until
from step_workers import StepWorker, marks

JOBS, STEPS = 12, 12


def main():
    seed = int(os.environ.get("PERDURE_SEED", random.randrange(1 << 30)))
    print("PERDURE_SEED=%d" % seed, flush=True)
    chance = random.Random(seed)
    log = Log("kafka", partitions=4)
    ledger = os.path.join(log.folder, "ledger")
    environment = {"PERDURE_EFFECT_LEDGER": ledger}
    bare = ("--no-supervisor", "--session-timeout", "6s")

    def owner(name):
        return Worker(log, "courier", data=os.path.join(log.folder, name), arguments=("--name", name, *bare))

    def in_c(name):
        return Worker(log, "courier", environment=environment,
                      arguments=("--queue", "courier", "--threads", "4", "--name", name, *bare))

    def in_python(name):
        return StepWorker(log, "courier", "--slots", "4", environment=environment)

    makers = [("owner-1", owner), ("owner-2", owner), ("c-1", in_c), ("python-1", in_python)]
    running = [maker(name) for name, maker in makers]
    running[0].wait_for("is ours")
    log.start_all("relay", {"relay-%d" % i: str(STEPS) for i in range(JOBS)})
    for kill in range(8):
        before = len(marks(ledger, "end"))
        wait_until("steps are done", lambda: len(marks(ledger, "end")) >= min(before + 3, JOBS * STEPS), seconds=120)
        victim = kill % len(running) if kill < 4 else chance.randrange(len(running))
        running[victim].kill()
        time.sleep(chance.random())
        name, maker = makers[victim]
        running[victim] = maker(name)
    for job, result in log.results(["relay-%d" % i for i in range(JOBS)], wait="240s"):
        check(result == "%d steps" % STEPS, "%s: %s" % (job, result))
        kinds = [event["type"] for event in log.lines("history", job)]
        check(kinds.count("step_completed") == STEPS, "%s: %d results" % (job, kinds.count("step_completed")))
        check(kinds.count("step_scheduled") == STEPS, "%s: %d steps" % (job, kinds.count("step_scheduled")))
    done = {mark[0] for mark in marks(ledger, "end")}
    check(len(done) == JOBS * STEPS, "%d of %d steps were really done" % (len(done), JOBS * STEPS))
    print("%d steps, 8 kills: %d executions, one result each" % (JOBS * STEPS, len(marks(ledger, "begin"))))
    for one in running[2:] + running[:2]:
        one.stop()
    print(log.verify().strip().splitlines()[-1])
    log.remove()


main()
