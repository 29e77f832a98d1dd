/*
 * Threads that run attempts of steps. The engine's thread hands attempts in and takes outcomes out; steps may block.
 */
#ifndef PERDURE_STEP_POOL_H
#define PERDURE_STEP_POOL_H

#include "job/job.h"

struct step_pool;

/* One attempt that ended. The taker frees it with attempt_done_free(). */
struct attempt_done {
    struct attempt_done *next;
    uint32_t partition;
    char *job;
    uint64_t run;
    uint64_t op;
    uint32_t attempt;
    int64_t started_ms;
    bool was_stuck; /* it had been given up */
    bool not_begun; /* its time to begin was over: it has no outcome */
    char *detail;   /* what it said last and nobody has taken; NULL: nothing */
    struct attempt_outcome outcome;
};

/* `wake` is called on a pool thread when an outcome is ready. NULL: no memory or no threads. */
struct step_pool *step_pool_new(int threads, void (*wake)(void *context), void *context);
/* Copies all it needs. It is not begun at `begin_until_ms` (worker_monotonic_ms()) or later. PDR_OK or PDR_NO_MEMORY. */
int step_pool_submit(struct step_pool *pool, uint32_t partition, const struct attempt_request *request,
                     int64_t started_ms, int64_t begin_until_ms);
/* How many threads are lost to attempts that have outlived their time, and how many may be. */
struct step_pool_load {
    size_t stuck, limit;
};
/* The attempt has outlived its time: dropped if it has not begun; else its thread is stuck until it returns, and another
 * takes its place, up to the limit (as many as there are threads, 8 at least): from then on no attempt begins until one returns.
 * True: a thread is stuck in it. */
bool step_pool_give_up(struct step_pool *pool, const char *job, uint64_t run, uint64_t op, uint32_t attempt,
                       struct step_pool_load *load);
struct step_pool_load step_pool_load_of(struct step_pool *pool);
/* An attempt that has not begun is dropped; one that runs is told so, its outcome will be ignored. */
void step_pool_abandon(struct step_pool *pool, const char *job, uint64_t run, uint64_t op, uint32_t attempt);
/* Whoever runs it, or will, may know that nobody waits; its outcome comes as any other. */
void step_pool_tell_cancelled(struct step_pool *pool, const char *job, uint64_t run, uint64_t op, uint32_t attempt);
/* An attempt of the partition that has not begun, and now will not: names it, has no outcome. NULL: there is none. */
struct attempt_done *step_pool_take_back(struct step_pool *pool, uint32_t partition);
struct attempt_done *step_pool_take(struct step_pool *pool); /* NULL: nothing ended */
/* What an attempt that runs has said of itself since the last time; the caller frees it. NULL: nothing. */
char *step_pool_take_detail(struct step_pool *pool, const char *job, uint64_t run, uint64_t op, uint32_t attempt);
void attempt_done_free(struct attempt_done *done);
/* Drops what has not begun and waits for what runs, `patience_ms` at most. Threads that are still busy then are left
 * alone, with the memory they use; returns how many. */
size_t step_pool_free(struct step_pool *pool, int patience_ms);

#endif
