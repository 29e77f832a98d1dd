/*
 * Runs that a rate of their job type keeps from beginning: the start is absorbed and answered as any other (rule 12),
 * the job is made when it is let in; until then nothing of it but its place in line is in memory. Nothing of that is in
 * the journal: a new owner lets in anew whatever may not have begun yet.
 */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "engine/internal.h"

/* From its start until its first turn is confirmed and may act: so long it has a place, in line or among those let in.
 * What keeps these (memory, a slow log, a proof that is missing) keeps others of the type too, or they would begin
 * together. */
struct start_wait {
    struct active *active;
    struct limit_waiter limit;
};

/* Its code has nothing to do any more but to clean up. */
static bool start_is_cancelled(const struct active *active)
{
    for (const struct input *input = active->inputs.head; input; input = input->next)
        if (input->event->kind_case == PERDURE__V1__EVENT__KIND_CANCEL_REQUESTED)
            return true;
    return false;
}

/* Of a job that is here: one that is not waits for its module. */
static struct limit_gate *start_gate(const struct active *active, const char *type)
{
    const struct engine *engine = active->engine;
    const struct limits *limits = engine->config.shared_limits;
    const struct callable *callable = NULL;
    if (limits && limits_name(limits, LIMIT_JOB_RATE, 0))
        callable = registry_job(engine->config.registry, type);
    return callable ? limits_find(limits, LIMIT_JOB_RATE, callable->name) : NULL;
}

bool start_is_limited(const struct active *active, const char *type)
{
    const struct run *head = active->head;
    bool counted = head->run == active->run && head->seq > 0;
    if (active->begun == active->run || active->job || (counted && !head->unbegun))
        return false;
    return start_gate(active, type) && !start_is_cancelled(active);
}

bool start_was_held(const struct active *active)
{
    return active->begun == active->run && active->head->run == active->run && active->head->unbegun;
}

bool start_waits(const struct active *active) { return active->start && active->begun != active->run; }

static struct active *start_of(struct limit_waiter *waiter)
{
    return ((struct start_wait *)(void *)((char *)waiter - offsetof(struct start_wait, limit)))->active;
}

static bool start_stand_in_line(struct active *active, const char *type)
{
    struct engine *engine = active->engine;
    if (active->start)
        return true;
    active->start = calloc(1, sizeof *active->start);
    if (!active->start) {
        engine_stop(engine, "out of memory");
        return false;
    }
    active->start->active = active;
    active->start->limit.gates[LIMIT_STAGE_RATE] = start_gate(active, type);
    active->start->limit.ready = &engine->let_in;
    engine->starts_held++;
    return true;
}

void start_leave(struct active *active)
{
    struct engine *engine = active->engine;
    if (!active->start)
        return;
    engine->starts_held -= start_waits(active);
    limit_leave(engine->config.shared_limits, &active->start->limit, engine->monotonic_ms);
    free(active->start);
    active->start = NULL;
    active->begun = 0;
}

static void start_let_in(struct active *active)
{
    active->begun = active->run;
    active->engine->starts_held--;
}

void start_has_begun(struct active *active)
{
    uint64_t run = active->run;
    if (!active->start || active->begun != run || !active->job)
        return;
    start_leave(active);
    active->begun = run;
}

bool start_is_held(struct active *active, const char *type)
{
    struct engine *engine = active->engine;
    if (!start_is_limited(active, type)) {
        if (start_waits(active))
            start_leave(active);
        return false;
    }
    if (engine->state != ENGINE_OWNER) /* it is to be given up: the next owner lets it in */
        return true;
    bool waited = active->start != NULL;
    if (!start_stand_in_line(active, type))
        return true;
    if (limit_enter(&active->start->limit, engine->monotonic_ms)) {
        limit_wait_no_more(&active->start->limit);
        if (memory_has_room(engine)) {
            start_let_in(active);
            return false;
        }
        limit_wait(&engine->let_in, &active->start->limit); /* made when there is, in a turn of its own */
    }
    engine->counts.start_waits += !waited;
    return true;
}

void starts_let_in(struct engine *engine)
{
    struct limit_waiter *waiter;
    if (engine->config.shared_limits)
        limits_pump(engine->config.shared_limits, engine->monotonic_ms);
    while ((waiter = limit_take_ready(&engine->let_in))) {
        struct active *active = start_of(waiter);
        if (slots_keep(engine, active->head->job)) {
            start_let_in(active);
            active_enqueue(active);
        } else {
            start_leave(active); /* rule 25: it begins where its slot goes */
        }
    }
}

int64_t starts_next(const struct engine *engine)
{
    return engine->state == ENGINE_OWNER && engine->let_in.head ? engine->monotonic_ms : INT64_MAX;
}

void starts_leave(struct engine *engine)
{
    for (size_t i = 0; i < engine->judge->capacity; i++)
        for (struct run *run = engine->judge->table[i]; run; run = run->next)
            if (run->user)
                start_leave(run->user);
}

/* What it waits for now is in no record, if its first turn had nothing to log: a new owner with this one's store does
 * not bring it back for nothing, nor lets it in again (rule 34). */
void start_note_rest(struct active *active)
{
    struct run *head = active->head;
    int64_t rests = head->unbegun && head->run == active->run && !active->in_flight ? active_rests(active) : 0;
    if (rests == 0)
        return;
    head->rests = rests;
    head->unbegun = false;
    head->changed = active->engine->partition_changed = true;
}

Waiting *start_waiting(const struct active *active)
{
    char limit[LIMIT_TEXT_BYTES];
    Waiting *waiting = calloc(1, sizeof *waiting);
    if (!waiting)
        return NULL;
    perdure__v1__waiting__init(waiting);
    waiting->kind = strdup("start");
    waiting->name = strdup(active->head->type ? active->head->type : "");
    waiting->since = active->head->created;
    const char *text = limit_text(&active->start->limit, limit, sizeof limit);
    waiting->limit = strdup(text ? text : "");
    return waiting;
}
