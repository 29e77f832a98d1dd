"""The remote step of tests/modules/chaos, for workers/python/step_worker.py; the same ledger as of the steps in C."""
import itertools
import os
import time

from perdure_steps import step

import chaos_jobs

made = itertools.count()


def ledger_add(context, effect):
    worker, now = os.environ["PERDURE_CHAOS_WORKER"], time.time() * 1000
    line = "%s %d %s %s %s %d\n" % (context.idempotency_key, context.attempt, effect, worker, context.job, now)
    file = os.open(os.environ["PERDURE_EFFECT_LEDGER"], os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
    os.write(file, line.encode())
    os.close(file)


@step("chaos/far", str, str)
def far(context, text):
    value = int(text)
    effect = "e%d.%d" % (os.getpid(), next(made))
    ledger_add(context, effect)
    until = time.time() + (value % 40 + 2) / 1000 + (1.5 if value % 23 == 0 else 0)
    while time.time() < until and not context.wait(0.02):
        context.heartbeat()
    if value % 7 == 0 and context.attempt == 1:
        raise RuntimeError("flaky " + effect)
    return "%d %s" % (chaos_jobs.mix(value), effect)
