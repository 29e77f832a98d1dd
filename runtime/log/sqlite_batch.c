/*
 * Everything the owner writes: collected here, written in one transaction a flush (rules 26, 28).
 */
#include "log/sqlite_db.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The index of runs follows at the latest when so many entries wait. Run ids are random: the more of them are written
 * at once, the more share a page. Looking one up among those that wait takes 5 us. */
#define INDEX_AT 16384
/* Rows of a trimmed head that one transaction deletes: alone, or beside what somebody waits for. It keeps up with any
 * load, since it deletes more than is written. */
#define PURGE_ROWS 500
#define PURGE_ROWS_BESIDE 32

void sqlite_batch_init(struct sqlite_batch *batch)
{
    memset(batch, 0, sizeof *batch);
    batch->last = &batch->first;
    store_ops_init(&batch->store);
}

bool sqlite_batch_is_empty(const struct sqlite_batch *batch)
{
    return batch->first == NULL && batch->store.first == NULL;
}

static const char *op_copy_text(char **at, const char *text)
{
    if (text == NULL)
        return NULL;
    size_t size = strlen(text) + 1;
    char *copy = memcpy(*at, text, size);
    *at += size;
    return copy;
}

struct sqlite_op *sqlite_batch_add(struct sqlite_batch *batch, enum sqlite_op_kind kind, uint32_t partition,
                                   const char *key, const char *text, const void *data, size_t size)
{
    size_t room = size + (key ? strlen(key) + 1 : 0) + (text ? strlen(text) + 1 : 0);
    struct sqlite_op *op = malloc(sizeof *op + room);
    if (op == NULL)
        return NULL;
    memset(op, 0, sizeof *op);
    op->kind = kind;
    op->partition = partition;
    char *at = op->bytes;
    if (size > 0)
        memcpy(at, data, size);
    op->data = at;
    op->size = size;
    at += size;
    op->key = op_copy_text(&at, key);
    op->text = op_copy_text(&at, text);
    *batch->last = op;
    batch->last = &op->next;
    batch->journal |= kind == SQLITE_OP_JOURNAL;
    batch->waited_for |= kind != SQLITE_OP_STATUS;
    batch->rows++;
    batch->bytes += sizeof *op + room;
    return op;
}

/* A request id is known within a job (rule 13): another job's command under the same one is no repetition. Job ids have no
 * line end. NULL: no memory. */
static char *request_key(const char *request, const char *job)
{
    char *key;
    return asprintf(&key, "%s\n%s", request, job != NULL ? job : "") < 0 ? NULL : key;
}

struct sqlite_op *sqlite_batch_append(struct sqlite_batch *batch, enum log_stream stream, uint32_t partition,
                                      const char *key, const void *data, size_t size, const Header *header)
{
    enum sqlite_op_kind kind = stream == LOG_JOURNAL ? SQLITE_OP_JOURNAL : SQLITE_OP_INBOX;
    Record *record = NULL;
    /* What cannot be decoded is kept as it is: the engine refuses it and copies it to the dead letters (rule 12). */
    if ((kind == SQLITE_OP_INBOX || header == NULL) && record_decode(data, size, &record) == WIRE_OK)
        header = record->header;
    const Command *command = kind == SQLITE_OP_INBOX && record != NULL ? record->command : NULL;
    if (header != NULL && header->job[0] != '\0')
        key = header->job;
    bool named = command != NULL && command->request[0] != '\0';
    char *request = named ? request_key(command->request, key) : NULL;
    struct sqlite_op *op = named && request == NULL ? NULL : sqlite_batch_add(batch, kind, partition, key, request, data, size);
    free(request);
    if (op != NULL && header != NULL) {
        op->run = header->run;
        op->seq = header->seq;
    }
    if (op != NULL && command != NULL && command->reply_to != NULL)
        op->client = command->reply_to->client;
    record_free(record);
    return op;
}

void sqlite_batch_move(struct sqlite_batch *to, struct sqlite_batch *from)
{
    if (from->first != NULL) {
        *to->last = from->first;
        to->last = from->last;
        to->rows += from->rows;
        to->bytes += from->bytes;
    }
    to->journal |= from->journal;
    to->waited_for |= from->waited_for;
    store_ops_move(&to->store, &from->store);
    sqlite_batch_init(from);
}

void sqlite_batch_clear(struct sqlite_batch *batch)
{
    for (struct sqlite_op *op = batch->first, *next; op != NULL; op = next) {
        next = op->next;
        free(op);
    }
    store_ops_clear(&batch->store);
    sqlite_batch_init(batch);
}

/* ---- one row ---- */

static int statement_run(sqlite3_stmt *statement)
{
    int rc = sqlite3_step(statement);
    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
    return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

static void bind_text(sqlite3_stmt *statement, int index, const char *text)
{
    if (text != NULL)
        sqlite3_bind_text(statement, index, text, -1, SQLITE_STATIC);
}

static int write_meta(struct sqlite_db *db, const char *name, int64_t value)
{
    sqlite3_stmt *statement = db->statements[SQLITE_STMT_META];
    sqlite3_bind_text(statement, 1, name, -1, SQLITE_STATIC);
    sqlite3_bind_int64(statement, 2, value);
    return statement_run(statement);
}

static int write_journal(struct sqlite_db *db, struct sqlite_op *op, int64_t ends[2])
{
    sqlite3_stmt *statement = db->statements[SQLITE_STMT_JOURNAL];
    op->offset = ends[LOG_JOURNAL]++;
    sqlite3_bind_int64(statement, 1, op->offset);
    sqlite3_bind_int64(statement, 2, op->partition);
    sqlite3_bind_int64(statement, 3, op->append_ms);
    sqlite3_bind_int64(statement, 4, (int64_t)op->run);
    sqlite3_bind_int64(statement, 5, (int64_t)op->seq);
    bind_text(statement, 6, op->key);
    sqlite3_bind_blob64(statement, 7, op->data, op->size, SQLITE_STATIC);
    return statement_run(statement);
}

/* Rule 28: the same request id again is answered with the row that stands. */
static int find_request(struct sqlite_db *db, struct sqlite_op *op)
{
    sqlite3_stmt *statement = db->statements[SQLITE_STMT_REQUEST];
    bind_text(statement, 1, op->text);
    int rc = sqlite3_step(statement);
    if (rc == SQLITE_ROW) {
        op->offset = sqlite3_column_int64(statement, 0);
        op->append_ms = sqlite3_column_int64(statement, 1);
        op->repeated = true;
    }
    sqlite3_reset(statement);
    return rc == SQLITE_ROW ? SQLITE_OK : rc == SQLITE_DONE ? SQLITE_CORRUPT : rc;
}

static int insert_inbox(struct sqlite_db *db, struct sqlite_op *op, int64_t offset)
{
    sqlite3_stmt *statement = db->statements[SQLITE_STMT_INBOX];
    op->repeated = false;
    op->offset = offset;
    sqlite3_bind_int64(statement, 1, op->offset);
    sqlite3_bind_int64(statement, 2, op->partition);
    sqlite3_bind_int64(statement, 3, op->append_ms);
    bind_text(statement, 4, op->text);
    bind_text(statement, 5, op->key);
    sqlite3_bind_blob64(statement, 6, op->data, op->size, SQLITE_STATIC);
    int rc = statement_run(statement);
    return rc == SQLITE_OK && sqlite3_changes(db->handle) == 0 ? find_request(db, op) : rc;
}

/* Who asks again has had no answer: the row that the owner has read gives its request id to the new one, which it answers as it
 * does on any log (rules 13, 15). */
static int write_inbox(struct sqlite_db *db, struct sqlite_op *op, int64_t ends[2])
{
    int64_t now = op->append_ms;
    int rc = insert_inbox(db, op, ends[LOG_INBOX]);
    if (rc == SQLITE_OK && op->repeated && op->offset < op->heard_below) {
        sqlite3_bind_int64(db->statements[SQLITE_STMT_ASKED_AGAIN], 1, op->offset);
        rc = statement_run(db->statements[SQLITE_STMT_ASKED_AGAIN]);
        op->append_ms = now;
        if (rc == SQLITE_OK)
            rc = insert_inbox(db, op, ends[LOG_INBOX]);
    }
    if (rc != SQLITE_OK || op->repeated)
        return rc;
    ends[LOG_INBOX]++;
    return SQLITE_OK;
}

static int write_status(struct sqlite_db *db, struct sqlite_op *op)
{
    sqlite3_stmt *statement = db->statements[op->drop ? SQLITE_STMT_STATUS_DROP : SQLITE_STMT_STATUS];
    bind_text(statement, 1, op->key);
    if (!op->drop)
        sqlite3_bind_blob64(statement, 2, op->data, op->size, SQLITE_STATIC);
    return statement_run(statement);
}

static int write_dead(struct sqlite_db *db, struct sqlite_op *op)
{
    sqlite3_stmt *statement = db->statements[SQLITE_STMT_DEAD];
    sqlite3_bind_int64(statement, 1, op->partition);
    sqlite3_bind_int64(statement, 2, op->offset);
    sqlite3_bind_int64(statement, 3, op->append_ms);
    bind_text(statement, 4, op->text);
    sqlite3_bind_blob64(statement, 5, op->data, op->size, SQLITE_STATIC);
    return statement_run(statement);
}

/* A trim moves the start at once; the rows below go little by little. */
static int write_trim(struct sqlite_db *db, struct sqlite_op *op, const int64_t ends[2])
{
    char name[48];
    snprintf(name, sizeof name, "end:%d", (int)op->stream);
    int rc = write_meta(db, name, ends[op->stream]); /* offsets are never reused, also when all rows go */
    if (rc != SQLITE_OK)
        return rc;
    snprintf(name, sizeof name, "start:%d:%u", (int)op->stream, op->partition);
    return write_meta(db, name, op->offset);
}

static int run_purge(struct sqlite_db *db, enum sqlite_statement which, uint32_t partition, int64_t below, int limit)
{
    sqlite3_stmt *statement = db->statements[which];
    sqlite3_bind_int64(statement, 1, partition);
    sqlite3_bind_int64(statement, 2, below);
    sqlite3_bind_int64(statement, 3, limit);
    return statement_run(statement);
}

static int write_purge(struct sqlite_db *db, enum log_stream stream, uint32_t partition, int limit, bool *done)
{
    int64_t start = db->starts[stream][partition], below = start;
    int rc = SQLITE_OK;
    if (stream == LOG_JOURNAL) {
        if (!db->entries_loaded && sqlite_load_entries(db) != LOG_OK)
            return SQLITE_CORRUPT;
        if (db->entry_count > 0 && db->entries[0].offset < below)
            below = db->entries[0].offset; /* what the index of runs does not have yet would come into it too late */
        rc = run_purge(db, SQLITE_STMT_TRIM_RUNS, partition, below, limit);
    }
    if (rc == SQLITE_OK)
        rc = run_purge(db, stream == LOG_JOURNAL ? SQLITE_STMT_TRIM_JOURNAL : SQLITE_STMT_TRIM_INBOX, partition, below,
                       limit);
    *done = rc == SQLITE_OK && below == start && sqlite3_changes(db->handle) < limit;
    return rc;
}

/* ---- the index of runs ---- */

static int entry_order(const void *a, const void *b)
{
    const struct sqlite_run_entry *left = a, *right = b;
    if (left->run != right->run)
        return left->run < right->run ? -1 : 1;
    return (left->offset > right->offset) - (left->offset < right->offset);
}

static int write_index(struct sqlite_db *db)
{
    struct sqlite_run_entry *sorted = malloc(db->entry_count * sizeof *sorted);
    if (sorted == NULL)
        return SQLITE_NOMEM;
    memcpy(sorted, db->entries, db->entry_count * sizeof *sorted);
    qsort(sorted, db->entry_count, sizeof *sorted, entry_order);
    sqlite3_stmt *statement = db->statements[SQLITE_STMT_INDEX];
    int rc = SQLITE_OK;
    for (size_t i = 0; i < db->entry_count && rc == SQLITE_OK; i++) {
        sqlite3_bind_int64(statement, 1, sorted[i].run);
        sqlite3_bind_int64(statement, 2, sorted[i].offset);
        rc = statement_run(statement);
    }
    free(sorted);
    return rc == SQLITE_OK ? write_meta(db, "indexed", db->ends[LOG_JOURNAL]) : rc;
}

/* ---- the transaction ---- */

static int write_op(struct sqlite_db *db, struct sqlite_op *op, int64_t ends[2], int64_t now)
{
    switch (op->kind) {
    case SQLITE_OP_JOURNAL:
        op->append_ms = now;
        return write_journal(db, op, ends);
    case SQLITE_OP_INBOX:
        op->append_ms = now;
        return write_inbox(db, op, ends);
    case SQLITE_OP_STATUS: return write_status(db, op);
    case SQLITE_OP_TRIM: return write_trim(db, op, ends);
    case SQLITE_OP_DEAD: return write_dead(db, op);
    }
    return SQLITE_MISUSE;
}

static int write_all(struct sqlite_db *db, struct sqlite_batch *batch, int64_t ends[2], int64_t now, bool *indexed)
{
    int rc = statement_run(db->statements[SQLITE_STMT_BEGIN]);
    if (rc == SQLITE_OK && db->entry_count >= (batch->index ? 1 : INDEX_AT)) {
        rc = write_index(db);
        *indexed = rc == SQLITE_OK;
    }
    for (struct sqlite_op *op = batch->first; op != NULL && rc == SQLITE_OK; op = op->next)
        rc = write_op(db, op, ends, now);
    for (struct store_op *op = batch->store.first; op != NULL && rc == SQLITE_OK; op = op->next)
        rc = store_rows_apply(&db->store, op);
    int limit = sqlite_batch_is_empty(batch) ? PURGE_ROWS : PURGE_ROWS_BESIDE + 2 * (int)batch->rows;
    for (uint32_t i = 0; db->purges > 0 && i < 2 * db->genesis->partitions && rc == SQLITE_OK; i++) {
        bool done = false;
        if (!db->purge[i])
            continue;
        rc = write_purge(db, i & 1 ? LOG_INBOX : LOG_JOURNAL, i / 2, limit, &done);
        if (done) {
            db->purge[i] = false;
            db->purges--;
        }
    }
    return rc == SQLITE_OK ? statement_run(db->statements[SQLITE_STMT_COMMIT]) : rc;
}

static void written(struct sqlite_db *db, struct sqlite_batch *batch, const int64_t ends[2], int64_t now, bool indexed)
{
    if (indexed)
        db->entry_count = 0;
    bool appended = ends[0] != db->ends[0] || ends[1] != db->ends[1];
    for (struct sqlite_op *op = batch->first; op != NULL; op = op->next) {
        if (op->kind == SQLITE_OP_JOURNAL && op->run != 0)
            sqlite_add_entry(db, (int64_t)op->run, op->offset);
        uint32_t slot = op->partition * 2 + (op->stream == LOG_INBOX);
        if (op->kind == SQLITE_OP_TRIM && op->offset > db->starts[op->stream][op->partition]) {
            db->starts[op->stream][op->partition] = op->offset;
            db->purges += !db->purge[slot];
            db->purge[slot] = true;
        }
    }
    db->ends[0] = ends[0];
    db->ends[1] = ends[1];
    if (appended) {
        db->last_ms = now;
        struct sqlite_note note = {db->genesis->log_id, ends[LOG_JOURNAL], ends[LOG_INBOX]};
        sqlite_lock_write_note(&db->lock, &note);
    }
}

enum sqlite_written sqlite_batch_write(struct sqlite_db *db, struct sqlite_batch *batch)
{
    if (!sqlite_db_in_place(db))
        return SQLITE_BROKEN;
    if (!db->entries_loaded && batch->journal && sqlite_load_entries(db) != LOG_OK)
        return SQLITE_BROKEN;
    int64_t ends[2] = {db->ends[0], db->ends[1]}, now = sqlite_wall_ms();
    if (now < db->last_ms)
        now = db->last_ms; /* LogAppendTime never goes back */
    bool indexed = false;
    int rc = write_all(db, batch, ends, now, &indexed);
    if (rc == SQLITE_OK) {
        written(db, batch, ends, now, indexed);
        return SQLITE_WRITTEN;
    }
    sqlite_db_fail(db, "commit");
    bool full = rc == SQLITE_NOMEM || sqlite_db_is_full(db, rc);
    if (!sqlite3_get_autocommit(db->handle))
        statement_run(db->statements[SQLITE_STMT_ROLLBACK]);
    return full ? SQLITE_NO_SPACE : SQLITE_BROKEN;
}
