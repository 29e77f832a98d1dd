/*
 * What the files of the engine share.
 *   engine.c: states, what the host tells, time, life     outputs.c: what the host is told and asked for
 *   ownership.c: claims, doubt     drain.c: giving it up  append.c: records on their way into the journal
 *   proof.c: whether it is still ours
 *   handover.c: moves by plan      takeover.c: their report
 *   readback.c: the journal, judged and confirmed         inbox.c: what was read, and from where
 *   refusals.c: replies, refusals, Marks                  commands.c: what a command does
 *   memory.c: what all this may take
 *   active.c: the runs worked on, their order of use      history.c: jobs made, replayed, asked what they want
 *   turn.c: inputs and commands become appends            wake.c: what a new owner does with the runs it finds
 *   starts.c: runs that a rate keeps from beginning
 *   steps.c: attempts and timers                          outbox.c: what leaves for other jobs
 *   status.c: what the outside sees of a job              save.c: the store
 *   crash.c: crashes of the worker before                 crash_tally.c: what events say of crashes
 *   retention.c: copying forward, cutting, forgetting     copy.c: copies and stubs
 *   remote.c: attempts that are executed outside          queue.c: room, rate, priority, lanes of a queue
 *   task.c: what a queue's worker gets                    report.c: what it answers
 */
#ifndef PERDURE_ENGINE_INTERNAL_H
#define PERDURE_ENGINE_INTERNAL_H

#include "constants.h"
#include "engine/alarm.h"
#include "engine/copy.h"
#include "engine/engine.h"
#include "engine/judge.h"
#include "engine/limits.h"
#include "engine/rules.h"

enum alarm_kind {
    ALARM_CLAIM,   /* engine: may claim (again) */
    ALARM_MARK,    /* engine: a Mark is due */
    ALARM_TRIM,    /* engine: the inbox may be trimmed to trim_to */
    ALARM_RETENTION, /* engine: the claim is old enough for a cut */
    ALARM_STATUS,  /* active: its wait has outlasted the delay */
    ALARM_WAKE,    /* active: a timer or retry of it is due, and it is not in memory; in `wakes` */
    ALARM_TIMER,   /* timer: fires */
    ALARM_RETRY,   /* step: its next attempt may start */
    ALARM_ASK,     /* engine: the owner before has not answered */
    ALARM_TAKEOVER, /* engine: a takeover is to be told though nothing moves */
    ALARM_TIMEOUT, /* step: its attempt has run out of time */
    ALARM_QUEUE,   /* queue: its rate allows more */
    ALARM_TASK,    /* engine: a queue that took no task is tried again */
};

/* An input event that a run will get: seq and t are filled when its turn is built. */
struct input {
    struct input *next;
    Event *event;
    int64_t offset;    /* in the inbox; -1: a step result, a timer */
    uint32_t generation;
    int32_t leader_epoch;
    int64_t t;         /* of the command (rule 30) */
    char *request;     /* NULL: none */
    ReplyTo *reply_to; /* who wants to hear that it was accepted */
    bool watch;        /* ... and how the run ended */
    struct engine *engine; /* that counts `counted` bytes of it; NULL: none */
    size_t counted;
};

struct input_list {
    struct input *head, *tail;
};

enum step_state {
    STEP_WANTED,
    STEP_DELAYED,
    STEP_RUNNING,
    /* Of a step that is executed outside (remote.h). */
    STEP_UNLOGGED, /* its StepScheduled is not in an append yet */
    STEP_HELD,     /* waits for room in its queue */
    STEP_ASKED,    /* its StepDispatched waits for its turn */
    STEP_OUT,      /* somebody outside executes it, or will */
};

struct step {
    struct step *next;
    struct active *active;
    uint64_t op;
    uint32_t attempt;
    enum step_state state;
    bool wanted; /* the replayed job asked for it (again) */
    const struct callable *callable;
    char *name;
    uint64_t input_digest;
    const Payload *input; /* the job's */
    struct step_policy policy;
    Site *site;
    char *label;
    int64_t first_started_ms;
    int64_t started_ms;
    int64_t began_monotonic_ms;
    struct alarm alarm; /* RETRY or TIMEOUT */
    const pdr_decl *decl;
    struct remote *remote; /* executed outside; NULL: here */
    struct limit_waiter limit; /* of an attempt that runs here */
};

struct timer {
    struct timer *next;
    struct active *active;
    uint64_t op;
    int64_t fire_at;
    struct alarm alarm;
};

struct watcher {
    struct watcher *next;
    uint64_t run;
    char *request;
    ReplyTo reply_to;
};

/* A run that the owner works on: it has a stack, inputs, steps, an append in flight, or watchers. */
struct active {
    struct run *head;   /* judged state of the job id */
    struct engine *engine;
    uint64_t run;       /* the run we work on: head->run, or one whose start is not confirmed yet */
    uint64_t seq;       /* including the append in flight */
    digest digest;
    int64_t t;
    pdr_job *job;       /* NULL: evicted, or not replayed yet */
    Payload *input;     /* of the job, for its status; NULL: not known yet */
    struct input_list inputs;
    Event **outgoing;   /* command events taken from the job, not yet in an append */
    size_t outgoing_count, outgoing_next, outgoing_capacity;
    struct append *in_flight;
    struct step *steps;
    struct timer *timers;
    struct watcher *watchers;
    struct stop *stops; /* to workers, when all is confirmed */
    bool known;         /* `steps` are all that the run has, also while it is evicted */
    struct start_wait *start; /* its place with the rate of its job type; NULL: it has none */
    uint64_t begun;     /* the run that such a rate has let in here */
    size_t running_steps;
    struct alarm status_alarm;
    struct alarm wake_alarm;
    int64_t due_else;        /* evicted while a step waited for memory: when it is due for something else; 0: it was not */
    bool woken;         /* in the engine's list of those */
    struct active *woken_next, *woken_before;
    int64_t moved_ms;     /* monotonic: its last append */
    int64_t unshown_ms;   /* monotonic: since when its status record is behind */
    bool status_due;    /* is to be published as soon as nothing is in flight */
    bool untold;        /* ... and the owner before may not have shown it: status_untold() */
    bool ending;        /* a terminal event is in an append or counted */
    bool split;         /* its last append holds a part of a turn only */
    bool crash_pending; /* its inputs begin with a crash (a start before it): logged before any of its code runs */
    bool parked;        /* diverged, broken, module missing: absorbs without running (rule 12) */
    const char *parked_state; /* "diverged", "quarantined", "waiting" */
    char *report;
    bool queued;
    struct active *next_queued;
    struct active *newer, *older; /* least recently used order of those with a stack */
    bool in_lru;
    int64_t used_ms; /* monotonic: put into that order */
    size_t bytes;
};

/* Own records that their acknowledgement stood for (rule 7), and that are yet to be read: these offsets. */
struct ahead {
    int64_t from, to;
    uint64_t digest[READ_AHEAD]; /* of the record at an offset: [offset % READ_AHEAD] */
};

/* An append on its way: sent, not yet confirmed. In the order of their counter n. */
struct append {
    struct append *next;
    size_t counted; /* memory.c */
    uint32_t kind; /* Perdure__V1__Kind */
    uint64_t n;
    uint64_t cookie;
    void *data;
    size_t size;
    Header *header;        /* for display and for judging it when it is read back; one block */
    struct active *active; /* EVENT */
    Event **events;
    size_t count;
    digest after;
    struct input_list inputs;
    Position in_pos;
    bool acked;
    bool read_back;
    int64_t offset;        /* read back at */
    int64_t known_offset;  /* from the delivery report, -1 */
    int64_t append_ms;     /* of a claim: the log's clock */
    int64_t deadline;      /* monotonic */
};

/* One inbox record that was read: in order of offsets. */
/* PARKED: pending, and to be read again when its slot has moved (rule 25). */
enum inbox_state { INBOX_PENDING, INBOX_DONE, INBOX_IN_MARK, INBOX_PARKED };
struct inbox_entry {
    int64_t offset;
    int64_t append_ms;
    size_t size; /* counted in inbox_bytes; 0: not */
    enum inbox_state state;
    bool a_moment; /* inbox_keep() */
};

/* A reply that may leave when in_pos is confirmed beyond `offset` (rule 15). */
struct held_reply {
    struct held_reply *next;
    int64_t offset;
    size_t counted; /* memory.c */
    ReplyTo reply_to;
    Reply *reply;
};

/* A refusal to a job that waits for a Mark. */
struct held_refusal {
    struct held_refusal *next;
    int64_t offset; /* of the refused command */
    size_t counted; /* memory.c */
    bool in_mark;   /* stands in a Mark that is on its way */
    Refusal *refusal;
};

struct outbox_entry {
    struct outbox_entry *newer, *older;  /* all unsent, by (offset, index) */
    struct outbox_entry *next_to_target;
    struct outbox_target *target;
    int64_t offset;  /* of the record that it follows from */
    uint32_t index;
    uint32_t partition;
    void *data;
    size_t size;
    size_t counted;  /* memory.c */
    bool confirmed;
    bool sending;
    bool forward;          /* a command of another partition's slot: `inbox_offset` is done when it is delivered */
    int64_t inbox_offset;
    uint32_t from_slot;    /* of the sending job; SLOT_COUNT: none */
    uint32_t slot;   /* in outbox.slots while sending */
    struct outbox_task *task; /* NULL: a command to a job */
};

/* Entries to one job go one after the other (rule 11). */
struct outbox_target {
    struct outbox_target *next;
    char *job;
    struct outbox_entry *head, *tail;
    bool busy;
};

struct send_slot {
    struct outbox_entry *entry;
    uint32_t generation;
};

struct outbox {
    struct outbox_entry *oldest, *newest;
    struct outbox_entry *forwards, *forwards_newest; /* the same lists, of what stands in no journal */
    struct outbox_target **targets;
    size_t target_capacity;
    struct send_slot *slots;
    size_t slot_count;
    uint32_t next_generation;
    size_t unsent, sending;
    int64_t confirmed_below; /* no truncation takes what was acknowledged: out_pos reaches so far */
    bool changed;
};

struct queued_output {
    struct queued_output *next;
    struct engine_output output;
    void *owned[4]; /* freed when the next output is taken */
    Reply *owned_reply;
};

/* Records of open runs that counted and are not in the store yet. */
struct unsaved_record {
    struct unsaved_record *next;
    struct unsaved_record *next_in_bucket; /* later ones of runs whose ids share a bucket */
    char *job;
    uint64_t run;
    uint64_t seq;
    int64_t offset;
    size_t size;
    unsigned char data[];
};

/* Unsaved records by run, in the order of the journal: a takeover asks for those of each open run. */
#define UNSAVED_BUCKETS 4096
struct unsaved_bucket {
    struct unsaved_record *head, *tail;
};

/* Retention: the table on top of retention.c says what each phase is. */
enum retention_phase { RETENTION_IDLE, RETENTION_LOOKING, RETENTION_MARKING, RETENTION_COPYING, RETENTION_COPIED,
                       RETENTION_CUTTING, RETENTION_CLAIMING };

struct forgotten_job {
    struct forgotten_job *next;
    uint64_t run; /* its records go too; 0: they went before */
    char job[];
};

struct retention {
    enum retention_phase phase;
    struct alarm alarm;
    bool age_is_due;
    int64_t cut;               /* of the pass under way */
    size_t place, capacity;    /* in the table of runs */
    struct run *run;           /* waited for, or copied now: it appends nothing meanwhile (rule 18) */
    struct copy_run copy;
    size_t parts_sent;
    size_t in_flight;
    int64_t top;               /* outputs of records up to here must be sent before the cut */
    uint64_t copied_bytes;     /* of the pass under way; then of the last one */
    uint64_t copied_before;
    uint64_t runs;
    int64_t claimed_ms;
    uint64_t events_at_claim;
    bool mark_sent;            /* of MARKING */
    int64_t retry_ms;          /* monotonic: no pass before */
    uint64_t cut_n;            /* counter of the Mark with the cut */
    uint64_t journal_bytes, claim_bytes; /* read, from the log's start and since the current claim */
    /* What is known of the inbox: all that the log appended to it before read_ms was read. */
    int64_t read_ms, asked_ms;
    int64_t mark_read_ms, clean_ms; /* the same of what lies below in_pos of the Mark in flight, of the last confirmed */
    Position mark_pos, clean_pos;
    struct forgotten_job *forgotten; /* since the last save */
};

/* What moves a partition by plan: handover.c. The first three are in the store. */
struct handover {
    char owner[128];     /* who claimed last; "": nobody yet */
    int64_t leaving_ms;  /* it said that it is to give the partition up, in so long; 0: it did not */
    int64_t first_asked_ms; /* the log's clock when it was first asked after it said so; 0: not yet */
    int64_t last_ms;     /* the log's clock at the last record that counted; 0: not known */
    bool released;       /* that record was its Release */
    bool asked;          /* we asked it */
    uint64_t ask_nonce;
    bool asked_for;      /* we own it and were asked */
    bool say_leaving;    /* the next Mark says so */
    struct alarm alarm;
};

/* A command to the partition that waits until slots have moved. */
struct slot_command {
    struct slot_command *next;
    int64_t offset;
    uint32_t version;
    uint32_t partition; /* which says that its slots arrived; else: offers them */
    bool arrived;
};

/* All records of a run in the partition that its slot comes from. */
struct source_run {
    struct source_run *next;
    uint64_t run;
    struct copy_run copy;
};
#define SOURCE_BUCKETS 4096

/* Moving slots (rule 25): slots.c. All of it is empty in a namespace that never grew. */
struct slots {
    struct slot_command *held;
    bool frozen;               /* jobs whose slots leave do not run */
    bool sent;                 /* SlotOut, or SlotIn, is on its way */
    bool unconfirmed;          /* SlotOut, or SlotIn, was read back: nothing follows from it yet (rule 8) */
    struct slot_map claimed;   /* what our claim says of the map */
    /* The new partition's side. */
    uint32_t source_partition;
    int64_t source_end;        /* offset of the SlotOut that was offered; 0: none */
    bool source_asked, source_whole, source_left;
    struct judge *source;
    struct source_run **runs;
    size_t bucket;             /* the next of the source's table to be copied */
    struct run *copying;
    size_t part;               /* of it that was appended last */
};

/* That the partition is ours: proof.c. */
struct proof {
    int64_t sent_ms;  /* monotonic: when the last append was sent that is confirmed */
    bool wanted;      /* something waits for it */
    bool log_is_slow;
    uint64_t slow_n;  /* the last append that was sent when that was found */
};

struct engine {
    struct engine_config config;
    struct engine_limits limits;
    enum engine_state state;
    bool assigned;
    bool began;
    bool from_store;
    bool follow_asked;  /* the host does not know yet from where the journal is wanted */
    struct ahead ahead;
    bool verify_anchor; /* the store's last record has to be read again before anything else */
    struct judge *judge;
    char *stop_reason;

    int64_t wall_ms, monotonic_ms;
    uint64_t random[4];
    struct alarms alarms;
    struct alarm claim_alarm, mark_alarm, trim_alarm;
    int64_t trim_to;

    /* Ownership. */
    uint64_t nonce;       /* of our latest claim */
    struct append *claim; /* not yet read back or not yet acknowledged */
    int64_t claim_backoff_ms; /* once fenced */
    int64_t claim_retry_ms;   /* once a claim failed */
    uint64_t n;
    int64_t own_claim;    /* its offset */
    int64_t claim_skew_ms; /* how far this clock was from the log's when it was appended */
    bool release_sent;
    bool keeps_claim;     /* stops to come back: no Release */
    bool drained;         /* no step may end any more */
    int64_t drain_until;
    struct proof proof;

    /* Appends. */
    struct append *appends, *appends_tail;
    struct append *unread;  /* the first that was not read back; NULL: all were */
    struct append *unacked; /* the first that was not acknowledged */
    size_t append_count;
    uint64_t acked_n;
    uint64_t next_cookie;

    /* Inbox. */
    struct inbox_entry *window;
    size_t window_start, window_count, window_capacity;
    int64_t inbox_next;          /* next offset to read */
    size_t inbox_held, inbox_bytes; /* read and not absorbed by a confirmed record */
    bool inbox_paused;           /* too many of these, or inbox_asks: it is not read */
    bool inbox_asks;             /* the first that is parked names a job type that may be registered since we looked */
    bool inbox_was_read;         /* to its end, since it was followed */
    bool inbox_turns_back;       /* asked to be read from inbox_next: what comes before the host knows is of before */
    uint32_t inbox_generation;
    uint32_t inbox_generation_min; /* the inbox was cut: what is read from now on is of this one or a later */
    Position confirmed_in_pos;
    struct held_reply *held_replies;
    struct held_refusal *held_refusals;
    int64_t refusal_told_ms;     /* monotonic: of a start, to the worker's log */
    size_t refusals_untold;
    bool mark_wanted;
    bool mark_first;
    bool changed_since_mark;

    /* Jobs. */
    struct active *runnable, *runnable_tail;
    struct active *lru_newest, *lru_oldest;
    size_t live_jobs, live_bytes, running_steps;
    int64_t histories_below;
    size_t replays_this_turn;
    struct limit_line admitted;        /* steps for which a limit has room now */
    struct limit_line let_in;          /* runs for which the rate of their type has: starts.c */
    size_t starts_held;                /* by such a rate */
    struct limit_line short_of_memory; /* steps that may begin when the budget has room */
    struct alarms wakes;      /* jobs to be brought back, by when they are due: wake.c */
    struct active *woken;     /* brought back for that, and not at rest again */
    size_t woken_count;
    size_t untold_count;
    int64_t wakes_ms;         /* when wake_budget was filled, monotonic */
    size_t wake_budget;
    struct active *alone;     /* brought into memory though there is no room */
    size_t memory_used, memory_intake; /* of config.memory, by this engine */

    struct held_crash *crashes; /* of the worker before */
    struct retention retention;
    struct handover handover;
    struct engine_takeover takeover;
    bool takeover_open;       /* not told yet */
    int64_t takeover_from_us; /* its present stage began */
    struct alarm takeover_alarm;

    struct outbox outbox;
    struct slots slots;
    struct queued_output *outputs, *outputs_tail, *taken;
    struct unsaved_record *unsaved, *unsaved_tail;
    struct unsaved_bucket *unsaved_buckets; /* NULL until there is one */
    size_t unsaved_bytes, unsaved_limit;    /* beyond it, those of runs that have ended go */
    struct loaded {                         /* what the store's rows must give together */
        bool known;
        digest live_hash;
        uint64_t live_count, closed_count;
    } loaded;
    bool records_stored;                    /* the host's store has some that we have not */
    bool history_lost;                      /* it gave a history that is not the run's: judge->error says which */
    uint32_t histories_lost;                /* how often */
    int64_t histories_lost_ms;
    struct engine_counts counts;
    bool partition_changed;
    struct queue *queues;
    struct alarm task_alarm;
};

/* engine.c */
void engine_stop(struct engine *engine, const char *format, ...) __attribute__((format(printf, 2, 3)));
uint64_t engine_random(struct engine *engine);
void engine_take_turns(struct engine *engine);
int64_t engine_due(const struct engine *engine, int64_t wall_ms); /* monotonic time of a wall time */

/* outputs.c */
struct queued_output *engine_put(struct engine *engine, enum engine_output_kind kind);
void engine_put_notice(struct engine *engine, enum engine_output_kind kind, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void engine_note(struct engine *engine, const char *format, ...) __attribute__((format(printf, 2, 3)));
void outputs_drop_appends(struct engine *engine);
void outputs_clear(struct engine *engine);

/* append.c */
void header_init(struct engine *engine, Header *header, uint32_t kind);
/* Sends `record` as the next append of this epoch. */
struct append *engine_append(struct engine *engine, Record *record);
/* A record that no reader counts and nobody waits for. */
void engine_append_uncounted(struct engine *engine, Record *record);
void append_free(struct append *append);
void appends_forget(struct engine *engine);

/* ownership.c */
static inline bool engine_owns(const struct engine *engine)
{
    return engine->state == ENGINE_OWNER || engine->state == ENGINE_DRAINING;
}
void engine_claim(struct engine *engine, const char *cause);
void engine_claim_again(struct engine *engine); /* rule 17: an owner with nothing in flight; it stays one */
void engine_on_claim(struct engine *engine, const struct log_record *record); /* any claim that counts was read */
void engine_on_claim_delivered(struct engine *engine, enum log_delivery delivery, int64_t offset);
void engine_disown(struct engine *engine, const char *why);
void engine_doubt(struct engine *engine, const char *why); /* rule 5 */
void engine_let_go(struct engine *engine);

/* proof.c */
void proof_reset(struct engine *engine);
bool proof_holds(struct engine *engine); /* false: begin nothing; it goes on by itself when there is one */
int64_t proof_until(const struct engine *engine); /* monotonic: not after this */
bool proof_wants_mark(const struct engine *engine);
void proof_confirmed(struct engine *engine, const struct append *append);
void proof_look(struct engine *engine);

/* drain.c */
bool engine_takes_turns(const struct engine *engine);
void engine_drain(struct engine *engine);
void drain_begin(struct engine *engine);
void drain_end(struct engine *engine);

/* handover.c */
void handover_caught_up(struct engine *engine);
void handover_on_alarm(struct engine *engine);
bool handover_stays(struct engine *engine);
int64_t handover_leaving(struct engine *engine);
void handover_on_record(struct engine *engine, const struct log_record *record, const Record *decoded,
                        enum judge_verdict verdict);
void handover_reset(struct engine *engine);

/* takeover.c */
void takeover_begin(struct engine *engine);
void takeover_count(struct engine *engine, size_t size);
void takeover_read(struct engine *engine);
void takeover_claims(struct engine *engine);
void takeover_claimed(struct engine *engine, int64_t append_ms);
void takeover_owned(struct engine *engine);
void takeover_progress(struct engine *engine);
void takeover_tell(struct engine *engine);
void takeover_end(struct engine *engine);

/* readback.c */
void engine_follow(struct engine *engine); /* the journal, from where it is judged to */
void engine_on_journal(struct engine *engine, const struct log_record *record);
void engine_on_journal_end(struct engine *engine, int64_t end);
void engine_confirm(struct engine *engine);
bool engine_read_ahead(struct engine *engine, struct append *append); /* it was acknowledged; true: that stood for reading */
void engine_distrust(struct engine *engine); /* the store, or all that was judged (rule 3) */

/* active.c */
struct active *active_of(struct engine *engine, struct run *head); /* finds or makes */
void active_enqueue(struct active *active);
void active_dequeue(struct active *active);
void active_touch(struct active *active); /* it has a stack and was just used */
void active_park(struct active *active, const char *state, const char *report);
void active_set_input(struct active *active, const Event *started);
void active_drop_job(struct active *active);
void active_free(struct active *active);
void active_settle(struct active *active); /* frees it when nothing is left to do */
void actives_evict(struct engine *engine);
bool active_evict_oldest(struct engine *engine); /* false: none of the next few can be */
bool active_is_at_rest(const struct active *active); /* nothing of it runs, is queued, unconfirmed or due */
void watchers_answer(struct active *active);
void input_push(struct active *active, struct input *input);
void input_free(struct input *input);
/* Of what leads to an event, and is not in the inbox. NULL: no memory. */
struct input *input_of_inside(void);
void inputs_append(struct input_list *list, struct input *input);
struct input *inputs_take(struct input_list *list);
void inputs_clear(struct input_list *list);

/* crash.c */
void crashes_attach(struct engine *engine, bool again); /* again: what was not confirmed was dropped */
void crash_attach_start(struct active *active);         /* a start was absorbed: is there a crash of that run? */
void crash_fill(const struct active *active, Event *event);
bool crash_is_over(const struct active *active, struct append *append); /* confirmed: it may run again, or is resumed */
bool crash_parks(struct active *active);                /* quarantined, by its history */
const char *crash_of_attempt(const struct active *active, uint64_t op, uint32_t attempt); /* reason; NULL: it did not */
/* True: nothing else runs before these are confirmed; `run`: it runs them, if they are not on their way. */
bool crashes_come_first(struct engine *engine, bool run);
void crashes_clear(struct engine *engine);

/* memory.c */
void memory_add(struct engine *engine, size_t bytes);
void memory_subtract(struct engine *engine, size_t bytes);
void memory_add_intake(struct engine *engine, size_t bytes);
void memory_subtract_intake(struct engine *engine, size_t bytes);
void memory_add_unsaved(struct engine *engine, size_t bytes);
void memory_subtract_unsaved(struct engine *engine, size_t bytes);
bool memory_admits(struct engine *engine, struct active *active); /* its job may be made */
bool memory_has_room(const struct engine *engine);
bool memory_admits_attempt(const struct engine *engine, const struct active *active);
void memory_begin_attempt(struct engine *engine);
void memory_end_attempt(struct engine *engine);
/* Nothing more is to be read, as far as that can be: all is used up, or what was read takes more than its share / `part`. */
bool memory_stops_intake(const struct engine *engine, size_t part);
void memory_release(struct engine *engine); /* all that this engine has counted */

/* history.c */
bool active_new_job(struct active *active, const char *type);
bool active_replay(struct active *active);
/* The run's events, each to be event_free()d, and the array; NULL: they cannot be read. */
Event **active_events(struct active *active, size_t *count);
void active_take(struct active *active);

/* retention.c */
void retention_init(struct engine *engine);
void retention_begin(struct engine *engine);   /* the partition is ours: since the claim just read */
void retention_abort(struct engine *engine);   /* the epoch is over: what was copied in it counts for no cut */
void retention_free(struct engine *engine);
void retention_run(struct engine *engine);     /* a little of what is to be done */
bool retention_wants_run(const struct engine *engine);
bool retention_wants_mark(const struct engine *engine);
bool retention_wants_claim(const struct engine *engine);
bool retention_holds(const struct engine *engine, const struct active *active);
int64_t retention_mark(struct engine *engine, const Position *in_pos); /* a Mark is built: its cut, 0: none */
void retention_mark_sent(struct engine *engine, uint64_t n);
void retention_mark_confirmed(struct engine *engine, uint64_t n);
void retention_confirmed(struct engine *engine); /* a copy or a stub */
void retention_on_read(struct engine *engine, size_t size);
void retention_on_inbox(struct engine *engine, int64_t append_ms);
void retention_on_alarm(struct engine *engine);
void retention_sweep(struct engine *engine);

/* wake.c */
void wake_runs(struct engine *engine);
void wake_at(struct active *active, int64_t due); /* monotonic; nothing is due that comes later */
void wake_clear(struct active *active);
void wakes_take(struct engine *engine);           /* as many as are admitted now */
int64_t wakes_next(const struct engine *engine);
int64_t active_rests(const struct active *active); /* for a record's header */
void active_load_input(struct active *active);

/* turn.c */
void turn_run(struct active *active);
bool turn_makes_job(const struct active *active); /* it is not in memory, and will be */
void turn_confirmed(struct active *active, struct append *append);
void turn_rewind(struct active *active); /* what was not confirmed is to be built again */

/* starts.c */
bool start_is_limited(const struct active *active, const char *type); /* by a rate of that type, and not let in yet */
bool start_is_held(struct active *active, const char *type); /* the same, and it is not let in now: it stands in line */
bool start_waits(const struct active *active);               /* it stands in line */
bool start_was_held(const struct active *active);            /* it was let in, and its history does not tell yet */
void start_has_begun(struct active *active);                 /* once its first turn is confirmed and may act */
void start_leave(struct active *active);                     /* it gives its place up, and has to be let in anew */
void starts_leave(struct engine *engine);
void starts_let_in(struct engine *engine);                   /* those whose turn has come */
int64_t starts_next(const struct engine *engine);
void start_note_rest(struct active *active);
Waiting *start_waiting(const struct active *active);         /* while start_waits(); NULL: no memory */

/* steps.c */
void step_want(struct active *active, const struct job_command *command);
void step_abandon(struct active *active, uint64_t op);
void steps_start(struct active *active); /* what is wanted and allowed now (rule 8) */
void steps_start_admitted(struct engine *engine); /* those for which a limit has room by now */
int64_t steps_next_admitted(const struct engine *engine);
bool step_waits_for_memory(const struct step *step);
void steps_clear(struct active *active, bool abandon);
void steps_forget_job(struct active *active); /* the job is gone; running attempts go on */
void step_on_alarm(struct engine *engine, struct step *step);
void timer_arm(struct active *active, uint64_t op, int64_t fire_at);
void timer_disarm(struct active *active, uint64_t op);
void timers_clear(struct active *active);
void timer_on_alarm(struct timer *timer);

struct step *step_find(const struct active *active, uint64_t op);
/* The attempt is over: its event, with the input that carries it (NULL: a new one, not of the inbox). */
void step_ended(struct step *step, struct attempt_outcome *outcome, int64_t started_ms, struct input *input);
void step_end_with_error(struct step *step, int code, const char *type, const char *message, bool final);
void steps_drop_remote(struct active *active); /* told to nobody */
void steps_drop_unwanted(struct active *active); /* after a replay: remote ones that the job does not wait for */

/* inbox.c */
void inbox_begin(struct engine *engine);
void inbox_follow(struct engine *engine); /* from inbox_next */
void inbox_go_on(struct engine *engine);  /* if it was paused, and there is room again */
void inbox_end(struct engine *engine, int64_t end);
void inbox_record(struct engine *engine, const struct log_record *record);
struct inbox_entry *inbox_find(struct engine *engine, int64_t offset); /* NULL: behind us */
void inbox_done(struct engine *engine, int64_t offset);
void inbox_park(struct engine *engine, int64_t offset);
void inbox_ask(struct engine *engine, int64_t offset); /* parked, and nothing behind it is read, until engine_on_types() */
void inbox_keep(struct engine *engine, int64_t offset, bool a_moment);
bool inbox_is_heard(const struct engine *engine);
void inbox_reread(struct engine *engine); /* from the first that is parked */
/* Append time of the lowest input that is not behind in_pos; -1: all that was read is. */
int64_t inbox_low_ms(const struct engine *engine, const Position *in_pos);
Position inbox_low(const struct engine *engine, bool in_mark);
void inbox_reset(struct engine *engine);

/* refusals.c */
void inbox_release_replies(struct engine *engine);
bool inbox_replies_could_go(const struct engine *engine); /* with another Mark */
void inbox_refuse(struct engine *engine, int64_t offset, const Header *header, const Command *command,
                  const char *code, const char *format, ...) __attribute__((format(printf, 6, 7)));
void inbox_answer(struct engine *engine, int64_t offset, const ReplyTo *to, Reply *reply);
void engine_mark(struct engine *engine);
void inbox_mark_confirmed(struct engine *engine);
bool inbox_has_refusals(const struct engine *engine); /* that no Mark carries yet */

/* commands.c */
/* A command that was read. */
struct command_context {
    struct engine *engine;
    const struct log_record *at;
    const Header *header;
    Command *command;
    Payload *payload; /* a start's or signal's, a copy: the record's own goes with the record */
};
struct input *input_make(const struct command_context *c);
/* The run that a command is for; NULL: answered. */
struct active *command_target(const struct command_context *c);
bool command_is_alive(const struct command_context *c); /* else it is refused (rule 14) */
void command_dispatch(struct command_context *c);

/* slots.c */
struct slots_context {
    const struct log_record *at;
    const Header *header;
    const Command *command;
};
bool slots_allow_cut(const struct engine *engine); /* rule 17: the journal may begin with our claim */
bool slots_want_out(const struct engine *engine);
bool slots_run(struct engine *engine); /* false: jobs wait for a moment */
bool slots_keep(const struct engine *engine, const char *job); /* false: it leaves, and does not run any more */
void slots_stand_still(struct active *active); /* in place of its turn */
bool slots_command(struct engine *engine, const struct slots_context *context); /* false: it is for a job */
/* Parks or forwards a command that is not for now, or not for here. True: done with it. */
bool slots_elsewhere(struct engine *engine, const struct log_record *record, const char *job);
bool slots_are_here(const struct engine *engine); /* false: a new partition, before its SlotIn */
void slots_on_out(struct engine *engine, const SlotOut *out, int64_t offset);
void slots_on_in(struct engine *engine, const SlotIn *in, int64_t offset);
void slots_confirmed(struct engine *engine);
void slots_reset(struct engine *engine); /* what an owner has begun; what was judged and read stays */
void slots_clear(struct engine *engine);
void slots_genesis(const struct engine *engine, Genesis *genesis); /* what a Claim says of the map */

/* outbox.c */
void outbox_forward(struct engine *engine, const char *job, int64_t inbox_offset, const void *data, size_t size);
void outbox_to_partition(struct engine *engine, uint32_t partition, int64_t offset, uint32_t index,
                         Perdure__V1__SlotsMoved *moved);
bool outbox_has_leaving(const struct engine *engine); /* of jobs that slots_keep() not */
void outbox_collect(struct engine *engine, struct run *run, const struct judged *judged, int64_t offset);
void outbox_collect_mark(struct engine *engine, const Mark *mark, int64_t offset);
void outbox_confirm(struct engine *engine, int64_t offset); /* entries up to this record may leave */
void outbox_drop_below(struct engine *engine, int64_t out_pos);
void outbox_send(struct engine *engine);
void outbox_delivered(struct engine *engine, uint64_t cookie, enum log_delivery delivery, int64_t offset);
void outbox_forget_sends(struct engine *engine);
int64_t outbox_position(const struct engine *engine);
void outbox_clear(struct engine *engine);
int outbox_restore(struct engine *engine, const StoredOutput *stored);
/* Takes over `task` and `data`; NULL data: made from the history when it goes. */
bool outbox_put_task(struct engine *engine, const char *job, int64_t offset, uint32_t index, struct outbox_task *task,
                     void *data, size_t size);
const char *outbox_task_job(const struct outbox_entry *entry);
#define COOKIE_SEND (UINT64_C(1) << 63)

/* status.c */
void status_publish(struct active *active);
void status_untold(struct active *active, bool untold);
int64_t statuses_shown_until(const struct engine *engine);
void status_schedule(struct active *active, bool at_once);
void status_on_alarm(struct active *active);
Status *status_make(struct engine *engine, struct run *head);
Reply *reply_make(const char *answer, const char *request, bool final);
void reply_send(struct engine *engine, const ReplyTo *to, Reply *reply); /* takes the reply */

/* save.c */
void save_note_record(struct engine *engine, const Header *header, int64_t offset, const void *data, size_t size);
void save_clear(struct engine *engine);
/* The first unsaved record of a bucket that holds the run's; go on with next_in_bucket. */
struct unsaved_record *save_unsaved_of(const struct engine *engine, uint64_t run);

#include "engine/remote.h"

#endif
