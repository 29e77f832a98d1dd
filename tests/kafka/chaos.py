"""
Chaos: three brokers, four workers, clients, thousands of jobs with steps (some remote), timers, signals and children. For
two minutes (PERDURE_SOAK=1: ten) workers, brokers, clients and the network are killed, stopped, restarted, cut off; then everything
heals, every job must end, and the whole log is judged against what the clients were told and what the steps did
(chaos_check.py). Settings: PERDURE_CHAOS_SEED, PERDURE_CHAOS_SECONDS, PERDURE_CHAOS_RATE (jobs a second).

With --grow the namespace begins with 4 partitions and grows to 8 in the middle of it.

The judge is put to the test too: it must find each of several faults that are made in copies of what the run left.
"""
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time

import chaos_check
import chaos_clients
import chaos_faults
import chaos_net
import chaos_steps
from harness import BUILD, Cluster, Log, Worker, check, wait_until

SOAK = bool(os.environ.get("PERDURE_SOAK"))
SECONDS = float(os.environ.get("PERDURE_CHAOS_SECONDS") or (600 if SOAK else 120))
RATE = float(os.environ.get("PERDURE_CHAOS_RATE") or 12)
SEED = int(os.environ.get("PERDURE_CHAOS_SEED") or random.SystemRandom().randrange(1 << 31))
BROKERS = 3
WORKERS = 4
GROW = "--grow" in sys.argv[1:]
PARTITIONS, GROWN = (4, 8) if GROW else (16, 16)
STANDBY = "w2" # it follows partitions of others too
SESSION = 6  # seconds: the least that brokers allow


def say(*words):
    print(time.strftime("%H:%M:%S"), *words, flush=True)


class Fleet:
    """The workers by name; what is done to them is written down."""

    def __init__(self, log, folder, net, brokers_inside):
        self.log, self.folder, self.net = log, folder, net
        self.inside = "w%d" % WORKERS if net else None
        self.brokers_inside = brokers_inside
        self.workers = {}
        self.lock = threading.Lock()
        self.timeline = open(os.path.join(folder, "timeline"), "a")
        self.problems = []

    def note(self, kind, target, ms):
        """It began at `ms`, and is over now."""
        with self.lock:
            entry = {"kind": kind, "target": target, "ms": ms, "until": int(time.time() * 1000)}
            print(json.dumps(entry), file=self.timeline, flush=True)
        say("%s %s (%.1f s)" % (kind, target, (entry["until"] - ms) / 1000))

    def begin(self, name):
        environment = {"PERDURE_EFFECT_LEDGER": os.path.join(self.folder, "ledger"), "PERDURE_CHAOS_WORKER": name}
        uri, wrap = self.log.uri, []
        if name == self.inside:
            wrap, uri = self.net.command(), uri.replace(self.log.brokers, self.brokers_inside)
        # The judge wants the whole journal: nothing is cut off.
        arguments = ["--name", name, "--session-timeout", "%ds" % SESSION, "--retention", "off"]
        if name == STANDBY:
            arguments += ["--standby", "1"]
        self.workers[name] = Worker(self.log, "chaos", data=os.path.join(self.log.folder, name), arguments=arguments,
                                    environment=environment, wrap=wrap, uri=uri, supervised=True)

    def send(self, name, number):
        """To the process that runs jobs, and to its supervisor."""
        worker = self.workers[name]
        for pid in (worker.child(), worker.process.pid):
            os.kill(pid, number)

    def crash(self, name):
        """The supervisor has it back."""
        worker = self.workers[name]
        child = worker.child()
        os.kill(child, signal.SIGKILL)
        worker.child(other_than=child)

    def watch(self, name):
        """A worker that ended by itself is a fault; another is begun, so that the rest can be seen."""
        worker = self.workers[name]
        code = worker.process.poll()
        if code is None:
            return
        if code == 5 and not worker.text().count("is ours"):
            self.begin(name) # begun while brokers were gone or it was cut off: no log, no worker; a service manager tries again
            return
        self.problems.append("%s ended by itself with %d:\n%s" % (name, code, worker.text()[-3000:]))
        say("%s ended by itself with %d" % (name, code))
        self.begin(name)

    def crashes(self):
        """What supervisors tell of workers that nobody killed."""
        for name in sorted(os.listdir(self.log.folder)):
            if name.startswith("worker-"):
                with open(os.path.join(self.log.folder, name)) as file:
                    for line in file:
                        if "crashed the worker" in line or "please report this" in line:
                            self.problems.append("%s: %s" % (name, line.strip()))

    def stop(self, name):
        worker = self.workers.pop(name)
        code = worker.stop(60)
        # SIGTERM came before the program, or its child, could do anything.
        early = code == 128 + signal.SIGTERM or (code == -signal.SIGTERM and not worker.text())
        if code != 0 and not early:
            self.problems.append("%s failed on SIGTERM with %d:\n%s" % (name, code, worker.text()[-3000:]))


class Chaos:
    """Three loops beside each other: what is done to workers, to brokers, and to the rest."""

    def __init__(self, cluster, fleet, clients, steps):
        self.cluster, self.fleet, self.clients, self.steps = cluster, fleet, clients, steps
        self.until = time.time() + SECONDS
        self.problems = fleet.problems
        self.added = 0
        loops = [self.workers_loop, self.brokers_loop, self.others_loop] + ([self.grow_loop] if GROW else [])
        self.threads = [threading.Thread(target=self.guard, args=(loop,), daemon=True) for loop in loops]
        for thread in self.threads:
            thread.start()

    def guard(self, loop):
        try:
            loop(random.Random("%s %d" % (loop.__name__, SEED)))
        except (Exception, SystemExit) as error:
            self.problems.append("%s: %r" % (loop.__name__, error))

    def wait(self):
        for thread in self.threads:
            thread.join()

    def sleep(self, seconds):
        """Not beyond the end."""
        time.sleep(max(0, min(seconds, self.until - time.time())))

    # ---- workers ------------------------------------------------------------------------------------------------

    def workers_loop(self, chance):
        ways = [self.crash, self.crash, self.kill, self.kill_and_wait, self.pause, self.pause_briefly,
                self.restart, self.stop_and_wait]
        while time.time() < self.until:
            self.sleep(0.5 + chance.random() * 3)
            name = "w%d" % chance.randrange(1, WORKERS + 1)
            self.fleet.watch(name)
            chance.choice(ways)(name, chance)

    def crash(self, name, chance):
        ms = int(time.time() * 1000)
        self.fleet.crash(name)
        self.fleet.note("workers killed, back by their supervisor", name, ms)

    def kill(self, name, chance):
        ms = int(time.time() * 1000)
        self.fleet.workers[name].kill()
        self.fleet.begin(name)
        self.fleet.note("workers killed with their supervisor", name, ms)

    def kill_and_wait(self, name, chance):
        """Its partitions move, or do just not."""
        ms = int(time.time() * 1000)
        self.fleet.workers[name].kill()
        self.sleep(chance.random() * 1.6 * SESSION)
        self.fleet.begin(name)
        self.fleet.note("workers killed for a while", name, ms)

    def pause(self, name, chance):
        ms = int(time.time() * 1000)
        self.fleet.send(name, signal.SIGSTOP)
        self.sleep(SESSION + 0.5 + chance.random() * 4)
        self.fleet.send(name, signal.SIGCONT)
        self.fleet.note("workers stopped beyond their session", name, ms)

    def pause_briefly(self, name, chance):
        ms = int(time.time() * 1000)
        self.fleet.send(name, signal.SIGSTOP)
        self.sleep(chance.random() * SESSION / 2)
        self.fleet.send(name, signal.SIGCONT)
        self.fleet.note("workers stopped within it", name, ms)

    def restart(self, name, chance):
        ms = int(time.time() * 1000)
        self.fleet.stop(name)
        self.fleet.begin(name)
        self.fleet.note("workers restarted with SIGTERM", name, ms)

    def stop_and_wait(self, name, chance):
        ms = int(time.time() * 1000)
        self.fleet.stop(name)
        self.sleep(chance.random() * 1.6 * SESSION)
        self.fleet.begin(name)
        self.fleet.note("workers ended with SIGTERM for a while", name, ms)

    # ---- brokers: one at a time, and none before all replicas are in sync again -----------------------------------

    def brokers_loop(self, chance):
        ways = [self.kill_broker, self.kill_broker, self.pause_broker, self.pause_broker, self.roll_brokers]
        while time.time() < self.until:
            self.wait_in_sync()
            self.sleep(1 + chance.random() * 5)
            if time.time() < self.until:
                chance.choice(ways)(str(chance.randrange(1, BROKERS + 1)), chance)
        self.wait_in_sync()

    def wait_in_sync(self):
        program = os.path.join(BUILD, "perdure-chaos-insync")
        wait_until("all replicas are in sync", lambda: subprocess.run(
            [program, self.cluster.brokers], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL).returncode == 0, seconds=180, pause=0.5)

    def kill_broker(self, broker, chance):
        ms = int(time.time() * 1000)
        self.cluster.run("kill", broker)
        self.sleep(chance.random() * 5)
        self.cluster.run("restart", broker)
        self.fleet.note("brokers killed", "broker " + broker, ms)

    def pause_broker(self, broker, chance):
        ms = int(time.time() * 1000)
        self.cluster.run("pause", broker)
        self.sleep(1 + chance.random() * 7)
        self.cluster.run("resume", broker)
        self.fleet.note("brokers stopped", "broker " + broker, ms)

    def roll_brokers(self, broker, chance):
        for number in range(1, BROKERS + 1):
            if time.time() > self.until:
                return
            ms = int(time.time() * 1000)
            self.cluster.run("stop", str(number))
            self.cluster.run("restart", str(number))
            self.fleet.note("brokers rolled", "broker %d" % number, ms)
            self.wait_in_sync()

    # ---- more partitions ------------------------------------------------------------------------------------------

    def grow_loop(self, chance):
        """Once, in the middle; what a harmed broker or worker interrupts is gone on with."""
        self.sleep(SECONDS * (0.3 + 0.2 * chance.random()))
        ms, said = int(time.time() * 1000), ""
        while time.time() < self.until + 180:
            done = self.clients.log.run("namespace", "grow", "--partitions", str(GROWN), "--timeout", "60s", timeout=300)
            if done.returncode == 0:
                self.fleet.note("namespace grown", "%d to %d partitions" % (PARTITIONS, GROWN), ms)
                return
            if done.stderr != said:
                said = done.stderr
                say("grow: exit %d %s" % (done.returncode, said.strip()))
            time.sleep(1)
        self.problems.append("the namespace did not grow: exit %d %s" % (done.returncode, done.stderr))

    # ---- the rest -------------------------------------------------------------------------------------------------

    def others_loop(self, chance):
        ways = [self.add_and_remove, self.add_and_remove, self.kill_client, self.kill_steps, self.restart_steps]
        if self.fleet.net:
            ways += [self.cut, self.cut]
        while time.time() < self.until:
            self.sleep(1 + chance.random() * 5)
            chance.choice(ways)(chance)

    def add_and_remove(self, chance):
        ms = int(time.time() * 1000)
        self.added += 1
        name = "x%d" % self.added
        self.fleet.begin(name)
        self.sleep(3 + chance.random() * 12)
        self.fleet.watch(name)
        if chance.random() < 0.5:
            self.fleet.stop(name)
        else:
            self.fleet.workers.pop(name).kill()
        self.fleet.note("workers added and removed", name, ms)

    def cut(self, chance):
        ms = int(time.time() * 1000)
        self.fleet.net.cut()
        self.sleep(1 + chance.random() * 2 * SESSION)
        self.fleet.net.heal()
        self.fleet.note("network cut off", self.fleet.inside, ms)

    def kill_client(self, chance):
        ms = int(time.time() * 1000)
        number = chance.randrange(len(self.clients.clients))
        self.clients.clients[number].kill()
        self.fleet.note("clients killed", "client %d" % number, ms)


    def kill_steps(self, chance):
        ms = int(time.time() * 1000)
        name = chance.choice(sorted(self.steps.processes))
        self.steps.watch(name)
        self.steps.kill(name)
        self.fleet.note("step workers killed", name, ms)

    def restart_steps(self, chance):
        ms = int(time.time() * 1000)
        name = chance.choice(sorted(self.steps.processes))
        self.steps.watch(name)
        self.steps.restart(name)
        self.fleet.note("step workers restarted with SIGTERM", name, ms)


# ---- the run ------------------------------------------------------------------------------------------------------------

def nothing_open(log):
    """No job that runs or waits, by the status records."""
    for state in ("running", "waiting", "quarantined", "diverged"):
        try:
            done = log.run("list", "--state", state, "--limit", "1", "--json")
        except subprocess.TimeoutExpired:  # of a starved machine
            return False
        if done.returncode != 0 or done.stdout.strip():
            return False
    return True


def wait_for_the_end(log, problems, seconds):
    until = time.time() + seconds
    while not nothing_open(log):
        if time.time() > until:
            problems.append("after %d s some jobs have not ended: %s" %
                            (seconds, log.run("list", "--state", "waiting", "--limit", "5").stdout))
            return
        time.sleep(0.5)


def save(log, folder, problems):
    program = os.path.join(BUILD, "perdure-verify")
    done = subprocess.run([program, "--log", log.uri, "--save", os.path.join(folder, "dump")], text=True, capture_output=True, timeout=600, stdin=subprocess.DEVNULL)
    if done.returncode not in (0, 1):
        problems.append("perdure-verify: exit %d: %s" % (done.returncode, done.stderr))
    print(done.stdout.strip().splitlines()[-1] if done.stdout.strip() else done.stderr)


def some_results(log, folder, problems):
    """What a client sees of some of the jobs."""
    with open(os.path.join(folder, "numbers")) as file:
        numbers = [int(line) for line in file]
    chosen = random.Random(SEED).sample(numbers, min(10, len(numbers)))
    expected = chaos_check.chaos_jobs.answers(chosen)
    for number in chosen:
        job = "plan-%d" % number
        done = log.run("result", job, "--wait", "30s", "--json", timeout=120)
        if done.returncode != 0 or json.loads(done.stdout)["result"] != expected[job]:
            problems.append("%s: a client sees %s%s, not %s" % (job, done.stdout, done.stderr, expected[job]))


def main():
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number)) # brokers and namespace go too
    net, why = chaos_net.make() if os.environ.get("PERDURE_KAFKA") else (None, "")
    os.environ["PERDURE_ALLOW_PLAINTEXT"] = "1" # the network namespace is another machine by its address
    # A broker that is often started needs its time for starting.
    os.environ.setdefault("PERDURE_JAVA_OPTIONS", "-Xmx512m -XX:TieredStopAtLevel=1")
    cluster = Cluster(BROKERS, also=net.address if net else None)
    log = Log("kafka", partitions=PARTITIONS, brokers=cluster.brokers, dev=False)
    folder = os.path.join(log.folder, "evidence")
    os.mkdir(folder)
    say("seed %d, %d s, evidence in %s" % (SEED, SECONDS, folder))
    if not net:
        say("skipped: no network is cut off: " + why)
    fleet = Fleet(log, folder, net, cluster.also)
    for i in range(1, WORKERS + 1):
        fleet.begin("w%d" % i)
    wait_until("a worker owns something", lambda: any("is ours" in w.text() for w in fleet.workers.values()))
    clients = chaos_clients.Clients(log, folder, SEED, RATE, grows=GROW)
    steps = chaos_steps.StepWorkers(log, folder, fleet.problems)
    chaos = Chaos(cluster, fleet, clients, steps)
    chaos.wait()
    say("everything heals; %d jobs were started" % clients.started)
    for name in list(fleet.workers):
        fleet.watch(name)
    healed = time.time()
    clients.finish(300)
    wait_for_the_end(log, chaos.problems, 300)
    say("all ended %.1f s later" % (time.time() - healed))
    some_results(log, folder, chaos.problems)
    for name in list(fleet.workers):
        fleet.watch(name)
        fleet.stop(name)
    steps.stop()
    fleet.crashes()
    fleet.timeline.close()
    save(log, folder, chaos.problems)
    cluster.remove()
    judge(folder, clients.problems + chaos.problems)
    if os.environ.get("PERDURE_CHAOS_KEEP"):
        say("kept:", log.folder)
    else:
        log.remove()


def judge(folder, problems):
    judge = chaos_check.Judge(folder)
    wrong = problems + judge.judge()
    for line in wrong[:50]:
        print("WRONG", line)
    for name, value in judge.table():
        print("%-40s %10s" % (name, value))
    check(not wrong, "%d things are wrong; evidence in %s, see docs/chaos.md" % (len(wrong), folder))
    check(len(judge.expected) >= SECONDS * RATE, "only %d jobs" % len(judge.expected))
    missed = chaos_faults.missed(folder)
    check(not missed, "the judge does not find: %s; in %s" % (", ".join(missed), folder))


if __name__ == "__main__":
    main()
