/*
 * What a new owner does with the runs that it finds: the open ones are woken, recent ends are told again.
 */
#include <string.h>

#include "engine/internal.h"

static bool start_visit(void *context, int64_t offset, const void *data, size_t size)
{
    struct active *active = context;
    Record *record = NULL;
    (void)offset;
    if (record_decode(data, size, &record) == WIRE_OK && record->n_events > 0) {
        Event *event = event_decode(record->events[0].data, record->events[0].len);
        if (event && event->kind_case == PERDURE__V1__EVENT__KIND_STARTED)
            active_set_input(active, event);
        event_free(event);
    }
    record_free(record);
    return false;
}

/* What a status shows of a run that is not replayed. */
void active_load_input(struct active *active)
{
    struct engine_host *host = &active->engine->config.host;
    if (active->input)
        return;
    for (struct unsaved_record *record = save_unsaved_of(active->engine, active->run); record;
         record = record->next_in_bucket)
        if (record->run == active->run && record->seq == 1 && strcmp(record->job, active->head->job) == 0)
            start_visit(active, record->offset, record->data, record->size);
    if (!active->input)
        (void)host->history(host->context, active->engine->config.partition, active->head->job, active->run, start_visit,
                            active);
}

/* A run whose end may have been confirmed to nobody: the owner before died, or doubted it. */
static bool end_is_recent(const struct engine *engine, const struct run *run)
{
    return run->seq > 0 && !run_is_open(run) && run->t >= engine->judge->largest_t - ENDS_TOLD_AGAIN_MS;
}

/* Tells of such ends (again): the status record would say `running` for ever. */
static void wake_tell_ends(struct engine *engine)
{
    struct engine_host *host = &engine->config.host;
    for (struct unsaved_record *record = engine->unsaved; record; record = record->next) {
        struct run *run = record->seq == 1 ? judge_find(engine->judge, record->job) : NULL;
        struct active *active = run && run->run == record->run && end_is_recent(engine, run) ? active_of(engine, run)
                                                                                             : NULL;
        if (active && !active->input)
            start_visit(active, record->offset, record->data, record->size);
    }
    for (size_t i = 0; i < engine->judge->capacity; i++)
        for (struct run *run = engine->judge->table[i]; run; run = run->next) {
            struct active *active = end_is_recent(engine, run) ? active_of(engine, run) : NULL;
            if (!active)
                continue;
            active->run = run->run;
            if (!active->input)
                (void)host->history(host->context, engine->config.partition, run->job, run->run, start_visit, active);
            watchers_answer(active);
            status_publish(active);
        }
}

/* A new owner wakes every open run: it may have steps to run, timers to wait for. */
void wake_runs(struct engine *engine)
{
    wake_tell_ends(engine);
    for (size_t i = 0; i < engine->judge->capacity; i++)
        for (struct run *run = engine->judge->table[i]; run; run = run->next) {
            if (!run_is_open(run)) {
                if (run->user)
                    active_free(run->user);
                continue;
            }
            struct active *active = active_of(engine, run);
            if (!active)
                return;
            active->run = run->run;
            active->seq = run->seq;
            active->digest = run->digest;
            active->t = run->t;
            active->ending = false;
            active->parked = active->crash_pending = active->split = false;
            active_enqueue(active);
        }
    crashes_attach(engine, true);
}
