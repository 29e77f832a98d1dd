"""Steps of Perdure jobs in Python: what a module of steps imports.

    from perdure_steps import Final, step

    @step("files/checksum", str, dict)          # name as the job's module declares it, type of input, type of result
    def checksum(context, path):
        ...
        context.heartbeat({"bytes": done})      # shown by `perdure describe`; a later attempt finds it in context.progress
        if context.cancelled:                   # nobody waits any more: clean up and leave
            return {}
        raise Final("NoSuchFile", path)         # any other exception: the owner tries again
"""
import argparse
import importlib
import os
import sys
import threading

STEPS = {}


def step(name, input=None, result=None):
    """Registers a function as the step MODULE/STEP. Types: a protobuf message class, str, bytes, dict (JSON), None."""
    if name.count("/") != 1:
        raise ValueError("a step is named MODULE/STEP, not '%s'" % name)

    def register(function):
        STEPS[name] = (function, input, result)
        return function
    return register


def load(name):
    """A type for argparse: a module of steps, by its name or its file. What goes wrong in its own code is raised as it is."""
    folder, file = os.path.split(os.path.abspath(name))
    module = file[:-3] if name.endswith(".py") else name
    if module != name:
        sys.path.insert(0, folder)
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name not in (module, module.partition(".")[0]):
            raise
        raise argparse.ArgumentTypeError("there is no %s %s" % ("module" if module == name else "file", name))


class Final(Exception):
    """A failure that is not tried again: Final(TYPE, MESSAGE)."""
    final = True

    def __init__(self, type, message=""):
        super().__init__(message)
        self.type = type


class Context:
    """One attempt, as the step's function sees it."""

    def __init__(self, task, beat):
        self.job = task.job
        self.step = task.step
        self.attempt = task.attempt
        self.idempotency_key = task.idempotency_key   # the same in every attempt: give it to what you call
        self.token = task.token                       # for `perdure complete`
        self.progress = None                          # bytes: what an earlier attempt said last, if it was kept
        if task.HasField("progress"):
            self.progress = task.progress.data
        self._beat = beat
        self._cancelled = threading.Event()

    @property
    def cancelled(self):
        """The job was cancelled, or has given this attempt up: its result will not count."""
        return self._cancelled.is_set()

    def wait(self, seconds):
        """Sleeps; True, and at once, when cancelled."""
        return self._cancelled.wait(seconds)

    def heartbeat(self, detail=None):
        """Says how far it is: text, bytes or what json takes. May be called as often as you like."""
        self._beat(detail)
