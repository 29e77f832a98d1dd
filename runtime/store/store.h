/*
 * The store (rule 22): histories of open runs, a stub of every closed run, unsent outputs and the position all this
 * stands at, changed in one transaction. A cache of the journal: it may be deleted at any time, only time is lost.
 * One that cannot be written keeps what it was given, and writes it with the next commit that can.
 *
 * In Kafka mode it is a file of the worker's own (--data). In embedded mode it lives in the log's file and on the log's
 * connection; there the journal itself holds the records, and store_put_record() does nothing.
 * One thread: the engine's.
 */
#ifndef PERDURE_STORE_H
#define PERDURE_STORE_H

#include "log/log.h"
#include "wire/wire.h"

struct store;

/* Opens or creates a file of its own. What is there and is damaged, of another format or log, not to be written, or no file
 * at all, is moved aside as PATH.bad and a new one begun. LOG_FAILED with `error`: neither can be done now (a full disk). */
int store_open(const char *path, uint64_t log_id, struct store **out, char *error, size_t error_size);
/* The store inside an embedded log. NULL when `log` is not SQLite. */
struct store *store_of_log(struct log *log);
void store_close(struct store *store);

/* Reading, before the partition's engine starts. LOG_NOT_FOUND: nothing stored. */
int store_partition(struct store *store, uint32_t partition, StoredPartition **out); /* free: stored_partition_free */
int store_each_run(struct store *store, uint32_t partition, void (*visit)(void *context, const StoredRun *run),
                   void *context);
int store_each_output(struct store *store, uint32_t partition,
                      void (*visit)(void *context, const StoredOutput *output), void *context);
/* One run by job id: the newest. LOG_NOT_FOUND. Free with stored_run_free(). */
int store_run(struct store *store, uint32_t partition, const char *job, StoredRun **out);
/* Records of one run in seq order. */
int store_history(struct store *store, uint32_t partition, const char *job, uint64_t run,
                  bool (*visit)(void *context, int64_t offset, const void *record, size_t size), void *context);

/* Writing: begin, any number of puts, commit (or rollback). */
int store_begin(struct store *store);
int store_put_partition(struct store *store, uint32_t partition, const StoredPartition *row);
int store_put_run(struct store *store, uint32_t partition, const StoredRun *run); /* replaces the row of that job */
int store_put_record(struct store *store, uint32_t partition, const char *job, uint64_t run, uint64_t seq,
                     int64_t offset, const void *record, size_t size);
int store_drop_records(struct store *store, uint32_t partition, const char *job, uint64_t run);
int store_drop_run(struct store *store, uint32_t partition, const char *job); /* forgotten (rule 20) */
int store_put_outputs(struct store *store, uint32_t partition, const StoredOutput *const *outputs, size_t count); /* all: replaces what stood */
int store_drop_partition(struct store *store, uint32_t partition); /* distrusted (rule 3) */
int store_commit(struct store *store);
/* After a commit that failed: why; and whether writing again is of no use: close it, open anew, give it everything. */
const char *store_error(const struct store *store);
bool store_is_lost(const struct store *store);
/* What it gave was wrong again: nothing more is read or written, store_close() puts the file aside. Not in a log's file. */
void store_give_up(struct store *store);
/* False: the file that is open is not the one that stands at its path (any more). store_put_back() writes a copy there
 * and goes on with it; LOG_FAILED: it goes on as it was, unless store_is_lost(). */
bool store_is_in_place(const struct store *store);
int store_put_back(struct store *store, uint64_t log_id);
void store_rollback(struct store *store);

#endif
