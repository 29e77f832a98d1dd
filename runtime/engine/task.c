/*
 * Tasks: what a queue's worker gets. One follows from each StepScheduled that is not held back and from each StepDispatched
 * (rule 10); the first is made where its event is read, others from the history when they are sent.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/internal.h"
#include "wire/token.h"

void outbox_task_free(struct outbox_task *task)
{
    if (!task)
        return;
    free(task->queue);
    free(task);
}

/* What a task is made of. */
struct task_source {
    const Perdure__V1__StepScheduled *step;
    int64_t scheduled_ms;  /* t of it */
    int64_t since_ms;      /* from when this attempt was to be begun */
    int64_t dispatched_ms;
    uint64_t op;
    uint32_t attempt;
    uint32_t dispatch;
    Payload *progress;
};

static int64_t task_start_by(const struct task_source *source)
{
    int64_t by = source->dispatched_ms + TASK_REDISPATCH_MS;
    if (source->step->schedule_to_start_ms > 0 && source->since_ms + source->step->schedule_to_start_ms < by)
        by = source->since_ms + source->step->schedule_to_start_ms;
    return by;
}

static void *task_encode(struct engine *engine, const struct run *run, const struct task_source *source, size_t *size)
{
    Header header;
    Record record = PERDURE__V1__RECORD__INIT;
    Perdure__V1__Task task = PERDURE__V1__TASK__INIT;
    struct token token = { (uint32_t)engine->config.genesis.log_id, run->run, source->op, source->attempt, "" };
    char text[TOKEN_BYTES], key[48];
    snprintf(token.job, sizeof token.job, "%s", run->job);
    token_write(&token, text);
    snprintf(key, sizeof key, "%016" PRIx64 "-%" PRIu64, run->run, source->op);
    header_init(engine, &header, PERDURE__V1__KIND__KIND_TASK);
    header.job = run->job;
    header.run = run->run;
    header.slot = slot_of(run->job);
    header.born = header.t = source->dispatched_ms;
    header.name = source->step->name;
    task.queue = source->step->queue;
    task.step = source->step->name;
    task.input = source->step->input;
    task.job = run->job;
    task.run = run->run;
    task.op = source->op;
    task.attempt = source->attempt;
    task.token = text;
    task.idempotency_key = key;
    task.inbox_partition = engine->config.partition;
    task.priority = source->step->priority;
    task.dispatched = source->dispatched_ms;
    task.start_by = task_start_by(source);
    task.close_by = source->step->deadline_ms > 0 ? source->scheduled_ms + source->step->deadline_ms : 0;
    task.start_to_close_ms = source->step->timeout_ms;
    task.heartbeat_ms = source->step->heartbeat_ms;
    task.dispatch = source->dispatch;
    task.progress = source->progress;
    record.header = &header;
    record.task = &task;
    return record_encode(&record, size);
}

struct outbox_task *outbox_task_new(const char *queue, uint64_t run, uint64_t op, uint32_t attempt, uint32_t dispatch)
{
    struct outbox_task *task = calloc(1, sizeof *task);
    if (!task || !(task->queue = strdup(queue))) {
        free(task);
        return NULL;
    }
    task->run = run;
    task->op = op;
    task->attempt = attempt;
    task->dispatch = dispatch;
    return task;
}

void task_collect(struct engine *engine, struct run *run, const Event *event, int64_t offset, uint32_t index)
{
    struct outbox_task *task = NULL;
    void *data = NULL;
    size_t size = 0;
    if (!engine->config.has_queues)
        return;
    if (event->kind_case == PERDURE__V1__EVENT__KIND_STEP_SCHEDULED) {
        const Perdure__V1__StepScheduled *step = event->step_scheduled;
        struct task_source source = { step, event->t, event->t, event->t, event->op, 1, 1, NULL };
        if (step->held)
            return;
        task = outbox_task_new(step->queue, run->run, event->op, 1, 1);
        data = task_encode(engine, run, &source, &size);
        if (!data) {
            outbox_task_free(task);
            task = NULL;
        }
    } else {
        const Perdure__V1__StepDispatched *dispatched = event->step_dispatched;
        if (strcmp(dispatched->reason, DISPATCH_LATER) == 0)
            return;
        task = outbox_task_new("", run->run, event->op, dispatched->attempt, dispatched->dispatch);
        if (task && dispatched->not_before > 0)
            task->not_before = engine_due(engine, dispatched->not_before);
    }
    if (!task)
        engine_stop(engine, "out of memory");
    else
        outbox_put_task(engine, run->job, offset, index, task, data, size);
}

/* What the events of a run say of one attempt. False: it is over. */
static bool source_of(struct task_source *source, Event *const *events, size_t count)
{
    bool dispatched = false;
    for (size_t i = 0; i < count; i++) {
        const Event *event = events[i];
        if (event->op != source->op)
            continue;
        switch (event->kind_case) {
        case PERDURE__V1__EVENT__KIND_STEP_SCHEDULED:
            source->step = event->step_scheduled;
            source->scheduled_ms = source->since_ms = event->t;
            break;
        case PERDURE__V1__EVENT__KIND_STEP_DISPATCHED:
            dispatched = event->step_dispatched->attempt == source->attempt &&
                         event->step_dispatched->dispatch == source->dispatch;
            source->dispatched_ms = event_dispatched_ms(event);
            break;
        case PERDURE__V1__EVENT__KIND_STEP_PROGRESS:
            if (event->step_progress->detail)
                source->progress = event->step_progress->detail;
            break;
        case PERDURE__V1__EVENT__KIND_ATTEMPT_FAILED:
            source->since_ms = event->attempt_failed->next;
            dispatched = false;
            break;
        case PERDURE__V1__EVENT__KIND_JOB_CRASHED: /* behind it comes the attempt's failure */
            dispatched = false;
            break;
        default: /* it is over */
            return false;
        }
    }
    return source->step && dispatched;
}

void *task_from_history(struct engine *engine, struct run *run, struct outbox_task *task, size_t *size, bool *over)
{
    struct active *active = active_of(engine, run);
    size_t count = 0;
    Event **events = active ? active_events(active, &count) : NULL;
    struct task_source source = { .op = task->op, .attempt = task->attempt, .dispatch = task->dispatch };
    *over = events && !source_of(&source, events, count);
    void *data = events && !*over ? task_encode(engine, run, &source, size) : NULL;
    char *queue = data ? strdup(source.step->queue) : NULL;
    if (queue) {
        free(task->queue);
        task->queue = queue;
    }
    for (size_t i = 0; i < count; i++)
        event_free(events[i]);
    free(events);
    return data;
}
