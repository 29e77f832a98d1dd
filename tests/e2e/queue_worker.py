"""`perdure worker --queue NAME`: steps in C, served by the same contract as those in Python; no owner is there."""
import json
import os
import signal
import time

from harness import Log, Worker, check, module, processor_seconds, wait_until
from confluent_kafka import Consumer
from confluent_kafka.admin import AdminClient
from step_workers import Owner, check_grown, marks, wire


def begin(log, queue, *arguments, ledger=None, supervised=False):
    worker = Worker(log, "courier", arguments=["--queue", queue, *arguments], supervised=supervised,
                    environment={"PERDURE_EFFECT_LEDGER": ledger} if ledger else None)
    worker.wait_for("serves queue")
    return worker


def check_reports(owner):
    check(owner.wait(owner.put("upper", "abc"), "end").completed == wire.Payload(type="text", data=b"ABC"), "result")
    key = owner.put("slow", "0.3") # what ends at once is not reported to have begun
    check(owner.wait(key, "end").completed.data == b"slept", "result")
    begun = owner.wait(key, "started")
    check(begun.HasField("begun") and begun.started > 0 and begun.worker, "started: %s" % begun)
    for record in owner.of(key, ""):
        header, report = record.header, record.command.task_report
        check((header.format, header.rule_level, header.min_reader, header.kind) == (1, 1, 1, 16), "header: %s" % header)
        check((header.log, header.slot, header.map_version) == (owner.log_id, 7, 1), "header: %s" % header)
        check((header.job, header.run) == ("job %d" % owner.count, 1000 + owner.count), "header: %s" % header)
        check((report.token, report.op, report.attempt, report.dispatch) == ("token%d" % owner.count, owner.count, 1, 1),
              "report: %s" % report)
        check(record.command.reply_to.client != 0, "nobody could tell it to stop")
    check(owner.wait(owner.put("reverse", b"\0abc", bytes), "end").completed.data == b"cba\0", "bytes")
    check(owner.wait(owner.put("echo_json", {"a": [1]}, dict), "end").completed.type == "json", "JSON")
    for name, value, kind, error, final in (("fail", "x", str, "RuntimeError", False), ("fail", "final", str, "NoUse", True), ("fail", "later", str, "Misuse", True),
                                            ("upper", b"x", bytes, "BadPayload", True)):
        failed = owner.wait(owner.put(name, value, kind), "end").failed
        check((failed.type, failed.final) == (error, final), "%s: %s" % (name, failed))
    check("no step" in owner.wait(owner.put("nowhere", "x"), "declined").declined.reason, "an unknown step")
    owner.put_bytes(b"no record")
    late = owner.put("upper", "late", start_by=wire.now_ms() - 1000)
    owner.wait(owner.put("upper", "x"), "end")
    check(not owner.of(late, ""), "a task whose time is over was reported on")
    print("reports, payloads, failures: as the contract says")


def check_running(owner, ledger):
    twice = [owner.put("slow", "1.5", heartbeat_ms=600, idempotency_key="twice") for _ in range(2)]
    owner.wait(twice[0], "end")
    check(len(owner.of(twice[0], "beat")) >= 3, "no heartbeats")
    slow = [owner.put("slow", "8") for _ in range(2)]
    for key in slow:
        owner.wait(key, "started")
    others = [owner.put("upper", "x", lane=lane) for lane in range(4)]
    for key in others:
        check(owner.wait(key, "declined").declined.reason == "no free slot", "why it was declined")
        check(not owner.of(key, "started"), "declined, and begun too")
    for key in slow:
        owner.wait(key, "end")
    check(len(owner.of(twice[0], "end")) == 1 and len(owner.of(twice[0], "started")) == 1, "a task that came twice ran twice")
    print("heartbeats; a task that comes twice runs once; what finds no slot goes to others")


def check_progress(log, owner, folder):
    """How far a step is is told, twice a second at most, and given to the next attempt; it hears that nobody waits."""
    ended = os.path.join(folder, "patient")
    key = owner.put("patient", ended, progress=wire.Payload(type="text", data=b"1000 done"))
    owner.read(3)
    beats = [record.command.task_report.heartbeat.detail for record in owner.of(key, "beat")]
    check(3 <= len(beats) <= 7, "%d heartbeats in three seconds" % len(beats))
    check(all(beat.type == "text" and beat.data.endswith(b" done") for beat in beats), "details: %s" % beats)
    numbers = [int(beat.data.split()[0]) for beat in beats]
    check(numbers == sorted(numbers) and numbers[0] > 1000, "details: %s" % numbers)
    with open(ended, "w"):
        pass
    check(b"ended after 1" in owner.wait(key, "end").completed.data, "result")
    queue, owner.queue = owner.queue, "stopped"
    worker = begin(log, "stopped", "--threads", "1")
    key = owner.put("patient", os.path.join(folder, "never"))
    owner.wait(key, "beat")
    owner.stop(owner.of(key, "beat")[0])
    owner.stopped(key)
    check(worker.stop(60) == 0, "the worker failed: " + worker.text())
    owner.queue = queue
    key = owner.put("patient", "far")
    check(owner.wait(key, "end").failed.type == "Far", "failed")
    check(owner.of(key, "beat")[0].command.task_report.heartbeat.detail.data == b"0 done", "what it said before it failed")
    print("progress and being stopped reach a step in C")


def check_ends(log, owner, ledger):
    owner.queue = "gone"
    worker = begin(log, "gone", "--threads", "1", ledger=ledger)
    running = owner.put("slow", "2")
    owner.wait(running, "started")
    held = [owner.put("upper", "x") for _ in range(3)]
    time.sleep(0.5)
    check(worker.stop(60) == 0, "the worker failed: " + worker.text())
    for key in held:
        owner.read(0.1)
        check(owner.of(key, "declined") or owner.of(key, "end"), "neither declined nor done")
    check(owner.wait(running, "end").completed.data == b"slept", "what ran did not end")

    owner.queue = "killed"
    first = begin(log, "killed", "--threads", "1", "--no-supervisor", ledger=ledger)
    running = owner.put("slow", "600")
    owner.wait(running, "started")
    held = [owner.put("upper", "x", dispatch=6) for _ in range(3)]
    time.sleep(2)
    first.send(signal.SIGKILL)
    first.process.wait()
    second = begin(log, "killed", ledger=ledger)
    for key in held:
        owner.wait(key, "end")
    check(len(owner.of(running, "started")) == 1, "what was begun was begun again by itself")
    check(second.stop(60) == 0, "the worker failed: " + second.text())
    print("stopped and killed: nothing taken is lost")


def check_seen(log, owner):
    """What waits in a queue, and who serves it, is seen from outside."""
    def state():
        found = {line["queue"]: line for line in log.lines("queues")}["seen"]
        return found["waiting"], len(found["workers"]), found["partitions"]
    owner.queue = "seen"
    check(state() == (0, 0, 4), "an empty queue: %s" % (state(),))
    keys = [owner.put("slow", "0") for _ in range(5)]
    wait_until("five wait for nobody", lambda: state() == (5, 0, 4))
    workers = [begin(log, "seen") for _ in range(2)]
    for key in keys:
        owner.wait(key, "end")
    wait_until("two serve it, and nothing waits", lambda: state() == (0, 2, 4))
    check("seen " in log.run("queues").stdout, "as a table")
    for worker in workers:
        check(worker.stop(60) == 0, "the worker failed: " + worker.text())
    print("queues: what waits, who serves")


def poison(owner, seconds):
    """A task that crashes its worker: its name, and keys of what is said of it as a task, and as a crash."""
    number = owner.count + 1
    name = "%016x-%d" % (1000 + number, number)
    return name, owner.put("poison", seconds, idempotency_key=name), name + "-1-0"


SESSION = 10 # seconds: so long the group would keep the lanes for a member that is gone


def check_served(owner, what):
    """Tasks in all four lanes are done before the session of the member before could have ended."""
    before = time.monotonic()
    for key in [owner.put("upper", "x", lane=n % 4, dispatch=8) for n in range(8)]:
        check(owner.wait(key, "end").completed.data == b"X", what)
    took = time.monotonic() - before
    check(took < SESSION / 2, "%s: %.1f s" % (what, took))
    return took


def check_crashes(log, owner, ledger):
    """A step that crashes its worker ends that attempt, told before its owner could wonder; should its task come again, it is not
    begun. Its lanes are served again at once; those of a worker that was stopped, too."""
    owner.queue = "crashed"
    worker = begin(log, "crashed", "--threads", "2", ledger=ledger, supervised=True)
    names = []
    for seconds in ("0", "1.5"): # mostly before it was reported to have begun, so that it comes again; after
        name, task, crash = poison(owner, seconds)
        names.append(name)
        failed = owner.wait(crash, "end").failed
        check((failed.type, failed.final) == ("Crashed", False), "how it failed: %s" % failed)
        check("crashed its worker: SIGSEGV, in poison" in failed.message, "why it failed: %s" % failed)
        check(owner.of(crash, "end")[0].command.task_report.attempt == 1, "which attempt it was")
        check(seconds == "0" or owner.of(task, "started"), "it was not reported to have begun")
        took = check_served(owner, "behind a crash")
    owner.read(1)
    begun = [mark[0] for mark in marks(ledger, "begin")] # what is behind it may come twice: its offset was not committed yet
    check([begun.count(name) for name in names] == [1, 1], "begun: %s" % begun)
    check(worker.text().count("crashed the worker") == 2, "crashes:\n" + worker.text())
    check(worker.stop(60) == 0, "the worker failed: " + worker.text())
    worker = begin(log, "crashed", supervised=True)
    stopped = check_served(owner, "behind one that was stopped")
    check(log.run("namespace", "queue", "create", "crashed", "--partitions", "8").returncode == 0, "more lanes")
    os.kill(worker.child(), signal.SIGKILL) # most likely before it knows of them
    wait_until("the lanes are known", lambda: len(owner.producer.list_topics(owner.topic()).topics[owner.topic()].partitions) == 8)
    for key in [owner.put("upper", "x", lane=n, dispatch=8) for n in range(4, 8)]:
        check(owner.wait(key, "end").completed.data == b"X", "in lanes that are new")
    check(worker.stop(60) == 0, "the worker failed: " + worker.text())
    print("a step that crashes its worker is told, and not begun again; what is behind it is done after %.1f s, behind a planned stop after %.1f s" % (took, stopped))


def check_quarantined_job(log, worker):
    """One that would be tried for ever is put aside, says why, and goes on with its next attempt when it is resumed."""
    antidote = os.path.join(log.folder, "antidote")
    log.start("drinks_on", "drinks-on", "0 " + antidote)
    wait_until("it is quarantined", lambda: log.state("drinks-on") == "quarantined", 120)
    check("SIGSEGV" in log.run("describe", "drinks-on").stdout, "describe: " + log.run("describe", "drinks-on").stdout)
    log.start("relay", "neighbour", "1")
    check(log.result("neighbour") == "1 steps", "its neighbour")
    events = log.lines("history", "drinks-on")
    crashes = [(event["count"], event["attempt"], event["quarantined"]) for event in events if event["type"] == "job_crashed"]
    check(crashes == [(1, 1, False), (2, 2, False), (3, 3, True)], "crashes: %s" % crashes)
    check([event["attempt"] for event in events if event["type"] == "attempt_failed"] == [1, 2, 3], "history: %s" % events)
    check(worker.text().count("crashed the worker") == 6, "crashes:\n" + worker.text())
    check("crashes in a row" not in worker.text(), "it was held back, though its crashes end by themselves:\n" + worker.text())
    open(antidote, "w").close()
    check(log.run("resume", "drinks-on").returncode == 0, "resume")
    check(log.result("drinks-on") == "survived", "it was not tried again")
    print("one whose step crashes its workers without end is quarantined, and goes on when it is resumed")


def check_crashing_job(log):
    """Through a real owner: as often as the step may be tried, and the job hears why."""
    jobs = Worker(log, "courier")
    jobs.wait_for("is ours")
    worker = begin(log, "courier", supervised=True)
    check("is declared for" not in worker.text(), "it runs steps of that queue:\n" + worker.text())
    log.start("drinks", "drinks", "0")
    done = log.run("result", "drinks", "--wait", "120s", "--json", timeout=180)
    error = json.loads(done.stdout)["error"]
    check(error["type"] == "Crashed" and "SIGSEGV" in error["message"], "how the job failed: " + done.stdout)
    events = log.lines("history", "drinks")
    failed = [event for event in events if event["type"] in ("attempt_failed", "step_failed")]
    check([(event["attempt"], event["error"]["type"]) for event in failed] == [(i, "Crashed") for i in (1, 2, 3)], "history: %s" % failed)
    check(worker.text().count("crashed the worker") == 3, "crashes:\n" + worker.text())
    check_quarantined_job(log, worker)
    check(worker.stop(60) == 0 and jobs.stop() == 0, "a worker failed: " + worker.text())
    log.verify()
    print("a job whose step crashes its workers fails after as many attempts as the step may have")


def check_fenced(log, owner):
    """Somebody has its place in the group, as a request may that its process before had on its way: it joins again."""
    owner.queue = "fenced"
    worker = begin(log, "fenced", supervised=True)
    check_served(owner, "as it begins")
    namespace, settings = wire.kafka_settings(log.uri)
    group = namespace + ".tasks.fenced"
    member, = AdminClient(settings).list_groups(group)[0].members
    place = member.id[:len("step-worker-") + 16 + len("-4")]
    check(place.startswith("step-worker-"), "its place in the group: %s" % member.id)
    other = Consumer({**settings, "group.id": group, "group.instance.id": place, "partition.assignment.strategy": "range",
                      "enable.auto.commit": False})
    other.subscribe([group])
    wait_until("another has its place", lambda: (other.poll(0.1), other.assignment())[1])
    wait_until("it notices", lambda: (other.poll(0.1), "joining again" in worker.text())[1])
    key = owner.put("upper", "x")
    wait_until("it has it again", lambda: (other.poll(0.1), owner.read(0.1), owner.of(key, "end"))[2], 60)
    other.close()
    check_served(owner, "as it goes on")
    check(worker.stop(60) == 0, "the worker failed: " + worker.text())
    print("fenced, a step worker joins again")


def check_full(log, owner):
    """A worker that holds as many tasks as it may waits for them; told to stop, it gives them back and takes no others."""
    owner.queue = "full"
    worker = begin(log, "full", "--threads", "1", "--no-supervisor")
    running = owner.put("slow", "6")
    owner.wait(running, "started")
    waiting = [owner.put("upper", "x", dispatch=8) for _ in range(60)]
    time.sleep(1)
    before = processor_seconds(worker.process.pid)
    time.sleep(2)
    spent = processor_seconds(worker.process.pid) - before
    check(spent < 0.5, "with nothing to do it took %.1f of 2 s of a processor" % spent)
    check(worker.stop(60) == 0, "the worker failed: " + worker.text())
    owner.read(1)
    check(owner.wait(running, "end").completed.data == b"slept", "what ran did not end")
    declined = [key for key in waiting if owner.of(key, "declined")]
    check(0 < len(declined) < 40, "%d of 60 waiting tasks were declined, it may hold 16" % len(declined))
    print("full, it rests (%.2f of 2 s); told to stop, it takes nothing more: %d of 60 declined" % (spent, len(declined)))


def check_rate(log, owner, queue, limit, reason, *arguments):
    """Two a second: of eight tasks some are given to others, what is begun is begun in time."""
    owner.queue = queue
    worker = begin(log, queue, "--threads", "4", *arguments)
    keys = [owner.put("slow", "0") for _ in range(8)]
    answers = [owner.wait(key, "end", "declined") for key in keys]
    began = [answer.started for answer in answers if answer.HasField("completed")]
    declined = {answer.declined.reason for answer in answers if answer.HasField("declined")}
    check(1 <= len(began) <= 3, "%s: %d of 8 were begun within half a second" % (limit, len(began)))
    check(declined == {reason}, "%s: declined for %s" % (limit, declined))
    check(max(began) - min(began) >= 450 * (len(began) - 1), "%s: begun at %s" % (limit, began))
    check(worker.stop(60) == 0, "the worker failed: " + worker.text())


def check_limits(log, owner):
    check_rate(log, owner, "slowly", "a step", "held back by step-rate slow=2/s", "--step-rate", "slow=2/s")
    check_rate(log, owner, "slowly", "the worker", "held back by queue-rate slowly", "--queue-rate", "slowly=2/s")
    worker = begin(log, "slowly", "--threads", "4", "--step-limit", "courier/slow=1")
    running, held = owner.put("slow", "2"), owner.put("slow", "0")
    check(owner.wait(held, "declined").declined.reason == "held back by step-limit courier/slow=1", "why it was declined")
    check(owner.wait(owner.put("upper", "x"), "end").completed.data == b"X", "another step")
    owner.wait(running, "end")
    check(owner.wait(owner.put("slow", "0"), "end").completed.data == b"slept", "the next one")
    check(worker.stop(60) == 0, "the worker failed: " + worker.text())
    courier = ("worker", "--no-supervisor", "--module", module("courier"), "--queue", "slowly")
    log.refused(2, 'queue rate of "other": this worker serves queue slowly alone', *courier, "--queue-rate", "other=1/s")
    log.refused(2, 'step rate of "slwo": no module of this worker has that step', *courier, "--step-rate", "slwo=1/s")
    log.refused(2, "--crash-limit is for a worker that runs jobs", *courier, "--crash-limit", "2")
    log.refused(2, "--job-rate is for a worker that runs jobs", *courier, "--job-rate", "x=1/s")
    print("rates and limits of a step worker: what finds no room in time goes to others")


def main():
    log = Log("kafka", partitions=1)
    for queue in ("q", "gone", "killed", "slowly", "full", "stopped", "seen", "crashed", "fenced", "courier"):
        check(log.run("namespace", "queue", "create", queue, "--partitions", "4").returncode == 0, "queue create")
    ledger = os.path.join(log.folder, "ledger")
    owner = Owner(log, "q")
    worker = begin(log, "q", "--threads", "2", ledger=ledger)
    check("queue q: no step that runs here is declared for it (those that do are declared for courier)" in worker.text(), "a queue that no step names:\n" + worker.text())
    check_reports(owner)
    check_running(owner, ledger)
    check_progress(log, owner, log.folder)
    check_grown(log, owner)
    check(worker.stop(60) == 0, "the worker failed: " + worker.text())
    check_ends(log, owner, ledger)
    check_seen(log, owner)
    check_crashes(log, owner, ledger)
    check_fenced(log, owner)
    check_full(log, owner)
    check_limits(log, owner)
    log.refused(2, "queue", "worker", "--queue", "a b", "--no-supervisor", "--module", module("courier"))
    log.refused(2, ["no step of it runs here", "survey/statistics has no function in its module"], "worker", "--queue", "python", "--no-supervisor", "--module", module("survey"))
    log.refused(2, "embedded log", "worker", "--queue", "q", "--no-supervisor", "--module", module("courier"), "--log",
                "sqlite:" + os.path.join(log.folder, "x.db"))
    check_crashing_job(log)
    log.remove()


main()
