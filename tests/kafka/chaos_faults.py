"""Faults made in a copy of what a chaos run left: the judge must find each. So that it is known that it can fail."""
import os
import random
import shutil
import struct

import chaos_check
import chaos_log


def records(path):
    """(head, bytes) of each record of a dump."""
    with open(path, "rb") as file:
        while head := file.read(25):
            yield head, file.read(struct.unpack("<I", head[21:])[0])


def rewrite(path, change):
    """change(list of lines)."""
    with open(path) as file:
        lines = file.readlines()
    change(lines)
    with open(path, "w") as file:
        file.writelines(lines)


def add_line(folder, attempt, effect, worker, job, ms):
    line = "%016x-%d %d %s %s %s %d\n" % (attempt.run, attempt.op, attempt.attempt, effect, worker, job, ms)
    rewrite(os.path.join(folder, "ledger"), lambda lines: lines.append(line))


def drop_record(folder, judge):
    """A record of a run's first event, as if the log had lost it."""
    wanted = min((run.partition, run.first) for run in judge.history.runs.values())
    path = os.path.join(folder, "dump")
    kept = [head + data for head, data in records(path)
            if not (head[0] == 0 and struct.unpack("<Iq", head[1:13]) == wanted)]
    with open(path, "wb") as file:
        file.writelines(kept)


def drop_effect(folder, judge):
    """The ledger's line of a recorded step."""
    name = sorted(judge.history.attempts.items())[0][1].effect
    rewrite(os.path.join(folder, "ledger"), lambda lines: lines.remove(next(l for l in lines if " %s " % name in l)))


def change_worker(folder, judge):
    """A recorded step was done by a worker that did not own the partition."""
    name = [attempt for _, attempt in sorted(judge.history.attempts.items()) if not attempt.remote][-1].effect

    def change(lines):
        i = next(i for i, line in enumerate(lines) if " %s " % name in line)
        words = lines[i].split(" ")
        words[3] = "stranger"
        lines[i] = " ".join(words)
    rewrite(os.path.join(folder, "ledger"), change)


def add_effect(folder, judge):
    """An attempt more than was recorded, by the worker that owned the partition to the end."""
    own = [attempt for attempt in judge.history.attempts.values() if not attempt.remote]
    attempt = max(own, key=lambda attempt: attempt.ms)
    job = judge.history.runs[attempt.run].job
    add_line(folder, attempt, "e0.0", attempt.epoch.worker, job, attempt.ms)


def add_late_effect(folder, judge):
    """A worker repeats a step that was recorded, long after another has taken the partition over."""
    def owned_once(attempt):  # in a second epoch of its own it may have begun it again
        run = judge.history.runs[attempt.run]
        return sum(epoch.worker == attempt.epoch.worker for epoch in judge.history.epochs_of(run)) == 1

    attempt, epoch = next((attempt, attempt.epoch) for attempt in judge.history.attempts.values()
                          if attempt.epoch.end and not attempt.epoch.released and not attempt.remote and owned_once(attempt))
    job = judge.history.runs[attempt.run].job
    add_line(folder, attempt, "e0.1", epoch.worker, job, epoch.end + 200)


def drop_command(folder, judge):
    """A client was told that a signal is taken, and it is nowhere: as if it had been lost."""
    rewrite(os.path.join(folder, "acked"), lambda lines: lines.append("signal note-9-plan-1 plan-1\n"))


def add_job(folder, judge):
    """A job was acknowledged, and is not there."""
    rewrite(os.path.join(folder, "numbers"), lambda lines: lines.append("999999999\n"))


def missed(folder):
    """The names of the faults that the judge does not find."""
    good = chaos_check.Judge(folder)
    found = []
    for fault in (drop_record, drop_effect, change_worker, add_effect, add_late_effect, drop_command, add_job):
        copy = folder + "-" + fault.__name__
        shutil.copytree(folder, copy)
        fault(copy, good)
        wrong = chaos_check.Judge(copy).judge()
        print("%-20s %s" % (fault.__name__, wrong[0][:150] if wrong else "NOT FOUND"))
        if not wrong:
            found.append(fault.__name__)
        shutil.rmtree(copy)
    return found
