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

/* The owner before died, or doubted, and no Mark of it says that this stands in the run's status record (rule 9). */
static bool run_may_be_unshown(const struct engine *engine, const struct run *run)
{
    RULE_FIRED(SHOWN);
    return run->last >= (RULE(SHOWN) ? engine->judge->shown : engine->judge->position);
}

static bool end_may_be_unshown(const struct engine *engine, const struct run *run)
{
    return run->seq > 0 && !run_is_open(run) && run_may_be_unshown(engine, run);
}

/* Tells of such ends (again): the status record would say `running` for ever. */
static void wake_tell_ends(struct engine *engine)
{
    struct engine_host *host = &engine->config.host;
    for (struct unsaved_record *record = engine->unsaved; record; record = record->next) {
        struct run *run = record->seq == 1 ? judge_find(engine->judge, record->job) : NULL;
        struct active *active = run && run->run == record->run && end_may_be_unshown(engine, run) ? active_of(engine, run)
                                                                                             : NULL;
        if (active && !active->input)
            start_visit(active, record->offset, record->data, record->size);
    }
    for (size_t i = 0; i < engine->judge->capacity; i++)
        for (struct run *run = engine->judge->table[i]; run; run = run->next) {
            struct active *active = end_may_be_unshown(engine, run) ? active_of(engine, run) : NULL;
            if (!active)
                continue;
            active->run = run->run;
            if (!active->input)
                (void)host->history(host->context, engine->config.partition, run->job, run->run, start_visit, active);
            watchers_answer(active);
            status_publish(active);
        }
}

/* ---- rest (rule 34) ------------------------------------------------------------------------------------------- */

/* What the job that has just run waits for: timers, signals, children alone? Steps are not in the history before they end:
 * only the job knows of them. */
int64_t active_rests(const struct active *active)
{
    int64_t due = -1;
    if (!active->job || active->outgoing_next < active->outgoing_count)
        return 0;
    if (active->steps)
        RULE_FIRED(RESTS);
    if (active->steps && RULE(RESTS))
        return 0;
    for (const struct timer *timer = active->timers; timer; timer = timer->next)
        if (due < 0 || timer->fire_at < due)
            due = timer->fire_at;
    return due == 0 ? 1 : due;
}

/* Other code may not want what the code did that said so: whether it does is seen at once, not when it is due. */
static bool run_code_is_here(const struct engine *engine, const struct run *run)
{
    const struct callable *callable = run->type ? registry_job(engine->config.registry, run->type) : NULL;
    return callable && strcmp(callable->build, run->build) == 0;
}

/* Of an open run, when it is to be brought back; INT64_MAX: when something comes. In the past: by how long. */
static int64_t run_due(const struct engine *engine, const struct run *run)
{
    const struct active *active = run->user;
    int64_t rests = run->rests;
    if (rests == 0 || run->unknown_event || run->crashes || (active && active->steps))
        return engine->monotonic_ms - (engine->wall_ms > run->t ? engine->wall_ms - run->t : 0);
    if (run_may_be_unshown(engine, run) || !run_code_is_here(engine, run))
        rests = rests < 0 || rests > engine->wall_ms ? engine->wall_ms : rests;
    return rests < 0 ? INT64_MAX : engine->monotonic_ms + (rests - engine->wall_ms);
}

/* A new owner brings back what may have steps to run, and what is due; it needs nothing else in memory. */
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
            int64_t due = run_due(engine, run);
            if (due == INT64_MAX && !run->user)
                continue;
            struct active *active = active_of(engine, run);
            if (!active)
                return;
            active->run = run->run;
            active->seq = run->seq;
            active->digest = run->digest;
            active->t = run->t;
            active->ending = false;
            active->parked = active->crash_pending = active->split = false;
            status_untold(active, run_may_be_unshown(engine, run));
            if (active->inputs.head)
                active_enqueue(active);
            else if (due != INT64_MAX)
                wake_at(active, due);
            else
                active_settle(active);
        }
    crashes_attach(engine, true);
}

/* ---- bringing back, a few at a time (hazard 51) ------------------------------------------------------------------ */

void wake_at(struct active *active, int64_t due)
{
    if (alarm_set(&active->engine->wakes, &active->wake_alarm, due) != PDR_OK)
        engine_stop(active->engine, "out of memory");
}

static void woken_remove(struct active *active)
{
    struct engine *engine = active->engine;
    if (!active->woken)
        return;
    if (active->woken_before)
        active->woken_before->woken_next = active->woken_next;
    else
        engine->woken = active->woken_next;
    if (active->woken_next)
        active->woken_next->woken_before = active->woken_before;
    active->woken_next = active->woken_before = NULL;
    active->woken = false;
    engine->woken_count--;
}

static void woken_add(struct active *active)
{
    struct engine *engine = active->engine;
    if (active->woken)
        return;
    active->woken = true;
    active->woken_next = engine->woken;
    if (engine->woken)
        engine->woken->woken_before = active;
    engine->woken = active;
    if (++engine->woken_count > engine->counts.woken_most)
        engine->counts.woken_most = engine->woken_count;
}

void wake_clear(struct active *active)
{
    alarm_clear(&active->engine->wakes, &active->wake_alarm);
    woken_remove(active);
}

/* Those that are at rest again make room. */
static bool wakes_admit(struct engine *engine)
{
    for (struct active *active = engine->woken, *next; active && engine->woken_count >= engine->limits.woken_jobs;
         active = next) {
        next = active->woken_next;
        if (!active->job || active_is_at_rest(active))
            woken_remove(active);
    }
    return engine->woken_count < engine->limits.woken_jobs && memory_admits(engine, NULL);
}

/* So many of a millisecond: the host may call again and again before it looks at what has come. */
static bool wakes_have_time(struct engine *engine)
{
    if (engine->wakes_ms != engine->monotonic_ms) {
        engine->wakes_ms = engine->monotonic_ms;
        engine->wake_budget = WAKE_EVENTS_PER_MS;
    }
    return engine->wake_budget > 0;
}

/* It left memory while a step of it waited for room, and others that are in memory still do: it would only join them, and
 * leave again. */
static bool wake_is_of_no_use(const struct engine *engine, const struct active *active)
{
    return engine->short_of_memory.head && engine->monotonic_ms < active->due_else && !active->inputs.head;
}

static void wake_one(struct engine *engine, struct active *active)
{
    if (wake_is_of_no_use(engine, active)) {
        int64_t again = engine->monotonic_ms + WAITERS_LOOK_MS;
        wake_at(active, again < active->due_else ? again : active->due_else);
        return;
    }
    size_t cost = WAKE_EVENTS_OF_JOB + active->head->seq;
    engine->wake_budget -= cost < engine->wake_budget ? cost : engine->wake_budget;
    if (active->in_flight || retention_holds(engine, active)) { /* the job is not to run just now */
        wake_at(active, engine->monotonic_ms + 1);
    } else if (!slots_keep(engine, active->head->job)) {
        slots_stand_still(active);
    } else if (!active->inputs.head && run_is_open(active->head) && start_is_held(active, active->head->type)) {
        active_load_input(active); /* its status may be of an owner without that rate */
        status_schedule(active, false);
    } else {
        woken_add(active);
        (void)memory_admits(engine, active); /* looked at before it was taken */
        turn_run(active);
    }
}

void wakes_take(struct engine *engine)
{
    while (alarms_next(&engine->wakes) <= engine->monotonic_ms && engine->state == ENGINE_OWNER &&
           engine->append_count < engine->limits.appends_in_flight && wakes_have_time(engine) && wakes_admit(engine)) {
        struct alarm *alarm = alarms_take(&engine->wakes, engine->monotonic_ms);
        wake_one(engine, (struct active *)((char *)alarm - offsetof(struct active, wake_alarm)));
    }
}

bool engine_has_due(const struct engine *engine) { return alarms_next(&engine->wakes) <= engine->monotonic_ms; }

int64_t wakes_next(const struct engine *engine)
{
    int64_t next = alarms_next(&engine->wakes);
    if (engine->state != ENGINE_OWNER || engine->append_count >= engine->limits.appends_in_flight)
        return INT64_MAX;
    if (next > engine->monotonic_ms)
        return next;
    /* Out of time or of room: what makes room comes as an input, or in so long. */
    return engine->wakes_ms == engine->monotonic_ms && engine->wake_budget == 0 ? engine->monotonic_ms + 1
           : engine->woken_count >= engine->limits.woken_jobs || !memory_has_room(engine) ? engine->monotonic_ms + 10
                                                                                : engine->monotonic_ms;
}
