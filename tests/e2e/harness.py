"""What the end-to-end tests share: the command, workers as processes, real logs."""
import atexit
import collections
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
    """A sample, or a module of the tests."""
    path = os.path.join(BUILD, "samples", name + ".so")
    return path if os.path.exists(path) else os.path.join(BUILD, "test-modules", name + ".so")


class Cluster:
    """A Kafka of its own for a test that harms its brokers."""

    def __init__(self, brokers=1, also=None, arguments=()):
        """`also`: another address of the machine that the brokers listen on; `self.also` is then their list there."""
        if not os.environ.get("PERDURE_KAFKA"): # no Kafka wanted, or no Java to run one
            print("skipped: no PERDURE_KAFKA")
            sys.exit(77)
        self.count = brokers
        self.folder = tempfile.mkdtemp(prefix="perdure-cluster-")
        atexit.register(self.remove)
        more = ("--also", also) if also else ()
        self.brokers = self.run("start", "--brokers", str(brokers), *more, *arguments).strip()
        self.also = self.run("brokers", "--also").strip() if also else None

    def run(self, verb, *arguments):
        script = os.path.join(os.environ["PERDURE_SOURCE"], "tests", "kafka", "cluster")
        done = subprocess.run([script, verb, self.folder, *arguments], text=True, capture_output=True, timeout=180,
                              stdin=subprocess.DEVNULL)
        check(done.returncode == 0, "cluster %s: %s%s" % (verb, done.stdout, done.stderr))
        return done.stdout

    def remove(self):
        if os.path.isdir(self.folder):
            self.run("stop")
            shutil.rmtree(self.folder, ignore_errors=True)


class Log:
    """A log of its own for one test: an embedded file, or a new namespace on the Kafka of $PERDURE_KAFKA."""

    def __init__(self, kind, partitions=16, brokers=None, dev=True):
        self.kind = kind
        self.folder = tempfile.mkdtemp(prefix="perdure-e2e-")
        self.workers = []
        atexit.register(self.end_workers)
        if kind == "sqlite":
            self.uri = "sqlite:" + os.path.join(self.folder, "perdure.db")
        else:
            brokers = brokers or os.environ.get("PERDURE_KAFKA")
            if not brokers:
                print("skipped: no PERDURE_KAFKA")
                sys.exit(77)
            self.brokers = brokers
            self.uri = "kafka://%s/e2e%08x" % (brokers, random.getrandbits(32))
            done = self.run("namespace", "create", "--partitions", str(partitions), *(["--dev"] if dev else []))
            check(done.returncode == 0, "namespace create: " + done.stderr)

    def alter_topic(self, topic, setting):
        """A setting of a topic of this namespace, NAME=VALUE, as an operator would change it."""
        script = os.path.join(os.environ["PERDURE_SOURCE"], "tests", "kafka", "cluster")
        done = subprocess.run([script, "tool", self.folder, "kafka.admin.ConfigCommand", "--bootstrap-server", self.brokers,
                               "--alter", "--entity-type", "topics", "--entity-name",
                               "%s.%s" % (self.uri.rsplit("/", 1)[1], topic), "--add-config", setting],
                              text=True, capture_output=True, timeout=180, stdin=subprocess.DEVNULL)
        check(done.returncode == 0, "%s of %s: %s%s" % (setting, topic, done.stdout, done.stderr))

    def end_workers(self):
        """So that a failed test leaves no process behind."""
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.process.kill()

    def run(self, *arguments, timeout=120, **more):
        environment = dict(os.environ, PERDURE_LOG=self.uri)
        return subprocess.run([PERDURE, *arguments], env=environment, text=True, capture_output=True, timeout=timeout,
                              **more)

    def begin(self, *arguments):
        """The same, running beside the test."""
        return subprocess.Popen([PERDURE, *arguments], env=dict(os.environ, PERDURE_LOG=self.uri), text=True,
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def start(self, kind, job, value):
        """Starts a job whose input is `value` as JSON."""
        done = self.run("start", kind, "--id", job, "--input", json.dumps(value), "--json")
        check(done.returncode == 0, "start %s: exit %d %s" % (job, done.returncode, done.stderr))
        return json.loads(done.stdout)

    def start_all(self, kind, inputs):
        """Starts many jobs at once: {job: input}."""
        for job, client in [(job, self.begin("start", kind, "--id", job, "--input", json.dumps(value)))
                            for job, value in inputs.items()]:
            out, err = client.communicate(timeout=120)
            check(client.returncode == 0, "start %s: exit %d %s" % (job, client.returncode, err))

    def results(self, jobs, wait="120s"):
        """(job, result) of jobs that must end well, asked for side by side."""
        for job, client in [(job, self.begin("result", job, "--wait", wait, "--json")) for job in jobs]:
            out, err = client.communicate(timeout=300)
            check(client.returncode == 0, "result %s: exit %d %s%s" % (job, client.returncode, out, err))
            yield job, json.loads(out)["result"]

    def result(self, job, wait="60s"):
        """The result of a job that must end well."""
        done = self.run("result", job, "--wait", wait, "--json", timeout=300)
        check(done.returncode == 0, "result %s: exit %d %s%s" % (job, done.returncode, done.stdout, done.stderr))
        return json.loads(done.stdout)["result"]

    def refused(self, code, words, *arguments, timeout=120, **more):
        """A call that must fail with this exit code and say all of these words."""
        done = self.run(*arguments, timeout=timeout, **more)
        check(done.returncode == code, "%s: exit %d, not %d\n%s%s" %
              (arguments, done.returncode, code, done.stdout[-2000:], done.stderr[-2000:]))
        for word in [words] if isinstance(words, str) else words:
            check(word in done.stderr, "%s: %r is not in what it said: %s" % (arguments, word, done.stderr[-2000:]))
        return done

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


def processor_seconds(pid):
    """What a process has taken since its beginning, all threads."""
    with open("/proc/%d/stat" % pid) as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Worker:
    """
    A worker process; its output goes to a file that a failed test shows. Without a supervisor, so that what a test kills,
    stops and waits for is the worker itself; with `supervised` as a user runs it: `process` is the supervisor then.
    """

    count = 0

    def __init__(self, log, *modules, data=None, environment=None, arguments=(), supervised=False, wrap=(), uri=None):
        """`wrap`: a program, with its arguments, that becomes the worker; `uri`: the log as that one sees it."""
        Worker.count += 1
        log.workers.append(self)
        self.log_path = os.path.join(log.folder, "worker-%d.log" % Worker.count)
        self.data = data or os.path.join(log.folder, "data")
        command = [*wrap, PERDURE, "worker", "--data", self.data, *([] if supervised else ["--no-supervisor"]), *arguments]
        for name in modules:
            command += ["--module", name if "/" in name else module(name)]
        self.output = open(self.log_path, "w")
        self.process = subprocess.Popen(command, env=dict(os.environ, PERDURE_LOG=uri or log.uri, **(environment or {})),
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

    def wait_ended(self, code, text, seconds=60):
        """It must end by itself, with this code, having said this."""
        try:
            got = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            fail("the worker runs:\n" + self.text())
        self.output.close()
        check(got == code, "the worker ended with %d, not %d:\n%s" % (got, code, self.text()))
        check(text in self.text(), "%r is not in what the worker said:\n%s" % (text, self.text()))

    def child(self, other_than=None, seconds=60):
        """Process id of the supervisor's child; of the next one, if told which it was."""
        def running():
            path = "/proc/%d/task/%d/children" % (self.process.pid, self.process.pid)
            try:
                with open(path) as file:
                    pids = [int(pid) for pid in file.read().split()]
            except FileNotFoundError:
                pids = []
            return [pid for pid in pids if pid != other_than]
        return wait_until("the supervisor has a child", running, seconds, pause=0.002)[0]

    def send(self, number):
        self.process.send_signal(number)

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.output.close()

    def stop(self, seconds=60):
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


Effect = collections.namedtuple("Effect", "key job pid time text")


def effects(path):
    """What the steps of the module `chores` wrote into their ledger."""
    if not os.path.exists(path):
        return []
    with open(path) as file:
        lines = file.read().split("\n")[:-1]
    return [Effect(key, job, int(pid), int(time), text)
            for key, job, pid, time, text in (line.split(" ", 4) for line in lines)]
