/*
 * What the job wants done, in order, until job_take() hands it out.
 */
#include <stdlib.h>
#include <string.h>

#include "job/state.h"

static struct command *command_add(pdr_job *job)
{
    if (job->command_first + job->command_count == job->command_capacity && job->command_first > 0) {
        memmove(job->commands, job->commands + job->command_first, job->command_count * sizeof(*job->commands));
        job->command_first = 0;
    }
    if (job->command_count == job->command_capacity) {
        size_t capacity = job->command_capacity > 0 ? job->command_capacity * 2 : 4;
        struct command *commands = realloc(job->commands, capacity * sizeof(*commands));
        if (commands == NULL) {
            report_no_memory(job);
            return NULL;
        }
        job->commands = commands;
        job->command_capacity = capacity;
    }
    struct command *command = &job->commands[job->command_first + job->command_count++];
    *command = (struct command){0};
    return command;
}

void command_step(pdr_job *job, struct op *op)
{
    struct command *command = command_add(job);
    if (command == NULL)
        return;
    op->announced = true;
    *command = (struct command){.kind = JOB_STEP, .op = op->number, .at_ms = op->at_ms};
}

void command_timer(pdr_job *job, struct op *op)
{
    struct command *command = command_add(job);
    if (command == NULL)
        return;
    op->announced = true;
    *command = (struct command){.kind = JOB_ARM_TIMER, .op = op->number, .at_ms = op->at_ms};
}

void command_drop(pdr_job *job, struct op *op)
{
    if (!op->announced)
        return;
    op->announced = false;
    enum job_command_kind kind = op->kind == OP_STEP ? JOB_ABANDON_STEP : JOB_DISARM_TIMER;
    struct command *command = command_add(job);
    if (command != NULL)
        *command = (struct command){.kind = kind, .op = op->number};
}

void command_record(pdr_job *job, Event *event)
{
    struct command *command = event != NULL ? command_add(job) : NULL;
    if (command == NULL) {
        report_no_memory(job);
        event_free(event);
        return;
    }
    *command = (struct command){.kind = JOB_RECORD, .op = event->op, .event = event};
}

void command_free_all(pdr_job *job)
{
    for (size_t i = 0; i < job->command_count; i++)
        event_free(job->commands[job->command_first + i].event);
    free(job->commands);
    job->commands = NULL;
    job->command_count = 0;
}

static void command_give_step(struct job_command *out, struct op *op)
{
    out->step = op->name;
    out->input = &op->input;
    out->input_digest = op->digest;
    out->attempt = op->attempt;
    out->first_started_ms = op->first_started_ms;
    out->policy = &op->policy;
    out->site = &op->wire_site;
    out->label = op->label;
    out->decl = op->decl;
    out->scheduled_ms = op->scheduled_ms;
    out->dispatched = op->dispatched;
    out->dispatch = op->dispatch;
    out->dispatched_ms = op->dispatched_ms;
    out->begun = op->begun;
    out->later = op->later;
    out->begun_ms = op->begun_ms;
    out->progress = op->progress;
}

bool job_take(pdr_job *job, struct job_command *out)
{
    *out = (struct job_command){.kind = JOB_NOTHING};
    while (job->command_count > 0) {
        struct command command = job->commands[job->command_first++];
        if (--job->command_count == 0)
            job->command_first = 0;
        const struct op *op = operation_find(job, command.op);
        bool over = op == NULL || op->state == OP_READY;
        if ((command.kind == JOB_STEP || command.kind == JOB_ARM_TIMER) && over)
            continue; /* it ended before anybody asked */
        *out = (struct job_command){
            .kind = command.kind, .op = command.op, .at_ms = command.at_ms, .event = command.event};
        if (command.kind == JOB_STEP)
            command_give_step(out, operation_find(job, command.op));
        return true;
    }
    return false;
}

/* ---- the events ------------------------------------------------------------------------------------ */

static Event *command_event_new(uint64_t number, const pdr_site *site, const char *label)
{
    Event *event = malloc(sizeof(*event));
    if (event == NULL)
        return NULL;
    perdure__v1__event__init(event);
    event->op = number;
    bool whole = wire_string(&event->label, label);
    if (whole && site != NULL)
        whole = (event->site = wire_site(site)) != NULL;
    if (whole)
        return event;
    event_free(event);
    return NULL;
}

static Payload *command_payload(const char *type, ProtobufCBinaryData data)
{
    Payload payload = PERDURE__V1__PAYLOAD__INIT;
    payload.type = (char *)(uintptr_t)type;
    payload.data = data;
    return payload_copy(&payload);
}

static bool command_fill_timer(Event *event, const struct op *op)
{
    Perdure__V1__TimerStarted *timer = malloc(sizeof(*timer));
    if (timer == NULL)
        return false;
    perdure__v1__timer_started__init(timer);
    event->timer_started = timer;
    event->kind_case = PERDURE__V1__EVENT__KIND_TIMER_STARTED;
    timer->fire_at = op->at_ms;
    timer->duration_ms = op->duration_ms;
    return wire_string(&timer->purpose, op->name);
}

static bool command_fill_send(Event *event, const struct op *op)
{
    Perdure__V1__SignalSent *sent = malloc(sizeof(*sent));
    if (sent == NULL)
        return false;
    perdure__v1__signal_sent__init(sent);
    event->signal_sent = sent;
    event->kind_case = PERDURE__V1__EVENT__KIND_SIGNAL_SENT;
    return wire_string(&sent->name, op->name) && wire_string(&sent->target, op->target) &&
           (sent->payload = command_payload(op->input.type, op->input.data)) != NULL;
}

static bool command_fill_child(Event *event, const struct op *op)
{
    Perdure__V1__ChildRequested *child = malloc(sizeof(*child));
    if (child == NULL)
        return false;
    perdure__v1__child_requested__init(child);
    event->child_requested = child;
    event->kind_case = PERDURE__V1__EVENT__KIND_CHILD_REQUESTED;
    return wire_string(&child->type, op->name) && wire_string(&child->job, op->target) &&
           (child->input = command_payload(op->input.type, op->input.data)) != NULL;
}

static bool command_fill_step(Event *event, const struct op *op)
{
    Perdure__V1__StepScheduled *step = malloc(sizeof(*step));
    if (step == NULL)
        return false;
    perdure__v1__step_scheduled__init(step);
    event->step_scheduled = step;
    event->kind_case = PERDURE__V1__EVENT__KIND_STEP_SCHEDULED;
    step->max_attempts = op->policy.max_attempts;
    step->timeout_ms = op->policy.timeout_ms;
    step->schedule_to_start_ms = op->policy.schedule_to_start_ms;
    step->deadline_ms = op->policy.deadline_ms;
    step->heartbeat_ms = op->policy.heartbeat_ms;
    step->backoff_ms = op->policy.backoff_ms;
    step->backoff_max_ms = op->policy.backoff_max_ms;
    step->priority = op->policy.priority;
    return wire_string(&step->name, op->name) && wire_string(&step->queue, op->policy.queue) &&
           (step->input = command_payload(op->input.type, op->input.data)) != NULL;
}

/* NULL: no memory. */
Event *command_event(const struct op *op)
{
    Event *event = command_event_new(op->number, op->site, op->label);
    if (event == NULL)
        return NULL;
    bool whole = op->kind == OP_TIMER  ? command_fill_timer(event, op)
                 : op->kind == OP_SEND ? command_fill_send(event, op)
                 : op->kind == OP_STEP ? command_fill_step(event, op)
                                       : command_fill_child(event, op);
    if (whole)
        return event;
    event_free(event);
    return NULL;
}

static bool command_fill_completed(Event *event, const pdr_job *job)
{
    Perdure__V1__Completed *completed = malloc(sizeof(*completed));
    if (completed == NULL)
        return false;
    perdure__v1__completed__init(completed);
    event->completed = completed;
    event->kind_case = PERDURE__V1__EVENT__KIND_COMPLETED;
    completed->result = command_payload(codec_type_name(job->callable->entry->decl->out), job->outcome.result);
    return completed->result != NULL;
}

static bool command_fill_failed(Event *event, const pdr_job *job)
{
    Perdure__V1__Failed *failed = malloc(sizeof(*failed));
    if (failed == NULL)
        return false;
    perdure__v1__failed__init(failed);
    event->failed = failed;
    event->kind_case = PERDURE__V1__EVENT__KIND_FAILED;
    failed->error = failure_to_error(job->outcome.failure);
    return failed->error != NULL;
}

static bool command_fill_cancelled(Event *event, const pdr_job *job)
{
    Perdure__V1__Cancelled *cancelled = malloc(sizeof(*cancelled));
    if (cancelled == NULL)
        return false;
    perdure__v1__cancelled__init(cancelled);
    event->cancelled = cancelled;
    event->kind_case = PERDURE__V1__EVENT__KIND_CANCELLED;
    return wire_string(&cancelled->reason, job->cancel_reason);
}

Event *command_end_event(pdr_job *job, uint64_t number)
{
    Event *event = command_event_new(number, job->site, NULL);
    if (event == NULL)
        return NULL;
    bool whole = job->outcome.kind == PERDURE__V1__EVENT__KIND_COMPLETED ? command_fill_completed(event, job)
                 : job->outcome.kind == PERDURE__V1__EVENT__KIND_FAILED  ? command_fill_failed(event, job)
                                                                         : command_fill_cancelled(event, job);
    if (whole)
        return event;
    event_free(event);
    return NULL;
}
