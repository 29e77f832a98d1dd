/*
 * Genesis: the first record of each journal partition names the log, so that a topic made anew is never taken for it.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log/kafka_internal.h"

static bool kafka_genesis_take(const rd_kafka_message_t *message, struct kafka_genesis *out, const char *topic,
                               char *error, size_t error_size)
{
    Record *record = NULL;
    enum wire_error wire = record_decode(message->payload, message->len, &record);
    if (wire != WIRE_OK || !record->genesis) {
        snprintf(error, error_size, "topic %s, partition %d: its first record (offset %" PRId64 ") is not one that a "
                 "namespace begins with: %s", topic, (int)message->partition, message->offset,
                 wire != WIRE_OK ? wire_error_text(wire) : "neither Genesis nor a Claim");
        if (wire == WIRE_OK)
            record_free(record);
        return false;
    }
    out->found = true;
    out->genesis = *record->genesis;
    out->genesis.base.n_unknown_fields = 0;
    out->genesis.base.unknown_fields = NULL;
    out->genesis.namespace_ = NULL;
    record_free(record);
    return true;
}

static bool kafka_topic_is_unknown(rd_kafka_resp_err_t code)
{
    return code == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART || code == RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC ||
           code == RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION;
}

/* Reads until each partition has given its first record or its end. */
static int kafka_genesis_refused(const struct kafka_uri *uri, const char *topic, rd_kafka_resp_err_t code, char *error,
                                 size_t error_size)
{
    if (kafka_is_unauthorised(code)) {
        kafka_unauthorised(uri, "read", topic, error, error_size);
        return 2;
    }
    snprintf(error, error_size, "topic %s at %s cannot be read: %s", topic, uri->brokers, rd_kafka_err2str(code));
    return kafka_topic_is_unknown(code) ? KAFKA_TOPIC_GONE : 5;
}

static int kafka_genesis_scan(rd_kafka_t *scanner, const struct kafka_uri *uri, const char *topic, uint32_t first,
                              uint32_t count, int timeout_ms, struct kafka_genesis *out, char *error, size_t error_size)
{
    bool *seen = calloc(count, sizeof *seen);
    uint32_t missing = count;
    int code = 0;
    /* A busy broker needs its time to lead the partitions of a topic that was just made. */
    rd_kafka_resp_err_t begun = seen ? kafka_scanner_begin(scanner, topic, first, count, timeout_ms)
                                     : RD_KAFKA_RESP_ERR__CRIT_SYS_RESOURCE;
    if (begun)
        code = kafka_genesis_refused(uri, topic, begun, error, error_size);
    int64_t deadline = kafka_monotonic_ms() + timeout_ms;
    while (missing > 0 && !code) {
        if (kafka_monotonic_ms() > deadline) { /* looked at each time: the others are read on meanwhile */
            snprintf(error, error_size, "topic %s: %u of %u partitions did not give their first record within %d s: "
                     "have they leaders?", topic, missing, count, timeout_ms / 1000);
            code = 5;
            break;
        }
        rd_kafka_message_t *message = rd_kafka_consumer_poll(scanner, 100);
        if (!message)
            continue;
        uint32_t i = (uint32_t)message->partition - first;
        bool ours = message->rkt && i < count && !seen[i];
        if (ours && !message->err) {
            code = kafka_genesis_take(message, &out[i], topic, error, error_size) ? 0 : 2;
            seen[i] = true, missing--;
        } else if (ours && message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
            seen[i] = true, missing--;
        } else if (message->err == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED ||
                   kafka_topic_is_unknown(message->err)) {
            code = kafka_genesis_refused(uri, topic, message->err, error, error_size);
        }
        rd_kafka_message_destroy(message);
    }
    free(seen);
    return code;
}

int kafka_genesis_ask(const struct kafka_uri *uri, uint32_t first, uint32_t count, int timeout_ms,
                      struct kafka_genesis *out, char *error, size_t error_size)
{
    char topic[KAFKA_TOPIC_NAME_BYTES];
    struct kafka_notes notes;
    memset(out, 0, count * sizeof *out);
    kafka_topic_name(uri, KAFKA_JOURNAL, topic, sizeof topic);
    kafka_notes_init(&notes);
    rd_kafka_t *scanner = kafka_scanner_new(uri, &notes, error, error_size);
    int code = scanner ? 0 : 2;
    if (scanner) {
        code = kafka_genesis_scan(scanner, uri, topic, first, count, timeout_ms, out, error, error_size);
        rd_kafka_destroy_flags(scanner, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
    }
    kafka_notes_free(&notes);
    return code;
}

/* Who asks this has just found the topics: an unknown one is a broker that lost them for now, or has not learned of them. */
int kafka_genesis_read(const struct kafka_uri *uri, uint32_t first, uint32_t count, struct kafka_genesis *out,
                       char *error, size_t error_size)
{
    int code = kafka_genesis_ask(uri, first, count, 2 * KAFKA_OPEN_TIMEOUT_MS, out, error, error_size);
    return code == KAFKA_TOPIC_GONE ? 5 : code;
}

int kafka_genesis_check(const struct kafka_uri *uri, const struct kafka_genesis *found, uint32_t count,
                        uint32_t partitions, char *error, size_t error_size)
{
    char topic[KAFKA_TOPIC_NAME_BYTES];
    kafka_topic_name(uri, KAFKA_JOURNAL, topic, sizeof topic);
    for (uint32_t i = 0; i < count; i++) {
        const Genesis *genesis = &found[i].genesis;
        if (!found[i].found) {
            snprintf(error, error_size, "topic %s, partition %u is empty, without the Genesis record that each begins with: "
                     "it was made anew, or `perdure namespace create` or `grow` was interrupted; in that case run it again", topic, i);
            return 2;
        }
        if (genesis->log_id != found[0].genesis.log_id) {
            snprintf(error, error_size, "topic %s: log id is %016" PRIx64 " in partition %u, must be %016" PRIx64 " as in "
                     "partition 0: these are partitions of two logs", topic, genesis->log_id, i, found[0].genesis.log_id);
            return 2;
        }
        /* Older partitions may not have heard of it yet: the last one is made with the newest map (rule 24). */
        bool older = i + 1 < count && genesis->map_version < found[count - 1].genesis.map_version &&
                     genesis->partitions < partitions;
        if (genesis->partitions != partitions && !older) {
            snprintf(error, error_size, "topic %s: partitions is %u, must be %u as written in Genesis: jobs would be looked "
                     "for in the wrong partition", topic, partitions, genesis->partitions);
            return 2;
        }
        if (genesis->format > FORMAT_VERSION || genesis->rule_level > RULE_LEVEL) { /* rule 32 */
            snprintf(error, error_size, "namespace %s has format %u and rule level %u, this version knows %d and %d: it was "
                     "made or upgraded by a later version", uri->name, genesis->format, genesis->rule_level,
                     FORMAT_VERSION, RULE_LEVEL);
            return 2;
        }
    }
    return 0;
}

static void *kafka_genesis_encode(const struct kafka_uri *uri, const Genesis *like, uint32_t partition, size_t *size)
{
    Genesis genesis = *like;
    uint64_t log_id = like->log_id;
    genesis.namespace_ = (char *)(uintptr_t)uri->name;
    genesis.format = FORMAT_VERSION;
    genesis.partition = partition;
    Header header = PERDURE__V1__HEADER__INIT;
    header.format = FORMAT_VERSION;
    header.rule_level = like->rule_level;
    header.min_reader = 1;
    header.log = (uint32_t)log_id;
    header.kind = PERDURE__V1__KIND__KIND_GENESIS;
    header.map_version = like->map_version;
    header.first = -1;
    header.t = kafka_wall_ms();
    Record record = PERDURE__V1__RECORD__INIT;
    record.header = &header;
    record.genesis = &genesis;
    return record_encode(&record, size);
}

/* Waits for `count` delivery reports. */
static int kafka_genesis_await(rd_kafka_t *producer, uint32_t count, char *error, size_t error_size)
{
    rd_kafka_queue_t *queue = rd_kafka_queue_get_main(producer);
    int64_t deadline = kafka_monotonic_ms() + 2 * KAFKA_OPEN_TIMEOUT_MS;
    int code = 0;
    while (count > 0 && !code && kafka_monotonic_ms() < deadline) {
        rd_kafka_event_t *event = rd_kafka_queue_poll(queue, 100);
        const rd_kafka_message_t *message;
        if (event && rd_kafka_event_type(event) == RD_KAFKA_EVENT_DR)
            while ((message = rd_kafka_event_message_next(event))) {
                count--;
                if (!message->err)
                    continue;
                snprintf(error, error_size, "the Genesis record of partition %d could not be written: %s",
                         (int)message->partition, rd_kafka_err2str(message->err));
                code = 5;
            }
        rd_kafka_event_destroy(event);
    }
    if (count > 0 && !code) {
        snprintf(error, error_size, "%u Genesis records were not acknowledged within %d s; run it again", count,
                 2 * KAFKA_OPEN_TIMEOUT_MS / 1000);
        code = 5;
    }
    rd_kafka_queue_destroy(queue);
    return code;
}

int kafka_genesis_write(rd_kafka_t *producer, const struct kafka_uri *uri, const struct kafka_genesis *found,
                        const Genesis *wanted, char *error, size_t error_size)
{
    char topic[KAFKA_TOPIC_NAME_BYTES];
    Genesis like = *wanted;
    uint32_t partitions = like.partitions;
    kafka_topic_name(uri, KAFKA_JOURNAL, topic, sizeof topic);
    /* An interrupted run has written some: go on with its log id. */
    for (uint32_t i = 0; i < partitions; i++)
        if (found[i].found)
            like.log_id = found[i].genesis.log_id;
    while (like.log_id == 0)
        like.log_id = kafka_random();
    rd_kafka_topic_t *handle = rd_kafka_topic_new(producer, topic, NULL);
    uint32_t written = 0;
    int code = 0;
    for (uint32_t i = 0; i < partitions && !code; i++) {
        if (found[i].found)
            continue;
        size_t size;
        void *data = kafka_genesis_encode(uri, &like, i, &size);
        if (!data || rd_kafka_produce(handle, (int32_t)i, RD_KAFKA_MSG_F_COPY, data, size, NULL, 0, NULL) != 0) {
            snprintf(error, error_size, "the Genesis record of partition %u could not be written: %s", i,
                     data ? rd_kafka_err2str(rd_kafka_last_error()) : "out of memory");
            code = 5;
        } else {
            written++;
        }
        free(data);
    }
    if (!code)
        code = kafka_genesis_await(producer, written, error, error_size);
    rd_kafka_topic_destroy(handle);
    return code;
}
