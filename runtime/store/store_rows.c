/*
 * Tables and statements of the store.
 */
#include "store/store_rows.h"

#include <stdlib.h>
#include <string.h>

#include "wire/wire.h"

int store_rows_create(sqlite3 *database)
{
    return sqlite3_exec(database,
        "CREATE TABLE IF NOT EXISTS store_partition(partition INTEGER PRIMARY KEY, row BLOB NOT NULL);"
        "CREATE TABLE IF NOT EXISTS store_run(partition INTEGER NOT NULL, job TEXT NOT NULL, row BLOB NOT NULL,"
        " PRIMARY KEY(partition, job)) WITHOUT ROWID;"
        "CREATE TABLE IF NOT EXISTS store_output(partition INTEGER NOT NULL, number INTEGER NOT NULL,"
        " row BLOB NOT NULL, PRIMARY KEY(partition, number)) WITHOUT ROWID;"
        "CREATE TABLE IF NOT EXISTS store_record(partition INTEGER NOT NULL, run INTEGER NOT NULL,"
        " seq INTEGER NOT NULL, job TEXT NOT NULL, offset INTEGER NOT NULL, record BLOB NOT NULL,"
        " PRIMARY KEY(partition, run, seq)) WITHOUT ROWID;", NULL, NULL, NULL);
}

static const char *const statement_text[STORE_STATEMENTS] = {
    [STORE_PUT_PARTITION] = "INSERT OR REPLACE INTO store_partition VALUES(?1, ?2)",
    [STORE_PUT_RUN] = "INSERT OR REPLACE INTO store_run VALUES(?1, ?2, ?3)",
    [STORE_PUT_RECORD] = "INSERT OR REPLACE INTO store_record VALUES(?1, ?2, ?3, ?4, ?5, ?6)",
    [STORE_PUT_OUTPUT] = "INSERT OR REPLACE INTO store_output VALUES(?1, ?2, ?3)",
    [STORE_DROP_RECORDS] = "DELETE FROM store_record WHERE partition = ?1 AND run = ?2 AND job = ?3",
    [STORE_DROP_OUTPUTS] = "DELETE FROM store_output WHERE partition = ?1",
    [STORE_DROP_PARTITION] = "DELETE FROM store_partition WHERE partition = ?1",
    [STORE_DROP_RUNS] = "DELETE FROM store_run WHERE partition = ?1",
    [STORE_DROP_RUN] = "DELETE FROM store_run WHERE partition = ?1 AND job = ?2",
    [STORE_DROP_ALL_RECORDS] = "DELETE FROM store_record WHERE partition = ?1",
    [STORE_GET_PARTITION] = "SELECT row FROM store_partition WHERE partition = ?1",
    [STORE_GET_RUN] = "SELECT row FROM store_run WHERE partition = ?1 AND job = ?2",
    [STORE_EACH_RUN] = "SELECT row FROM store_run WHERE partition = ?1",
    [STORE_EACH_OUTPUT] = "SELECT row FROM store_output WHERE partition = ?1 ORDER BY number",
    [STORE_HISTORY] = ("SELECT offset, record FROM store_record WHERE partition = ?1 AND run = ?2 AND job = ?3"
                       " ORDER BY seq"),
};

int store_rows_open(struct store_rows *rows, sqlite3 *database)
{
    memset(rows, 0, sizeof *rows);
    rows->database = database;
    for (int i = 0; i < STORE_STATEMENTS; i++) {
        int rc = sqlite3_prepare_v3(database, statement_text[i], -1, SQLITE_PREPARE_PERSISTENT, &rows->statements[i],
                                    NULL);
        if (rc != SQLITE_OK)
            return rc;
    }
    return SQLITE_OK;
}

void store_rows_close(struct store_rows *rows)
{
    for (int i = 0; i < STORE_STATEMENTS; i++)
        sqlite3_finalize(rows->statements[i]);
    memset(rows, 0, sizeof *rows);
}

static int rows_run(struct store_rows *rows, enum store_statement which, const struct store_op *op)
{
    sqlite3_stmt *statement = rows->statements[which];
    sqlite3_bind_int64(statement, 1, op->partition);
    switch (which) {
    case STORE_PUT_PARTITION:
        sqlite3_bind_blob64(statement, 2, op->data, op->size, SQLITE_STATIC);
        break;
    case STORE_PUT_RUN:
        sqlite3_bind_text(statement, 2, op->job, -1, SQLITE_STATIC);
        sqlite3_bind_blob64(statement, 3, op->data, op->size, SQLITE_STATIC);
        break;
    case STORE_PUT_OUTPUT:
        sqlite3_bind_int64(statement, 2, op->index);
        sqlite3_bind_blob64(statement, 3, op->data, op->size, SQLITE_STATIC);
        break;
    case STORE_PUT_RECORD:
        sqlite3_bind_int64(statement, 2, (int64_t)op->run);
        sqlite3_bind_int64(statement, 3, (int64_t)op->seq);
        sqlite3_bind_text(statement, 4, op->job, -1, SQLITE_STATIC);
        sqlite3_bind_int64(statement, 5, op->offset);
        sqlite3_bind_blob64(statement, 6, op->data, op->size, SQLITE_STATIC);
        break;
    case STORE_DROP_RUN:
        sqlite3_bind_text(statement, 2, op->job, -1, SQLITE_STATIC);
        break;
    case STORE_DROP_RECORDS:
        sqlite3_bind_int64(statement, 2, (int64_t)op->run);
        sqlite3_bind_text(statement, 3, op->job, -1, SQLITE_STATIC);
        break;
    default:
        break;
    }
    int rc = sqlite3_step(statement);
    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
    return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

int store_rows_apply(struct store_rows *rows, const struct store_op *op)
{
    int rc;
    switch (op->kind) {
    case STORE_OP_PARTITION: return rows_run(rows, STORE_PUT_PARTITION, op);
    case STORE_OP_RUN: return rows_run(rows, STORE_PUT_RUN, op);
    case STORE_OP_DROP_RUN: return rows_run(rows, STORE_DROP_RUN, op);
    case STORE_OP_RECORD: return rows_run(rows, STORE_PUT_RECORD, op);
    case STORE_OP_DROP_RECORDS: return rows_run(rows, STORE_DROP_RECORDS, op);
    case STORE_OP_OUTPUTS: return rows_run(rows, STORE_DROP_OUTPUTS, op);
    case STORE_OP_OUTPUT: return rows_run(rows, STORE_PUT_OUTPUT, op);
    case STORE_OP_DROP_PARTITION:
        if ((rc = rows_run(rows, STORE_DROP_PARTITION, op)) != SQLITE_OK ||
            (rc = rows_run(rows, STORE_DROP_RUNS, op)) != SQLITE_OK ||
            (rc = rows_run(rows, STORE_DROP_OUTPUTS, op)) != SQLITE_OK)
            return rc;
        return rows_run(rows, STORE_DROP_ALL_RECORDS, op);
    }
    return SQLITE_MISUSE;
}

void store_ops_init(struct store_ops *ops)
{
    ops->first = NULL;
    ops->last = &ops->first;
    ops->bytes = 0;
}

struct store_op *store_ops_add(struct store_ops *ops, enum store_op_kind kind, uint32_t partition, const char *job,
                               size_t size)
{
    size_t job_size = job == NULL ? 0 : strlen(job) + 1;
    struct store_op *op = malloc(sizeof *op + size + job_size);
    if (op == NULL)
        return NULL;
    memset(op, 0, sizeof *op);
    op->kind = kind;
    op->partition = partition;
    op->data = op->bytes;
    op->size = size;
    if (job != NULL)
        op->job = memcpy(op->bytes + size, job, job_size);
    *ops->last = op;
    ops->last = &op->next;
    ops->bytes += sizeof *op + size + job_size;
    return op;
}

void store_ops_move(struct store_ops *to, struct store_ops *from)
{
    if (from->first == NULL)
        return;
    *to->last = from->first;
    to->last = from->last;
    to->bytes += from->bytes;
    store_ops_init(from);
}

void store_ops_clear(struct store_ops *ops)
{
    for (struct store_op *op = ops->first, *next; op != NULL; op = next) {
        next = op->next;
        free(op);
    }
    store_ops_init(ops);
}

void store_row_seal(void *row, size_t size)
{
    uint64_t sum = hash64((const uint8_t *)row + STORE_CHECKSUM_BYTES, size - STORE_CHECKSUM_BYTES);
    memcpy(row, &sum, sizeof sum);
}

const void *store_row_open(const void *row, size_t size, size_t *message_size)
{
    if (row == NULL || size < STORE_CHECKSUM_BYTES)
        return NULL;
    const uint8_t *message = (const uint8_t *)row + STORE_CHECKSUM_BYTES;
    uint64_t sum;
    memcpy(&sum, row, sizeof sum);
    *message_size = size - STORE_CHECKSUM_BYTES;
    return hash64(message, *message_size) == sum ? message : NULL;
}
