#include "worker/step_pool.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "crash/slot.h"
#include "worker/worker.h"

#define STUCK_LEAST 8 /* threads that may be stuck, however few there are */

struct queued_attempt {
    struct queued_attempt *next;
    struct attempt_done *done; /* filled by the thread */
    const struct callable *callable;
    Payload *input, *progress;
    struct attempt_contact contact;
    uint64_t log_id;
    int64_t begin_until_ms;
};

struct step_pool {
    pthread_mutex_t mutex;
    pthread_cond_t work;  /* something was submitted, or the pool closes */
    pthread_cond_t idle;  /* a thread ended */
    struct queued_attempt *queue, *queue_tail;
    struct queued_attempt *at_work; /* those that run */
    struct attempt_done *ended, *ended_tail;
    size_t running;
    size_t threads;
    size_t wanted; /* threads that are not stuck */
    size_t stuck, limit;
    bool closing;
    void (*wake)(void *context);
    void *context;
};

void attempt_done_free(struct attempt_done *done)
{
    if (!done)
        return;
    payload_free(done->outcome.result);
    error_free(done->outcome.error);
    free(done->detail);
    free(done->job);
    free(done);
}

static void queued_attempt_free(struct queued_attempt *attempt)
{
    if (!attempt)
        return;
    payload_free(attempt->input);
    payload_free(attempt->progress);
    free(atomic_load(&attempt->contact.detail));
    attempt_done_free(attempt->done);
    free(attempt);
}

static struct queued_attempt *pool_next(struct step_pool *pool)
{
    bool surplus = pool->threads > pool->wanted + pool->stuck; /* another took the place of this one meanwhile */
    while (!surplus && !pool->closing && (!pool->queue || pool->stuck >= pool->limit))
        pthread_cond_wait(&pool->work, &pool->mutex);
    if (surplus)
        return NULL;
    struct queued_attempt *attempt = pool->queue;
    if (!attempt)
        return NULL;
    pool->queue = attempt->next;
    if (!pool->queue)
        pool->queue_tail = NULL;
    attempt->next = pool->at_work;
    pool->at_work = attempt;
    pool->running++;
    return attempt;
}

static void pool_run(struct queued_attempt *attempt)
{
    struct attempt_done *done = attempt->done;
    struct attempt_request request = {
        .callable = attempt->callable,
        .job = done->job,
        .run = done->run,
        .op = done->op,
        .attempt = done->attempt,
        .input = attempt->input,
        .log_id = attempt->log_id,
        .progress = attempt->progress,
        .contact = &attempt->contact,
    };
    attempt_run(&request, &done->outcome);
    done->detail = atomic_exchange(&attempt->contact.detail, NULL);
}

static void pool_returned(struct step_pool *pool, struct queued_attempt *attempt)
{
    struct queued_attempt **link = &pool->at_work;
    while (*link != attempt)
        link = &(*link)->next;
    *link = attempt->next;
    pool->running--;
    if (!attempt->done->was_stuck)
        return;
    pool->stuck--;
    pthread_cond_broadcast(&pool->work); /* attempts may begin again */
}

static void *pool_thread(void *argument)
{
    struct step_pool *pool = argument;
    crash_thread_begin();
    pthread_mutex_lock(&pool->mutex);
    for (struct queued_attempt *attempt; (attempt = pool_next(pool));) {
        pthread_mutex_unlock(&pool->mutex);
        struct attempt_done *done = attempt->done;
        done->not_begun = worker_monotonic_ms() >= attempt->begin_until_ms;
        if (!done->not_begun)
            pool_run(attempt);
        pthread_mutex_lock(&pool->mutex);
        pool_returned(pool, attempt);
        attempt->done = NULL;
        queued_attempt_free(attempt);
        bool first = pool->ended == NULL;
        if (pool->ended_tail)
            pool->ended_tail->next = done;
        else
            pool->ended = done;
        pool->ended_tail = done;
        if (first && !pool->closing)
            pool->wake(pool->context);
    }
    crash_thread_end();
    pool->threads--;
    pthread_cond_signal(&pool->idle);
    pthread_mutex_unlock(&pool->mutex);
    return NULL;
}

/* With the mutex held. */
static bool pool_add_thread(struct step_pool *pool)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, pool_thread, pool) != 0)
        return false;
    pthread_detach(thread);
    pool->threads++;
    return true;
}

struct step_pool *step_pool_new(int threads, void (*wake)(void *context), void *context)
{
    struct step_pool *pool = calloc(1, sizeof *pool);
    if (!pool)
        return NULL;
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->work, NULL);
    pthread_cond_init(&pool->idle, NULL);
    pool->wake = wake;
    pool->context = context;
    pthread_mutex_lock(&pool->mutex);
    while (pool->wanted < (size_t)threads && pool_add_thread(pool))
        pool->wanted++;
    pool->limit = pool->wanted > STUCK_LEAST ? pool->wanted : STUCK_LEAST;
    pthread_mutex_unlock(&pool->mutex);
    if (pool->threads == 0) {
        free(pool);
        return NULL;
    }
    return pool;
}

int step_pool_submit(struct step_pool *pool, uint32_t partition, const struct attempt_request *request,
                     int64_t started_ms, int64_t begin_until_ms)
{
    struct queued_attempt *attempt = calloc(1, sizeof *attempt);
    struct attempt_done *done = calloc(1, sizeof *done);
    if (attempt)
        attempt->done = done;
    if (!attempt || !done || !(done->job = strdup(request->job)) ||
        (request->input && !(attempt->input = payload_copy(request->input))) ||
        (request->progress && !(attempt->progress = payload_copy(request->progress)))) {
        if (!attempt)
            free(done);
        queued_attempt_free(attempt);
        return PDR_NO_MEMORY;
    }
    attempt->callable = request->callable;
    attempt->log_id = request->log_id;
    attempt->begin_until_ms = begin_until_ms;
    done->partition = partition;
    done->run = request->run;
    done->op = request->op;
    done->attempt = request->attempt;
    done->started_ms = started_ms;
    pthread_mutex_lock(&pool->mutex);
    if (pool->queue_tail)
        pool->queue_tail->next = attempt;
    else
        pool->queue = attempt;
    pool->queue_tail = attempt;
    pthread_cond_signal(&pool->work);
    pthread_mutex_unlock(&pool->mutex);
    return PDR_OK;
}

static bool attempt_is(const struct queued_attempt *at, const char *job, uint64_t run, uint64_t op, uint32_t attempt)
{
    return at->done->run == run && at->done->op == op && at->done->attempt == attempt && strcmp(at->done->job, job) == 0;
}

static struct queued_attempt *pool_find_at_work(const struct step_pool *pool, const char *job, uint64_t run, uint64_t op,
                                                uint32_t attempt)
{
    struct queued_attempt *at = pool->at_work;
    while (at && (at->done->was_stuck || !attempt_is(at, job, run, op, attempt)))
        at = at->next;
    return at;
}

void step_pool_abandon(struct step_pool *pool, const char *job, uint64_t run, uint64_t op, uint32_t attempt)
{
    pthread_mutex_lock(&pool->mutex);
    struct queued_attempt *previous = NULL;
    for (struct queued_attempt *at = pool->queue; at; previous = at, at = at->next) {
        if (!attempt_is(at, job, run, op, attempt))
            continue;
        if (previous)
            previous->next = at->next;
        else
            pool->queue = at->next;
        if (pool->queue_tail == at)
            pool->queue_tail = previous;
        queued_attempt_free(at);
        break;
    }
    struct queued_attempt *runs = pool_find_at_work(pool, job, run, op, attempt);
    if (runs)
        atomic_store(&runs->contact.cancelled, true);
    pthread_mutex_unlock(&pool->mutex);
}

void step_pool_tell_cancelled(struct step_pool *pool, const char *job, uint64_t run, uint64_t op, uint32_t attempt)
{
    pthread_mutex_lock(&pool->mutex);
    struct queued_attempt *at = pool->queue;
    while (at && !attempt_is(at, job, run, op, attempt))
        at = at->next;
    if (!at)
        at = pool_find_at_work(pool, job, run, op, attempt);
    if (at)
        atomic_store(&at->contact.cancelled, true);
    pthread_mutex_unlock(&pool->mutex);
}

char *step_pool_take_detail(struct step_pool *pool, const char *job, uint64_t run, uint64_t op, uint32_t attempt)
{
    pthread_mutex_lock(&pool->mutex);
    struct queued_attempt *runs = pool_find_at_work(pool, job, run, op, attempt);
    char *detail = runs ? atomic_exchange(&runs->contact.detail, NULL) : NULL;
    pthread_mutex_unlock(&pool->mutex);
    return detail;
}

bool step_pool_give_up(struct step_pool *pool, const char *job, uint64_t run, uint64_t op, uint32_t attempt,
                       struct step_pool_load *load)
{
    step_pool_abandon(pool, job, run, op, attempt);
    pthread_mutex_lock(&pool->mutex);
    struct queued_attempt *at = pool_find_at_work(pool, job, run, op, attempt);
    if (at) {
        at->done->was_stuck = true;
        if (++pool->stuck < pool->limit)
            pool_add_thread(pool); /* failing that, there is one less */
    }
    *load = (struct step_pool_load){ pool->stuck, pool->limit };
    pthread_mutex_unlock(&pool->mutex);
    return at != NULL;
}

struct step_pool_load step_pool_load_of(struct step_pool *pool)
{
    pthread_mutex_lock(&pool->mutex);
    struct step_pool_load load = { pool->stuck, pool->limit };
    pthread_mutex_unlock(&pool->mutex);
    return load;
}

struct attempt_done *step_pool_take_back(struct step_pool *pool, uint32_t partition)
{
    struct attempt_done *done = NULL;
    pthread_mutex_lock(&pool->mutex);
    struct queued_attempt **link = &pool->queue, *previous = NULL;
    while (*link && (*link)->done->partition != partition) {
        previous = *link;
        link = &(*link)->next;
    }
    struct queued_attempt *found = *link;
    if (found) {
        *link = found->next;
        if (pool->queue_tail == found)
            pool->queue_tail = previous;
        done = found->done;
        found->done = NULL;
        queued_attempt_free(found);
    }
    pthread_mutex_unlock(&pool->mutex);
    return done;
}

struct attempt_done *step_pool_take(struct step_pool *pool)
{
    pthread_mutex_lock(&pool->mutex);
    struct attempt_done *done = pool->ended;
    if (done) {
        pool->ended = done->next;
        if (!pool->ended)
            pool->ended_tail = NULL;
    }
    pthread_mutex_unlock(&pool->mutex);
    return done;
}

size_t step_pool_free(struct step_pool *pool, int patience_ms)
{
    struct timespec until;
    if (!pool)
        return 0;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += patience_ms / 1000;
    until.tv_nsec += (long)(patience_ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_mutex_lock(&pool->mutex);
    pool->closing = true;
    while (pool->queue) {
        struct queued_attempt *next = pool->queue->next;
        queued_attempt_free(pool->queue);
        pool->queue = next;
    }
    pool->queue_tail = NULL;
    pthread_cond_broadcast(&pool->work);
    while (pool->threads > 0 && pthread_cond_timedwait(&pool->idle, &pool->mutex, &until) != ETIMEDOUT) {
    }
    size_t busy = pool->threads;
    pthread_mutex_unlock(&pool->mutex);
    if (busy > 0)
        return busy;
    for (struct attempt_done *done; (done = step_pool_take(pool));)
        attempt_done_free(done);
    pthread_cond_destroy(&pool->work);
    pthread_cond_destroy(&pool->idle);
    pthread_mutex_destroy(&pool->mutex);
    free(pool);
    return 0;
}
