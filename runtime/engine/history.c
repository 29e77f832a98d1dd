/*
 * A run's job: made, brought back to where it was by its history, and asked what it wants.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/internal.h"

struct history {
    Event **events;
    size_t count;
    size_t capacity;
    digest digest;
    bool broken;
};

static bool history_visit(void *context, int64_t offset, const void *data, size_t size)
{
    struct history *history = context;
    Record *record = NULL;
    (void)offset;
    if (record_decode(data, size, &record) != WIRE_OK) {
        history->broken = true;
        return false;
    }
    /* A log that was copied forward holds records twice, and of the first ones perhaps a part: whatever continues the
     * chain is taken. */
    if (record->header->seq != history->count + 1 ||
        !digest_equal(digest_from_bytes(record->header->prev), history->digest)) {
        record_free(record);
        return true;
    }
    for (size_t i = 0; i < record->n_events; i++) {
        if (history->count == history->capacity) {
            size_t capacity = history->capacity ? history->capacity * 2 : 16;
            Event **events = realloc(history->events, capacity * sizeof *events);
            if (!events) {
                history->broken = true;
                break;
            }
            history->events = events;
            history->capacity = capacity;
        }
        Event *event = event_decode(record->events[i].data, record->events[i].len);
        if (!event) {
            history->broken = true;
            break;
        }
        history->events[history->count++] = event;
        history->digest = digest_next(history->digest, record->events[i].data, record->events[i].len);
    }
    record_free(record);
    return !history->broken;
}

static void history_release(struct history *history)
{
    for (size_t i = 0; i < history->count; i++)
        event_free(history->events[i]);
    free(history->events);
}

static int history_read(struct active *active, struct history *history)
{
    struct engine *engine = active->engine;
    struct engine_host *host = &engine->config.host;
    int code = LOG_OK;
    memset(history, 0, sizeof *history);
    history->digest = digest_of_run(active->run);
    /* A store that was given nothing since the journal was read anew has at most what was wrong before, and may fail to
     * say even that. */
    if (engine->records_stored || engine->histories_below == INT64_MAX)
        code = host->history(host->context, engine->config.partition, active->head->job, active->run, history_visit,
                             history);
    /* What the host does not hold yet, we do. */
    for (struct unsaved_record *record = save_unsaved_of(engine, active->run); record && code == LOG_OK;
         record = record->next_in_bucket)
        if (record->run == active->run && record->seq == history->count + 1 &&
            strcmp(record->job, active->head->job) == 0)
            history_visit(history, record->offset, record->data, record->size);
    return code;
}

Event **active_events(struct active *active, size_t *count)
{
    struct history history;
    if (history_read(active, &history) == LOG_OK && !history.broken && history.count == active->head->seq) {
        *count = history.count;
        return history.events;
    }
    history_release(&history);
    *count = 0;
    return NULL;
}

/* A store is a cache: what it lost is in the journal. Where the log itself keeps the histories there is no other, and a
 * disk that loses them again and again is not read from for ever. */
static bool history_is_elsewhere(struct active *active, const struct history *history)
{
    struct engine *engine = active->engine;
    if (engine->monotonic_ms - engine->histories_lost_ms > HISTORY_REBUILDS_MS)
        engine->histories_lost = 0;
    if (engine->histories_below == INT64_MAX || engine->histories_lost >= HISTORY_REBUILDS)
        return false;
    engine->histories_lost++;
    engine->histories_lost_ms = engine->monotonic_ms;
    engine->history_lost = true;
    snprintf(engine->judge->error, sizeof engine->judge->error,
             "the store gives %llu of the %llu events of job %.100s, or others than counted",
             (unsigned long long)history->count, (unsigned long long)active->head->seq, active->head->job);
    return true;
}

static bool history_load(struct active *active, struct history *history)
{
    int code = history_read(active, history);
    if (code == LOG_OK && !history->broken && history->count == active->head->seq &&
        digest_equal(history->digest, active->head->digest))
        return true;
    if (history_is_elsewhere(active, history))
        return false;
    char why[256];
    snprintf(why, sizeof why, "its history cannot be read: %llu of %llu events are there, or their digest differs",
             (unsigned long long)history->count, (unsigned long long)active->head->seq);
    active_park(active, "quarantined", why);
    return false;
}

static void active_check_job(struct active *active)
{
    enum job_state state = job_state_of(active->job);
    if (state == JOB_DIVERGED || state == JOB_BROKEN) {
        char *report = strdup(job_report(active->job) ? job_report(active->job) : "");
        active_park(active, state == JOB_DIVERGED ? "diverged" : "quarantined", report);
        free(report);
    }
}

static void outgoing_push(struct active *active, Event *event)
{
    if (active->outgoing_count == active->outgoing_capacity) {
        size_t capacity = active->outgoing_capacity ? active->outgoing_capacity * 2 : 4;
        Event **outgoing = realloc(active->outgoing, capacity * sizeof *outgoing);
        if (!outgoing) {
            event_free(event);
            engine_stop(active->engine, "out of memory");
            return;
        }
        active->outgoing = outgoing;
        active->outgoing_capacity = capacity;
    }
    active->outgoing[active->outgoing_count++] = event;
}

/* What the job wants now: commands to log, attempts to run, timers to arm. */

void active_take(struct active *active)
{
    struct job_command command;
    while (job_take(active->job, &command)) {
        switch (command.kind) {
        case JOB_RECORD:
            outgoing_push(active, command.event);
            break;
        case JOB_STEP:
            step_want(active, &command);
            break;
        case JOB_ABANDON_STEP:
            step_abandon(active, command.op);
            break;
        case JOB_ARM_TIMER:
            timer_arm(active, command.op, command.at_ms);
            break;
        case JOB_DISARM_TIMER:
            timer_disarm(active, command.op);
            break;
        case JOB_NOTHING:
            break;
        }
    }
    active_check_job(active);
}

static const struct callable *active_callable(struct active *active, const char *type)
{
    const struct callable *callable = registry_job(active->engine->config.registry, type);
    if (!callable) {
        char why[256];
        snprintf(why, sizeof why, "waits for a worker with the module of `%s`", type);
        active_park(active, "waiting", why);
    }
    return callable;
}

bool active_new_job(struct active *active, const char *type)
{
    const struct callable *callable = active_callable(active, type);
    if (!callable)
        return false;
    active->job = job_new(active->engine->config.registry, callable, active->head->job, active->run,
                          &active->engine->config.job);
    if (!active->job)
        active_park(active, "quarantined", "no memory or address space for its stack");
    active->known = active->job != NULL;
    return active->job != NULL;
}

/* Runs the job function again against its history, up to where it was. */
bool active_replay(struct active *active)
{
    struct engine *engine = active->engine;
    struct history history;
    int64_t (*stopwatch)(void *) = engine->config.host.stopwatch_us;
    int64_t begin = stopwatch ? stopwatch(engine->config.host.context) : 0;

    if (crash_parks(active))
        return false;
    if (active->head->unknown_event) {
        active_park(active, "quarantined", "its history has an event that this version does not know");
        return false;
    }
    if (!history_load(active, &history)) {
        history_release(&history);
        return false;
    }
    if (history.events[0]->kind_case == PERDURE__V1__EVENT__KIND_STARTED)
        active_set_input(active, history.events[0]);
    if (!active_new_job(active, active->head->type)) {
        history_release(&history);
        return false;
    }
    bool first = start_was_held(active);
    engine->replays_this_turn++;
    engine->counts.replays += !first;
    alarm_clear(&engine->wakes, &active->wake_alarm); /* its timers are armed again */
    job_replay(active->job, (const Event *const *)history.events, history.count);
    history_release(&history);
    active_take(active);
    if (!active->job)
        return false;
    steps_drop_unwanted(active);
    active->known = true;
    active_touch(active);
    if (first)
        return true;
    const pdr_site *site = job_site(active->job);
    struct queued_output *queued = engine_put(engine, ENGINE_OUT_REPLAYED);
    if (queued) {
        queued->output.key = queued->owned[0] = strdup(active->head->job);
        queued->output.run = active->run;
        queued->output.count = active->head->seq;
        queued->output.microseconds = stopwatch ? stopwatch(engine->config.host.context) - begin : 0;
        Site *shown = calloc(1, sizeof *shown);
        if (site && shown) {
            perdure__v1__site__init(shown);
            shown->file = (char *)site->file;
            shown->function = (char *)site->function;
            shown->line = (uint32_t)site->line;
        }
        queued->owned[1] = shown;
        queued->output.site = site ? shown : NULL;
    }
    return true;
}
