"""The wire of Perdure in Python: frames, payloads, addresses and Kafka settings. docs/remote-steps.md is the contract.

The code of the messages is made from proto/ by protoc, once, into the user's cache (or beforehand: `perdure_wire.py DIR`).
"""
import argparse
import hashlib
import ipaddress
import json
import os
import pathlib
import re
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

import crc32c
from confluent_kafka import KafkaError, KafkaException

HERE = pathlib.Path(__file__).resolve().parent
RECORD_LIMIT = 1000000   # bytes of a whole record
PAYLOAD_LIMIT = 934464   # of a payload in it
KIND_COMMAND, KIND_TASK = 16, 18


def _proto_files():
    for folder in (HERE / "proto", HERE.parent / "proto", HERE.parents[1] / "proto"):
        if folder.is_dir():
            return folder, sorted(folder.glob("perdure/v1/*.proto"))
    sys.exit("the folder proto/ of Perdure is neither beside %s nor above it" % HERE)


def generate(folder):
    """Python code of the messages, below `folder`."""
    proto, files = _proto_files()
    try:
        done = subprocess.run(["protoc", "-I", str(proto), "--python_out", str(folder), *map(str, files)],
                              stderr=subprocess.PIPE, text=True)
    except FileNotFoundError:
        sys.exit("protoc is missing, which makes the code of the messages (Debian: protobuf-compiler)")
    if done.returncode != 0:
        sys.exit("protoc failed: " + done.stderr)


def _find_messages():
    if (HERE / "generated").is_dir():
        return HERE / "generated"
    text = b"".join(path.read_bytes() for path in _proto_files()[1])
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "perdure"
    folder = cache / ("python-" + hashlib.sha256(text).hexdigest()[:16])
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as made:  # whole, or not there
            generate(made)
            try:
                os.rename(made, folder)
            except OSError:
                pass  # somebody else was faster
            os.makedirs(made, exist_ok=True)
    return folder


if __name__ != "__main__":
    sys.path.insert(0, str(_find_messages()))
    from perdure.v1 import record_pb2, status_pb2  # noqa: E402  (they import the others)
    from perdure.v1.event_pb2 import Error, Payload  # noqa: E402,F401
    from perdure.v1.task_pb2 import TaskDeclined, TaskHeartbeat, TaskStarted  # noqa: E402,F401
    Record, Reply = record_pb2.Record, status_pb2.Reply


# ---- frames ------------------------------------------------------------------------------------------------------------

def encode(record):
    """"PDR", format 1, CRC32C of the rest, the message."""
    body = record.SerializeToString()
    return b"PDR\x01" + struct.pack("<I", crc32c.crc32c(body)) + body


def decode(data):
    """The Record in a frame; ValueError says why there is none."""
    if len(data) < 8 or data[:3] != b"PDR":
        raise ValueError("not a record of Perdure")
    if data[3] != 1:
        raise ValueError("format %d is of another version" % data[3])
    if struct.unpack("<I", data[4:8])[0] != crc32c.crc32c(data[8:]):
        raise ValueError("the checksum does not hold")
    record = Record.FromString(data[8:])
    if record.header.min_reader > 1:
        raise ValueError("rule level %d is of another version" % record.header.min_reader)
    return record


def now_ms():
    return int(time.time() * 1000)


# ---- payloads ----------------------------------------------------------------------------------------------------------
# A type is a protobuf message class, str, bytes, dict (JSON), None, or the name of a message type, whose values are given
# as what json.dumps() takes: the owner knows the type and encodes it.

class BadPayload(Exception):
    """A value that is not of its type. Trying again would not help."""
    type, final = "BadPayload", True


def payload_of(value, kind):
    try:
        payload = _payload_of(value, kind)
    except Exception as error:
        raise BadPayload("%s is not %s: %s" % (type(value).__name__, _name_of(kind), error))
    if len(payload.data) > PAYLOAD_LIMIT:
        error = BadPayload("a payload of %d bytes is above the limit of %d" % (len(payload.data), PAYLOAD_LIMIT))
        error.type = "TooLarge"
        raise error
    return payload


def value_of(payload, kind):
    if payload.type != _name_of(kind):
        raise BadPayload("the input is %s, not %s" % (payload.type or "nothing", _name_of(kind)))
    try:
        if kind is None:
            return None
        if kind is bytes or isinstance(kind, str):
            return payload.data
        if kind is str:
            return payload.data.decode()
        return json.loads(payload.data) if kind is dict else kind.FromString(payload.data)
    except Exception as error:
        raise BadPayload("the input is no %s: %s" % (_name_of(kind), error))


def _name_of(kind):
    names = {None: "none", str: "text", bytes: "bytes", dict: "json"}
    return names[kind] if kind in names else kind if isinstance(kind, str) else kind.DESCRIPTOR.full_name


def _payload_of(value, kind):
    if kind is None:
        return Payload(type="none")
    if kind is str:
        return Payload(type="text", data=value.encode())
    if kind is bytes:
        return Payload(type="bytes", data=bytes(value))
    if kind is dict:
        return Payload(type="json", data=json.dumps(value).encode())
    if isinstance(kind, str):
        return Payload(type=kind, data=json.dumps(value).encode(), json=True)
    if not isinstance(value, kind):
        raise TypeError("another class")
    return Payload(type=kind.DESCRIPTOR.full_name, data=value.SerializeToString())


def error_of(error):
    """What a step that raised this reports: Final and BadPayload say type and final, others are tried again."""
    return Error(type=str(getattr(error, "type", type(error).__name__)), message=str(error)[:4000], code=-1,
                 final=bool(getattr(error, "final", False)))


# ---- where, and with what settings ---------------------------------------------------------------------------------------

FIXED = ("bootstrap.servers metadata.broker.list group.id group.instance.id group.protocol enable.auto.commit "
         "enable.auto.offset.store auto.offset.reset isolation.level check.crcs acks enable.idempotence transactional.id "
         "message.max.bytes allow.auto.create.topics partition.assignment.strategy").split()


def queue_name(text):
    """A type for argparse."""
    if not re.fullmatch("[A-Za-z0-9._-]{1,100}", text):
        raise argparse.ArgumentTypeError("'%s' is no name of a queue: letters, digits, '.', '_' and '-', at most 100" % text)
    return text


def kafka_settings(log, config=None):
    """(namespace, settings of every client) from kafka://HOST:PORT[,HOST:PORT]/NAMESPACE[?NAME=VALUE&...], the file
    `config` or $PERDURE_KAFKA_CONFIG, and PERDURE_KAFKA_SASL_PASSWORD and the like. ValueError says what is wrong."""
    address, _, options = log.partition("?")
    brokers, _, namespace = address[len("kafka://"):].partition("/")
    if not address.startswith("kafka://") or not brokers or not namespace:
        raise ValueError("'%s' is no address of a log in Kafka: kafka://HOST:PORT[,HOST:PORT]/NAMESPACE" % address)
    found = []
    path = config or os.environ.get("PERDURE_KAFKA_CONFIG")
    if path:
        for number, line in enumerate(open(path), 1):
            if line.strip() and line.strip()[0] not in "#!":
                name, equals, value = line.partition("=")
                if not equals:
                    raise ValueError("%s, line %d: each line is NAME=VALUE" % (path, number))
                found.append((name.strip(), value.strip().replace("\\n", "\n")))
    for name, value in os.environ.items():
        if name.startswith("PERDURE_KAFKA_") and name != "PERDURE_KAFKA_CONFIG" \
                and not name[len("PERDURE_KAFKA_"):].startswith(("SERVICE_", "PORT")):
            found.append((name[len("PERDURE_KAFKA_"):].lower().replace("_", "."), value))
    found += [option.partition("=")[::2] for option in options.split("&") if option]
    settings = {"bootstrap.servers": brokers}
    allowed = os.environ.get("PERDURE_ALLOW_PLAINTEXT") in ("1", "true", "yes")
    for name, value in found:
        name = name[len("kafka."):] if name.startswith("kafka.") else name
        if name == "perdure.allow.plaintext":
            allowed = value in ("1", "true", "yes")
        elif name in FIXED:
            raise ValueError("the Kafka setting %s is Perdure's own: leave it out" % name)
        elif name != "dev":
            settings[name] = value
    if settings.get("security.protocol", "plaintext").lower().endswith("plaintext") and not allowed:
        for broker in brokers.split(","):
            host = broker.rpartition(":")[0].strip("[]") or broker
            try:
                addresses = {entry[4][0] for entry in socket.getaddrinfo(host, None)}
            except OSError:
                continue  # librdkafka will say so
            if not all(ipaddress.ip_address(one.partition("%")[0]).is_loopback for one in addresses):
                raise ValueError("%s is on another machine: set security.protocol to SSL or SASL_SSL (docs/security.md), or "
                                 "PERDURE_ALLOW_PLAINTEXT=1 in a network that you trust" % host)
    return namespace, settings


AGAIN_SECONDS = 0.5
WAITING = set()          # timers of what is to be produced again
# What no repetition helps against.
GIVEN_UP = (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED,
            KafkaError._FATAL, KafkaError._PURGE_QUEUE, KafkaError._DESTROY)


def older_home(partition):
    """Where its slots were before the namespace grew: the owner there forwards what comes for them."""
    return partition & ~(1 << (partition.bit_length() - 1))


def flush(producer, seconds):
    """Until all is acknowledged, also what waits to be produced again."""
    until = time.monotonic() + seconds
    while (producer.flush(0.1) or WAITING) and time.monotonic() < until:
        pass


def produce(producer, topic, data, key, partition, delivered=None, repeat=True):
    """A report into its inbox; one that the producer has not heard of yet is of a namespace that has grown meanwhile. `repeat`:
    until a broker has it."""
    def unknown(error):
        return error.code() == KafkaError._UNKNOWN_PARTITION and partition > 0

    def again():
        def now():
            try:
                produce(producer, topic, data, key, partition, delivered)
            finally:
                WAITING.discard(later)
        later = threading.Timer(AGAIN_SECONDS, now)
        later.daemon = True
        WAITING.add(later)
        later.start()

    def told(error, message):
        if error and unknown(error):
            produce(producer, topic, data, key, older_home(partition), delivered, repeat)
        elif error and error.code() not in GIVEN_UP:  # a report that a broker might still take is never given up
            if repeat:
                again()
        elif not error and (message.offset() is None or message.offset() < 0):  # acknowledged, but where? It may be nowhere
            if repeat:
                produce(producer, topic, data, key, partition, delivered)
        elif delivered and not error:
            delivered()
    while True:
        try:
            return producer.produce(topic, data, key=key, partition=partition, on_delivery=told)
        except BufferError:  # the brokers are away, and the queue to them is full
            producer.poll(0.1)
        except KafkaException as error:
            if error.args[0].code() == KafkaError._UNKNOWN_TOPIC:  # says a broker that has just started
                return again() if repeat else None
            if not unknown(error.args[0]):
                raise
            return produce(producer, topic, data, key, older_home(partition), delivered, repeat)


if __name__ == "__main__":
    os.makedirs(sys.argv[1], exist_ok=True)
    generate(sys.argv[1])
