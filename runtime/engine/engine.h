/*
 * The engine of one partition: a state machine without I/O, thread or clock. Inputs go in by the engine_on_...()
 * functions; engine_run() lets jobs go on and builds appends; outputs come out of engine_take(), each exactly once.
 * The worker's driver and the simulator use it in the same way.
 *
 *     engine_new, engine_load_...(store rows), engine_begin
 *     loop: engine_on_time, engine_on_...(what happened), engine_run, engine_take until it gives nothing
 */
#ifndef PERDURE_ENGINE_H
#define PERDURE_ENGINE_H

#include "job/job.h"
#include "log/log.h"
#include "wire/wire.h"

struct engine;

/* Where a partition stands; the transition table is on top of engine.c. */
#define ENGINE_STATE_MAP(X)                                                              \
    X(FOLLOWING, "reads the journal, owns nothing")                                      \
    X(CATCHING_UP, "assigned: reads the journal to its end before it claims")            \
    X(CLAIMING, "its claim is appended, not yet read back")                              \
    X(OWNER, "its claim is the latest: jobs run")                                        \
    X(DRAINING, "revoked: lets appends be confirmed, then writes Mark and Release")      \
    X(FENCED, "somebody else claimed: waits before it may claim again")                  \
    X(STOPPED, "a record it cannot judge, or a log it must not use: says why, for good")

enum engine_state {
#define ENGINE_STATE_(name, text) ENGINE_##name,
    ENGINE_STATE_MAP(ENGINE_STATE_)
#undef ENGINE_STATE_
    ENGINE_STATE_COUNT
};

/* What the engine asks its host at once: local memory or a local file, never the network. */
struct engine_host {
    void *context;
    /* Counted Event records of one run in seq order, as far as the host holds them. LOG_OK or LOG_FAILED. */
    int (*history)(void *context, uint32_t partition, const char *job, uint64_t run,
                   bool (*visit)(void *visit_context, int64_t offset, const void *record, size_t size),
                   void *visit_context);
    /* The smallest `offset` of this partition's ENGINE_OUT_STATUS outputs that are not in the log yet; INT64_MAX: all are.
     * NULL: they are there before whatever is appended after them. */
    int64_t (*unshown)(void *context, uint32_t partition);
    /* Microseconds of any clock, for display only (how long a replay took). NULL: none. */
    int64_t (*stopwatch_us)(void *context);
};

struct engine_limits {        /* zero: the default of constants.h */
    size_t live_jobs;         /* paused jobs kept with their stacks */
    size_t live_bytes;
    size_t appends_in_flight;
    size_t replays_per_turn;
    size_t inbox_records;     /* read and not absorbed; beyond, the inbox is not read, and goes on below a half */
    size_t inbox_bytes;
    size_t woken_jobs;        /* brought back because they were due, and not at rest again */
    size_t turn_bytes;
    int64_t life_ms;
    int64_t keep_ms;
    int64_t append_deadline_ms;
    int64_t mark_interval_ms;
    int64_t claim_backoff_ms;
    int64_t trim_delay_ms;
    int64_t status_delay_ms;
    uint32_t crash_limit;     /* a job with so many crashes in a row is quarantined */
    int64_t retention_bytes;  /* journal bytes beyond which its head is cut; negative: never */
    int64_t retention_age_ms; /* ... and after which time, however few they are */
    size_t retention_records; /* copies and stubs of one turn */
    int64_t skew_ms;          /* how far this clock may go from the log's between two claims */
    size_t tasks_out;         /* of one queue: dispatched, not begun */
    int64_t alive_ms;          /* an owner heard of so shortly before lives; a proof that it is us holds so long */
    int64_t drain_ms;          /* a revoked owner lets steps end for so long; -1: not at all */
};

/* What jobs, inputs, appends, outboxes, unsaved histories and results of all partitions of a worker take, and may take. */
struct engine_memory {
    size_t used, budget; /* bytes, as far as they are counted */
    size_t intake;       /* of `used`: commands that are not absorbed, answers that wait for a position */
    size_t unsaved;      /* of `used`: records of histories that engine_store() would give away */
    size_t result;       /* what an attempt that runs here may bring: counted from its beginning to its end */
    size_t attempts;     /* that run here */
};

enum engine_type {
    ENGINE_TYPE_UNKNOWN, /* nobody has it: its starts are refused */
    ENGINE_TYPE_KNOWN,   /* they are absorbed, and wait for their module */
    ENGINE_TYPE_ASKED,   /* the inbox waits for engine_on_types() */
};

struct engine_config {
    uint32_t partition;
    Genesis genesis;                  /* of the log, as its backend read it */
    const char *worker;               /* name shown in claims and statuses */
    const char *boot_id;
    const struct registry *registry;  /* the modules loaded here */
    /* Job types that are absent here (rule 12): whether some registered build of the namespace has them. NULL: none. */
    enum engine_type (*type_elsewhere)(void *context, const char *type);
    void *type_context;
    /* The log has queues: steps of a queue are dispatched. Else they run here if their function is here, or wait for
     * whoever has their token. */
    bool has_queues;
    /* Whether a task of `queue` may be dispatched now (a rate limit), which it then counts; false: again at `*again_ms`,
     * monotonic. NULL: always. */
    bool (*queue_take)(void *context, const char *queue, int64_t monotonic_ms, int64_t *again_ms);
    size_t (*queue_limit)(void *context, const char *queue); /* instead of limits.tasks_out; 0: that. NULL: that */
    void *queue_context;
    struct engine_memory *memory;     /* shared; NULL: not limited. Over it no job is brought into memory but one at a time,
                                       * a quarter over it no more is read; the host evicts: engine_evict() */
    struct limits *shared_limits;     /* of attempts that run here and runs that begin; shared by the engines of one
                                       * thread; NULL: none */
    uint64_t seed;                    /* nonces, jitter */
    bool own_clock;                   /* the log's times are this machine's: they differ if its clock was set */
    bool hands_over;                  /* several workers share the log: the owner before is asked (rule 4) */
    struct engine_limits limits;
    struct engine_host host;
    struct job_options job;
};

enum engine_output_kind {
    ENGINE_OUT_APPEND,         /* to this partition's journal; answer with engine_on_delivered(cookie) */
    ENGINE_OUT_SEND,           /* to the inbox of `partition`; answer with engine_on_delivered(cookie) */
    ENGINE_OUT_TASK,           /* to queue `text`, lane `count`; answer with engine_on_delivered(cookie) */
    ENGINE_OUT_REPLY,          /* to a client; best effort */
    ENGINE_OUT_STATUS,         /* status record of job `key`, of what stands at `offset` last */
    ENGINE_OUT_STEP,           /* run an attempt, if it begins before `begin_until`; answer with engine_on_step_ended() */
    ENGINE_OUT_ABANDON_STEP,   /* its result will not be used; `timeout_ms` not 0: because it ran longer than that */
    ENGINE_OUT_FOLLOW_JOURNAL, /* hand over the journal from `offset` on */
    ENGINE_OUT_FOLLOW_INBOX,   /* hand over the inbox from `offset` on (again: from there) */
    ENGINE_OUT_UNFOLLOW_INBOX,
    ENGINE_OUT_TRIM_INBOX,     /* inbox records below `offset` may go */
    ENGINE_OUT_CUT_JOURNAL,    /* journal records below `offset` may go (rule 17); `count` runs were copied or stubbed */
    ENGINE_OUT_ASK_INBOX_END,  /* where does the inbox end now? Answer, if it can be had, with engine_on_inbox_asked() */
    ENGINE_OUT_FORGOTTEN,      /* job `key` is forgotten (rule 20): its status record may go */
    ENGINE_OUT_MAP,            /* read the namespace's slot map again; answer with engine_on_map() (rule 25) */
    ENGINE_OUT_READ_SOURCE,    /* hand over the journal of `partition` from its start through `offset`: engine_on_source() */
    ENGINE_OUT_DEAD,           /* copy inbox record `offset` (bytes given) to the dead letters; `text` says why */
    ENGINE_OUT_OWNED,          /* notice: the partition is ours since now */
    ENGINE_OUT_TAKEN_OVER,     /* notice: `takeover` says how, at the first progress */
    ENGINE_OUT_LOST,           /* notice: it is not any more; `text` says why */
    ENGINE_OUT_DRAINING,       /* notice: `count` attempts may still end; none that was not begun is to be begun: hand it back */
    ENGINE_OUT_RELEASED,       /* notice: it owns nothing any more, after engine_on_revoked() or engine_on_stop() */
    ENGINE_OUT_REPLAYED,       /* notice: job `key` replayed `count` events in `microseconds`, goes on at `site` */
    ENGINE_OUT_REBUILD,        /* the store is not to be trusted (rule 3): drop its rows; the engine begins anew. `count`: how
                                * often of late a wrong history was why; more than once: dropping rows does not heal it */
    ENGINE_OUT_STOPPED,        /* notice: engine is STOPPED; `text` says what, where, what to do */
    ENGINE_OUT_CRASH_DONE,     /* crash `count` of engine_on_crashed() is in the journal, or its run is over */
    ENGINE_OUT_NOTE,           /* notice for the log of the worker */
};

/* How a partition became ours. Microseconds of the host's stopwatch. */
enum engine_takeover_cause {
    TAKEOVER_FIRST,     /* nobody had it before */
    TAKEOVER_RESTART,   /* we had it ourselves, before this process or before the group took it away */
    TAKEOVER_PLANNED,   /* the owner before released it */
    TAKEOVER_UNPLANNED, /* it did not */
};
struct engine_takeover {
    enum engine_takeover_cause cause;
    char previous[128];  /* the owner before; "": nobody */
    int64_t silent_ms;   /* the log's time between the last record of the owner before and our claim; -1: not known */
    bool warm;           /* it was followed already */
    bool owned;
    uint64_t records, bytes; /* read before the claim */
    int64_t read_us;     /* from the assignment to the journal's end */
    int64_t wait_us;     /* for the owner before */
    int64_t claim_us;
    int64_t progress_us; /* from then to the first step or event; -1: there was nothing to do */
};

struct engine_output {
    enum engine_output_kind kind;
    uint64_t cookie;
    uint32_t partition;        /* SEND: target; READ_SOURCE: the other one */
    int64_t offset;
    const char *key;
    const void *data;          /* all pointers: valid until the next engine_take() or input */
    size_t size;
    const Header *header;      /* APPEND, SEND: for display headers */
    const ReplyTo *reply_to;   /* REPLY */
    const Reply *reply;
    const char *text;
    uint64_t count;
    int64_t microseconds;
    const Site *site;
    const struct engine_takeover *takeover; /* TAKEN_OVER */
    /* STEP */
    uint64_t run;
    uint64_t op;
    uint32_t attempt;
    const struct callable *step;
    const Payload *input;
    int64_t timeout_ms;        /* of this attempt; 0: none. The engine itself times it out by engine_on_time() */
    bool in_place;
    int64_t begin_until;       /* monotonic: from then on it is handed back, not begun; another may own the partition */
};

struct engine *engine_new(const struct engine_config *config); /* NULL: no memory */
void engine_free(struct engine *engine);

/* From the store, before engine_begin(). */
int engine_load_partition(struct engine *engine, const StoredPartition *row);
int engine_load_run(struct engine *engine, const StoredRun *run);
int engine_load_output(struct engine *engine, const StoredOutput *output);
bool engine_loaded_whole(const struct engine *engine); /* false: rows are missing, or of another moment: begin without them */
/* Starts following the journal from the loaded position, else from `log_start`. */
void engine_begin(struct engine *engine, int64_t log_start);

/* Inputs. */
void engine_on_time(struct engine *engine, int64_t wall_ms, int64_t monotonic_ms);
void engine_on_assigned(struct engine *engine);
void engine_on_revoked(struct engine *engine);
/* The process ends: as if revoked. `leave`: for good; else it comes back and writes no Release. */
void engine_on_stop(struct engine *engine, bool leave);
void engine_on_record(struct engine *engine, const struct log_record *record);
void engine_on_end(struct engine *engine, enum log_stream stream, int64_t end);
void engine_on_inbox_asked(struct engine *engine, int64_t end); /* as the log says since it was asked */
void engine_on_delivered(struct engine *engine, uint64_t cookie, enum log_delivery delivery, int64_t offset);
void engine_on_types(struct engine *engine); /* type_elsewhere() knows now what it did not */
/* The slot map of the namespace, as its newest partition's genesis tells it: told when asked, and when it was seen. */
void engine_on_map(struct engine *engine, const Genesis *genesis);
/* What READ_SOURCE asked for, in order; NULL: from the start again. Then, once, that all of it was handed over. */
void engine_on_source(struct engine *engine, const struct log_record *record);
void engine_on_source_end(struct engine *engine);
void engine_on_fault(struct engine *engine, enum log_fault fault, const char *message);
/* Takes over what `outcome` points to. */
void engine_on_step_ended(struct engine *engine, const char *job, uint64_t run, uint64_t op, uint32_t attempt,
                          struct attempt_outcome *outcome, int64_t started_ms);
/* Code of this run ended the worker process before: `event` is a JobCrashed whose `count` is 1 if that is its own fault, 0
 * if it was only there. Best before engine_begin(): journaled before that job runs again. */
void engine_on_crashed(struct engine *engine, const char *job, uint64_t run, const Event *event);
/* An attempt of ENGINE_OUT_STEP that was not begun, and will not be. */
void engine_on_step_handed_back(struct engine *engine, const char *job, uint64_t run, uint64_t op, uint32_t attempt);
/* `bring_back`: of the jobs that are due some may be replayed, too, if there is room; that may take long. */
void engine_run(struct engine *engine, bool bring_back);
bool engine_has_due(const struct engine *engine); /* some job is */
bool engine_take(struct engine *engine, struct engine_output *out);
/* Monotonic milliseconds at which engine_on_time() is wanted; INT64_MAX: never. */
int64_t engine_next_wake(const struct engine *engine);
bool engine_has_forgotten(const struct engine *engine, const char *job); /* as its owner */
uint32_t engine_map_version(const struct engine *engine); /* the newest that it has heard of */

enum engine_state engine_state_of(const struct engine *engine);
const char *engine_state_name(enum engine_state state);

/* Histories of runs whose last record lies below `offset` can be given by host.history(): they may be evicted. The
 * embedded log says INT64_MAX once. */
void engine_on_histories_kept(struct engine *engine, int64_t offset);

/* Since when its least recently used job has not moved, monotonic; INT64_MAX: there is none. */
int64_t engine_idle_since(const struct engine *engine);
/* Gives the memory of the least recently used job back that can be rebuilt. False: there is none just now. */
bool engine_evict(struct engine *engine);

/* What changed since the last save, for the store; the caller wraps it in a transaction. */
struct engine_save {
    void *context;
    void (*partition)(void *context, const StoredPartition *row);
    void (*run)(void *context, const StoredRun *run);
    /* The records of a run that counted since the last save, while it is open. */
    void (*record)(void *context, const char *job, uint64_t run, uint64_t seq, int64_t offset, const void *data,
                   size_t size);
    void (*closed)(void *context, const char *job, uint64_t run); /* its records may go */
    void (*outputs)(void *context, const StoredOutput *const *outputs, size_t count);
    void (*forgotten)(void *context, const char *job); /* its row may go (rule 20) */
};
void engine_store(struct engine *engine, const struct engine_save *save);
/* The store is a new one: the next engine_store() tells all. False: records are gone with the old one, engine_rebuild(). */
bool engine_store_anew(struct engine *engine);
/* What it knows is not to be trusted, or not whole: as if the store had been found wrong (rule 3). */
void engine_rebuild(struct engine *engine, const char *why);

/* The status of a job as the owner knows it now; NULL: no such job. Free with status_free(). */
Status *engine_status(struct engine *engine, const char *job);
void status_free(Status *status);

/* Counters for figures and for the bench. */
struct engine_counts {
    size_t open_runs, closed_runs, live_jobs, waiting_steps, appends_in_flight, outputs_unsent;
    size_t live_bytes;
    size_t live_jobs_most, woken_most; /* the most there ever were */
    size_t inbox_held, inbox_held_most, inbox_bytes;
    uint64_t inbox_pauses, memory_waits, limit_waits, start_waits;
    size_t asleep;                     /* not in memory: their timers are due some time */
    size_t starts_held;                /* by a rate of their job type: they have not begun */
    uint64_t records_counted, records_rejected, records_duplicate, events, replays, evictions, claims;
    int64_t position, in_pos, out_pos, claim;
    uint64_t journal_bytes, cuts, copied, stubbed, forgotten;
    int64_t cut;
};
void engine_counts(const struct engine *engine, struct engine_counts *out);

#endif
