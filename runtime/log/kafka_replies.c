/*
 * Answers to clients, and what nobody could read.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log/kafka_internal.h"
#include "wire/pack.h"

int kafka_reply(struct log *base, const ReplyTo *to, const Reply *reply)
{
    struct kafka_log *log = kafka_log_of(base);
    if (log->replies_partitions <= 0 || to->partition >= (uint32_t)log->replies_partitions)
        return kafka_fail(log, "%s has no partition %u", log->topics[KAFKA_REPLIES], to->partition);
    Reply addressed = *reply;
    addressed.client = to->client;
    addressed.correlation = to->correlation;
    size_t size;
    uint8_t *data = wire_pack(&addressed.base, 0, &size);
    if (!data)
        return kafka_fail(log, "out of memory");
    int result = kafka_produce_aside(log, KAFKA_REPLIES, (int32_t)to->partition, NULL, data, size, NULL);
    free(data);
    return result;
}

/* Other clients' answers come by the same partition. */
static void kafka_answer(struct kafka_log *log, const rd_kafka_message_t *message)
{
    Reply *reply = reply_decode(message->payload, message->len);
    if (!reply)
        return;
    if (reply->client == log->client_id && log->base.handler.reply)
        log->base.handler.reply(log->base.handler.context, reply);
    reply_free(reply);
}

static void kafka_answers_serve(struct kafka_log *log, struct kafka_source *source)
{
    size_t count = 0;
    for (; count < KAFKA_TURN_MESSAGES && rd_kafka_queue_length(source->queue) > 0; count++) {
        rd_kafka_message_t *message = rd_kafka_consume_queue(source->queue, 0);
        if (message && !message->err) {
            source->position = message->offset + 1;
            kafka_reachable(log);
            kafka_answer(log, message);
        } else if (message && (message->err == RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET ||
                               message->err == RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE)) {
            kafka_consume_assign(log, source, RD_KAFKA_OFFSET_END); /* what was missed is asked for again */
        } else if (message && kafka_is_unauthorised(message->err)) {
            kafka_fault_unauthorised(log, "read", log->topics[KAFKA_REPLIES]);
        }
        if (message)
            rd_kafka_message_destroy(message);
    }
    if (count == KAFKA_TURN_MESSAGES)
        atomic_store(&source->ready, true);
}

int kafka_reply_address(struct log *base, ReplyTo *to)
{
    struct kafka_log *log = kafka_log_of(base);
    struct kafka_source *source = &log->answers;
    if (!source->followed) {
        int64_t end;
        if (!kafka_reader_open(log))
            return LOG_FAILED;
        source->topic = KAFKA_REPLIES;
        source->partition = (uint32_t)(kafka_random() % (uint64_t)log->replies_partitions);
        source->serve = kafka_answers_serve;
        /* The end as it is now, not as it will be when librdkafka asks: an answer may be there before. */
        rd_kafka_resp_err_t code = kafka_ask_offset(log->producer, log->topics[KAFKA_REPLIES], source->partition,
                                                    RD_KAFKA_OFFSET_END, true, KAFKA_OPEN_TIMEOUT_MS, &end);
        if (code)
            return kafka_fail_asking(log, code, "ask for the end of", log->topics[KAFKA_REPLIES]);
        if (!kafka_consume_assign(log, source, end))
            return LOG_FAILED;
    }
    to->partition = source->partition;
    to->client = log->client_id;
    return LOG_OK;
}

int kafka_dead(struct log *base, const struct log_record *record, const char *reason)
{
    struct kafka_log *log = kafka_log_of(base);
    char partition[16], offset[24];
    rd_kafka_headers_t *headers = rd_kafka_headers_new(4);
    int partition_length = snprintf(partition, sizeof partition, "%u", record->partition);
    int offset_length = snprintf(offset, sizeof offset, "%" PRId64, record->offset);
    rd_kafka_header_add(headers, "reason", -1, reason, -1);
    rd_kafka_header_add(headers, "stream", -1, record->stream == LOG_JOURNAL ? "journal" : "inbox", -1);
    rd_kafka_header_add(headers, "partition", -1, partition, partition_length);
    rd_kafka_header_add(headers, "offset", -1, offset, offset_length);
    return kafka_produce_dead(log, record, reason, headers);
}
