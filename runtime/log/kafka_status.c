/*
 * Statuses: NAMESPACE.jobs, one compacted record a job, and the registrations of modules.
 */
#include <inttypes.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log/kafka_internal.h"

#define REGISTRATION_PREFIX "type:"

static bool kafka_is_registration(const char *key)
{
    return strncmp(key, REGISTRATION_PREFIX, strlen(REGISTRATION_PREFIX)) == 0;
}

static uint32_t kafka_status_partition(const struct kafka_log *log, const char *key)
{
    return kafka_is_registration(key) ? 0 : partition_of(key, log->jobs_partitions);
}

int kafka_put_status(struct log *base, const char *key, const void *data, size_t size, const struct log_place *of)
{
    struct kafka_log *log = kafka_log_of(base);
    return kafka_produce_status(log, (int32_t)kafka_status_partition(log, key), key, data, size, of);
}

/* ---- scanning: from the beginning to the end that was there when the scan began -------------------------------------- */

struct kafka_scan {
    void *context;
    void (*take)(void *context, const char *key, const void *data, size_t size); /* data NULL: deleted */
};

static void kafka_scan_message(const rd_kafka_message_t *message, const struct kafka_scan *scan)
{
    char key[512];
    if (!message->key || message->key_len >= sizeof key || memchr(message->key, '\0', message->key_len))
        return; /* not one of ours */
    memcpy(key, message->key, message->key_len);
    key[message->key_len] = '\0';
    scan->take(scan->context, key, message->payload, message->len);
}

static int kafka_scan_partitions(struct kafka_log *log, rd_kafka_t *scanner, uint32_t first, uint32_t count,
                                 const struct kafka_scan *scan)
{
    const char *topic = log->topics[KAFKA_JOBS];
    /* A partition is read to its end once: what comes while the others are read need not be seen. */
    bool *ended = calloc(count, sizeof *ended);
    uint32_t left = count;
    if (!ended)
        return kafka_fail(log, "out of memory");
    rd_kafka_resp_err_t code = kafka_scanner_begin(scanner, topic, first, count, 2 * KAFKA_OPEN_TIMEOUT_MS);
    int64_t deadline = kafka_monotonic_ms() + KAFKA_OPEN_TIMEOUT_MS;
    while (!code && left > 0) {
        if (kafka_monotonic_ms() > deadline) { /* of those that have not ended: others may go on for ever */
            code = RD_KAFKA_RESP_ERR__TIMED_OUT;
            break;
        }
        rd_kafka_message_t *message = rd_kafka_consumer_poll(scanner, 100);
        if (!message)
            continue;
        uint32_t i = (uint32_t)message->partition - first;
        if (!message->err) {
            kafka_scan_message(message, scan);
            if (i < count && !ended[i])
                deadline = kafka_monotonic_ms() + KAFKA_OPEN_TIMEOUT_MS;
        } else if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF && message->rkt && i < count && !ended[i]) {
            ended[i] = true, left--;
        } else if (message->rkt && message->err != RD_KAFKA_RESP_ERR__PARTITION_EOF) {
            code = message->err;
        }
        rd_kafka_message_destroy(message);
    }
    free(ended);
    if (!code)
        return LOG_OK;
    return kafka_fail_asking(log, code, "read", topic);
}

static int kafka_scan(struct kafka_log *log, uint32_t first, uint32_t count, const struct kafka_scan *scan)
{
    char error[256];
    rd_kafka_t *scanner = kafka_scanner_new(&log->uri, &log->notes, error, sizeof error);
    if (!scanner)
        return kafka_fail(log, "%s", error);
    int result = kafka_scan_partitions(log, scanner, first, count, scan);
    rd_kafka_destroy_flags(scanner, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
    return result;
}

/*
 * H26: what an owner still had in its queue when it was fenced, say stopped, may come behind what the next one wrote. It
 * names a time that is no later, and fewer events of the run; of another run, or with as many events, the lower claim.
 * (When a slot has moved, claims of two journals cannot be compared.)
 */
static bool kafka_status_is_late(const void *before_data, size_t before_size, const void *data, size_t size)
{
    Status *before = before_data && data ? status_decode(before_data, before_size) : NULL;
    Status *status = before ? status_decode(data, size) : NULL;
    bool late = status && status->updated <= before->updated;
    if (late && status->run == before->run && status->events != before->events)
        late = status->events < before->events;
    else if (late)
        late = status->claim < before->claim;
    status_free(before);
    status_free(status);
    return late;
}

/* ---- one key --------------------------------------------------------------------------------------------------------- */

struct kafka_last {
    const char *key;
    void *data; /* NULL: none */
    size_t size;
    bool no_memory;
};

static void kafka_last_take(void *context, const char *key, const void *data, size_t size)
{
    struct kafka_last *last = context;
    if (strcmp(key, last->key) != 0 ||
        (!kafka_is_registration(key) && kafka_status_is_late(last->data, last->size, data, size)))
        return;
    free(last->data);
    last->data = data ? malloc(size ? size : 1) : NULL;
    last->size = size;
    last->no_memory = last->no_memory || (data && !last->data);
    if (last->data)
        memcpy(last->data, data, size);
}

int kafka_get_status(struct log *base, const char *key, void **data, size_t *size)
{
    struct kafka_log *log = kafka_log_of(base);
    struct kafka_last last = { .key = key };
    const struct kafka_scan scan = { &last, kafka_last_take };
    *data = NULL;
    int result = kafka_scan(log, kafka_status_partition(log, key), 1, &scan);
    if (result == LOG_OK && last.no_memory)
        result = kafka_fail(log, "out of memory");
    if (result != LOG_OK) {
        free(last.data);
        return result;
    }
    *data = last.data;
    *size = last.size;
    return last.data ? LOG_OK : LOG_NOT_FOUND;
}

/* ---- all of a prefix ------------------------------------------------------------------------------------------------- */

struct kafka_row {
    char *key;
    void *data; /* NULL: deleted */
    size_t size;
};

struct kafka_rows {
    const char *prefix;
    void *tree; /* of struct kafka_row, by key */
    bool no_memory;
    bool (*visit)(void *context, const char *key, const void *data, size_t size);
    void *context;
    bool stopped;
};

static int kafka_row_compare(const void *a, const void *b)
{
    return strcmp(((const struct kafka_row *)a)->key, ((const struct kafka_row *)b)->key);
}

static void kafka_row_free(void *item)
{
    struct kafka_row *row = item;
    free(row->key);
    free(row->data);
    free(row);
}

static struct kafka_row *kafka_rows_find(struct kafka_rows *rows, const char *key)
{
    struct kafka_row wanted = { .key = (char *)(uintptr_t)key };
    struct kafka_row **found = tfind(&wanted, &rows->tree, kafka_row_compare);
    if (found)
        return *found;
    struct kafka_row *row = calloc(1, sizeof *row);
    if (row && (row->key = strdup(key)) && tsearch(row, &rows->tree, kafka_row_compare))
        return row;
    if (row)
        kafka_row_free(row);
    return NULL;
}

static void kafka_rows_take(void *context, const char *key, const void *data, size_t size)
{
    struct kafka_rows *rows = context;
    if (strncmp(key, rows->prefix, strlen(rows->prefix)) != 0)
        return;
    if (*rows->prefix == '\0' && kafka_is_registration(key))
        return; /* no jobs */
    struct kafka_row *row = kafka_rows_find(rows, key);
    if (row && !kafka_is_registration(key) && kafka_status_is_late(row->data, row->size, data, size))
        return;
    void *copy = data ? malloc(size ? size : 1) : NULL;
    if (!row || (data && !copy)) {
        free(copy);
        rows->no_memory = true;
        return;
    }
    if (copy)
        memcpy(copy, data, size);
    free(row->data);
    row->data = copy;
    row->size = size;
}

static void kafka_rows_walk(const void *node, VISIT which, void *closure)
{
    struct kafka_rows *rows = closure;
    const struct kafka_row *row = *(struct kafka_row *const *)node;
    if ((which == postorder || which == leaf) && !rows->stopped && row->data)
        rows->stopped = !rows->visit(rows->context, row->key, row->data, row->size);
}

int kafka_each_status(struct log *base, const char *prefix,
                      bool (*visit)(void *context, const char *key, const void *data, size_t size), void *context)
{
    struct kafka_log *log = kafka_log_of(base);
    struct kafka_rows rows = { .prefix = prefix ? prefix : "", .visit = visit, .context = context };
    const struct kafka_scan scan = { &rows, kafka_rows_take };
    bool registrations = kafka_is_registration(rows.prefix);
    int result = kafka_scan(log, 0, registrations ? 1 : log->jobs_partitions, &scan);
    if (result == LOG_OK && rows.no_memory)
        result = kafka_fail(log, "out of memory");
    if (result == LOG_OK)
        twalk_r(rows.tree, kafka_rows_walk, &rows);
    tdestroy(rows.tree, kafka_row_free);
    return result;
}
