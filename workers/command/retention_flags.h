/*
 * The flags of a worker that say how long what is remembered, how large the journal grows, what jobs take in memory.
 */
#ifndef PERDURE_RETENTION_FLAGS_H
#define PERDURE_RETENTION_FLAGS_H

#include <perdure/perdure.h>

#include "command/arguments.h"

#define RETENTION_FLAGS \
    {"keep", "DURATION", "a job that has ended is remembered so long at least (default: 25h)", false}, \
    {"life", "DURATION", "a command older than this is refused; the same for all workers (default: 24h)", false}, \
    {"retention", "SIZE", "the journal of a partition is cut when it has grown to about this, 64M, 2G, off (default: 64M)", \
     false}, \
    {"retention-age", "DURATION", "and is cut after this, however little was written (default: as --keep)", false}

#define KEEP_MOST "36500d" /* a hundred years; a time beyond is a mistake, and further still none that a clock can show */

/* False: said what is wrong. */
bool retention_flags(const struct arguments *arguments, pdr_worker_options *options);
bool memory_flag(const struct arguments *arguments, pdr_worker_options *options);

#endif
