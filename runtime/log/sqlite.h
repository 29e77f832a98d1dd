/*
 * The embedded log, sqlite:PATH: one file, one owner (rules 26 to 29). docs/sqlite.md is the text.
 */
#ifndef PERDURE_SQLITE_H
#define PERDURE_SQLITE_H

#include "log/log.h"
#include "store/store_rows.h"

/* `path` is what follows "sqlite:"; "?partitions=N" behind it counts when the file is created. With options->member a
 * worker that owns the file until close(), else a client. Results as log_open(), and LOG_BUSY. */
int sqlite_log_open(const char *path, const struct log_options *options, struct log **out, char *error,
                    size_t error_size);

struct sqlite_paths;
int sqlite_worker_open(const struct sqlite_paths *paths, const struct log_options *options, uint32_t partitions,
                       struct log **out, char *error, size_t error_size);
int sqlite_client_open(const struct sqlite_paths *paths, const struct log_options *options, uint32_t partitions,
                       struct log **out, char *error, size_t error_size);

/* For the store inside the log's file. NULL: `log` is not a worker's SQLite log. */
struct store_rows *sqlite_worker_store_rows(struct log *log);
/* Takes the changes over; they are committed by the next flush, together with everything else it writes. */
int sqlite_worker_queue_store(struct log *log, struct store_ops *ops);
/* Commits only the queued changes of the store, now: before it is read. */
int sqlite_worker_write_store(struct log *log);

#endif
