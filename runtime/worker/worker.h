/*
 * The worker: drives the engines of the partitions it is assigned. One thread polls the log, feeds the engines and
 * carries out what they want; a pool runs the steps. What the files share.
 */
#ifndef PERDURE_WORKER_H
#define PERDURE_WORKER_H

#include <perdure/perdure.h>
#include <pthread.h>
#include <stdatomic.h>

#include "engine/engine.h"
#include "engine/limits.h"
#include "log/log.h"
#include "store/store.h"
#include "worker/data_dir.h"
#include "worker/queue_options.h"
#include "worker/step_pool.h"

/* An append or send that the log had no room for: goes out before anything later of the same partition's stream. */
struct postponed {
    struct postponed *next;
    enum log_stream stream;
    uint32_t partition;
    uint64_t cookie;
    char *key;
    size_t size;
    unsigned char data[];
};

struct postponed_lane {
    size_t count;
    uint64_t full_round; /* of the worker's rounds of sending: when the log had no room for it */
};

/* Cookies of the log name the partition and the engine's own cookie. */
struct cookie_slot {
    uint32_t partition;
    uint32_t generation;
    uint64_t cookie;
    bool used;
};

struct worker_partition {
    struct engine *engine; /* NULL: not ours */
    uint32_t generation;   /* counts engines: deliveries for an earlier one are dropped */
    bool assigned;
    bool owned;
    bool standby;          /* followed, not assigned */
    bool engine_ends;      /* when its outputs are carried out: it cannot be followed, or stopped while it was given up */
    bool read_to_end;      /* at least once since it is followed, or owned */
    bool none_to_evict;
    int64_t standby_from_ms; /* not before */
    char *stopped;         /* why it cannot be worked on, until this process ends; NULL: it can */
    int64_t owned_at_ms;
    uint64_t replayed_jobs, replayed_events;
    int64_t replayed_us;
};

struct pdr_worker {
    pdr_worker_options options;
    char *log_uri;
    char *name;
    char boot_id[40];
    struct registry *registry;
    struct data_dir data;
    bool data_is_open;
    struct log *log;
    pthread_mutex_t log_mutex; /* of the pointer: threads of the pool wake the log */
    struct store *store; /* NULL: there is none now */
    bool store_in_log;
    bool store_ill;      /* and that was said */
    int64_t store_retry_ms, store_look_ms;
    struct step_pool *pool;
    struct queue_options *queue_options; /* NULL: nothing is limited */
    struct limits *limits;               /* of steps that run here */
    struct worker_partition *partitions;
    uint32_t partition_count;
    uint32_t chance;            /* who is the first in a turn */
    uint32_t next_brought_back; /* who is the next whose jobs that are due are replayed, counted on */
    struct known_types *known_types;
    struct cookie_slot *slots;
    size_t slot_count, slot_hint;
    struct postponed *postponed, *postponed_tail;
    struct aside *aside; /* aside.c */
    bool aside_waits;    /* for room in the log */
    struct postponed_lane *lanes; /* of each partition: journal, inbox */
    uint64_t postponed_round;
    int64_t queue_notice_ms;      /* monotonic: not said before that a queue takes nothing */
    int64_t saved_ms;
    bool map_asked;          /* the namespace may have more partitions than we know (rule 24) */
    int64_t map_retry_ms;
    struct log *grown_log;   /* open on the namespace as it is now: taken when all partitions are given back */
    struct source_reader *sources, *sources_ending;
    atomic_bool stopping;
    atomic_bool leaving;   /* for good: what it owns is released */
    bool draining;
    int64_t next_standby_ms;
    int64_t next_complaint_ms; /* when partitions that are stopped are named again */
    struct engine_memory memory;
    int64_t next_memory_notice_ms;
    struct engine_counts gone; /* of partitions that were given back: sums, and the most of one */
    bool failed;
    int code;
    char error[1024];
};

int64_t worker_wall_ms(void);
int64_t worker_monotonic_ms(void);
int64_t worker_monotonic_us(void *unused);
void worker_notice(struct pdr_worker *worker, int level, const char *format, ...) __attribute__((format(printf, 3, 4)));
void worker_fail(struct pdr_worker *worker, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

int64_t worker_drain_ms(const struct pdr_worker *worker);

/* partitions.c */
bool worker_follow(struct pdr_worker *worker, uint32_t partition); /* without owning it */
void worker_assign(struct pdr_worker *worker, uint32_t partition);
void worker_revoke(struct pdr_worker *worker, uint32_t partition);
void worker_partition_stopped(struct pdr_worker *worker, uint32_t partition, const char *why);
void worker_complain(struct pdr_worker *worker);
void worker_partition_close(struct pdr_worker *worker, uint32_t partition);
int worker_rebuild(struct pdr_worker *worker, uint32_t partition, bool again); /* `again`: its file goes too */

/* saving.c */
void worker_store_open(struct pdr_worker *worker);
void worker_save(struct pdr_worker *worker);
void worker_save_partition(struct pdr_worker *worker, uint32_t partition);

/* outputs.c */
void worker_not_begun(struct pdr_worker *worker, uint32_t partition, const char *job, uint64_t run, uint64_t op,
                      uint32_t attempt);
bool worker_carry_out(struct pdr_worker *worker, uint32_t partition); /* all outputs; true: there were some */
void worker_send_postponed(struct pdr_worker *worker);
void worker_delivered(struct pdr_worker *worker, uint64_t cookie, enum log_delivery delivery, int64_t offset);
void worker_outputs_release(struct pdr_worker *worker);

int worker_read_limits(struct pdr_worker *worker);   /* limits.c */
bool worker_knows_limited(struct pdr_worker *worker); /* false: worker_fail() was told */
/* memory.c */
void worker_memory_begin(struct pdr_worker *worker);
bool worker_evict(struct pdr_worker *worker); /* if the budget is used up; true: there is room now */

/* crashes.c */
struct crash_report;
/* One that is pending or told; false: none there, or too old to matter. */
bool crash_report_read(size_t index, struct crash_report *copy);
void worker_tell_crashes(struct pdr_worker *worker, uint32_t partition); /* to its engine, which is new */
void worker_crash_done(uint64_t id);
void worker_crash_told(uint64_t id);

/* standby.c */
void worker_standby(struct pdr_worker *worker);
int64_t worker_standby_next(const struct pdr_worker *worker); /* when it looks again, monotonic; INT64_MAX: it is off */
bool worker_standby_choose(const struct pdr_worker *worker, bool *wanted); /* partitions; false: no memory */
bool worker_standby_keeps(const struct pdr_worker *worker, uint32_t partition);
void worker_standby_read(struct pdr_worker *worker, uint32_t partition, int64_t end); /* for the first time */
void worker_standby_stopped(struct pdr_worker *worker, uint32_t partition, const char *why);
bool worker_standby_forbids(enum engine_output_kind kind);

/* takeover.c */
void worker_taken_over(struct pdr_worker *worker, uint32_t partition, const struct engine_takeover *takeover);

/* aside.c */
void worker_put_status(struct pdr_worker *worker, const char *key, const void *data, size_t size,
                       const struct log_place *of);
int64_t worker_unshown(void *worker, uint32_t partition); /* engine_host.unshown */
void worker_row_lost(struct pdr_worker *worker, const char *key);
void worker_dead_lost(struct pdr_worker *worker, const struct log_record *record, const char *reason);
void worker_dead_letter(struct pdr_worker *worker, uint32_t partition, const struct engine_output *out);
void worker_reply(struct pdr_worker *worker, const ReplyTo *to, const Reply *reply);
void worker_trim(struct pdr_worker *worker, enum log_stream stream, uint32_t partition, int64_t below);
void worker_send_aside(struct pdr_worker *worker); /* what waits for room */
void worker_aside_release(struct pdr_worker *worker);

/* grow.c */
void worker_map_asked(struct pdr_worker *worker);
void worker_grow(struct pdr_worker *worker); /* between turns */
int64_t worker_grow_next(const struct pdr_worker *worker); /* monotonic; INT64_MAX: never */

/* sources.c: the journals of partitions whose slots move here (rule 25) */
void worker_read_source(struct pdr_worker *worker, uint32_t partition, const struct engine_output *out);
void worker_take_sources(struct pdr_worker *worker);
void worker_sources_stop(struct pdr_worker *worker);

/* worker.c */
int worker_open_log(struct pdr_worker *worker, struct log **out);
int worker_use_log(struct pdr_worker *worker, struct log *log);

/* registrations.c */
int worker_register(struct pdr_worker *worker);
bool worker_register_again(struct pdr_worker *worker, const char *key); /* false: it is no registration of ours */
enum engine_type worker_type_elsewhere(void *context, const char *type);
void worker_take_registrations(struct pdr_worker *worker);
void worker_registrations_wait(struct pdr_worker *worker); /* for their thread, which uses the log */
void worker_registrations_free(struct pdr_worker *worker);

#endif
