/*
 * Steps that are executed outside: by the workers of a queue, or by whoever has the attempt's token. What is out is known
 * from the history (StepScheduled, StepDispatched); the rest here is a view of it, made again by every owner.
 */
#ifndef PERDURE_REMOTE_H
#define PERDURE_REMOTE_H

#include "engine/internal.h"

/* One queue, as this partition's owner sees it. */
struct queue {
    struct queue *next;
    char *name;
    size_t limit;
    size_t out;                /* dispatched and not known to have begun */
    size_t lanes[TASK_LANES];  /* of these, by lane */
    uint32_t next_lane;
    struct alarms held;        /* steps that wait for room: the largest priority, then the oldest, first */
    struct alarm alarm;        /* QUEUE */
};

struct remote {
    struct step *step;
    struct queue *queue;   /* NULL: whoever has the token */
    int64_t scheduled_ms;  /* t of its StepScheduled */
    int64_t since_ms;      /* from when this attempt was to be begun */
    int64_t dispatched_ms; /* when it went, or is to go: follows from t of what dispatched it last */
    uint32_t dispatch;     /* how often it was */
    int64_t judged_from;   /* monotonic: no limit is judged before; who has just begun to listen has not read what came meanwhile */
    int64_t trusted;       /* monotonic: not judged by silence before, for the same reason */
    bool counted;          /* in queue->out */
    uint32_t lane;         /* + 1; 0: not sent by this owner */
    bool begun;
    int64_t begun_ms;      /* by our clock; 0: not known */
    int64_t heard;         /* monotonic: last report */
    int64_t heard_ms;      /* the same, by the wall; 0: never */
    int64_t noted;         /* monotonic: last put into the history, that it has begun or how far it is; 0: never */
    int64_t detailed;      /* monotonic: how far it is, last put into the history; 0: never */
    int64_t kept;          /* monotonic: since when `report` is */
    int64_t report;        /* inbox offset + 1 of what says that it has begun, kept until the history does; 0: none */
    char *second;          /* another worker that was told to stop: what it ends with does not count; NULL: none */
    bool ended_by_worker;  /* it knows */
    char *declined;        /* who gave it back last, and why; NULL: nobody, or not known to this owner */
    char *worker;
    bool has_reply_to;
    ReplyTo reply_to;
    char *request;         /* of the report that reply_to came with */
    Payload *progress;
    bool progressed;       /* this attempt said so, not one before it */
    const char *reason;    /* STEP_HELD: why it is to be dispatched */
    struct alarm held;     /* in queue->held */
};

/* Somebody executes what nobody waits for. */
struct stop {
    struct stop *next;
    ReplyTo to;
    char *request;
};

/* A task in the outbox (rule 10). */
struct outbox_task {
    char *queue;
    uint64_t run;
    uint64_t op;
    uint32_t attempt;
    uint32_t dispatch;
    int64_t not_before; /* monotonic */
};

/* remote.c */
bool remote_is_outside(const struct engine *engine, const struct job_command *command);
void remote_want(struct step *step, const struct job_command *command);
void remote_free(struct step *step);
void remote_on_alarm(struct step *step);
void remote_begun(struct step *step, int64_t begun_ms);
void remote_note_begun(struct active *active); /* into the history, of all attempts of which it does not say so yet */
void remote_arm(struct step *step);
/* A StepScheduled is about to be appended: whether it dispatches; then, that it has its t. */
void remote_admit(struct active *active, Event *event);
void remote_scheduled(struct active *active, const Event *event);
bool remote_dispatch_is_wanted(const struct active *active, const Event *event);
void remote_dispatched(struct active *active, const Event *event);
/* What says that it has begun is read once more: it goes where its slot goes. */
void remote_park_report(const struct step *step);
/* The history says that it has begun. */
void remote_noted(struct active *active, const Event *event);
/* Asks for the event that dispatches it. `input`: what of the inbox leads to it; NULL: nothing. */
void remote_ask(struct step *step, const char *reason, struct input *input);
/* The same for one that was declined, "WORKER: WHY": a while after it was dispatched. */
void remote_ask_again(struct step *step, const char *declined, struct input *input);
void remote_stop(struct step *step);
void remote_stop_all(struct active *active);
void stops_flush(struct active *active);
void stops_clear(struct active *active);
/* Inputs that a job's code does not wait for: no reason to bring it back into memory. */
bool input_is_passive(const struct input *input);
bool event_is_passive(const Event *event);

/* queue.c */
struct queue *queue_of(struct engine *engine, const char *name); /* NULL: no memory */
bool queue_admits(struct engine *engine, struct queue *queue);   /* has room; counts against its rate */
void queue_hold(struct engine *engine, struct step *step);
void queue_unhold(struct step *step);
void queue_enter(struct step *step);
void queue_leave(struct step *step);
uint32_t queue_lane(struct step *step); /* the one for its task */
void queues_pump(struct engine *engine);
void queues_free(struct engine *engine);

/* task.c */
void task_collect(struct engine *engine, struct run *run, const Event *event, int64_t offset, uint32_t index);
/* Encodes a task from the history of its run, and fills in its queue. NULL: it is `over`, or its history cannot be
 * read just now. */
void *task_from_history(struct engine *engine, struct run *run, struct outbox_task *task, size_t *size, bool *over);
struct outbox_task *outbox_task_new(const char *queue, uint64_t run, uint64_t op, uint32_t attempt, uint32_t dispatch);
void outbox_task_free(struct outbox_task *task);

/* report.c */
void report_note_progress(struct step *step);
void command_task_report(const struct command_context *c);

/* remote_crash.c. Whether a failure says that the attempt ended its worker (an error type of the wire contract); if so, `end`, the
 * failure, an input of the run already, gets its crash before it, unless that is journaled or the step is not tried again. */
bool remote_crash_is_told(const Perdure__V1__TaskReport *report);
void remote_crash_put_first(const struct step *step, const char *worker, struct input *end);

#endif
