"""Sixteen clients start the same id at the same moment: one run, and all are told the same."""
import json
import os
import sys
import time

from harness import Log, Worker, check, effects

CLIENTS = 16


def race(log, job, inputs):
    """One process a client, all begun before any is waited for."""
    clients = [log.begin("start", "chores/chain", "--id", job, "--input", value, "--json") for value in inputs]
    results = []
    for client in clients:
        out, err = client.communicate(timeout=120)
        results.append((client.returncode, json.loads(out) if client.returncode == 0 else None, err))
    return results


def check_one_run(log, job, results):
    for code, answer, err in results:
        check(code == 0, "%s: a client got exit %d: %s" % (job, code, err))
        check(answer["id"] == job and answer["type"] == "chores/chain", "%s: a client was told %s" % (job, answer))
    history = log.lines("history", job)
    check([event["type"] for event in history].count("started") == 1, "%s was started more than once" % job)
    check(len({event["op"] for event in history if event["type"] == "step_completed"}) == 3, "%s has wrong steps" % job)


def same_requests(kind):
    """Who repeats a request under its name is answered as the first time, at once; ids count to their last character."""
    log = Log(kind)
    worker = Worker(log, "sleepers")
    worker.wait_for("is ours")

    def ask(*arguments):
        begun = time.time()
        done = log.run(*arguments)
        check(done.returncode == 0 and "queued" not in done.stdout, "%s: exit %d %s%s" % (arguments, done.returncode,
                                                                                         done.stdout, done.stderr))
        check(time.time() - begun < 10, "%s: the answer took %.1f s" % (arguments, time.time() - begun))
        return done.stdout

    name = "r" * 100
    for again in range(3):
        told = ask("start", "sleepers/gatherer", "--id", "sum", "--input", '"3"', "--request", name)
        check(("was started before" in told) == (again > 0), "start %d: %s" % (again, told))
    for again in range(3):
        ask("signal", "sum", "drop", "--input", '"1"', "--request", name + "a")
    ask("signal", "sum", "drop", "--input", '"10"', "--request", name + "b")
    ask("signal", "sum", "drop", "--input", '"100"', "--request", name + "c")
    check(log.result("sum") == "111", "wrong sum: a repeated signal counted twice, or one of three was lost")
    log.refused(2, "request id has 129 bytes", "signal", "sum", "drop", "--input", '"1"', "--request", "r" * 129)
    check(worker.stop() == 0, "the worker failed: " + worker.text())
    print(log.verify().strip().splitlines()[-1])
    log.remove()


def main(kind):
    same_requests(kind)
    log = Log(kind)
    ledger = os.path.join(log.folder, "ledger")
    environment = {"PERDURE_EFFECT_LEDGER": ledger, "PERDURE_STEP_DELAY_MS": "5"}

    # With a worker: exactly one hears that the job is new.
    worker = Worker(log, "chores", environment=environment)
    worker.wait_for("is ours")
    for round in range(3):
        job = "same-%d" % round
        results = race(log, job, ['"3"'] * CLIENTS)
        check(log.result(job) == "3 steps", "wrong result")
        check_one_run(log, job, results)
        if all(answer["state"] != "queued" for code, answer, err in results):
            new = sum(not answer["existed"] for code, answer, err in results)
            check(new == 1, "%d clients were told that they started %s" % (new, job))
        check(len([effect for effect in effects(ledger) if effect.job == job]) == 3, "%s ran twice" % job)

    # Two inputs: one wins, with all who gave it; the others are refused.
    results = race(log, "two", ['"3"', '"4"'] * (CLIENTS // 2))
    won = log.result("two")
    for i, (code, answer, err) in enumerate(results):
        mine = "%d steps" % (3 + i % 2)
        check(code == (0 if mine == won else 2), "client %d wanted %s, %s won, exit %d: %s" % (i, mine, won, code, err))
    check(worker.stop() == 0, "the worker failed: " + worker.text())

    # With no worker: all are told that it is in the log; then it runs once.
    results = race(log, "alone", ['"3"'] * CLIENTS)
    for code, answer, err in results:
        check(code == 0 and answer["state"] == "queued", "a client was told %s %s" % (answer, err))
    worker = Worker(log, "chores", environment=environment)
    check(log.result("alone") == "3 steps", "wrong result")
    check_one_run(log, "alone", results)
    check(len([effect for effect in effects(ledger) if effect.job == "alone"]) == 3, "it ran twice")
    check(worker.stop() == 0, "the worker failed: " + worker.text())
    print(log.verify().strip().splitlines()[-1])
    log.remove()


main(sys.argv[1])
