"""Jobs whose steps run in Python: results, retries, heartbeats, cancel, slots, workers that come, go and are killed."""
import json
import os
import time

from harness import Log, Worker, check, wait_until
from step_workers import StepWorker, TopicPartition, marks, wire
from confluent_kafka import Consumer, Producer

QUEUE = "errands"


def waiting(log, job):
    status = log.json("describe", job)
    return (status or {}).get("waiting", [None])[0] if status and status.get("waiting") else None


def events(log, job, kind):
    return [event for event in log.lines("history", job) if event["type"] == kind]


def check_results(log):
    log.start_all("shout", {"shout-%d" % i: "hello %d" % i for i in range(8)})
    for job, result in log.results(["shout-%d" % i for i in range(8)]):
        check(result == "HELLO %s" % job[6:], "%s: %s" % (job, result))
        check(len(events(log, job, "step_completed")) == 1, "%s: not one result" % job)
    log.start("crowd", "crowd", "100")
    check(log.result("crowd") == "100", "crowd")
    check(len(events(log, "crowd", "step_completed")) == 100, "not one result a step")
    print("results: 108 steps, one result each")


def check_failures(log):
    log.start("stubborn", "once", "once")
    check(log.result("once") == "attempt 2", "the second attempt")
    check(len(events(log, "once", "attempt_failed")) == 1, "one failed attempt")
    for job, how, attempts, error in (("always", "always", 2, "RuntimeError"), ("final", "final", 0, "NoUse")):
        log.start("stubborn", job, how)
        done = log.run("result", job, "--wait", "60s", "--json")
        check(done.returncode == 1 and error in done.stdout + done.stderr, "%s: %s%s" % (job, done.stdout, done.stderr))
        check(len(events(log, job, "attempt_failed")) == attempts, "%s: its attempts" % job)
    print("failures: tried again by the owner, or final")


def check_heartbeats(log, ledger):
    log.start("sleepy", "asleep", "100")
    entry = wait_until("progress is shown", lambda: (lambda w: w and w.get("progress") and w)(waiting(log, "asleep")))
    check(entry["queue"] == QUEUE and entry["phase"] == "started" and entry["executor"].startswith("steps-"), "%s" % entry)
    check("left" in json.dumps(entry["progress"]), "progress: %s" % entry)
    check("progress" in log.run("describe", "asleep").stdout, "describe shows no progress")
    check(log.run("cancel", "asleep").returncode == 0, "cancel")
    wait_until("the step was told to stop", lambda: [mark for mark in marks(ledger, "stopped") if mark[1] == "asleep"])
    check(log.run("result", "asleep", "--wait", "60s").returncode == 1, "it was cancelled")
    print("heartbeats: detail in describe; cancel reaches the running step")


def check_not_blocked(log, ledger):
    """One worker is busy for long, in all its slots: nothing waits behind it."""
    log.start_all("sleepy", {"long-%d" % i: "100" for i in range(2)})
    wait_until("both run", lambda: len([mark for mark in marks(ledger, "begin") if mark[1].startswith("long-")]) == 2)
    second = StepWorker(log, QUEUE, "--slots", "4", environment={"PERDURE_EFFECT_LEDGER": ledger})
    begin = time.time()
    log.start("crowd", "behind", "40")
    check(log.result("behind") == "40", "behind")
    print("a busy worker holds up nobody: 40 steps in %.1f s" % (time.time() - begin))
    for i in range(2):
        check(log.run("cancel", "long-%d" % i).returncode == 0, "cancel")
    return second


def check_killed(log, ledger, workers):
    """kill -9 in the middle of a step: its silence is the attempt's failure, another worker has it, one result counts."""
    log.start("sleepy", "victim", "6")
    begun = wait_until("it runs", lambda: [mark for mark in marks(ledger, "begin") if mark[1] == "victim"])
    victim = next(worker for worker in workers if worker.process.pid == begun[0][2])
    victim.kill()
    check(log.result("victim", wait="120s") == "slept", "victim")
    done = [mark for mark in marks(ledger, "end") if mark[1] == "victim"]
    check(len(done) == 1 and done[0][2] != begun[0][2], "who did it: %s" % done)
    check(len(events(log, "victim", "step_completed")) == 1, "not one result")
    failed = events(log, "victim", "attempt_failed")
    check(len(failed) == 1 and "not heard of" in json.dumps(failed), "why it failed: %s" % failed)
    print("killed: tried again elsewhere, one result")
    return [worker for worker in workers if worker is not victim]


def check_redelivered(log):
    """Every task once more: nothing changes."""
    namespace, settings = wire.kafka_settings(log.uri)
    topic = "%s.tasks.%s" % (namespace, QUEUE)
    reader = Consumer({**settings, "group.id": "copier", "enable.auto.commit": False, "enable.partition.eof": True})
    lanes = list(reader.list_topics(topic).topics[topic].partitions)
    reader.assign([TopicPartition(topic, lane, 0) for lane in lanes])
    tasks, ended = [], 0
    while ended < len(lanes):
        message = reader.poll(10)
        if message is not None and message.error():
            ended += 1
        elif message is not None:
            tasks.append(message.value())
    reader.close()
    counts = {job: len(log.lines("history", job)) for job in ("crowd", "shout-0", "once", "victim")}
    producer = Producer(settings)
    for task in tasks:
        record = wire.decode(task)
        if record.task.step == "errands/upper":
            producer.produce(topic, task)
    producer.flush(60)
    log.start("crowd", "after", "20")
    check(log.result("after") == "20", "after")
    time.sleep(1)
    for job, count in counts.items():
        check(len(log.lines("history", job)) == count, "%s: its history grew" % job)
    print("redelivered: %d tasks once more, the histories are the same" % len(tasks))


def check_shutdown(log, workers):
    """SIGTERM while there is more to do than slots: all goes on with the other."""
    log.start("crowd", "moving", "200")
    workers[0].stop()
    check(log.result("moving") == "200", "moving")
    check(len(events(log, "moving", "step_completed")) == 200, "not one result a step")
    print("shutdown in the middle of 200 steps: all done, once")


def check_sample(log):
    """The sample survey: a job in C, a step in Python, a step in C."""
    sample = os.path.join(os.environ["PERDURE_SOURCE"], "workers", "samples", "survey", "survey.py")
    worker = StepWorker(log, "python", module=sample)
    path = os.path.join(log.folder, "numbers")
    with open(path, "w") as file:
        file.write("\n".join(str(number) for number in range(1, 102)))
    log.start("summary", "survey", path)
    result = log.result("survey")
    found = json.loads(result[len("published: "):])
    check(found == {"count": 101, "mean": 51.0, "median": 51.0, "deviation": found["deviation"]}, "survey: %s" % result)
    log.start("summary", "nowhere", path + "x")
    done = log.run("result", "nowhere", "--wait", "60s", "--json")
    check(done.returncode == 1 and "BadFile" in done.stdout + done.stderr, "nowhere: %s%s" % (done.stdout, done.stderr))
    worker.stop()
    print("the sample survey: " + result)


def check_token(log, workers):
    for worker in workers:
        worker.stop()
    log.start("shout", "by-hand", "x")
    entry = wait_until("it is dispatched", lambda: (lambda w: w and w.get("phase") == "dispatched" and w)(waiting(log, "by-hand")))
    done = log.run("complete", entry["token"], "--result", '"by hand"')
    check(done.returncode == 0, "complete: " + done.stderr)
    check(log.result("by-hand") == "by hand", "by hand")
    print("completed by token, with no worker there")


def main():
    log = Log("kafka", partitions=4)
    ledger = os.path.join(log.folder, "ledger")
    owner = Worker(log, "errands", "survey")
    owner.wait_for("is ours")
    first = StepWorker(log, QUEUE, "--slots", "2", environment={"PERDURE_EFFECT_LEDGER": ledger})
    check_results(log)
    check_failures(log)
    check_heartbeats(log, ledger)
    second = check_not_blocked(log, ledger)
    workers = check_killed(log, ledger, [first, second])
    check_redelivered(log)
    workers.append(StepWorker(log, QUEUE, "--slots", "2", environment={"PERDURE_EFFECT_LEDGER": ledger}))
    check_shutdown(log, workers)
    check_sample(log)
    check_token(log, workers[1:])
    check(owner.stop() == 0, "the worker failed: " + owner.text())
    print(log.verify().strip().splitlines()[-1])
    log.remove()


main()
