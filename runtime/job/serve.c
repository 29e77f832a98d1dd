/*
 * Runs the job's code and answers what it asks for, outside of its coroutine.
 */
#include <stdlib.h>

#include "crash/slot.h"
#include "job/state.h"

bool serve_cancelled(const pdr_job *job)
{
    return job->cancelled && !job->ending;
}

/* ---- waiting ------------------------------------------------------------------------------------------ */

static bool serve_is_ready(const pdr_job *job, pdr_future future)
{
    const struct op *op = operation_find(job, future.id);
    return op == NULL || op->state == OP_READY;
}

/* Looks at each future once: what was found ready stays so. */
static bool serve_are_ready(const pdr_job *job, struct request *request)
{
    if (request->all) {
        while (request->ready < request->count && serve_is_ready(job, request->futures[request->ready]))
            request->ready++;
        return request->ready == request->count;
    }
    for (size_t i = 0; i < request->count; i++) {
        if (serve_is_ready(job, request->futures[i]))
            return true;
    }
    return request->count == 0;
}

/* The answer of an operation that is ready. */
static void serve_take_result(pdr_job *job, struct request *request, const struct op *op)
{
    request->code = op->code;
    request->result = op->code == PDR_OK ? op->result : NULL;
    job->failure = op->failure;
}

static void serve_fail(pdr_job *job, struct request *request, int code, const char *message)
{
    request->code = code;
    job->failure = failure_newf(&job->arena, code, failure_type_of(code), request->site, NULL, false, "%s", message);
    if (job->failure == NULL)
        report_no_memory(job);
}

/* The wait is over, one way or the other. What only this verb knew is dropped. */
static void serve_end_wait(pdr_job *job, struct request *request)
{
    struct op *op = operation_find(job, request->timeout);
    if (op != NULL)
        operation_end(job, op);
    op = operation_find(job, request->one.id);
    bool own = request->kind == REQUEST_AWAIT || request->kind == REQUEST_RECEIVE || request->kind == REQUEST_SLEEP;
    if (own && op != NULL)
        operation_end(job, op);
}

/* True: the request is answered. */
static bool serve_poll(pdr_job *job, struct request *request)
{
    const struct op *timeout = operation_find(job, request->timeout);
    if (serve_cancelled(job)) {
        serve_fail(job, request, PDR_CANCELLED, job->cancel_reason);
    } else if (serve_are_ready(job, request)) {
        const struct op *op = operation_find(job, request->one.id);
        request->code = PDR_OK;
        if (request->kind == REQUEST_WAIT)
            job->failure = NULL;
        else if (op != NULL)
            serve_take_result(job, request, op);
        else
            serve_fail(job, request, PDR_MISUSE, "this future was never started");
    } else if (timeout != NULL && timeout->state == OP_READY) {
        serve_fail(job, request, PDR_TIMED_OUT, pdr_code_text(PDR_TIMED_OUT));
    } else {
        return false;
    }
    serve_end_wait(job, request);
    return true;
}

static bool serve_wait(pdr_job *job, struct request *request)
{
    if (serve_poll(job, request))
        return true;
    bool timed = request->kind == REQUEST_JOIN || request->kind == REQUEST_RECEIVE;
    const pdr_wait_options *options = request->options;
    if (timed && options != NULL && options->timeout_ms < 0) { /* only a look */
        serve_fail(job, request, PDR_TIMED_OUT, pdr_code_text(PDR_TIMED_OUT));
        serve_end_wait(job, request);
        return true;
    }
    if (timed && options != NULL && options->timeout_ms > 0) {
        const struct op *op = operation_timer(job, request->site, "timeout", options->timeout_ms);
        if (op == NULL)
            return false;
        request->timeout = op->number;
    }
    job->waiting_since_ms = job->now_ms;
    return false;
}

static bool serve_wait_for(pdr_job *job, struct request *request, const struct op *op)
{
    if (op == NULL)
        return false;
    request->one.id = op->number;
    request->futures = &request->one;
    request->count = 1;
    request->all = true;
    return serve_wait(job, request);
}

/* ---- requests ------------------------------------------------------------------------------------------ */

static bool serve_future(struct request *request, const struct op *op)
{
    request->future.id = op != NULL ? op->number : 0;
    return op != NULL;
}

static void serve_compensate(pdr_job *job, struct request *request)
{
    struct compensation *compensation = codec_memory(&job->arena, sizeof(*compensation));
    ProtobufCBinaryData input = {0};
    int code = compensation != NULL ? codec_encode(request->decl->in, request->in, &input) : PDR_NO_MEMORY;
    if (code == PDR_INVALID) {
        serve_fail(job, request, PDR_FAILED, "the input of the compensation is too large");
        return;
    }
    if (code == PDR_MISUSE) {
        serve_fail(job, request, PDR_MISUSE, "the input of the compensation is NULL");
        return;
    }
    if (code == PDR_OK && input.len > 0) {
        compensation->input.data = codec_memory(&job->arena, input.len);
        if (compensation->input.data != NULL)
            __builtin_memcpy(compensation->input.data, input.data, input.len);
        compensation->input.len = input.len;
    }
    free(input.data);
    if (code != PDR_OK || (input.len > 0 && compensation->input.data == NULL)) {
        report_no_memory(job);
        return;
    }
    compensation->decl = request->decl;
    compensation->site = request->site;
    if (request->decl->kind == PDR_KIND_STEP)
        operation_merge(&compensation->policy, request->decl->defaults, request->options);
    compensation->policy.queue = operation_copy_text(job, compensation->policy.queue);
    compensation->policy.concurrency_key = operation_copy_text(job, compensation->policy.concurrency_key);
    if (job_is_stopped(job))
        return;
    compensation->next = job->compensations;
    job->compensations = compensation;
    request->code = PDR_OK;
}

/* True: answered, the code goes on. */
static bool serve_answer(pdr_job *job, struct request *request)
{
    request->code = PDR_OK;
    if (request->kind == REQUEST_CALL) {
        request->call(job, request);
        return true;
    }
    job->site = request->site;
    if (request->kind == REQUEST_COMPENSATE) {
        serve_compensate(job, request);
        return true;
    }
    if (serve_cancelled(job)) {
        serve_fail(job, request, PDR_CANCELLED, job->cancel_reason);
        return true;
    }
    switch (request->kind) {
    case REQUEST_AWAIT:
        return serve_wait_for(job, request,
                              operation_start(job, request->site, request->decl, request->in, request->options));
    case REQUEST_START:
        return serve_future(request, operation_start(job, request->site, request->decl, request->in, request->options));
    case REQUEST_JOIN:
        request->futures = &request->one;
        request->count = 1;
        request->all = true;
        return serve_wait(job, request);
    case REQUEST_RECEIVE:
        return serve_wait_for(job, request, operation_expect(job, request->site, request->decl));
    case REQUEST_EXPECT:
        return serve_future(request, operation_expect(job, request->site, request->decl));
    case REQUEST_SEND:
        request->code = operation_send(job, request);
        return true;
    case REQUEST_SLEEP:
        return request->ms <= 0 ||
               serve_wait_for(job, request, operation_timer(job, request->site, "sleep", request->ms));
    case REQUEST_TIMER:
        return serve_future(request, operation_timer(job, request->site, "timer", request->ms));
    case REQUEST_WAIT:
        return serve_wait(job, request);
    default:
        return true;
    }
}

/* Enters the code. False: it has returned. */
static bool serve_resume(pdr_job *job)
{
    pdr_job *previous = verbs_enter(job);
    crash_enter_job(job->id, job->run, job->callable->name, job->callable->build, job->site, job->coroutine.top,
                    job->coroutine.size);
    job->pending = coroutine_resume(&job->coroutine);
    crash_slot_leave();
    verbs_leave(previous);
    return job->pending != NULL;
}

/* Lets the job go on as far as it can. */
void serve_run(pdr_job *job)
{
    while (!job_is_stopped(job) && !job->ending) {
        if (job->pending != NULL && !serve_poll(job, job->pending))
            return;
        while (!job_is_stopped(job)) {
            if (!serve_resume(job)) {
                job->ending = true;
                ending_begin(job);
                break;
            }
            if (!serve_answer(job, job->pending))
                return;
        }
    }
    if (!job_is_stopped(job))
        ending_go_on(job);
}
