/*
 * A trial: one or two engines of one partition over a journal and an inbox in memory, with everything by hand: what is
 * appended lands, is acknowledged and read back only when the test says so (or at once, with trial_settle()).
 */
#ifndef PERDURE_ENGINE_TRIAL_H
#define PERDURE_ENGINE_TRIAL_H

#include "engine/engine.h"
#include "engine/limits.h"

struct trial_record {
    void *data;
    size_t size;
    int64_t append_ms;
};

struct trial_stream {
    struct trial_record *records;
    size_t count;
};

struct trial_append {
    uint64_t cookie;
    bool send;
    void *data;
    size_t size;
};

struct trial_task {
    Record *record;
    const Perdure__V1__Task *task;
    uint32_t lane;
};

struct trial_worker {
    struct trial *trial;
    struct engine *engine;
    struct trial_append *appends; /* taken from the engine, not in the log yet */
    size_t append_count;
    int64_t journal_from, inbox_from; /* -1: not followed */
    size_t outputs[ENGINE_OUT_NOTE + 1];
    size_t replies, refused, stops;
    char last_text[256];
    struct engine_takeover takeover; /* the last */
    char last_answer[32];
    char last_state[32];          /* of the last status record */
    bool hold_steps;              /* steps are not run */
    bool hold_jobs;               /* those that are due are not brought back */
    size_t steps_held;
    struct trial_task *tasks;     /* as they came into the queues */
    size_t task_count;
    bool refuse_tasks;
    bool doubt_tasks; /* they arrive, and nobody is sure of it */
    struct { char job[256]; uint64_t run, op; uint32_t attempt; int64_t begin_until; } held; /* the last of them */
};

struct trial {
    struct registry *registry;
    struct trial_stream journal, inbox;
    struct trial_worker workers[2];
    Genesis genesis;
    bool hands_over; /* of workers made from now on: the owner before is asked */
    int64_t wall_ms, monotonic_ms;
    bool has_queues; /* before trial_worker() */
    int64_t unshown; /* the first offset whose status is not in the log; 0: all are */
    bool store_is_damaged; /* before trial_worker(): histories are in a store of the worker's, which gives none */
    size_t histories_asked;
    bool (*queue_take)(void *context, const char *queue, int64_t now, int64_t *again);
    enum engine_type elsewhere; /* what is said of every job type that is in no module */
    struct engine_memory *memory; /* of both workers; before trial_worker(); NULL: not limited */
    struct limits *limits; /* of both workers, the trial frees it; before trial_worker(); NULL: none */
};

/* `modules` ends with NULL. The journal begins with its Genesis. */
struct trial *trial_new(const pdr_module *const *modules);
void trial_free(struct trial *trial);
struct trial_worker *trial_worker(struct trial *trial, int number, const struct engine_limits *limits);

void trial_run(struct trial_worker *worker);     /* run and take: appends are held */
size_t trial_land(struct trial_worker *worker);  /* held appends go into the log; none is acknowledged, none read */
void trial_land_acknowledged(struct trial_worker *worker); /* held appends go into the log, and each is told where it stands */
void trial_acknowledge(struct trial_worker *worker, uint64_t cookie, enum log_delivery delivery, int64_t offset);
void trial_read(struct trial_worker *worker);    /* hands over what it follows, and the end */
void trial_step_end(struct trial_worker *worker, const char *text); /* the last step held returns this */
void trial_lose(struct trial_worker *worker);    /* held appends are gone */
/* Until nothing moves: lands, acknowledges, reads, for all workers. */
void trial_settle(struct trial *trial);
void trial_advance(struct trial *trial, int64_t ms);

/* Into the inbox: from client 7; with `request`. */
void trial_command(struct trial *trial, const char *job, Command *command, const char *request);
void trial_header(Header *header, uint32_t kind);
void trial_inbox_append(struct trial *trial, const void *data, size_t size);
void trial_inbox_cut(struct trial *trial, size_t end); /* its last records are gone, their offsets are given out again */
void trial_start(struct trial *trial, const char *job, const char *type, const char *text, const char *request);
void trial_signal(struct trial *trial, const char *job, const char *name, const char *text, const char *request);
void trial_cancel(struct trial *trial, const char *job);
void trial_terminate(struct trial *trial, const char *job);
void trial_resume(struct trial *trial, const char *job);
/* State of a job as worker 0 sees it; "" when it does not know it. */
const char *trial_state(struct trial *trial, const char *job);
void trial_journal_append(struct trial *trial, const void *data, size_t size);
uint32_t trial_kind(const struct trial *trial, size_t offset);

#endif
