#include "job_trial.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pthread.h>

#define K(name) PERDURE__V1__EVENT__KIND_##name

static void *must(void *memory)
{
    if (memory == NULL)
        abort();
    return memory;
}

Event *job_trial_event(int kind, uint64_t op)
{
    Event *event = must(malloc(sizeof(*event)));
    perdure__v1__event__init(event);
    event->kind_case = (Perdure__V1__Event__KindCase)kind;
    event->op = op;
    return event;
}

Payload *job_trial_text(const char *text)
{
    Payload *payload = must(malloc(sizeof(*payload)));
    perdure__v1__payload__init(payload);
    payload->type = must(strdup("text"));
    payload->data.len = strlen(text);
    payload->data.data = payload->data.len > 0 ? must(strdup(text)) : NULL;
    return payload;
}

struct job_trial *job_trial_new(const pdr_module *module, const char *build, const char *job, bool replay_always)
{
    struct job_trial *trial = must(calloc(1, sizeof(*trial)));
    char error[512];
    trial->registry = must(registry_new());
    if (registry_add(trial->registry, module, build, error, sizeof(error)) != PDR_OK) {
        fprintf(stderr, "%s\n", error);
        abort();
    }
    trial->callable = must((void *)(uintptr_t)registry_job(trial->registry, job));
    trial->id = "job-1";
    trial->run = 0x1122334455667788;
    trial->now_ms = INT64_C(1700000000000);
    trial->replay_always = replay_always;
    return trial;
}

void job_trial_free(struct job_trial *trial)
{
    job_free(trial->job);
    for (size_t i = 0; i < trial->count; i++)
        event_free(trial->events[i]);
    free(trial->events);
    registry_free(trial->registry);
    free(trial);
}

/* ---- commands ------------------------------------------------------------------------------------------ */

static void job_trial_append(struct job_trial *trial, Event *event)
{
    event->seq = trial->count + 1;
    event->t = trial->now_ms;
    trial->events = must(realloc(trial->events, (trial->count + 1) * sizeof(*trial->events)));
    trial->events[trial->count++] = event;
}

static void job_trial_pend(struct job_trial *trial, const struct job_command *command)
{
    if (trial->pending_count == TRIAL_PENDING)
        abort();
    trial->pending[trial->pending_count++] = (struct job_trial_pending){
        .kind = command->kind, .op = command->op, .at_ms = command->at_ms, .attempt = command->attempt};
}

static void job_trial_unpend(struct job_trial *trial, uint64_t op)
{
    for (size_t i = 0; i < trial->pending_count; i++) {
        if (trial->pending[i].op != op)
            continue;
        memmove(&trial->pending[i], &trial->pending[i + 1], (trial->pending_count - i - 1) * sizeof(trial->pending[0]));
        trial->pending_count--;
        return;
    }
}

void job_trial_take(struct job_trial *trial)
{
    struct job_command command;
    while (job_take(trial->job, &command)) {
        switch (command.kind) {
        case JOB_RECORD:
            job_trial_append(trial, command.event);
            break;
        case JOB_STEP:
        case JOB_ARM_TIMER:
            job_trial_pend(trial, &command);
            break;
        default:
            trial->abandoned++;
            job_trial_unpend(trial, command.op);
        }
    }
}

/* ---- replay ---------------------------------------------------------------------------------------------- */

static void dirty_stack(void *argument)
{
    volatile char garbage[32 * 1024];
    memset((char *)(uintptr_t)garbage, 0xa5, sizeof(garbage));
    *(volatile char *)argument = garbage[7];
}

#include "job/coroutine.h"

pdr_job *job_trial_replay(struct job_trial *trial, size_t count)
{
    /* The next stack from the pool is full of garbage. */
    struct coroutine dirt;
    char sink;
    size_t size = trial->options.stack_bytes > 0 ? trial->options.stack_bytes : 256 * 1024;
    if (coroutine_init(&dirt, size, dirty_stack, &sink))
        (void)coroutine_resume(&dirt);
    pdr_job *job = must(job_new(trial->registry, trial->callable, trial->id, trial->run, &trial->options));
    (void)job_replay(job, (const Event *const *)trial->events, count);
    return job;
}

static void *job_trial_replay_thread(void *argument)
{
    struct job_trial *trial = argument;
    return job_trial_replay(trial, trial->count);
}

static int pending_by_op(const void *a, const void *b)
{
    const struct job_trial_pending *left = a, *right = b;
    return left->op < right->op ? -1 : left->op > right->op;
}

/* The replayed job must want what the live one had wanted, and record nothing. */
static void job_trial_compare(struct job_trial *trial, pdr_job *again, enum job_state state)
{
    struct job_trial_pending wanted[TRIAL_PENDING];
    size_t count = trial->pending_count;
    memcpy(wanted, trial->pending, count * sizeof(wanted[0]));
    qsort(wanted, count, sizeof(wanted[0]), pending_by_op);
    if (job_state_of(again) != state) {
        snprintf(trial->complaint, sizeof(trial->complaint), "after event %zu: state %d, replayed %d: %s", trial->count,
                 state, job_state_of(again), job_report(again) != NULL ? job_report(again) : "");
        return;
    }
    struct job_command command;
    size_t at = 0;
    while (job_take(again, &command)) {
        if (command.kind != JOB_STEP && command.kind != JOB_ARM_TIMER) {
            snprintf(trial->complaint, sizeof(trial->complaint), "after event %zu the replay gave command %d",
                     trial->count, command.kind);
            event_free(command.event);
            return;
        }
        const struct job_trial_pending *want = &wanted[at];
        if (at >= count || want->op != command.op || want->kind != command.kind || want->at_ms != command.at_ms ||
            want->attempt != command.attempt) {
            snprintf(trial->complaint, sizeof(trial->complaint), "after event %zu the replay wants op %llu",
                     trial->count, (unsigned long long)command.op);
            return;
        }
        at++;
    }
    if (at != count)
        snprintf(trial->complaint, sizeof(trial->complaint), "after event %zu the replay wants %zu, not %zu",
                 trial->count, at, count);
}

static enum job_state job_trial_settle(struct job_trial *trial)
{
    job_trial_take(trial);
    enum job_state state = job_state_of(trial->job);
    if (!trial->replay_always || state == JOB_DIVERGED || state == JOB_BROKEN)
        return state;
    pdr_job *again;
    if (trial->one_thread_more) {
        pthread_t thread;
        void *made;
        pthread_create(&thread, NULL, job_trial_replay_thread, trial);
        pthread_join(thread, &made);
        again = made;
    } else {
        again = job_trial_replay(trial, trial->count);
    }
    trial->replays++;
    if (trial->complaint[0] == '\0')
        job_trial_compare(trial, again, state);
    job_free(trial->job);
    trial->job = again;
    return state;
}

/* ---- inputs ------------------------------------------------------------------------------------------------- */

enum job_state job_trial_start(struct job_trial *trial, const char *input)
{
    Event *event = job_trial_event(K(STARTED), 0);
    event->started = must(malloc(sizeof(*event->started)));
    perdure__v1__started__init(event->started);
    event->started->type = must(strdup(trial->callable->name));
    event->started->build = must(strdup(trial->callable->build));
    if (input != NULL)
        event->started->input = job_trial_text(input);
    job_trial_append(trial, event);
    trial->job = must(job_new(trial->registry, trial->callable, trial->id, trial->run, &trial->options));
    (void)job_replay(trial->job, (const Event *const *)trial->events, 1);
    return job_trial_settle(trial);
}

enum job_state job_trial_feed(struct job_trial *trial, Event *event)
{
    trial->now_ms += 7;
    job_trial_append(trial, event);
    (void)job_feed(trial->job, event);
    return job_trial_settle(trial);
}

enum job_state job_trial_signal(struct job_trial *trial, const char *name, const char *text)
{
    Event *event = job_trial_event(K(SIGNAL_RECEIVED), 0);
    event->signal_received = must(malloc(sizeof(*event->signal_received)));
    perdure__v1__signal_received__init(event->signal_received);
    event->signal_received->name = must(strdup(name));
    event->signal_received->payload = job_trial_text(text);
    return job_trial_feed(trial, event);
}

enum job_state job_trial_cancel(struct job_trial *trial, const char *reason)
{
    Event *event = job_trial_event(K(CANCEL_REQUESTED), 0);
    event->cancel_requested = must(malloc(sizeof(*event->cancel_requested)));
    perdure__v1__cancel_requested__init(event->cancel_requested);
    event->cancel_requested->reason = must(strdup(reason));
    return job_trial_feed(trial, event);
}

enum job_state job_trial_child_ended(struct job_trial *trial, uint64_t op, const char *state, const char *text)
{
    Event *event = job_trial_event(K(CHILD_ENDED), op);
    event->child_ended = must(malloc(sizeof(*event->child_ended)));
    perdure__v1__child_ended__init(event->child_ended);
    event->child_ended->state = must(strdup(state));
    if (text != NULL)
        event->child_ended->result = job_trial_text(text);
    return job_trial_feed(trial, event);
}

enum job_state job_trial_fire(struct job_trial *trial, uint64_t op)
{
    for (size_t i = 0; i < trial->pending_count; i++) {
        if (trial->pending[i].op == op && trial->pending[i].at_ms > trial->now_ms)
            trial->now_ms = trial->pending[i].at_ms;
    }
    job_trial_unpend(trial, op);
    Event *event = job_trial_event(K(TIMER_FIRED), op);
    event->timer_fired = must(malloc(sizeof(*event->timer_fired)));
    perdure__v1__timer_fired__init(event->timer_fired);
    return job_trial_feed(trial, event);
}

/* ---- steps ---------------------------------------------------------------------------------------------------- */

/* Wants what JOB_STEP said, which job_trial_pend() did not keep: asks a replayed job again. */
static bool job_trial_find_step(pdr_job *job, uint64_t op, struct job_command *out)
{
    while (job_take(job, out)) {
        if (out->kind == JOB_STEP && out->op == op)
            return true;
        if (out->kind == JOB_RECORD)
            event_free(out->event);
    }
    return false;
}

static Event *job_trial_outcome_event(const struct job_command *step, struct attempt_outcome *outcome, int64_t now_ms)
{
    if (outcome->code == PDR_OK) {
        Event *event = job_trial_event(K(STEP_COMPLETED), step->op);
        Perdure__V1__StepCompleted *completed = event->step_completed = must(malloc(sizeof(*completed)));
        perdure__v1__step_completed__init(completed);
        completed->name = must(strdup(step->step));
        completed->input_digest = step->input_digest;
        completed->attempt = step->attempt;
        completed->result = outcome->result;
        return event;
    }
    if (outcome->error->final || (step->policy->max_attempts > 0 && step->attempt >= step->policy->max_attempts)) {
        Event *event = job_trial_event(K(STEP_FAILED), step->op);
        Perdure__V1__StepFailed *failed = event->step_failed = must(malloc(sizeof(*failed)));
        perdure__v1__step_failed__init(failed);
        failed->name = must(strdup(step->step));
        failed->input_digest = step->input_digest;
        failed->attempt = step->attempt;
        failed->error = outcome->error;
        return event;
    }
    Event *event = job_trial_event(K(ATTEMPT_FAILED), step->op);
    Perdure__V1__AttemptFailed *failed = event->attempt_failed = must(malloc(sizeof(*failed)));
    perdure__v1__attempt_failed__init(failed);
    failed->name = must(strdup(step->step));
    failed->input_digest = step->input_digest;
    failed->attempt = step->attempt;
    failed->error = outcome->error;
    failed->next = now_ms + 1000;
    failed->started = now_ms;
    return event;
}

enum job_state job_trial_attempt(struct job_trial *trial, size_t index)
{
    struct job_trial_pending pending = trial->pending[index];
    /* On a replay of its own, so that the step's command is whole whoever asked first. */
    pdr_job *again = job_trial_replay(trial, trial->count);
    struct job_command step;
    if (!job_trial_find_step(again, pending.op, &step))
        abort();
    struct attempt_request request = {.callable = registry_step(trial->registry, step.step),
                                      .job = trial->id,
                                      .run = trial->run,
                                      .op = step.op,
                                      .attempt = step.attempt,
                                      .input = step.input};
    must((void *)(uintptr_t)request.callable);
    struct attempt_outcome outcome;
    attempt_run(&request, &outcome);
    trial->attempts++;
    Event *event = job_trial_outcome_event(&step, &outcome, trial->now_ms);
    job_free(again);
    job_trial_unpend(trial, pending.op);
    if (pending.at_ms > trial->now_ms)
        trial->now_ms = pending.at_ms;
    return job_trial_feed(trial, event);
}

bool job_trial_next(struct job_trial *trial)
{
    size_t timer = TRIAL_PENDING;
    for (size_t i = 0; i < trial->pending_count; i++) {
        if (trial->pending[i].kind == JOB_STEP) {
            (void)job_trial_attempt(trial, i);
            return true;
        }
        if (timer == TRIAL_PENDING || trial->pending[i].at_ms < trial->pending[timer].at_ms)
            timer = i;
    }
    if (timer == TRIAL_PENDING)
        return false;
    (void)job_trial_fire(trial, trial->pending[timer].op);
    return true;
}

enum job_state job_trial_run(struct job_trial *trial)
{
    while (job_state_of(trial->job) == JOB_WAITING && trial->complaint[0] == '\0' && job_trial_next(trial)) {
    }
    return job_state_of(trial->job);
}

/* ---- what came of it --------------------------------------------------------------------------------------------- */

const Event *job_trial_last(const struct job_trial *trial)
{
    return trial->events[trial->count - 1];
}

const char *job_trial_result(const struct job_trial *trial)
{
    static char text[4096];
    const Event *last = job_trial_last(trial);
    if (last->kind_case != K(COMPLETED))
        return NULL;
    const Payload *result = last->completed->result;
    snprintf(text, sizeof(text), "%.*s", (int)result->data.len, (const char *)result->data.data);
    return text;
}

const Error *job_trial_error(const struct job_trial *trial)
{
    const Event *last = job_trial_last(trial);
    return last->kind_case == K(FAILED) ? last->failed->error : NULL;
}

char *job_trial_story(const struct job_trial *trial)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = must(open_memstream(&text, &size));
    for (size_t i = 0; i < trial->count; i++) {
        const Event *event = trial->events[i];
        const char *name = event_name(event);
        fprintf(out, "%s%s", i > 0 ? " " : "", event_kind_name(event));
        if (name[0] != '\0' && event->kind_case != K(STARTED))
            fprintf(out, ":%s", name);
    }
    fclose(out);
    return text;
}
