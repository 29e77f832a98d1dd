"""The Python step worker against its contract: tasks in, reports out; no owner is there."""
import os
import time

from harness import Log, check
from step_workers import Owner, StepWorker, check_grown, marks, wire


def check_reports(owner):
    """Each field of the wire that an owner looks at."""
    key = owner.put("upper", "abc", inbox_partition=0)
    done = owner.wait(key, "end")
    check(done.completed == wire.Payload(type="text", data=b"ABC"), "the result is %s" % done)
    begun = owner.wait(key, "started")
    check(begun.HasField("begun") and begun.started > 0 and begun.worker.startswith("steps-"), "started: %s" % begun)
    for record in owner.of(key, ""):
        header, report = record.header, record.command.task_report
        check((header.format, header.rule_level, header.min_reader, header.kind) == (1, 1, 1, 16), "header: %s" % header)
        check((header.log, header.slot, header.map_version) == (owner.log_id, 7, 1), "header: %s" % header)
        check(header.job == "job %d" % owner.count and header.run == 1000 + owner.count, "header: %s" % header)
        check(abs(header.born - wire.now_ms()) < 60000 and header.life == 0, "header: %s" % header)
        check((report.token, report.op, report.attempt, report.dispatch) == ("token%d" % owner.count, owner.count, 1, 1),
              "report: %s" % report)
    print("reports: as the contract says")


def check_payloads(owner):
    cases = [("double", {"a": 21}, dict, wire.Payload(type="json", data=b'{"a": 42}')),
             ("reverse", b"\0abc", bytes, wire.Payload(type="bytes", data=b"cba\0")),
             ("message", wire.Error(type="x", code=1), wire.Error, wire.payload_of(wire.Error(type="x", code=2), wire.Error))]
    for name, value, kind, wanted in cases:
        got = owner.wait(owner.put(name, value, kind), "end")
        check(got.completed == wanted, "%s: %s" % (name, got))
    print("payloads: text, JSON, bytes, messages")


def check_failures(owner):
    cases = [("fail", "again", str, "RuntimeError", "try again", False), ("fail", "final", str, "NoUse", "never again", True),
             ("upper", b"abc", bytes, "BadPayload", "the input is bytes, not text", True),
             ("large", None, None, "TooLarge", "1000000 bytes", True), ("wrong", None, None, "BadPayload", "", True)]
    for name, value, kind, error, words, final in cases:
        got = owner.wait(owner.put(name, value, kind), "end").failed
        check((got.type, got.final) == (error, final) and words in got.message and got.code == -1, "%s: %s" % (name, got))
    unknown = owner.put("nowhere", "x")
    check("no step courier/nowhere" in owner.wait(unknown, "declined").declined.reason, "an unknown step")
    check(not owner.of(unknown, "started"), "an unknown step was begun")
    print("failures: again, final, bad payloads, too large; an unknown step is declined")


def check_strange_tasks(owner, ledger):
    """Bytes that are no task, one that is too late, one that comes twice."""
    owner.put_bytes(b"no record")
    record = wire.Record()
    record.header.kind = wire.KIND_COMMAND
    owner.put_bytes(wire.encode(record))
    damaged = bytearray(wire.encode(record))
    damaged[-1] ^= 1
    owner.put_bytes(bytes(damaged))
    late = owner.put("upper", "late", start_by=wire.now_ms() - 1000)
    twice = [owner.put("slow", "0.5", idempotency_key="twice"), owner.put("slow", "0.5", idempotency_key="twice")]
    owner.wait(twice[0], "end")
    last = owner.put("upper", "last")
    owner.wait(last, "end")
    check(not owner.of(late, ""), "a task whose time is over was reported on")
    check(len([mark for mark in marks(ledger, "begin") if mark[0] == "twice"]) == 1, "a task that came twice was run twice")
    check(len(owner.of(twice[0], "end")) == 1, "it was reported twice")
    print("strange tasks: passed over, dropped, run once")


def check_beats(owner):
    key = owner.put("slow", "30", heartbeat_ms=900)
    quiet = owner.put("slow", "30")
    owner.wait(key, "beat/3")
    with_detail = [record for record in owner.of(key, "beat") if record.command.task_report.heartbeat.HasField("detail")]
    check(with_detail and b"left" in with_detail[0].command.task_report.heartbeat.detail.data, "no detail")
    begun = owner.of(key, "started")[0]
    seconds = time.time() - begun.command.task_report.started / 1000
    check(len(owner.of(key, "beat")) <= 2 + seconds / 0.3 * 2, "%d heartbeats in %.1f s" % (len(owner.of(key, "beat")), seconds))
    owner.wait(quiet, "started")
    owner.stop(owner.of(key, "beat")[-1])
    owner.stopped(key)
    other = owner.put("slow", "30")
    owner.wait(other, "started")
    owner.stop(owner.of(quiet, "started")[0])
    owner.stopped(quiet)
    owner.stop(owner.of(other, "started")[0])
    print("heartbeats with detail; a stop reaches what runs")


def busiest(ledger, keys):
    """The most of these executions at the same time."""
    steps = [(mark[3], 1) for mark in marks(ledger, "begin") if mark[0] in keys]
    steps += [(mark[3], -1) for mark in marks(ledger, "end") if mark[0] in keys]
    now = most = 0
    for _, step in sorted(steps):
        now += step
        most = max(most, now)
    return most


def check_slots(owner, ledger):
    keys = [owner.put("slow", "0.3", lane=i % 2) for i in range(6)]
    for key in keys:
        owner.wait(key, "end")
    most = busiest(ledger, {key.rsplit("-", 2)[0] for key in keys})
    check(most == 2, "%d at the same time with 2 slots" % most)
    print("slots: never more than 2 at the same time")


def check_full(owner):
    """Both slots are taken for long: what comes after is given back, in every lane, and begun nowhere."""
    slow = [owner.put("slow", "60") for _ in range(2)]
    for key in slow:
        owner.wait(key, "started")
    others = [owner.put("upper", "x", lane=lane) for lane in range(4)]
    for key in others:
        check(owner.wait(key, "declined").declined.reason == "no free slot", "why it was declined")
        check(not owner.of(key, "started") and not owner.of(key, "end"), "declined, and begun too")
    for key in slow:
        owner.stop(owner.of(key, "started")[0])
    owner.stopped(slow[0])
    print("full: what finds no slot goes to others")


def check_shutdown(log, owner, ledger):
    """SIGTERM: what is not begun is given back at once, what runs ends; nothing is left for the next worker."""
    worker = StepWorker(log, "gone", "--slots", "1", "--hold", "60", environment={"PERDURE_EFFECT_LEDGER": ledger})
    owner.queue = "gone"
    running = owner.put("slow", "2")
    owner.wait(running, "started")
    held = [owner.put("upper", "x") for _ in range(3)]
    time.sleep(0.5)
    worker.stop()
    for key in held:
        check(owner.wait(key, "declined").declined.reason == "shutting down", "why it was declined")
    check(owner.wait(running, "end").completed.data == b"slept", "what ran did not end")
    stuck = StepWorker(log, "gone", "--slots", "1", "--drain", "0.5")
    running = owner.put("slow", "60")
    owner.wait(running, "started")
    stuck.stop()
    check(owner.wait(running, "end").failed.type == "Shutdown", "what did not end in time")
    check(not owner.of(running, "end")[0].command.task_report.failed.final, "it must be tried again")
    print("shutdown: declined, ended, or given back as failed")


def check_killed(log, owner, ledger):
    """kill -9: what was begun is its owner's to find out; what was only taken goes to another worker."""
    owner.queue = "killed"
    first = StepWorker(log, "killed", "--slots", "1", "--hold", "600", environment={"PERDURE_EFFECT_LEDGER": ledger})
    running = owner.put("slow", "600")
    owner.wait(running, "started")
    held = [owner.put("upper", "x") for _ in range(3)]
    time.sleep(2)  # offsets are committed every second
    first.kill()
    second = StepWorker(log, "killed", "--slots", "2", environment={"PERDURE_EFFECT_LEDGER": ledger})
    for key in held:
        owner.wait(key, "end")
    check(len([mark for mark in marks(ledger, "begin") if mark[0] == running.rsplit("-", 2)[0]]) == 1,
          "what was begun was begun again by itself")
    second.stop()
    print("killed: nothing taken is lost, nothing begun is begun again")


def check_rate(log, owner):
    owner.queue = "rated"
    worker = StepWorker(log, "rated", "--slots", "8", "--rate", "5", "--hold", "60")
    keys = [owner.put("upper", "x") for _ in range(11)]
    for key in keys:
        owner.wait(key, "end")
    begun = sorted(owner.wait(key, "started").started for key in keys)
    check(begun[-1] - begun[0] >= 1900, "11 begun in %d ms, at 5 a second" % (begun[-1] - begun[0]))
    worker.stop()
    print("rate: 11 begun in %d ms at 5 a second" % (begun[-1] - begun[0]))


def check_minimal(log, owner):
    """The program that the contract points at keeps it."""
    owner.queue = "least"
    worker = StepWorker(log, "least", program="minimal_worker.py")
    check_reports(owner)
    check_payloads(owner)
    check_failures(owner)
    key = owner.put("slow", "60", heartbeat_ms=600)
    owner.wait(key, "beat/2")
    owner.stop(owner.of(key, "beat")[0])
    time.sleep(2)  # until then it declines
    owner.stopped(key)
    worker.stop()
    print("the minimal worker: the same")


def check_bad_calls(log):
    for code, arguments, words in ((2, ["--slots", "0"], "--slots"), (2, ["--log", "kafka://127.0.0.1"], "no address of a log"),
                                   (3, ["--log", log.uri + "x"], "there is no namespace"),
                                   (2, ["--log", "kafka://192.0.2.1:9092/shop"], "is on another machine"),
                                   (2, ["--module", "nope.py"], "there is no file nope.py"),
                                   (2, ["--module", "nope"], "there is no module nope"),
                                   (2, ["--queue", "py thon"], "no name of a queue"),
                                   (2, ["--rate", "0"], "--rate"), (2, ["--hold", "nan"], "--hold"),
                                   (2, ["--kafka-config", "nope.properties"], "nope.properties"),
                                   (2, ["--log", log.uri + "?linger.mss=1"], "linger.mss")):
        worker = StepWorker(log, "q", *arguments, wait=False)
        worker.process.wait(60)
        check(worker.process.returncode == code and words in worker.text() and len(worker.text().splitlines()) == 1,
              "%s: exit %d: %s" % (arguments, worker.process.returncode, worker.text()))
    begun = time.time()
    worker = StepWorker(log, "q", "--log", "kafka://127.0.0.1:1/shop", wait=False)
    worker.process.wait(60)
    lines = worker.text().splitlines()
    check(worker.process.returncode == 5 and "no Kafka broker at 127.0.0.1:1 answered" in lines[-1], "no broker: " + worker.text())
    check(len(lines) <= 4 and "%3|" not in worker.text() and time.time() - begun < 28, "no broker: " + worker.text())
    least = StepWorker(log, "py thon", wait=False, program="minimal_worker.py")
    check(least.process.wait(60) == 2 and "no name of a queue" in least.text(), "the minimal worker: " + least.text())
    print("bad calls: said clearly")


class Undelivered:
    """A producer whose first report times out, as after five minutes without its partition's leader, and whose second is
    acknowledged without a place, as when it follows from a later one's."""

    def __init__(self):
        self.produced = 0

    def produce(self, topic, data, key, partition, on_delivery):
        self.produced += 1
        on_delivery(wire.KafkaError(wire.KafkaError._MSG_TIMED_OUT) if self.produced == 1 else None, self)

    def offset(self):
        return None if self.produced == 2 else 7


def check_undelivered():
    """A report that the brokers did not take in time is sent again; its attempt has ended by then."""
    producer, told = Undelivered(), []
    wire.produce(producer, "shop.inbox", b"report", b"job", 0, lambda: told.append(True))
    until = time.time() + 30
    while not told and time.time() < until:
        time.sleep(0.05)
    check(producer.produced == 3 and told == [True], "produced %d times, told %s" % (producer.produced, told))
    print("a report that timed out, or stands nobody knows where, is sent again")


def main():
    check_undelivered()
    log = Log("kafka", partitions=1)
    for queue in ("q", "gone", "killed", "rated", "least"):
        done = log.run("namespace", "queue", "create", queue, "--partitions", "4")
        check(done.returncode == 0, done.stderr)
    ledger = os.path.join(log.folder, "ledger")
    worker = StepWorker(log, "q", "--slots", "2", "--hold", "1", environment={"PERDURE_EFFECT_LEDGER": ledger})
    owner = Owner(log, "q")
    check_reports(owner)
    check_payloads(owner)
    check_failures(owner)
    check_strange_tasks(owner, ledger)
    check_beats(owner)
    check_slots(owner, ledger)
    check_full(owner)
    check_grown(log, owner)
    worker.stop()
    check_shutdown(log, owner, ledger)
    check_killed(log, owner, ledger)
    check_rate(log, owner)
    check_minimal(log, owner)
    check_bad_calls(log)
    log.remove()


main()
