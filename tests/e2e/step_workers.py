"""What tests of step workers share: the worker as a process, and an owner played by the test."""
import os
import random
import subprocess
import sys
import time

SOURCE = os.environ["PERDURE_SOURCE"]
sys.path.insert(0, os.path.join(SOURCE, "workers", "python"))

from confluent_kafka import Consumer, Producer, TopicPartition  # noqa: E402

import perdure_wire as wire  # noqa: E402
from harness import check, fail  # noqa: E402


class StepWorker:
    """workers/python/step_worker.py; its output goes to a file that a failed test shows."""

    count = 0

    def __init__(self, log, queue, *arguments, module=None, environment=None, wait=True, program="step_worker.py"):
        StepWorker.count += 1
        log.workers.append(self)
        module = module or os.path.join(SOURCE, "tests", "e2e", "python_steps.py")
        self.name = "steps-%d" % StepWorker.count
        self.log_path = os.path.join(log.folder, self.name + ".log")
        self.output = open(self.log_path, "w")
        self.process = subprocess.Popen(
            [sys.executable, os.path.join(SOURCE, "workers", "python", program), "--log", log.uri, "--queue", queue,
             "--module", module, "--name", self.name, *arguments], env=dict(os.environ, **(environment or {})),
            stdin=subprocess.DEVNULL, stdout=self.output, stderr=subprocess.STDOUT)
        if wait:
            self.wait_for("serves")

    def text(self):
        with open(self.log_path) as file:
            return file.read()

    def wait_for(self, text, seconds=60):
        until = time.time() + seconds
        while text not in self.text():
            check(self.process.poll() is None, "the step worker ended:\n" + self.text())
            check(time.time() < until, "the step worker never said %r:\n%s" % (text, self.text()))
            time.sleep(0.02)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self, seconds=60):
        self.process.terminate()
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            fail("the step worker did not stop on SIGTERM:\n" + self.text())
        check(code == 0, "the step worker ended with %d:\n%s" % (code, self.text()))


class Owner:
    """Writes tasks and reads what is reported, as the owner of partition 0 would."""

    def __init__(self, log, queue):
        self.namespace, settings = wire.kafka_settings(log.uri)
        self.queue = queue
        self.producer = Producer({**settings, "linger.ms": 0, "enable.idempotence": True})
        self.reader = Consumer({**settings, "group.id": "test", "enable.auto.commit": False, "fetch.wait.max.ms": 20})
        self.reader.assign([TopicPartition(self.namespace + ".inbox", 0, 0)])
        self.count = 0
        self.log_id = random.getrandbits(32)
        self.reports = []

    def stopped(self, key):
        """It was told to stop, and heard: the slot that it held is free, and nothing is said of it any more."""
        self.wait(self.put("upper", "x", dispatch=8), "end")
        self.read(1)
        beats = len(self.of(key, "beat"))
        self.read(1)
        check(len(self.of(key, "beat")) == beats, "the stop did not reach it")
        check(not self.of(key, "end"), "what was told to stop reported an end: it may have returned early")

    def put(self, step, value="", kind=str, lane=0, **more):
        """A task; the key of its reports."""
        self.count += 1
        key = "key%d" % self.count
        record = wire.Record()
        fields = dict(format=1, rule_level=1, min_reader=1, log=self.log_id, kind=wire.KIND_TASK, slot=7, map_version=1,
                      job="job %d" % self.count, run=1000 + self.count)
        record.header.MergeFrom(type(record.header)(**fields))
        fields = dict(queue=self.queue, step="courier/" + step, input=wire.payload_of(value, kind), op=self.count,
                      job="job %d" % self.count, run=1000 + self.count, attempt=1, dispatch=1, token="token%d" % self.count,
                      idempotency_key=key, dispatched=wire.now_ms())
        fields.update(more)
        record.task.MergeFrom(type(record.task)(**fields))
        self.put_bytes(wire.encode(record), lane)
        return "%s-%d-%d" % (record.task.idempotency_key, record.task.attempt, record.task.dispatch)

    def topic(self):
        return "%s.tasks.%s" % (self.namespace, self.queue)

    def put_bytes(self, data, lane=0):
        self.producer.produce(self.topic(), data, partition=lane)
        check(self.producer.flush(60) == 0, "a task was not delivered")

    def read(self, seconds=0.0):
        until = time.time() + seconds
        while True:
            message = self.reader.poll(max(0.0, min(0.1, until - time.time())))
            if message is not None and not message.error():
                record = wire.decode(message.value())
                if record.command.HasField("grow"):
                    continue
                check(message.key() == record.header.job.encode(), "the key is not the job id")
                self.reports.append(record)
            elif time.time() >= until:
                return

    def of(self, key, what):
        """Reports of one task: started, beat, declined, end."""
        return [record for record in self.reports if record.command.request.startswith(key + "/" + what)]

    def wait(self, key, *kinds, seconds=60):
        """The first report of one of these kinds."""
        until = time.time() + seconds
        while not any(self.of(key, kind) for kind in kinds):
            check(time.time() < until, "no report %s/%s" % (key, kinds))
            self.read(0.05)
        return next(self.of(key, kind) for kind in kinds if self.of(key, kind))[0].command.task_report

    def stop(self, record):
        """Tells the sender of this report that nobody waits for it any more."""
        to = record.command.reply_to
        reply = wire.Reply(client=to.client, correlation=to.correlation, request=record.command.request, answer="stop")
        self.producer.produce(self.namespace + ".replies", reply.SerializeToString(), partition=to.partition)
        check(self.producer.flush(60) == 0, "a reply was not delivered")


def check_grown(log, owner):
    """The namespace grows under a worker that has reported before: it reports on what comes from new partitions too."""
    owner.wait(owner.put("upper", "before"), "end")
    log.run("namespace", "grow", "--partitions", "2", "--dev", "--timeout", "1s")  # nobody owns anything: it waits in vain
    owner.reader.assign([TopicPartition(owner.namespace + ".inbox", partition, 0) for partition in range(2)])
    owner.reports = []
    for lane in range(2):
        done = owner.wait(owner.put("upper", "after", lane=lane, inbox_partition=1), "end")
        check(done.completed.data == b"AFTER", "after the namespace grew: %s" % done)
    print("a namespace that grows: nothing is lost")


def marks(path, what):
    """Lines of the steps' ledger: (key, job, pid, time)."""
    if not os.path.exists(path):
        return []
    with open(path) as file:
        lines = [line.split(" ") for line in file.read().splitlines()]
    return [(line[1], " ".join(line[2:-2]), int(line[-2]), float(line[-1])) for line in lines if line[0] == what]
