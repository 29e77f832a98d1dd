/*
 * Appending: one idempotent producer, acks=all, replaced when it fails for good.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log/kafka_internal.h"

static bool kafka_produce_handles(struct kafka_log *log)
{
    for (int topic = 0; topic < KAFKA_TOPICS; topic++) {
        log->handles[topic] = rd_kafka_topic_new(log->producer, log->topics[topic], NULL);
        if (!log->handles[topic])
            return false;
    }
    return true;
}

/* A new producer. It need not reach a broker: what is appended meanwhile waits in its queues. */
static bool kafka_produce_new(struct kafka_log *log, char *error, size_t error_size)
{
    log->producer = log->read_only ? kafka_asker_new(&log->uri, log->client_name, &log->notes, error, error_size)
                                   : kafka_producer_new(&log->uri, log->client_name, &log->notes, error, error_size);
    if (!log->producer)
        return false;
    log->produced.serve = kafka_produce_serve;
    if (kafka_produce_handles(log) && kafka_source_open(log, &log->produced, rd_kafka_queue_get_main(log->producer)))
        return true;
    snprintf(error, error_size, "out of memory");
    return false;
}

int kafka_produce_start(struct kafka_log *log, char *error, size_t error_size)
{
    struct kafka_shape shape;
    if (!kafka_produce_new(log, error, error_size))
        return 2;
    /* The first append need not wait for the partitions to be known. */
    return kafka_topics_shape(log->producer, &log->uri, &log->notes, KAFKA_OPEN_TIMEOUT_MS, &shape, error, error_size);
}

/* ---- what plain tools see ------------------------------------------------------------------------------------------- */

static const char *kafka_kind_name(uint32_t kind)
{
    static const char *const names[] = { "none",  "genesis", "claim",    "release", "mark",
                                         "event", "copy",    "stub",     "slot_out", "slot_in" };
    if (kind < sizeof names / sizeof *names)
        return names[kind];
    switch (kind) {
    case PERDURE__V1__KIND__KIND_COMMAND:
        return "command";
    case PERDURE__V1__KIND__KIND_FORWARDED:
        return "forwarded";
    case PERDURE__V1__KIND__KIND_TASK:
        return "task";
    default:
        return "";
    }
}

rd_kafka_headers_t *kafka_headers(const Header *header)
{
    rd_kafka_headers_t *headers = rd_kafka_headers_new(5);
    char number[24];
    if (header->job && *header->job)
        rd_kafka_header_add(headers, "job", 3, header->job, -1);
    if (header->run) {
        int length = snprintf(number, sizeof number, "%016" PRIx64, header->run);
        rd_kafka_header_add(headers, "run", 3, number, length);
    }
    if (header->seq) {
        int length = snprintf(number, sizeof number, "%" PRIu64, header->seq);
        rd_kafka_header_add(headers, "seq", 3, number, length);
    }
    rd_kafka_header_add(headers, "kind", 4, kafka_kind_name(header->kind), -1);
    if (header->name && *header->name)
        rd_kafka_header_add(headers, "name", 4, header->name, -1);
    return headers;
}

/* ---- sending -------------------------------------------------------------------------------------------------------- */

/* Takes `headers` over. */
static rd_kafka_resp_err_t kafka_send(struct kafka_log *log, enum kafka_topic topic, int32_t partition, const char *key,
                                      const void *data, size_t size, rd_kafka_headers_t *headers, void *opaque)
{
    rd_kafka_vu_t fields[] = {
        { .vtype = RD_KAFKA_VTYPE_RKT, .u.rkt = log->handles[topic] },
        { .vtype = RD_KAFKA_VTYPE_PARTITION, .u.i32 = partition },
        { .vtype = RD_KAFKA_VTYPE_MSGFLAGS, .u.i = RD_KAFKA_MSG_F_COPY },
        { .vtype = RD_KAFKA_VTYPE_VALUE, .u.mem = { .ptr = (void *)(uintptr_t)data, .size = size } },
        { .vtype = RD_KAFKA_VTYPE_KEY, .u.mem = { .ptr = (void *)(uintptr_t)key, .size = key ? strlen(key) : 0 } },
        { .vtype = RD_KAFKA_VTYPE_OPAQUE, .u.ptr = opaque },
        { .vtype = RD_KAFKA_VTYPE_HEADERS, .u.headers = headers },
    };
    size_t count = sizeof fields / sizeof *fields - (headers ? 0 : 1);
    rd_kafka_error_t *error = rd_kafka_produceva(log->producer, fields, count);
    if (!error)
        return RD_KAFKA_RESP_ERR_NO_ERROR;
    rd_kafka_resp_err_t code = rd_kafka_error_code(error);
    rd_kafka_error_destroy(error);
    if (headers)
        rd_kafka_headers_destroy(headers);
    return code;
}

static void kafka_producer_fail(struct kafka_log *log, const char *reason)
{
    if (!log->producer_failed)
        snprintf(log->producer_reason, sizeof log->producer_reason, "%s", reason);
    log->producer_failed = true;
}

/* Why a message was not taken: LOG_FULL when a poll helps. */
static int kafka_send_refused(struct kafka_log *log, enum kafka_topic topic, rd_kafka_resp_err_t code)
{
    switch (code) {
    case RD_KAFKA_RESP_ERR__QUEUE_FULL:
        return LOG_FULL;
    case RD_KAFKA_RESP_ERR__FATAL:
        if (kafka_is_unauthorised(rd_kafka_fatal_error(log->producer, NULL, 0)))
            return kafka_fail_asking(log, RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, "write", log->topics[topic]);
        kafka_producer_fail(log, "a fatal error");
        return LOG_FULL;
    case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC: /* a broker that has just started says so of topics that it has not heard of yet */
    case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
        log->doubted = true; /* deleted? The next chores look. */
        if (log->unknown_ms == 0)
            log->unknown_ms = kafka_monotonic_ms();
        if (kafka_monotonic_ms() - log->unknown_ms < KAFKA_UNKNOWN_PATIENCE_MS)
            return LOG_FULL;
        return kafka_fail(log, "topic %s at %s does not take a message: %s", log->topics[topic], log->uri.brokers,
                          rd_kafka_err2str(code));
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED: /* of an idempotent producer that may write nowhere */
        return kafka_fail_asking(log, code, "write", log->topics[topic]);
    default:
        return kafka_fail(log, "topic %s at %s does not take a message: %s", log->topics[topic], log->uri.brokers,
                          rd_kafka_err2str(code));
    }
}

static struct kafka_append *kafka_append_new(struct kafka_log *log)
{
    struct kafka_append *append = log->spare;
    if (append)
        log->spare = append->next;
    else
        append = malloc(sizeof *append);
    if (append)
        append->aside = NULL;
    return append;
}

static void kafka_append_link(struct kafka_append **list, struct kafka_append *append)
{
    append->link = list;
    append->next = *list;
    if (append->next)
        append->next->link = &append->next;
    *list = append;
}

static void kafka_aside_free(struct kafka_aside *aside)
{
    if (aside)
        free(aside->text);
    free(aside);
}

static void kafka_append_unlink(struct kafka_log *log, struct kafka_append *append)
{
    kafka_aside_free(append->aside);
    append->aside = NULL;
    if (append->lane) {
        append->lane->count--;
        append->lane->bytes -= (int64_t)append->size;
    }
    *append->link = append->next;
    if (append->next)
        append->next->link = append->link;
    append->next = log->spare;
    log->spare = append;
}

int kafka_append(struct log *base, enum log_stream stream, uint32_t partition, const struct log_message *message,
                 uint64_t cookie)
{
    struct kafka_log *log = kafka_log_of(base);
    enum kafka_topic topic = stream == LOG_JOURNAL ? KAFKA_JOURNAL : KAFKA_INBOX;
    if (log->read_only)
        return kafka_fail(log, "the log was opened to read only");
    if (partition >= log->partitions)
        return kafka_fail(log, "%s has no partition %u", log->topics[topic], partition);
    if (message->size > RECORD_LIMIT_BYTES)
        return kafka_fail(log, "a record of %zu bytes is above the limit of %d", message->size, RECORD_LIMIT_BYTES);
    struct kafka_lane *lane = &log->lanes[(stream == LOG_JOURNAL ? 0 : log->partitions) + partition];
    if (log->producer_failed || lane->count >= log->lane_count_max ||
        lane->bytes + (int64_t)message->size > log->lane_bytes_max)
        return LOG_FULL;
    struct kafka_append *append = kafka_append_new(log);
    if (!append)
        return kafka_fail(log, "out of memory");
    rd_kafka_resp_err_t code = kafka_send(log, topic, (int32_t)partition, message->key, message->data, message->size,
                                          message->header ? kafka_headers(message->header) : NULL, append);
    if (code) {
        append->next = log->spare;
        log->spare = append;
        return kafka_send_refused(log, topic, code);
    }
    append->lane = lane;
    append->cookie = cookie;
    append->size = message->size;
    kafka_append_link(&log->in_flight, append);
    lane->count++;
    lane->bytes += (int64_t)message->size;
    return LOG_OK;
}

static int kafka_send_aside(struct kafka_log *log, enum kafka_topic topic, int32_t partition, const char *key,
                            const void *data, size_t size, rd_kafka_headers_t *headers, struct kafka_append *status)
{
    int result = LOG_FULL;
    if (log->read_only)
        result = kafka_fail(log, "the log was opened to read only");
    if (log->read_only || log->producer_failed || log->aside[topic] >= KAFKA_ASIDE_MESSAGES) {
        if (headers)
            rd_kafka_headers_destroy(headers);
        return result;
    }
    rd_kafka_resp_err_t code = kafka_send(log, topic, partition, key, data, size, headers, status);
    if (code)
        return kafka_send_refused(log, topic, code);
    log->aside[topic]++;
    return LOG_OK;
}

int kafka_produce_aside(struct kafka_log *log, enum kafka_topic topic, int32_t partition, const char *key,
                        const void *data, size_t size, rd_kafka_headers_t *headers)
{
    return kafka_send_aside(log, topic, partition, key, data, size, headers, NULL);
}

/* ---- statuses and dead letters ---------------------------------------------------------------------------------------- */

static struct kafka_aside *kafka_aside_new(const struct log_record *dead, const char *text)
{
    struct kafka_aside *aside = malloc(sizeof *aside + (dead ? dead->size : 0));
    if (!aside || !(aside->text = strdup(text))) {
        free(aside);
        return NULL;
    }
    aside->dead = dead != NULL;
    if (dead) {
        aside->record = *dead;
        aside->record.data = aside->data;
        memcpy(aside->data, dead->data, dead->size);
    }
    return aside;
}

/* `aside` is taken over; `of` NULL: it tells of nothing in a journal. */
static int kafka_send_watched(struct kafka_log *log, enum kafka_topic topic, int32_t partition, const char *key,
                              const void *data, size_t size, rd_kafka_headers_t *headers, const struct log_place *of,
                              struct kafka_aside *aside)
{
    struct kafka_append *watched = of || aside ? kafka_append_new(log) : NULL;
    if (!watched) {
        if (headers)
            rd_kafka_headers_destroy(headers);
        kafka_aside_free(aside);
        return kafka_fail(log, "out of memory");
    }
    int result = kafka_send_aside(log, topic, partition, key, data, size, headers, watched);
    *watched = (struct kafka_append){ .of = of ? *of : (struct log_place){ 0, INT64_MAX }, .aside = aside };
    kafka_append_link(&log->unshown, watched); /* its report comes from a later poll */
    if (result != LOG_OK)
        kafka_append_unlink(log, watched);
    return result;
}

int kafka_produce_status(struct kafka_log *log, int32_t partition, const char *key, const void *data, size_t size,
                         const struct log_place *of)
{
    return kafka_send_watched(log, KAFKA_JOBS, partition, key, data, size, NULL, of, of ? NULL : kafka_aside_new(NULL, key));
}

int kafka_produce_dead(struct kafka_log *log, const struct log_record *record, const char *reason, rd_kafka_headers_t *headers)
{
    return kafka_send_watched(log, KAFKA_DEAD, 0, NULL, record->data, record->size, headers, NULL,
                              kafka_aside_new(record, reason));
}

static void kafka_aside_lost(struct kafka_log *log, const struct kafka_aside *aside)
{
    const struct log_handler *handler = &log->base.handler;
    if (aside->dead && handler->dead_lost)
        handler->dead_lost(handler->context, &aside->record, aside->text);
    else if (!aside->dead && handler->row_lost)
        handler->row_lost(handler->context, aside->text);
}

int64_t kafka_unshown(struct log *base, uint32_t partition)
{
    const struct kafka_log *log = kafka_log_of(base);
    int64_t offset = INT64_MAX;
    for (const struct kafka_append *status = log->unshown; status; status = status->next)
        if (status->of.partition == partition && status->of.offset < offset)
            offset = status->of.offset;
    return offset;
}

static void kafka_watched_reported(struct kafka_log *log, struct kafka_append *status, const rd_kafka_message_t *message)
{
    const struct log_place of = status->of;
    struct kafka_aside *aside = status->aside;
    /* One that the topic will never take is not shown again. */
    bool never = message->err == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE || message->err == RD_KAFKA_RESP_ERR_INVALID_RECORD;
    bool lost = (message->err || message->offset < 0) && !never;
    status->aside = NULL;
    kafka_append_unlink(log, status);
    if (lost && aside)
        kafka_aside_lost(log, aside);
    kafka_aside_free(aside);
    if (!lost || of.offset == INT64_MAX)
        return;
    /* Its owner shows all of them again, once: the others may be lost too, one after the other. */
    for (struct kafka_append *other = log->unshown; other; other = other->next)
        if (other->of.partition == of.partition)
            other->of.offset = INT64_MAX;
    kafka_fault(log, LOG_STATUS_LOST, of.partition, "a status record did not reach topic %s: %s", log->topics[KAFKA_JOBS],
                message->err ? rd_kafka_err2str(message->err) : "where it stands is not known (log.h)");
}

/* ---- reports -------------------------------------------------------------------------------------------------------- */

static void kafka_aside_reported(struct kafka_log *log, const rd_kafka_message_t *message)
{
    for (int topic = 0; topic < KAFKA_TOPICS; topic++)
        if (message->rkt == log->handles[topic] && log->aside[topic] > 0)
            log->aside[topic]--;
}

bool kafka_has_aside(const struct kafka_log *log)
{
    bool any = false;
    for (int topic = 0; topic < KAFKA_TOPICS; topic++)
        any = any || log->aside[topic] > 0;
    return any;
}

static void kafka_report(struct kafka_log *log, const rd_kafka_message_t *message)
{
    struct kafka_append *append = message->_private;
    if (!message->err) {
        log->unknown_ms = 0;
        kafka_reachable(log);
    } else if (message->err == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART ||
             message->err == RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC || message->err == RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION) {
        log->doubted = true; /* deleted? The next chores look. */
    }
    if (kafka_is_unauthorised(message->err) && !log->dead)
        kafka_fault_unauthorised(log, "write", message->rkt ? rd_kafka_topic_name(message->rkt) : log->uri.name);
    if (!append || !append->lane) {
        kafka_aside_reported(log, message);
        if (append)
            kafka_watched_reported(log, append, message);
        return;
    }
    uint64_t cookie = append->cookie;
    enum log_delivery delivery = LOG_POSSIBLY_PERSISTED;
    switch (rd_kafka_message_status(message)) {
    case RD_KAFKA_MSG_STATUS_PERSISTED:
        delivery = LOG_PERSISTED;
        break;
    case RD_KAFKA_MSG_STATUS_NOT_PERSISTED:
        delivery = LOG_NOT_PERSISTED;
        break;
    case RD_KAFKA_MSG_STATUS_POSSIBLY_PERSISTED:
        break;
    }
    /* A duplicate after a retry is persisted, but where is not told (hazard 6). */
    int64_t offset = delivery == LOG_PERSISTED && message->offset >= 0 ? message->offset : -1;
    kafka_append_unlink(log, append);
    if (log->base.handler.delivered)
        log->base.handler.delivered(log->base.handler.context, cookie, delivery, offset);
}

static void kafka_produce_error(struct kafka_log *log, rd_kafka_event_t *event)
{
    char reason[256];
    if (!rd_kafka_event_error_is_fatal(event)) {
        kafka_on_error(log, log->producer, event);
        return;
    }
    rd_kafka_resp_err_t code = rd_kafka_fatal_error(log->producer, reason, sizeof reason);
    if (kafka_is_unauthorised(code)) { /* for an idempotent producer there must be a topic that we may write */
        kafka_fault_unauthorised(log, "write", log->topics[log->member ? KAFKA_JOURNAL : KAFKA_INBOX]);
        return;
    }
    kafka_producer_fail(log, reason);
}

void kafka_produce_serve(struct kafka_log *log, struct kafka_source *source)
{
    size_t count = 0;
    while (count < KAFKA_TURN_MESSAGES && source->queue && rd_kafka_queue_length(source->queue) > 0) {
        rd_kafka_event_t *event = rd_kafka_queue_poll(source->queue, 0);
        const rd_kafka_message_t *message;
        count++;
        switch (event ? rd_kafka_event_type(event) : RD_KAFKA_EVENT_NONE) {
        case RD_KAFKA_EVENT_DR:
            for (; (message = rd_kafka_event_message_next(event)); count++)
                kafka_report(log, message);
            break;
        case RD_KAFKA_EVENT_ERROR:
            kafka_produce_error(log, event);
            break;
        case RD_KAFKA_EVENT_DELETERECORDS_RESULT:
            kafka_trim_done(log, event);
            break;
        default:
            break;
        }
        rd_kafka_event_destroy(event);
    }
    if (count >= KAFKA_TURN_MESSAGES)
        atomic_store(&source->ready, true);
}

/* ---- replacing ------------------------------------------------------------------------------------------------------ */

static void kafka_producer_destroy(struct kafka_log *log)
{
    kafka_source_close(&log->produced);
    for (int topic = 0; topic < KAFKA_TOPICS; topic++) {
        if (log->handles[topic])
            rd_kafka_topic_destroy(log->handles[topic]);
        log->handles[topic] = NULL;
    }
    if (log->producer) {
        if (log->unreachable == log->producer)
            log->unreachable = NULL;
        rd_kafka_destroy(log->producer);
    }
    log->producer = NULL;
}

static void kafka_appends_move(struct kafka_append **from, struct kafka_append **to)
{
    *to = *from;
    *from = NULL;
    if (*to)
        (*to)->link = to;
}

/*
 * After a fatal error nothing more can be sent with a producer, and what it had in flight may or may not be in the log,
 * also later than this moment. So all of it is doubt, and every owner claims anew (rule 5).
 */
static void kafka_produce_replace(struct kafka_log *log)
{
    char error[256], reason[256];
    /* Reports that are waiting still tell the truth. */
    while (log->produced.queue && rd_kafka_queue_length(log->produced.queue) > 0)
        kafka_produce_serve(log, &log->produced);
    snprintf(reason, sizeof reason, "%s", log->producer_reason);
    kafka_producer_destroy(log);
    log->trimming = false;
    memset(log->aside, 0, sizeof log->aside);
    log->producer_failed = false;
    if (!kafka_produce_new(log, error, sizeof error)) {
        kafka_producer_destroy(log);
        log->producer_failed = true;
        log->producer_again_ms = kafka_monotonic_ms() + KAFKA_PRODUCER_AGAIN_MS;
        kafka_fault(log, LOG_UNREACHABLE, LOG_ALL, "the producer for %s cannot be replaced: %s", log->uri.brokers, error);
        return;
    }
    /* Collected first: the handler may append at once. Of statuses nothing is told: who owns a partition begins anew, and so
     * shows again what no Mark says to have been shown. */
    struct kafka_append *lost, *unshown;
    kafka_appends_move(&log->in_flight, &lost);
    kafka_appends_move(&log->unshown, &unshown);
    kafka_fault(log, LOG_PRODUCER_REPLACED, LOG_ALL, "the Kafka producer failed for good (%s) and was replaced; what was in "
                "flight is in doubt", reason);
    while (lost) {
        uint64_t cookie = lost->cookie;
        kafka_append_unlink(log, lost);
        if (log->base.handler.delivered)
            log->base.handler.delivered(log->base.handler.context, cookie, LOG_POSSIBLY_PERSISTED, -1);
    }
    while (unshown) {
        if (unshown->aside)
            kafka_aside_lost(log, unshown->aside);
        kafka_append_unlink(log, unshown);
    }
}

/* False: there was nothing to be mended. */
bool kafka_produce_mend(struct kafka_log *log)
{
    if (!log->producer_failed || kafka_monotonic_ms() < log->producer_again_ms)
        return false;
    kafka_produce_replace(log);
    return true;
}

/* Statuses and replies under way get a moment; appends are their owner's to wait for. */
void kafka_produce_stop(struct kafka_log *log)
{
    int64_t deadline = kafka_monotonic_ms() + KAFKA_CLOSE_TIMEOUT_MS;
    while (log->produced.queue && kafka_has_aside(log) && !log->producer_failed && kafka_monotonic_ms() < deadline) {
        rd_kafka_event_t *event = rd_kafka_queue_poll(log->produced.queue, 50);
        const rd_kafka_message_t *message;
        if (event && rd_kafka_event_type(event) == RD_KAFKA_EVENT_DR)
            while ((message = rd_kafka_event_message_next(event)))
                kafka_report(log, message);
        rd_kafka_event_destroy(event);
    }
    kafka_producer_destroy(log);
    while (log->in_flight)
        kafka_append_unlink(log, log->in_flight);
    while (log->unshown)
        kafka_append_unlink(log, log->unshown);
    while (log->spare) {
        struct kafka_append *append = log->spare;
        log->spare = append->next;
        free(append);
    }
}
