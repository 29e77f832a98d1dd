/*
 * What a step worker begins at most: attempts of a step in a second and at the same time (`step_rates`, `step_limits`), and
 * attempts of all steps in a second (`queue_rates`). A task that finds no room waits as long as for a slot, then goes to others.
 */
#include <stdio.h>

#include "worker/queue_options.h"
#include "worker/queue_worker.h"

static bool steps_have_room(struct queue_worker *queue, struct taken *taken, int64_t now)
{
    const char *step = taken->record->task->step;
    struct limits *limits = queue->worker->limits;
    struct limit_waiter *waiter = &taken->limit;
    if (waiter->stage == LIMIT_STAGE_KEY && !waiter->line) {
        waiter->gates[LIMIT_STAGE_COUNT] = limits_find(limits, LIMIT_STEP_COUNT, step);
        waiter->gates[LIMIT_STAGE_RATE] = limits_find(limits, LIMIT_STEP_RATE, step);
        waiter->ready = &queue->admitted;
    }
    if (!limit_enter(waiter, now))
        return false;
    limit_wait_no_more(waiter);
    return true;
}

bool taken_is_admitted(struct queue_worker *queue, struct taken *taken)
{
    int64_t now = worker_monotonic_ms();
    limits_pump(queue->worker->limits, now);
    if (now < queue->again_ms || !steps_have_room(queue, taken, now))
        return false;
    queue->again_ms = 0;
    return queue_options_take(queue->worker->queue_options, queue->worker->options.queue, now, &queue->again_ms);
}

void taken_leaves_limits(struct queue_worker *queue, struct taken *taken)
{
    limit_leave(queue->worker->limits, &taken->limit, worker_monotonic_ms());
}

void taken_why_held(const struct queue_worker *queue, const struct taken *taken, char *reason, size_t size)
{
    char limit[LIMIT_TEXT_BYTES];
    const char *text = limit_text(&taken->limit, limit, sizeof limit);
    if (text)
        snprintf(reason, size, "held back by %s", text);
    else if (queue->again_ms > 0)
        snprintf(reason, size, "held back by queue-rate %s", queue->worker->options.queue);
    else
        snprintf(reason, size, "no free slot");
}

int queue_limits_timeout(const struct queue_worker *queue, int timeout_ms)
{
    int64_t now = worker_monotonic_ms(), next = limits_next(queue->worker->limits);
    if (queue->running == queue->slot_count)
        return timeout_ms; /* a limit that has room again is of no use */
    if (queue->again_ms > queue->looked_ms && queue->again_ms < next) /* else something else holds them */
        next = queue->again_ms;
    if (queue->held == 0 || next - now > timeout_ms)
        return timeout_ms;
    return next > now ? (int)(next - now) : 0;
}
