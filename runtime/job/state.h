/*
 * What the files of the job layer share.
 *
 * The job's code runs on a coroutine; all that its verbs do happens outside of it, on the caller's stack: a verb fills a
 * `struct request` and suspends, serve.c answers it. So a paused job's stack holds little more than the user's frames,
 * and a verb that cannot go on (no memory, divergence) just never returns.
 *
 *   job.c       new, free, replay, feed, take
 *   serve.c     runs the coroutine, answers requests
 *   operation.c the operations: begin, become ready, end, limits
 *   apply.c     what each input event does
 *   match.c     compares what is attempted with what is recorded
 *   report.c    the text of a difference
 *   command.c   the queue that job_take() reads, and the events in it
 *   ending.c    the function has returned: clean-up, compensations, terminal event
 *   verbs.c     the functions of perdure.h that a job calls
 *   inspect.c   what it waits for, what it holds
 */
#ifndef PERDURE_JOB_STATE_H
#define PERDURE_JOB_STATE_H

#include <stdarg.h>

#include "job/codec.h"
#include "job/coroutine.h"
#include "job/failure.h"
#include "job/job.h"

enum op_kind {
    OP_NONE,
    OP_STEP,
    OP_TIMER,
    OP_SIGNAL, /* receive, expect */
    OP_SEND,
    OP_CHILD,
    OP_END, /* the terminal event */
};

enum op_state {
    OP_QUEUED,  /* its limit has no room */
    OP_PENDING, /* begun */
    OP_READY,   /* `code` says how */
};

struct op {
    uint64_t number;
    enum op_kind kind;
    enum op_state state;
    bool announced; /* job_take() gave out its step or timer */
    bool recorded;  /* OP_CHILD, OP_SEND, OP_TIMER: its command stands in the history */
    int code;       /* OP_READY */
    const pdr_decl *decl;
    const char *name; /* MODULE/STEP, signal, child's type, purpose of a timer */
    const char *label;
    const char *target; /* OP_SEND: job id; OP_CHILD: id of the child */
    const pdr_site *site;
    Site wire_site;
    uint64_t digest; /* of the input; of the payload */
    Payload input;   /* data malloc'ed, freed when the operation is over */
    struct step_policy policy;
    uint32_t attempt;
    int64_t at_ms;       /* step: not before; timer: fires at */
    int64_t duration_ms; /* timer */
    int64_t since_ms;
    int64_t first_started_ms;
    int64_t scheduled_ms, dispatched_ms, begun_ms; /* with a queue, or PDR_LATER: as in struct job_command */
    uint32_t dispatched, dispatch;
    bool begun, later;
    Payload *progress;
    Error *last_error;
    void *result;
    const pdr_failure *failure;
    pdr_limit *limit; /* since it entered it */
    struct op *next;  /* live operations in program order; free ones; expectations */
    struct op *previous;
    struct op *next_queued;
};

struct pdr_limit {
    int64_t room; /* may be below 0 while a history made under a larger limit is replayed */
    struct op *first, *last;
};

/* A signal that nobody has received yet. */
struct signal {
    struct signal *next;
    uint64_t seq;
    Payload *payload;
    char name[];
};

struct clean_up {
    struct clean_up *next;
    void (*run)(void *);
    void *argument;
};

struct compensation {
    struct compensation *next;
    const pdr_decl *decl;
    const pdr_site *site;
    struct step_policy policy;
    ProtobufCBinaryData input; /* in the arena */
    const char *label;
    const char *id;
    pdr_limit *limit;
};

enum request_kind {
    REQUEST_AWAIT,
    REQUEST_START,
    REQUEST_JOIN,
    REQUEST_RECEIVE,
    REQUEST_EXPECT,
    REQUEST_SEND,
    REQUEST_COMPENSATE,
    REQUEST_SLEEP,
    REQUEST_TIMER,
    REQUEST_WAIT,
    REQUEST_CALL, /* run `call` outside of the coroutine */
};

/* What a verb asks for. Lives in the verb's frame. */
struct request {
    enum request_kind kind;
    const pdr_site *site;
    const pdr_decl *decl;
    const void *in;
    const void *options;
    const char *id;
    int64_t ms;
    void (*call)(pdr_job *job, struct request *request);
    void *argument;
    va_list *arguments;
    /* What it waits for. */
    pdr_future one;
    const pdr_future *futures;
    size_t count;
    size_t ready; /* so many of the first are */
    bool all;
    uint64_t timeout; /* operation of a timer; 0: none */
    /* The answer. */
    int code;
    void *result;
    pdr_future future;
};

struct command {
    enum job_command_kind kind;
    uint64_t op;
    int64_t at_ms;
    Event *event;
};

/* A history being replayed. */
struct replay {
    const Event *const *events;
    size_t count;
    size_t at;              /* index of the event being fed */
    size_t agreed;          /* so many events agreed */
    const Event **recorded; /* by operation number: its first event; NULL: none */
    uint64_t op_limit;      /* numbers below have a place there */
    uint64_t last_command;  /* highest operation with a recorded command */
    const Event *terminal;
};

/* An event that agreed, as a report names it. */
struct agreed {
    uint64_t seq;
    uint64_t op;
    int kind;
    char name[40];
};
#define AGREED_COUNT 5

/* What became of the function: a terminal event without the engine's fields. */
struct outcome {
    int kind; /* PERDURE__V1__EVENT__KIND_COMPLETED, _FAILED, _CANCELLED; 0: not yet */
    ProtobufCBinaryData result;
    const pdr_failure *failure;
};

struct pdr_job {
    enum job_state state;
    bool started;
    bool cancelled;
    bool ending;        /* the function has returned */
    const struct registry *registry;
    const struct callable *callable;
    char *id;
    uint64_t run;
    struct job_options options;
    struct coroutine coroutine;
    struct wire_arena arena;
    void *input;
    void *output;
    int returned;
    int64_t now_ms;
    uint64_t randoms;
    const pdr_failure *failure; /* pdr_error() */
    char *cancel_reason;
    char *build; /* of Started */

    struct request *pending; /* what the coroutine waits in */
    int64_t waiting_since_ms;
    const pdr_site *site;

    uintptr_t *ops; /* by number - 1: struct op *, or (kind << 1 | 1) when it is over, or 0 */
    size_t op_capacity;
    uint64_t next_op;
    struct op *live_first, *live_last;
    struct op *expect_first, *expect_last;
    struct op *free_ops;
    struct signal *signal_first, *signal_last;
    size_t signal_count;

    struct clean_up *clean_ups;
    struct compensation *compensations;
    struct op *compensating;
    const pdr_failure *compensation_failure;
    struct outcome outcome;

    struct command *commands;
    size_t command_first, command_count, command_capacity;

    struct replay *replay; /* NULL: live */
    struct agreed agreed[AGREED_COUNT];
    size_t agreed_count; /* ever */
    const char *report;
    char *report_memory;

    Waiting *waiting; /* of job_waiting() */
    const Waiting **waiting_pointers;
    size_t waiting_count, waiting_capacity;
    uint64_t *unconsumed;
};

/* serve.c */
void serve_run(pdr_job *job);
bool serve_cancelled(const pdr_job *job);

/* operation.c */
struct op *operation_new(pdr_job *job, enum op_kind kind, const pdr_decl *decl, const char *name, const pdr_site *site);
struct op *operation_find(const pdr_job *job, uint64_t number);
enum op_kind operation_kind(const pdr_job *job, uint64_t number);
/* Numbers of operations that were attempted are below job->next_op. */
void operation_begin(pdr_job *job, struct op *op);
void operation_ready(pdr_job *job, struct op *op, int code);
void operation_fail(pdr_job *job, struct op *op, const pdr_failure *failure);
/* Nobody will look at it again. */
void operation_end(pdr_job *job, struct op *op);
void operation_abandon_all(pdr_job *job);
void operation_free_all(pdr_job *job);
struct op *operation_start(pdr_job *job, const pdr_site *site, const pdr_decl *decl, const void *in,
                           const void *options);
struct op *operation_compensate(pdr_job *job, const struct compensation *compensation);
struct op *operation_timer(pdr_job *job, const pdr_site *site, const char *purpose, int64_t ms);
struct op *operation_expect(pdr_job *job, const pdr_site *site, const pdr_decl *decl);
int operation_send(pdr_job *job, const struct request *request);
void operation_announce_pending(pdr_job *job);
void operation_merge(struct step_policy *policy, const pdr_step_options *defaults, const pdr_step_options *call);
int64_t operation_later(int64_t now_ms, int64_t ms);
const char *operation_copy_text(pdr_job *job, const char *text); /* in the arena; NULL: none, or no memory */
const char *operation_copy_shown(pdr_job *job, const char *text); /* made UTF-8: for people, and nothing is found by it */

/* apply.c */
void apply_event(pdr_job *job, const Event *event);
bool apply_signal(pdr_job *job, struct op *op, const Payload *payload);

/* match.c */
/* Replaying: compares the operation with its record. Returns that; NULL: none, or diverged. `may_wait`: it has a limit,
 * so operations after it may have begun before it. */
const Event *match_op(pdr_job *job, const struct op *op, bool may_wait);
bool match_result(pdr_job *job, const struct op *op, const Event *event);
bool match_index(pdr_job *job, struct replay *replay);
void match_rest(pdr_job *job);
const Event *match_end(pdr_job *job, uint64_t number, const struct outcome *outcome);
enum op_kind match_kind_of(const Event *event);

/* report.c */
void report_broken(pdr_job *job, const char *format, ...) __attribute__((format(printf, 2, 3)));
void report_no_memory(pdr_job *job);
void report_op(pdr_job *job, const struct op *attempted, const Event *recorded, const char *difference);
void report_end(pdr_job *job, uint64_t number, const struct outcome *attempted, const Event *recorded,
                const char *difference);
void report_never_attempted(pdr_job *job, const Event *recorded);
void report_after_end(pdr_job *job, const Event *recorded);
void report_start(pdr_job *job, const Event *recorded);
void report_agreed(pdr_job *job, const Event *event);

/* command.c */
void command_step(pdr_job *job, struct op *op);
void command_timer(pdr_job *job, struct op *op);
void command_drop(pdr_job *job, struct op *op);
/* Takes over `event`; NULL: no memory, which breaks the job. */
void command_record(pdr_job *job, Event *event);
Event *command_event(const struct op *op);
Event *command_end_event(pdr_job *job, uint64_t number);
void command_free_all(pdr_job *job);

/* ending.c */
void ending_begin(pdr_job *job);
void ending_go_on(pdr_job *job);
void ending_clean_up(pdr_job *job);

/* verbs.c */
pdr_job *verbs_enter(pdr_job *job);
void verbs_leave(pdr_job *previous);

/* registry.c */
const char *registry_qualify(const struct registry *registry, const pdr_module *module, enum pdr_kind kind,
                             const char *name);

static inline bool job_is_stopped(const pdr_job *job)
{
    return job->state != JOB_WAITING;
}

#endif
