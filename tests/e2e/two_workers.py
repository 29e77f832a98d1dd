"""
Two worker processes on one file: the second is refused, clearly; clients work with the first; after kill -9 of the first
the second can start and goes on with its jobs.
"""
import os
import signal

from harness import Log, Worker, check, effects, wait_until


def main():
    log = Log("sqlite")
    ledger = os.path.join(log.folder, "ledger")
    environment = {"PERDURE_EFFECT_LEDGER": ledger, "PERDURE_STEP_DELAY_MS": "50"}
    first = Worker(log, "chores", environment=environment)
    first.wait_for("is ours")
    log.start("chain", "long", "60")
    wait_until("progress", lambda: len(effects(ledger)) > 5)

    second = Worker(log, "chores", environment=environment)
    second.wait_ended(5, os.path.basename(log.uri), seconds=60)
    check(str(first.process.pid) in second.text(), "it does not name the owner's process: " + second.text())
    print("refused: " + second.text().strip())

    # Also while the first one is stopped: its lock is held.
    first.send(signal.SIGSTOP)
    third = Worker(log, "chores", environment=environment)
    third.wait_ended(5, os.path.basename(log.uri), seconds=60)
    first.send(signal.SIGCONT)

    check(log.state("long") in ("running", "waiting"), "the job does not run")
    check(log.start("chain", "short", "1")["state"] != "queued", "the first worker does not answer")
    check(log.result("short") == "1 steps", "wrong result")

    first.kill()
    done = len(effects(ledger))
    check(log.json("describe", "long")["state"] in ("running", "waiting"), "describe with no worker")
    fourth = Worker(log, "chores", environment=environment)
    fourth.wait_for("replayed")
    check(log.result("long") == "60 steps", "wrong result")
    check(len(effects(ledger)) > done, "the second worker did nothing")
    steps = [effect for effect in effects(ledger) if effect.job == "long"]
    check(60 <= len(steps) <= 61, "%d effects of 60 steps and one kill" % len(steps))
    check(fourth.stop() == 0, "the worker failed: " + fourth.text())
    print(log.verify().strip().splitlines()[-1])
    log.remove()


main()
