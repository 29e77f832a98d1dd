/*
 * The least that Kafka could cost: librdkafka with the same settings, the same records, and nothing else.
 */
#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "floor_kafka.h"

#define FLOOR_WAIT_MS 30000

static rd_kafka_t *floor_client(rd_kafka_type_t type, const char *brokers, const char *const *settings)
{
    char error[256];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set(conf, "bootstrap.servers", brokers, NULL, 0);
    rd_kafka_conf_set(conf, "socket.nagle.disable", "true", NULL, 0);
    for (; *settings; settings += 2)
        if (rd_kafka_conf_set(conf, settings[0], settings[1], error, sizeof error) != RD_KAFKA_CONF_OK)
            bench_fail("%s", error);
    rd_kafka_conf_set_events(conf, type == RD_KAFKA_PRODUCER ? RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_ERROR : 0);
    rd_kafka_t *client = rd_kafka_new(type, conf, error, sizeof error);
    if (!client)
        bench_fail("%s", error);
    return client;
}

rd_kafka_t *floor_producer(const char *brokers, const char *linger)
{
    const char *settings[] = { "enable.idempotence", "true", "acks", "all", "linger.ms", linger, "message.timeout.ms",
                               "300000", "queue.buffering.max.messages", "10000000", "queue.buffering.max.kbytes",
                               "1048576", "message.max.bytes", "1048588", "batch.size", "1000000",
                               "batch.num.messages", "10000", NULL };
    return floor_client(RD_KAFKA_PRODUCER, brokers, settings);
}

rd_kafka_t *floor_consumer(const char *brokers)
{
    const char *settings[] = { "group.id", "perdure-bench", "enable.auto.commit", "false", "enable.auto.offset.store",
                               "false", "isolation.level", "read_uncommitted", "check.crcs", "true",
                               "fetch.wait.max.ms", "20", "queued.max.messages.kbytes", "4096", NULL };
    rd_kafka_t *client = floor_client(RD_KAFKA_CONSUMER, brokers, settings);
    rd_kafka_poll_set_consumer(client);
    return client;
}

/* ---- topics ----------------------------------------------------------------------------------------------------------- */

void floor_create_topic(rd_kafka_t *client, const char *name, int partitions)
{
    static const char *const settings[] = { "message.timestamp.type", "LogAppendTime", "max.message.bytes", "1048588",
                                            "min.insync.replicas", "1", "retention.ms", "-1", "retention.bytes", "-1",
                                            "segment.bytes", "67108864", NULL };
    char error[256];
    rd_kafka_NewTopic_t *topic = rd_kafka_NewTopic_new(name, partitions, 1, error, sizeof error);
    for (const char *const *s = settings; *s; s += 2)
        rd_kafka_NewTopic_set_config(topic, s[0], s[1]);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(client);
    rd_kafka_CreateTopics(client, &topic, 1, NULL, queue);
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, FLOOR_WAIT_MS);
    if (!event || rd_kafka_event_error(event))
        bench_fail("topic %s cannot be made: %s", name, event ? rd_kafka_event_error_string(event) : "no answer");
    rd_kafka_event_destroy(event);
    rd_kafka_queue_destroy(queue);
    rd_kafka_NewTopic_destroy(topic);
}

void floor_delete_topics(const char *brokers, const char *const *names, size_t count)
{
    rd_kafka_t *client = floor_producer(brokers, "0");
    rd_kafka_DeleteTopic_t *topics[16];
    for (size_t i = 0; i < count; i++)
        topics[i] = rd_kafka_DeleteTopic_new(names[i]);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(client);
    rd_kafka_DeleteTopics(client, topics, count, NULL, queue);
    rd_kafka_event_destroy(rd_kafka_queue_poll(queue, FLOOR_WAIT_MS));
    rd_kafka_queue_destroy(queue);
    rd_kafka_DeleteTopic_destroy_array(topics, count);
    rd_kafka_destroy(client);
}

/* With the headers that the runtime writes for plain tools. */
void floor_produce(rd_kafka_t *producer, rd_kafka_topic_t *topic, int32_t partition, const struct row *row,
                   const void *data, void *opaque)
{
    rd_kafka_headers_t *headers = NULL;
    char number[24];
    if (row->kind[0]) {
        headers = rd_kafka_headers_new(5);
        rd_kafka_header_add(headers, "job", 3, row->job, -1);
        rd_kafka_header_add(headers, "run", 3, number, snprintf(number, sizeof number, "%016llx", (unsigned long long)row->run));
        rd_kafka_header_add(headers, "seq", 3, number, snprintf(number, sizeof number, "%llu", (unsigned long long)row->seq));
        rd_kafka_header_add(headers, "kind", 4, row->kind, -1);
        rd_kafka_header_add(headers, "name", 4, row->name, -1);
    }
    rd_kafka_vu_t fields[] = {
        { .vtype = RD_KAFKA_VTYPE_RKT, .u.rkt = topic },
        { .vtype = RD_KAFKA_VTYPE_PARTITION, .u.i32 = partition },
        { .vtype = RD_KAFKA_VTYPE_MSGFLAGS, .u.i = RD_KAFKA_MSG_F_COPY },
        { .vtype = RD_KAFKA_VTYPE_VALUE, .u.mem = { .ptr = (void *)(uintptr_t)data, .size = row->size } },
        { .vtype = RD_KAFKA_VTYPE_KEY, .u.mem = { .ptr = (void *)(uintptr_t)row->job, .size = strlen(row->job) } },
        { .vtype = RD_KAFKA_VTYPE_OPAQUE, .u.ptr = opaque },
        { .vtype = RD_KAFKA_VTYPE_HEADERS, .u.headers = headers },
    };
    rd_kafka_error_t *error = rd_kafka_produceva(producer, fields, sizeof fields / sizeof *fields - (headers ? 0 : 1));
    if (error)
        bench_fail("floor: %s", rd_kafka_error_string(error));
}

void floor_assign(rd_kafka_t *consumer, const char *const *topics, const int *partitions, size_t count)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(4);
    for (size_t i = 0; i < count; i++)
        for (int p = 0; p < partitions[i]; p++)
            rd_kafka_topic_partition_list_add(list, topics[i], p)->offset = 0;
    rd_kafka_resp_err_t code = rd_kafka_assign(consumer, list);
    rd_kafka_topic_partition_list_destroy(list);
    if (code)
        bench_fail("floor: %s", rd_kafka_err2str(code));
}

/* ---- one record after the other ------------------------------------------------------------------------------------- */

struct kafka_floor {
    rd_kafka_t *producer, *consumer;
    rd_kafka_topic_t *topic;
    rd_kafka_queue_t *reports, *records;
    char brokers[256], name[256];
};

struct kafka_floor *kafka_floor_open(struct bench *bench, const char *name)
{
    struct kafka_floor *floor = calloc(1, sizeof *floor);
    if (!floor)
        bench_fail("out of memory");
    bench_brokers(bench, floor->brokers, sizeof floor->brokers);
    bench_topic(bench, name, floor->name, sizeof floor->name);
    floor->producer = floor_producer(floor->brokers, "0");
    floor->consumer = floor_consumer(floor->brokers);
    floor_create_topic(floor->producer, floor->name, 1);
    floor->topic = rd_kafka_topic_new(floor->producer, floor->name, NULL);
    floor->reports = rd_kafka_queue_get_main(floor->producer);
    const char *topics[] = { floor->name };
    int partitions[] = { 1 };
    floor_assign(floor->consumer, topics, partitions, 1);
    floor->records = rd_kafka_queue_get_consumer(floor->consumer);
    return floor;
}

double kafka_floor_round_trip(struct kafka_floor *floor, const struct row *row)
{
    int64_t begin = now_ns();
    floor_produce(floor->producer, floor->topic, 0, row, row->data, NULL);
    rd_kafka_message_t *message;
    do {
        message = rd_kafka_consumer_poll(floor->consumer, FLOOR_WAIT_MS);
        if (!message)
            bench_fail("floor: nothing came back");
        if (!message->err)
            break;
        rd_kafka_message_destroy(message);
    } while (true);
    rd_kafka_event_t *report = rd_kafka_queue_poll(floor->reports, FLOOR_WAIT_MS);
    double us = (double)(now_ns() - begin) / 1000;
    const rd_kafka_message_t *reported = report ? rd_kafka_event_message_next(report) : NULL;
    if (!reported || reported->err)
        bench_fail("floor: not acknowledged");
    rd_kafka_event_destroy(report);
    rd_kafka_message_destroy(message);
    return us;
}

void kafka_floor_close(struct kafka_floor *floor)
{
    const char *names[] = { floor->name };
    rd_kafka_queue_destroy(floor->reports);
    rd_kafka_queue_destroy(floor->records);
    rd_kafka_topic_destroy(floor->topic);
    rd_kafka_consumer_close(floor->consumer);
    rd_kafka_destroy(floor->consumer);
    rd_kafka_destroy(floor->producer);
    floor_delete_topics(floor->brokers, names, 1);
    free(floor);
}
