/*
 * Reading partitions once, from beginning to end.
 */
#include <time.h>

#include "log/kafka_internal.h"

rd_kafka_t *kafka_scanner_new(const struct kafka_uri *uri, struct kafka_notes *notes, char *error, size_t error_size)
{
    const struct kafka_setting settings[] = {
        { "group.id", uri->name },
        { "enable.auto.commit", "false" },
        { "enable.auto.offset.store", "false" },
        { "auto.offset.reset", "earliest" }, /* its head may be cut between the question and the reading */
        { "isolation.level", "read_uncommitted" },
        { "check.crcs", "true" },
        { "enable.partition.eof", "true" },
        { "fetch.wait.max.ms", "20" },
        { NULL, NULL },
    };
    rd_kafka_t *client = kafka_client_new(uri, RD_KAFKA_CONSUMER, "perdure-scan", settings, notes, 0, error,
                                          error_size);
    if (client)
        rd_kafka_poll_set_consumer(client);
    return client;
}

/*
 * Where partitions begin or end (RD_KAFKA_OFFSET_BEGINNING, RD_KAFKA_OFFSET_END: in the place of a time; the first record since
 * 1970 is not the same: a broker looks for it in the oldest segment that it still has on disk, and finds none when the head was
 * cut behind that). Not by rd_kafka_query_watermark_offsets(): before 2.3 that waits for a leader that has died for ever,
 * whatever its timeout (confluentinc/librdkafka#2588).
 */
static rd_kafka_resp_err_t kafka_offsets_ask(rd_kafka_t *client, const char *topic, uint32_t first, uint32_t count, int64_t which,
                                             int timeout_ms, rd_kafka_topic_partition_list_t **asked)
{
    *asked = rd_kafka_topic_partition_list_new((int)count);
    for (uint32_t i = 0; i < count; i++)
        rd_kafka_topic_partition_list_add(*asked, topic, (int32_t)(first + i))->offset = which;
    return rd_kafka_offsets_for_times(client, *asked, timeout_ms);
}

/* So long for the first question; then twice as long each time, up to KAFKA_ASK_TIMEOUT_MS. */
#define KAFKA_ASK_FIRST_MS 1000

static bool kafka_leader_may_move(rd_kafka_resp_err_t code)
{
    return code == RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION || code == RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE ||
           code == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART || code == RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC ||
           code == RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION || code == RD_KAFKA_RESP_ERR__TRANSPORT ||
           code == RD_KAFKA_RESP_ERR__TIMED_OUT || code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN;
}

/*
 * librdkafka asks the leader that it has heard of, for the whole time and each time anew, though that broker died a moment
 * ago and another one leads: it hears of that when it asks for the topic.
 */
static void kafka_leaders_refresh(rd_kafka_t *client, const char *topic)
{
    const struct rd_kafka_metadata *metadata = NULL;
    rd_kafka_topic_t *handle = rd_kafka_topic_new(client, topic, NULL);
    if (handle && !rd_kafka_metadata(client, 0, handle, &metadata, KAFKA_ASK_FIRST_MS))
        rd_kafka_metadata_destroy(metadata);
    if (handle)
        rd_kafka_topic_destroy(handle);
}

/* A topic just made may not be known to its leader yet, and leaders move: asked again for a while. */
static rd_kafka_resp_err_t kafka_offsets_ask_again(rd_kafka_t *client, const char *topic, uint32_t first, uint32_t count,
                                                   int64_t which, int timeout_ms, rd_kafka_topic_partition_list_t **asked)
{
    int64_t deadline = kafka_monotonic_ms() + timeout_ms;
    for (int slice = KAFKA_ASK_FIRST_MS;; slice = slice < KAFKA_ASK_TIMEOUT_MS ? 2 * slice : slice) {
        rd_kafka_resp_err_t code =
            kafka_offsets_ask(client, topic, first, count, which, timeout_ms < slice ? timeout_ms : slice, asked);
        if (!kafka_leader_may_move(code) || kafka_monotonic_ms() > deadline)
            return code;
        rd_kafka_topic_partition_list_destroy(*asked);
        kafka_leaders_refresh(client, topic);
        nanosleep(&(struct timespec){ .tv_nsec = 20 * 1000 * 1000 }, NULL);
    }
}

rd_kafka_resp_err_t kafka_ask_offset(rd_kafka_t *client, const char *topic, uint32_t partition, int64_t which, bool again,
                                     int timeout_ms, int64_t *offset)
{
    rd_kafka_topic_partition_list_t *asked;
    rd_kafka_resp_err_t code = (again ? kafka_offsets_ask_again : kafka_offsets_ask)(client, topic, partition, 1, which,
                                                                                    timeout_ms, &asked);
    if (!code)
        code = asked->elems[0].err;
    *offset = asked->elems[0].offset;
    rd_kafka_topic_partition_list_destroy(asked);
    return code;
}

/*
 * The first offsets are asked for here, all in one go: a consumer that is assigned "the beginning" asks by itself, but
 * waits half a second whenever it does not know the leader yet.
 */
rd_kafka_resp_err_t kafka_scanner_begin(rd_kafka_t *scanner, const char *topic, uint32_t first, uint32_t count,
                                        int timeout_ms)
{
    rd_kafka_topic_partition_list_t *asked = NULL;
    rd_kafka_resp_err_t code = kafka_offsets_ask_again(scanner, topic, first, count, RD_KAFKA_OFFSET_BEGINNING, timeout_ms, &asked);
    for (int i = 0; i < asked->cnt; i++)
        if (asked->elems[i].err)
            asked->elems[i].offset = RD_KAFKA_OFFSET_BEGINNING;
    if (!code)
        code = rd_kafka_assign(scanner, asked);
    rd_kafka_topic_partition_list_destroy(asked);
    return code;
}
