/*
 * The runs that the owner works on: made, given inputs, queued for a turn, parked, watched; those with a stack in the
 * order of their use, the least recently used evicted beyond the limits.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/internal.h"

/* ---- inputs ----------------------------------------------------------------------------------------------- */

void input_free(struct input *input)
{
    if (!input)
        return;
    if (input->engine)
        memory_subtract(input->engine, input->counted);
    event_free(input->event);
    free(input->request);
    free(input->reply_to);
    free(input);
}

void inputs_clear(struct input_list *list)
{
    while (list->head) {
        struct input *next = list->head->next;
        input_free(list->head);
        list->head = next;
    }
    list->tail = NULL;
}

void inputs_append(struct input_list *list, struct input *input)
{
    input->next = NULL;
    if (list->tail)
        list->tail->next = input;
    else
        list->head = input;
    list->tail = input;
}

struct input *inputs_take(struct input_list *list)
{
    struct input *input = list->head;
    list->head = input->next;
    if (!list->head)
        list->tail = NULL;
    input->next = NULL;
    return input;
}

void input_push(struct active *active, struct input *input)
{
    inputs_append(&active->inputs, input);
    active_enqueue(active);
}

/* ---- active runs -------------------------------------------------------------------------------------------- */

struct active *active_of(struct engine *engine, struct run *head)
{
    if (head->user)
        return head->user;
    struct active *active = calloc(1, sizeof *active);
    if (!active) {
        engine_stop(engine, "out of memory");
        return NULL;
    }
    active->engine = engine;
    active->head = head;
    active->run = head->run;
    active->seq = head->seq;
    active->digest = head->digest;
    active->t = head->t;
    active->status_alarm.kind = ALARM_STATUS;
    active->wake_alarm.kind = ALARM_WAKE;
    head->user = active;
    return active;
}

void active_enqueue(struct active *active)
{
    struct engine *engine = active->engine;
    if (active->queued || active->in_flight)
        return; /* turn_confirmed() looks again */
    active->queued = true;
    active->next_queued = NULL;
    if (engine->runnable_tail)
        engine->runnable_tail->next_queued = active;
    else
        engine->runnable = active;
    engine->runnable_tail = active;
}

void active_dequeue(struct active *active)
{
    struct engine *engine = active->engine;
    struct active *previous = NULL;
    if (!active->queued)
        return;
    for (struct active *at = engine->runnable; at != active; at = at->next_queued)
        previous = at;
    if (previous)
        previous->next_queued = active->next_queued;
    else
        engine->runnable = active->next_queued;
    if (engine->runnable_tail == active)
        engine->runnable_tail = previous;
    active->queued = false;
}

static void lru_remove(struct active *active)
{
    struct engine *engine = active->engine;
    if (!active->in_lru)
        return;
    if (active->newer)
        active->newer->older = active->older;
    else
        engine->lru_newest = active->older;
    if (active->older)
        active->older->newer = active->newer;
    else
        engine->lru_oldest = active->newer;
    active->newer = active->older = NULL;
    active->in_lru = false;
    engine->live_jobs--;
    engine->live_bytes -= active->bytes;
    memory_subtract(engine, active->bytes);
}

void active_touch(struct active *active)
{
    struct engine *engine = active->engine;
    lru_remove(active);
    active->bytes = job_bytes(active->job);
    active->older = engine->lru_newest;
    if (engine->lru_newest)
        engine->lru_newest->newer = active;
    else
        engine->lru_oldest = active;
    engine->lru_newest = active;
    active->in_lru = true;
    engine->live_jobs++;
    if (engine->live_jobs > engine->counts.live_jobs_most)
        engine->counts.live_jobs_most = engine->live_jobs;
    engine->live_bytes += active->bytes;
    active->used_ms = engine->monotonic_ms;
    memory_add(engine, active->bytes);
}

void active_drop_job(struct active *active)
{
    lru_remove(active);
    for (size_t i = active->outgoing_next; i < active->outgoing_count; i++)
        event_free(active->outgoing[i]);
    free(active->outgoing);
    active->outgoing = NULL;
    active->outgoing_count = active->outgoing_next = active->outgoing_capacity = 0;
    steps_forget_job(active);
    timers_clear(active);
    if (active->job)
        job_free(active->job);
    active->job = NULL;
}

static void watchers_clear(struct active *active)
{
    while (active->watchers) {
        struct watcher *next = active->watchers->next;
        free(active->watchers->request);
        free(active->watchers);
        active->watchers = next;
    }
}

void active_free(struct active *active)
{
    struct engine *engine = active->engine;
    if (engine->alone == active)
        engine->alone = NULL;
    active_dequeue(active);
    active_drop_job(active);
    start_leave(active);
    steps_clear(active, false);
    inputs_clear(&active->inputs);
    watchers_clear(active);
    stops_clear(active);
    payload_free(active->input);
    alarm_clear(&engine->alarms, &active->status_alarm);
    status_untold(active, false);
    wake_clear(active);
    active->head->user = NULL;
    free(active->report);
    free(active);
}

void active_settle(struct active *active)
{
    if (active->job || active->in_flight || active->inputs.head || active->steps || active->queued ||
        active->watchers || active->parked || active->start || active->status_alarm.place || active->wake_alarm.place)
        return;
    active_free(active);
}

void active_park(struct active *active, const char *state, const char *report)
{
    active->parked = true;
    active->known = false;
    active->parked_state = state;
    free(active->report);
    active->report = report ? strdup(report) : NULL;
    active_drop_job(active);
    start_leave(active);
    steps_clear(active, true);
    status_schedule(active, true);
}

void active_set_input(struct active *active, const Event *started)
{
    payload_free(active->input);
    active->input = started->started->input ? payload_copy(started->started->input) : NULL;
}

void watchers_answer(struct active *active)
{
    struct engine *engine = active->engine;
    while (active->watchers) {
        struct watcher *watcher = active->watchers;
        active->watchers = watcher->next;
        Reply *reply = reply_make("ended", watcher->request, true);
        if (reply)
            reply->status = status_make(engine, active->head);
        reply_send(engine, &watcher->reply_to, reply);
        free(watcher->request);
        free(watcher);
    }
}

/* ---- eviction -------------------------------------------------------------------------------------------------------- */

static int64_t active_wake_time(const struct active *active)
{
    int64_t due = INT64_MAX;
    for (struct timer *timer = active->timers; timer; timer = timer->next)
        if (timer->alarm.place && timer->alarm.due < due)
            due = timer->alarm.due;
    for (struct step *step = active->steps; step; step = step->next)
        if (!step->remote && step->state == STEP_DELAYED && step->alarm.place && step->alarm.due < due)
            due = step->alarm.due;
    return due;
}

bool active_is_at_rest(const struct active *active)
{
    if (active->in_flight || active->inputs.head || active->queued || active->running_steps || active->ending ||
        active->outgoing_next < active->outgoing_count)
        return false;
    for (struct step *step = active->steps; step; step = step->next)
        if (step->state != STEP_DELAYED && !step->remote && !step_waits_for_memory(step))
            return false;
    /* What is due fires at the next tick; evicted before it, the job would be replayed and evicted for ever. */
    return active_wake_time(active) > active->engine->monotonic_ms;
}

static bool active_is_evictable(const struct active *active)
{
    return active->head->last < active->engine->histories_below && active_is_at_rest(active);
}

/* It makes room for others, and comes back in the line of those that are due. */
static bool active_waits_for_memory(const struct active *active)
{
    const struct step *step = active->steps;
    while (step && !step_waits_for_memory(step))
        step = step->next;
    return step != NULL;
}

static void active_evict(struct active *active)
{
    struct engine *engine = active->engine;
    bool waited = active_waits_for_memory(active);
    int64_t due = active_wake_time(active);
    active->due_else = waited ? due : 0;
    active_drop_job(active);
    if (waited || due != INT64_MAX)
        wake_at(active, waited ? engine->monotonic_ms : due);
    engine->counts.evictions++;
    active_settle(active);
}

/* Those that cannot be given up now are passed over, a few each time: what is over the limit when nothing more happens would
 * stay for ever. */
bool active_evict_oldest(struct engine *engine)
{
    struct active *active = engine->lru_oldest;
    for (size_t passed_over = 0; active && passed_over < 64; passed_over++) {
        struct active *next = active->newer;
        if (active_is_evictable(active)) {
            if (active->status_alarm.place)
                status_publish(active);
            active_evict(active);
            return true;
        }
        active_touch(active); /* looked at again when the others have been */
        active = next;
    }
    return false;
}

/* Beyond the limits, the least recently used go. */
void actives_evict(struct engine *engine)
{
    while ((engine->live_jobs > engine->limits.live_jobs || engine->live_bytes > engine->limits.live_bytes) &&
           active_evict_oldest(engine)) {
    }
}
