/*
 * Queues: the owner holds back what a queue has no room for, the largest priority goes first, and what goes is spread over
 * lanes, so that a worker that is slow or dead keeps little waiting behind it.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/internal.h"

struct queue *queue_of(struct engine *engine, const char *name)
{
    struct queue *queue = engine->queues;
    while (queue && strcmp(queue->name, name) != 0)
        queue = queue->next;
    if (queue)
        return queue;
    queue = calloc(1, sizeof *queue);
    if (!queue || !(queue->name = strdup(name))) {
        free(queue);
        engine_stop(engine, "out of memory");
        return NULL;
    }
    if (engine->config.queue_limit)
        queue->limit = engine->config.queue_limit(engine->config.queue_context, name);
    if (queue->limit == 0)
        queue->limit = engine->limits.tasks_out;
    queue->alarm.kind = ALARM_QUEUE;
    queue->next_lane = engine->config.partition; /* owners do not all begin with the same */
    queue->next = engine->queues;
    engine->queues = queue;
    return queue;
}

bool queue_admits(struct engine *engine, struct queue *queue)
{
    int64_t again = 0;
    if (queue->out >= queue->limit)
        return false;
    if (!engine->config.queue_take ||
        engine->config.queue_take(engine->config.queue_context, queue->name, engine->monotonic_ms, &again))
        return true;
    alarm_set(&engine->alarms, &queue->alarm, again > engine->monotonic_ms ? again : engine->monotonic_ms + 1);
    return false;
}

/* Alarms are a heap ordered by `due`, ties by age: here `due` is the priority. */
void queue_hold(struct engine *engine, struct step *step)
{
    step->state = STEP_HELD;
    if (alarm_set(&step->remote->queue->held, &step->remote->held, -(int64_t)step->policy.priority) != PDR_OK)
        engine_stop(engine, "out of memory");
}

void queue_unhold(struct step *step)
{
    if (step->remote->queue)
        alarm_clear(&step->remote->queue->held, &step->remote->held);
}

void queue_enter(struct step *step)
{
    struct remote *remote = step->remote;
    if (!remote->queue || remote->counted)
        return;
    remote->counted = true;
    remote->queue->out++;
}

void queue_leave(struct step *step)
{
    struct remote *remote = step->remote;
    if (!remote->counted)
        return;
    remote->counted = false;
    remote->queue->out--;
    if (remote->lane > 0 && remote->queue->lanes[remote->lane - 1] > 0)
        remote->queue->lanes[remote->lane - 1]--;
}

/* The lane with the fewest tasks out; another one than before, if there was one. */
uint32_t queue_lane(struct step *step)
{
    struct remote *remote = step->remote;
    struct queue *queue = remote->queue;
    uint32_t first = remote->lane > 0 ? remote->lane : queue->next_lane; /* remote->lane: the one after the last */
    uint32_t best = first % TASK_LANES;
    for (uint32_t i = 1; i < TASK_LANES - (remote->lane > 0); i++) {
        uint32_t lane = (first + i) % TASK_LANES;
        if (queue->lanes[lane] < queue->lanes[best])
            best = lane;
    }
    if (remote->counted && remote->lane > 0)
        queue->lanes[remote->lane - 1]--;
    if (remote->counted)
        queue->lanes[best]++;
    queue->next_lane = best + 1;
    remote->lane = best + 1;
    return best;
}

static void queue_pump(struct engine *engine, struct queue *queue)
{
    while (queue->held.count > 0 && engine->state == ENGINE_OWNER && queue_admits(engine, queue)) {
        struct alarm *first = alarms_take(&queue->held, INT64_MAX);
        struct remote *remote = (struct remote *)((char *)first - offsetof(struct remote, held));
        struct step *step = remote->step;
        queue_enter(step);
        remote_ask(step, remote->reason, NULL);
    }
}

void queues_pump(struct engine *engine)
{
    for (struct queue *queue = engine->queues; queue; queue = queue->next)
        queue_pump(engine, queue);
}

void queues_free(struct engine *engine)
{
    while (engine->queues) {
        struct queue *queue = engine->queues;
        engine->queues = queue->next;
        alarm_clear(&engine->alarms, &queue->alarm);
        alarms_release(&queue->held);
        free(queue->name);
        free(queue);
    }
}
