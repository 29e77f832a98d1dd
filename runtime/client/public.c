/*
 * The pdr_client_ functions: typed messages and codes over client.h.
 */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/internal.h"
#include "job/codec.h"
#include "job/failure.h"

/* Starts whose end is told unasked: so many are kept until somebody wants their result. */
#define PUBLIC_STARTS 1024

struct pdr_client {
    struct client *client; /* NULL: opening failed */
    pid_t process;         /* that opened it */
    struct question *starts[PUBLIC_STARTS];
    size_t next_start;
    struct wire_arena failure_arena;
    const pdr_failure *failure;
    char error[700];
};

/* What pdr_free() gets is `message`; all it points to lies in the arena. */
struct public_block {
    struct wire_arena arena;
    _Alignas(max_align_t) unsigned char message[];
};

__attribute__((format(printf, 3, 4))) static int public_fail(pdr_client *client, int code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(client->error, sizeof client->error, format, arguments);
    va_end(arguments);
    return code;
}

static void public_begin(pdr_client *client)
{
    client->error[0] = '\0';
    client->failure = NULL;
    wire_arena_reset(&client->failure_arena);
}

static int public_code(int exit_code)
{
    switch (exit_code) {
    case EXIT_OK:
        return PDR_OK;
    case EXIT_USAGE:
        return PDR_INVALID;
    case EXIT_NOT_FOUND:
        return PDR_NOT_FOUND;
    case EXIT_TIMED_OUT:
        return PDR_TIMED_OUT;
    case EXIT_JOB_FAILED:
        return PDR_FAILED;
    default:
        return PDR_UNREACHABLE;
    }
}

static int public_client_failed(pdr_client *client)
{
    return public_fail(client, public_code(client_error_exit(client->client)), "%s", client_error(client->client));
}

int pdr_client_open(const char *log, pdr_client **out)
{
    struct client_options options = {.name = "perdure-client"};
    pdr_client *client = *out = calloc(1, sizeof *client);
    if (!client)
        return PDR_NO_MEMORY;
    wire_arena_init(&client->failure_arena, 0);
    client->process = getpid();
    return public_code(client_open(log ? log : client_default_log(), &options, &client->client, client->error,
                                   sizeof client->error));
}

void pdr_client_close(pdr_client *client)
{
    if (!client || client->process != getpid()) /* a fork's copy: its connection and threads are its parent's */
        return;
    client_close(client->client);
    wire_arena_release(&client->failure_arena);
    free(client);
}

const char *pdr_client_error(const pdr_client *client)
{
    return client->error;
}

const pdr_failure *pdr_client_failure(const pdr_client *client)
{
    return client->failure;
}

void pdr_free(void *message)
{
    if (!message)
        return;
    struct public_block *block = (void *)((char *)message - offsetof(struct public_block, message));
    wire_arena_release(&block->arena);
    free(block);
}

/* ---- commands --------------------------------------------------------------------------------- */

static int public_refused(pdr_client *client, const Error *error)
{
    static const struct {
        const char *type;
        int code;
    } codes[] = {{"Exists", PDR_EXISTS},       {"NotFound", PDR_NOT_FOUND}, {"Closed", PDR_NOT_FOUND},
                 {"UnknownType", PDR_NOT_FOUND}, {"BadInput", PDR_INVALID},   {"TooLarge", PDR_INVALID},
                 {"NotWaiting", PDR_NOT_FOUND}, {"BadResult", PDR_INVALID}};
    int code = PDR_FAILED;
    for (size_t i = 0; error && i < sizeof codes / sizeof *codes; i++)
        if (strcmp(error->type, codes[i].type) == 0)
            code = codes[i].code;
    return public_fail(client, code, "%s", error ? error->message : "the worker refused the command");
}

/* Until the owner has answered: PDR_OK when it took the command. */
static int public_settle(pdr_client *client, struct question *question, int64_t timeout_ms)
{
    switch (client_wait(client->client, question, timeout_ms, timeout_ms)) {
    case CLIENT_ANSWERED:
        if (strcmp(question->answer->answer, "refused") == 0)
            return public_refused(client, question->answer->error);
        if (strcmp(question->answer->answer, "unknown") == 0)
            return public_fail(client, PDR_NOT_FOUND, "there is no job \"%s\"", question->job);
        return PDR_OK;
    case CLIENT_QUEUED:
        return public_fail(client, PDR_TIMED_OUT,
                           "the command for \"%s\" is in the log, but no worker answered within %lld ms", question->job,
                           (long long)timeout_ms);
    case CLIENT_SENT_NOWHERE:
        return public_fail(client, PDR_UNREACHABLE, "the command for \"%s\" did not get into the log within %lld ms",
                           question->job, (long long)timeout_ms);
    default:
        return public_client_failed(client);
    }
}

static int public_ask(pdr_client *client, const char *id, Command *command)
{
    struct question *question = client_ask(client->client, id, command);
    if (!question)
        return public_client_failed(client);
    int code = public_settle(client, question, CLIENT_TIMEOUT_MS);
    client_forget(client->client, question);
    return code;
}

static int public_encode(pdr_client *client, const pdr_type *type, const void *in, Payload *payload)
{
    perdure__v1__payload__init(payload);
    payload->type = (char *)codec_type_name(type);
    int code = codec_encode(type, in, &payload->data);
    if (code == PDR_INVALID)
        return public_fail(client, code, "the message has %zu bytes, too many for a record", payload->data.len);
    return code == PDR_OK ? code : public_fail(client, code, "%s: %s", type->name, pdr_code_text(code));
}

/* Replaces the oldest: its job's result can still be asked for, by a question of its own. */
static void public_keep_start(pdr_client *client, struct question *question)
{
    struct question **slot = &client->starts[client->next_start++ % PUBLIC_STARTS];
    client_forget(client->client, *slot);
    *slot = question;
}

int pdr_client_start_(pdr_client *client, const pdr_decl *decl, const char *id, const void *in,
                      const pdr_start_options *options)
{
    static const pdr_start_options none = {.size = sizeof none};
    Perdure__V1__Start start = PERDURE__V1__START__INIT;
    Command command = PERDURE__V1__COMMAND__INIT;
    Payload input;
    options = options ? options : &none;
    public_begin(client);
    if (!client->client)
        return public_fail(client, PDR_UNREACHABLE, "the client is not open");
    int code = public_encode(client, decl->in, in, &input);
    if (code != PDR_OK)
        return code;
    start.type = (char *)decl->name; /* the owner knows the module */
    start.input = &input;
    start.id_policy = options->again ? PERDURE__V1__ID_POLICY__ID_POLICY_AGAIN : PERDURE__V1__ID_POLICY__ID_POLICY_RETURN;
    start.watch = true;
    start.keep_ms = options->keep_ms;
    command.kind_case = PERDURE__V1__COMMAND__KIND_START;
    command.start = &start;
    if (options->request)
        command.request = (char *)options->request;
    struct question *question = client_ask(client->client, id, &command);
    free(input.data.data);
    if (!question)
        return public_client_failed(client);
    code = public_settle(client, question, options->timeout_ms > 0 ? options->timeout_ms : CLIENT_TIMEOUT_MS);
    if (code == PDR_OK)
        public_keep_start(client, question);
    else
        client_forget(client->client, question);
    return code;
}

int pdr_client_signal_(pdr_client *client, const pdr_decl *decl, const char *id, const void *in)
{
    Perdure__V1__Signal signal = PERDURE__V1__SIGNAL__INIT;
    Command command = PERDURE__V1__COMMAND__INIT;
    Payload payload;
    public_begin(client);
    if (!client->client)
        return public_fail(client, PDR_UNREACHABLE, "the client is not open");
    int code = public_encode(client, decl->in, in, &payload);
    if (code != PDR_OK)
        return code;
    signal.name = (char *)decl->name;
    signal.payload = &payload;
    command.kind_case = PERDURE__V1__COMMAND__KIND_SIGNAL;
    command.signal = &signal;
    code = public_ask(client, id, &command);
    free(payload.data.data);
    return code;
}

int pdr_client_cancel(pdr_client *client, const char *id, const char *reason)
{
    Perdure__V1__Cancel cancel = PERDURE__V1__CANCEL__INIT;
    Command command = PERDURE__V1__COMMAND__INIT;
    public_begin(client);
    if (!client->client)
        return public_fail(client, PDR_UNREACHABLE, "the client is not open");
    if (reason)
        cancel.reason = (char *)reason;
    command.kind_case = PERDURE__V1__COMMAND__KIND_CANCEL;
    command.cancel = &cancel;
    return public_ask(client, id, &command);
}

int pdr_client_terminate(pdr_client *client, const char *id, const char *reason)
{
    Perdure__V1__Terminate terminate = PERDURE__V1__TERMINATE__INIT;
    Command command = PERDURE__V1__COMMAND__INIT;
    public_begin(client);
    if (!client->client)
        return public_fail(client, PDR_UNREACHABLE, "the client is not open");
    if (reason)
        terminate.reason = (char *)reason;
    command.kind_case = PERDURE__V1__COMMAND__KIND_TERMINATE;
    command.terminate = &terminate;
    return public_ask(client, id, &command);
}

int pdr_client_resume(pdr_client *client, const char *id, const char *reason)
{
    Perdure__V1__Resume resume = PERDURE__V1__RESUME__INIT;
    Command command = PERDURE__V1__COMMAND__INIT;
    public_begin(client);
    if (!client->client)
        return public_fail(client, PDR_UNREACHABLE, "the client is not open");
    if (reason)
        resume.reason = (char *)reason;
    command.kind_case = PERDURE__V1__COMMAND__KIND_RESUME;
    command.resume = &resume;
    return public_ask(client, id, &command);
}

static int public_complete(pdr_client *client, const char *token, Perdure__V1__TaskReport *report)
{
    struct question *question = client_complete(client->client, token ? token : "", report);
    if (!question)
        return public_client_failed(client);
    int code = public_settle(client, question, CLIENT_TIMEOUT_MS);
    client_forget(client->client, question);
    return code;
}

int pdr_client_complete_(pdr_client *client, const pdr_decl *decl, const char *token, const void *result)
{
    Perdure__V1__TaskReport report = PERDURE__V1__TASK_REPORT__INIT;
    Payload payload;
    public_begin(client);
    if (!client->client)
        return public_fail(client, PDR_UNREACHABLE, "the client is not open");
    int code = public_encode(client, decl->out, result, &payload);
    if (code != PDR_OK)
        return code;
    report.kind_case = PERDURE__V1__TASK_REPORT__KIND_COMPLETED;
    report.completed = &payload;
    code = public_complete(client, token, &report);
    free(payload.data.data);
    return code;
}

int pdr_client_fail(pdr_client *client, const char *token, const char *type, const char *message, bool final_)
{
    Perdure__V1__TaskReport report = PERDURE__V1__TASK_REPORT__INIT;
    Error error = PERDURE__V1__ERROR__INIT;
    public_begin(client);
    if (!client->client)
        return public_fail(client, PDR_UNREACHABLE, "the client is not open");
    error.type = (char *)(uintptr_t)(type ? type : "Failed");
    error.message = (char *)(uintptr_t)(message ? message : "");
    error.code = PDR_FAILED;
    error.final = final_;
    report.kind_case = PERDURE__V1__TASK_REPORT__KIND_FAILED;
    report.failed = &error;
    return public_complete(client, token, &report);
}

/* ---- results ---------------------------------------------------------------------------------- */

static int public_decode(pdr_client *client, const pdr_type *type, const Payload *payload, void **out)
{
    struct public_block *block = calloc(1, sizeof *block + type->message_size);
    Payload nothing = PERDURE__V1__PAYLOAD__INIT;
    void *message = NULL;
    if (!block)
        return public_fail(client, PDR_NO_MEMORY, "out of memory");
    wire_arena_init(&block->arena, 0);
    nothing.type = (char *)codec_type_name(type);
    int code = codec_decode(type, payload ? payload : &nothing, &block->arena, &message, client->error,
                            sizeof client->error);
    if (code != PDR_OK || !message) {
        wire_arena_release(&block->arena);
        free(block);
        return code != PDR_OK ? code : PDR_NO_MEMORY;
    }
    memcpy(block->message, message, type->message_size);
    *out = block->message;
    return PDR_OK;
}

/* The question of the start of `id`, if this client started it: it brings the end by itself. */
static struct question *public_take_start(pdr_client *client, const char *id)
{
    for (size_t i = 0; i < PUBLIC_STARTS; i++) {
        struct question *question = client->starts[i];
        if (question && strcmp(question->job, id) == 0) {
            client->starts[i] = NULL;
            return question;
        }
    }
    return NULL;
}

static int public_ended(pdr_client *client, const pdr_decl *decl, const Status *status, void **out)
{
    if (strcmp(status->state, "completed") == 0)
        return out ? public_decode(client, decl->out, status->result, out) : PDR_OK;
    bool cancelled = strcmp(status->state, "cancelled") == 0;
    Error none = PERDURE__V1__ERROR__INIT;
    if (!status->error) {
        none.type = (char *)(cancelled ? "Cancelled" : "Terminated");
        none.code = cancelled ? PDR_CANCELLED : PDR_FAILED;
    }
    const Error *error = status->error ? status->error : &none;
    client->failure = failure_from_error(&client->failure_arena, error, NULL);
    return public_fail(client, cancelled ? PDR_CANCELLED : PDR_FAILED, "job \"%s\" %s%s%s%s%s", status->id,
                       strcmp(status->state, "failed") == 0 ? "failed" : cancelled ? "was cancelled" : "was terminated",
                       *error->type ? ": " : "", error->type, *error->message ? ": " : "", error->message);
}

int pdr_client_result_(pdr_client *client, const pdr_decl *decl, const char *id, void **out,
                       const pdr_wait_options *options)
{
    Status *status = NULL;
    if (out)
        *out = NULL;
    public_begin(client);
    if (!client->client)
        return public_fail(client, PDR_UNREACHABLE, "the client is not open");
    int64_t timeout_ms = options && options->timeout_ms > 0 ? options->timeout_ms : INT64_MAX;
    struct question *started = public_take_start(client, id);
    int code = client_result(client->client, id, timeout_ms, started, &status);
    client_forget(client->client, started);
    if (code == EXIT_OK)
        code = public_ended(client, decl, status, out);
    else if (code == EXIT_TIMED_OUT)
        code = public_fail(client, PDR_TIMED_OUT, "job \"%s\" has not ended within %lld ms", id, (long long)timeout_ms);
    else
        code = public_client_failed(client);
    status_free(status);
    return code;
}
