/*
 * Rates and limits as options write them: "gpu=5/s,mail=0.2/s" and "gpu=100,mail=3".
 */
#ifndef PERDURE_LIMIT_LIST_H
#define PERDURE_LIMIT_LIST_H

#include <stdbool.h>
#include <stddef.h>

#define LIMIT_NAME_BYTES 200

struct limit_list {
    const char *what;    /* for errors: "queue rate" */
    const char *subject; /* "QUEUE" */
    const char *example; /* "gpu" */
    size_t name_bytes;   /* a name may have, at most LIMIT_NAME_BYTES */
    bool rate;           /* N/s, from 0.001 to a million; else a whole N from 1 on */
};

/* NULL and empty texts are fine. `take` gets each; false: no memory. False: `error` says what is wrong. */
bool limit_list_read(const char *text, const struct limit_list *list,
                     bool (*take)(void *context, const char *name, double number), void *context, char *error,
                     size_t error_size);

#endif
