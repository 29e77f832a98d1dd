/*
 * Replay and live differ here: what the job attempts is compared with what its history recorded under the same number.
 */
#include <stdlib.h>
#include <string.h>

#include "job/state.h"

#define K(name) PERDURE__V1__EVENT__KIND_##name

/* What kind of operation an event belongs to; OP_NONE: to none. */
enum op_kind match_kind_of(const Event *event)
{
    switch (event->kind_case) {
    case K(STEP_COMPLETED):
    case K(STEP_FAILED):
    case K(ATTEMPT_FAILED):
    case K(STEP_SCHEDULED):
    case K(STEP_PROGRESS):
    case K(STEP_DISPATCHED):
        return OP_STEP;
    case K(TIMER_STARTED):
    case K(TIMER_FIRED):
        return OP_TIMER;
    case K(SIGNAL_SENT):
    case K(SEND_REFUSED):
        return OP_SEND;
    case K(CHILD_REQUESTED):
    case K(CHILD_ENDED):
        return OP_CHILD;
    case K(COMPLETED):
    case K(FAILED):
    case K(CANCELLED):
        return OP_END;
    default:
        return OP_NONE;
    }
}

static bool match_is_command(const Event *event)
{
    switch (event->kind_case) {
    case K(STEP_SCHEDULED):
    case K(TIMER_STARTED):
    case K(SIGNAL_SENT):
    case K(CHILD_REQUESTED):
    case K(COMPLETED):
    case K(FAILED):
    case K(CANCELLED):
        return true;
    default:
        return false;
    }
}

static bool match_is_terminal(const Event *event)
{
    return match_kind_of(event) == OP_END || event->kind_case == K(TERMINATED);
}

/* ---- the index -------------------------------------------------------------------------------------- */

/* More operations than this without any event between them are not believed: the number is damaged. */
#define OPERATIONS_WITHOUT_EVENT 10000000

static bool match_scan(pdr_job *job, struct replay *replay)
{
    for (size_t i = 0; i < replay->count; i++) {
        const Event *event = replay->events[i];
        if (event->seq != i + 1) {
            report_broken(job, "event %llu stands where event %zu belongs", (unsigned long long)event->seq, i + 1);
            return false;
        }
        if (event->kind_case == PERDURE__V1__EVENT__KIND__NOT_SET) { /* rule 32 */
            report_broken(job, "event %zu is of a kind that this version does not know", i + 1);
            return false;
        }
        if (replay->terminal != NULL) {
            report_after_end(job, event);
            return false;
        }
        if (match_is_terminal(event))
            replay->terminal = event;
        if (event->op >= replay->op_limit)
            replay->op_limit = event->op + 1;
        if (match_is_command(event) && event->op > replay->last_command)
            replay->last_command = event->op;
    }
    if (replay->op_limit > replay->count + OPERATIONS_WITHOUT_EVENT) {
        report_broken(job, "the history has an operation %llu", (unsigned long long)(replay->op_limit - 1));
        return false;
    }
    return true;
}

/* Reads the history once. False: the job is stopped. The caller frees replay->recorded. */
bool match_index(pdr_job *job, struct replay *replay)
{
    if (!match_scan(job, replay))
        return false;
    replay->recorded = calloc(replay->op_limit + 1, sizeof(const Event *));
    if (replay->recorded == NULL) {
        report_no_memory(job);
        return false;
    }
    for (size_t i = 0; i < replay->count; i++) {
        const Event *event = replay->events[i];
        bool of_job = event->kind_case != K(JOB_CRASHED); /* that only says where it was */
        if (of_job && event->op != 0 && replay->recorded[event->op] == NULL)
            replay->recorded[event->op] = event;
    }
    return true;
}

/* ---- one operation ----------------------------------------------------------------------------------- */

static const char *match_step(const struct op *op, const char *name, uint64_t digest)
{
    if (strcmp(op->name, name) != 0)
        return "name";
    return op->digest != digest ? "input" : NULL;
}

static uint64_t match_digest(const Payload *payload)
{
    return payload != NULL ? payload_digest(payload->type, payload->data.data, payload->data.len) : 0;
}

static const char *match_child(const struct op *op, const Perdure__V1__ChildRequested *recorded)
{
    if (strcmp(op->name, recorded->type) != 0)
        return "type of the child";
    if (strcmp(op->target, recorded->job) != 0)
        return "id of the child";
    return op->digest != match_digest(recorded->input) ? "input" : NULL;
}

static const char *match_send(const struct op *op, const Perdure__V1__SignalSent *recorded)
{
    if (strcmp(op->name, recorded->name) != 0)
        return "name";
    if (strcmp(op->target, recorded->target) != 0)
        return "target";
    return op->digest != match_digest(recorded->payload) ? "payload" : NULL;
}

/* NULL: they agree; else what differs. */
static const char *match_difference(const struct op *op, const Event *recorded)
{
    if (match_kind_of(recorded) != op->kind)
        return "kind";
    switch (recorded->kind_case) {
    case K(STEP_COMPLETED):
        return match_step(op, recorded->step_completed->name, recorded->step_completed->input_digest);
    case K(STEP_FAILED):
        return match_step(op, recorded->step_failed->name, recorded->step_failed->input_digest);
    case K(ATTEMPT_FAILED):
        return match_step(op, recorded->attempt_failed->name, recorded->attempt_failed->input_digest);
    case K(STEP_SCHEDULED): /* options are not compared: it goes on with those it began with */
        return match_step(op, recorded->step_scheduled->name, match_digest(recorded->step_scheduled->input));
    case K(STEP_DISPATCHED):
        return match_step(op, recorded->step_dispatched->name, recorded->step_dispatched->input_digest);
    case K(TIMER_STARTED):
        if (strcmp(op->name, recorded->timer_started->purpose) != 0)
            return "purpose";
        return op->duration_ms != recorded->timer_started->duration_ms ? "duration" : NULL;
    case K(SIGNAL_SENT):
        return match_send(op, recorded->signal_sent);
    case K(CHILD_REQUESTED):
        return match_child(op, recorded->child_requested);
    default: /* an outcome without what it is the outcome of */
        return "order";
    }
}

/* What the history goes on with from an operation that it has no event of; NULL: nothing. */
static const Event *match_next(const struct replay *replay, uint64_t number)
{
    for (; number < replay->op_limit; number++) {
        if (replay->recorded[number] != NULL)
            return replay->recorded[number];
    }
    return NULL;
}

const Event *match_op(pdr_job *job, const struct op *op, bool may_wait)
{
    const struct replay *replay = job->replay;
    if (replay == NULL)
        return NULL;
    const Event *recorded = op->number < replay->op_limit ? replay->recorded[op->number] : NULL;
    if (recorded == NULL) {
        bool has_command = op->kind == OP_TIMER || op->kind == OP_SEND || op->kind == OP_CHILD;
        if (has_command && !may_wait && op->number < replay->last_command)
            report_op(job, op, match_next(replay, op->number), "operation");
        return NULL;
    }
    const char *difference = match_difference(op, recorded);
    if (difference == NULL)
        return recorded;
    report_op(job, op, recorded, difference);
    return NULL;
}

/* Live, and for the second and later events of an operation: the outcome is that of what was asked. */
bool match_result(pdr_job *job, const struct op *op, const Event *event)
{
    const char *difference = NULL;
    if (event->kind_case == K(STEP_COMPLETED))
        difference = match_step(op, event->step_completed->name, event->step_completed->input_digest);
    else if (event->kind_case == K(STEP_FAILED))
        difference = match_step(op, event->step_failed->name, event->step_failed->input_digest);
    else if (event->kind_case == K(ATTEMPT_FAILED))
        difference = match_step(op, event->attempt_failed->name, event->attempt_failed->input_digest);
    else if (event->kind_case == K(STEP_DISPATCHED))
        difference = match_step(op, event->step_dispatched->name, event->step_dispatched->input_digest);
    if (difference == NULL)
        return true;
    report_op(job, op, event, difference);
    return false;
}

/* ---- the end -------------------------------------------------------------------------------------------- */

static const char *match_outcome(const struct outcome *outcome, const Event *recorded)
{
    if ((int)recorded->kind_case != outcome->kind)
        return "kind";
    if (recorded->kind_case == K(COMPLETED)) {
        const Payload *result = recorded->completed->result;
        size_t size = result != NULL ? result->data.len : 0;
        bool equal =
            size == outcome->result.len && (size == 0 || memcmp(result->data.data, outcome->result.data, size) == 0);
        return equal ? NULL : "result";
    }
    if (recorded->kind_case == K(FAILED)) {
        const char *type = recorded->failed->error != NULL ? recorded->failed->error->type : "";
        return strcmp(type, outcome->failure->type) == 0 ? NULL : "type of the error";
    }
    return NULL;
}

const Event *match_end(pdr_job *job, uint64_t number, const struct outcome *outcome)
{
    const struct replay *replay = job->replay;
    if (replay == NULL)
        return NULL;
    const Event *recorded = match_next(replay, number); /* the end is the last operation */
    if (recorded == NULL)
        return NULL;
    const char *difference = recorded->op != number ? "operation" : match_outcome(outcome, recorded);
    if (difference == NULL)
        return recorded;
    report_end(job, number, outcome, recorded, difference);
    return NULL;
}

/* All inputs are fed: whatever the history says the job asked for, it has asked for. */
void match_rest(pdr_job *job)
{
    const struct replay *replay = job->replay;
    for (size_t i = 0; i < replay->count; i++) {
        const Event *event = replay->events[i];
        bool unattempted = match_kind_of(event) == OP_END ? job->state != JOB_ENDED : event->op >= job->next_op;
        if (match_is_command(event) && unattempted) {
            report_never_attempted(job, event);
            return;
        }
    }
}
