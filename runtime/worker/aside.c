/*
 * What is sent beside the log's streams and waits for nobody: statuses, dead letters, replies, trims. When the log has
 * no room, the newest status of each key and the dead letters wait for it, and those that were lost go again (of statuses the
 * engine sees to that, rule 9); a reply is asked for again by its client (rule 15), a trim by the next one, which goes further.
 */
#include <inttypes.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>

#include "worker/worker.h"

#define ASIDE_NOTE_MS 10000 /* the same trouble is told again after so long */

struct aside_status {
    struct aside_status *next;
    char *key;
    size_t size;
    unsigned char *data; /* NULL: the record goes */
    struct log_place of; /* the first of those that it stands for */
};

struct aside_dead {
    struct aside_dead *next;
    uint32_t partition;
    int64_t offset;
    char *reason;
    size_t size;
    unsigned char data[];
};

struct aside {
    void *by_key;
    struct aside_status *statuses, **statuses_end;
    struct aside_dead *dead, **dead_end;
    uint64_t replies_dropped;
    int64_t next_note_ms;
};

static int status_compare(const void *a, const void *b)
{
    return strcmp(((const struct aside_status *)a)->key, ((const struct aside_status *)b)->key);
}

static struct aside *aside_of(struct pdr_worker *worker)
{
    if (!worker->aside && (worker->aside = calloc(1, sizeof *worker->aside))) {
        worker->aside->statuses_end = &worker->aside->statuses;
        worker->aside->dead_end = &worker->aside->dead;
    }
    if (!worker->aside)
        worker_fail(worker, PDR_NO_MEMORY, "out of memory");
    return worker->aside;
}

/* A log that refuses for another reason than want of room says why: the same for all, so not for each. */
static void aside_note(struct pdr_worker *worker, const char *what)
{
    struct aside *aside = aside_of(worker);
    if (!aside || worker_monotonic_ms() < aside->next_note_ms)
        return;
    aside->next_note_ms = worker_monotonic_ms() + ASIDE_NOTE_MS;
    worker_notice(worker, PDR_WARNING, "%s: %s", what, worker->log->error);
}

/* ---- statuses --------------------------------------------------------------------------------------------------- */

static struct aside_status *status_waiting(const struct aside *aside, const char *key)
{
    struct aside_status wanted = { .key = (char *)key };
    void *const *found = aside && aside->by_key ? tfind(&wanted, &aside->by_key, status_compare) : NULL;
    return found ? *found : NULL;
}

static bool status_set(struct aside_status *status, const void *data, size_t size)
{
    unsigned char *copy = data ? malloc(size ? size : 1) : NULL;
    if (data && !copy)
        return false;
    if (data && size > 0)
        memcpy(copy, data, size);
    free(status->data);
    status->data = copy;
    status->size = data ? size : 0;
    return true;
}

static bool status_wait(struct aside *aside, const char *key, const void *data, size_t size, const struct log_place *of)
{
    struct aside_status *status = calloc(1, sizeof *status);
    if (!status || !(status->key = strdup(key)) || !status_set(status, data, size) ||
        !tsearch(status, &aside->by_key, status_compare)) {
        if (status) {
            free(status->key);
            free(status->data);
        }
        free(status);
        return false;
    }
    status->of = of ? *of : (struct log_place){ 0, INT64_MAX };
    *aside->statuses_end = status;
    aside->statuses_end = &status->next;
    return true;
}

void worker_put_status(struct pdr_worker *worker, const char *key, const void *data, size_t size,
                       const struct log_place *of)
{
    struct aside_status *waiting = status_waiting(worker->aside, key);
    bool kept = true;
    if (waiting) { /* never an older one after a newer one */
        kept = status_set(waiting, data, size);
        if (of && waiting->of.offset == INT64_MAX)
            waiting->of = *of;
    } else {
        int code = worker->log->operations->put_status(worker->log, key, data, size, of);
        if (code == LOG_FULL)
            kept = aside_of(worker) && status_wait(worker->aside, key, data, size, of);
        else if (code != LOG_OK)
            aside_note(worker, "a status is not written");
    }
    if (!kept)
        worker_fail(worker, PDR_NO_MEMORY, "out of memory");
}

/* Such a row says that a job is forgotten, or what can run here. Whether it may still go is for who owns the job now: a new run
 * may have a row, and may have put it behind the one that was lost. */
void worker_row_lost(struct pdr_worker *worker, const char *key)
{
    if (worker_register_again(worker, key))
        return;
    uint32_t partition = partition_of(key, worker->log->genesis.partitions);
    struct engine *engine = partition < worker->partition_count ? worker->partitions[partition].engine : NULL;
    if (engine && engine_has_forgotten(engine, key))
        worker_put_status(worker, key, NULL, 0, NULL);
}

int64_t worker_unshown(void *context, uint32_t partition)
{
    struct pdr_worker *worker = context;
    int64_t (*unshown)(struct log *, uint32_t) = worker->log->operations->unshown;
    int64_t offset = unshown ? unshown(worker->log, partition) : INT64_MAX;
    for (const struct aside_status *status = worker->aside ? worker->aside->statuses : NULL; status; status = status->next)
        if (status->of.partition == partition && status->of.offset < offset)
            offset = status->of.offset;
    return offset;
}

static bool statuses_send(struct pdr_worker *worker)
{
    struct aside *aside = worker->aside;
    while (aside->statuses) {
        struct aside_status *status = aside->statuses;
        const struct log_place *of = status->of.offset == INT64_MAX ? NULL : &status->of;
        int code = worker->log->operations->put_status(worker->log, status->key, status->data, status->size, of);
        if (code == LOG_FULL)
            return false;
        if (code != LOG_OK)
            aside_note(worker, "a status is not written");
        aside->statuses = status->next;
        if (!aside->statuses)
            aside->statuses_end = &aside->statuses;
        tdelete(status, &aside->by_key, status_compare);
        free(status->key);
        free(status->data);
        free(status);
    }
    return true;
}

/* ---- dead letters ------------------------------------------------------------------------------------------------- */

static int dead_send(struct pdr_worker *worker, const struct log_record *record, const char *reason)
{
    int code = worker->log->operations->dead(worker->log, record, reason);
    if (code != LOG_OK && code != LOG_FULL)
        worker_notice(worker, PDR_ERROR, "inbox record %u/%" PRId64 " is not among the dead letters: %s", record->partition,
                      record->offset, worker->log->error);
    return code;
}

static void dead_wait(struct pdr_worker *worker, const struct log_record *record, const char *reason)
{
    struct aside *aside = aside_of(worker);
    struct aside_dead *dead = malloc(sizeof *dead + record->size);
    if (!aside || !dead || !(dead->reason = strdup(reason))) {
        free(dead);
        worker_fail(worker, PDR_NO_MEMORY, "out of memory");
        return;
    }
    dead->next = NULL;
    dead->partition = record->partition;
    dead->offset = record->offset;
    dead->size = record->size;
    memcpy(dead->data, record->data, record->size);
    *aside->dead_end = dead;
    aside->dead_end = &dead->next;
}

void worker_dead_letter(struct pdr_worker *worker, uint32_t partition, const struct engine_output *out)
{
    const struct log_record record = { LOG_INBOX, partition, out->offset, 0, -1, out->data, out->size };
    const char *reason = out->text ? out->text : "";
    worker_notice(worker, PDR_WARNING, "inbox record %u/%" PRId64 " is a dead letter: %s", partition, out->offset, reason);
    if (dead_send(worker, &record, reason) == LOG_FULL)
        dead_wait(worker, &record, reason);
}

void worker_dead_lost(struct pdr_worker *worker, const struct log_record *record, const char *reason)
{
    if (dead_send(worker, record, reason) == LOG_FULL)
        dead_wait(worker, record, reason);
}

static bool dead_send_all(struct pdr_worker *worker)
{
    struct aside *aside = worker->aside;
    while (aside->dead) {
        struct aside_dead *dead = aside->dead;
        const struct log_record record = { LOG_INBOX, dead->partition, dead->offset, 0, -1, dead->data, dead->size };
        if (dead_send(worker, &record, dead->reason) == LOG_FULL)
            return false;
        aside->dead = dead->next;
        if (!aside->dead)
            aside->dead_end = &aside->dead;
        free(dead->reason);
        free(dead);
    }
    return true;
}

/* ---- the others ----------------------------------------------------------------------------------------------------- */

void worker_reply(struct pdr_worker *worker, const ReplyTo *to, const Reply *reply)
{
    int code = worker->log->operations->reply(worker->log, to, reply);
    if (code == LOG_OK)
        return;
    struct aside *aside = aside_of(worker);
    if (aside)
        aside->replies_dropped++;
    if (code != LOG_FULL)
        aside_note(worker, "a reply is not sent; its client asks again");
}

void worker_trim(struct pdr_worker *worker, enum log_stream stream, uint32_t partition, int64_t below)
{
    if (worker->log->operations->trim(worker->log, stream, partition, below) != LOG_OK)
        aside_note(worker, "old records stay a while longer");
}

void worker_send_aside(struct pdr_worker *worker)
{
    if (!worker->aside)
        return;
    bool letters = dead_send_all(worker), statuses = statuses_send(worker); /* two topics: one may have room, the other none */
    worker->aside_waits = !letters || !statuses;
    if (worker->aside->replies_dropped > 0 && worker_monotonic_ms() >= worker->aside->next_note_ms) {
        worker->aside->next_note_ms = worker_monotonic_ms() + ASIDE_NOTE_MS;
        worker_notice(worker, PDR_WARNING, "%" PRIu64 " replies were dropped while the log had no room; their clients ask again",
                      worker->aside->replies_dropped);
        worker->aside->replies_dropped = 0;
    }
}

void worker_aside_release(struct pdr_worker *worker)
{
    struct aside *aside = worker->aside;
    while (aside && aside->statuses) {
        struct aside_status *status = aside->statuses;
        aside->statuses = status->next;
        tdelete(status, &aside->by_key, status_compare);
        free(status->key);
        free(status->data);
        free(status);
    }
    while (aside && aside->dead) {
        struct aside_dead *dead = aside->dead;
        aside->dead = dead->next;
        free(dead->reason);
        free(dead);
    }
    free(aside);
    worker->aside = NULL;
}
