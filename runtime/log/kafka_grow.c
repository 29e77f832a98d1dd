/*
 * More partitions for a namespace that is there (rules 24, 25): the journals first, each with its Genesis, then the
 * inboxes. Statuses and replies stay where they are: their topics keep the number of partitions that they were made with.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "log/kafka_internal.h"

static int grow_topic(struct kafka_namespace *ns, enum kafka_topic topic, uint32_t partitions, char *text, size_t text_size)
{
    char name[KAFKA_TOPIC_NAME_BYTES], said[300];
    if (ns->shape.partitions[topic] >= (int)partitions)
        return 0;
    kafka_topic_name(&ns->uri, topic, name, sizeof name);
    rd_kafka_NewPartitions_t *wanted = rd_kafka_NewPartitions_new(name, partitions, said, sizeof said);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(ns->client);
    rd_kafka_CreatePartitions(ns->client, &wanted, 1, NULL, queue);
    rd_kafka_NewPartitions_destroy(wanted);
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, 2 * KAFKA_OPEN_TIMEOUT_MS);
    rd_kafka_resp_err_t code = event ? rd_kafka_event_error(event) : RD_KAFKA_RESP_ERR__TIMED_OUT;
    snprintf(said, sizeof said, "%s", event && code ? rd_kafka_event_error_string(event) : rd_kafka_err2str(code));
    size_t count = 0;
    const rd_kafka_topic_result_t **results =
        event && !code ? rd_kafka_CreatePartitions_result_topics(rd_kafka_event_CreatePartitions_result(event), &count) : NULL;
    if (count == 1 && (code = rd_kafka_topic_result_error(results[0])))
        snprintf(said, sizeof said, "%s", rd_kafka_topic_result_error_string(results[0]));
    if (event)
        rd_kafka_event_destroy(event);
    rd_kafka_queue_destroy(queue);
    if (!code)
        return 0;
    snprintf(text, text_size, "topic %s: no partitions can be added: %s", name, said);
    return code == RD_KAFKA_RESP_ERR__TIMED_OUT ? 5 : 2;
}

/* Brokers hear of new partitions one after the other. */
static int grow_settle(struct kafka_namespace *ns, enum kafka_topic topic, uint32_t partitions, char *text,
                       size_t text_size)
{
    int64_t deadline = kafka_monotonic_ms() + KAFKA_OPEN_TIMEOUT_MS;
    for (;;) {
        int code = kafka_topics_shape(ns->client, &ns->uri, &ns->notes, KAFKA_OPEN_TIMEOUT_MS, &ns->shape, text, text_size);
        if (code || (ns->shape.partitions[topic] >= (int)partitions && !ns->shape.leaderless))
            return code;
        if (kafka_monotonic_ms() > deadline) {
            snprintf(text, text_size, "the new partitions have no leaders after %d s; run it again",
                     KAFKA_OPEN_TIMEOUT_MS / 1000);
            return 5;
        }
        nanosleep(&(struct timespec){ .tv_nsec = 50 * 1000 * 1000 }, NULL);
    }
}

/* The newest map that a Genesis tells of. */
static const Genesis *grow_newest(const struct kafka_genesis *found, uint32_t count)
{
    const Genesis *newest = NULL;
    for (uint32_t i = 0; i < count; i++)
        if (found[i].found && (!newest || found[i].genesis.map_version > newest->map_version))
            newest = &found[i].genesis;
    return newest;
}

static int grow_refuse(const struct kafka_namespace *ns, const Genesis *newest, uint32_t partitions, char *text,
                       size_t text_size)
{
    uint32_t there = (uint32_t)ns->shape.partitions[KAFKA_JOURNAL];
    if (!newest) {
        snprintf(text, text_size, "namespace %s has no Genesis record: `perdure namespace create` was interrupted; run it "
                 "again", ns->uri.name);
        return 2;
    }
    if (partitions < newest->partitions) {
        snprintf(text, text_size, "namespace %s has %u partitions already; their number only grows", ns->uri.name,
                 newest->partitions);
        return 2;
    }
    if (there > newest->partitions && there != partitions) {
        snprintf(text, text_size, "a growth of namespace %s to %u partitions was begun and not finished: first run this "
                 "again with --partitions %u", ns->uri.name, there, there);
        return 2;
    }
    return 0;
}

static int grow_write(struct kafka_namespace *ns, const Genesis *newest, uint32_t partitions, char *text,
                      size_t text_size)
{
    struct kafka_genesis *found = calloc(partitions, sizeof *found);
    Genesis next = *newest;
    if (!found) {
        snprintf(text, text_size, "out of memory");
        return 2;
    }
    if (newest->partitions < partitions) {
        next.map_version = newest->map_version + 1;
        next.grown_from = newest->partitions;
        next.partitions = partitions;
    }
    next.settled = 0;
    int code = kafka_genesis_read(&ns->uri, 0, partitions, found, text, text_size);
    uint32_t missing = 0;
    for (uint32_t i = 0; i < partitions && !code; i++)
        missing += !found[i].found;
    if (!code && missing > 0)
        code = kafka_genesis_write(ns->client, &ns->uri, found, &next, text, text_size);
    free(found);
    return code;
}

int kafka_namespace_grow(const char *uri, uint32_t partitions, bool dev, struct kafka_growth *growth, char *text,
                         size_t text_size)
{
    struct kafka_namespace ns;
    struct kafka_genesis *found = NULL;
    int code = kafka_namespace_open(&ns, uri, dev, true, text, text_size);
    uint32_t there = code ? 0 : (uint32_t)ns.shape.partitions[KAFKA_JOURNAL];
    if (!code && there == 0) {
        snprintf(text, text_size, "there is no namespace '%s' in Kafka at %s", ns.uri.name, ns.uri.brokers);
        code = 3;
    }
    if (!code && !(found = calloc(there, sizeof *found))) {
        snprintf(text, text_size, "out of memory");
        code = 2;
    }
    if (!code)
        code = kafka_genesis_read(&ns.uri, 0, there, found, text, text_size);
    const Genesis *newest = code ? NULL : grow_newest(found, there);
    if (!code)
        code = grow_refuse(&ns, newest, partitions, text, text_size);
    if (!code) {
        growth->before = newest->partitions;
        growth->version_before = newest->map_version;
        growth->version = newest->map_version + (newest->partitions < partitions);
        growth->grown_from = newest->partitions < partitions ? newest->partitions : newest->grown_from;
        growth->partitions = partitions;
        growth->begun = there > newest->partitions || newest->partitions == partitions;
    }
    if (!code && !growth->begun && growth->may_begin)
        code = growth->may_begin(growth, text, text_size);
    if (!code)
        code = grow_topic(&ns, KAFKA_JOURNAL, partitions, text, text_size);
    if (!code)
        code = grow_settle(&ns, KAFKA_JOURNAL, partitions, text, text_size);
    if (!code)
        code = grow_write(&ns, newest, partitions, text, text_size);
    if (!code)
        code = grow_topic(&ns, KAFKA_INBOX, partitions, text, text_size);
    if (!code)
        code = grow_settle(&ns, KAFKA_INBOX, partitions, text, text_size);
    free(found);
    kafka_namespace_close(&ns);
    return code;
}
