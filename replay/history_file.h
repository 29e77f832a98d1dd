/*
 * A history in a file of its own (proto/perdure/v1/export.proto): written from a log, read without one.
 */
#ifndef PERDURE_HISTORY_FILE_H
#define PERDURE_HISTORY_FILE_H

#include "client/client.h"

struct history_file {
    struct history *history;
    struct registrations registrations;
};

/* The bytes of the file, malloc'ed; NULL: out of memory, or above 1 GiB. Only registrations of the job's module are kept. */
void *history_file_write(const struct history *history, const struct registrations *registrations, const char *source,
                         size_t *size);
/* EXIT_OK, or EXIT_USAGE with `error`: no such file, damaged, of a later version, not a whole run. */
int history_file_read(const void *data, size_t size, struct history_file *out, char *error, size_t error_size);
void history_file_free(struct history_file *file);

/* One run, seq 1, 2 ..., each digest that of its events (rules 2, 33). False: `error` says where it breaks. */
bool history_is_whole(const struct history *history, char *error, size_t error_size);

#endif
