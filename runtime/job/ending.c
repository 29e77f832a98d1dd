/*
 * The job function has returned: clean-ups, then compensations if it did not end well, then the terminal event.
 */
#include <stdlib.h>

#include "constants.h"
#include "crash/slot.h"
#include "job/state.h"

void ending_clean_up(pdr_job *job)
{
    if (job->clean_ups == NULL)
        return;
    crash_enter_job(job->id, job->run, job->callable->name, job->callable->build, job->site, NULL, 0);
    while (job->clean_ups != NULL) {
        struct clean_up *clean_up = job->clean_ups;
        job->clean_ups = clean_up->next;
        clean_up->run(clean_up->argument);
    }
    crash_slot_leave();
}

/* Encodes the result before anything that it points to is cleaned up. */
static void ending_complete(pdr_job *job)
{
    const pdr_type *type = job->callable->entry->decl->out;
    int code = codec_encode(type, job->output, &job->outcome.result);
    if (code == PDR_OK) {
        job->outcome.kind = PERDURE__V1__EVENT__KIND_COMPLETED;
        return;
    }
    size_t size = job->outcome.result.len;
    job->outcome.result.len = 0;
    job->outcome.kind = PERDURE__V1__EVENT__KIND_FAILED;
    job->outcome.failure = code == PDR_NO_MEMORY
                               ? NULL
                               : failure_newf(&job->arena, PDR_FAILED, "TooLarge", NULL, NULL, true,
                                              "the result takes %zu bytes, %d are allowed", size, PAYLOAD_LIMIT_BYTES);
    if (job->outcome.failure == NULL)
        report_no_memory(job);
}

static void ending_fail(pdr_job *job, int code)
{
    job->outcome.kind = PERDURE__V1__EVENT__KIND_FAILED;
    job->outcome.failure = job->failure;
    if (job->failure == NULL || job->failure->code != code)
        job->outcome.failure = failure_newf(&job->arena, PDR_FAILED, failure_type_of(code), NULL, job->failure, true,
                                            "the job function returned %d: %s", code, pdr_code_text(code));
    if (job->outcome.failure == NULL)
        report_no_memory(job);
}

void ending_begin(pdr_job *job)
{
    if (job->returned == PDR_OK)
        ending_complete(job);
    else if (job->cancelled && job->returned == PDR_CANCELLED)
        job->outcome.kind = PERDURE__V1__EVENT__KIND_CANCELLED;
    else
        ending_fail(job, job->returned);
    if (job_is_stopped(job))
        return;
    job->pending = NULL;
    ending_clean_up(job);
    operation_abandon_all(job); /* nobody can join what it started */
    if (job->outcome.kind == PERDURE__V1__EVENT__KIND_COMPLETED)
        job->compensations = NULL;
}

static void ending_emit(pdr_job *job)
{
    if (job->compensation_failure != NULL)
        job->outcome.kind = PERDURE__V1__EVENT__KIND_FAILED;
    if (job->compensation_failure != NULL)
        job->outcome.failure = job->compensation_failure;
    uint64_t number = job->next_op;
    const Event *recorded = match_end(job, number, &job->outcome);
    if (!job_is_stopped(job) && recorded == NULL)
        command_record(job, command_end_event(job, number));
    if (!job_is_stopped(job))
        job->state = JOB_ENDED;
}

/* The first that failed is told, with what the job itself had failed with as its cause. */
static void ending_note_failure(pdr_job *job, const struct op *op)
{
    if (op->code == PDR_OK || job->compensation_failure != NULL)
        return;
    const pdr_failure *why = op->failure;
    job->compensation_failure =
        failure_newf(&job->arena, PDR_FAILED, "CompensationFailed", op->site, job->outcome.failure, true, "%s: %s: %s",
                     op->name, why != NULL ? why->type : "Failed", why != NULL ? why->message : "");
    if (job->compensation_failure == NULL)
        report_no_memory(job);
}

/* The last first, each to its end; a request to cancel does not stop them. */
void ending_go_on(pdr_job *job)
{
    if (job->outcome.kind == 0) /* the input could not be read: no code ran */
        ending_begin(job);
    while (!job_is_stopped(job)) {
        struct op *op = job->compensating;
        if (op != NULL && op->state != OP_READY)
            return;
        if (op != NULL) {
            ending_note_failure(job, op);
            job->compensating = NULL;
            operation_end(job, op);
            continue;
        }
        struct compensation *compensation = job->compensations;
        if (compensation == NULL) {
            ending_emit(job);
            return;
        }
        job->compensations = compensation->next;
        job->site = compensation->site;
        job->waiting_since_ms = job->now_ms;
        job->compensating = operation_compensate(job, compensation);
    }
}
