/*
 * Trimming: DeleteRecords, one call at a time for all partitions that want it, at most one a second.
 */
#include <stdlib.h>
#include <string.h>

#include "log/kafka_internal.h"

int kafka_trim(struct log *base, enum log_stream stream, uint32_t partition, int64_t below)
{
    struct kafka_log *log = kafka_log_of(base);
    if (log->read_only)
        return kafka_fail(log, "the log was opened to read only");
    if (partition >= log->partitions)
        return kafka_fail(log, "there is no partition %u", partition);
    struct kafka_source *source = kafka_following(log, stream, partition);
    if (below > source->trim_below)
        source->trim_below = below;
    return LOG_OK;
}

void kafka_trim_chores(struct kafka_log *log)
{
    if (log->trimming || log->producer_failed || !log->produced.queue)
        return;
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(8);
    for (uint32_t i = 0; i < log->partitions * 2; i++) {
        struct kafka_source *source = &log->followings[i];
        if (source->trim_below <= 0)
            continue;
        rd_kafka_topic_partition_list_add(list, log->topics[source->topic], (int32_t)source->partition)->offset =
            source->trim_below;
        source->trim_sent = source->trim_below;
        source->trim_below = -1;
    }
    if (list->cnt > 0) {
        rd_kafka_DeleteRecords_t *records = rd_kafka_DeleteRecords_new(list);
        rd_kafka_DeleteRecords(log->producer, &records, 1, NULL, log->produced.queue);
        rd_kafka_DeleteRecords_destroy(records);
        log->trimming = true;
    }
    rd_kafka_topic_partition_list_destroy(list);
}

/* Nothing depends on it but the disk. What is refused is said once, other failures are tried again. */
static void kafka_trim_failed(struct kafka_log *log, struct kafka_source *source, rd_kafka_resp_err_t code)
{
    char text[640];
    if (!kafka_is_unauthorised(code) && source->trim_sent > source->trim_below)
        source->trim_below = source->trim_sent;
    if (!kafka_is_unauthorised(code) || log->trim_refusal_told)
        return;
    log->trim_refusal_told = true;
    kafka_unauthorised(&log->uri, "delete old records of (Delete)", log->topics[source->topic], text, sizeof text);
    kafka_fault(log, LOG_UNREACHABLE, LOG_ALL, "%s. Until it may, the namespace grows without end", text);
}

void kafka_trim_done(struct kafka_log *log, rd_kafka_event_t *event)
{
    const rd_kafka_DeleteRecords_result_t *result = rd_kafka_event_DeleteRecords_result(event);
    const rd_kafka_topic_partition_list_t *list = result ? rd_kafka_DeleteRecords_result_offsets(result) : NULL;
    rd_kafka_resp_err_t whole = rd_kafka_event_error(event);
    log->trimming = false;
    for (int i = 0; list && i < list->cnt; i++) {
        bool journal = strcmp(list->elems[i].topic, log->topics[KAFKA_JOURNAL]) == 0;
        struct kafka_source *source = kafka_following(log, journal ? LOG_JOURNAL : LOG_INBOX, (uint32_t)list->elems[i].partition);
        if (list->elems[i].err && list->elems[i].err != RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE)
            kafka_trim_failed(log, source, list->elems[i].err);
        source->trim_sent = -1;
    }
    for (uint32_t i = 0; whole && i < log->partitions * 2; i++) {
        if (log->followings[i].trim_sent > 0)
            kafka_trim_failed(log, &log->followings[i], whole);
        log->followings[i].trim_sent = -1;
    }
}
