/*
 * Reading: one consumer that joins no group and is assigned what we follow; each partition has a queue of its own, so
 * that a long catch-up of one does not keep the others waiting.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log/kafka_internal.h"

/* The end must be seen below the position so often in a row, a chore interval apart: a new leader may for a moment tell
 * an end that lags. */
#define KAFKA_SHORT_CHORES 3

struct kafka_source *kafka_following(struct kafka_log *log, enum log_stream stream, uint32_t partition)
{
    return &log->followings[(stream == LOG_JOURNAL ? 0 : log->partitions) + partition];
}

static enum log_stream kafka_stream_of(const struct kafka_source *source)
{
    return source->topic == KAFKA_JOURNAL ? LOG_JOURNAL : LOG_INBOX;
}

/* A record in the consumer's own queue is one that its partition's queue missed: the partition is assigned anew. */
static void kafka_gone_astray(struct kafka_log *log, const rd_kafka_message_t *message)
{
    for (uint32_t i = 0; message && message->rkt && i < log->partitions * 2; i++) {
        struct kafka_source *source = &log->followings[i];
        if (source->followed && source->partition == (uint32_t)message->partition &&
            strcmp(log->topics[source->topic], rd_kafka_topic_name(message->rkt)) == 0) {
            source->end_told = -1;
            source->read_ms = 0;
        }
    }
}

static void kafka_reading_serve(struct kafka_log *log, struct kafka_source *source)
{
    while (rd_kafka_queue_length(source->queue) > 0) {
        rd_kafka_event_t *event = rd_kafka_queue_poll(source->queue, 0);
        if (event && rd_kafka_event_type(event) == RD_KAFKA_EVENT_ERROR)
            kafka_on_error(log, log->reader, event);
        else if (event && rd_kafka_event_type(event) == RD_KAFKA_EVENT_FETCH)
            kafka_gone_astray(log, rd_kafka_event_message_next(event));
        rd_kafka_event_destroy(event);
    }
}

/* A partition of which so much is queued is not read on. librdkafka then looks again after fetch.queue.backoff.ms; before 2.2
 * there is no such setting, and it is up to a second. */
#define KAFKA_QUEUE_KBYTES "4096"
#define KAFKA_FETCH_ON_BYTES ((size_t)2 * 1024 * 1024)
#define KAFKA_FETCH_ON_TIMEOUT_MS 100

static bool kafka_backs_off_for_long(void) { return rd_kafka_version() < 0x02020000; }

bool kafka_reader_open(struct kafka_log *log)
{
    const struct kafka_setting settings[] = {
        { "group.id", log->uri.name }, /* assign() wants one; nothing is joined or committed */
        { "enable.auto.commit", "false" },
        { "enable.auto.offset.store", "false" },
        { "auto.offset.reset", "error" },
        { "isolation.level", "read_uncommitted" }, /* a foreign open transaction must not freeze the read-back */
        { "check.crcs", "true" },
        { "enable.partition.eof", "true" },
        { "fetch.wait.max.ms", "20" }, /* a partition just followed waits so long for its turn */
        { "fetch.error.backoff.ms", "50" },
        { "queued.max.messages.kbytes", KAFKA_QUEUE_KBYTES }, /* for each partition */
        { kafka_backs_off_for_long() ? NULL : "fetch.queue.backoff.ms", "5" },
        { NULL, NULL },
    };
    char error[256];
    if (log->reader)
        return true;
    log->reader = kafka_client_new(&log->uri, RD_KAFKA_CONSUMER, log->client_name, settings, &log->notes,
                                   RD_KAFKA_EVENT_ERROR, error, sizeof error);
    if (!log->reader) {
        kafka_fail(log, "%s", error);
        return false;
    }
    rd_kafka_poll_set_consumer(log->reader);
    log->reading.serve = kafka_reading_serve;
    return kafka_source_open(log, &log->reading, rd_kafka_queue_get_consumer(log->reader));
}

/* ---- following ------------------------------------------------------------------------------------------------------ */

static rd_kafka_topic_partition_list_t *kafka_list_of(struct kafka_log *log, const struct kafka_source *source,
                                                      int64_t offset)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, log->topics[source->topic], (int32_t)source->partition)->offset = offset;
    return list;
}

static void kafka_unassign(struct kafka_log *log, struct kafka_source *source)
{
    if (!source->followed)
        return;
    source->followed = false;
    rd_kafka_topic_partition_list_t *list = kafka_list_of(log, source, RD_KAFKA_OFFSET_INVALID);
    rd_kafka_error_t *error = rd_kafka_incremental_unassign(log->reader, list);
    if (error)
        rd_kafka_error_destroy(error);
    rd_kafka_topic_partition_list_destroy(list);
}

/*
 * The queue is asked for each time. A partition that is taken back before librdkafka has heard of its topic is another
 * object when it is assigned again: the queue from before stays empty for ever, and what is fetched goes to the consumer's.
 */
static bool kafka_take_queue(struct kafka_log *log, struct kafka_source *source)
{
    rd_kafka_queue_t *queue = rd_kafka_queue_get_partition(log->reader, log->topics[source->topic],
                                                           (int32_t)source->partition);
    if (queue)
        rd_kafka_queue_forward(queue, NULL);
    kafka_source_close(source);
    if (kafka_source_open(log, source, queue))
        return true;
    kafka_fail(log, "out of memory");
    return false;
}

/* What is queued from before is dropped by librdkafka: unassigning made it out of date. */
bool kafka_consume_assign(struct kafka_log *log, struct kafka_source *source, int64_t from)
{
    kafka_unassign(log, source);
    if (!kafka_take_queue(log, source))
        return false;
    source->position = from;
    source->end_told = -1;
    source->read_ms = kafka_monotonic_ms();
    source->short_seen = 0;
    rd_kafka_topic_partition_list_t *list = kafka_list_of(log, source, from);
    rd_kafka_error_t *error = rd_kafka_incremental_assign(log->reader, list);
    rd_kafka_topic_partition_list_destroy(list);
    if (error) {
        kafka_fail(log, "topic %s, partition %u cannot be read: %s", log->topics[source->topic], source->partition,
                   rd_kafka_error_string(error));
        rd_kafka_error_destroy(error);
        return false;
    }
    source->followed = true;
    return true;
}

static void kafka_end(struct kafka_log *log, struct kafka_source *source, int64_t end)
{
    if (source->end_told == end)
        return;
    source->end_told = end;
    if (log->base.handler.end)
        log->base.handler.end(log->base.handler.context, kafka_stream_of(source), source->partition, end);
}

/* ---- what went wrong ------------------------------------------------------------------------------------------------ */

/* In an outage nobody answers: one question that waited in vain is enough for a while, or polling would hang. */
static bool kafka_may_ask(const struct kafka_log *log)
{
    return kafka_monotonic_ms() >= log->ask_again_ms;
}

static void kafka_asked_in_vain(struct kafka_log *log, int64_t again_ms)
{
    log->ask_again_ms = kafka_monotonic_ms() + again_ms;
}

/*
 * Is it still the log that we opened? A topic that was deleted and made again begins with another Genesis, or none.
 * True: it is, or nobody can tell now.
 */
static bool kafka_same_log(struct kafka_log *log, uint32_t partition)
{
    struct kafka_genesis found;
    char error[256] = "";
    if (!kafka_may_ask(log))
        return true;
    int code = kafka_genesis_ask(&log->uri, partition, 1, KAFKA_ASK_TIMEOUT_MS, &found, error, sizeof error);
    if (code == 5)
        kafka_asked_in_vain(log, KAFKA_ASK_AGAIN_MS);
    if (code == 5 || (!code && found.found && found.genesis.log_id == log->base.genesis.log_id))
        return true;
    if (!log->dead)
        kafka_fault(log, LOG_FATAL, LOG_ALL, "topic %s is not the one that was opened (log id %016" PRIx64 "): partition %u: "
                    "%s. It was deleted, or made anew", log->topics[KAFKA_JOURNAL], log->base.genesis.log_id, partition,
                    code ? error : found.found ? "another log id" : "it is empty");
    log->dead = true;
    return false;
}

static void kafka_lost(struct kafka_log *log, struct kafka_source *source)
{
    int64_t start = -1, end = -1, position = source->position;
    enum log_stream stream = kafka_stream_of(source);
    kafka_unassign(log, source);
    if (log->dead || !kafka_same_log(log, source->partition))
        return;
    if (!kafka_may_ask(log) || kafka_bounds(&log->base, stream, source->partition, &start, &end) != LOG_OK) {
        kafka_consume_assign(log, source, position); /* no leader just now: the same will be asked again */
        return;
    }
    if (position > end && stream == LOG_INBOX)
        kafka_end(log, source, end); /* the journal is whole: its owner goes on from there (H21) */
    else if (position > end)
        kafka_fault(log, LOG_TRUNCATED, source->partition, "topic %s, partition %u ends at %" PRId64 ", but was read up to "
                    "%" PRId64 ": records were lost, as by an unclean leader election or a restored disk",
                    log->topics[source->topic], source->partition, end, position);
    else if (position < start)
        kafka_fault(log, LOG_OUT_OF_RANGE, source->partition, "topic %s, partition %u begins at %" PRId64 ", the records from "
                    "%" PRId64 " on are gone", log->topics[source->topic], source->partition, start, position);
    else
        kafka_consume_assign(log, source, position);
}

static void kafka_partition_error(struct kafka_log *log, struct kafka_source *source, const rd_kafka_message_t *message)
{
    switch (message->err) {
    case RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET:
    case RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE:
#if RD_KAFKA_VERSION >= 0x020100ff
    case RD_KAFKA_RESP_ERR__LOG_TRUNCATION:
#endif
        kafka_lost(log, source);
        break;
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
    case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
    case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
        kafka_same_log(log, source->partition);
        break;
    case RD_KAFKA_RESP_ERR__BAD_MSG:
    case RD_KAFKA_RESP_ERR__BAD_COMPRESSION:
    case RD_KAFKA_RESP_ERR__NOT_IMPLEMENTED:
    case RD_KAFKA_RESP_ERR_INVALID_MSG:
        /* Going on behind it would skip records. */
        kafka_unassign(log, source);
        kafka_fault(log, LOG_FATAL, source->partition, "topic %s, partition %u cannot be read from offset %" PRId64 " on: %s",
                    log->topics[source->topic], source->partition, source->position, rd_kafka_message_errstr(message));
        break;
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
        kafka_unassign(log, source);
        kafka_fault_unauthorised(log, "read", log->topics[source->topic]);
        break;
    default:
        if (kafka_monotonic_ms() - source->told_ms < 10000)
            break;
        source->told_ms = kafka_monotonic_ms();
        kafka_fault(log, LOG_UNREACHABLE, source->partition, "topic %s, partition %u: %s; it is tried again",
                    log->topics[source->topic], source->partition, rd_kafka_message_errstr(message));
    }
}

/* ---- handing over --------------------------------------------------------------------------------------------------- */

static void kafka_hand_over(struct kafka_log *log, struct kafka_source *source, const rd_kafka_message_t *message)
{
    if (message->offset < source->position)
        return;
    rd_kafka_timestamp_type_t type;
    struct log_record record = {
        .stream = kafka_stream_of(source),
        .partition = source->partition,
        .offset = message->offset,
        .append_ms = rd_kafka_message_timestamp(message, &type),
        .leader_epoch = -1,
        .data = message->payload,
        .size = message->len,
    };
#if RD_KAFKA_VERSION >= 0x020100ff
    record.leader_epoch = rd_kafka_message_leader_epoch(message);
#endif
    source->position = message->offset + 1;
    source->taken += message->len;
    if (log->base.handler.record)
        log->base.handler.record(log->base.handler.context, &record);
}

/* The end of the partition is known from the answer that brought the last records; the event that says so comes only
 * with the next one. */
static void kafka_look_for_end(struct kafka_log *log, struct kafka_source *source)
{
    int64_t low, high;
    if (source->followed && source->end_told != source->position &&
        rd_kafka_get_watermark_offsets(log->reader, log->topics[source->topic], (int32_t)source->partition, &low, &high) ==
            RD_KAFKA_RESP_ERR_NO_ERROR &&
        high >= 0 && source->position == high)
        kafka_end(log, source, high);
}

/* There is room in the queue: a question to the leader has the thread turn round that reads from it. */
static void kafka_fetch_on(struct kafka_log *log, struct kafka_source *source)
{
    const char *topic = log->topics[source->topic];
    int64_t low, high, end;
    source->taken = 0;
    if (kafka_backs_off_for_long() && source->followed &&
        !rd_kafka_get_watermark_offsets(log->reader, topic, (int32_t)source->partition, &low, &high) && high > source->position)
        (void)kafka_ask_offset(log->reader, topic, source->partition, RD_KAFKA_OFFSET_END, false, KAFKA_FETCH_ON_TIMEOUT_MS,
                               &end);
}

static void kafka_following_serve(struct kafka_log *log, struct kafka_source *source)
{
    size_t count = 0;
    bool any = false;
    for (; count < KAFKA_TURN_MESSAGES && rd_kafka_queue_length(source->queue) > 0; count++) {
        rd_kafka_message_t *message = rd_kafka_consume_queue(source->queue, 0);
        if (!message)
            continue;
        if (source->taken >= KAFKA_FETCH_ON_BYTES)
            kafka_fetch_on(log, source);
        if (!source->followed) {
            /* left over from before unfollow() */
        } else if (!message->err) {
            any = true;
            kafka_hand_over(log, source, message);
        } else if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
            any = true;
            if (message->offset >= source->position) { /* beyond it: a transaction's marker, which is no record */
                source->position = message->offset;
                kafka_end(log, source, message->offset);
            }
        } else {
            kafka_partition_error(log, source, message);
        }
        rd_kafka_message_destroy(message);
    }
    if (any) {
        source->read_ms = kafka_monotonic_ms();
        kafka_reachable(log);
    }
    if (count == KAFKA_TURN_MESSAGES)
        atomic_store(&source->ready, true);
    else if (any || source->look)
        kafka_look_for_end(log, source);
    source->look = false;
}

/* ---- operations ----------------------------------------------------------------------------------------------------- */

/*
 * Where the partitions of a topic are that a client holds, it asks when it connects; of one that is first named with a
 * partition to read, up to a second later. So long an owner would not see its inbox.
 */
static bool kafka_hold_topics(struct kafka_log *log)
{
    static const enum kafka_topic topics[] = { KAFKA_JOURNAL, KAFKA_INBOX };
    for (size_t i = 0; i < sizeof topics / sizeof *topics; i++)
        if (!log->read_topics[i] && !(log->read_topics[i] = rd_kafka_topic_new(log->reader, log->topics[topics[i]], NULL)))
            return false;
    return true;
}

static void kafka_let_topics_go(struct kafka_log *log)
{
    for (size_t i = 0; i < sizeof log->read_topics / sizeof *log->read_topics; i++)
        if (log->read_topics[i])
            rd_kafka_topic_destroy(log->read_topics[i]);
}

int kafka_follow(struct log *base, enum log_stream stream, uint32_t partition, int64_t from)
{
    struct kafka_log *log = kafka_log_of(base);
    if (partition >= log->partitions || from < 0)
        return kafka_fail(log, "there is no partition %u, or no offset %" PRId64, partition, from);
    if (!kafka_reader_open(log))
        return LOG_FAILED;
    if (log->member && !kafka_hold_topics(log)) /* a client may read what it was given rights to */
        return kafka_fail(log, "out of memory");
    struct kafka_source *source = kafka_following(log, stream, partition);
    source->serve = kafka_following_serve;
    if (source->followed && source->position == from) { /* it is being read: only the end is wanted (again) */
        source->look = source->end_told >= 0;
        source->end_told = -1;
        atomic_store(&source->ready, true);
        return LOG_OK;
    }
    return kafka_consume_assign(log, source, from) ? LOG_OK : LOG_FAILED;
}

int kafka_unfollow(struct log *base, enum log_stream stream, uint32_t partition)
{
    struct kafka_log *log = kafka_log_of(base);
    if (partition >= log->partitions)
        return kafka_fail(log, "there is no partition %u", partition);
    kafka_unassign(log, kafka_following(log, stream, partition));
    return LOG_OK;
}

int kafka_bounds(struct log *base, enum log_stream stream, uint32_t partition, int64_t *start, int64_t *end)
{
    struct kafka_log *log = kafka_log_of(base);
    const char *topic = log->topics[stream == LOG_JOURNAL ? KAFKA_JOURNAL : KAFKA_INBOX];
    if (!log->producer) /* it failed, and could not be replaced yet */
        return kafka_fail(log, "cannot ask for the bounds of %s: there is no producer just now", topic);
    /* librdkafka asks the leader that it knows, to the end of the time, also when that broker is dead. A worker that takes
     * over many partitions of a dead broker must not wait for each: it has jobs to run, and gets by without an answer. */
    bool worker = log->member != NULL;
    int timeout_ms = worker ? KAFKA_WORKER_ASK_TIMEOUT_MS : KAFKA_OPEN_TIMEOUT_MS;
    rd_kafka_resp_err_t code = RD_KAFKA_RESP_ERR__TIMED_OUT;
    if (!worker || kafka_may_ask(log))
        code = kafka_ask_offset(log->producer, topic, partition, RD_KAFKA_OFFSET_BEGINNING, !worker, timeout_ms, start);
    if (!code)
        code = kafka_ask_offset(log->producer, topic, partition, RD_KAFKA_OFFSET_END, !worker, timeout_ms, end);
    if (!code)
        return LOG_OK;
    if (worker && kafka_may_ask(log))
        kafka_asked_in_vain(log, KAFKA_BOUNDS_AGAIN_MS);
    return kafka_fail_asking(log, code, "ask for the bounds of", topic);
}

/* librdkafka 2.0.2 cannot see a truncation while nothing is read: the end that the broker tells with each answer can. */
static void kafka_check_end(struct kafka_log *log, struct kafka_source *source)
{
    int64_t low, high;
    if (rd_kafka_get_watermark_offsets(log->reader, log->topics[source->topic], (int32_t)source->partition, &low, &high) ||
        high < 0 || high >= source->position) {
        source->short_seen = 0;
        return;
    }
    if (++source->short_seen < KAFKA_SHORT_CHORES)
        return;
    source->short_seen = 0;
    kafka_lost(log, source);
}

/* Whoever is not told an end in this time asks once more, then in twice that: what a slow link has begun to bring is thrown
 * away by it. While no broker answers that changes nothing. */
#define KAFKA_SILENT_MS 5000
#define KAFKA_SILENT_MAX_MS 320000

static void kafka_check_silent(struct kafka_log *log, struct kafka_source *source)
{
    if (source->end_told >= 0 || source->silent_ms == 0)
        source->silent_ms = KAFKA_SILENT_MS;
    if (source->end_told >= 0 || kafka_monotonic_ms() - source->read_ms < source->silent_ms)
        return;
    if (source->silent_ms < KAFKA_SILENT_MAX_MS)
        source->silent_ms *= 2;
    kafka_consume_assign(log, source, source->position);
}

void kafka_consume_chores(struct kafka_log *log)
{
    if (log->doubted && !log->dead)
        kafka_same_log(log, 0);
    log->doubted = false;
    for (uint32_t i = 0; log->reader && i < log->partitions * 2 && kafka_may_ask(log); i++)
        if (log->followings[i].followed) {
            kafka_check_silent(log, &log->followings[i]);
            kafka_check_end(log, &log->followings[i]);
        }
}

static void *kafka_reader_destroy(void *reader)
{
    rd_kafka_destroy_flags(reader, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
    return NULL;
}

void kafka_consume_stop(struct kafka_log *log)
{
    for (uint32_t i = 0; log->followings && i < log->partitions * 2; i++)
        kafka_source_close(&log->followings[i]);
    kafka_source_close(&log->answers);
    kafka_source_close(&log->reading);
    if (!log->reader)
        return;
    kafka_let_topics_go(log);
    /* librdkafka 2.0.2 never ends a consumer whose topic was deleted: it may take its memory along, but not us. */
    pthread_t aside;
    if (log->dead && pthread_create(&aside, NULL, kafka_reader_destroy, log->reader) == 0)
        pthread_detach(aside);
    else
        kafka_reader_destroy(log->reader);
    log->reader = NULL;
}
