/*
 * Trimming: DeleteRecords, one call at a time for all partitions that want it, at most one a second.
 */
#include <stdlib.h>

#include "log/kafka_internal.h"

int kafka_trim(struct log *base, enum log_stream stream, uint32_t partition, int64_t below)
{
    struct kafka_log *log = kafka_log_of(base);
    if (log->read_only)
        return kafka_fail(log, "the log was opened to read only");
    if (partition >= log->partitions)
        return kafka_fail(log, "there is no partition %u", partition);
    struct kafka_source *source = &log->followings[(stream == LOG_JOURNAL ? 0 : log->partitions) + partition];
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

/* A trim that failed is asked for again by the next one, which goes further: nothing else depends on it. */
void kafka_trim_done(struct kafka_log *log, rd_kafka_event_t *event)
{
    (void)event;
    log->trimming = false;
}
