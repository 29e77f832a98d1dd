"""What the end-to-end tests share: the command, workers as processes, real logs."""
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

BUILD = os.environ["PERDURE_BUILD"]
PERDURE = os.path.join(BUILD, "perdure")


def fail(text):
    print("FAILED:", text, flush=True)
    sys.exit(1)


def check(condition, text):
    if not condition:
        fail(text)


def module(name):
    return os.path.join(BUILD, "samples", name + ".so")


class Log:
    """A log of its own for one test: an embedded file, or a new namespace on the Kafka of $PERDURE_KAFKA."""

    def __init__(self, kind, partitions=16):
        self.kind = kind
        self.folder = tempfile.mkdtemp(prefix="perdure-e2e-")
        if kind == "sqlite":
            self.uri = "sqlite:" + os.path.join(self.folder, "perdure.db")
        else:
            brokers = os.environ.get("PERDURE_KAFKA")
            if not brokers:
                print("skipped: no PERDURE_KAFKA")
                sys.exit(77)
            self.uri = "kafka://%s/e2e%08x" % (brokers, random.getrandbits(32))
            done = self.run("namespace", "create", "--partitions", str(partitions), "--dev")
            check(done.returncode == 0, "namespace create: " + done.stderr)

    def run(self, *arguments, timeout=120):
        environment = dict(os.environ, PERDURE_LOG=self.uri)
        return subprocess.run([PERDURE, *arguments], env=environment, text=True, capture_output=True, timeout=timeout)

    def json(self, *arguments, timeout=120):
        """Output of a verb with --json; None when it did not succeed."""
        done = self.run(*arguments, "--json", timeout=timeout)
        return json.loads(done.stdout) if done.returncode in (0, 1) and done.stdout.strip() else None

    def lines(self, *arguments, timeout=120):
        done = self.run(*arguments, "--json", timeout=timeout)
        check(done.returncode == 0, "%s: exit %d, %s" % (arguments, done.returncode, done.stderr))
        return [json.loads(line) for line in done.stdout.splitlines() if line.strip()]

    def state(self, job):
        status = self.json("describe", job)
        return status["state"] if status else None

    def verify(self, *arguments):
        done = self.run("verify", *arguments, timeout=300)
        check(done.returncode == 0, "verify: exit %d\n%s%s" % (done.returncode, done.stdout, done.stderr))
        return done.stdout

    def remove(self):
        shutil.rmtree(self.folder, ignore_errors=True)


class Worker:
    """A worker process; its output goes to a file that a failed test shows."""

    count = 0

    def __init__(self, log, *modules, data=None, environment=None, arguments=()):
        Worker.count += 1
        self.log_path = os.path.join(log.folder, "worker-%d.log" % Worker.count)
        self.data = data or os.path.join(log.folder, "data")
        command = [PERDURE, "worker", "--data", self.data, *arguments]
        for name in modules:
            command += ["--module", name if "/" in name else module(name)]
        self.output = open(self.log_path, "w")
        self.process = subprocess.Popen(command, env=dict(os.environ, PERDURE_LOG=log.uri, **(environment or {})),
                                        stdout=self.output, stderr=subprocess.STDOUT)

    def text(self):
        with open(self.log_path) as file:
            return file.read()

    def wait_for(self, text, seconds=60):
        until = time.time() + seconds
        while time.time() < until:
            if text in self.text():
                return
            check(self.process.poll() is None, "the worker ended:\n" + self.text())
            time.sleep(0.01)
        fail("the worker never said %r:\n%s" % (text, self.text()))

    def send(self, number):
        self.process.send_signal(number)

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.output.close()

    def stop(self, seconds=30):
        self.process.terminate()
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            text = self.text()
            self.kill()
            fail("the worker did not stop on SIGTERM:\n" + text)
        self.output.close()
        return code


def wait_until(what, condition, seconds=60, pause=0.05):
    until = time.time() + seconds
    while time.time() < until:
        value = condition()
        if value:
            return value
        time.sleep(pause)
    fail("timed out: " + what)
