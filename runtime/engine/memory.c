/*
 * What the jobs of a worker take in memory: counted where it changes, for all its partitions together. Over the budget idle
 * jobs go, the oldest first (the host chooses among its partitions); no job is made or brought back before there is room,
 * but one at a time in each partition, so that what makes room can go on, and others that would go on leave memory for it.
 * Commands have a share of it; what is beyond stays in the inbox.
 */
#include "engine/internal.h"

void memory_add(struct engine *engine, size_t bytes)
{
    engine->memory_used += bytes;
    if (engine->config.memory)
        engine->config.memory->used += bytes;
}

void memory_subtract(struct engine *engine, size_t bytes)
{
    engine->memory_used -= bytes;
    if (engine->config.memory)
        engine->config.memory->used -= bytes;
}

void memory_add_intake(struct engine *engine, size_t bytes)
{
    memory_add(engine, bytes);
    engine->memory_intake += bytes;
    if (engine->config.memory)
        engine->config.memory->intake += bytes;
}

void memory_subtract_intake(struct engine *engine, size_t bytes)
{
    memory_subtract(engine, bytes);
    engine->memory_intake -= bytes;
    if (engine->config.memory)
        engine->config.memory->intake -= bytes;
}

void memory_add_unsaved(struct engine *engine, size_t bytes)
{
    memory_add(engine, bytes);
    engine->unsaved_bytes += bytes;
    if (engine->config.memory)
        engine->config.memory->unsaved += bytes;
}

void memory_subtract_unsaved(struct engine *engine, size_t bytes)
{
    memory_subtract(engine, bytes);
    engine->unsaved_bytes -= bytes;
    if (engine->config.memory)
        engine->config.memory->unsaved -= bytes;
}

void memory_release(struct engine *engine)
{
    memory_subtract_intake(engine, engine->memory_intake);
    memory_subtract(engine, engine->memory_used);
}

bool memory_has_room(const struct engine *engine)
{
    const struct engine_memory *memory = engine->config.memory;
    return !memory || memory->used < memory->budget;
}

/* What was read must not take the room of the jobs that work it off. */
bool memory_stops_intake(const struct engine *engine, size_t part)
{
    const struct engine_memory *memory = engine->config.memory;
    return memory && (memory->used >= memory->budget + memory->budget / 4 ||
                      memory->intake >= memory->budget / MEMORY_PART_OF_INTAKE / part);
}

/* Results come in whatever room there is, so it is looked for before: at most a part of the budget waits for them, or nothing
 * would be left for jobs. Without room a few run all the same, one at least in each partition, and of the job that is let in
 * alone. */
bool memory_admits_attempt(const struct engine *engine, const struct active *active)
{
    const struct engine_memory *memory = engine->config.memory;
    if (!memory || engine->running_steps == 0 || memory->attempts < STEPS_OVER_BUDGET)
        return true;
    if (active && active == engine->alone && active->running_steps == 0)
        return true;
    return memory_has_room(engine) && memory->attempts * memory->result < memory->budget / MEMORY_PART_OF_RESULTS;
}

void memory_begin_attempt(struct engine *engine)
{
    struct engine_memory *memory = engine->config.memory;
    if (!memory)
        return;
    memory->attempts++;
    memory_add(engine, memory->result);
}

void memory_end_attempt(struct engine *engine)
{
    struct engine_memory *memory = engine->config.memory;
    if (!memory)
        return;
    memory->attempts--;
    memory_subtract(engine, memory->result);
}

/* A job that has something to go on with, and would grow by it, leaves memory instead: what has come for it is kept. Else
 * jobs that were all small when they were let in would grow together. */
static bool steps_aside(struct engine *engine, struct active *active)
{
    const struct run *head = active->head;
    if (!active->job || !active->inputs.head || active == engine->alone || active->in_flight || active->running_steps ||
        active->ending || active->crash_pending || active->outgoing_next < active->outgoing_count ||
        active->run != head->run || !run_is_open(head) || head->last >= engine->histories_below)
        return false;
    for (const struct step *step = active->steps; step; step = step->next)
        if (step->state != STEP_DELAYED && !step->remote)
            return false;
    const struct input *input = active->inputs.head;
    while (input && input_is_passive(input))
        input = input->next;
    if (!input) /* it does not grow by them, and the inbox's position may wait for one */
        return false;
    active_drop_job(active);
    engine->counts.evictions++;
    engine->counts.memory_waits++;
    return true;
}

/* Another one that came in without room must have come to rest, or gone: jobs that wait for each other are at rest. */
bool memory_admits(struct engine *engine, struct active *active)
{
    struct active *alone = engine->alone;
    if (memory_has_room(engine) || engine->state == ENGINE_DRAINING) /* what is to be given away is soon gone */
        return true;
    if (active && !turn_makes_job(active))
        return !steps_aside(engine, active);
    if (alone && alone != active && alone->job && !active_is_at_rest(alone)) {
        engine->counts.memory_waits++;
        return false;
    }
    if (active)
        engine->alone = active;
    return true;
}

int64_t engine_idle_since(const struct engine *engine)
{
    return engine->lru_oldest ? engine->lru_oldest->used_ms : INT64_MAX;
}

bool engine_evict(struct engine *engine) { return engine->state == ENGINE_OWNER && active_evict_oldest(engine); }
