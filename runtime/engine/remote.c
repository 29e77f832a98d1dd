/*
 * Attempts that are executed outside. Where one stands:
 *   UNLOGGED  the job asked for it; its StepScheduled goes into the next append
 *   DELAYED   a retry that is not due, or a result that waits for its turn
 *   HELD      due, its queue has no room
 *   ASKED     its StepDispatched is an input of the run
 *   OUT       dispatched by an event; the outbox sends it. Begun as soon as a report says so
 * Points in time follow from t of the events, so a new owner goes on with them. Only whether an attempt has begun is not
 * logged at once: a new owner finds it in the history or, of the last moment, in the inbox, and waits for its next heartbeat
 * before it judges by silence.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/internal.h"

bool remote_is_outside(const struct engine *engine, const struct job_command *command)
{
    if (command->later)
        return true;
    return command->policy->queue && (engine->config.has_queues || !registry_step(engine->config.registry, command->step));
}

static void remote_let_report_go(struct step *step)
{
    struct remote *remote = step->remote;
    if (remote->report > 0)
        inbox_done(step->active->engine, remote->report - 1);
    remote->report = 0;
}

void remote_free(struct step *step)
{
    struct remote *remote = step->remote;
    if (!remote)
        return;
    remote_let_report_go(step);
    queue_unhold(step);
    queue_leave(step);
    free(remote->declined);
    free(remote->worker);
    free(remote->second);
    free(remote->request);
    payload_free(remote->progress);
    free(remote);
    step->remote = NULL;
}

/* ---- what a job wants ------------------------------------------------------------------------------------------------ */

/* Due: into the queue, or, where there is none, in the hands of whoever has the token. */
static void remote_ready(struct step *step, const char *reason)
{
    struct remote *remote = step->remote;
    remote->reason = reason;
    if (remote->queue) {
        queue_hold(step->active->engine, step);
    } else {
        step->state = STEP_OUT;
        remote->dispatched_ms = remote->since_ms;
        remote->begun = true;
        remote->begun_ms = remote->since_ms;
    }
    remote_arm(step);
}

/* A new owner has heard nothing of it yet. */
static void remote_is_unheard(struct step *step)
{
    struct remote *remote = step->remote;
    int64_t now = step->active->engine->monotonic_ms;
    remote->heard = now;
    remote->trusted = now + (step->policy.heartbeat_ms > 0 ? step->policy.heartbeat_ms : TASK_HEARTBEAT_MS);
    remote->judged_from = now + TASK_JUDGED_AFTER_MS;
}

static void remote_is_out(struct step *step, const struct job_command *command)
{
    struct engine *engine = step->active->engine;
    struct remote *remote = step->remote;
    step->state = STEP_OUT;
    remote->dispatch = command->dispatch;
    remote->dispatched_ms = command->dispatched_ms;
    remote->begun = command->begun || !remote->queue;
    remote->begun_ms = remote->queue ? command->begun_ms : command->dispatched_ms;
    remote_is_unheard(step);
    remote->noted = command->begun ? engine->monotonic_ms : 0;
    remote->detailed = remote->progress ? remote->noted : 0;
    if (!remote->begun)
        queue_enter(step);
    remote_arm(step);
}

void remote_want(struct step *step, const struct job_command *command)
{
    struct engine *engine = step->active->engine;
    struct remote *remote = step->remote;
    if (remote)
        return; /* it was evicted, and wants what it wanted */
    remote = step->remote = calloc(1, sizeof *remote);
    if (!remote) {
        engine_stop(engine, "out of memory");
        return;
    }
    bool queued = step->policy.queue && engine->config.has_queues && !command->later;
    remote->step = step;
    remote->queue = queued ? queue_of(engine, step->policy.queue) : NULL;
    remote->scheduled_ms = command->scheduled_ms;
    remote->since_ms = command->at_ms > 0 ? command->at_ms : command->scheduled_ms;
    remote->progress = payload_copy(command->progress);
    if (step->policy.queue && command->scheduled_ms == 0) {
        step->state = STEP_UNLOGGED;
    } else if (command->later || command->dispatched == command->attempt) {
        remote_is_out(step, command);
    } else if (command->at_ms > engine->wall_ms) {
        step->state = STEP_DELAYED;
        step->alarm.kind = ALARM_RETRY;
        alarm_set(&engine->alarms, &step->alarm, engine_due(engine, command->at_ms));
    } else {
        remote_ready(step, command->attempt > 1 ? DISPATCH_RETRY : DISPATCH_ROOM);
    }
}

/* ---- events ------------------------------------------------------------------------------------------------------------ */

bool event_is_passive(const Event *event)
{
    return event->kind_case == PERDURE__V1__EVENT__KIND_STEP_DISPATCHED ||
           event->kind_case == PERDURE__V1__EVENT__KIND_STEP_PROGRESS;
}

bool input_is_passive(const struct input *input) { return input->event && event_is_passive(input->event); }

/* Nothing overtakes what is held back already. */
void remote_admit(struct active *active, Event *event)
{
    struct step *step = step_find(active, event->op);
    struct queue *queue = step && step->remote ? step->remote->queue : NULL;
    if (!queue)
        return;
    event->step_scheduled->held = queue->held.count > 0 || !queue_admits(active->engine, queue);
}

void remote_scheduled(struct active *active, const Event *event)
{
    struct step *step = step_find(active, event->op);
    struct remote *remote = step ? step->remote : NULL;
    if (!remote || step->state != STEP_UNLOGGED)
        return;
    remote->scheduled_ms = remote->since_ms = event->t;
    step->first_started_ms = event->t;
    if (event->step_scheduled->held || !remote->queue) {
        remote_ready(step, DISPATCH_ROOM);
        return;
    }
    step->state = STEP_OUT;
    remote->dispatch = 1;
    remote->dispatched_ms = event->t;
    queue_enter(step);
    remote_arm(step);
}

/* NULL: no memory; told. */
static Perdure__V1__StepDispatched *dispatched_make(struct step *step, const char *reason, struct input **input)
{
    struct engine *engine = step->active->engine;
    Perdure__V1__StepDispatched *dispatched = calloc(1, sizeof *dispatched);
    if (!*input)
        *input = input_of_inside();
    if (!*input || !(*input)->event || !dispatched) {
        input_free(*input);
        free(dispatched);
        engine_stop(engine, "out of memory");
        return NULL;
    }
    perdure__v1__step_dispatched__init(dispatched);
    dispatched->name = strdup(step->name);
    dispatched->input_digest = step->input_digest;
    dispatched->attempt = step->attempt;
    dispatched->dispatch = step->remote ? step->remote->dispatch + 1 : 1;
    dispatched->reason = strdup(reason);
    (*input)->event->op = step->op;
    (*input)->event->kind_case = PERDURE__V1__EVENT__KIND_STEP_DISPATCHED;
    (*input)->event->step_dispatched = dispatched;
    return dispatched;
}

void remote_ask(struct step *step, const char *reason, struct input *input)
{
    if (!dispatched_make(step, reason, &input))
        return;
    step->state = STEP_ASKED;
    input_push(step->active, input);
}

/* From when it went there: what waited there for long is not held back here too. */
static int64_t declined_until(const struct step *step)
{
    int64_t now = step->active->engine->wall_ms, wait = TASK_DECLINED_MS;
    for (uint32_t i = 1; i < step->remote->dispatch && wait < TASK_DECLINED_MAX_MS; i++)
        wait *= 2;
    if (wait > TASK_DECLINED_MAX_MS)
        wait = TASK_DECLINED_MAX_MS;
    if (step->remote->dispatched_ms > now) /* by the clock of another owner */
        return now + wait;
    return step->remote->dispatched_ms + wait > now ? step->remote->dispatched_ms + wait : 0;
}

void remote_ask_again(struct step *step, const char *declined, struct input *input)
{
    Perdure__V1__StepDispatched *dispatched = dispatched_make(step, DISPATCH_DECLINED, &input);
    if (!dispatched)
        return;
    dispatched->not_before = declined_until(step);
    dispatched->declined = strdup(declined);
    step->state = STEP_ASKED;
    input_push(step->active, input);
}

bool remote_dispatch_is_wanted(const struct active *active, const Event *event)
{
    const struct step *step = step_find(active, event->op);
    return step && step->attempt == event->step_dispatched->attempt && step->state == STEP_ASKED;
}

/* Its event has its t. */
void remote_dispatched(struct active *active, const Event *event)
{
    struct step *step = step_find(active, event->op);
    struct remote *remote = step ? step->remote : NULL;
    if (!remote) /* its job was put aside meanwhile */
        return;
    step->state = STEP_OUT;
    remote->dispatch = event->step_dispatched->dispatch;
    remote->dispatched_ms = event_dispatched_ms(event);
    free(remote->declined);
    remote->declined = event->step_dispatched->declined[0] ? strdup(event->step_dispatched->declined) : NULL;
    remote->begun = !remote->queue;
    remote->begun_ms = remote->queue ? 0 : event->t;
    remote->noted = remote->detailed = 0;
    remote_let_report_go(step);
    queue_enter(step);
    remote_arm(step);
}

void remote_park_report(const struct step *step)
{
    struct remote *remote = step->remote;
    if (!remote || remote->report == 0)
        return;
    inbox_park(step->active->engine, remote->report - 1);
    remote->report = 0;
}

void remote_noted(struct active *active, const Event *event)
{
    struct step *step = step_find(active, event->op);
    struct remote *remote = step && step->attempt == event->step_progress->attempt ? step->remote : NULL;
    if (!remote)
        return;
    remote_let_report_go(step);
    if (step->state != STEP_OUT || remote->begun)
        return;
    remote_begun(step, event->step_progress->started); /* taken from a report while the job was not in memory */
    remote->noted = active->engine->monotonic_ms;
    remote_is_unheard(step);
    remote_arm(step);
}

void remote_begun(struct step *step, int64_t begun_ms)
{
    struct remote *remote = step->remote;
    queue_leave(step);
    if (!remote->begun || remote->begun_ms == 0)
        remote->begun_ms = begun_ms;
    remote->begun = true;
}

void remote_note_begun(struct active *active)
{
    for (struct step *step = active->steps; step && !active->head->unknown_event; step = step->next)
        if (step->state == STEP_OUT && step->remote && step->remote->queue && step->remote->begun && step->remote->noted == 0)
            report_note_progress(step);
}

/* ---- time ---------------------------------------------------------------------------------------------------------------- */

/* LIMIT_NOTE ends nothing: a new owner would not know that the attempt has begun. */
enum remote_limit { LIMIT_NONE, LIMIT_CLOSE, LIMIT_START, LIMIT_RUN, LIMIT_HEARTBEAT, LIMIT_LOST, LIMIT_NOTE };

static void limit_note(enum remote_limit limit, int64_t at, int64_t *first, enum remote_limit *which)
{
    if (at < *first) {
        *first = at;
        *which = limit;
    }
}

static int64_t later_of(int64_t a, int64_t b) { return a > b ? a : b; }

/* The wall clock may go back; answers that wait for the inbox's position do not wait for that. */
static int64_t remote_note_due(const struct engine *engine, const struct remote *remote)
{
    int64_t due = engine_due(engine, remote->begun_ms + TASK_NOTED_AFTER_MS);
    int64_t last = remote->report > 0 ? remote->kept + TASK_NOTED_AFTER_MS : INT64_MAX;
    return due < last ? due : last;
}

/* The limit that is reached first, and when. */
static enum remote_limit remote_limit(const struct step *step, int64_t *at)
{
    const struct engine *engine = step->active->engine;
    const struct remote *remote = step->remote;
    const struct step_policy *policy = &step->policy;
    enum remote_limit which = LIMIT_NONE;
    bool out = step->state == STEP_OUT;
    *at = INT64_MAX;
    if (policy->deadline_ms > 0 && remote->scheduled_ms > 0)
        limit_note(LIMIT_CLOSE, later_of(engine_due(engine, remote->scheduled_ms + policy->deadline_ms), remote->judged_from), at,
                   &which);
    if (!remote->begun && remote->queue && policy->schedule_to_start_ms > 0)
        limit_note(LIMIT_START,
                   later_of(engine_due(engine, remote->since_ms + policy->schedule_to_start_ms), remote->trusted), at,
                   &which);
    if (out && remote->begun && policy->timeout_ms > 0 && remote->begun_ms > 0)
        limit_note(LIMIT_RUN, later_of(engine_due(engine, remote->begun_ms + policy->timeout_ms), remote->judged_from), at, &which);
    if (out && remote->begun && remote->queue && remote->noted == 0)
        limit_note(LIMIT_NOTE, remote_note_due(engine, remote), at, &which);
    if (out && remote->begun && remote->queue && policy->heartbeat_ms > 0)
        limit_note(LIMIT_HEARTBEAT, remote->heard + policy->heartbeat_ms, at, &which);
    if (out && !remote->begun && remote->queue)
        limit_note(LIMIT_LOST,
                   later_of(engine_due(engine, remote->dispatched_ms + TASK_REDISPATCH_MS + TASK_SKEW_MS),
                            remote->trusted),
                   at, &which);
    return which;
}

static void remote_put_off(struct step *step)
{
    struct remote *remote = step->remote;
    int64_t again = step->active->engine->monotonic_ms + TASK_JUDGED_AFTER_MS;
    remote->judged_from = later_of(remote->judged_from, again);
    remote->trusted = later_of(remote->trusted, again);
    if (step->policy.heartbeat_ms > 0)
        remote->heard = later_of(remote->heard, again - step->policy.heartbeat_ms);
}

void remote_arm(struct step *step)
{
    struct engine *engine = step->active->engine;
    int64_t at;
    if (step->state != STEP_OUT && step->state != STEP_HELD)
        return;
    step->alarm.kind = ALARM_TIMEOUT;
    if (remote_limit(step, &at) == LIMIT_NONE)
        alarm_clear(&engine->alarms, &step->alarm);
    else
        alarm_set(&engine->alarms, &step->alarm, at);
}

static void remote_expired(struct step *step, const char *what, int64_t limit_ms, bool final)
{
    char message[200];
    snprintf(message, sizeof message, "%s %lld ms", what, (long long)limit_ms);
    step_end_with_error(step, PDR_TIMED_OUT, "TimedOut", message, final);
}

void remote_on_alarm(struct step *step)
{
    struct engine *engine = step->active->engine;
    const struct step_policy *policy = &step->policy;
    int64_t at;
    if (step->state == STEP_DELAYED) {
        if (step->alarm.kind == ALARM_RETRY)
            remote_ready(step, step->attempt > 1 ? DISPATCH_RETRY : DISPATCH_ROOM);
        return;
    }
    enum remote_limit limit = remote_limit(step, &at);
    if (limit == LIMIT_NONE || at > engine->monotonic_ms) {
        remote_arm(step);
        return;
    }
    if (limit != LIMIT_NOTE && !inbox_is_heard(engine)) { /* that it has ended, or lives, may lie there */
        remote_put_off(step);
        remote_arm(step);
        return;
    }
    switch (limit) {
    case LIMIT_CLOSE:
        remote_expired(step, "the step was not done within", policy->deadline_ms, true);
        break;
    case LIMIT_START:
        remote_expired(step, "no worker of its queue began it within", policy->schedule_to_start_ms, true);
        break;
    case LIMIT_RUN:
        remote_expired(step, "the attempt ran longer than its timeout of", policy->timeout_ms, false);
        break;
    case LIMIT_HEARTBEAT:
        remote_expired(step, "its worker was not heard of for", policy->heartbeat_ms, false);
        break;
    case LIMIT_LOST:
        remote_ask(step, DISPATCH_LOST, NULL);
        break;
    case LIMIT_NOTE:
        report_note_progress(step);
        remote_arm(step);
        break;
    case LIMIT_NONE:
        break;
    }
}

/* ---- stops ----------------------------------------------------------------------------------------------------------------- */

/* Leaves when all that led to it is confirmed (rule 8). */
void remote_stop(struct step *step)
{
    struct remote *remote = step->remote;
    if (!remote || !remote->has_reply_to || remote->ended_by_worker)
        return;
    struct stop *stop = calloc(1, sizeof *stop);
    if (!stop)
        return; /* its next heartbeat is answered */
    stop->to = remote->reply_to;
    stop->request = strdup(remote->request ? remote->request : "");
    stop->next = step->active->stops;
    step->active->stops = stop;
}

void remote_stop_all(struct active *active)
{
    for (struct step *step = active->steps; step; step = step->next)
        remote_stop(step);
}

void stops_clear(struct active *active)
{
    while (active->stops) {
        struct stop *stop = active->stops;
        active->stops = stop->next;
        free(stop->request);
        free(stop);
    }
}

void stops_flush(struct active *active)
{
    for (struct stop *stop = active->stops; stop; stop = stop->next)
        reply_send(active->engine, &stop->to, reply_make("stop", stop->request ? stop->request : "", true));
    stops_clear(active);
}
