/*
 * The database of an embedded log, as its one owner sees it: tables, statements, offsets.
 *
 * One connection, WAL, locking_mode=EXCLUSIVE (so the wal-index is in memory), synchronous=FULL. All of it is used
 * under the lock of sqlite_lock.h and on one thread. docs/sqlite.md describes the tables.
 */
#ifndef PERDURE_SQLITE_DB_H
#define PERDURE_SQLITE_DB_H

#include <sqlite3.h>

#include "log/log.h"
#include "log/sqlite_lock.h"
#include "store/store_rows.h"

enum sqlite_statement {
    SQLITE_STMT_BEGIN, SQLITE_STMT_COMMIT, SQLITE_STMT_ROLLBACK,
    SQLITE_STMT_JOURNAL, SQLITE_STMT_INBOX, SQLITE_STMT_REQUEST, SQLITE_STMT_ASKED_AGAIN,
    SQLITE_STMT_STATUS, SQLITE_STMT_STATUS_DROP,
    SQLITE_STMT_DEAD, SQLITE_STMT_TRIM_JOURNAL, SQLITE_STMT_TRIM_RUNS, SQLITE_STMT_TRIM_INBOX, SQLITE_STMT_META, SQLITE_STMT_INDEX,
    SQLITE_STMT_READ_JOURNAL, SQLITE_STMT_READ_INBOX, SQLITE_STMT_HISTORY, SQLITE_STMT_GET_STATUS,
    SQLITE_STMT_EACH_STATUS, SQLITE_STMT_ONE_JOURNAL,
    SQLITE_STATEMENTS,
};

/* The index of runs lags behind the journal: entries wait here and are written many at once, so that a commit of one
 * row does not pay for a random page of the index. */
struct sqlite_run_entry {
    int64_t run;
    int64_t offset;
};

struct sqlite_db {
    struct sqlite_paths paths;
    struct sqlite_lock lock;
    sqlite3 *handle;
    sqlite3_stmt *statements[SQLITE_STATEMENTS];
    struct store_rows store;
    Record *genesis_record;
    const Genesis *genesis;
    int64_t ends[2];         /* by stream: the next offset; offsets are shared by all partitions and never reused */
    int64_t *starts[2];      /* by partition: what log_trim() left */
    bool *purge;             /* by partition and stream: rows below the start are still there */
    size_t purges;
    int64_t last_ms;         /* LogAppendTime never goes back */
    struct sqlite_run_entry *entries;
    size_t entry_count, entry_room;
    bool entries_loaded;
    int wal_frames;          /* in the WAL since its last checkpoint */
    ino_t wal_inode;
    bool dead;               /* an error after which nothing may be believed: see `error` */
    char loss[400];          /* acknowledged records that are missing; "": none */
    char error[512];
};

enum sqlite_open_result { SQLITE_OPENED, SQLITE_OPEN_BUSY, SQLITE_OPEN_MISSING, SQLITE_OPEN_REFUSED };

struct sqlite_open {
    const char *role; /* "worker", "client": for messages */
    const char *name;
    bool create;
    uint32_t partitions;
};

/* Takes the lock and opens the file. `error` is filled unless SQLITE_OPENED. */
enum sqlite_open_result sqlite_db_open(const struct sqlite_paths *paths, const struct sqlite_open *how,
                                       struct sqlite_db **out, char *error, size_t error_size);
void sqlite_db_close(struct sqlite_db *db);

/* The files are still those we opened (H30). False: db->dead. */
bool sqlite_db_in_place(struct sqlite_db *db);
/* Puts "PATH: what: SQLite's message" into db->error. */
void sqlite_db_fail(struct sqlite_db *db, const char *what);
/* After an error of SQLite's: true if the disk is full, and so trying again is right; else the file is db->dead. */
bool sqlite_db_is_full(struct sqlite_db *db, int rc);
void sqlite_db_set_error(struct sqlite_db *db, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Makes room for so many pages in the WAL at once: to write into a file costs half of what it costs to let it grow. */
void sqlite_db_prepare_wal(struct sqlite_db *db, int frames);
/* Copies the WAL into the file, when there are so many pages in it. */
void sqlite_db_checkpoint(struct sqlite_db *db, int frames);

/* ---- reading (sqlite_read.c) ---- */

struct sqlite_row {
    int64_t offset;
    int64_t append_ms;
    const char *key; /* statuses */
    bool keyed;
    const void *data;
    size_t size;
};

struct sqlite_rows {
    struct sqlite_row *rows;
    size_t count, room;
    size_t bytes;
    char *memory;
    size_t memory_room;
    int64_t next;    /* where to go on */
    bool more;
};

#define SQLITE_CHUNK_ROWS 2000
#define SQLITE_CHUNK_BYTES (1024 * 1024)

void sqlite_rows_free(struct sqlite_rows *rows);
void sqlite_rows_clear(struct sqlite_rows *rows);
/* Each reads one chunk; LOG_OK, or LOG_FAILED with db->error. */
int sqlite_read(struct sqlite_db *db, enum log_stream stream, uint32_t partition, int64_t from, size_t max_rows,
                struct sqlite_rows *out);
int sqlite_read_history(struct sqlite_db *db, uint32_t partition, const char *job, uint64_t run, int64_t from,
                        struct sqlite_rows *out);
int sqlite_read_statuses(struct sqlite_db *db, const char *prefix, const char *after, struct sqlite_rows *out);
int sqlite_read_status(struct sqlite_db *db, const char *key, struct sqlite_rows *out);
/* Entries of the journal behind the index of runs. */
int sqlite_load_entries(struct sqlite_db *db);
bool sqlite_add_entry(struct sqlite_db *db, int64_t run, int64_t offset);

/* ---- writing (sqlite_batch.c) ---- */

enum sqlite_op_kind { SQLITE_OP_JOURNAL, SQLITE_OP_INBOX, SQLITE_OP_STATUS, SQLITE_OP_TRIM, SQLITE_OP_DEAD };

struct sqlite_op {
    struct sqlite_op *next;
    enum sqlite_op_kind kind;
    enum log_stream stream;  /* TRIM */
    uint32_t partition;
    int64_t offset;          /* result of JOURNAL and INBOX; TRIM: below; DEAD: of the inbox record */
    int64_t append_ms;
    uint64_t run, seq;
    const char *key;         /* job, or key of a status */
    const char *text;        /* INBOX: request id and job; DEAD: reason */
    const void *data;
    size_t size;
    bool repeated;           /* INBOX: the request id was there already, at `offset` */
    int64_t heard_below;     /* INBOX: where it was there already below this, its owner has read it, and is asked again */
    bool drop;               /* STATUS: delete it */
    uint64_t cookie;         /* who waits: of append() ... */
    uint64_t connection;     /* ... or a client's connection and frame; 0: none */
    uint64_t client;         /* ReplyTo.client of the command */
    char bytes[];
};

struct sqlite_batch {
    struct sqlite_op *first, **last;
    struct store_ops store;
    size_t rows, bytes;
    bool journal; /* has rows of the journal */
    bool waited_for; /* has more than statuses: somebody goes on when it is written */
    bool index;   /* write the index of runs too, however few entries wait */
};

void sqlite_batch_init(struct sqlite_batch *batch);
/* Copies key, text and data. NULL: no memory. */
struct sqlite_op *sqlite_batch_add(struct sqlite_batch *batch, enum sqlite_op_kind kind, uint32_t partition,
                                   const char *key, const char *text, const void *data, size_t size);
/* JOURNAL and INBOX, with what the tables' columns need taken from the record itself. */
struct sqlite_op *sqlite_batch_append(struct sqlite_batch *batch, enum log_stream stream, uint32_t partition,
                                      const char *key, const void *data, size_t size, const Header *header);
bool sqlite_batch_is_empty(const struct sqlite_batch *batch);
void sqlite_batch_move(struct sqlite_batch *to, struct sqlite_batch *from);
void sqlite_batch_clear(struct sqlite_batch *batch);

enum sqlite_written { SQLITE_WRITTEN, SQLITE_NO_SPACE /* nothing happened: again later */, SQLITE_BROKEN };
/* One transaction, FULL: what it returns SQLITE_WRITTEN for is confirmed (rule 26). */
enum sqlite_written sqlite_batch_write(struct sqlite_db *db, struct sqlite_batch *batch);

int64_t sqlite_wall_ms(void);
int64_t sqlite_monotonic_ms(void);

#endif
