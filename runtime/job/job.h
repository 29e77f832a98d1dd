/*
 * A job in memory: a coroutine that runs the user's job function against its history. Pure computation: no I/O, no
 * clock, no thread. The engine feeds it events and takes what it wants; the replay tool does the same.
 *
 * Order of calls: job_new, job_replay once (with the whole history so far, at least the Started event), then
 * job_feed per new input event; after each of these job_take until it gives nothing; job_free.
 *
 * An *input* event (Started, StepCompleted, StepFailed, AttemptFailed, StepProgress, StepDispatched, TimerFired,
 * SignalReceived, SendRefused, ChildEnded, CancelRequested) is fed: the job runs until it waits again. A *command* event
 * (StepScheduled, TimerStarted, SignalSent, ChildRequested, Completed, Failed, Cancelled) is what the job asked for: while replaying it is matched with the
 * recorded one of the same operation number, else it comes out of job_take. Replay and live differ in that one place.
 */
#ifndef PERDURE_JOB_H
#define PERDURE_JOB_H

#include <perdure/perdure.h>

#include "wire/wire.h"

/* ---- modules -------------------------------------------------------------------------------- */

/* One job or step function of a loaded module. */
struct callable {
    const pdr_module *module;
    const pdr_entry *entry;
    const char *name;  /* MODULE/NAME */
    const char *build; /* hex build id of the shared object */
};

struct registry;
struct registry *registry_new(void);
void registry_free(struct registry *registry);
/* Adds a module that is linked in (`build` NULL: build id of the object that holds it) or loads one from a file.
 * On failure returns a PDR code, `error` says what, where and what to do. */
int registry_add(struct registry *registry, const pdr_module *module, const char *build, char *error, size_t error_size);
int registry_load(struct registry *registry, const char *path, char *error, size_t error_size);
/* By "MODULE/NAME", or "NAME" where it is unique; NULL: none. */
const struct callable *registry_job(const struct registry *registry, const char *name);
const struct callable *registry_step(const struct registry *registry, const char *name);
/* "shop/checkout, files/manifest": what an error names. Owned by the registry. */
const char *registry_job_names(const struct registry *registry);
/* The same of the steps that run here, cut where `text` ends. Returns `text`. */
const char *registry_step_names(const struct registry *registry, char *text, size_t size);
/* A step that runs here is declared for this queue (a call may name another). False: `others` are the queues that such
 * steps are declared for; "": none. */
bool registry_serves(const struct registry *registry, const char *queue, char *others, size_t size);
/* A step that is declared for this queue and is only called here (PDR_CALLS); NULL: there is none. */
const char *registry_calls(const struct registry *registry, const char *queue);
/* What a worker registers: one message a module. Caller frees with registration_free(). */
size_t registry_count(const struct registry *registry);
Registration *registry_registration(const struct registry *registry, size_t index);

/* Converts a payload whose `json` is set into the declared type's encoding, in place. Returns PDR_OK or PDR_FAILED with
 * the reason, naming the field. Used on inputs of starts and on signals. */
int payload_from_json(const pdr_type *type, Payload *payload, char *error, size_t error_size);
/* The type of a signal's payload that a module declares by use is not known before the job receives it: signals keep
 * their payload as sent; the job layer converts JSON when it decodes. */

/* ---- a job ---------------------------------------------------------------------------------- */

enum job_state {
    JOB_WAITING,  /* everything taken, it waits for an input event */
    JOB_ENDED,    /* a terminal event was matched or comes out of job_take */
    JOB_DIVERGED, /* it took another path than its history: job_report() */
    JOB_BROKEN,   /* out of memory, unknown event, stack overflow ...: job_report() */
};

/* Retry policy and limits of a step, declaration and call merged, defaults filled in. */
struct step_policy {
    uint32_t max_attempts; /* 0: no limit */
    int64_t timeout_ms;    /* one attempt, start to end; 0: none */
    int64_t deadline_ms;   /* all attempts, from the first start; 0: none */
    int64_t backoff_ms;
    int64_t backoff_max_ms;
    bool in_place;         /* short: runs on the engine's thread */
    const char *queue;     /* NULL: runs here. Lives as long as the job */
    int64_t schedule_to_start_ms; /* with a queue; 0: none */
    int64_t heartbeat_ms;         /* with a queue; 0: none */
    uint32_t priority;
    const char *concurrency_key; /* NULL: none. Lives as long as the job */
    uint32_t concurrency_limit;
};

enum job_command_kind {
    JOB_NOTHING,
    JOB_RECORD,       /* append `event` (seq and t are the engine's to fill); the taker frees it with event_free() */
    JOB_STEP,         /* run an attempt of a step, not before `at_ms` */
    JOB_ABANDON_STEP, /* nobody waits for `op` any more (cancelled) */
    JOB_ARM_TIMER,    /* a recorded timer: feed TimerFired{op} at `at_ms`. Follows its JOB_RECORD, or a recorded one */
    JOB_DISARM_TIMER,
};

struct job_command {
    enum job_command_kind kind;
    uint64_t op;
    int64_t at_ms;   /* milliseconds since 1970; JOB_STEP: 0 is at once */
    Event *event;    /* JOB_RECORD */
    /* JOB_STEP: valid until the operation is over (the job keeps it) */
    const char *step;          /* MODULE/STEP */
    const Payload *input;
    uint64_t input_digest;
    uint32_t attempt;          /* 1, 2 ... */
    int64_t first_started_ms;  /* of the first attempt that was recorded as failed; 0: none was */
    const struct step_policy *policy;
    const Site *site;
    const char *label;
    const pdr_decl *decl;
    int64_t scheduled_ms;      /* with a queue: t of its StepScheduled; 0: that is still to be logged */
    uint32_t dispatched;       /* the attempt that was handed out last; 0: none */
    uint32_t dispatch;         /* how often it was */
    int64_t dispatched_ms;
    bool later;                /* its function said PDR_LATER in this attempt */
    bool begun;                /* `dispatched` is known to have begun, by its progress */
    int64_t begun_ms;          /* when it says it did; 0: not known */
    const Payload *progress;   /* the last that was logged, of any attempt; NULL: none */
};

struct job_options {
    size_t stack_bytes;        /* 0: JOB_STACK_BYTES */
    /* The job's logger; not called while replaying. Thread of the caller. */
    void (*log)(void *context, const pdr_job *job, int level, const char *message);
    void *log_context;
};

/* NULL: out of memory (or no address space for a stack). `registry` must outlive the job. */
pdr_job *job_new(const struct registry *registry, const struct callable *callable, const char *id, uint64_t run,
                 const struct job_options *options);
/* Runs what pdr_defer left and frees everything, whatever the state: return, cancel, eviction alike. */
void job_free(pdr_job *job);

/* The recorded history, from seq 1 on, in seq order. The events must live until the call returns. */
enum job_state job_replay(pdr_job *job, const Event *const *events, size_t count);
/* One new input event, seq and t filled in. It must live until the call returns. */
enum job_state job_feed(pdr_job *job, const Event *event);
bool job_take(pdr_job *job, struct job_command *command);

enum job_state job_state_of(const pdr_job *job);
/* Why it diverged or broke: several lines for people. Lives as long as the job. */
const char *job_report(const pdr_job *job);
/* What it waits for: messages live until the next call on the job. Returns their number. `since` is t of the event that
 * led to the wait; what only the engine knows (retry times) it fills in itself. */
size_t job_waiting(const pdr_job *job, const Waiting *const **out);
/* The site of the await the job stands at, for "going on at FILE:LINE"; NULL before the first. */
const pdr_site *job_site(const pdr_job *job);
/* Bytes held: stack pages touched at least, arena, bookkeeping. */
size_t job_bytes(const pdr_job *job);
/* seqs of fed inputs that no await looked at (signals), for the terminal event. */
size_t job_unconsumed(const pdr_job *job, const uint64_t **seqs);

/* ---- one attempt of a step ------------------------------------------------------------------- */

/* What the thread that runs an attempt and the one that wants it have in common. */
struct attempt_contact {
    _Atomic bool cancelled;
    _Atomic(char *) detail; /* what it said last and nobody has taken yet; whoever takes it frees it */
};

struct attempt_request {
    const struct callable *callable;
    const char *job;
    uint64_t run;
    uint64_t op;
    uint32_t attempt;
    const Payload *input;
    uint64_t log_id; /* for the token */
    const Payload *progress;         /* of an earlier attempt; NULL: none */
    struct attempt_contact *contact; /* NULL: nobody can reach it */
};

struct attempt_outcome {
    int code;        /* PDR_OK, PDR_LATER (neither result nor error) or why not */
    Payload *result; /* PDR_OK; payload_free() */
    Error *error;    /* otherwise; error_free() */
};

/* Decodes the input, calls the step function, encodes its result. Any thread. Never fails without an error in
 * `outcome`. A result above PAYLOAD_LIMIT_BYTES is a final error "TooLarge". */
void attempt_run(const struct attempt_request *request, struct attempt_outcome *outcome);

#endif
