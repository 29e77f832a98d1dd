"""Steps in Python for the tests. $PERDURE_EFFECT_LEDGER gets a line at the begin and the end of each execution."""
import os
import time

from perdure_steps import Final
from perdure_steps import step as serve
from perdure_wire import Error


def note(context, what):
    path = os.environ.get("PERDURE_EFFECT_LEDGER")
    if path:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(file, ("%s %s %s %d %.3f\n" % (what, context.idempotency_key, context.job, os.getpid(), time.time())).encode())
        os.close(file)


def step(name, input, result):
    """The same for the modules `errands`, whose jobs have steps elsewhere, and `courier`, which has them in C too."""
    def register(function):
        for module in ("errands", "courier"):
            serve(module + "/" + name, input, result)(function)
        return function
    return register


@step("upper", str, str)
def upper(context, text):
    note(context, "begin")
    note(context, "end")
    return text.upper()


@step("slow", str, str)
def slow(context, seconds):
    """Sleeps, saying how far it is, until it is told to stop."""
    note(context, "begin")
    until = time.time() + float(seconds)
    while time.time() < until:
        context.heartbeat({"left": round(until - time.time(), 1)})
        if context.wait(0.02):
            note(context, "stopped")
            return "stopped"
    note(context, "end")
    return "slept"


@step("fail", str, str)
def fail(context, how):
    note(context, "begin")
    if how == "final":
        raise Final("NoUse", "never again")
    if how == "once" and context.attempt > 1:
        return "attempt %d" % context.attempt
    raise RuntimeError("try again")


@step("double", dict, dict)
def double(context, value):
    return {name: 2 * number for name, number in value.items()}


@step("reverse", bytes, bytes)
def reverse(context, data):
    return data[::-1]


@step("message", Error, Error)
def message(context, error):
    return Error(type=error.type, code=error.code + 1)


@step("large", None, bytes)
def large(context, _):
    return b"x" * 1000000


@step("wrong", None, str)
def wrong(context, _):
    return 17
