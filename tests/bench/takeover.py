"""
Takeovers, timed from outside: by the effects of steps, as their ledger has them; what reading costs, from the workers' own
reports. Not a test: run by hand, on a machine with nothing else to do. Environment, load and floors stand beside the figures.

    PERDURE_KAFKA=HOST:PORT PERDURE_BUILD=BUILD PERDURE_SOURCE=. python3 tests/bench/takeover.py [SCENARIO...]

Scenarios: restart (kill -9 of the supervised worker), restart-sqlite, planned (a second worker joins), cold (kill -9 of one of
two), warm (the same, with --standby), journal=MB (one partition with so many MB of journal, read by a worker without a store,
with it, and by a standby), events=N (the same with so many small steps).
"""
import ctypes
import os
import re
import signal
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
from harness import PERDURE, Log, Worker, check, wait_until

PARTITIONS = 8
JOBS = 32
STEP_MS = 5
SESSION_S = 6
RUNS = int(os.environ.get("RUNS", "5"))


class Scene:
    def __init__(self, name, partitions=PARTITIONS, kind="kafka"):
        self.log = Log(kind, partitions=partitions)
        self.ledger = os.path.join(self.log.folder, "ledger")
        self.count = 0
        self.jobs = ["job-%d" % i for i in range(JOBS)]

    def worker(self, *arguments, supervised=False):
        self.count += 1
        return Worker(self.log, "chores", data=os.path.join(self.log.folder, "worker-%d" % self.count), supervised=supervised,
                      environment={"PERDURE_EFFECT_LEDGER": self.ledger, "PERDURE_STEP_DELAY_MS": str(STEP_MS)},
                      arguments=(*(("--session-timeout", "%ds" % SESSION_S) if self.log.kind == "kafka" else ()), *arguments))

    def begin(self):
        self.log.start_all("chain", {job: "100000" for job in self.jobs})
        self.busy(self.jobs)

    def busy(self, jobs, seconds=60):
        def all_move():
            now = time.time() * 1000
            return jobs <= {effect.job for effect in self.tail() if effect.time > now - 1000}
        jobs = set(jobs)
        wait_until("all jobs move", all_move, seconds)

    def tail(self):
        """The newest effects: the ledger grows fast."""
        with open(self.ledger, "rb") as file:
            file.seek(max(0, os.path.getsize(self.ledger) - 4000000))
            lines = file.read().decode().split("\n")[1:-1]
        class Effect:
            pass
        found = []
        for line in lines:
            effect = Effect()
            effect.key, effect.job, pid, when, effect.text = line.split(" ", 4)
            effect.pid, effect.time = int(pid), int(when)
            found.append(effect)
        return found

    def owners(self):
        return {effect.job: effect.pid for effect in self.tail()}

    def gaps(self, jobs, since):
        """Of each job, the longest time without an effect."""
        gaps = {}
        for job in jobs:
            times = sorted(effect.time for effect in self.tail() if effect.job == job and effect.time >= since)
            gaps[job] = max([b - a for a, b in zip(times, times[1:])] or [0])
        return gaps

    def end(self):
        for worker in self.log.workers:
            if worker.process.poll() is None:
                worker.kill()
        self.log.remove()


def show(name, values, unit="ms"):
    values = sorted(values)
    print("%-28s p50 %6.0f   max %6.0f %s   (%d, load %s)" % (name, statistics.median(values), values[-1], unit, len(values),
                                                          load()), flush=True)


def load():
    """Runnable threads in the last minute: with more than there are cores, figures are of the machine, not of this."""
    return "%.1f" % os.getloadavg()[0]


RDKAFKA = ctypes.CDLL("librdkafka.so.1")


def environment():
    with open("/proc/cpuinfo") as file:
        model = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), "?")
    RDKAFKA.rd_kafka_version_str.restype = ctypes.c_char_p
    print("environment: %d x %s, Linux %s, librdkafka %s, session timeout %d s, load %s" %
          (os.cpu_count(), model, os.uname().release, RDKAFKA.rd_kafka_version_str().decode(), SESSION_S, load()))
    times = []
    for _ in range(20):
        begun = time.time()
        subprocess.run([PERDURE, "--version"], stdout=subprocess.DEVNULL)
        times.append((time.time() - begun) * 1000)
    show("floor: a process that starts", times)


class Message(ctypes.Structure):
    _fields_ = [("err", ctypes.c_int), ("rkt", ctypes.c_void_p), ("partition", ctypes.c_int32), ("payload", ctypes.c_void_p),
                ("len", ctypes.c_size_t), ("key", ctypes.c_void_p), ("key_len", ctypes.c_size_t), ("offset", ctypes.c_int64)]


def floor_read(log, partition=0):
    """Seconds, messages and bytes of the same journal, read by librdkafka and looked at by nobody."""
    lib, error = RDKAFKA, ctypes.create_string_buffer(256)
    for name in ("rd_kafka_conf_new", "rd_kafka_new", "rd_kafka_topic_new"):
        getattr(lib, name).restype = ctypes.c_void_p
    lib.rd_kafka_consume_batch.restype = ctypes.c_ssize_t
    conf = ctypes.c_void_p(lib.rd_kafka_conf_new())
    address, namespace = log.uri[len("kafka://"):].split("/")
    for name, value in {"bootstrap.servers": address, "check.crcs": "true", "fetch.wait.max.ms": "20",
                        "enable.partition.eof": "true", "queued.max.messages.kbytes": "4096"}.items():
        lib.rd_kafka_conf_set(conf, name.encode(), value.encode(), error, ctypes.c_size_t(256))
    client = ctypes.c_void_p(lib.rd_kafka_new(1, conf, error, ctypes.c_size_t(256)))
    topic = ctypes.c_void_p(lib.rd_kafka_topic_new(client, (namespace + ".journal").encode(), None))
    begun, count, size, ended = None, 0, 0, False
    lib.rd_kafka_consume_start(topic, ctypes.c_int32(partition), ctypes.c_int64(-2))
    batch = (ctypes.POINTER(Message) * 1000)()
    while not ended:
        got = lib.rd_kafka_consume_batch(topic, ctypes.c_int32(partition), 100, batch, ctypes.c_size_t(1000))
        begun = begun or (time.time() if got > 0 else None) # connecting is not reading
        for i in range(got):
            ended = ended or batch[i].contents.err == -191 # the end of the partition
            count, size = count + 1, size + (0 if batch[i].contents.err else batch[i].contents.len)
            lib.rd_kafka_message_destroy(batch[i])
    took = time.time() - begun
    lib.rd_kafka_consume_stop(topic, ctypes.c_int32(partition))
    return took, count - 1, size


def reports(worker):
    return [line for line in worker.text().splitlines() if "taken over" in line]


def restart(kind="kafka"):
    scene = Scene("restart", kind=kind)
    worker = scene.worker(supervised=True)
    wait_until("it owns all", lambda: worker.text().count("is ours") >= (PARTITIONS if kind == "kafka" else 1))
    scene.begin()
    first, last = [], []
    for _ in range(RUNS):
        child = worker.child()
        time.sleep(3) # else it is a crash in a row
        killed = time.time() * 1000
        os.kill(child, signal.SIGKILL)
        begun = {}
        def all_begun():
            begun.clear()
            for effect in scene.tail():
                if effect.time >= killed and effect.pid != child:
                    begun.setdefault(effect.job, effect.time)
            return len(begun) == JOBS
        wait_until("all jobs go on", all_begun)
        first.append(min(begun.values()) - killed)
        last.append(max(begun.values()) - killed)
    show("restart, %s: first job" % kind, first)
    show("restart, %s: last job" % kind, last)
    print(reports(worker)[-1])
    scene.end()


def planned():
    moved, stayed = [], []
    for _ in range(RUNS):
        scene = Scene("planned")
        one = scene.worker()
        wait_until("it owns all", lambda: one.text().count("is ours") >= PARTITIONS)
        scene.begin()
        since = time.time() * 1000
        two = scene.worker()
        wait_until("the other owns half", lambda: two.text().count("taken over") >= PARTITIONS // 2)
        scene.busy(scene.jobs)
        time.sleep(1)
        owners = scene.owners()
        gaps = scene.gaps(scene.jobs, since - 200)
        moved += [gaps[job] for job in scene.jobs if owners[job] == two.process.pid]
        stayed += [gaps[job] for job in scene.jobs if owners[job] == one.process.pid]
        line = reports(two)[-1]
        scene.end()
    show("planned: jobs that moved", moved)
    show("planned: jobs that stayed", stayed)
    print(line)


def unplanned(name, *arguments):
    took = []
    for _ in range(RUNS):
        scene = Scene(name)
        one, two = scene.worker(*arguments), scene.worker(*arguments)
        wait_until("both own some", lambda: one.text().count("is ours") and two.text().count("is ours"))
        scene.begin()
        time.sleep(4)
        scene.busy(scene.jobs)
        owners = scene.owners()
        lost = [job for job in scene.jobs if owners[job] == one.process.pid]
        count = len(reports(two))
        killed = time.time() * 1000
        one.kill()
        wait_until("the other has them", lambda: len(reports(two)) > count, seconds=60)
        begun = {}
        def all_begun():
            begun.clear()
            for effect in scene.tail():
                if effect.time >= killed and effect.pid == two.process.pid and effect.job in lost:
                    begun.setdefault(effect.job, effect.time)
            return len(begun) == len(lost)
        wait_until("all jobs go on", all_begun)
        took += [begun[job] - killed - SESSION_S * 1000 for job in lost]
        line = reports(two)[-1]
        scene.end()
    show(name + ": beyond the session", took)
    print(line)


def told(worker, text):
    """The figures of a report, and what they come to."""
    line = reports(worker)[-1]
    numbers = re.search(r"read (\d+) records, (\d+) bytes.* in ([\d.]+) ms, waited ([\d.]+) ms, claimed in ([\d.]+) ms, "
                        r"(?:first progress ([\d.]+))?", line).groups()
    records, size, read, waited, claimed, progress = [float(number or 0) for number in numbers]
    print("%-28s %8.0f ms to the first progress: %.0f records, %.1f MB read in %.0f ms (%.0f MB/s, %.0f records/s), waited %.0f, "
          "claimed in %.0f, then %.0f (load %s)" % (text, read + waited + claimed + progress, records, size / 1e6, read,
          size / 1e3 / max(read, 0.001), records * 1e3 / max(read, 0.001), waited, claimed, progress, load()), flush=True)


def takes_over(scene, text, *arguments, data=None):
    worker = scene.worker("--retention", "off", *arguments)
    worker.wait_for("taken over", seconds=600)
    told(worker, text)
    return worker


def journal(name, fill):
    """One partition; the one who wrote it dies; one with no store takes over, then with it, then a standby."""
    scene = Scene("journal", partitions=1)
    one = scene.worker("--retention", "off")
    one.wait_for("is ours")
    fill(scene)
    scene.log.start("chain", "job-0", "1000000")
    scene.busy(["job-0"])
    one.kill()
    for _ in range(3):
        took, count, size = floor_read(scene.log)
        print("%-28s %8.0f ms: %d records, %.1f MB (%.0f MB/s, %.0f records/s; load %s)" % (name + ": floor, raw reading",
              took * 1000, count, size / 1e6, size / 1e6 / took, count / took, load()), flush=True)
    two = takes_over(scene, name + ": no store")
    time.sleep(5)
    two.kill()
    scene.count -= 1 # the same directory
    again = takes_over(scene, name + ": its own store")
    spare = scene.worker("--retention", "off", "--standby", "1")
    spare.wait_for("is followed up to its end", seconds=600)
    time.sleep(2)
    again.kill()
    spare.wait_for("taken over", seconds=600)
    told(spare, name + ": standby")
    scene.end()


def have_ended(scene, jobs):
    """Of many, asked for together: this may take long."""
    def ended():
        done = scene.log.run("list", "--state", "completed", "--limit", "1000", "--json")
        return set(jobs) <= set(re.findall(r'"id": ?"([^"]+)"', done.stdout))
    wait_until("the journal is written", ended, seconds=3600, pause=1)


def large(megabytes):
    def fill(scene):
        jobs = ["haul-%d" % i for i in range(40)]
        steps = megabytes * 1000000 // 50000 // len(jobs)
        ends = jobs[4:]
        scene.log.start_all("haul", {job: "%d 50000" % steps + ("" if job in ends else " open") for job in jobs})
        have_ended(scene, ends)
    journal("journal of %d MB" % megabytes, fill)


def small(events):
    def fill(scene):
        jobs = ["haul-%d" % i for i in range(40)]
        scene.log.start_all("haul", {job: "%d 20" % (events // len(jobs)) for job in jobs})
        have_ended(scene, jobs)
    journal("%d events" % events, fill)


def main():
    environment()
    for name in sys.argv[1:] or ["restart-sqlite", "restart", "planned", "cold", "warm"]:
        if name == "restart":
            restart()
        elif name == "restart-sqlite":
            restart("sqlite")
        elif name == "planned":
            planned()
        elif name == "cold":
            unplanned("cold")
        elif name == "warm":
            unplanned("warm", "--standby", str(PARTITIONS))
        elif name.startswith("journal="):
            large(int(name.split("=")[1]))
        elif name.startswith("events="):
            small(int(name.split("=")[1]))
        else:
            check(False, "there is no scenario " + name)


main()
