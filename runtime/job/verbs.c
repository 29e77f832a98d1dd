/*
 * The functions of perdure.h that a job calls. They run on the job's stack, so they do little there: most fill a
 * request and suspend.
 */
#include <stdio.h>
#include <string.h>

#include "job/state.h"

/* The job whose code this thread runs; NULL: none. */
static __thread pdr_job *verbs_current;

/* Not inlined: a job may go on on another thread, where a remembered address of `verbs_current` is wrong. */
__attribute__((noinline)) pdr_job *verbs_enter(pdr_job *job)
{
    pdr_job *previous = verbs_current;
    verbs_current = job;
    return previous;
}

__attribute__((noinline)) void verbs_leave(pdr_job *previous)
{
    verbs_current = previous;
}

__attribute__((noinline)) static bool verbs_may(const pdr_job *job)
{
    return job != NULL && job == verbs_current;
}

static void verbs_ask(pdr_job *job, struct request *request)
{
    coroutine_suspend(&job->coroutine, request);
}

static int verbs_ask_code(pdr_job *job, struct request *request, void **out)
{
    if (out != NULL)
        *out = NULL;
    if (!verbs_may(job))
        return PDR_MISUSE;
    verbs_ask(job, request);
    if (out != NULL)
        *out = request->result;
    return request->code;
}

static pdr_future verbs_ask_future(pdr_job *job, struct request *request)
{
    if (verbs_may(job))
        verbs_ask(job, request);
    return request->future;
}

/* ---- awaits ---------------------------------------------------------------------------------------------- */

int pdr_await_(pdr_job *job, const pdr_site *site, const pdr_decl *decl, const void *in, void **out,
               const void *options)
{
    struct request request = {.kind = REQUEST_AWAIT, .site = site, .decl = decl, .in = in, .options = options};
    return verbs_ask_code(job, &request, out);
}

pdr_future pdr_start_(pdr_job *job, const pdr_site *site, const pdr_decl *decl, const void *in, const void *options)
{
    struct request request = {.kind = REQUEST_START, .site = site, .decl = decl, .in = in, .options = options};
    return verbs_ask_future(job, &request);
}

int pdr_join_(pdr_job *job, const pdr_site *site, pdr_future future, void **out, const pdr_wait_options *options)
{
    struct request request = {.kind = REQUEST_JOIN, .site = site, .one = future, .options = options};
    return verbs_ask_code(job, &request, out);
}

int pdr_receive_(pdr_job *job, const pdr_site *site, const pdr_decl *decl, void **out, const pdr_wait_options *options)
{
    struct request request = {.kind = REQUEST_RECEIVE, .site = site, .decl = decl, .options = options};
    return verbs_ask_code(job, &request, out);
}

pdr_future pdr_expect_(pdr_job *job, const pdr_site *site, const pdr_decl *decl)
{
    struct request request = {.kind = REQUEST_EXPECT, .site = site, .decl = decl};
    return verbs_ask_future(job, &request);
}

int pdr_send_(pdr_job *job, const pdr_site *site, const pdr_decl *decl, const char *id, const void *in)
{
    struct request request = {.kind = REQUEST_SEND, .site = site, .decl = decl, .in = in, .id = id};
    return verbs_ask_code(job, &request, NULL);
}

int pdr_compensate_(pdr_job *job, const pdr_site *site, const pdr_decl *decl, const void *in, const void *options)
{
    struct request request = {.kind = REQUEST_COMPENSATE, .site = site, .decl = decl, .in = in, .options = options};
    return verbs_ask_code(job, &request, NULL);
}

int pdr_sleep_(pdr_job *job, const pdr_site *site, int64_t ms)
{
    struct request request = {.kind = REQUEST_SLEEP, .site = site, .ms = ms};
    return verbs_ask_code(job, &request, NULL);
}

pdr_future pdr_timer_(pdr_job *job, const pdr_site *site, int64_t ms)
{
    struct request request = {.kind = REQUEST_TIMER, .site = site, .ms = ms};
    return verbs_ask_future(job, &request);
}

int pdr_wait_(pdr_job *job, const pdr_site *site, bool all, const pdr_future *futures, size_t count)
{
    struct request request = {.kind = REQUEST_WAIT, .site = site, .all = all, .futures = futures, .count = count};
    return verbs_ask_code(job, &request, NULL);
}

bool pdr_ready(pdr_job *job, pdr_future future)
{
    if (!verbs_may(job))
        return false;
    const struct op *op = operation_find(job, future.id);
    return op == NULL || op->state == OP_READY || serve_cancelled(job);
}

/* ---- memory ------------------------------------------------------------------------------------------------ */

static void verbs_alloc_outside(pdr_job *job, struct request *request)
{
    request->result = codec_memory(&job->arena, (size_t)request->ms);
    if (request->result == NULL)
        report_no_memory(job); /* never goes back */
}

void *pdr_alloc(pdr_job *job, size_t size)
{
    if (!verbs_may(job))
        return NULL;
    struct request request = {
        .kind = REQUEST_CALL, .call = verbs_alloc_outside, .ms = size <= PTRDIFF_MAX ? (int64_t)size : INT64_MAX};
    verbs_ask(job, &request);
    return request.result;
}

void *pdr_alloc_array(pdr_job *job, size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes))
        bytes = SIZE_MAX;
    return pdr_alloc(job, bytes);
}

static void verbs_message_outside(pdr_job *job, struct request *request)
{
    request->result = codec_new(request->argument, &job->arena);
    if (request->result == NULL)
        report_no_memory(job);
}

void *pdr_message_new(pdr_job *job, const pdr_type *type)
{
    if (!verbs_may(job))
        return NULL;
    struct request request = {.kind = REQUEST_CALL, .call = verbs_message_outside, .argument = (void *)(uintptr_t)type};
    verbs_ask(job, &request);
    return request.result;
}

static void verbs_format_outside(pdr_job *job, struct request *request)
{
    va_list again;
    va_copy(again, *request->arguments);
    int length = vsnprintf(NULL, 0, request->id, again);
    va_end(again);
    request->result = length >= 0 ? codec_memory(&job->arena, (size_t)length + 1) : NULL;
    if (request->result == NULL)
        report_no_memory(job);
    else
        vsnprintf(request->result, (size_t)length + 1, request->id, *request->arguments);
}

char *pdr_format(pdr_job *job, const char *format, ...)
{
    if (!verbs_may(job))
        return NULL;
    va_list arguments;
    va_start(arguments, format);
    struct request request = {
        .kind = REQUEST_CALL, .call = verbs_format_outside, .id = format, .arguments = &arguments};
    verbs_ask(job, &request);
    va_end(arguments);
    return request.result;
}

static void verbs_defer_outside(pdr_job *job, struct request *request)
{
    struct clean_up *clean_up = codec_memory(&job->arena, sizeof(*clean_up));
    if (clean_up == NULL) {
        report_no_memory(job);
        return;
    }
    *clean_up = *(const struct clean_up *)request->argument;
    clean_up->next = job->clean_ups;
    job->clean_ups = clean_up;
}

void pdr_defer(pdr_job *job, void (*run)(void *), void *argument)
{
    if (!verbs_may(job))
        return;
    struct clean_up clean_up = {.run = run, .argument = argument};
    struct request request = {.kind = REQUEST_CALL, .call = verbs_defer_outside, .argument = &clean_up};
    verbs_ask(job, &request);
}

static void verbs_limit_outside(pdr_job *job, struct request *request)
{
    pdr_limit *limit = codec_memory(&job->arena, sizeof(*limit));
    if (limit == NULL) {
        report_no_memory(job);
        return;
    }
    limit->room = request->ms > 0 ? request->ms : 1; /* none at all would wait for ever */
    request->result = limit;
}

pdr_limit *pdr_limit_new(pdr_job *job, int at_once)
{
    if (!verbs_may(job))
        return NULL;
    struct request request = {.kind = REQUEST_CALL, .call = verbs_limit_outside, .ms = at_once};
    verbs_ask(job, &request);
    return request.result;
}

/* ---- errors and the log --------------------------------------------------------------------------------------- */

static void verbs_fail_outside(pdr_job *job, struct request *request)
{
    const pdr_failure *failure = failure_new(&job->arena, PDR_FAILED, request->argument, NULL, job->failure, true,
                                             request->id, *request->arguments);
    if (failure == NULL)
        report_no_memory(job);
    job->failure = failure;
}

int pdr_fail(pdr_job *job, const char *type, const char *format, ...)
{
    if (!verbs_may(job))
        return PDR_MISUSE;
    va_list arguments;
    va_start(arguments, format);
    struct request request = {.kind = REQUEST_CALL,
                              .call = verbs_fail_outside,
                              .id = format,
                              .argument = (void *)(uintptr_t)type,
                              .arguments = &arguments};
    verbs_ask(job, &request);
    va_end(arguments);
    return PDR_FAILED;
}

const pdr_failure *pdr_error(const pdr_job *job)
{
    return verbs_may(job) ? job->failure : NULL;
}

static void verbs_log_outside(pdr_job *job, struct request *request)
{
    char text[FAILURE_MESSAGE_BYTES];
    vsnprintf(text, sizeof(text), request->id, *request->arguments);
    job->options.log(job->options.log_context, job, (int)request->ms, text);
}

/* A history of one event is that of a job that has just been started: what it says then was never said. */
static bool verbs_is_silent(const pdr_job *job)
{
    return job->options.log == NULL || (job->replay != NULL && job->replay->count > 1);
}

void pdr_log(pdr_job *job, int level, const char *format, ...)
{
    if (!verbs_may(job) || verbs_is_silent(job))
        return;
    va_list arguments;
    va_start(arguments, format);
    struct request request = {
        .kind = REQUEST_CALL, .call = verbs_log_outside, .id = format, .ms = level, .arguments = &arguments};
    verbs_ask(job, &request);
    va_end(arguments);
}

/* ---- the same at every rebuild ----------------------------------------------------------------------------------- */

int64_t pdr_now(pdr_job *job)
{
    return verbs_may(job) ? job->now_ms : 0;
}

uint64_t pdr_random(pdr_job *job)
{
    if (!verbs_may(job))
        return 0;
    uint64_t seed[2] = {job->run, ++job->randoms};
    return hash64(seed, sizeof(seed));
}

static void verbs_uuid_outside(pdr_job *job, struct request *request)
{
    const uint64_t *random = request->argument;
    char *text = codec_memory(&job->arena, 37);
    if (text == NULL) {
        report_no_memory(job);
        return;
    }
    snprintf(text, 37, "%08x-%04x-4%03x-%04x-%012llx", (unsigned)(random[0] >> 32),
             (unsigned)(random[0] >> 16 & 0xffff), (unsigned)(random[0] & 0xfff),
             (unsigned)(0x8000 | (random[1] >> 48 & 0x3fff)), (unsigned long long)(random[1] & 0xffffffffffff));
    request->result = text;
}

const char *pdr_uuid(pdr_job *job)
{
    if (!verbs_may(job))
        return NULL;
    uint64_t random[2] = {pdr_random(job), pdr_random(job)};
    struct request request = {.kind = REQUEST_CALL, .call = verbs_uuid_outside, .argument = random};
    verbs_ask(job, &request);
    return request.result;
}

const char *pdr_job_id(const pdr_job *job)
{
    return job != NULL ? job->id : NULL; /* also in the logger, outside of the job's code */
}
