/*
 * The world of one run: a log in memory, workers with real engines and real jobs, a group that hints, clients, a clock
 * that jumps, and faults. Everything follows from one seed. See main.c for the options.
 */
#ifndef SIM_WORLD_H
#define SIM_WORLD_H

#include <setjmp.h>
#include <string.h>

#include "constants.h"
#include "engine/engine.h"
#include "engine/limits.h"
#include "engine/rules.h"
#include "constants.h"
#include "memory_log.h"
#include "oracle.h"
#include "random.h"

#define WORKERS 3
#define PARTITIONS_MAX 8
#define STREAMS 2
#define APPEND_DEADLINE 3000 /* virtual ms */
#define CLAIM_BACKOFF 300
#define TRIM_DELAY 2000

/* What the world does to the workers; how often each happened is printed. The first ones are the named fault points. */
#define FAULT_MAP(X)                                                       \
    X(CRASH_BEFORE_EFFECT, "crash before an effect")                       \
    X(CRASH_AFTER_EFFECT, "crash after an effect")                         \
    X(CRASH_BEFORE_APPEND, "crash before an append")                       \
    X(CRASH_AFTER_APPEND, "crash after an append, before its report")      \
    X(CRASH_AFTER_REPORT, "crash after the report, before the job goes on") \
    X(CRASH_CLAIM, "crash between claim and read-back")                    \
    X(CRASH_BEFORE_REPLY, "crash before an input is acknowledged")         \
    X(CRASH_BEFORE_STORE, "crash before a store commit")                   \
    X(CRASH_BEFORE_TRIM, "crash before a trim")                            \
    X(CRASH_BEFORE_CUT, "crash before the journal's head is cut")          \
    X(CRASH_ANY, "crash anywhere")                                         \
    X(STALL, "stall at a fault point")                                     \
    X(PAUSE, "worker stopped for long, then goes on")                      \
    X(APPEND_REFUSED, "append fails: not persisted")                       \
    X(APPEND_PERSISTED_FAILED, "append persists, then is reported in doubt") \
    X(APPEND_DOUBT_LOST, "append is lost and reported in doubt")           \
    X(APPEND_VANISHED, "append is lost, nothing reported, later ones land") \
    X(ACK_DROPPED, "append persists, its report is lost")                  \
    X(ACK_NO_OFFSET, "report without an offset")                           \
    X(ACK_IMPLICIT, "lost, and acknowledged without an offset")            \
    X(SEND_REFUSED, "send to an inbox fails: not persisted")               \
    X(SEND_PERSISTED_FAILED, "send persists, then is reported in doubt")   \
    X(SEND_DOUBT_LOST, "send is lost and reported in doubt")               \
    X(SEND_DUPLICATED, "send lands twice")                                 \
    X(SLOW_LANE, "a lane of appends stands still for a while")             \
    X(BATCH_TORN, "crash tears a batch: a prefix lands")                   \
    X(LATE_APPEND, "append of a dead session lands late")                  \
    X(LATE_COPY, "an old journal record lands again")                      \
    X(LATE_COMMAND, "an old command lands again")                          \
    X(HOLE, "an offset without a record")                                  \
    X(PRODUCER_REPLACED, "producer replaced inside a worker")              \
    X(HEAD_REAPPEARS, "the cut head of a journal is back, in part or whole") \
    X(TRUNCATED, "journal loses what was not acknowledged")                \
    X(TRUNCATED_LOSSY, "journal loses acknowledged records")               \
    X(REBALANCE, "partition assigned to another worker")                   \
    X(REVOKE_LATE, "revoked late: two owners by the group")                \
    X(DRAINED, "planned handover")                                         \
    X(ASKED, "an owner is asked for its partition")                        \
    X(STOPPED, "worker told to stop, to come back or for good")            \
    X(STORE_SAVED, "store committed")                                      \
    X(STORE_OLD, "restart from an old store")                              \
    X(STORE_LOST, "restart without the store")                             \
    X(STORE_DAMAGED, "restart from a damaged store")                       \
    X(CLOCK_LEAP, "time leaps")                                            \
    X(CLOCK_SKEW, "a worker's wall clock is set")                          \
    X(COMMAND_OLD, "client command older than LIFE")                       \
    X(COMMAND_REPEATED, "client repeats a command")                        \
    X(START_AGAIN, "client starts a used id again")                        \
    X(FUTURE_EVENT, "an event of a later version")                         \
    X(TASK_REFUSED, "a queue takes no task")                               \
    X(TASK_IN_DOUBT, "a task is in its queue, then reported in doubt")     \
    X(TASK_LATE, "a task waits long in its queue")                         \
    X(TASK_TWICE, "a task is in its queue twice")                          \
    X(TASK_LOST, "a queue loses a task")                                   \
    X(TASK_DECLINED, "a step worker declines a task")                      \
    X(STEP_WORKER_DIES, "a step worker dies with its attempt")             \
    X(HEARTBEAT_LOST, "a heartbeat is lost")                               \
    X(REPORT_LATE, "a report of an end comes late")                        \
    X(REPORT_TWICE, "a report comes twice")                                \
    X(STEP_STOPPED, "a step worker is told to stop")                       \
    X(GROWN, "the namespace grows")                                        \
    X(FORWARDED, "a command for a slot that left is forwarded")            \
    X(SLOTS_ARRIVED, "slots are where they belong")                        \
    X(STEP_FAILED, "a step attempt fails")                                 \
    X(JOB_CRASHED, "code of a job crashes its worker")                     \
    X(STEP_CRASHED, "a step crashes its worker")                           \
    X(TASK_CRASHED, "a step crashes its step worker, which says so")       \
    X(QUARANTINED, "a job is quarantined for its crashes")                 \
    X(RESUMED, "client resumes a quarantined job")                         \
    X(INBOX_PAUSED, "an inbox is held back: too much of it waits")         \
    X(MEMORY_WAITED, "a job waits for memory")                             \
    X(MEMORY_EVICTED, "an idle job is evicted: the worker's memory is used up") \
    X(STEP_LIMITED, "a step waits for a limit of its worker")              \
    X(START_HELD, "a run waits for a rate of its job type")               \
    X(STEP_TIMED_OUT, "a step attempt takes longer than its timeout")      \
    X(OTHER_ENCODING, "an event as another encoder writes it")             \
    X(STATUS_SLOW, "the topic of statuses takes none for a while")         \
    X(STATUS_LOST, "a status is lost with its worker")                     \
    X(STEP_TOO_LATE, "a step attempt is not begun: the proof was too old")

enum fault {
#define FAULT_(name, text) FAULT_##name,
    FAULT_MAP(FAULT_)
#undef FAULT_
    FAULT_COUNT,
};

/* ---- what is counted over all runs (plain numbers: sums over processes) -------------------------------- */
struct tally {
    uint64_t runs, violations, records, journal_records, events, jobs, effects, replays, evictions, claims;
    uint64_t faults[FAULT_COUNT];
    uint64_t transitions[ENGINE_STATE_COUNT][ENGINE_STATE_COUNT];
    uint64_t rules[RULE_COUNT];
    uint64_t endings[8]; /* by terminal kind */
    uint64_t replies[8];
    uint64_t outputs[32]; /* by engine_output_kind */
    uint64_t event_kinds[64];
    uint64_t verdicts[ORACLE_VERDICTS];
    uint64_t cuts, copied, stubbed, forgotten;
};
extern struct tally tally;

/* ---- log and sessions ----------------------------------------------------------------------------------- */
struct inbox_note { /* what the world knows of one inbox record */
    Record *record;
    int64_t append_ms;
    uint32_t absorbed; /* by how many counted records */
    bool refused;
    int64_t copy;      /* client copy, -1: none */
    bool forwarded;    /* the same bytes as in the partition that the slot came from */
    bool twin;         /* another record holds the same bytes */
};

struct pending {
    struct pending *next;
    struct blob *blob;
    uint64_t cookie;
    uint32_t from; /* partition of the engine */
    bool first;    /* not tried yet */
    bool client;
    uint64_t nonce; /* epoch of an append */
    bool again; /* after a truncation: its report has an offset */
    int64_t copy;
};

struct lane { /* one producer session and partition: keeps its order */
    struct pending *head, **tail;
    int64_t not_before;
};

struct report {
    struct report *next;
    uint64_t cookie;
    uint32_t from;
    enum log_delivery delivery;
    int64_t offset;
    int64_t due;
    bool counts_safe; /* acknowledged: the journal is safe up to here */
    int64_t landed;   /* where it really is */
    uint64_t nonce;
};

struct session {
    struct session *next;
    uint64_t id;
    int worker; /* -1: zombie or clients */
    struct lane lanes[STREAMS][PARTITIONS_MAX];
    struct report *reports, **reports_tail;
};

/* ---- workers ----------------------------------------------------------------------------------------------- */
struct task { /* one attempt of a step in a worker's pool */
    struct task *next;
    char *job;
    uint64_t run, op;
    uint32_t attempt;
    const struct callable *step;
    Payload *input;
    int64_t begins, ends;
    int64_t claim;
    int64_t begin_until;
    bool executed;
    struct attempt_outcome outcome;
    int64_t started_ms;
};

struct row { /* of a store */
    enum { ROW_PARTITION, ROW_RUN, ROW_RECORD, ROW_OUTPUTS } kind;
    struct blob *key; /* job id */
    uint64_t run, seq;
    int64_t offset;
    struct blob *value;
};

struct rows {
    struct row *rows;
    size_t count, capacity;
    int64_t position;
};

struct seat { /* one partition on one worker */
    struct engine *engine;
    bool assigned; /* as the group says */
    bool told;     /* as the engine was told */
    bool following[STREAMS];
    int64_t read[STREAMS];
    int64_t end_told[STREAMS];
    bool truncated; /* the journal was cut below what was read: to be told */
    bool out_of_range;
    enum engine_state state;
    uint64_t nonces[64]; /* of the engine's own claims */
    size_t nonce_count;
    uint64_t last_nonce; /* of the claim that it appended last */
    bool own_last_claim; /* that one is the last claim handed to it: an older one that came late tells it nothing */
    bool own_claim; /* the last claim handed to the engine is its own */
    bool claim_pending; /* appended a claim, not read back */
    uint64_t asked_nonce; /* of the last epoch in which it appended; where the journal ended when it did so first */
    int64_t asked_end;
    int64_t fenced_at; /* it is fenced since then, and heard of no Release; -1 */
    struct rows store, old_store;
    bool reads_source; /* the journal of another partition, asked for by READ_SOURCE */
    uint32_t source;
    int64_t source_at, source_end;
    struct task *tasks;
    int64_t stored_at;
    int64_t next_save;
    uint64_t doubted; /* nonce of the epoch in which an append is known to have failed */
    bool unverified; /* loaded, the anchor not read again yet */
    bool damaged; /* the store, and no Mark has told yet */
};

struct worker {
    int id;
    bool alive;
    bool stopping;   /* told to: ends when it owns nothing any more */
    bool restarting; /* its state was torn: crash at the next safe point */
    int64_t asleep_until;
    int64_t restart_at;
    int64_t skew;
    int64_t monotonic_base;
    uint64_t incarnation;
    struct session *session;
    struct engine_memory memory;
    struct limits *limits; /* of this incarnation; NULL: none */
    struct { uint64_t run; int64_t at; } begun[8]; /* of a limited type: the last that began, in a ring */
    size_t begun_count;
    struct seat seats[PARTITIONS_MAX];
    char name[16];
};

struct in_pos_note {
    int64_t ms; /* when the record that says so was appended */
    Position in_pos;
};

/* ---- clients, effects, truth -------------------------------------------------------------------------------- */
enum command_kind { COMMAND_RESUME, COMMAND_START, COMMAND_SIGNAL, COMMAND_CANCEL, COMMAND_TERMINATE, COMMAND_WATCH };

struct request {
    enum command_kind kind;
    char id[24];
    char job[48];
    struct blob *record; /* encoded, correlation 0 replaced per copy */
    Record *decoded;
    int64_t born;
    uint32_t copies, landed;
    bool unique_id; /* the only start of its job id */
    bool sink;      /* a signal to a sink between its start and its stop */
    bool answered;
    bool old;       /* older than LIFE when it was appended */
};

struct copy { /* one inbox record of a client's request; its number is the correlation */
    uint32_t request;
    uint32_t partition;
    int64_t offset; /* -1: did not land */
    uint32_t landed; /* times */
    bool refused, accepted;
    bool forwarded;
};

struct effect { /* ledger: what was really done outside */
    char *job;
    uint64_t run, op;
    uint32_t attempt;
    const char *step;
    uint64_t input_digest;
    uint64_t token;
    int worker;
    uint64_t incarnation;
    int64_t claim;
    uint32_t partition;
    int64_t at;
};

struct shown { /* what a client saw: must be true in the end */
    char *job;
    uint64_t run;
    uint64_t events;
    char state[16];
    uint32_t partition;
};

struct truth_request { /* by request id */
    struct truth_request *next;
    char *id;
    uint32_t starts, signals, cancels;
    uint64_t run;
};

struct profile { /* drawn from the seed: what this run is like; chances in 1 of 10,000 */
    uint32_t partitions;
    unsigned chance[FAULT_COUNT];
    int64_t step_ms; /* longest virtual time of one turn of the world */
    int64_t life_ms;
    int64_t keep_ms;
    int64_t retention_bytes;
    int64_t retention_age_ms;
    size_t retention_records;
    size_t live_jobs;
    size_t turn_bytes;
    size_t tasks_out;
    size_t inbox_records;
    size_t memory; /* of a worker; 0: no limit */
    bool step_limits;
    bool job_rates;
    bool stores;
    bool truncates;
    bool lossy;
    bool leaps;
    uint32_t grow_to; /* 0: it does not grow */
    int64_t grow_at;  /* turn of the world */
    int64_t activity; /* turns of the world with clients */
    unsigned client_chance;
    unsigned land_chance;
    unsigned save_chance;
    bool hands_over; /* the owner before is asked */
};

struct options {
    uint64_t seed;
    bool trace;
    bool no_faults;
    bool lossy; /* truncation of acknowledged records allowed */
    int without;
};

struct status_record;
struct statuses { /* statuses.c */
    struct rng rng;
    struct status_record *rows; /* one a job */
    struct status_record *on_the_way;
    int64_t slow_until;
};

struct world {
    struct options options;
    struct profile profile;
    struct rng faults, schedule, load;
    int64_t now; /* virtual milliseconds since 1970: the log's clock */
    int64_t started;
    uint64_t turn;
    bool quiet;
    bool judged_wrong;
    struct memory_stream streams[STREAMS][PARTITIONS_MAX];
    struct inbox_note *notes[PARTITIONS_MAX];
    int64_t notes_capacity[PARTITIONS_MAX];
    struct oracle oracles[PARTITIONS_MAX];
    struct session *sessions;
    struct session *clients;
    struct worker workers[WORKERS];
    int assigned_to[PARTITIONS_MAX];
    uint64_t log_id;
    struct registry *registry;
    uint64_t token;

    struct request *requests;
    size_t request_count, request_capacity;
    struct copy *copies;
    size_t copy_count, copy_capacity;
    struct effect *effects;
    size_t effect_count, effect_capacity;
    struct shown *shown;
    size_t shown_count, shown_capacity;
    struct truth_request *truth[256];
    char **job_ids; /* used by clients so far */
    size_t job_count, job_capacity;
    size_t sinks_stopped;
    char *unknown_job; /* that got an event of a later version */
    uint64_t unknown_run;
    bool truncated_lossy;
    int64_t last_landed;
    uint64_t session_count;
    struct execution *executions;      /* remote.c */
    struct ask *asks;
    struct report_due *remote_reports;
    uint64_t execution_count;
    uint32_t grown_from; /* partitions before it grew, 0: it did not */
    struct rng growth, others;
    struct in_pos_note *in_pos[PARTITIONS_MAX]; /* as it grew: truth.c */
    size_t in_pos_count[PARTITIONS_MAX];
    bool rejudging; /* after a truncation: other partitions are not whole yet */

    struct statuses statuses;
    struct crashes *crashes;
    jmp_buf bad;
    char violation[512];
};
extern struct world *world; /* the run in progress; steps of jobs look at it */

/* Ends the run: the history is wrong. */
__attribute__((noreturn, format(printf, 1, 2))) void world_bad(const char *format, ...);
__attribute__((format(printf, 1, 2))) void trace(const char *format, ...);
#define TRACING (world->options.trace)
bool fault_now(enum fault fault); /* draws; counts and traces when true */
void fault_count(enum fault fault);

/* world.c */
bool world_run(const struct options *options, char *violation, size_t violation_size);
int64_t world_append(enum log_stream stream, uint32_t partition, struct blob *blob, int64_t copy);
void world_rejudge(uint32_t partition); /* after a truncation */
const char *record_text(const void *data, size_t size); /* for traces; static memory */

/* growth.c: the namespace grows while all goes on (rule 25) */
void growth_draw(struct profile *profile, const struct options *options);
void growth_turn(void);
bool growth_is_over(void);
void growth_genesis(uint32_t partition, Genesis *genesis); /* of a Claim, by what its journal says */
struct oracle *growth_oracle(const char *job);             /* where its history goes on */
struct oracle_run *growth_find_run(const char *job, uint64_t run); /* in whichever partition */
bool growth_holds(const struct oracle_run *run, uint32_t partition); /* false: its copy in another partition is the history */
uint32_t growth_client_partition(const char *job);         /* of a client that may have opened long ago */
void growth_note(uint32_t partition, int64_t offset);      /* an inbox record: is it a forwarded one? */
bool growth_is_forward(uint32_t partition, const struct engine_output *out);
bool growth_reply(const Reply *reply, uint32_t partition); /* an answer to the command that made it grow */
void growth_oracles(void);
bool growth_move_is_true(uint32_t partition, uint32_t to, const Perdure__V1__SlotsMoved *moved);
int64_t growth_started_ms(const struct oracle_run *run);    /* when its start first counted */
bool growth_overtook(const struct inbox_note *first, const char *start); /* they took different ways: order is not kept */

/* sessions.c */
struct session *session_new(int worker);
void session_push(struct session *session, enum log_stream stream, uint32_t partition, const struct pending *pending);
void session_orphan(struct session *session); /* its worker is gone: what is queued may land late, or never */
void session_free(struct session *session);
bool sessions_turn(void); /* lands some of what is queued; true when something happened */
void session_tell(struct session *session, uint32_t from, uint64_t cookie, enum log_delivery delivery, int64_t offset);
bool session_is_empty(const struct session *session);
void sessions_drop_zombies(void);
void journal_truncate(uint32_t partition, bool lossy);

/* worker.c */
void worker_start(struct worker *worker);
void worker_crash(struct worker *worker);
void worker_stop(struct worker *worker, bool leave);
bool worker_turn(struct worker *worker); /* one turn of its driver; true when something happened */
bool seat_pump(struct worker *worker, uint32_t partition, bool all);
int64_t worker_wall(const struct worker *worker);
int64_t worker_next(const struct worker *worker); /* virtual time at which it wants to be called */
void worker_free(struct worker *worker);
void seat_start(struct worker *worker, uint32_t partition);
struct engine *seat_engine_new(struct worker *worker, uint32_t partition, struct rows *store);

/* store.c */
void rows_copy(struct rows *to, const struct rows *from);
void rows_clear(struct rows *rows);
bool rows_save(struct rows *rows, struct engine *engine, bool torn); /* one transaction */
void rows_load(const struct rows *rows, struct engine *engine);
void rows_damage(struct rows *rows);
int rows_history(const struct rows *rows, const char *job, uint64_t run,
                 bool (*visit)(void *context, int64_t offset, const void *record, size_t size), void *context);

/* clients.c */
void clients_turn(void);
void client_resume(const char *job);
void clients_stop_sinks(void);
void clients_reply(const Reply *reply, uint32_t partition);
void clients_free(void);

/* truth.c: what is checked while the run goes on */
void truth_on_record(uint32_t partition, int64_t offset, const Record *record, enum oracle_verdict verdict,
                     struct oracle_run *run, uint64_t seq_before);
void truth_on_output(struct worker *worker, uint32_t partition, const struct engine_output *out);
void truth_check_family(const struct oracle_run *run); /* parents and children agree, at the end */
void truth_on_effect(const struct effect *effect);
void truth_on_claim(const struct worker *worker, uint32_t partition);
void truth_forget_positions(void);
void truth_clear(void);
void truth_check_store(uint32_t partition, const struct rows *rows, const char *who);

/* statuses.c */
void statuses_put(const struct worker *worker, const struct engine_output *out);
void statuses_forgotten(const char *job);
void statuses_turn(void);
void statuses_orphan(const struct worker *worker); /* its client is gone */
int64_t statuses_unshown(void *context, uint32_t partition); /* engine_host.unshown; the context is the seat's store */
void statuses_check(void);
void statuses_free(void);

/* remote.c */
bool remote_turn(void); /* of the queues and their workers */
int64_t remote_next(void);
bool remote_is_idle(void);
void remote_put_task(struct worker *worker, uint32_t partition, const struct engine_output *out);
void remote_reply(const Reply *reply);
void people_ask(const char *token, const char *input, unsigned value); /* somebody will complete this attempt */
void remote_free_all(void);

/* checks.c: what is checked when all is quiet */
void checks_at_end(void);

/* jobs.c */
const pdr_module *sim_module(void);
uint64_t effect_begin(void); /* token of the effect in progress */
bool job_expected(const char *type, const char *input, uint64_t *value); /* result of a fault-free run */

/* Empty bytes may have no address at all, which memcpy() and memcmp() must not be given. */
static inline bool bytes_equal(ProtobufCBinaryData a, ProtobufCBinaryData b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

/* Copies at most size - 1 bytes; the rest of `out` stays zero. */
static inline void bytes_text(char *out, size_t size, ProtobufCBinaryData bytes)
{
    memset(out, 0, size);
    if (bytes.len > 0)
        memcpy(out, bytes.data, bytes.len < size ? bytes.len : size - 1);
}

/* crashes.c */
void crashes_begin(void);
void crashes_end(void);
void crashes_run(struct worker *worker, struct engine *engine, bool bring_back); /* engine_run(), in which code of jobs may crash */
bool crashes_in_step(struct worker *worker, const struct task *task);
bool crashes_in_task(const Perdure__V1__Task *task);
void crashes_tell(const struct worker *worker, uint32_t partition, struct engine *engine);
void crashes_done(const struct worker *worker, uint64_t id);
bool crashes_resume(bool all);
int64_t crashes_next(void);

#endif
