/*
 * Tables and statements of the store, the same in a file of its own and inside an embedded log's file.
 */
#ifndef PERDURE_STORE_ROWS_H
#define PERDURE_STORE_ROWS_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum store_statement {
    STORE_PUT_PARTITION, STORE_PUT_RUN, STORE_PUT_RECORD, STORE_PUT_OUTPUT,
    STORE_DROP_RECORDS, STORE_DROP_OUTPUTS, STORE_DROP_PARTITION, STORE_DROP_RUNS, STORE_DROP_ALL_RECORDS, STORE_DROP_RUN,
    STORE_GET_PARTITION, STORE_GET_RUN, STORE_EACH_RUN, STORE_EACH_OUTPUT, STORE_HISTORY,
    STORE_STATEMENTS,
};

struct store_rows {
    sqlite3 *database;
    sqlite3_stmt *statements[STORE_STATEMENTS];
};

/* One change, kept until it is committed: a failed commit is done again with the next one. */
enum store_op_kind { STORE_OP_PARTITION, STORE_OP_RUN, STORE_OP_RECORD, STORE_OP_DROP_RECORDS, STORE_OP_OUTPUTS,
                     STORE_OP_OUTPUT, STORE_OP_DROP_PARTITION, STORE_OP_DROP_RUN };

struct store_op {
    struct store_op *next;
    enum store_op_kind kind;
    uint32_t partition;
    uint32_t index;
    uint64_t run;
    uint64_t seq;
    int64_t offset;
    const char *job;
    const void *data;
    size_t size;
    char bytes[]; /* job and data */
};

struct store_ops {
    struct store_op *first, **last;
    size_t bytes;
};

void store_ops_init(struct store_ops *ops);
/* Room for the job and `size` bytes of data, to be filled by the caller. NULL: no memory. */
struct store_op *store_ops_add(struct store_ops *ops, enum store_op_kind kind, uint32_t partition, const char *job,
                               size_t size);
void store_ops_move(struct store_ops *to, struct store_ops *from);
void store_ops_clear(struct store_ops *ops);

int store_rows_create(sqlite3 *database); /* SQLite's codes, here and below */
int store_rows_open(struct store_rows *rows, sqlite3 *database);
void store_rows_close(struct store_rows *rows);
int store_rows_apply(struct store_rows *rows, const struct store_op *op);

/* Each row carries a checksum before its message: SQLite's pages have none. NULL: damaged. */
#define STORE_CHECKSUM_BYTES 8
void store_row_seal(void *row, size_t size);
const void *store_row_open(const void *row, size_t size, size_t *message_size);

#endif
