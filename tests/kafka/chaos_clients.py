"""Clients that start jobs and send them signals, and are killed too. What they were told is written into `acked`."""
import collections
import os
import random
import subprocess
import threading
import time

import chaos_jobs
import harness


class Client:
    """One process with many commands on the way. What is open when it dies is asked again, under the same names."""

    def __init__(self, clients, number):
        self.clients, self.number = clients, number
        self.lock = threading.Lock()
        self.open = {}  # request: line
        self.closing = False
        self.kills = self.restarts = 0
        self.begin()
        self.thread = threading.Thread(target=self.listen, daemon=True)
        self.thread.start()

    def begin(self):
        environment = dict(os.environ, PERDURE_LOG=self.clients.log.uri)
        program = os.path.join(harness.BUILD, "perdure-chaos-client")
        self.process = subprocess.Popen([program], env=environment, text=True, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=self.clients.errors)
        self.clients.log.workers.append(self)  # so that a failed test leaves no process behind

    def write(self, line):
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        except (BrokenPipeError, ValueError):
            pass  # it is dead: listen() begins another, which is told all that is open

    def send(self, request, line):
        with self.lock:
            self.open[request] = line
            self.write(line)

    def kill(self):
        with self.lock:
            self.kills += 1
            self.process.kill()

    def listen(self):
        while True:
            for line in self.process.stdout:
                self.take(line.rstrip("\n"))
            self.process.wait()
            with self.lock:
                if self.closing and not self.open:
                    return
                self.restarts += 1
                if self.restarts > self.kills + 20:
                    self.clients.problems.append("client %d ended %d times by itself" % (self.number, self.restarts))
                    return
                self.begin()
                for line in self.open.values():
                    self.write(line)

    def take(self, line):
        kind, request, *rest = line.split(" ", 2)
        with self.lock:
            command = self.open.get(request)
            if kind != "logged":
                self.open.pop(request, None)
        if not command or (kind == "logged" and self.clients.grows):
            return
        if kind == "refused":
            self.clients.problems.append("%s: %s" % (command, rest[0]))
        else:
            self.clients.told(command)

    def finish(self, until):
        """Waits until all is answered."""
        while time.time() < until and self.open:
            time.sleep(0.05)
        with self.lock:
            if self.open:
                self.clients.problems.append("client %d: never answered: %s" % (self.number, list(self.open)[:5]))
            self.closing = True
            try:
                self.process.stdin.close()
            except BrokenPipeError:
                pass
        self.thread.join(30)


class Clients:
    """Starts `rate` jobs a second, and sends each its signals a little later, from another process. `grows`: when its start was
    answered, not before: a signal by the new map may overtake a start that is on its way by the old one (rule 25)."""

    def __init__(self, log, folder, seed, rate, count=3, grows=False):
        self.log, self.rate, self.grows = log, rate, grows
        self.random = random.Random("clients %d" % seed)
        self.errors = open(os.path.join(folder, "clients.log"), "a")
        self.acked = open(os.path.join(folder, "acked"), "a")
        self.numbers = open(os.path.join(folder, "numbers"), "a")
        self.problems = []
        self.lock = threading.Lock()
        self.written = set()
        self.due = []          # (time, request, line) of signals
        self.waiting = collections.deque()
        self.started = 0
        self.stopping = False
        self.clients = [Client(self, i) for i in range(count)]
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def told(self, command):
        """Acknowledged: `start REQUEST JOB TYPE INPUT`, `signal REQUEST JOB NAME PAYLOAD`."""
        kind, request, job, _, _ = command.split(" ")
        with self.lock:
            if request in self.written:
                return
            self.written.add(request)
            print(kind, request, job, file=self.acked, flush=True)
            if kind == "start":
                self.waiting.append(int(job.split("-")[1]))

    def any(self):
        return self.clients[self.random.randrange(len(self.clients))]

    def start(self, number):
        print(number, file=self.numbers, flush=True)
        request, job = "start-plan-%d" % number, "plan-%d" % number
        self.any().send(request, "start %s %s plan %d" % (request, job, number))

    def plan_signals(self):
        while self.waiting:
            number = self.waiting.popleft()
            for i in range(chaos_jobs.NOTES):
                request, job = "note-%d-plan-%d" % (i, number), "plan-%d" % number
                line = "signal %s %s note %d" % (request, job, chaos_jobs.note(number, i))
                self.due.append((time.time() + self.random.random() * 6, request, line))

    def send_signals(self, until):
        later = []
        for when, request, line in self.due:
            if when <= until:
                self.any().send(request, line)
            else:
                later.append((when, request, line))
        self.due = later

    def run(self):
        begun = time.time()
        while not self.stopping:
            while self.started < (time.time() - begun) * self.rate and not self.stopping:
                self.started += 1
                self.start(self.started)
            self.plan_signals()
            self.send_signals(time.time())
            time.sleep(0.02)

    def finish(self, seconds):
        """No new jobs; waits until all is acknowledged."""
        until = time.time() + seconds
        self.stopping = True
        self.thread.join()
        wanted = self.started * (1 + chaos_jobs.NOTES)
        while len(self.written) < wanted and time.time() < until and not self.problems:
            self.plan_signals()
            self.send_signals(time.time() + 3600)
            time.sleep(0.05)
        for client in self.clients:
            client.finish(until)
        if len(self.written) < wanted:
            self.problems.append("%d of %d commands are acknowledged" % (len(self.written), wanted))
        self.acked.close()
        self.numbers.close()
