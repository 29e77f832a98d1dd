#!/usr/bin/env python3
"""A step worker: takes tasks from a queue of a Perdure namespace, runs their steps, and reports to the jobs' owners.

    python3 step_worker.py --log kafka://HOST:PORT/NAMESPACE --queue QUEUE --module my_steps.py [--slots 4]

The contract is docs/remote-steps.md; steps are written as perdure_steps.py says.
"""
import argparse
import collections
import json
import os
import pathlib
import random
import signal
import socket
import sys
import threading
import time

from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, Producer, TopicPartition

import perdure_steps
import perdure_wire as wire

BEAT_LEAST = 0.5      # seconds between two heartbeats of an attempt
HOLD_MOST = 60.0      # seconds that a task waits for a slot, however often it was sent around
DETAIL_LIMIT = 64000   # bytes
SETTLED_KEPT = 10000  # tasks reported to be ended that are known when they come again


class Attempt:
    """A task on its way through this worker."""

    def __init__(self, worker, message, record):
        self.task, self.header = record.task, record.header
        self.lane, self.offset = message.partition(), message.offset()
        self.key = "%s-%d-%d" % (self.task.idempotency_key, self.task.attempt, self.task.dispatch)
        hold = worker.options.hold
        self.decline_at = time.monotonic() + min(max(hold, HOLD_MOST), hold * 2 ** min(16, self.task.dispatch - 1))
        self.correlation = next(worker.correlations)
        self.started = 0           # milliseconds since 1970
        self.reported = False      # a broker has a report of it, or it needs none
        self.detail, self.beats, self.beat_at = None, 0, 0.0
        self.context = perdure_steps.Context(self.task, lambda detail: worker.beat(self, detail))

    def leave_little(self):
        """Of one that is over, until it is forgotten: what names it."""
        self.task.ClearField("input")
        self.task.ClearField("progress")
        self.task = type(self.task).FromString(self.task.SerializeToString())
        self.header = type(self.header).FromString(self.header.SerializeToString())
        self.context.progress = None


class Worker:
    def __init__(self, options):
        self.options = options
        self.namespace, self.settings = wire.kafka_settings(options.log, options.kafka_config)
        self.broken = None                 # a fatal error of the producer: whoever started us starts us again
        self.settings.update({"client.id": options.name, "socket.nagle.disable": True, "allow.auto.create.topics": False,
                              "error_cb": client_error})
        self.settings.setdefault("log_level", 2)  # what librdkafka would print by itself, the callbacks say
        self.producer = Producer({**self.settings, "enable.idempotence": True, "acks": "all", "linger.ms": 0,
                                  "topic.metadata.refresh.interval.ms": 5000, "error_cb": self.producer_error})
        topic = "%s.tasks.%s" % (self.namespace, options.queue)
        # auto.commit sends what store_offsets() was told: tasks whose first report is acknowledged.
        self.consumer = Consumer({
            **self.settings, "group.id": topic, "auto.offset.reset": "earliest", "enable.auto.offset.store": False,
            "auto.commit.interval.ms": 1000, "session.timeout.ms": 10000, "heartbeat.interval.ms": 1000, "fetch.wait.max.ms": 50, "check.crcs": True,
            "partition.assignment.strategy": "range", "topic.metadata.refresh.interval.ms": 5000,
            "queued.min.messages": 1000})
        self.lock = threading.Condition()
        self.held = collections.deque()    # taken, not begun
        self.active = {}                   # correlation: begun
        self.lanes = {}                    # partition: (offsets without a report, next offset)
        self.known = {}                    # key: held or active attempt
        self.settled = collections.OrderedDict()
        self.correlations = iter(range(1, 1 << 62))
        self.client = random.getrandbits(64) | 1
        self.replies_partition = None
        self.rate_at = 0.0
        self.stopping = False
        self.topic = topic
        self.health = os.environ.get("PERDURE_HEALTH_FILE")
        self.healthy_at = 0.0

    # ---- reports -------------------------------------------------------------------------------------------------------

    def report(self, attempt, what, answer=True, delivered=None, **kind):
        """Writes a report into the inbox of the job's partition: the same request id in each repetition."""
        task, record = attempt.task, wire.Record()
        record.header.MergeFrom(type(record.header)(
            format=1, rule_level=1, min_reader=1, log=attempt.header.log, kind=wire.KIND_COMMAND, slot=attempt.header.slot,
            map_version=attempt.header.map_version, job=task.job, run=task.run, born=wire.now_ms(), name=task.step))
        record.command.request = "%s/%s" % (attempt.key, what)
        if answer and self.replies_partition is not None:
            to = record.command.reply_to
            to.partition, to.client, to.correlation = self.replies_partition, self.client, attempt.correlation
        report = record.command.task_report
        report.token, report.op, report.attempt, report.dispatch = task.token, task.op, task.attempt, task.dispatch
        report.worker, report.started = self.options.name, attempt.started
        for name, value in kind.items():
            getattr(report, name).SetInParent()  # also when nothing is in it
            getattr(report, name).MergeFrom(value)
        data = wire.encode(record)
        if len(data) > wire.RECORD_LIMIT:
            raise ValueError("a report of %d bytes is above the limit of %d" % (len(data), wire.RECORD_LIMIT))
        wire.produce(self.producer, self.namespace + ".inbox", data, task.job.encode(), task.inbox_partition, delivered,
                     repeat="heartbeat" not in kind)

    def reported(self, attempt):
        """Its owner knows that we have it: from now on its offset may be committed, and the owner sees to the rest."""
        with self.lock:
            attempt.reported = True
            pending, after = self.lanes.get(attempt.lane, (set(), 0))
            if attempt.offset not in pending:
                return  # the partition was taken from us meanwhile
            pending.discard(attempt.offset)
            position = min(pending) if pending else after
            try:
                self.consumer.store_offsets(offsets=[TopicPartition(self.topic, attempt.lane, position)])
            except (KafkaException, RuntimeError):
                pass  # no longer ours, or closed: whoever has it takes these tasks again

    def settle(self, attempt):
        with self.lock:
            self.known.pop(attempt.key, None)
            self.settled[attempt.key] = attempt
            attempt.leave_little()
            if len(self.settled) > SETTLED_KEPT:
                self.settled.popitem(last=False)

    def decline(self, attempt, reason):
        self.settle(attempt)
        self.report(attempt, "declined", answer=False, delivered=lambda: self.reported(attempt),
                    declined=wire.TaskDeclined(reason=reason))

    def beat(self, attempt, detail):
        """A detail goes out at once if the last heartbeat is old enough, else with the next one."""
        kind = str if isinstance(detail, str) else bytes if isinstance(detail, bytes) else dict
        if detail is not None and len(wire.payload_of(detail, kind).data) > DETAIL_LIMIT:
            raise perdure_steps.Final("TooLarge", "the detail of a heartbeat is above %d bytes" % DETAIL_LIMIT)
        with self.lock:
            if detail is not None:
                attempt.detail = wire.payload_of(detail, kind)
        if time.monotonic() - attempt.beat_at >= BEAT_LEAST:
            self.send_beat(attempt)

    def send_beat(self, attempt):
        with self.lock:
            if attempt.context.cancelled:
                return
            detail, attempt.detail = attempt.detail, None
            attempt.beats += 1
            attempt.beat_at = time.monotonic()
            number = attempt.beats
        self.report(attempt, "beat/%d" % number, heartbeat=wire.TaskHeartbeat(detail=detail))

    def keep_beating(self):
        """That the process lives: at a third of what the task asks for; and details that came too fast."""
        while True:
            time.sleep(0.1)
            with self.lock:
                active = list(self.active.values())
            for attempt in active:
                wanted = attempt.task.heartbeat_ms / 3000.0 if attempt.task.heartbeat_ms else float("inf")
                silent = time.monotonic() - attempt.beat_at
                if silent >= wanted or (attempt.detail is not None and silent >= BEAT_LEAST):
                    try:
                        self.send_beat(attempt)
                    except Exception as error:  # the next one may go; the other attempts' must
                        say("heartbeat of %s of %s: %s", attempt.task.step, attempt.task.job, error)

    # ---- running -------------------------------------------------------------------------------------------------------

    def run_slot(self):
        while True:
            with self.lock:
                while not self.held or time.monotonic() < self.rate_at:
                    self.lock.wait(max(0.001, self.rate_at - time.monotonic()) if self.held else None)
                attempt = self.held.popleft()
                if self.options.rate:
                    self.rate_at = max(self.rate_at, time.monotonic()) + 1 / self.options.rate
                attempt.started = wire.now_ms()
                attempt.beat_at = time.monotonic()
                late = attempt.task.start_by and attempt.started > attempt.task.start_by
                if not late:
                    self.active[attempt.correlation] = attempt
            if late:  # the owner has dispatched it again, or given it up
                self.settle(attempt)
                self.reported(attempt)
                continue
            try:
                self.execute(attempt)
            except Exception as error:  # a report that cannot be written: its owner will find out by the silence
                say("%s of %s: %s", attempt.task.step, attempt.task.job, error)
                with self.lock:
                    self.active.pop(attempt.correlation, None)
                    self.known.pop(attempt.key, None)  # not settled: should it come again, it is begun again

    def execute(self, attempt):
        task = attempt.task
        function, input_type, result_type = perdure_steps.STEPS[task.step]
        self.report(attempt, "started", delivered=lambda: self.reported(attempt),
                    begun=wire.TaskStarted())
        try:
            result = function(attempt.context, wire.value_of(task.input, input_type))
            outcome = {"completed": wire.payload_of(result, result_type)}
        except BaseException as error:
            outcome = {"failed": wire.error_of(error)}
        self.end(attempt, outcome)

    def end(self, attempt, outcome):
        with self.lock:
            if self.active.pop(attempt.correlation, None) is None:
                return  # we are shutting down and have given it back
        self.settle(attempt)
        if attempt.context.cancelled:
            return  # told to stop, it may have returned early: nobody is to take that for its result
        if "failed" in outcome:
            say("%s of %s, attempt %d: %s: %s", attempt.task.step, attempt.task.job, attempt.task.attempt,
                outcome["failed"].type, outcome["failed"].message)
        self.report(attempt, "end", **outcome)

    # ---- taking --------------------------------------------------------------------------------------------------------

    def take(self, message):
        try:
            record = wire.decode(message.value())
            if record.header.kind != wire.KIND_TASK or not record.HasField("task"):
                raise ValueError("it is no task")
        except Exception as error:
            return say("partition %d, offset %d: passed over: %s", message.partition(), message.offset(), error)
        attempt = Attempt(self, message, record)
        with self.lock:
            first = self.known.get(attempt.key) or self.settled.get(attempt.key)
            if first and not first.reported and first.lane in self.lanes:
                self.lanes[first.lane][0].discard(first.offset)  # its report is for the later copy now
            pending, _ = self.lanes.setdefault(attempt.lane, (set(), 0))
            pending.add(attempt.offset)
            self.lanes[attempt.lane] = (pending, attempt.offset + 1)
            known = attempt.task.step in perdure_steps.STEPS
            if first:  # delivered again: until a report of the first time has arrived it may come once more
                first.lane, first.offset = attempt.lane, attempt.offset
            else:
                self.known[attempt.key] = attempt
            if not first and known:
                self.held.append(attempt)
                self.lock.notify()
        if first:
            if first.reported:
                self.reported(first)
        elif not known:
            self.decline(attempt, "this worker has no step " + attempt.task.step)

    def decline_overdue(self):
        """A task that finds no free slot in time goes to another worker, so that none waits for a slow one. Where all are
        busy that does not help: what was sent around already waits longer."""
        now = time.monotonic()
        with self.lock:
            overdue = [attempt for attempt in self.held if now > attempt.decline_at]
            for attempt in overdue:
                self.held.remove(attempt)
        for attempt in overdue:
            self.decline(attempt, "no free slot")

    def revoked(self, _, partitions):
        """Others take what we have not begun."""
        lost = {one.partition for one in partitions}
        with self.lock:
            for attempt in [attempt for attempt in self.held if attempt.lane in lost]:
                self.held.remove(attempt)
                self.known.pop(attempt.key, None)
            for lane in lost:
                self.lanes.pop(lane, None)

    def producer_error(self, error):
        client_error(error)
        if error.fatal():
            self.broken = error

    def tell_health(self):
        """For the health check of a container: the loop turns."""
        if self.health and time.monotonic() - self.healthy_at >= 1:
            self.healthy_at = time.monotonic()
            pathlib.Path(self.health).touch()

    def poll(self):
        self.tell_health()
        self.producer.poll(0)
        if self.broken:
            raise OSError("Kafka at %s takes no reports: %s" % (self.settings["bootstrap.servers"], self.broken.str()))
        self.decline_overdue()
        if len(self.held) >= self.options.slots * 8 + 8:
            return time.sleep(0.02)
        message = self.consumer.poll(0.05)
        if message is None:
            return
        if message.error():
            return say_once("%s", message.error().str())
        self.take(message)

    # ---- stopping ------------------------------------------------------------------------------------------------------

    def listen(self):
        """Owners tell here that nobody waits for an attempt any more."""
        topic, said = self.namespace + ".replies", []
        listener = Consumer({**self.settings, "group.id": topic, "enable.auto.commit": False, "fetch.wait.max.ms": 50,
                             "auto.offset.reset": "latest", "error_cb": said.append})
        found = self.topic_of(listener, topic, said)
        if found.error and found.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise LookupError("there is no namespace '%s' in Kafka at %s" % (self.namespace, self.settings["bootstrap.servers"]))
        if found.error or not found.partitions:
            return say("%s cannot be read (%s): a cancel will not reach what runs here", topic, found.error)
        partition = TopicPartition(topic, random.randrange(len(found.partitions)))
        partition.offset = self.end_of(listener, partition)
        listener.assign([partition])
        self.replies_partition = partition.partition
        threading.Thread(target=self.keep_listening, args=(listener,), daemon=True).start()

    def topic_of(self, listener, topic, said):
        """Asked again for half a minute: librdkafka waits for the one broker that it asked, which may just have died. For ten
        seconds when none can be connected to."""
        begun = time.monotonic()
        while True:
            try:
                return listener.list_topics(topic, timeout=3).topics[topic]
            except KafkaException:
                listener.poll(0)
                none = any(error.code() == KafkaError._ALL_BROKERS_DOWN for error in said)
                if time.monotonic() - begun > (10 if none else 30):
                    why = [error.str() for error in said if error.code() != KafkaError._ALL_BROKERS_DOWN]
                    raise OSError("no Kafka broker at %s answered: %s" %
                                  (self.settings["bootstrap.servers"], " ".join(why[-1:])))

    @staticmethod
    def end_of(listener, partition):
        """Leaders move: asked again for half a minute. (Not get_watermark_offsets(): before librdkafka 2.3 that waits for ever
        for a leader that has died.)"""
        deadline = time.monotonic() + 30
        while True:
            try:
                return listener.offsets_for_times([TopicPartition(partition.topic, partition.partition, OFFSET_END)],
                                                  timeout=5)[0].offset
            except KafkaException as error:
                if time.monotonic() > deadline:
                    raise OSError("%s cannot be read: %s" % (partition.topic, error.args[0].str()))
                time.sleep(0.2)

    def keep_listening(self, listener):
        while True:
            message = listener.poll(1.0)
            if message is None or message.error():
                continue
            try:
                reply = wire.Reply.FromString(message.value())
            except Exception:
                continue
            attempt = self.active.get(reply.correlation) if reply.client == self.client else None
            if attempt and reply.answer == "stop":
                attempt.context._cancelled.set()

    def drain(self):
        """What is not begun goes back at once, what runs has time to end."""
        with self.lock:
            held, self.held = self.held, collections.deque()
        for attempt in held:
            self.decline(attempt, "shutting down")
        wire.flush(self.producer, 10)
        self.consumer.close()  # commits, and leaves the group: others have its partitions
        until = time.monotonic() + self.options.drain
        while self.active and time.monotonic() < until:
            self.producer.poll(0.05)
        for attempt in list(self.active.values()):
            error = wire.Error(type="Shutdown", message="the step worker %s was shut down" % self.options.name, code=-1)
            self.end(attempt, {"failed": error})
        wire.flush(self.producer, 10)

    def run(self):
        self.listen()
        for _ in range(self.options.slots):
            threading.Thread(target=self.run_slot, daemon=True).start()
        threading.Thread(target=self.keep_beating, daemon=True).start()
        self.consumer.subscribe([self.topic], on_revoke=self.revoked)
        say("%s serves %s of %s with %d slots: %s", self.options.name, self.options.queue, self.namespace,
            self.options.slots, " ".join(sorted(perdure_steps.STEPS)))
        while not self.stopping:
            self.poll()
        say("stopping: %d to give back, %d to end", len(self.held), len(self.active))
        self.drain()
        os._exit(0)  # whatever still runs is not waited for

    def stop(self, number, _):
        if self.stopping:
            os._exit(128 + number)
        self.stopping = True


def say(text, *values):
    print(time.strftime("%H:%M:%S"), text % values, file=sys.stderr, flush=True)


def say_once(text, *values, said={}):
    line = text % values
    if time.monotonic() - said.get(line, -60.0) >= 60:
        said[line] = time.monotonic()
        say("%s", line)


def client_error(error):
    say_once("Kafka: %s", error.str().partition(" (after")[0])


class Parser(argparse.ArgumentParser):
    def error(self, message):
        self.exit(2, "step_worker: %s (see --help)\n" % message)


def number(kind, least, most=float("inf")):
    """A type for argparse."""
    def read(text):
        try:
            value = kind(text)
        except ValueError:
            value = float("nan")
        if least <= value <= most:
            return value
        raise argparse.ArgumentTypeError("'%s' is no number from %g to %g" % (text, least, most) if most < float("inf") else
                                         "'%s' is no number from %g on" % (text, least))
    return read


def exit_code(error):
    """As of `perdure worker`: 2 a wrong setting, 3 no such namespace, 5 Kafka cannot be reached."""
    if isinstance(error, KafkaException):
        return 2 if error.args[0].code() == KafkaError._INVALID_ARG else 5
    if isinstance(error, LookupError):
        return 3
    return 2 if isinstance(error, (ValueError, FileNotFoundError, PermissionError)) else 5


def main():
    parser = Parser(description="Runs steps of Perdure jobs that wait in a queue.")
    parser.add_argument("--log", default=os.environ.get("PERDURE_LOG"), help="kafka://HOST:PORT/NAMESPACE (or PERDURE_LOG)")
    parser.add_argument("--queue", type=wire.queue_name, required=True)
    parser.add_argument("--module", type=perdure_steps.load, required=True, action="append", help="Python module or file with steps; repeatable")
    parser.add_argument("--slots", type=number(int, 1, 1024), default=4, help="steps at the same time (default: 4)")
    parser.add_argument("--rate", type=number(float, 0.001), help="steps begun a second, at most (default: no limit)")
    parser.add_argument("--hold", type=number(float, 0), default=0.5, help="seconds a task waits here for a slot before it goes to another "
                        "worker; doubled each time, up to 60 (default: 0.5)")
    parser.add_argument("--drain", type=number(float, 0), default=30, help="seconds that steps have to end at SIGTERM (default: 30)")
    parser.add_argument("--name", default="%s-%d" % (socket.gethostname(), os.getpid()), help="shown by `perdure describe`")
    parser.add_argument("--kafka-config", help="file with Kafka settings, NAME=VALUE a line (or PERDURE_KAFKA_CONFIG)")
    options = parser.parse_args()
    if not options.log:
        parser.error("--log is missing: which namespace?")
    if not perdure_steps.STEPS:
        parser.error("no module declares a step")
    try:
        worker = Worker(options)
        signal.signal(signal.SIGTERM, worker.stop)
        signal.signal(signal.SIGINT, worker.stop)
        worker.run()
    except (KafkaException, ValueError, LookupError, OSError) as error:
        parser.exit(exit_code(error), "step_worker: %s\n" % error)


if __name__ == "__main__":
    main()
