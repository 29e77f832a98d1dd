/*
 * What each input event does to a job. It only changes what is known; serve_run() lets the code go on.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "job/state.h"

#define K(name) PERDURE__V1__EVENT__KIND_##name

/* Decodes a result or a signal for an operation, which is ready then, well or badly. */
static bool apply_payload(pdr_job *job, struct op *op, const pdr_type *type, const Payload *payload)
{
    char why[512] = "";
    int code = codec_decode(type, payload, &job->arena, &op->result, why, sizeof(why));
    if (code == PDR_OK)
        operation_ready(job, op, PDR_OK);
    else if (code == PDR_NO_MEMORY)
        report_no_memory(job);
    else
        operation_fail(job, op,
                       failure_newf(&job->arena, PDR_FAILED, "BadPayload", op->site, NULL, true,
                                    "what came for %s cannot be read: %s", op->name, why));
    return !job_is_stopped(job);
}

bool apply_signal(pdr_job *job, struct op *op, const Payload *payload)
{
    return apply_payload(job, op, op->decl->in, payload);
}

/* The operation an outcome belongs to; NULL: it is over, or the job is stopped. */
static struct op *apply_find(pdr_job *job, const Event *event)
{
    enum op_kind kind = match_kind_of(event);
    if (event->op == 0 || event->op >= job->next_op) {
        report_never_attempted(job, event);
        return NULL;
    }
    struct op *op = operation_find(job, event->op);
    if (op != NULL && op->kind != kind) {
        report_op(job, op, event, "kind");
        return NULL;
    }
    if (op == NULL) {
        if (operation_kind(job, event->op) != kind)
            report_never_attempted(job, event);
        return NULL; /* came too late: cancelled, timed out */
    }
    return op->state != OP_READY && match_result(job, op, event) ? op : NULL;
}

static void apply_started(pdr_job *job, const Event *event)
{
    const Perdure__V1__Started *started = event->started;
    if (job->started || strcmp(started->type, job->callable->name) != 0) {
        report_start(job, event);
        return;
    }
    job->started = true;
    job->build = strdup(started->build);
    const pdr_decl *decl = job->callable->entry->decl;
    char why[512] = "";
    int code = job->build == NULL ? PDR_NO_MEMORY
                                  : codec_decode(decl->in, started->input, &job->arena, &job->input, why, sizeof(why));
    if (code == PDR_OK && (job->output = codec_new(decl->out, &job->arena)) == NULL)
        code = PDR_NO_MEMORY;
    if (code == PDR_NO_MEMORY) {
        report_no_memory(job);
    } else if (code != PDR_OK) {
        job->failure =
            failure_newf(&job->arena, PDR_FAILED, "BadInput", NULL, NULL, true, "the input cannot be read: %s", why);
        if (job->failure == NULL)
            report_no_memory(job);
        job->returned = PDR_FAILED;
        job->ending = true;
    }
}

static void apply_step_failed(pdr_job *job, const Event *event)
{
    struct op *op = apply_find(job, event);
    if (op != NULL)
        operation_fail(job, op, failure_from_error(&job->arena, event->step_failed->error, op->site));
}

static void apply_attempt_failed(pdr_job *job, const Event *event)
{
    struct op *op = apply_find(job, event);
    if (op == NULL)
        return;
    const Perdure__V1__AttemptFailed *failed = event->attempt_failed;
    error_free(op->last_error);
    op->last_error = failed->error != NULL ? error_copy(failed->error) : NULL;
    if (failed->error != NULL && op->last_error == NULL) {
        report_no_memory(job);
        return;
    }
    op->attempt = failed->attempt + 1;
    op->at_ms = failed->next;
    op->begun = op->later = false;
    if (op->policy.queue != NULL && op->scheduled_ms == 0)
        op->scheduled_ms = op->first_started_ms;
    if (op->first_started_ms == 0)
        op->first_started_ms = failed->started;
    if (job->replay == NULL && op->state == OP_PENDING)
        command_step(job, op);
}

/* The attempt is in the hands of somebody outside. */
static void apply_dispatched(pdr_job *job, const Event *event)
{
    struct op *op = apply_find(job, event);
    if (op == NULL)
        return;
    const Perdure__V1__StepDispatched *dispatched = event->step_dispatched;
    op->dispatched = dispatched->attempt;
    op->dispatch = dispatched->dispatch;
    op->dispatched_ms = event_dispatched_ms(event);
    op->begun = false;
    op->later = strcmp(dispatched->reason, DISPATCH_LATER) == 0;
}

static void apply_progress(pdr_job *job, const Event *event)
{
    struct op *op = apply_find(job, event);
    if (op == NULL)
        return;
    const Perdure__V1__StepProgress *progress = event->step_progress;
    if (progress->attempt == op->dispatched) {
        op->begun = true;
        op->begun_ms = progress->started;
    }
    if (progress->detail == NULL)
        return;
    payload_free(op->progress);
    op->progress = payload_copy(progress->detail);
    if (op->progress == NULL)
        report_no_memory(job);
}

static void apply_signal_received(pdr_job *job, const Event *event)
{
    const Perdure__V1__SignalReceived *received = event->signal_received;
    for (struct op *op = job->expect_first; op != NULL; op = op->next) {
        if (strcmp(op->name, received->name) == 0) {
            apply_signal(job, op, received->payload);
            return;
        }
    }
    struct signal *signal = malloc(sizeof(*signal) + strlen(received->name) + 1);
    if (signal == NULL) {
        report_no_memory(job);
        return;
    }
    signal->next = NULL;
    signal->seq = event->seq;
    strcpy(signal->name, received->name);
    signal->payload = payload_copy(received->payload);
    if (signal->payload == NULL && received->payload != NULL) {
        free(signal);
        report_no_memory(job);
        return;
    }
    if (job->signal_last != NULL)
        job->signal_last->next = signal;
    else
        job->signal_first = signal;
    job->signal_last = signal;
    job->signal_count++;
}

static void apply_send_refused(pdr_job *job, const Event *event)
{
    if (operation_kind(job, event->op) != OP_SEND) {
        report_never_attempted(job, event);
        return;
    }
    if (job->replay != NULL || job->options.log == NULL)
        return;
    const Error *error = event->send_refused->error;
    char text[512];
    snprintf(text, sizeof(text), "a signal was refused: %s", error != NULL ? error->message : "no reason given");
    job->options.log(job->options.log_context, job, PDR_WARNING, text);
}

static void apply_child_ended(pdr_job *job, const Event *event)
{
    struct op *op = apply_find(job, event);
    if (op == NULL)
        return;
    const Perdure__V1__ChildEnded *ended = event->child_ended;
    if (strcmp(ended->state, "completed") == 0) {
        apply_payload(job, op, op->decl->out, ended->result);
        return;
    }
    if (ended->error != NULL) {
        operation_fail(job, op, failure_from_error(&job->arena, ended->error, op->site));
        if (op->state == OP_READY && op->code == PDR_CANCELLED)
            op->code = PDR_FAILED; /* the child's, not ours */
        return;
    }
    bool cancelled = strcmp(ended->state, "cancelled") == 0;
    bool terminated = strcmp(ended->state, "terminated") == 0;
    const char *type = cancelled ? "Cancelled" : terminated ? "Terminated" : "Failed";
    operation_fail(job, op,
                   failure_newf(&job->arena, PDR_FAILED, type, op->site, NULL, true, "child job \"%s\" was %s",
                                op->target, ended->state));
}

static void apply_cancel(pdr_job *job, const Event *event)
{
    if (job->cancelled || job->ending)
        return;
    job->cancel_reason = strdup(event->cancel_requested->reason);
    if (job->cancel_reason == NULL) {
        report_no_memory(job);
        return;
    }
    job->cancelled = true;
    operation_abandon_all(job); /* no await can have their results any more */
}

static void apply_terminated(pdr_job *job)
{
    operation_abandon_all(job);
    job->state = JOB_ENDED;
}

void apply_event(pdr_job *job, const Event *event)
{
    if (event->t > job->now_ms)
        job->now_ms = event->t;
    if (!job->started && event->kind_case != K(STARTED) && event->kind_case != K(TERMINATED)) {
        report_start(job, event);
        return;
    }
    struct op *op;
    switch (event->kind_case) {
    case K(STARTED):
        apply_started(job, event);
        break;
    case K(STEP_COMPLETED):
        op = apply_find(job, event);
        if (op != NULL)
            apply_payload(job, op, op->decl->out, event->step_completed->result);
        break;
    case K(STEP_FAILED):
        apply_step_failed(job, event);
        break;
    case K(ATTEMPT_FAILED):
        apply_attempt_failed(job, event);
        break;
    case K(STEP_DISPATCHED):
        apply_dispatched(job, event);
        break;
    case K(STEP_PROGRESS):
        apply_progress(job, event);
        break;
    case K(TIMER_FIRED):
        op = apply_find(job, event);
        if (op != NULL)
            operation_ready(job, op, PDR_OK);
        break;
    case K(SIGNAL_RECEIVED):
        apply_signal_received(job, event);
        break;
    case K(SEND_REFUSED):
        apply_send_refused(job, event);
        break;
    case K(CHILD_ENDED):
        apply_child_ended(job, event);
        break;
    case K(CANCEL_REQUESTED):
        apply_cancel(job, event);
        break;
    case K(TERMINATED):
        apply_terminated(job);
        break;
    case K(STEP_SCHEDULED):
    case K(TIMER_STARTED):
    case K(SIGNAL_SENT):
    case K(CHILD_REQUESTED):
    case K(COMPLETED):
    case K(FAILED):
    case K(CANCELLED):
        break; /* commands: matched where they are attempted */
    case K(JOB_CRASHED):
    case K(RESUMED):
        break; /* of the worker; the job never sees them */
    default:   /* rule 32 */
        report_broken(job, "event %llu is of a kind that this version does not know", (unsigned long long)event->seq);
    }
}
