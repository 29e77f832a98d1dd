/*
 * The store (rule 22). In a file of its own (Kafka): WAL, synchronous=NORMAL, one transaction a store_commit(). Inside
 * an embedded log's file: changes are handed to the log at store_commit() and become part of the transaction of its next
 * flush; should that fail for want of space, they are written with the next one, all of them and in order.
 *
 * Either way what store_commit() took is written whole or not at all, never twice, never out of order: a commit that
 * fails keeps its changes for the next one.
 */
#define _GNU_SOURCE
#include "store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "constants.h"
#include "log/sqlite.h"
#include "log/sqlite_lock.h"
#include "store/store_rows.h"
#include "wire/pack.h"

#define APPLICATION_ID 0x50445253 /* "PDRS" */

struct store {
    struct log *log;       /* embedded: whose file it is */
    sqlite3 *database;     /* own file */
    struct store_rows own;
    struct store_ops open; /* since store_begin() */
    struct store_ops kept; /* of commits that failed */
    char *path;
    dev_t device; /* of the file that is open */
    ino_t inode;
    bool stopped; /* a change was lost: nothing after it may be written, or the rows would not fit together */
    bool damaged; /* and cannot be repaired by dropping rows */
    char error[512]; /* of the last write that failed */
};

static struct store_rows *rows_of(struct store *store)
{
    return store->log != NULL ? sqlite_worker_store_rows(store->log) : &store->own;
}

/* ---- opening a file of its own ---- */

static int store_integer(sqlite3 *database, const char *sql, int64_t *out)
{
    sqlite3_stmt *statement = NULL;
    *out = 0;
    int rc = sqlite3_prepare_v2(database, sql, -1, &statement, NULL);
    if (rc == SQLITE_OK && (rc = sqlite3_step(statement)) == SQLITE_ROW)
        *out = sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
}

static int store_create(struct store *store, uint64_t log_id)
{
    char sql[256];
    snprintf(sql, sizeof sql, "PRAGMA application_id=%d;PRAGMA user_version=%d;CREATE TABLE anchor(log_id INTEGER);"
             "INSERT INTO anchor VALUES(%lld)", APPLICATION_ID, FORMAT_VERSION, (long long)log_id);
    if (sqlite3_exec(store->database, "BEGIN", NULL, NULL, NULL) != SQLITE_OK ||
        store_rows_create(store->database) != SQLITE_OK ||
        sqlite3_exec(store->database, sql, NULL, NULL, NULL) != SQLITE_OK)
        return LOG_FAILED;
    return sqlite3_exec(store->database, "COMMIT", NULL, NULL, NULL) == SQLITE_OK ? LOG_OK : LOG_FAILED;
}

/* Nothing is wrong with the file: another process reads it, its file system is full, or says an error. */
static bool store_error_passes(int rc)
{
    return (rc & 0xff) == SQLITE_BUSY || (rc & 0xff) == SQLITE_FULL || (rc & 0xff) == SQLITE_IOERR ||
           (rc & 0xff) == SQLITE_NOMEM;
}

static int store_note_place(struct store *store, const char *path)
{
    struct stat found = { 0 };
    (void)!stat(path, &found);
    store->device = found.st_dev;
    store->inode = found.st_ino;
    return LOG_OK;
}

/* LOG_OK; LOG_NOT_FOUND: a file that is damaged, or another's, or no file; LOG_FAILED: cannot be opened now. */
static int store_try(struct store *store, const char *path, uint64_t log_id)
{
    int rc = sqlite3_open_v2(path, &store->database,
                             SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
    if (rc != SQLITE_OK) /* a directory, for example */
        return access(path, F_OK) == 0 && !store_error_passes(rc) ? LOG_NOT_FOUND : LOG_FAILED;
    sqlite3_busy_timeout(store->database, 1000);
    int64_t tables, application, version, anchor;
    rc = sqlite3_exec(store->database,
                      "PRAGMA locking_mode=EXCLUSIVE;PRAGMA journal_mode=WAL;PRAGMA synchronous=NORMAL;"
                      "PRAGMA wal_autocheckpoint=4000;PRAGMA cache_size=-32768;PRAGMA secure_delete=OFF;"
                      "PRAGMA cell_size_check=ON", NULL, NULL, NULL);
    if (rc == SQLITE_OK)
        rc = store_integer(store->database, "SELECT count(*) FROM sqlite_master", &tables);
    if (rc == SQLITE_OK && tables == 0 && store_create(store, log_id) != LOG_OK)
        return LOG_FAILED;
    if (rc == SQLITE_OK)
        rc = store_integer(store->database, "PRAGMA application_id", &application);
    if (rc == SQLITE_OK)
        rc = store_integer(store->database, "PRAGMA user_version", &version);
    if (rc == SQLITE_OK)
        rc = store_integer(store->database, "SELECT log_id FROM anchor", &anchor);
    if (rc == SQLITE_OK && application == APPLICATION_ID && version == FORMAT_VERSION && (uint64_t)anchor == log_id)
        rc = store_rows_open(&store->own, store->database);
    else if (rc == SQLITE_OK)
        rc = SQLITE_NOTADB;
    if (rc == SQLITE_OK)
        return store_note_place(store, path);
    return store_error_passes(rc) ? LOG_FAILED : LOG_NOT_FOUND;
}

static void store_shut(struct store *store)
{
    store_rows_close(&store->own);
    sqlite3_close(store->database);
    store->database = NULL;
}

static void move_aside(const char *path, const char *suffix)
{
    char from[4200], to[4200];
    snprintf(from, sizeof from, "%s%s", path, suffix);
    snprintf(to, sizeof to, "%s.bad%s", path, suffix);
    if (rename(from, to) != 0 && errno != ENOENT)
        unlink(from);
}

/* SQLite's words, and the system's where it has any: "disk I/O error" alone says little. */
static void store_explain(struct store *store)
{
    int code = store->database != NULL ? sqlite3_system_errno(store->database) : 0;
    const char *words = store->database != NULL ? sqlite3_errmsg(store->database) : "out of memory";
    if (code != 0)
        snprintf(store->error, sizeof store->error, "%s (%s)", words, strerror(code));
    else
        snprintf(store->error, sizeof store->error, "%s", words);
}

int store_open(const char *path, uint64_t log_id, struct store **out, char *error, size_t error_size)
{
    *out = NULL;
    struct store *store = calloc(1, sizeof *store);
    char *name = strdup(path);
    if (store == NULL || name == NULL || strlen(path) > 4000) {
        snprintf(error, error_size, "%s: out of memory", path);
        free(store);
        free(name);
        return LOG_FAILED;
    }
    store->path = name;
    store_ops_init(&store->open);
    store_ops_init(&store->kept);
    int result = store_try(store, path, log_id);
    if (result == LOG_NOT_FOUND) { /* only a cache: begin anew, keep the old one for whoever wonders */
        sqlite3_db_config(store->database, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
        store_shut(store);
        move_aside(path, "");
        move_aside(path, "-wal");
        result = store_try(store, path, log_id);
    }
    if (result != LOG_OK) {
        store_explain(store);
        snprintf(error, error_size, "%s", store->error);
        store_close(store);
        return LOG_FAILED;
    }
    *out = store;
    return LOG_OK;
}

struct store *store_of_log(struct log *log)
{
    if (sqlite_worker_store_rows(log) == NULL)
        return NULL;
    struct store *store = calloc(1, sizeof *store);
    if (store == NULL)
        return NULL;
    store->log = log;
    store_ops_init(&store->open);
    store_ops_init(&store->kept);
    return store;
}

void store_close(struct store *store)
{
    if (store == NULL)
        return;
    if (store->database != NULL && store->kept.first != NULL && !store->stopped)
        store_commit(store);
    store_shut(store);
    if (store->damaged) {
        move_aside(store->path, "");
        move_aside(store->path, "-wal");
    }
    store_ops_clear(&store->open);
    store_ops_clear(&store->kept);
    free(store->path);
    free(store);
}

/* ---- reading ---- */

/* What a log still holds back for its next flush must be seen. */
static int store_settle(struct store *store)
{
    if (store->damaged)
        return LOG_FAILED;
    return store->log != NULL ? sqlite_worker_write_store(store->log) : LOG_OK;
}

static int step_result(int rc) { return rc == SQLITE_DONE ? LOG_OK : LOG_FAILED; }

typedef bool (*row_visit)(void *context, const void *message, size_t size);

/* All rows of one kind, checksums verified. LOG_NOT_FOUND: a damaged row, or a row that the visitor cannot read. */
static int each_row(struct store *store, enum store_statement which, uint32_t partition, row_visit visit,
                    void *context)
{
    sqlite3_stmt *statement = rows_of(store)->statements[which];
    sqlite3_bind_int64(statement, 1, partition);
    int rc, result = LOG_OK;
    while (result == LOG_OK && (rc = sqlite3_step(statement)) == SQLITE_ROW) {
        size_t size;
        const void *message = store_row_open(sqlite3_column_blob(statement, 0),
                                             (size_t)sqlite3_column_bytes(statement, 0), &size);
        if (message == NULL || !visit(context, message, size))
            result = LOG_NOT_FOUND;
    }
    if (result == LOG_OK)
        result = step_result(rc);
    sqlite3_reset(statement);
    return result;
}

static bool visit_nothing(void *context, const void *message, size_t size)
{
    (void)context;
    (void)message;
    (void)size;
    return true;
}

static bool visit_partition(void *context, const void *message, size_t size)
{
    StoredPartition **out = context;
    *out = perdure__v1__stored_partition__unpack(NULL, size, message);
    return *out != NULL;
}

/* The rows of a partition are read through once before any of them is believed: a damaged one drops them all, and the
 * engine rebuilds from the journal. */
int store_partition(struct store *store, uint32_t partition, StoredPartition **out)
{
    *out = NULL;
    if (store_settle(store) != LOG_OK)
        return LOG_FAILED;
    int result = each_row(store, STORE_GET_PARTITION, partition, visit_partition, out);
    if (result == LOG_OK)
        result = each_row(store, STORE_EACH_RUN, partition, visit_nothing, NULL);
    if (result == LOG_OK)
        result = each_row(store, STORE_EACH_OUTPUT, partition, visit_nothing, NULL);
    if (result == LOG_OK)
        return *out != NULL ? LOG_OK : LOG_NOT_FOUND;
    stored_partition_free(*out);
    *out = NULL;
    if (store_begin(store) == LOG_OK && store_drop_partition(store, partition) == LOG_OK &&
        store_commit(store) == LOG_OK && store_settle(store) == LOG_OK)
        return LOG_NOT_FOUND;
    store_give_up(store);
    return LOG_FAILED;
}

struct run_visit {
    void (*visit)(void *context, const StoredRun *run);
    void (*output)(void *context, const StoredOutput *output);
    void *context;
};

static bool visit_run(void *context, const void *message, size_t size)
{
    const struct run_visit *each = context;
    StoredRun *run = perdure__v1__stored_run__unpack(NULL, size, message);
    if (run == NULL)
        return false;
    each->visit(each->context, run);
    stored_run_free(run);
    return true;
}

static bool visit_output(void *context, const void *message, size_t size)
{
    const struct run_visit *each = context;
    StoredOutput *output = perdure__v1__stored_output__unpack(NULL, size, message);
    if (output == NULL)
        return false;
    each->output(each->context, output);
    stored_output_free(output);
    return true;
}

int store_each_run(struct store *store, uint32_t partition, void (*visit)(void *context, const StoredRun *run),
                   void *context)
{
    struct run_visit each = {.visit = visit, .context = context};
    if (store_settle(store) != LOG_OK)
        return LOG_FAILED;
    return each_row(store, STORE_EACH_RUN, partition, visit_run, &each) == LOG_OK ? LOG_OK : LOG_FAILED;
}

int store_each_output(struct store *store, uint32_t partition,
                      void (*visit)(void *context, const StoredOutput *output), void *context)
{
    struct run_visit each = {.output = visit, .context = context};
    if (store_settle(store) != LOG_OK)
        return LOG_FAILED;
    return each_row(store, STORE_EACH_OUTPUT, partition, visit_output, &each) == LOG_OK ? LOG_OK : LOG_FAILED;
}

int store_run(struct store *store, uint32_t partition, const char *job, StoredRun **out)
{
    *out = NULL;
    if (store_settle(store) != LOG_OK)
        return LOG_FAILED;
    sqlite3_stmt *statement = rows_of(store)->statements[STORE_GET_RUN];
    sqlite3_bind_int64(statement, 1, partition);
    sqlite3_bind_text(statement, 2, job, -1, SQLITE_STATIC);
    int rc = sqlite3_step(statement);
    if (rc == SQLITE_ROW) {
        size_t size;
        const void *message = store_row_open(sqlite3_column_blob(statement, 0),
                                             (size_t)sqlite3_column_bytes(statement, 0), &size);
        if (message != NULL)
            *out = perdure__v1__stored_run__unpack(NULL, size, message);
    }
    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
    if (rc == SQLITE_DONE)
        return LOG_NOT_FOUND;
    return *out != NULL ? LOG_OK : LOG_FAILED;
}

/* What cannot be read now will not be read later, but for want of memory or because another process reads it. */
static int store_read_failed(struct store *store, int rc)
{
    if (rc != SQLITE_NOMEM && (rc & 0xff) != SQLITE_BUSY)
        store_give_up(store);
    return LOG_FAILED;
}

int store_history(struct store *store, uint32_t partition, const char *job, uint64_t run,
                  bool (*visit)(void *context, int64_t offset, const void *record, size_t size), void *context)
{
    if (store->log != NULL)
        return store->log->operations->history(store->log, partition, job, run, visit, context);
    if (store_settle(store) != LOG_OK)
        return LOG_FAILED;
    /* A statement of its own: a visitor may ask for another history. */
    sqlite3_stmt *statement = NULL;
    int rc = sqlite3_prepare_v2(store->database, sqlite3_sql(store->own.statements[STORE_HISTORY]), -1, &statement,
                                NULL);
    if (rc != SQLITE_OK)
        return store_read_failed(store, rc);
    sqlite3_bind_int64(statement, 1, partition);
    sqlite3_bind_int64(statement, 2, (int64_t)run);
    sqlite3_bind_text(statement, 3, job, -1, SQLITE_STATIC);
    bool wanted = true;
    while (wanted && (rc = sqlite3_step(statement)) == SQLITE_ROW)
        wanted = visit(context, sqlite3_column_int64(statement, 0), sqlite3_column_blob(statement, 1),
                       (size_t)sqlite3_column_bytes(statement, 1));
    sqlite3_finalize(statement);
    for (const struct store_op *op = store->kept.first; op != NULL && wanted; op = op->next)
        if (op->kind == STORE_OP_RECORD && op->partition == partition && op->run == run && strcmp(op->job, job) == 0)
            wanted = visit(context, op->offset, op->data, op->size);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? LOG_OK : store_read_failed(store, rc);
}

/* ---- writing ---- */

int store_begin(struct store *store)
{
    store_ops_clear(&store->open);
    return store->stopped ? LOG_FAILED : LOG_OK;
}

static struct store_op *put(struct store *store, enum store_op_kind kind, uint32_t partition, const char *job,
                            size_t size)
{
    struct store_op *op = store->stopped ? NULL : store_ops_add(&store->open, kind, partition, job, size);
    store->stopped |= op == NULL;
    return op;
}

static int put_sealed(struct store *store, enum store_op_kind kind, uint32_t partition, const char *job,
                      const ProtobufCMessage *message, uint32_t index)
{
    size_t size;
    uint8_t *packed = wire_pack(message, STORE_CHECKSUM_BYTES, &size);
    struct store_op *op = packed != NULL ? put(store, kind, partition, job, size) : NULL;
    if (op == NULL) {
        store->stopped = true;
        free(packed);
        return LOG_FAILED;
    }
    op->index = index;
    memcpy((uint8_t *)op->bytes + STORE_CHECKSUM_BYTES, packed + STORE_CHECKSUM_BYTES, size - STORE_CHECKSUM_BYTES);
    free(packed);
    store_row_seal(op->bytes, op->size);
    return LOG_OK;
}

int store_put_partition(struct store *store, uint32_t partition, const StoredPartition *row)
{
    return put_sealed(store, STORE_OP_PARTITION, partition, NULL, &row->base, 0);
}

int store_put_run(struct store *store, uint32_t partition, const StoredRun *run)
{
    return put_sealed(store, STORE_OP_RUN, partition, run->job, &run->base, 0);
}

int store_put_record(struct store *store, uint32_t partition, const char *job, uint64_t run, uint64_t seq,
                     int64_t offset, const void *record, size_t size)
{
    if (store->log != NULL)
        return LOG_OK; /* the journal beside it has them */
    struct store_op *op = put(store, STORE_OP_RECORD, partition, job, size);
    if (op == NULL)
        return LOG_FAILED;
    op->run = run;
    op->seq = seq;
    op->offset = offset;
    memcpy(op->bytes, record, size);
    return LOG_OK;
}

int store_drop_run(struct store *store, uint32_t partition, const char *job)
{
    return put(store, STORE_OP_DROP_RUN, partition, job, 0) != NULL ? LOG_OK : LOG_FAILED;
}

int store_drop_records(struct store *store, uint32_t partition, const char *job, uint64_t run)
{
    if (store->log != NULL)
        return LOG_OK;
    struct store_op *op = put(store, STORE_OP_DROP_RECORDS, partition, job, 0);
    if (op != NULL)
        op->run = run;
    return op != NULL ? LOG_OK : LOG_FAILED;
}

int store_put_outputs(struct store *store, uint32_t partition, const StoredOutput *const *outputs, size_t count)
{
    if (put(store, STORE_OP_OUTPUTS, partition, NULL, 0) == NULL)
        return LOG_FAILED;
    for (size_t i = 0; i < count; i++)
        if (put_sealed(store, STORE_OP_OUTPUT, partition, NULL, &outputs[i]->base, (uint32_t)i) != LOG_OK)
            return LOG_FAILED;
    return LOG_OK;
}

int store_drop_partition(struct store *store, uint32_t partition)
{
    return put(store, STORE_OP_DROP_PARTITION, partition, NULL, 0) != NULL ? LOG_OK : LOG_FAILED;
}

static int store_write(struct store *store)
{
    int rc = sqlite3_exec(store->database, "BEGIN IMMEDIATE", NULL, NULL, NULL);
    for (const struct store_op *op = store->kept.first; op != NULL && rc == SQLITE_OK; op = op->next)
        rc = store_rows_apply(&store->own, op);
    if (rc == SQLITE_OK)
        rc = sqlite3_exec(store->database, "COMMIT", NULL, NULL, NULL);
    if (rc != SQLITE_OK)
        store_explain(store);
    if (rc != SQLITE_OK && !sqlite3_get_autocommit(store->database))
        sqlite3_exec(store->database, "ROLLBACK", NULL, NULL, NULL);
    return rc;
}

int store_commit(struct store *store)
{
    if (store->stopped) {
        store_ops_clear(&store->open);
        return LOG_FAILED;
    }
    if (store->log != NULL)
        return sqlite_worker_queue_store(store->log, &store->open);
    store_ops_move(&store->kept, &store->open);
    int rc = store_write(store);
    if (rc == SQLITE_OK) {
        store_ops_clear(&store->kept);
        return LOG_OK;
    }
    if (!store_error_passes(rc))
        store->damaged = store->stopped = true;
    return LOG_FAILED;
}

void store_give_up(struct store *store)
{
    if (store->log == NULL)
        store->damaged = store->stopped = true;
}

bool store_is_lost(const struct store *store) { return store->stopped; }

const char *store_error(const struct store *store) { return store->error; }

/* ---- a file that was taken away under us ---- */

bool store_is_in_place(const struct store *store)
{
    struct stat found;
    if (store->log != NULL)
        return true;
    return stat(store->path, &found) == 0 && found.st_ino == store->inode && found.st_dev == store->device;
}

/* The file that nobody finds any more is still ours to read. It is closed before the copy is opened: closing removes what
 * stands under the name of its -wal. */
int store_put_back(struct store *store, uint64_t log_id)
{
    sqlite3_stmt *statement = NULL;
    move_aside(store->path, "");
    move_aside(store->path, "-wal");
    int rc = sqlite3_prepare_v2(store->database, "VACUUM INTO ?1", -1, &statement, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_bind_text(statement, 1, store->path, -1, SQLITE_STATIC);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(statement);
    if (rc != SQLITE_DONE)
        store_explain(store);
    sqlite3_finalize(statement);
    if (rc != SQLITE_DONE)
        return LOG_FAILED;
    store_shut(store);
    if (store_try(store, store->path, log_id) == LOG_OK)
        return LOG_OK;
    store_explain(store);
    store->stopped = true;
    return LOG_FAILED;
}

void store_rollback(struct store *store) { store_ops_clear(&store->open); }
