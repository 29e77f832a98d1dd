/*
 * The embedded log as a worker has it: owner of the file from open to close. Everything that is to be written waits in
 * one batch; log_flush() commits it in one transaction, tells the followers, then answers the clients.
 */
#define _GNU_SOURCE
#include "log/sqlite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "log/sqlite_server.h"

#define LOCK_WAIT_MS 3000            /* clients, one operation each */
#define OWNER_WAIT_MS 500            /* a killed owner that is still going away */
#define APPEND_BYTES_LIMIT (64 * 1024 * 1024)
#define RETRY_FIRST_MS 100           /* after a full disk */
#define RETRY_MAX_MS 2000
#define IDLE_MS 20                   /* quiet for so long: time for a checkpoint */
#define IDLE_FRAMES 256              /* of 4 KiB: worth a checkpoint while nothing else is to be done */
#define IDLE_ENTRIES 1024            /* the same for the index of runs */
#define STATUS_WAIT_MS 5             /* so long statuses alone wait for a commit that is made anyway */
#define FORCED_FRAMES 2000           /* under load: 8 MiB, a few ms once in so many small commits */

struct follower {
    bool active, live;    /* live: at the end, fed from commits */
    uint32_t generation;  /* a follow() in a callback makes the rows in hand stale */
    int64_t next;
};

struct sqlite_worker {
    struct log log;
    struct sqlite_db *db;
    struct sqlite_server server;
    struct sqlite_batch batch;
    struct follower *followers; /* by partition and stream */
    struct sqlite_rows rows;
    pid_t pid;                  /* a forked child has no part in it */
    bool writing, prepared, told_dead, told_loss, joined, join_asked, leave_asked;
    int64_t retry_at, retry_ms, told_full_at, ticked_at;
    int64_t statuses_at; /* when the statuses that wait go alone; 0: none wait */
};

static struct sqlite_worker *worker_of(struct log *log) { return (struct sqlite_worker *)log; }

static struct follower *follower_of(struct sqlite_worker *worker, enum log_stream stream, uint32_t partition)
{
    return &worker->followers[2 * partition + (stream == LOG_INBOX)];
}

static int worker_fail(struct sqlite_worker *worker, const char *message)
{
    snprintf(worker->log.error, sizeof worker->log.error, "%s", message);
    worker->log.error_exit = 5;
    return LOG_FAILED;
}

/* After this nothing is acknowledged any more (rule 29). */
static int worker_die(struct sqlite_worker *worker)
{
    worker->db->dead = true;
    if (!worker->told_dead) {
        worker->told_dead = true;
        if (worker->log.handler.fault != NULL)
            worker->log.handler.fault(worker->log.handler.context, LOG_FATAL, LOG_ALL, worker->db->error);
    }
    return worker_fail(worker, worker->db->error);
}

static bool worker_is_usable(struct sqlite_worker *worker)
{
    return !worker->db->dead && worker->pid == getpid();
}

static int worker_check(struct sqlite_worker *worker, uint32_t partition)
{
    if (worker->pid != getpid())
        return worker_fail(worker, "a forked child cannot use its parent's log");
    if (worker->db->dead)
        return worker_fail(worker, worker->db->error);
    if (partition >= worker->db->genesis->partitions)
        return worker_fail(worker, "no such partition");
    return LOG_OK;
}

/* ---- writing ---- */

static int worker_append(struct log *log, enum log_stream stream, uint32_t partition, const struct log_message *message,
                         uint64_t cookie)
{
    struct sqlite_worker *worker = worker_of(log);
    if (worker_check(worker, partition) != LOG_OK)
        return LOG_FAILED;
    if (worker->batch.bytes > APPEND_BYTES_LIMIT)
        return LOG_FULL;
    if (message->size > WIRE_SIZE_LIMIT_BYTES)
        return worker_fail(worker, "the record is larger than any reader would take");
    struct sqlite_op *op = sqlite_batch_append(&worker->batch, stream, partition, message->key, message->data,
                                               message->size, message->header);
    if (op == NULL)
        return worker_fail(worker, "out of memory");
    op->cookie = cookie;
    return LOG_OK;
}

static void tell_delivered(struct sqlite_worker *worker, const struct sqlite_batch *batch)
{
    const struct log_handler *handler = &worker->log.handler;
    for (const struct sqlite_op *op = batch->first; op != NULL && handler->delivered != NULL; op = op->next)
        if (op->connection == 0 && (op->kind == SQLITE_OP_JOURNAL || op->kind == SQLITE_OP_INBOX))
            handler->delivered(handler->context, op->cookie, LOG_PERSISTED, op->offset);
}

/* The rows just committed, to those followers who had everything before them. */
static void tell_records(struct sqlite_worker *worker, const struct sqlite_batch *batch, enum log_stream stream)
{
    const struct log_handler *handler = &worker->log.handler;
    enum sqlite_op_kind kind = stream == LOG_JOURNAL ? SQLITE_OP_JOURNAL : SQLITE_OP_INBOX;
    for (const struct sqlite_op *op = batch->first; op != NULL && handler->record != NULL; op = op->next) {
        struct follower *follower = follower_of(worker, stream, op->partition);
        if (op->kind != kind || op->repeated || !follower->active || !follower->live || op->offset < follower->next)
            continue;
        struct log_record record = {.stream = stream, .partition = op->partition, .offset = op->offset,
                                    .append_ms = op->append_ms, .leader_epoch = -1, .data = op->data,
                                    .size = op->size};
        follower->next = op->offset + 1;
        handler->record(handler->context, &record);
    }
}

static void tell_end(struct sqlite_worker *worker, enum log_stream stream, uint32_t partition, int64_t end)
{
    const struct log_handler *handler = &worker->log.handler;
    if (handler->end != NULL)
        handler->end(handler->context, stream, partition, end);
}

static void tell_ends(struct sqlite_worker *worker, enum log_stream stream, int64_t before)
{
    int64_t end = worker->db->ends[stream];
    for (uint32_t p = 0; p < worker->db->genesis->partitions; p++) {
        struct follower *follower = follower_of(worker, stream, p);
        if (!follower->active || !follower->live || follower->next < before)
            continue;
        bool had_records = follower->next > before;
        follower->next = end; /* what lies between belongs to other partitions */
        if (had_records)
            tell_end(worker, stream, p, end);
    }
}

/* H54: nothing is acknowledged, nothing is lost: the same batch goes again when there is space. */
static void worker_no_space(struct sqlite_worker *worker)
{
    int64_t now = sqlite_monotonic_ms();
    worker->retry_ms = worker->retry_ms == 0 ? RETRY_FIRST_MS : worker->retry_ms * 2;
    if (worker->retry_ms > RETRY_MAX_MS)
        worker->retry_ms = RETRY_MAX_MS;
    worker->retry_at = now + worker->retry_ms;
    if (worker->told_full_at != 0 && now - worker->told_full_at < 5000)
        return;
    worker->told_full_at = now;
    char message[700];
    snprintf(message, sizeof message, "%s: disk full, or a limit on the file's size: nothing is acknowledged until there "
             "is space again", worker->db->error);
    if (worker->log.handler.fault != NULL)
        worker->log.handler.fault(worker->log.handler.context, LOG_UNREACHABLE, LOG_ALL, message);
}

/* Nobody goes on when a status is written: alone, a few of them share a commit, best one that is made anyway. */
static bool worker_may_wait(struct sqlite_worker *worker)
{
    if (worker->batch.waited_for || worker->batch.store.first != NULL || !worker->joined)
        return false;
    int64_t now = sqlite_monotonic_ms();
    if (worker->statuses_at == 0)
        worker->statuses_at = now + STATUS_WAIT_MS;
    return now < worker->statuses_at;
}

/* What clients ask: a repetition of what the owner has read comes to it again, else its answer might never come. */
static void note_what_was_read(struct sqlite_worker *worker)
{
    for (struct sqlite_op *op = worker->batch.first; op != NULL; op = op->next) {
        if (op->kind != SQLITE_OP_INBOX || op->connection == 0)
            continue;
        const struct follower *follower = follower_of(worker, LOG_INBOX, op->partition);
        op->heard_below = follower->active && follower->live ? follower->next : 0;
    }
}

static int worker_flush(struct log *log)
{
    struct sqlite_worker *worker = worker_of(log);
    if (worker->writing || sqlite_batch_is_empty(&worker->batch))
        return LOG_OK; /* from a callback: what it appended goes with the next flush */
    if (!worker_is_usable(worker))
        return worker_check(worker, 0);
    if (worker->retry_at != 0 && sqlite_monotonic_ms() < worker->retry_at)
        return LOG_OK;
    if (worker_may_wait(worker))
        return LOG_OK;
    sqlite_server_send(&worker->server); /* answers stand on what was written before */
    worker->statuses_at = 0;
    int64_t before[2] = {worker->db->ends[0], worker->db->ends[1]};
    note_what_was_read(worker);
    enum sqlite_written result = sqlite_batch_write(worker->db, &worker->batch);
    if (result == SQLITE_BROKEN)
        return worker_die(worker);
    if (result == SQLITE_NO_SPACE) {
        worker_no_space(worker);
        return LOG_OK;
    }
    worker->retry_at = worker->retry_ms = worker->told_full_at = 0;
    struct sqlite_batch done;
    sqlite_batch_init(&done);
    sqlite_batch_move(&done, &worker->batch);
    worker->writing = true;
    tell_delivered(worker, &done);
    for (int stream = LOG_JOURNAL; stream <= LOG_INBOX; stream++) {
        tell_records(worker, &done, (enum log_stream)stream);
        tell_ends(worker, (enum log_stream)stream, before[stream]);
    }
    for (const struct sqlite_op *op = done.first; op != NULL; op = op->next)
        if (op->connection != 0)
            sqlite_server_answer(&worker->server, op);
    sqlite_server_committed(&worker->server);
    worker->writing = false;
    sqlite_batch_clear(&done);
    sqlite_db_checkpoint(worker->db, FORCED_FRAMES);
    return worker->db->dead ? worker_die(worker) : LOG_OK;
}

static int worker_trim(struct log *log, enum log_stream stream, uint32_t partition, int64_t below)
{
    struct sqlite_worker *worker = worker_of(log);
    if (worker_check(worker, partition) != LOG_OK)
        return LOG_FAILED;
    if (below > worker->db->ends[stream])
        below = worker->db->ends[stream];
    if (below <= worker->db->starts[stream][partition])
        return LOG_OK;
    struct sqlite_op *op = sqlite_batch_add(&worker->batch, SQLITE_OP_TRIM, partition, NULL, NULL, NULL, 0);
    if (op == NULL)
        return worker_fail(worker, "out of memory");
    op->stream = stream;
    op->offset = below;
    return LOG_OK;
}

static int worker_put_status(struct log *log, const char *key, const void *data, size_t size,
                             const struct log_place *of)
{
    (void)of; /* one file, one order */
    struct sqlite_worker *worker = worker_of(log);
    if (worker_check(worker, 0) != LOG_OK)
        return LOG_FAILED;
    struct sqlite_op *op = sqlite_batch_add(&worker->batch, SQLITE_OP_STATUS, 0, key, NULL, data, size);
    if (op == NULL)
        return worker_fail(worker, "out of memory");
    op->drop = data == NULL;
    return LOG_OK;
}

static int worker_dead(struct log *log, const struct log_record *record, const char *reason)
{
    struct sqlite_worker *worker = worker_of(log);
    if (worker_check(worker, record->partition) != LOG_OK)
        return LOG_FAILED;
    struct sqlite_op *op = sqlite_batch_add(&worker->batch, SQLITE_OP_DEAD, record->partition, NULL, reason,
                                            record->data, record->size);
    if (op == NULL)
        return worker_fail(worker, "out of memory");
    op->offset = record->offset;
    op->append_ms = record->append_ms;
    return LOG_OK;
}

static int worker_reply(struct log *log, const ReplyTo *to, const Reply *reply)
{
    struct sqlite_worker *worker = worker_of(log);
    if (worker_check(worker, 0) != LOG_OK)
        return LOG_FAILED;
    /* Best effort (rule 15): a client that is gone asks again, or reads the status. */
    sqlite_server_push(&worker->server, to->client, reply);
    return LOG_OK;
}

/* ---- reading ---- */

static int worker_follow(struct log *log, enum log_stream stream, uint32_t partition, int64_t from)
{
    struct sqlite_worker *worker = worker_of(log);
    if (worker_check(worker, partition) != LOG_OK)
        return LOG_FAILED;
    struct follower *follower = follower_of(worker, stream, partition);
    follower->generation++;
    follower->active = true;
    follower->live = false;
    follower->next = from;
    return LOG_OK;
}

static int worker_unfollow(struct log *log, enum log_stream stream, uint32_t partition)
{
    struct sqlite_worker *worker = worker_of(log);
    if (worker_check(worker, partition) != LOG_OK)
        return LOG_FAILED;
    struct follower *follower = follower_of(worker, stream, partition);
    follower->generation++;
    follower->active = false;
    return LOG_OK;
}

/* From a place that is not in the log. */
static bool follower_is_astray(struct sqlite_worker *worker, enum log_stream stream, uint32_t partition,
                               struct follower *follower)
{
    int64_t start = worker->db->starts[stream][partition], end = worker->db->ends[stream];
    if (follower->next >= start && follower->next <= end)
        return false;
    if (stream == LOG_INBOX && follower->next > end) { /* the journal is whole: its owner goes on from there (H21) */
        follower->active = false;
        tell_end(worker, stream, partition, end);
        return true;
    }
    char message[400];
    snprintf(message, sizeof message, "sqlite:%.200s: %s offset %lld of partition %u is %s", worker->db->paths.database,
             stream == LOG_JOURNAL ? "journal" : "inbox", (long long)follower->next, partition,
             follower->next < start ? "below its start" : "beyond its end");
    enum log_fault fault = follower->next < start ? LOG_OUT_OF_RANGE : LOG_TRUNCATED;
    follower->active = false;
    if (worker->log.handler.fault != NULL)
        worker->log.handler.fault(worker->log.handler.context, fault, partition, message);
    return true;
}

/* One chunk for a follower that is behind. */
static int worker_catch_up(struct sqlite_worker *worker, enum log_stream stream, uint32_t partition)
{
    struct follower *follower = follower_of(worker, stream, partition);
    if (!follower->active || follower->live || follower_is_astray(worker, stream, partition, follower))
        return LOG_OK;
    uint32_t generation = follower->generation;
    if (sqlite_read(worker->db, stream, partition, follower->next, SQLITE_CHUNK_ROWS, &worker->rows) != LOG_OK)
        return worker_die(worker);
    struct sqlite_rows *rows = &worker->rows;
    bool more = rows->more;
    int64_t next = rows->next;
    for (size_t i = 0; i < rows->count && follower->active && follower->generation == generation; i++) {
        const struct sqlite_row *row = &rows->rows[i];
        struct log_record record = {.stream = stream, .partition = partition, .offset = row->offset,
                                    .append_ms = row->append_ms, .leader_epoch = -1, .data = row->data,
                                    .size = row->size};
        follower->next = row->offset + 1;
        if (worker->log.handler.record != NULL)
            worker->log.handler.record(worker->log.handler.context, &record);
    }
    if (!follower->active || follower->generation != generation)
        return LOG_OK;
    follower->next = next;
    follower->live = !more;
    if (!more)
        tell_end(worker, stream, partition, next);
    return LOG_OK;
}

static bool worker_is_behind(struct sqlite_worker *worker)
{
    for (uint32_t i = 0; i < 2 * worker->db->genesis->partitions; i++)
        if (worker->followers[i].active && !worker->followers[i].live)
            return true;
    return false;
}

static int worker_bounds(struct log *log, enum log_stream stream, uint32_t partition, int64_t *start, int64_t *end)
{
    struct sqlite_worker *worker = worker_of(log);
    if (worker_check(worker, partition) != LOG_OK)
        return LOG_FAILED;
    *start = worker->db->starts[stream][partition];
    *end = worker->db->ends[stream];
    return LOG_OK;
}

static int worker_get_status(struct log *log, const char *key, void **data, size_t *size)
{
    struct sqlite_worker *worker = worker_of(log);
    struct sqlite_rows rows = {0};
    if (worker_check(worker, 0) != LOG_OK)
        return LOG_FAILED;
    int result = sqlite_read_status(worker->db, key, &rows);
    if (result != LOG_OK) {
        worker_fail(worker, worker->db->error);
    } else if (rows.count == 0) {
        result = LOG_NOT_FOUND;
    } else {
        *size = rows.rows[0].size;
        *data = malloc(*size + 1);
        if (*data != NULL)
            memcpy(*data, rows.rows[0].data, *size);
        else
            result = worker_fail(worker, "out of memory");
    }
    sqlite_rows_free(&rows);
    return result;
}

static int worker_each_status(struct log *log, const char *prefix,
                              bool (*visit)(void *context, const char *key, const void *data, size_t size),
                              void *context)
{
    struct sqlite_worker *worker = worker_of(log);
    struct sqlite_rows rows = {0};
    char *after = strdup("");
    int result = worker_check(worker, 0);
    for (bool more = true; more && result == LOG_OK && after != NULL;) {
        result = sqlite_read_statuses(worker->db, prefix != NULL ? prefix : "", after, &rows);
        if (result != LOG_OK) {
            worker_fail(worker, worker->db->error);
            break;
        }
        more = rows.more;
        for (size_t i = 0; i < rows.count; i++)
            if (!visit(context, rows.rows[i].key, rows.rows[i].data, rows.rows[i].size)) {
                more = false;
                break;
            }
        if (more) {
            free(after);
            after = strdup(rows.rows[rows.count - 1].key);
        }
    }
    free(after);
    sqlite_rows_free(&rows);
    return result;
}

static int worker_history(struct log *log, uint32_t partition, const char *job, uint64_t run,
                          bool (*visit)(void *context, int64_t offset, const void *record, size_t size), void *context)
{
    struct sqlite_worker *worker = worker_of(log);
    struct sqlite_rows rows = {0};
    int result = worker_check(worker, partition);
    int64_t from = 0;
    for (bool more = true; more && result == LOG_OK; from = rows.next) {
        result = sqlite_read_history(worker->db, partition, job, run, from, &rows);
        if (result != LOG_OK) {
            worker_fail(worker, worker->db->error);
            break;
        }
        more = rows.more;
        for (size_t i = 0; i < rows.count; i++)
            if (!visit(context, rows.rows[i].offset, rows.rows[i].data, rows.rows[i].size)) {
                more = false;
                break;
            }
    }
    sqlite_rows_free(&rows);
    return result;
}

/* ---- membership, polling ---- */

static int worker_join(struct log *log)
{
    worker_of(log)->join_asked = true;
    return LOG_OK;
}

static int worker_leave(struct log *log, bool for_good)
{
    (void)for_good;
    worker_of(log)->leave_asked = true;
    return LOG_OK;
}

/* Whoever owns the file owns all its partitions. */
static void worker_tell_membership(struct sqlite_worker *worker)
{
    const struct log_handler *handler = &worker->log.handler;
    bool join = worker->join_asked && !worker->joined, leave = worker->leave_asked && (worker->joined || join);
    worker->join_asked = worker->leave_asked = false;
    if (join) {
        worker->joined = true;
        for (uint32_t p = 0; p < worker->db->genesis->partitions; p++)
            if (handler->assigned != NULL)
                handler->assigned(handler->context, p);
    }
    if (leave) {
        worker->joined = false;
        for (uint32_t p = 0; p < worker->db->genesis->partitions; p++)
            if (handler->revoked != NULL)
                handler->revoked(handler->context, p);
    }
}

/* Quiet: lays out the WAL, deletes what was trimmed, copies the WAL into the file. */
static void worker_idle(struct sqlite_worker *worker)
{
    if (!worker->prepared)
        sqlite_db_prepare_wal(worker->db, FORCED_FRAMES + FORCED_FRAMES / 8);
    worker->prepared = true;
    struct sqlite_batch none;
    sqlite_batch_init(&none);
    none.index = worker->db->entry_count >= IDLE_ENTRIES || worker->db->purges > 0;
    if ((worker->db->purges > 0 || none.index) && sqlite_batch_write(worker->db, &none) == SQLITE_BROKEN)
        worker_die(worker);
    sqlite_db_checkpoint(worker->db, IDLE_FRAMES);
    if (worker->db->dead)
        worker_die(worker);
}

static void worker_wait(struct sqlite_worker *worker, int timeout_ms)
{
    bool chores = !worker->prepared || worker->db->wal_frames >= IDLE_FRAMES || worker->db->purges > 0 ||
                  worker->db->entry_count >= IDLE_ENTRIES;
    int64_t now = sqlite_monotonic_ms();
    if (worker->retry_at > now && (timeout_ms < 0 || worker->retry_at - now < timeout_ms))
        timeout_ms = (int)(worker->retry_at - now);
    if (worker->statuses_at > 0 && (timeout_ms < 0 || worker->statuses_at - now < timeout_ms))
        timeout_ms = worker->statuses_at > now ? (int)(worker->statuses_at - now) : 0;
    if (timeout_ms < 0 || timeout_ms > 1000)
        timeout_ms = 1000; /* each second: is the file still there? */
    if (chores && timeout_ms > IDLE_MS && worker->retry_at == 0) {
        if (!sqlite_server_wait(&worker->server, IDLE_MS))
            worker_idle(worker);
        return;
    }
    sqlite_server_wait(&worker->server, timeout_ms);
}

static void worker_tick(struct sqlite_worker *worker)
{
    int64_t now = sqlite_monotonic_ms();
    if (now - worker->ticked_at < 1000)
        return;
    worker->ticked_at = now;
    sqlite_server_tick(&worker->server, now);
    if (!sqlite_db_in_place(worker->db)) /* H30 */
        worker_die(worker);
}

static int worker_poll(struct log *log, int timeout_ms)
{
    struct sqlite_worker *worker = worker_of(log);
    if (worker->writing)
        return LOG_OK;
    if (!worker_is_usable(worker)) {
        int result = worker_check(worker, 0);
        return worker->db->dead && worker->pid == getpid() ? worker_die(worker) : result;
    }
    if (!worker->told_loss && worker->db->loss[0] != '\0' && log->handler.fault != NULL)
        log->handler.fault(log->handler.context, LOG_TRUNCATED, LOG_ALL, worker->db->loss);
    worker->told_loss = true;
    worker_tell_membership(worker);
    int result = worker_flush(log);
    sqlite_server_send(&worker->server);
    worker_wait(worker, worker_is_behind(worker) ? 0 : timeout_ms);
    worker_tick(worker);
    /* What clients sent now shares the commit of the caller's next flush, or of the next poll. */
    for (uint32_t p = 0; p < worker->db->genesis->partitions && result == LOG_OK; p++) {
        result = worker_catch_up(worker, LOG_JOURNAL, p);
        if (result == LOG_OK)
            result = worker_catch_up(worker, LOG_INBOX, p);
    }
    return worker->db->dead ? worker_die(worker) : result;
}

static void worker_wake(struct log *log) { sqlite_server_wake(&worker_of(log)->server); }

static int worker_reply_address(struct log *log, ReplyTo *to)
{
    (void)to;
    return worker_fail(worker_of(log), "the owner of a log is not its client: open it once more as a client");
}

/* Rule 27: stop accepting, commit what was read, answer, unlink, close, unlock. */
static void worker_close(struct log *log)
{
    struct sqlite_worker *worker = worker_of(log);
    if (worker->pid == getpid()) { /* a forked child must not touch its parent's database */
        memset(&log->handler, 0, sizeof log->handler);
        worker->retry_at = 0;
        worker->joined = false; /* nothing waits any more */
        if (!worker->db->dead)
            worker_flush(log);
        sqlite_server_close(&worker->server);
        sqlite_db_close(worker->db);
    }
    sqlite_batch_clear(&worker->batch);
    sqlite_rows_free(&worker->rows);
    free(worker->followers);
    free(worker);
}

static const struct log_operations worker_operations = {
    .name = "sqlite",
    .append = worker_append,
    .flush = worker_flush,
    .follow = worker_follow,
    .unfollow = worker_unfollow,
    .bounds = worker_bounds,
    .trim = worker_trim,
    .join = worker_join,
    .leave = worker_leave,
    .put_status = worker_put_status,
    .get_status = worker_get_status,
    .each_status = worker_each_status,
    .reply = worker_reply,
    .dead = worker_dead,
    .history = worker_history,
    .poll = worker_poll,
    .wake = worker_wake,
    .close = worker_close,
    .reply_address = worker_reply_address,
};

/* ---- for the store ---- */

static struct sqlite_worker *worker_if_sqlite(struct log *log)
{
    return log != NULL && log->operations == &worker_operations ? worker_of(log) : NULL;
}

struct store_rows *sqlite_worker_store_rows(struct log *log)
{
    struct sqlite_worker *worker = worker_if_sqlite(log);
    return worker != NULL ? &worker->db->store : NULL;
}

int sqlite_worker_queue_store(struct log *log, struct store_ops *ops)
{
    struct sqlite_worker *worker = worker_of(log);
    if (worker_check(worker, 0) != LOG_OK)
        return LOG_FAILED;
    store_ops_move(&worker->batch.store, ops);
    return LOG_OK;
}

int sqlite_worker_write_store(struct log *log)
{
    struct sqlite_worker *worker = worker_of(log);
    if (worker_check(worker, 0) != LOG_OK)
        return LOG_FAILED;
    if (worker->batch.store.first == NULL)
        return LOG_OK;
    struct sqlite_batch only;
    sqlite_batch_init(&only);
    store_ops_move(&only.store, &worker->batch.store);
    enum sqlite_written result = sqlite_batch_write(worker->db, &only);
    if (result == SQLITE_WRITTEN)
        sqlite_batch_clear(&only);
    else
        store_ops_move(&worker->batch.store, &only.store);
    return result == SQLITE_WRITTEN ? LOG_OK : worker_fail(worker, worker->db->error);
}

/* ---- opening ---- */

static enum sqlite_open_result worker_open_db(const struct sqlite_paths *paths, const struct sqlite_open *how,
                                              struct sqlite_db **db, char *error, size_t error_size)
{
    int64_t begun = sqlite_monotonic_ms();
    int waiting = -1;
    for (;;) {
        enum sqlite_open_result result = sqlite_db_open(paths, how, db, error, error_size);
        int64_t patience = strstr(error, "(client ") != NULL ? LOCK_WAIT_MS : OWNER_WAIT_MS;
        if (result != SQLITE_OPEN_BUSY || sqlite_monotonic_ms() - begun > patience) {
            sqlite_lock_stop_waiting(waiting);
            return result;
        }
        if (waiting < 0)
            waiting = sqlite_lock_announce(paths);
        usleep(2000);
    }
}

int sqlite_worker_open(const struct sqlite_paths *paths, const struct log_options *options, uint32_t partitions,
                       struct log **out, char *error, size_t error_size)
{
    struct sqlite_open how = {.role = "worker", .name = options->member, .create = options->create,
                              .partitions = partitions};
    struct sqlite_db *db;
    switch (worker_open_db(paths, &how, &db, error, error_size)) {
    case SQLITE_OPENED: break;
    case SQLITE_OPEN_BUSY: return LOG_BUSY;
    case SQLITE_OPEN_MISSING: return 3;
    default: return 5;
    }
    struct sqlite_worker *worker = calloc(1, sizeof *worker);
    struct follower *followers = calloc(2 * (size_t)db->genesis->partitions, sizeof *followers);
    if (worker == NULL || followers == NULL ||
        sqlite_server_open(&worker->server, db, &worker->batch, error, error_size) != 0) {
        if (worker == NULL || followers == NULL)
            snprintf(error, error_size, "sqlite:%s: out of memory", paths->database);
        free(followers);
        free(worker);
        sqlite_db_close(db);
        return 5;
    }
    worker->log.operations = &worker_operations;
    worker->log.genesis = *db->genesis;
    worker->db = db;
    worker->pid = getpid();
    worker->followers = followers;
    sqlite_batch_init(&worker->batch);
    *out = &worker->log;
    return LOG_OK;
}
