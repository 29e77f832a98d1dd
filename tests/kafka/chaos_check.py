"""
chaos_check.py FOLDER: judges what a chaos run left behind, and prints what is wrong with it. In the folder:

    dump      the log, by `perdure verify --save`      acked      what clients were told: `start|signal REQUEST JOB`
    ledger    the real effects of steps                numbers    the jobs that were started, one number a line
    timeline  what was done to whom: JSON, one a line

perdure-verify judges the dump by the protocol, and against `acked` and `ledger`; here follows what it cannot know: the
right answers, who made an effect, and whether he was allowed to.
"""
import collections
import json
import os
import subprocess
import sys
import time

import chaos_jobs
import chaos_log

FAR = "far"        # names of step workers begin so
CLOCK_MS = 50      # a broker's append time against the clock of a step on the same machine
WAKING_MS = 4000   # half a session, in which an owner may begin steps on an old proof (engine/proof.c), and a slow machine


class Judge:
    def __init__(self, folder):
        self.folder = folder
        self.wrong = []
        self.history = chaos_log.History(self.path("dump"), os.environ["PERDURE_SOURCE"])
        self.effects, lines = chaos_log.read_ledger(self.path("ledger"))
        for line in lines:
            self.say("ledger: not a line of it: %r" % line)
        with open(self.path("numbers")) as file:
            self.expected = chaos_jobs.answers(int(line) for line in file)
        with open(self.path("timeline")) as file:
            self.timeline = [json.loads(line) for line in file]
        self.grown = any(entry["kind"] == "namespace grown" for entry in self.timeline)
        self.extra = self.late = self.remote_extra = 0
        self.latest = 0
        self.extras = collections.Counter()  # by how the epoch ended that it was begun in

    def path(self, name):
        return os.path.join(self.folder, name)

    def say(self, text):
        self.wrong.append(text)

    # ---- answers ------------------------------------------------------------------------------------------------

    def judge_answers(self):
        runs = collections.defaultdict(list)
        for run in self.history.runs.values():
            runs[run.job].append(run)
        for job, answer in self.expected.items():
            if len(runs[job]) != 1:
                self.say("%s: %d runs, not one" % (job, len(runs[job])))
                continue
            run = runs[job][0]
            if run.state != "completed":
                self.say("%s (partition %d): %s after %d events: %s" %
                         (job, run.partition, run.state, run.seq, run.result))
            elif run.result != answer:
                self.say("%s: the answer is %s, not %s" % (job, run.result, answer))
        for job in sorted(set(runs) - set(self.expected)):
            self.say("%s: nobody started it" % job)

    def judge_acknowledged(self):
        """That all of it was: the clients asked until it was. That it is there once, perdure-verify says too."""
        with open(self.path("acked")) as file:
            told = set(file.read().splitlines())
        absorbed = collections.Counter()
        for run in self.history.runs.values():
            absorbed["start %s %s" % (run.request, run.job)] += 1
            absorbed.update("signal %s %s" % (request, run.job) for request in run.signals)
        for command in sorted(told):
            if absorbed[command] != 1:
                self.say("acknowledged, and %d times in the histories: %s" % (absorbed[command], command))
        for job in self.expected:
            if job.count("-") != 1:
                continue
            commands = ["start start-%s %s" % (job, job)]
            commands += ["signal note-%d-%s %s" % (i, job, job) for i in range(chaos_jobs.NOTES)]
            for command in commands:
                if command not in told:
                    self.say("never acknowledged: " + command)

    # ---- effects ------------------------------------------------------------------------------------------------

    def judge_records(self):
        """Each recorded attempt was made, once, by the worker that owned the partition."""
        made = {}
        for effect in self.effects:
            if effect.name in made:
                self.say("ledger: %s stands there twice" % effect.name)
            made[effect.name] = effect
        recorded = {}
        for attempt in self.history.attempts.values():
            if attempt.remote and not attempt.done and attempt.effect not in made:
                continue  # nobody heard of it any more
            where = "%s, op %d, attempt %d" % (self.history.runs[attempt.run].job, attempt.op, attempt.attempt)
            effect = made.get(attempt.effect)
            if attempt.effect in recorded:
                self.say("%s: %s is recorded for %s too" % (where, attempt.effect, recorded[attempt.effect]))
            recorded[attempt.effect] = where
            if not effect:
                self.say("%s: recorded as %s, which the ledger lacks" % (where, attempt.effect))
            elif (effect.key, effect.attempt) != ((attempt.run, attempt.op), attempt.attempt):
                self.say("%s: recorded as %s, which the ledger has as %s" % (where, attempt.effect, effect))
            elif attempt.remote != effect.worker.startswith(FAR):
                self.say("%s: done by %s" % (where, effect.worker))
            elif not attempt.remote and effect.worker != attempt.epoch.worker:
                self.say("%s: done by %s, recorded in the epoch of %s" % (where, effect.worker, attempt.epoch.worker))
        return recorded

    def judge_effects(self):
        recorded = self.judge_records()
        for effect in self.effects:
            if effect.name not in recorded:
                self.judge_extra(effect)
        self.judge_counts()

    def judge_extra(self, effect):
        """An effect that no record tells of: its worker must have lost the partition while it was in flight."""
        if effect.worker.startswith(FAR):
            self.judge_remote_extra(effect)
            return
        self.extra += 1
        run_id, op = effect.key
        run = self.history.runs.get(run_id)
        what = "effect %s of %s, op %d, attempt %d, by %s" % (effect.name, effect.job, op, effect.attempt,
                                                              effect.worker)
        if not run or run.job != effect.job:
            self.say(what + ": there is no such run")
            return
        if effect.attempt > 1 and (run_id, op, effect.attempt - 1) not in self.history.attempts:
            self.say(what + ": the attempt before it is not recorded")
        owned = [epoch for epoch in self.history.epochs_of(run)
                 if epoch.worker == effect.worker and epoch.begin <= effect.ms + CLOCK_MS]
        if not owned:
            self.say(what + ": it never owned partition %s before" % run.partitions)
            return
        epoch = owned[-1]
        end, offset, released = self.history.end_of(run, epoch)
        if end is None:
            self.say(what + ": it owns partition %d to the end, and recorded nothing" % epoch.partition)
            return
        self.extras["released" if released else "lost"] += 1
        if effect.ms > end + CLOCK_MS:
            self.judge_late(what, effect, epoch.partition, end, offset, run)

    def judge_remote_extra(self, effect):
        """At least once: of a step worker that was killed, or taken for dead. It must have been asked to."""
        self.remote_extra += 1
        run = self.history.runs.get(effect.key[0])
        if not run or run.job != effect.job:
            self.say("effect %s of %s by %s: there is no such run" % (effect.name, effect.job, effect.worker))
        elif not any((*effect.key, attempt) in self.history.attempts for attempt in range(1, 51)):
            self.say("effect %s of %s, op %d, by %s: no such step is recorded" %
                     (effect.name, effect.job, effect.key[1], effect.worker))

    def judge_late(self, what, effect, partition, end, end_offset, run):
        """Made when another owned the partition already: it must have been begun before."""
        self.late += 1
        attempt = self.history.attempts.get((*effect.key, effect.attempt))
        if run.partition == partition and run.first > end_offset:
            self.say(what + ": the run began after it had lost the partition")
        if attempt and attempt.epoch.partition == partition and attempt.offset < end_offset:
            self.say(what + ": was recorded before it lost the partition")
        healed = [done["until"] for done in self.timeline
                  if done["target"] == effect.worker and done["ms"] <= effect.ms + CLOCK_MS]
        late = effect.ms - max([end] + healed)
        self.latest = max(self.latest, late)
        if late > WAKING_MS:
            self.say(what + ": %d ms after it lost the partition and could know" % late)

    def judge_counts(self):
        """An owner begins an attempt once in an epoch."""
        of_worker = collections.Counter((effect.key, effect.attempt, effect.worker) for effect in self.effects)
        for (key, attempt, worker), count in of_worker.items():
            if worker.startswith(FAR):
                continue
            run = self.history.runs.get(key[0])
            epochs = sum(epoch.worker == worker for epoch in self.history.epochs_of(run)) if run else 0
            if run and count > epochs:
                self.say("%s, op %d, attempt %d: %d times by %s, which owned the partition %d times" %
                         (run.job, key[1], attempt, count, worker, epochs))
        total = collections.Counter((effect.key, effect.attempt) for effect in self.effects
                                    if not effect.worker.startswith(FAR))
        for (key, attempt), count in total.items():
            run = self.history.runs.get(key[0])
            if run and count > 1 + sum(epoch.begin >= run.begin for epoch in self.history.epochs_of(run)):
                self.say("%s, op %d, attempt %d: %d times, more often than the partition was claimed meanwhile" %
                         (run.job, key[1], attempt, count))

    # ---- the whole ----------------------------------------------------------------------------------------------

    def verify(self):
        """perdure-verify's summary; its violations are ours."""
        done = subprocess.run([os.path.join(os.environ["PERDURE_BUILD"], "perdure-verify"), "--json",
                               "--acked", self.path("acked"), "--ledger", self.path("ledger"), self.path("dump")],
                              text=True, capture_output=True, stdin=subprocess.DEVNULL)
        if done.returncode not in (0, 1):
            self.say("perdure-verify: exit %d: %s" % (done.returncode, done.stderr))
            return {}
        summary = json.loads(done.stdout)
        if self.grown:  # of partitions that slots left, or came to, it judges what lies before that only
            return summary
        for violation in summary["violations"]:
            self.say("perdure-verify: %s" % violation)
        if done.returncode == 1 and not summary["violations"]:
            self.say("perdure-verify: exit 1")
        return summary

    def judge(self):
        self.summary = self.verify()
        self.judge_answers()
        self.judge_acknowledged()
        self.judge_effects()
        return self.wrong

    def claims(self):
        """(claims after another owner, claims of the same one again)."""
        moved = again = 0
        for epochs in self.history.epochs.values():
            for before, after in zip(epochs, epochs[1:]):
                moved += before.worker != after.worker
                again += before.worker == after.worker
        return moved, again

    def longest_pause(self):
        """Longest time in which nothing was recorded: (anywhere, (in one partition while a job was open in it, the partition,
        since when))."""
        times = sorted(self.history.times)
        whole = max([b[0] - a[0] for a, b in zip(times, times[1:])], default=0)
        single = 0, 0, 0
        for partition in self.history.epochs:
            spans = sorted((run.begin, getattr(run, "end", times[-1][0])) for run in self.history.runs.values()
                           if run.partition == partition)
            ends, reach = [], None  # times at which no job was open any more
            for begin, end in spans:
                if reach is not None and begin > reach:
                    ends.append(reach)
                reach = max(reach or end, end)
            own = [ms for ms, p in times if p == partition]
            idle = set(ends)
            single = max([single] + [(b - a, partition, a) for a, b in zip(own, own[1:]) if a not in idle])
        return whole, single

    def table(self):
        moved, again = self.claims()
        whole, single = self.longest_pause()
        done = collections.Counter(entry["kind"] for entry in self.timeline)
        jobs = len(self.expected)
        return [("jobs", jobs), ("events", self.history.events), ("journal records", self.history.records),
                *sorted(done.items()), ("takeovers by another worker", moved), ("claims of the same worker", again),
                ("records fenced", self.history.fenced), ("records twice", self.history.duplicates),
                ("effects of steps", len(self.effects)), ("of these without a record, remote", self.remote_extra),
                ("of these without a record, others", self.extra),
                *(("  begun in an epoch that was " + how, count) for how, count in sorted(self.extras.items())),
                ("  made when another was the owner", self.late), ("  the latest of these, ms", self.latest),
                ("longest time without progress, ms", whole), ("  of one partition with open jobs, ms", single[0]),
                ("    partition, since when", "%d %s" % (single[1], time.strftime("%H:%M:%S", time.localtime(single[2] / 1000)))),
                *(("    claimed", "%s, %s, %.1f s after that" % (epoch.worker, "released" if epoch.released else "not released",
                                                                 (epoch.begin - single[2]) / 1000))
                  for epoch in self.history.epochs.get(single[1], [])
                  if single[2] - 30000 <= epoch.begin <= single[2] + single[0] + 1000)]


def main():
    judge = Judge(sys.argv[1])
    wrong = judge.judge()
    for line in wrong[:50]:
        print("WRONG", line)
    for name, value in judge.table():
        print("%-40s %10s" % (name, value))
    print("%d things are wrong" % len(wrong))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
