/*
 * What a job waits for and what it holds.
 */
#include <stdlib.h>

#include "job/state.h"
#include "wire/arena.h"

static const char *inspect_kind(const struct op *op)
{
    switch (op->kind) {
    case OP_STEP:
        return op->state == OP_QUEUED ? "limit" : op->last_error != NULL ? "retry" : "step";
    case OP_CHILD:
        return op->state == OP_QUEUED ? "limit" : "child";
    case OP_TIMER:
        return "timer";
    default:
        return "signal";
    }
}

/* Room for one more message. NULL: no memory; what is there is shown. */
static Waiting *inspect_add(pdr_job *job)
{
    if (job->waiting_count == job->waiting_capacity) {
        size_t capacity = job->waiting_capacity > 0 ? job->waiting_capacity * 2 : 2;
        Waiting *waiting = realloc(job->waiting, capacity * sizeof(*waiting));
        if (waiting != NULL)
            job->waiting = waiting;
        const Waiting **pointers = realloc(job->waiting_pointers, capacity * sizeof(*pointers));
        if (pointers != NULL)
            job->waiting_pointers = pointers;
        if (waiting == NULL || pointers == NULL)
            return NULL;
        job->waiting_capacity = capacity;
    }
    return &job->waiting[job->waiting_count++];
}

static void inspect_op(pdr_job *job, const struct op *op, const struct op *timeout)
{
    if (op == NULL || op->state == OP_READY)
        return;
    Waiting *waiting = inspect_add(job);
    if (waiting == NULL)
        return;
    perdure__v1__waiting__init(waiting);
    waiting->kind = (char *)(uintptr_t)inspect_kind(op);
    waiting->name = (char *)(uintptr_t)op->name;
    waiting->since = job->waiting_since_ms;
    waiting->op = op->number;
    waiting->site = (Site *)(uintptr_t)&op->wire_site;
    if (op->label != NULL)
        waiting->label = (char *)(uintptr_t)op->label;
    waiting->attempt = op->kind == OP_STEP ? op->attempt : 0;
    waiting->last_error = op->last_error;
    if (op->kind == OP_TIMER || (op->kind == OP_STEP && op->last_error != NULL))
        waiting->until = op->at_ms;
    else if (timeout != NULL)
        waiting->until = timeout->at_ms;
}

size_t job_waiting(const pdr_job *constant, const Waiting *const **out)
{
    pdr_job *job = (pdr_job *)(uintptr_t)constant; /* the memory of the answer is all that changes */
    job->waiting_count = 0;
    *out = NULL;
    if (job_is_stopped(job))
        return 0;
    const struct request *request = job->pending;
    if (job->ending) {
        inspect_op(job, job->compensating, NULL);
    } else if (request != NULL) {
        const struct op *timeout = operation_find(job, request->timeout);
        for (size_t i = 0; i < request->count; i++)
            inspect_op(job, operation_find(job, request->futures[i].id), timeout);
    }
    for (size_t i = 0; i < job->waiting_count; i++)
        job->waiting_pointers[i] = &job->waiting[i];
    *out = (const Waiting *const *)job->waiting_pointers;
    return job->waiting_count;
}

const pdr_site *job_site(const pdr_job *job)
{
    return job->site;
}

size_t job_bytes(const pdr_job *job)
{
    size_t bytes = sizeof(*job) + job->op_capacity * sizeof(*job->ops) + job->command_capacity * sizeof(*job->commands);
    bytes += job->waiting_capacity * (sizeof(*job->waiting) + sizeof(void *));
    for (const struct wire_chunk *chunk = job->arena.first; chunk != NULL; chunk = chunk->next)
        bytes += sizeof(*chunk) + chunk->size;
    for (const struct signal *signal = job->signal_first; signal != NULL; signal = signal->next)
        bytes += sizeof(*signal) + (signal->payload != NULL ? sizeof(Payload) + signal->payload->data.len : 0);
    if (job->coroutine.top != NULL) {
        size_t depth = (size_t)((const char *)job->coroutine.top - (const char *)job->coroutine.context);
        bytes += (depth + 4095) / 4096 * 4096;
    }
    return bytes;
}

size_t job_unconsumed(const pdr_job *constant, const uint64_t **seqs)
{
    pdr_job *job = (pdr_job *)(uintptr_t)constant;
    *seqs = NULL;
    if (job->signal_count == 0)
        return 0;
    uint64_t *grown = realloc(job->unconsumed, job->signal_count * sizeof(*grown));
    if (grown == NULL)
        return 0;
    job->unconsumed = grown;
    size_t count = 0;
    for (const struct signal *signal = job->signal_first; signal != NULL; signal = signal->next)
        grown[count++] = signal->seq;
    *seqs = grown;
    return count;
}
