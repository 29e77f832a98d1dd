/*
 * Reading the journal of the partition that slots come from (rule 25), for an engine that waits for them. Another worker may
 * own that partition, or this one: so it is read by a thread with a connection of its own, which the loop empties.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "worker/worker.h"

#define SOURCE_QUEUE_BYTES (16 * 1024 * 1024)
#define SOURCE_RETRY_MS 1000

struct source_record {
    struct source_record *next;
    int64_t offset, append_ms;
    size_t size;
    unsigned char data[];
};

struct source_reader {
    struct source_reader *next;
    struct pdr_worker *worker;
    uint32_t partition, generation; /* whose engine waits */
    uint32_t source;
    int64_t end;                    /* the last offset that is wanted */
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t room;
    struct source_record *records, **records_tail;
    size_t bytes;
    bool begun, ended, stop;        /* begun: tell the engine so first */
    bool over;                      /* the thread has nothing more to do */
    struct log *log;                /* the thread's */
    char trouble[512];
};

/* ---- the thread ------------------------------------------------------------------------------------------------------ */

static void source_on_record(void *context, const struct log_record *record)
{
    struct source_reader *reader = context;
    if (record->stream != LOG_JOURNAL || record->offset > reader->end || reader->trouble[0])
        return;
    struct source_record *copy = malloc(sizeof *copy + record->size);
    if (!copy) { /* it is read again from the start */
        snprintf(reader->trouble, sizeof reader->trouble, "out of memory");
        return;
    }
    *copy = (struct source_record){ .offset = record->offset, .append_ms = record->append_ms, .size = record->size };
    memcpy(copy->data, record->data, record->size);
    pthread_mutex_lock(&reader->mutex);
    while (reader->bytes > SOURCE_QUEUE_BYTES && !reader->stop)
        pthread_cond_wait(&reader->room, &reader->mutex);
    *reader->records_tail = copy;
    reader->records_tail = &copy->next;
    reader->bytes += copy->size;
    reader->ended = reader->ended || record->offset >= reader->end;
    pthread_mutex_unlock(&reader->mutex);
    reader->worker->log->operations->wake(reader->worker->log);
}

static bool source_is_over(struct source_reader *reader)
{
    pthread_mutex_lock(&reader->mutex);
    bool over = reader->ended || reader->stop;
    pthread_mutex_unlock(&reader->mutex);
    return over;
}

static void source_on_fault(void *context, enum log_fault fault, uint32_t partition, const char *message)
{
    struct source_reader *reader = context;
    (void)partition;
    if (fault != LOG_UNREACHABLE)
        snprintf(reader->trouble, sizeof reader->trouble, "%s", message ? message : "the log cannot be read");
}

/* From its start to `end`, or until something goes wrong. */
static void source_read(struct source_reader *reader)
{
    struct log_options options = { .client_name = "perdure-slots", .read_only = true };
    struct log_handler handler = { .context = reader, .record = source_on_record, .fault = source_on_fault };
    int64_t start = 0, end = 0;
    reader->trouble[0] = '\0';
    if (log_open(reader->worker->log_uri, &options, &reader->log, reader->trouble, sizeof reader->trouble) != 0)
        return;
    log_set_handler(reader->log, &handler);
    pthread_mutex_lock(&reader->mutex);
    reader->begun = true;
    pthread_mutex_unlock(&reader->mutex);
    struct log *log = reader->log;
    if (log->operations->bounds(log, LOG_JOURNAL, reader->source, &start, &end) != LOG_OK ||
        log->operations->follow(log, LOG_JOURNAL, reader->source, start) != LOG_OK)
        snprintf(reader->trouble, sizeof reader->trouble, "%s", log->error);
    while (!reader->trouble[0] && !source_is_over(reader))
        if (log->operations->poll(log, 200) == LOG_FAILED)
            snprintf(reader->trouble, sizeof reader->trouble, "%s", log->error);
    log->operations->close(log);
    reader->log = NULL;
}

static void source_clear(struct source_reader *reader)
{
    while (reader->records) {
        struct source_record *next = reader->records->next;
        free(reader->records);
        reader->records = next;
    }
    reader->records_tail = &reader->records;
    reader->bytes = 0;
}

static void *source_thread(void *context)
{
    struct source_reader *reader = context;
    while (!source_is_over(reader)) {
        source_read(reader);
        if (source_is_over(reader))
            break;
        pthread_mutex_lock(&reader->mutex); /* all over again */
        source_clear(reader);
        pthread_mutex_unlock(&reader->mutex);
        nanosleep(&(struct timespec){ .tv_sec = SOURCE_RETRY_MS / 1000 }, NULL);
    }
    pthread_mutex_lock(&reader->mutex);
    reader->over = true;
    pthread_mutex_unlock(&reader->mutex);
    return NULL;
}

/* ---- the loop ---------------------------------------------------------------------------------------------------------- */

static void source_stop(struct source_reader *reader)
{
    pthread_mutex_lock(&reader->mutex);
    reader->stop = true;
    pthread_cond_signal(&reader->room);
    pthread_mutex_unlock(&reader->mutex);
}

static void source_free(struct source_reader *reader)
{
    source_stop(reader);
    pthread_join(reader->thread, NULL);
    source_clear(reader);
    pthread_mutex_destroy(&reader->mutex);
    pthread_cond_destroy(&reader->room);
    free(reader);
}

/* Nobody wants it any more. While a broker does not answer its thread may take half a minute to notice: the loop does not wait. */
static void source_drop(struct source_reader **link)
{
    struct pdr_worker *worker = (*link)->worker;
    struct source_reader *reader = *link;
    *link = reader->next;
    source_stop(reader);
    reader->next = worker->sources_ending;
    worker->sources_ending = reader;
}

static void sources_drop(struct pdr_worker *worker, uint32_t partition)
{
    for (struct source_reader **link = &worker->sources; *link;) {
        if ((*link)->partition == partition)
            source_drop(link);
        else
            link = &(*link)->next;
    }
}

static bool source_thread_is_over(struct source_reader *reader)
{
    pthread_mutex_lock(&reader->mutex);
    bool over = reader->over;
    pthread_mutex_unlock(&reader->mutex);
    return over;
}

static void sources_bury(struct source_reader **list, bool wait)
{
    for (struct source_reader **link = list; *link;) {
        struct source_reader *reader = *link;
        if (!wait && !source_thread_is_over(reader)) {
            link = &reader->next;
            continue;
        }
        *link = reader->next;
        source_free(reader);
    }
}

void worker_read_source(struct pdr_worker *worker, uint32_t partition, const struct engine_output *out)
{
    sources_drop(worker, partition); /* asked for by an epoch that is over */
    struct source_reader *reader = calloc(1, sizeof *reader);
    if (!reader) {
        worker_fail(worker, PDR_NO_MEMORY, "out of memory");
        return;
    }
    reader->worker = worker;
    reader->partition = partition;
    reader->generation = worker->partitions[partition].generation;
    reader->source = out->partition;
    reader->end = out->offset;
    reader->records_tail = &reader->records;
    pthread_mutex_init(&reader->mutex, NULL);
    pthread_cond_init(&reader->room, NULL);
    worker_notice(worker, PDR_INFO, "partition %u: its slots come from partition %u, whose journal is read up to %lld",
                  partition, out->partition, (long long)out->offset);
    if (pthread_create(&reader->thread, NULL, source_thread, reader) != 0) {
        worker_fail(worker, PDR_NO_MEMORY, "no thread to read a journal with");
        free(reader);
        return;
    }
    reader->next = worker->sources;
    worker->sources = reader;
}

/* Hands over what was read. False: all of it was. */
static bool source_hand_over(struct pdr_worker *worker, struct source_reader *reader)
{
    struct worker_partition *slot = &worker->partitions[reader->partition];
    struct engine *engine = slot->generation == reader->generation ? slot->engine : NULL;
    pthread_mutex_lock(&reader->mutex);
    struct source_record *records = reader->records;
    bool begun = reader->begun, ended = reader->ended;
    reader->records = NULL;
    reader->records_tail = &reader->records;
    reader->bytes = 0;
    reader->begun = false;
    pthread_cond_signal(&reader->room);
    pthread_mutex_unlock(&reader->mutex);
    if (engine && begun)
        engine_on_source(engine, NULL);
    while (records) {
        struct source_record *next = records->next;
        struct log_record record = { LOG_JOURNAL, reader->source, records->offset, records->append_ms, -1, records->data,
                                     records->size };
        if (engine)
            engine_on_source(engine, &record);
        free(records);
        records = next;
    }
    if (engine && ended)
        engine_on_source_end(engine);
    return engine && !ended;
}

void worker_take_sources(struct pdr_worker *worker)
{
    for (struct source_reader **link = &worker->sources; *link;) {
        if (source_hand_over(worker, *link))
            link = &(*link)->next;
        else
            source_drop(link);
    }
    sources_bury(&worker->sources_ending, false);
}

/* Waits for their threads: they use what the worker is about to close. */
void worker_sources_stop(struct pdr_worker *worker)
{
    for (struct source_reader *reader = worker->sources; reader; reader = reader->next)
        source_stop(reader);
    sources_bury(&worker->sources, true);
    sources_bury(&worker->sources_ending, true);
}
