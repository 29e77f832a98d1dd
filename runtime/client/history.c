/*
 * The history of one job, read from its partition's journal. What counts is judged by the same function that owners use.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/internal.h"
#include "engine/judge.h"

#define HISTORY_TIMEOUT_MS INT64_C(600000)

static void history_record_free(struct history_record *record)
{
    for (size_t i = 0; record->record && record->events && i < record->record->n_events; i++)
        event_free(record->events[i]);
    free(record->events);
    record_free(record->record);
    free(record->data);
}

static void history_clear(struct history *history)
{
    for (size_t i = 0; i < history->count; i++)
        history_record_free(&history->records[i]);
    free(history->records);
    history->records = NULL;
    history->count = 0;
}

void history_free(struct history *history)
{
    if (!history)
        return;
    history_clear(history);
    free(history->job);
    free(history);
}

static bool history_decode(struct history_record *record, char *error, size_t error_size)
{
    enum wire_error code = record_decode(record->data, record->size, &record->record);
    if (code != WIRE_OK) {
        snprintf(error, error_size, "record at offset %lld: %s", (long long)record->offset, wire_error_text(code));
        return false;
    }
    record->events = calloc(record->record->n_events + 1, sizeof *record->events);
    if (!record->events) {
        snprintf(error, error_size, "out of memory");
        return false;
    }
    for (size_t i = 0; i < record->record->n_events; i++)
        record->events[i] = event_decode(record->record->events[i].data, record->record->events[i].len);
    return true;
}

/* A copy (rule 18) is shown as what it is a copy of: stored bytes and digests are the same. */
static bool history_uncopy(struct history_record *record, char *error, size_t error_size)
{
    Header *header = record->record->header;
    if (header->kind != PERDURE__V1__KIND__KIND_COPY)
        return true;
    record->offset = header->copy->offset;
    header->kind = PERDURE__V1__KIND__KIND_EVENT;
    header->copy = NULL;
    size_t size = 0;
    void *data = record_encode(record->record, &size);
    if (!data) {
        snprintf(error, error_size, "out of memory");
        return false;
    }
    free(record->data);
    record->data = data;
    record->size = size;
    return true;
}

int history_add(struct history *history, int64_t offset, int64_t append_ms, const void *data, size_t size, char *error,
                size_t error_size)
{
    struct history_record record = {.offset = offset, .append_ms = append_ms, .size = size};
    struct history_record *grown = history->records;
    if ((history->count & (history->count + 1)) == 0) /* doubles at each power of two */
        grown = realloc(history->records, (2 * history->count + 2) * sizeof *grown);
    record.data = malloc(size ? size : 1);
    if (grown)
        history->records = grown;
    if (!grown || !record.data) {
        free(record.data);
        snprintf(error, error_size, "out of memory");
        return EXIT_UNREACHABLE;
    }
    memcpy(record.data, data, size);
    if (!history_decode(&record, error, error_size) || !history_uncopy(&record, error, error_size)) {
        history_record_free(&record);
        return EXIT_USAGE;
    }
    history->records[history->count++] = record;
    return EXIT_OK;
}

/* ---- reading ---------------------------------------------------------------------------------- */

struct history_reader {
    struct client *client;
    struct client_reader reader;
    struct history *history;
    struct judge *judge;
    char stub[16]; /* how the job ended, when its stub is all there is */
    int code;
};

static void history_keep(struct history_reader *reader, const struct log_record *record, bool new_run)
{
    struct client *client = reader->client;
    if (new_run) {
        history_clear(reader->history);
        reader->stub[0] = '\0';
    }
    reader->code = history_add(reader->history, record->offset, record->append_ms, record->data, record->size,
                               client->error, sizeof client->error);
    if (reader->code != EXIT_OK)
        client->error_exit = reader->code = EXIT_UNREACHABLE;
}

static void history_read_record(void *context, const struct log_record *record)
{
    struct history_reader *reader = context;
    Record *decoded = NULL;
    struct judged judged = {0};
    enum wire_error wire = record_decode(record->data, record->size, &decoded);
    if (wire != WIRE_OK) {
        reader->code = client_fail(reader->client, EXIT_UNREACHABLE, "the journal of partition %u, offset %lld: %s",
                                   record->partition, (long long)record->offset, wire_error_text(wire));
        reader->reader.done = true;
        return;
    }
    enum judge_verdict verdict = judge_record(reader->judge, record->offset, decoded, &judged);
    bool ours = strcmp(decoded->header->job, reader->history->job) == 0;
    if (verdict == JUDGE_COUNTED && ours)
        history_keep(reader, record, judged.new_run);
    else if (verdict == JUDGE_COPY && ours && judged.unknown) /* whole or not: what is not goes with the next first part */
        history_keep(reader, record, decoded->header->copy->part == 1);
    else if (verdict == JUDGE_STUB && ours && judged.new_run)
        snprintf(reader->stub, sizeof reader->stub, "%s", decoded->stub->state);
    else if (verdict == JUDGE_STOP)
        reader->code = client_fail(reader->client, EXIT_UNREACHABLE, "the journal of partition %u, offset %lld: %s",
                                   record->partition, (long long)record->offset, reader->judge->error);
    else if (verdict == JUDGE_NO_MEMORY)
        reader->code = client_fail(reader->client, EXIT_UNREACHABLE, "out of memory");
    judged_release(&judged);
    record_free(decoded);
    if (reader->code != EXIT_OK)
        reader->reader.done = true;
}

/* Reads the whole journal of the partition. EXIT_NOT_FOUND: the job has ended, and its events are gone. */
static int history_scan(struct client *client, struct history *history)
{
    struct log *log = client->log;
    struct history_reader reader = {.client = client, .history = history, .judge = judge_new(&log->genesis)};
    int64_t start = 0, end = 0;
    if (!reader.judge)
        return client_fail(client, EXIT_UNREACHABLE, "out of memory");
    reader.reader = (struct client_reader){
        .stream = LOG_JOURNAL,
        .partition = partition_of(history->job, log->genesis.partitions),
        .record = history_read_record,
        .context = &reader,
    };
    int code = EXIT_OK;
    if (log->operations->bounds(log, LOG_JOURNAL, reader.reader.partition, &start, &end) != LOG_OK)
        code = client_log_failed(client);
    else if (end > start)
        code = client_read(client, &reader.reader, start, HISTORY_TIMEOUT_MS);
    history->end = end;
    history->unowned = !reader.judge->owned;
    history->in_pos = reader.judge->in_pos.offset;
    judge_free(reader.judge);
    if (reader.code == EXIT_OK && code == EXIT_OK && history->count == 0 && reader.stub[0])
        return client_fail(client, EXIT_NOT_FOUND, "job \"%s\" is %s; its events are no longer kept, only its outcome: see "
                           "`perdure result %s`", history->job, reader.stub, history->job);
    return reader.code != EXIT_OK ? reader.code : code;
}

struct history_index {
    struct client *client;
    struct history *history;
    digest digest;
    uint64_t seq;
    bool whole; /* one unbroken chain so far */
};

/* What continues the chain is taken: a log that was copied forward holds records twice, and of the first ones perhaps a
 * part. */
static bool history_index_row(void *context, int64_t offset, const void *data, size_t size)
{
    struct history_index *index = context;
    struct client *client = index->client;
    Record *record = NULL;
    bool next = record_decode(data, size, &record) == WIRE_OK && record->header->seq == index->seq + 1 &&
                record->n_events > 0 && digest_equal(digest_from_bytes(record->header->prev), index->digest);
    record_free(record);
    if (!next)
        return true;
    index->whole = history_add(index->history, offset, 0, data, size, client->error, sizeof client->error) == EXIT_OK;
    if (!index->whole)
        return false;
    const Header *header = index->history->records[index->history->count - 1].record->header;
    index->seq += header->count;
    index->digest = digest_from_bytes(header->digest);
    return true;
}

/* From the embedded file's index. False: not possible, scan. */
static bool history_from_index(struct client *client, struct history *history)
{
    struct log *log = client->log;
    Status *status = NULL;
    if (!log->operations->history || client_status(client, history->job, &status) != EXIT_OK)
        return false;
    struct history_index index = {
        .client = client, .history = history, .digest = digest_of_run(status->run), .whole = true};
    uint32_t partition = partition_of(history->job, log->genesis.partitions);
    int code = log->operations->history(log, partition, history->job, status->run, history_index_row, &index);
    bool done = code == LOG_OK && index.whole && index.seq >= status->events && index.seq > 0;
    status_free(status);
    if (!done)
        history_clear(history);
    return done;
}

static struct history *history_new(struct client *client, const char *job)
{
    struct history *history = calloc(1, sizeof *history);
    if (history)
        history->job = strdup(job);
    if (!history || !history->job) {
        free(history);
        client_fail(client, EXIT_UNREACHABLE, "out of memory");
        return NULL;
    }
    history->genesis = client->log->genesis;
    history->genesis.namespace_ = (char *)protobuf_c_empty_string;
    return history;
}

int client_journal(struct client *client, const char *job, struct history **out)
{
    struct history *history = *out = history_new(client, job);
    int code = history ? history_scan(client, history) : client->error_exit;
    if (code != EXIT_OK) {
        history_free(history);
        *out = NULL;
    }
    return code;
}

int client_history(struct client *client, const char *job, struct history **out)
{
    *out = NULL;
    struct history *history = history_new(client, job);
    if (!history)
        return client->error_exit;
    int code = history_from_index(client, history) ? EXIT_OK : history_scan(client, history);
    if (code == EXIT_OK && history->count == 0)
        code = client_fail(client, EXIT_NOT_FOUND, "the journal has no events of a job \"%s\"", job);
    if (code != EXIT_OK) {
        history_free(history);
        return code;
    }
    history->run = history->records[0].record->header->run;
    *out = history;
    return EXIT_OK;
}
