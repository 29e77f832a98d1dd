/*
 * One attempt of a step. Any thread.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "constants.h"
#include "crash/slot.h"
#include "job/codec.h"
#include "job/failure.h"
#include "job/job.h"
#include "wire/token.h"

struct pdr_attempt {
    const struct attempt_request *request;
    struct wire_arena arena;
    char key[40]; /* RUN-OPERATION */
    char *token;
    const pdr_failure *failure;
    bool out_of_memory;
};

int pdr_attempt_number(const pdr_attempt *attempt)
{
    return attempt != NULL ? (int)attempt->request->attempt : 0;
}

const char *pdr_attempt_key(const pdr_attempt *attempt)
{
    return attempt != NULL ? attempt->key : NULL;
}

const char *pdr_attempt_job_id(const pdr_attempt *attempt)
{
    return attempt != NULL ? attempt->request->job : NULL;
}

const char *pdr_attempt_token(pdr_attempt *attempt)
{
    if (attempt == NULL)
        return NULL;
    const struct attempt_request *request = attempt->request;
    if (attempt->token == NULL) {
        struct token token = {(uint32_t)request->log_id, request->run, request->op, request->attempt, ""};
        snprintf(token.job, sizeof(token.job), "%s", request->job);
        attempt->token = pdr_attempt_alloc(attempt, TOKEN_BYTES);
        if (attempt->token != NULL)
            token_write(&token, attempt->token);
    }
    return attempt->token;
}

bool pdr_attempt_cancelled(const pdr_attempt *attempt)
{
    return attempt != NULL && attempt->request->contact != NULL && atomic_load(&attempt->request->contact->cancelled);
}

/* Between characters of UTF-8. */
static void text_cut(char *text, size_t size)
{
    while (size > 0 && ((unsigned char)text[size] & 0xc0) == 0x80)
        size--;
    text[size] = '\0';
}

void pdr_attempt_heartbeat(pdr_attempt *attempt, const char *format, ...)
{
    char *text = NULL;
    if (attempt == NULL || attempt->request->contact == NULL)
        return;
    va_list arguments;
    va_start(arguments, format);
    int length = vasprintf(&text, format, arguments);
    va_end(arguments);
    if (length < 0)
        return; /* no memory: as one that is lost */
    if (length > HEARTBEAT_DETAIL_BYTES)
        text_cut(text, HEARTBEAT_DETAIL_BYTES);
    free(atomic_exchange(&attempt->request->contact->detail, text));
}

const char *pdr_attempt_progress(pdr_attempt *attempt)
{
    const Payload *progress = attempt != NULL ? attempt->request->progress : NULL;
    char *text = progress != NULL ? pdr_attempt_alloc(attempt, progress->data.len + 1) : NULL;
    if (text != NULL && progress->data.len > 0)
        memcpy(text, progress->data.data, progress->data.len); /* the byte behind it is zero */
    return text;
}

void *pdr_attempt_alloc(pdr_attempt *attempt, size_t size)
{
    if (attempt == NULL)
        return NULL;
    void *memory = codec_memory(&attempt->arena, size);
    attempt->out_of_memory |= memory == NULL;
    return memory;
}

char *pdr_attempt_format(pdr_attempt *attempt, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    char *text = length >= 0 ? pdr_attempt_alloc(attempt, (size_t)length + 1) : NULL;
    if (text == NULL)
        return NULL;
    va_start(arguments, format);
    vsnprintf(text, (size_t)length + 1, format, arguments);
    va_end(arguments);
    return text;
}

static int attempt_fail(pdr_attempt *attempt, bool final, const char *type, const char *format, va_list arguments)
{
    if (attempt == NULL)
        return PDR_MISUSE;
    attempt->failure = failure_new(&attempt->arena, PDR_FAILED, type, NULL, NULL, final, format, arguments);
    attempt->out_of_memory |= attempt->failure == NULL;
    return PDR_FAILED;
}

int pdr_attempt_fail(pdr_attempt *attempt, const char *type, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int code = attempt_fail(attempt, false, type, format, arguments);
    va_end(arguments);
    return code;
}

int pdr_attempt_give_up(pdr_attempt *attempt, const char *type, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int code = attempt_fail(attempt, true, type, format, arguments);
    va_end(arguments);
    return code;
}

/* ---- the outcome ------------------------------------------------------------------------------------------ */

/* An outcome must have an error: where there is no memory for one, it waits until there is. */
static Error *attempt_last_resort(void)
{
    Error *error;
    while ((error = malloc(sizeof(*error))) == NULL)
        usleep(1000);
    perdure__v1__error__init(error);
    error->code = PDR_NO_MEMORY;
    return error;
}

__attribute__((format(printf, 5, 6))) static void attempt_end(pdr_attempt *attempt, struct attempt_outcome *outcome,
                                                              bool final, const char *type, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    const pdr_failure *failure = failure_new(&attempt->arena, PDR_FAILED, type, NULL, NULL, final, format, arguments);
    va_end(arguments);
    outcome->code = PDR_FAILED;
    outcome->error = failure != NULL ? failure_to_error(failure) : NULL;
}

static void attempt_end_no_memory(struct attempt_outcome *outcome)
{
    outcome->code = PDR_NO_MEMORY;
    outcome->error = NULL;
}

static void attempt_end_failed(pdr_attempt *attempt, struct attempt_outcome *outcome, int code)
{
    if (attempt->failure != NULL) {
        outcome->code = PDR_FAILED;
        outcome->error = failure_to_error(attempt->failure);
    } else {
        attempt_end(attempt, outcome, false, failure_type_of(code), "the step function returned %d: %s", code,
                    pdr_code_text(code));
    }
}

static void attempt_end_well(pdr_attempt *attempt, struct attempt_outcome *outcome, const pdr_type *type,
                             const void *message)
{
    ProtobufCBinaryData data;
    int code = codec_encode(type, message, &data);
    if (code == PDR_INVALID) {
        attempt_end(attempt, outcome, true, "TooLarge", "the result takes %zu bytes, %d are allowed", data.len,
                    PAYLOAD_LIMIT_BYTES);
        return;
    }
    Payload *result = code == PDR_OK ? malloc(sizeof(*result)) : NULL;
    if (result == NULL) {
        if (code == PDR_OK)
            free(data.data);
        attempt_end_no_memory(outcome);
        return;
    }
    perdure__v1__payload__init(result);
    result->data = data;
    if (!wire_string(&result->type, codec_type_name(type))) {
        payload_free(result);
        attempt_end_no_memory(outcome);
        return;
    }
    outcome->code = PDR_OK;
    outcome->result = result;
}

static void attempt_call(pdr_attempt *attempt, struct attempt_outcome *outcome)
{
    const struct attempt_request *request = attempt->request;
    const pdr_decl *decl = request->callable->entry->decl;
    char why[512] = "";
    void *in = NULL;
    int code = codec_decode(decl->in, request->input, &attempt->arena, &in, why, sizeof(why));
    void *out = code == PDR_OK ? codec_new(decl->out, &attempt->arena) : NULL;
    if (code == PDR_NO_MEMORY || (code == PDR_OK && out == NULL)) {
        attempt_end_no_memory(outcome);
        return;
    }
    if (code != PDR_OK) {
        attempt_end(attempt, outcome, true, "BadPayload", "the input cannot be read: %s", why);
        return;
    }
    code = request->callable->entry->run(attempt, in, out);
    if (attempt->out_of_memory)
        attempt_end_no_memory(outcome);
    else if (code == PDR_LATER && attempt->failure == NULL)
        outcome->code = PDR_LATER;
    else if (code != PDR_OK)
        attempt_end_failed(attempt, outcome, code);
    else
        attempt_end_well(attempt, outcome, decl->out, out);
}

void attempt_run(const struct attempt_request *request, struct attempt_outcome *outcome)
{
    pdr_attempt attempt = {.request = request};
    *outcome = (struct attempt_outcome){.code = PDR_FAILED};
    wire_arena_init(&attempt.arena, 0);
    snprintf(attempt.key, sizeof(attempt.key), "%016" PRIx64 "-%" PRIu64, request->run, request->op);
    crash_enter_step(request->job, request->run, request->op, request->attempt, request->callable->name,
                     request->callable->build);
    attempt_call(&attempt, outcome);
    crash_slot_leave();
    if (outcome->code == PDR_NO_MEMORY)
        attempt_end(&attempt, outcome, false, "NoMemory", "out of memory in the step");
    if (outcome->code != PDR_OK && outcome->code != PDR_LATER && outcome->error == NULL) {
        outcome->code = PDR_NO_MEMORY;
        outcome->error = attempt_last_resort();
    }
    wire_arena_release(&attempt.arena);
}
