/*
 * A step worker: `perdure worker --queue NAME`. Takes tasks, runs their steps in the pool, reports to the jobs' owners. The
 * contract, the same for every language, is docs/remote-steps.md. What its files share.
 */
#ifndef PERDURE_QUEUE_WORKER_H
#define PERDURE_QUEUE_WORKER_H

#include "worker/worker.h"

#define QUEUE_HOLD_MS INT64_C(500)      /* a task waits so long for a slot, then twice as long each time it is sent again */
#define QUEUE_HOLD_MAX_MS INT64_C(60000)
#define QUEUE_HELD_PER_SLOT 8           /* so many tasks may wait */
#define QUEUE_BEGUN_MS 20               /* what ends within is reported by its end alone: half the reports */
#define QUEUE_DETAIL_MS 500             /* what a step says of itself is sent so often at most */
#define QUEUE_SETTLED_KEPT 4096         /* tasks known to be ended when they are delivered again */

enum taken_state { TAKEN_HELD, TAKEN_RUNNING, TAKEN_OVER };

/* A task on its way through this worker. */
struct taken {
    struct taken *next;
    enum taken_state state;
    Record *record;
    uint32_t lane;
    int64_t offset;
    bool stopped;       /* nobody waits for it: it is told, and says no more than its end */
    bool reported;      /* a broker has a report of it, or it needs none */
    bool pending;       /* not so, and its lane is ours: its offset may not be committed */
    size_t reports;     /* not acknowledged yet */
    int64_t decline_at; /* monotonic */
    struct limit_waiter limit;
    int64_t started_ms;
    int64_t begun_at;   /* monotonic: that it runs is reported then; 0: it was */
    int64_t beat_at;    /* monotonic: the next heartbeat is due; 0: none wanted */
    int64_t detail_at;  /* monotonic: what it says of itself is looked for then */
    uint64_t beats;
    uint64_t correlation;
    uint64_t key;       /* hash of idempotency key, attempt and dispatch */
    uint64_t crash;     /* no task: an attempt that ended the worker before this one, by the crash's id; kept */
};

struct report {
    struct report *next;
    struct taken *taken;
    uint32_t partition;
    void *data;
    size_t size;
    uint64_t cookie; /* 0: to be sent */
};

struct lane {
    uint32_t number;
    int64_t next; /* after the last one taken */
};

struct queue_worker {
    struct pdr_worker *worker;
    struct log *log;
    ReplyTo reply_to;
    bool has_reply_to; /* owners can tell us to stop; they need not */
    char member[40];   /* in the group of the queue */
    struct taken *all; /* in the order in which they came */
    struct taken **slots;
    size_t slot_count, held, running;
    struct limit_line admitted; /* limits have room for them since they last asked */
    int64_t looked_ms;          /* monotonic: when all that are held were last tried */
    int64_t again_ms;           /* monotonic: when the rate of the whole worker allows the next one; 0: now */
    struct report *reports; /* in the order in which they were made */
    struct lane *lanes;
    size_t lane_count;
    uint64_t settled[QUEUE_SETTLED_KEPT];
    size_t settled_next;
    uint64_t next_cookie, next_correlation;
};

/* queue_reports.c */
void taken_report_begun(struct queue_worker *queue, struct taken *taken);
void taken_report_beat(struct queue_worker *queue, struct taken *taken, const char *detail); /* `detail`: or NULL */
void taken_report_declined(struct queue_worker *queue, struct taken *taken, const char *reason);
/* One of the two is given. */
void taken_report_end(struct queue_worker *queue, struct taken *taken, Payload *result, Error *error);
void reports_send(struct queue_worker *queue);
void report_delivered(struct queue_worker *queue, uint64_t cookie, enum log_delivery delivery, int64_t offset);
void reports_free(struct queue_worker *queue);

/* queue_crashes.c */
void queue_tell_crashes(struct queue_worker *queue); /* before it takes tasks */
bool taken_is_crash_of(const struct taken *taken, const Perdure__V1__Task *task);

/* queue_limits.c: those of `taken` on steps, and of the whole worker */
bool taken_is_admitted(struct queue_worker *queue, struct taken *taken); /* asked for with a slot that is free */
void taken_leaves_limits(struct queue_worker *queue, struct taken *taken);
void taken_why_held(const struct queue_worker *queue, const struct taken *taken, char *reason, size_t size);
int queue_limits_timeout(const struct queue_worker *queue, int timeout_ms); /* the shorter one, in ms */

/* queue_worker.c */
void taken_reported(struct queue_worker *queue, struct taken *taken);
Error failure_of(const char *type, const char *message, bool final);
int queue_worker_run(struct pdr_worker *worker);

#endif
