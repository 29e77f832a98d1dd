/*
 * What the workers of a queue say. Signs of life (begun, heartbeats) are not absorbed: what matters of them goes into the
 * history now and then, that an attempt has begun when it runs for a moment. Ends and refusals are inputs like any other
 * (rules 12, 13); an attempt ends once, and whoever executes what nobody waits for is told to stop.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/internal.h"
#include "job/codec.h"

#define REPORT(name) PERDURE__V1__TASK_REPORT__KIND_##name

static const Perdure__V1__TaskReport *report_of(const struct command_context *c) { return c->command->task_report; }

/* The run's steps must be known: after a takeover, by replaying it. Absorbing runs no code that was not run before. */
static void report_make_known(struct active *active)
{
    if (active->known || active->parked || active->job || active->in_flight || active->crash_pending ||
        !run_is_open(active->head) || active->run != active->head->run)
        return;
    active_replay(active);
    active_enqueue(active);
}

static bool step_may_end(const struct step *step)
{
    return step->state == STEP_OUT || step->state == STEP_RUNNING || step->state == STEP_HELD ||
           step->state == STEP_ASKED;
}

/* The step that waits for this very attempt (rule 14); NULL: none. */
static struct step *report_step(const struct command_context *c, const struct active *active)
{
    const Perdure__V1__TaskReport *report = report_of(c);
    struct step *step = step_find(active, report->op);
    if (!step)
        return NULL;
    bool same = step->attempt == report->attempt && step_may_end(step);
    if (!same)
        RULE_FIRED(ATTEMPT_NAMED);
    return same || !RULE(ATTEMPT_NAMED) ? step : NULL;
}

/* ---- signs of life -------------------------------------------------------------------------------------------------- */

static void report_stop(const struct command_context *c)
{
    if (c->command->reply_to)
        inbox_answer(c->engine, c->at->offset, c->command->reply_to, reply_make("stop", c->command->request, true));
}

/* Another one began it and is heard of: a second copy is not wanted. Without heartbeats nobody knows that the first one lives. */
static bool report_is_of_second(const struct step *step, const Perdure__V1__TaskReport *report)
{
    const struct remote *remote = step->remote;
    return remote->begun && remote->worker && step->policy.heartbeat_ms > 0 && strcmp(remote->worker, report->worker) != 0;
}

/* It may return early, with anything. */
static bool report_is_of_stopped(const struct step *step, const Perdure__V1__TaskReport *report)
{
    return step->remote && step->remote->second && strcmp(step->remote->second, report->worker) == 0;
}

static void report_note_worker(const struct command_context *c, struct step *step)
{
    struct remote *remote = step->remote;
    const Perdure__V1__TaskReport *report = report_of(c);
    if (!remote->worker || strcmp(remote->worker, report->worker) != 0) {
        free(remote->worker);
        remote->worker = strdup(report->worker);
    }
    if (!c->command->reply_to)
        return;
    remote->has_reply_to = true;
    remote->reply_to = *c->command->reply_to;
    free(remote->request);
    remote->request = strdup(c->command->request);
}

/* A new owner knows by it that the attempt has begun; the next attempt gets the detail. Takes `input` over. */
static bool progress_push(const struct step *step, struct input *input, const char *worker, int64_t started,
                          const Payload *detail)
{
    Perdure__V1__StepProgress *progress = input && input->event ? calloc(1, sizeof *progress) : NULL;
    if (!progress) {
        input_free(input);
        engine_stop(step->active->engine, "out of memory");
        return false;
    }
    perdure__v1__step_progress__init(progress);
    progress->name = strdup(step->name);
    progress->attempt = step->attempt;
    progress->detail = payload_copy(detail);
    progress->worker = strdup(worker ? worker : "");
    if (progress->worker)
        utf8_repair(progress->worker);
    progress->started = started;
    input->event->op = step->op;
    input->event->kind_case = PERDURE__V1__EVENT__KIND_STEP_PROGRESS;
    input->event->step_progress = progress;
    input_push(step->active, input);
    return true;
}

void report_note_progress(struct step *step)
{
    struct remote *remote = step->remote;
    const Payload *detail = remote->progressed ? remote->progress : NULL;
    if (!progress_push(step, input_of_inside(), remote->worker, remote->begun_ms, detail))
        return;
    remote->noted = step->active->engine->monotonic_ms;
    if (detail)
        remote->detailed = remote->noted;
}

static void report_heartbeat(const struct command_context *c, struct step *step)
{
    struct remote *remote = step->remote;
    const Payload *detail = report_of(c)->heartbeat->detail;
    if (detail && detail->data.len <= PAYLOAD_LIMIT_BYTES) {
        payload_free(remote->progress);
        remote->progress = payload_copy(detail);
        remote->progressed = true;
    }
    bool due = detail && (remote->detailed > 0 ? c->engine->monotonic_ms - remote->detailed >= TASK_PROGRESS_MS
                                               : c->engine->wall_ms - remote->begun_ms >= TASK_PROGRESS_MS);
    if (due && step->state == STEP_OUT)
        report_note_progress(step);
}

/* The attempt's beginning by our clock; the worker's word counts when it is no later than now. */
static int64_t report_begun_ms(const struct command_context *c)
{
    int64_t said = report_of(c)->started, now = c->engine->wall_ms;
    return said > 0 && said <= now && said >= now - 24 * 3600 * INT64_C(1000) ? said : now;
}

/* The first that is heard of an attempt stays where a new owner reads it, until the history says that it has begun. */
static bool report_keeps_its_place(const struct command_context *c, struct step *step)
{
    struct remote *remote = step->remote;
    if (step->state != STEP_OUT || !remote->queue || remote->noted > 0 || remote->report > 0)
        return false;
    remote->report = c->at->offset + 1;
    remote->kept = c->engine->monotonic_ms;
    inbox_keep(c->engine, c->at->offset, true);
    return true;
}

/* ---- ends ------------------------------------------------------------------------------------------------------------- */

static void report_refuse(const struct command_context *c)
{
    const Perdure__V1__TaskReport *report = report_of(c);
    inbox_refuse(c->engine, c->at->offset, c->header, c->command, "NotWaiting",
                 "job `%s` does not wait for attempt %u of operation %llu (any more): it has ended, or was given up",
                 c->header->job, report->attempt, (unsigned long long)report->op);
}

static Error *error_of(const char *type, const char *message)
{
    Error *error = calloc(1, sizeof *error);
    if (!error)
        return NULL;
    perdure__v1__error__init(error);
    error->type = strdup(type);
    error->message = strdup(message);
    error->code = PDR_FAILED;
    error->final = true;
    return error;
}

/* Whether the result can be read as what the step returns; JSON is converted. `why` says why not. */
static bool result_fits(const pdr_decl *decl, Payload *result, char *why, size_t size)
{
    if (result->data.len > PAYLOAD_LIMIT_BYTES) {
        snprintf(why, size, "the result takes %zu bytes, %d are allowed", result->data.len, PAYLOAD_LIMIT_BYTES);
        return false;
    }
    if (!decl)
        return true; /* no module here: the job reads it when it has one */
    if (result->json)
        return payload_from_json(decl->out, result, why, size) == PDR_OK;
    const char *wanted = codec_type_name(decl->out);
    if (strcmp(result->type, wanted) == 0)
        return true;
    snprintf(why, size, "the step's result is a %s, not a %s", wanted, result->type);
    return false;
}

/* False: refused. What a worker returned and nobody can read is the attempt's failure. */
static bool report_outcome(const struct command_context *c, const pdr_decl *decl, struct attempt_outcome *outcome)
{
    const Perdure__V1__TaskReport *report = report_of(c);
    char why[512] = "";
    *outcome = (struct attempt_outcome){ .code = PDR_FAILED };
    if (report->kind_case == REPORT(FAILED)) {
        outcome->error = error_copy(report->failed);
        if (outcome->error && outcome->error->code == 0)
            outcome->error->code = PDR_FAILED;
        for (Error *error = outcome->error; error; error = error->cause) { /* C workers in other hands check nothing */
            utf8_repair(error->type);
            utf8_repair(error->message);
        }
        return true;
    }
    outcome->result = payload_copy(report->completed);
    if (outcome->result && result_fits(decl, outcome->result, why, sizeof why)) {
        outcome->code = PDR_OK;
        return true;
    }
    payload_free(outcome->result);
    outcome->result = NULL;
    outcome->error = error_of("BadResult", why);
    if (report->worker[0])
        return true;
    inbox_refuse(c->engine, c->at->offset, c->header, c->command, "BadResult", "%s", why);
    error_free(outcome->error);
    outcome->error = NULL;
    return false;
}

/* A step worker hears when to stop, and nothing else: that its report was accepted nobody waits for. */
static struct input *report_input(const struct command_context *c)
{
    struct input *input = input_make(c);
    if (input && report_of(c)->worker[0]) {
        free(input->reply_to);
        input->reply_to = NULL;
    }
    return input;
}

static void report_end_of(const struct command_context *c, struct step *step)
{
    const Perdure__V1__TaskReport *report = report_of(c);
    struct attempt_outcome outcome;
    if (!report_outcome(c, step->decl, &outcome))
        return;
    struct input *input = report_input(c);
    if (input) {
        int64_t started = step->remote && step->remote->begun_ms ? step->remote->begun_ms : report->started;
        if (step->remote)
            step->remote->ended_by_worker = report->worker[0] != '\0';
        step_ended(step, &outcome, started, input);
        if (remote_crash_is_told(report))
            remote_crash_put_first(step, report->worker, input);
    }
    payload_free(outcome.result);
    error_free(outcome.error);
}

/* Its end is on its way into the history already. */
static bool end_under_way(const struct active *active, uint64_t op)
{
    const struct input_list *lists[2] = { &active->inputs, active->in_flight ? &active->in_flight->inputs : NULL };
    for (size_t l = 0; l < 2; l++)
        for (const struct input *input = lists[l] ? lists[l]->head : NULL; input; input = input->next)
            if (input->event && input->event->op == op && !input_is_passive(input))
                return true;
    return false;
}

/* What the history says of an operation; false: it is not a step that is executed outside, or it is over. `remote`: of its
 * attempt, how often it was dispatched and whether it has begun. */
static bool step_from_events(struct step *step, struct remote *remote, Event *const *events, size_t count)
{
    bool out = false;
    for (size_t i = 0; i < count; i++) {
        const Event *event = events[i];
        if (event->kind_case == PERDURE__V1__EVENT__KIND__NOT_SET)
            return false; /* of a later version: it may say anything (rule 32) */
        if (event->op != step->op)
            continue;
        switch (event->kind_case) {
        case PERDURE__V1__EVENT__KIND_STEP_SCHEDULED: {
            const Perdure__V1__StepScheduled *scheduled = event->step_scheduled;
            const Payload *in = scheduled->input;
            step->name = scheduled->name;
            step->input_digest = in ? payload_digest(in->type, in->data.data, in->data.len) : 0;
            step->policy.max_attempts = scheduled->max_attempts;
            step->policy.deadline_ms = scheduled->deadline_ms;
            step->policy.backoff_ms = scheduled->backoff_ms;
            step->policy.backoff_max_ms = scheduled->backoff_max_ms;
            step->first_started_ms = event->t;
            remote->dispatch = scheduled->queue[0] && !scheduled->held ? 1 : 0;
            remote->dispatched_ms = event->t;
            out = true;
            break;
        }
        case PERDURE__V1__EVENT__KIND_STEP_DISPATCHED:
            step->name = event->step_dispatched->name;
            step->input_digest = event->step_dispatched->input_digest;
            remote->dispatch = event->step_dispatched->dispatch;
            remote->dispatched_ms = event_dispatched_ms(event);
            remote->begun = false;
            out = true;
            break;
        case PERDURE__V1__EVENT__KIND_ATTEMPT_FAILED:
            step->attempt = event->attempt_failed->attempt + 1;
            *remote = (struct remote){ 0 };
            break;
        case PERDURE__V1__EVENT__KIND_STEP_PROGRESS:
            remote->begun = event->step_progress->attempt == step->attempt;
            break;
        case PERDURE__V1__EVENT__KIND_JOB_CRASHED:
            break;
        default:
            return false;
        }
    }
    return out;
}

/* A run without its module, diverged, or not to be rebuilt just now: absorbed all the same (rule 12), as far as the
 * history tells what it waits for. After an event of a later version it does not: the attempt's silence will be that version's
 * to judge. False: it does not wait for what is reported. */
static bool report_unknown(const struct command_context *c, struct active *active,
                           bool (*take)(const struct command_context *c, struct step *step, struct remote *remote))
{
    const Perdure__V1__TaskReport *report = report_of(c);
    struct step step = { .active = active, .op = report->op, .attempt = 1, .state = STEP_OUT };
    struct remote remote = { .dispatch = 0 };
    size_t count = 0;
    Event **events = end_under_way(active, report->op) ? NULL : active_events(active, &count);
    bool taken = events && step_from_events(&step, &remote, events, count) && step.attempt == report->attempt &&
                 take(c, &step, &remote);
    for (size_t i = 0; i < count; i++)
        event_free(events[i]);
    free(events);
    return taken;
}

static bool take_end(const struct command_context *c, struct step *step, struct remote *remote)
{
    (void)remote;
    report_end_of(c, step);
    return true;
}

static bool take_begun(const struct command_context *c, struct step *step, struct remote *remote)
{
    if (remote->begun || remote->dispatch == 0)
        return false;
    progress_push(step, report_input(c), report_of(c)->worker, report_begun_ms(c), NULL);
    return true;
}

/* Whose worker's word it is, so it may be long. Cut, it is UTF-8 still. */
static void declined_ask_again(const struct command_context *c, struct step *step, struct input *input)
{
    const Perdure__V1__TaskReport *report = report_of(c);
    const char *reason = report->declined->reason;
    char text[2 * TASK_DECLINED_BYTES + 8];
    size_t size = strnlen(reason, TASK_DECLINED_BYTES), name = strnlen(report->worker, TASK_DECLINED_BYTES);
    while (size > 0 && ((unsigned char)reason[size] & 0xc0) == 0x80)
        size--;
    while (name > 0 && ((unsigned char)report->worker[name] & 0xc0) == 0x80)
        name--;
    snprintf(text, sizeof text, "%.*s%s%.*s", (int)name, report->worker, name > 0 && size > 0 ? ": " : "", (int)size,
             reason);
    remote_ask_again(step, utf8_valid(text, strlen(text)) ? text : "", input);
}

static bool take_declined(const struct command_context *c, struct step *step, struct remote *remote)
{
    uint32_t dispatch = report_of(c)->dispatch;
    if (remote->begun || remote->dispatch == 0 || (dispatch > 0 && dispatch != remote->dispatch))
        return false;
    step->remote = remote;
    declined_ask_again(c, step, report_input(c));
    return true;
}

static void report_begun_unknown(const struct command_context *c, struct active *active)
{
    if (!report_unknown(c, active, take_begun))
        inbox_done(c->engine, c->at->offset);
}

/* Before it began, by one that shuts down, has no room or no such step: to another worker, by another lane. */
static void report_declined(const struct command_context *c, struct active *active, struct step *step)
{
    const Perdure__V1__TaskReport *report = report_of(c);
    if (!step && !active->known && report_unknown(c, active, take_declined))
        return;
    struct remote *remote = step ? step->remote : NULL;
    bool current = remote && remote->queue && step->state == STEP_OUT && !remote->begun &&
                   (report->dispatch == 0 || report->dispatch == remote->dispatch);
    struct input *input = current ? report_input(c) : NULL;
    if (input)
        declined_ask_again(c, step, input);
    else
        inbox_done(c->engine, c->at->offset);
}

/* Begun, or a heartbeat. */
static void report_life(const struct command_context *c, struct active *active)
{
    const Perdure__V1__TaskReport *report = report_of(c);
    bool kept = false;
    if (report->kind_case == REPORT(BEGUN))
        report_make_known(active);
    struct step *step = report_step(c, active);
    if (!step && !active->known && active->head->rests == 0 && report->kind_case == REPORT(BEGUN)) {
        report_begun_unknown(c, active);
        return;
    }
    if (!step && !active->known && active->head->rests == 0) {
        /* The run is not in memory yet: its next heartbeat is understood. */
    } else if (!step || !step->remote) {
        report_stop(c);
    } else if (report_is_of_second(step, report)) {
        free(step->remote->second);
        step->remote->second = strdup(report->worker);
        report_stop(c);
    } else {
        struct remote *remote = step->remote;
        bool first = !remote->begun || !remote->worker;
        report_note_worker(c, step);
        remote->heard = c->engine->monotonic_ms;
        remote->heard_ms = c->engine->wall_ms;
        remote_begun(step, report_begun_ms(c));
        kept = report_keeps_its_place(c, step);
        if (report->kind_case == REPORT(HEARTBEAT))
            report_heartbeat(c, step);
        remote_arm(step);
        if (first)
            status_schedule(active, false);
    }
    if (!kept)
        inbox_done(c->engine, c->at->offset);
}

/* The open run that it names, in memory or not; NULL: none. */
static struct active *report_active(const struct command_context *c)
{
    struct run *head = judge_find(c->engine->judge, c->header->job);
    if (!head || !run_is_open(head) || (RULE(RESULT_NAMES_RUN) && c->header->run != head->run))
        return NULL;
    struct active *active = active_of(c->engine, head);
    return active && active->run == head->run ? active : NULL;
}

void command_task_report(const struct command_context *c)
{
    const Perdure__V1__TaskReport *report = report_of(c);
    if (report->kind_case == REPORT(BEGUN) || report->kind_case == REPORT(HEARTBEAT)) {
        struct active *active = report_active(c);
        if (active) {
            report_life(c, active);
            active_settle(active);
            return;
        }
        report_stop(c);
        inbox_done(c->engine, c->at->offset);
        return;
    }
    struct active *active = command_target(c);
    if (!active)
        return;
    report_make_known(active);
    struct step *step = report_step(c, active);
    if (report->kind_case == REPORT(DECLINED))
        report_declined(c, active, step);
    else if (step && report_is_of_stopped(step, report))
        report_refuse(c);
    else if (step)
        report_end_of(c, step);
    else if (active->known || !report_unknown(c, active, take_end))
        report_refuse(c);
    active_settle(active);
}
