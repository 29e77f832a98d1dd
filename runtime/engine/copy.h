/*
 * Copies (rule 18): all records of one run, appended again under the owner's epoch. Retention copies what lies before a
 * cut, the move of a slot what comes from another partition. How they are judged: judge_copy.c; JUDGE_COPY with
 * judged.new_run says that the last part brought a run that was not known.
 *
 * Whoever copies keeps to this:
 *  - parts 1 to n of one run are appended in order, with no part of another run and no append of the same job in between
 *    (other jobs' appends may lie between);
 *  - it has been copied when all n are confirmed, in the epoch in which they were appended; after a doubt: all again;
 *  - a taker sends none of its outputs: the copier waits until they are sent.
 */
#ifndef PERDURE_ENGINE_COPY_H
#define PERDURE_ENGINE_COPY_H

#include "engine/engine.h"
#include "engine/judge.h"

struct append;

struct copy_part {
    const void *data; /* an Event record that counted, or a Copy of one */
    size_t size;
    int64_t offset;   /* where it stands */
    uint32_t partition;
};

/* Records of one run, in seq order. */
struct copy_run {
    struct copy_part *parts;
    size_t count, capacity, bytes;
    uint64_t seq;     /* of the last event in them */
    digest digest;
};

/* Takes the record if it continues what is there; passes others over: what did not count, copies of what is there. */
int copy_run_add(struct copy_run *copy, uint64_t run, const struct copy_part *record);
void copy_run_clear(struct copy_run *copy);

/* Appends part `number` (from 1) of `copy`. `requests`: ids that the run knows, with part 1. NULL: failed, engine stopped. */
struct append *copy_append(struct engine *engine, const struct copy_run *copy, size_t number,
                           const struct request_set *requests);
/* What is left of a closed run (rule 20). */
struct append *stub_append(struct engine *engine, const struct run *run);

#endif
