#!/usr/bin/env python3
"""The least that serves steps: one at a time, nothing more than docs/remote-steps.md asks for. For reading, and for
translating into other languages; step_worker.py is for use. Called like it.
"""
import argparse
import itertools
import random
import signal
import threading

from confluent_kafka import OFFSET_END, Consumer, KafkaException, Producer, TopicPartition

import perdure_wire as wire
from perdure_steps import STEPS, Context, load

parser = argparse.ArgumentParser()
for name, kind in (("--log", str), ("--queue", wire.queue_name), ("--module", load), ("--name", str)):
    parser.add_argument(name, type=kind, required=True)
options = parser.parse_args()

namespace, settings = wire.kafka_settings(options.log)
topic = "%s.tasks.%s" % (namespace, options.queue)
producer = Producer({**settings, "enable.idempotence": True, "linger.ms": 0})
consumer = Consumer({**settings, "group.id": topic, "auto.offset.reset": "earliest", "enable.auto.commit": False,
                     "session.timeout.ms": 10000, "topic.metadata.refresh.interval.ms": 5000})
consumer.subscribe([topic])
replies = Consumer({**settings, "group.id": topic, "enable.auto.commit": False})
place = replies.offsets_for_times([TopicPartition(namespace + ".replies", 0, OFFSET_END)], timeout=30)[0]
replies.assign([place])
client = random.getrandbits(64) | 1
correlations = itertools.count(1)


def report(header, task, what, correlation=0, started=0, **kind):
    """One report; returns when a broker has it."""
    record = wire.Record()
    record.header.MergeFrom(type(record.header)(
        format=1, rule_level=1, min_reader=1, kind=wire.KIND_COMMAND, log=header.log, slot=header.slot,
        map_version=header.map_version, job=task.job, run=task.run, born=wire.now_ms()))
    record.command.request = "%s-%d-%d/%s" % (task.idempotency_key, task.attempt, task.dispatch, what)
    if correlation:
        record.command.reply_to.MergeFrom(type(record.command.reply_to)(client=client, correlation=correlation))
    record.command.task_report.MergeFrom(type(record.command.task_report)(
        token=task.token, op=task.op, attempt=task.attempt, dispatch=task.dispatch, worker=options.name, started=started,
        **kind))
    wire.produce(producer, namespace + ".inbox", wire.encode(record), task.job.encode(), task.inbox_partition)
    wire.flush(producer, 3600)


def outcome(context, task):
    """What the end of the step reports."""
    function, input_type, result_type = STEPS[task.step]
    try:
        return {"completed": wire.payload_of(function(context, wire.value_of(task.input, input_type)), result_type)}
    except Exception as error:
        return {"failed": wire.error_of(error)}


def execute(header, task):
    """The step runs on a thread of its own; this one sends heartbeats, listens for a stop, and stays in the group."""
    correlation, started = next(correlations), wire.now_ms()
    context, end = Context(task, lambda detail: None), {}
    report(header, task, "started", correlation, started, begun=wire.TaskStarted())
    commit()
    thread = threading.Thread(target=lambda: end.update(outcome(context, task)))
    thread.start()
    consumer.pause(consumer.assignment())
    beats, beat_at = itertools.count(1), started
    while thread.is_alive():
        message = consumer.poll(0.05)
        if message and not message.error():  # lanes that came meanwhile are not paused
            take(message, busy=True)
        if task.heartbeat_ms and not context.cancelled and wire.now_ms() - beat_at > task.heartbeat_ms / 3:
            beat_at = wire.now_ms()
            report(header, task, "beat/%d" % next(beats), correlation, started, heartbeat=wire.TaskHeartbeat())
        message = replies.poll(0)
        if message and not message.error():
            reply = wire.Reply.FromString(message.value())
            if (reply.client, reply.correlation, reply.answer) == (client, correlation, "stop"):
                context._cancelled.set()
    consumer.resume(consumer.assignment())
    if not context.cancelled:  # else it may have returned early: nobody is to take that for its result
        report(header, task, "end", correlation, started, **end)


def take(message, busy=False):
    try:
        record = wire.decode(message.value())
    except ValueError:
        return
    header, task = record.header, record.task
    if header.kind != wire.KIND_TASK or (task.start_by and wire.now_ms() > task.start_by):
        return
    if busy or task.step not in STEPS:
        report(header, task, "declined", declined=wire.TaskDeclined(reason="busy" if busy else "no step " + task.step))
    else:
        execute(header, task)


def commit():
    try:
        consumer.commit(asynchronous=False)
    except KafkaException:
        pass  # nothing new, or the lane is another's now: it is delivered again


stopping = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stopping.set())
print(options.name, "serves", options.queue, flush=True)
while not stopping.is_set():
    message = consumer.poll(0.2)
    if message and not message.error():
        take(message)
        commit()
consumer.close()
