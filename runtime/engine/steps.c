/*
 * Attempts of steps: started when all that led to them is confirmed (rule 8), timed out, tried again; and timers.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/internal.h"

/* ---- wanting and abandoning ------------------------------------------------------------------------------------- */

struct step *step_find(const struct active *active, uint64_t op)
{
    for (struct step *step = active->steps; step; step = step->next)
        if (step->op == op)
            return step;
    return NULL;
}

/* What it holds of its limits, and its place in their lines. */
static void step_leave_limits(struct step *step)
{
    const struct engine *engine = step->active->engine;
    limit_leave(engine->config.shared_limits, &step->limit, engine->monotonic_ms);
}

static void step_stop_running(struct step *step, bool abandon)
{
    struct active *active = step->active;
    struct engine *engine = active->engine;
    if (step->state != STEP_RUNNING)
        return;
    step_leave_limits(step);
    active->running_steps--;
    engine->running_steps--;
    memory_end_attempt(engine);
    struct queued_output *queued = abandon ? engine_put(engine, ENGINE_OUT_ABANDON_STEP) : NULL;
    if (queued) {
        queued->output.key = queued->owned[0] = strdup(active->head->job);
        queued->output.run = active->run;
        queued->output.op = step->op;
        queued->output.attempt = step->attempt;
        bool late = step->policy.timeout_ms > 0 &&
                    engine->monotonic_ms - step->began_monotonic_ms >= step->policy.timeout_ms;
        queued->output.timeout_ms = late ? step->policy.timeout_ms : 0;
    }
}

/* In one piece, so that free() is enough. */
static Payload *payload_in_one_piece(const Payload *payload)
{
    size_t type = strlen(payload->type) + 1;
    char *piece = malloc(sizeof(Payload) + payload->data.len + type);
    if (!piece)
        return NULL;
    Payload *copy = (Payload *)(void *)piece;
    *copy = *payload;
    copy->data.data = (uint8_t *)piece + sizeof *copy;
    if (payload->data.len > 0)
        memcpy(copy->data.data, payload->data.data, payload->data.len);
    copy->type = piece + sizeof *copy + payload->data.len;
    memcpy(copy->type, payload->type, type);
    return copy;
}

static void step_free(struct step *step, bool abandon)
{
    step_stop_running(step, abandon);
    step_leave_limits(step);
    remote_free(step);
    alarm_clear(&step->active->engine->alarms, &step->alarm);
    if (step->site)
        perdure__v1__site__free_unpacked(step->site, NULL);
    free(step->name);
    free(step->label);
    free(step);
}

static void step_unlink(struct active *active, struct step *step)
{
    struct step **link = &active->steps;
    while (*link != step)
        link = &(*link)->next;
    *link = step->next;
}

void step_abandon(struct active *active, uint64_t op)
{
    struct step *step = step_find(active, op);
    if (!step)
        return;
    remote_stop(step);
    step_unlink(active, step);
    step_free(step, true);
}

static void steps_drop(struct active *active, bool remote_only, bool unwanted_only)
{
    struct step **link = &active->steps;
    while (*link) {
        struct step *step = *link;
        if ((remote_only && !step->remote) || (unwanted_only && step->wanted)) {
            link = &step->next;
        } else {
            *link = step->next;
            step_free(step, false);
        }
    }
}

void steps_drop_remote(struct active *active) { steps_drop(active, true, false); }

void steps_drop_unwanted(struct active *active) { steps_drop(active, true, true); }

void steps_clear(struct active *active, bool abandon)
{
    while (active->steps) {
        struct step *step = active->steps;
        active->steps = step->next;
        step_free(step, abandon);
    }
}

/* The job's memory goes. An attempt that runs, here or outside, goes on: when the replayed job wants the same, it is not
 * begun twice. */
void steps_forget_job(struct active *active)
{
    struct step **link = &active->steps;
    while (*link) {
        struct step *step = *link;
        step->wanted = false;
        step->input = NULL;
        bool result_kept = false;
        for (struct input *input = active->inputs.head; input; input = input->next)
            result_kept = result_kept || (input->offset < 0 && input->event->op == step->op);
        if (step->state == STEP_RUNNING || step->remote || result_kept) {
            link = &step->next;
        } else {
            *link = step->next;
            step_free(step, false);
        }
    }
}

static Site *site_copy(const Site *site)
{
    Site *copy = site ? calloc(1, sizeof *copy) : NULL;
    if (!copy)
        return NULL;
    perdure__v1__site__init(copy);
    copy->file = strdup(site->file);
    copy->function = strdup(site->function);
    copy->line = site->line;
    return copy;
}

void step_want(struct active *active, const struct job_command *command)
{
    struct engine *engine = active->engine;
    struct step *step = step_find(active, command->op);
    if (step && step->attempt != command->attempt) {
        step_abandon(active, command->op);
        step = NULL;
    }
    if (!step) {
        step = calloc(1, sizeof *step);
        if (!step) {
            engine_stop(engine, "out of memory");
            return;
        }
        step->active = active;
        step->op = command->op;
        step->attempt = command->attempt;
        step->name = strdup(command->step);
        step->site = site_copy(command->site);
        step->label = command->label ? strdup(command->label) : NULL;
        struct step **link = &active->steps; /* in program order: they start in it */
        while (*link)
            link = &(*link)->next;
        *link = step;
    }
    step->wanted = true;
    step->callable = registry_step(engine->config.registry, command->step);
    step->input = command->input;
    step->input_digest = command->input_digest;
    step->policy = *command->policy;
    step->first_started_ms = command->first_started_ms;
    step->decl = command->decl;
    if (step->remote || (step->state == STEP_WANTED && remote_is_outside(engine, command)))
        remote_want(step, command);
    else if (step->state == STEP_WANTED && command->at_ms > engine->wall_ms) {
        step->state = STEP_DELAYED;
        step->alarm.kind = ALARM_RETRY;
        alarm_set(&engine->alarms, &step->alarm, engine_due(engine, command->at_ms));
    }
}

/* ---- running ---------------------------------------------------------------------------------------------------------- */

void step_end_with_error(struct step *step, int code, const char *type, const char *message, bool final)
{
    struct attempt_outcome outcome = { .code = code };
    outcome.error = calloc(1, sizeof *outcome.error);
    if (outcome.error) {
        perdure__v1__error__init(outcome.error);
        outcome.error->type = strdup(type);
        outcome.error->message = strdup(message);
        outcome.error->code = code;
        outcome.error->final = final;
    }
    step_ended(step, &outcome, step->remote ? step->remote->begun_ms : step->started_ms, NULL);
    payload_free(outcome.result);
    error_free(outcome.error);
}

static void step_start(struct step *step)
{
    struct active *active = step->active;
    struct engine *engine = active->engine;
    step->state = STEP_RUNNING;
    step->started_ms = engine->wall_ms;
    if (step->first_started_ms == 0)
        step->first_started_ms = engine->wall_ms;
    active->running_steps++;
    engine->running_steps++;
    memory_begin_attempt(engine);
    if (!step->callable) {
        char message[300];
        snprintf(message, sizeof message, "no module of this worker has a step `%s`", step->name);
        step_end_with_error(step, PDR_FAILED, "UnknownStep", message, true);
        return;
    }
    const char *crash = crash_of_attempt(active, step->op, step->attempt);
    if (crash) { /* it has begun before, and ended its worker */
        char message[200];
        snprintf(message, sizeof message, CRASHED_MESSAGE "%s", crash);
        step_end_with_error(step, PDR_FAILED, "Crashed", message, false);
        return;
    }
    if (step->policy.timeout_ms > 0) {
        step->alarm.kind = ALARM_TIMEOUT;
        alarm_set(&engine->alarms, &step->alarm, engine->monotonic_ms + step->policy.timeout_ms);
    }
    step->began_monotonic_ms = engine->monotonic_ms;
    takeover_progress(engine);
    struct queued_output *queued = engine_put(engine, ENGINE_OUT_STEP);
    if (!queued)
        return;
    queued->output.key = queued->owned[0] = strdup(active->head->job);
    queued->output.run = active->run;
    queued->output.op = step->op;
    queued->output.attempt = step->attempt;
    queued->output.step = step->callable;
    /* A copy: before the output is taken, the operation may be over and the job gone from memory. */
    queued->output.input = queued->owned[1] = payload_in_one_piece(step->input);
    if (!queued->output.input)
        engine_stop(engine, "out of memory");
    queued->output.timeout_ms = step->policy.timeout_ms;
    queued->output.in_place = step->policy.in_place;
    queued->output.begin_until = proof_until(engine);
}

/* True: all its limits have room for it. Else it stands in line. */
static bool step_is_admitted(struct step *step)
{
    struct engine *engine = step->active->engine;
    struct limits *limits = engine->config.shared_limits;
    struct limit_waiter *waiter = &step->limit;
    if (!limits)
        return true;
    if (waiter->stage == LIMIT_STAGE_KEY && !waiter->line) {
        const char *key = step->policy.concurrency_key;
        waiter->gates[LIMIT_STAGE_KEY] = key ? limits_key(limits, key) : NULL;
        if (key && !waiter->gates[LIMIT_STAGE_KEY]) {
            engine_stop(engine, "out of memory");
            return false;
        }
        waiter->gates[LIMIT_STAGE_COUNT] = limits_find(limits, LIMIT_STEP_COUNT, step->name);
        waiter->gates[LIMIT_STAGE_RATE] = limits_find(limits, LIMIT_STEP_RATE, step->name);
        waiter->key_limit = step->policy.concurrency_limit;
        waiter->ready = &engine->admitted;
    }
    bool waited = waiter->line != NULL, admitted = limit_enter(waiter, engine->monotonic_ms);
    engine->counts.limit_waits += !admitted && !waited;
    return admitted;
}

static bool step_has_memory(struct step *step)
{
    struct engine *engine = step->active->engine;
    if (memory_admits_attempt(engine, step->active)) {
        limit_wait_no_more(&step->limit);
        return true;
    }
    limit_wait(&engine->short_of_memory, &step->limit);
    return false;
}

bool step_waits_for_memory(const struct step *step)
{
    return step->limit.line == &step->active->engine->short_of_memory;
}

static void step_start_waiter(struct limit_waiter *waiter)
{
    struct active *active = ((struct step *)(void *)((char *)waiter - offsetof(struct step, limit)))->active;
    steps_start(active);
    status_schedule(active, false);
}

void steps_start_admitted(struct engine *engine)
{
    struct limit_waiter *waiter;
    if (engine->config.shared_limits)
        limits_pump(engine->config.shared_limits, engine->monotonic_ms);
    while ((waiter = limit_take_ready(&engine->admitted)))
        step_start_waiter(waiter);
    while (engine->short_of_memory.head && memory_admits_attempt(engine, NULL) && proof_holds(engine))
        step_start_waiter(limit_take_ready(&engine->short_of_memory));
}

int64_t steps_next_admitted(const struct engine *engine)
{
    if (engine->state != ENGINE_OWNER)
        return INT64_MAX;
    if (engine->admitted.head)
        return engine->monotonic_ms;
    int64_t next = engine->config.shared_limits ? limits_next(engine->config.shared_limits) : INT64_MAX;
    /* What makes room comes as an input, or is done by the host. */
    if (engine->short_of_memory.head && engine->monotonic_ms + MEMORY_LOOK_MS < next)
        next = engine->monotonic_ms + MEMORY_LOOK_MS;
    return next;
}

void steps_start(struct active *active)
{
    struct engine *engine = active->engine;
    bool unconfirmed = active->in_flight || active->outgoing_next < active->outgoing_count;
    if ((unconfirmed && RULE(STEP_AFTER_CONFIRM)) || engine->state != ENGINE_OWNER || active->ending)
        return;
    RULE_FIRED(STEP_AFTER_CONFIRM);
    for (struct step *step = active->steps, *next; step; step = next) {
        next = step->next;
        if (step->state != STEP_WANTED || !step->wanted)
            continue;
        if (!proof_holds(engine))
            return;
        if (step_is_admitted(step) && step_has_memory(step))
            step_start(step);
    }
    start_has_begun(active);
}

void step_on_alarm(struct engine *engine, struct step *step)
{
    (void)engine;
    if (step->remote) {
        remote_on_alarm(step);
    } else if (step->state == STEP_DELAYED) {
        step->state = STEP_WANTED;
        steps_start(step->active);
        status_schedule(step->active, false); /* it waits no more for its turn */
    } else if (step->state == STEP_RUNNING) {
        step_end_with_error(step, PDR_TIMED_OUT, "TimedOut", "the attempt ran longer than its timeout", false);
    }
}

/* ---- results ------------------------------------------------------------------------------------------------------------- */

static int64_t retry_delay(struct engine *engine, const struct step *step)
{
    int64_t delay = step->policy.backoff_ms;
    for (uint32_t i = 1; i < step->attempt && delay < step->policy.backoff_max_ms; i++)
        delay *= RETRY_BACKOFF_FACTOR;
    if (step->policy.backoff_max_ms > 0 && delay > step->policy.backoff_max_ms)
        delay = step->policy.backoff_max_ms;
    /* Jitter of a fifth either way, so that what failed together does not come back together. */
    int64_t spread = delay / 5;
    return spread > 0 ? delay - spread + (int64_t)(engine_random(engine) % (uint64_t)(2 * spread + 1)) : delay;
}

static bool step_is_tried_again(const struct engine *engine, const struct step *step, const Error *error, int64_t next)
{
    if (error && error->final)
        return false;
    if (step->policy.max_attempts > 0 && step->attempt >= step->policy.max_attempts)
        return false;
    (void)engine;
    return step->policy.deadline_ms <= 0 || next <= step->first_started_ms + step->policy.deadline_ms;
}

/* The outcome's pointers move into the event. */
static void result_completed(Event *event, const struct step *step, struct attempt_outcome *outcome, int64_t started_ms)
{
    Perdure__V1__StepCompleted *done = calloc(1, sizeof *done);
    if (!done)
        return;
    perdure__v1__step_completed__init(done);
    done->name = strdup(step->name);
    done->input_digest = step->input_digest;
    done->result = outcome->result;
    done->attempt = step->attempt;
    done->started = started_ms;
    outcome->result = NULL;
    event->kind_case = PERDURE__V1__EVENT__KIND_STEP_COMPLETED;
    event->step_completed = done;
}

static void result_retry(Event *event, struct step *step, struct attempt_outcome *outcome, int64_t started_ms,
                         int64_t next)
{
    Perdure__V1__AttemptFailed *failed = calloc(1, sizeof *failed);
    if (!failed)
        return;
    perdure__v1__attempt_failed__init(failed);
    failed->name = strdup(step->name);
    failed->input_digest = step->input_digest;
    failed->error = outcome->error;
    failed->attempt = step->attempt;
    failed->next = next;
    failed->started = started_ms;
    outcome->error = NULL;
    event->kind_case = PERDURE__V1__EVENT__KIND_ATTEMPT_FAILED;
    event->attempt_failed = failed;
}

static void result_failed(Event *event, struct step *step, struct attempt_outcome *outcome, int64_t started_ms)
{
    Perdure__V1__StepFailed *failed = calloc(1, sizeof *failed);
    if (!failed)
        return;
    perdure__v1__step_failed__init(failed);
    failed->name = strdup(step->name);
    failed->input_digest = step->input_digest;
    failed->error = outcome->error;
    failed->attempt = step->attempt;
    failed->started = started_ms;
    outcome->error = NULL;
    event->kind_case = PERDURE__V1__EVENT__KIND_STEP_FAILED;
    event->step_failed = failed;
}

struct input *input_of_inside(void)
{
    struct input *input = calloc(1, sizeof *input);
    Event *event = calloc(1, sizeof *event);
    if (!input || !event) {
        free(input);
        free(event);
        return NULL;
    }
    perdure__v1__event__init(event);
    input->event = event;
    input->offset = -1;
    return input;
}

/* Until it is confirmed; what came through the inbox is counted there. */
static void input_count(struct engine *engine, struct input *input)
{
    if (input->offset >= 0)
        return;
    input->engine = engine;
    input->counted = MEMORY_OF_RESULT(perdure__v1__event__get_packed_size(input->event));
    memory_add(engine, input->counted);
}

void step_ended(struct step *step, struct attempt_outcome *outcome, int64_t started_ms, struct input *input)
{
    struct active *active = step->active;
    struct engine *engine = active->engine;
    if (!input && !(input = input_of_inside())) {
        engine_stop(engine, "out of memory");
        return;
    }
    Event *event = input->event;
    event->op = step->op;
    event->site = site_copy(step->site);
    event->label = strdup(step->label ? step->label : "");
    int64_t next = engine->wall_ms + retry_delay(engine, step);
    if (outcome->code == PDR_OK)
        result_completed(event, step, outcome, started_ms);
    else if (step_is_tried_again(engine, step, outcome->error, next))
        result_retry(event, step, outcome, started_ms, next);
    else
        result_failed(event, step, outcome, started_ms);
    step_stop_running(step, outcome->code == PDR_TIMED_OUT || input->offset >= 0);
    if (step->remote) {
        queue_unhold(step);
        queue_leave(step);
    }
    step->state = STEP_DELAYED; /* neither running nor to be started: its result waits for its turn */
    input_count(engine, input);
    alarm_clear(&engine->alarms, &step->alarm);
    input_push(active, input);
}

/* Somebody outside completes it: its thread is free, and the history says so (no run of it again at each restart). */
static void step_goes_on_outside(struct step *step)
{
    struct remote *remote = calloc(1, sizeof *remote);
    if (!remote) {
        engine_stop(step->active->engine, "out of memory");
        return;
    }
    step_stop_running(step, false);
    alarm_clear(&step->active->engine->alarms, &step->alarm);
    remote->step = step;
    remote->scheduled_ms = step->first_started_ms;
    step->remote = remote;
    remote_ask(step, DISPATCH_LATER, NULL);
}

void engine_on_step_ended(struct engine *engine, const char *job, uint64_t run, uint64_t op, uint32_t attempt,
                          struct attempt_outcome *outcome, int64_t started_ms)
{
    struct run *head = judge_find(engine->judge, job);
    struct active *active = head ? head->user : NULL;
    struct step *step = active && active->run == run ? step_find(active, op) : NULL;
    /* One of an earlier ownership, one that timed out: nobody waits for it. */
    bool waits = step && step->attempt == attempt && step->state == STEP_RUNNING && engine->state != ENGINE_STOPPED;
    if (waits && outcome->code == PDR_LATER)
        step_goes_on_outside(step);
    else if (waits)
        step_ended(step, outcome, started_ms, NULL);
    payload_free(outcome->result);
    error_free(outcome->error);
    outcome->result = NULL;
    outcome->error = NULL;
}

/* It may begin again: here if the partition stays, else at the next owner. */
void engine_on_step_handed_back(struct engine *engine, const char *job, uint64_t run, uint64_t op, uint32_t attempt)
{
    struct run *head = judge_find(engine->judge, job);
    struct active *active = head ? head->user : NULL;
    struct step *step = active && active->run == run ? step_find(active, op) : NULL;
    if (!step || step->attempt != attempt || step->state != STEP_RUNNING || engine->state == ENGINE_STOPPED)
        return;
    step_stop_running(step, false);
    alarm_clear(&engine->alarms, &step->alarm);
    step->state = STEP_WANTED;
    if (!step->wanted) { /* the job was evicted meanwhile: it asks again when it is replayed */
        step_unlink(active, step);
        step_free(step, false);
    }
    steps_start(active);
}

/* ---- timers -------------------------------------------------------------------------------------------------------------- */

void timer_arm(struct active *active, uint64_t op, int64_t fire_at)
{
    struct engine *engine = active->engine;
    timer_disarm(active, op);
    struct timer *timer = calloc(1, sizeof *timer);
    if (!timer) {
        engine_stop(engine, "out of memory");
        return;
    }
    timer->active = active;
    timer->op = op;
    timer->fire_at = fire_at;
    timer->alarm.kind = ALARM_TIMER;
    timer->next = active->timers;
    active->timers = timer;
    alarm_set(&engine->alarms, &timer->alarm, engine_due(engine, fire_at));
}

void timer_disarm(struct active *active, uint64_t op)
{
    struct timer **link = &active->timers;
    while (*link && (*link)->op != op)
        link = &(*link)->next;
    if (!*link)
        return;
    struct timer *timer = *link;
    *link = timer->next;
    alarm_clear(&active->engine->alarms, &timer->alarm);
    free(timer);
}

void timers_clear(struct active *active)
{
    while (active->timers)
        timer_disarm(active, active->timers->op);
}

void timer_on_alarm(struct timer *timer)
{
    struct active *active = timer->active;
    struct input *input = calloc(1, sizeof *input);
    Event *event = calloc(1, sizeof *event);
    Perdure__V1__TimerFired *fired = calloc(1, sizeof *fired);
    if (!input || !event || !fired) {
        free(input);
        free(event);
        free(fired);
        engine_stop(active->engine, "out of memory");
        return;
    }
    perdure__v1__event__init(event);
    perdure__v1__timer_fired__init(fired);
    event->op = timer->op;
    event->kind_case = PERDURE__V1__EVENT__KIND_TIMER_FIRED;
    event->timer_fired = fired;
    input->event = event;
    input->offset = -1;
    input_push(active, input);
}
