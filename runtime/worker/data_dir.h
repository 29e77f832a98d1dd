/*
 * A worker's own directory (--data DIR): its id, its store, under a lock. Two workers never share one.
 */
#ifndef PERDURE_DATA_DIR_H
#define PERDURE_DATA_DIR_H

#include <stdbool.h>
#include <stddef.h>

#include "constants.h"

struct data_dir {
    char path[3072];
    char worker[WORKER_NAME_LIMIT_BYTES + 1]; /* the worker's id: kept, so that a restart is the same member */
    bool id_is_kept;  /* in a file there */
    int lock;         /* descriptor; -1: none */
};

/* Makes the directory when it is missing, locks it, reads or makes the id (`name` NULL: made of host name and a random
 * part). 0 or -1 with `error`. */
int data_dir_open(struct data_dir *dir, const char *path, const char *name, char *error, size_t error_size);
/* Should the directory, or what stands at its path, not be ours any more: makes and locks it again, under the same id. */
int data_dir_renew(struct data_dir *dir, char *error, size_t error_size);
void data_dir_close(struct data_dir *dir);

#endif
