"""Step workers in Python that serve the queue of remote steps, and are killed too."""
import os
import subprocess
import sys

QUEUE = "chaos"
HERE = os.path.dirname(os.path.abspath(__file__))


class StepWorkers:
    def __init__(self, log, folder, problems, count=2):
        self.log, self.folder, self.problems = log, folder, problems
        self.processes = {}
        done = log.run("namespace", "queue", "create", QUEUE, "--partitions", "4")
        if done.returncode != 0:
            problems.append("queue create: " + done.stderr)
        for i in range(1, count + 1):
            self.begin("far%d" % i)

    def begin(self, name):
        source = os.environ["PERDURE_SOURCE"]
        folder = os.path.join(source, "workers", "python")
        environment = dict(os.environ, PERDURE_LOG=self.log.uri, PERDURE_CHAOS_WORKER=name,
                           PERDURE_EFFECT_LEDGER=os.path.join(self.folder, "ledger"), PYTHONPATH=folder + ":" + HERE)
        with open(os.path.join(self.log.folder, name + ".log"), "a") as output:
            self.processes[name] = subprocess.Popen(
                [sys.executable, os.path.join(folder, "step_worker.py"), "--queue", QUEUE, "--name", name,
                 "--module", os.path.join(HERE, "chaos_far.py")], env=environment, stdout=output, stderr=output,
                stdin=subprocess.DEVNULL)
        self.log.workers.append(self)  # so that a failed test leaves no process behind

    @property
    def process(self):
        """For the harness: one that still runs, else any."""
        return next((process for process in self.processes.values() if process.poll() is None),
                    next(iter(self.processes.values())))

    def gave_up(self, name, code):
        """librdkafka's producer failed for good: it says so, and ends with 5 to be started again (remote-steps.md)."""
        with open(os.path.join(self.log.folder, name + ".log")) as file:
            return code == 5 and "KafkaError{FATAL" in file.read().splitlines()[-1]

    def watch(self, name):
        """One that ended by itself is a fault; another is begun."""
        code = self.processes[name].poll()
        if code is not None and self.gave_up(name, code):
            self.begin(name)
        elif code is not None:
            self.problems.append("step worker %s ended by itself with %s: see %s.log" % (name, code, name))
            self.begin(name)

    def kill(self, name):
        self.processes[name].kill()
        self.processes[name].wait()
        self.begin(name)

    def restart(self, name):
        """With SIGTERM."""
        self.end(name)
        self.begin(name)

    def end(self, name):
        self.processes[name].terminate()
        code = self.processes[name].wait(90)
        if code not in (0, -15) and not self.gave_up(name, code):  # -15: it had not come so far as to hear it
            self.problems.append("step worker %s failed on SIGTERM with %d: see %s.log" % (name, code, name))

    def stop(self):
        for name in self.processes:
            self.watch(name)
            self.end(name)
