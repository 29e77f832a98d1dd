"""Lines of kafka-acls.sh --add, carried out by librdkafka: all at once, in milliseconds, without a JVM for each."""
import argparse
import ctypes
import shlex

from harness import check

RESOURCE = {"topic": 2, "group": 3}
PATTERN = {"literal": 3, "prefixed": 4}
OPERATION = {"Read": 3, "Write": 4, "Create": 5, "Delete": 6, "Alter": 7, "Describe": 8, "DescribeConfigs": 10}
ALLOW, PRODUCER = 3, 0


def parse(line):
    """(resource type, name, pattern, principal, operation) of one line, which stands for several rights."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--add", action="store_true", required=True)
    parser.add_argument("--allow-principal", required=True)
    parser.add_argument("--operation", action="append", required=True, choices=OPERATION)
    parser.add_argument("--topic", action="append", default=[])
    parser.add_argument("--group", action="append", default=[])
    parser.add_argument("--resource-pattern-type", default="literal", choices=PATTERN)
    line = parser.parse_args(shlex.split(line))
    return [(kind, name, line.resource_pattern_type, line.allow_principal, operation)
            for kind, names in (("topic", line.topic), ("group", line.group)) for name in names for operation in line.operation]


def grant(brokers, lines):
    kafka = ctypes.CDLL("librdkafka.so.1")
    for name in ("conf_new", "new", "queue_new", "queue_poll", "AclBinding_new", "event_CreateAcls_result",
                 "CreateAcls_result_acls", "acl_result_error"):
        getattr(kafka, "rd_kafka_" + name).restype = ctypes.c_void_p
    kafka.rd_kafka_error_string.restype = kafka.rd_kafka_event_error_string.restype = ctypes.c_char_p
    text = ctypes.create_string_buffer(512)
    conf = ctypes.c_void_p(kafka.rd_kafka_conf_new())
    kafka.rd_kafka_conf_set(conf, b"bootstrap.servers", brokers.encode(), text, ctypes.c_size_t(512))
    client = ctypes.c_void_p(kafka.rd_kafka_new(PRODUCER, conf, text, ctypes.c_size_t(512)))
    check(client.value, "a client for rights: %s" % text.value)
    rights = [right for line in lines for right in parse(line)]
    bindings = (ctypes.c_void_p * len(rights))()
    for i, (kind, name, pattern, principal, operation) in enumerate(rights):
        bindings[i] = kafka.rd_kafka_AclBinding_new(RESOURCE[kind], name.encode(), PATTERN[pattern], principal.encode(), b"*",
                                                    OPERATION[operation], ALLOW, text, ctypes.c_size_t(512))
        check(bindings[i], "%s: %s" % (rights[i], text.value))
    queue = ctypes.c_void_p(kafka.rd_kafka_queue_new(client))
    kafka.rd_kafka_CreateAcls(client, bindings, ctypes.c_size_t(len(rights)), None, queue)
    event = ctypes.c_void_p(kafka.rd_kafka_queue_poll(queue, 120000))
    check(event.value and not kafka.rd_kafka_event_error(event), "rights: %s" %
          (kafka.rd_kafka_event_error_string(event) if event.value else "no answer"))
    count = ctypes.c_size_t()
    results = kafka.rd_kafka_CreateAcls_result_acls(ctypes.c_void_p(kafka.rd_kafka_event_CreateAcls_result(event)),
                                                    ctypes.byref(count))
    results = ctypes.cast(results, ctypes.POINTER(ctypes.c_void_p))
    check(count.value == len(rights), "%d of %d rights" % (count.value, len(rights)))
    for i in range(count.value):
        error = kafka.rd_kafka_acl_result_error(ctypes.c_void_p(results[i]))
        check(not error, "%s: %s" % (rights[i], error and kafka.rd_kafka_error_string(ctypes.c_void_p(error))))
    kafka.rd_kafka_event_destroy(event)
    kafka.rd_kafka_queue_destroy(queue)
    kafka.rd_kafka_destroy(client)
