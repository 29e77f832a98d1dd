/*
 * perdure start
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command/retention_flags.h"
#include "command/session.h"
#include "command/show.h"
#include "payload/schema.h"

static const struct flag start_flags[] = {
    {"id", "ID", "the job's id: the same start again returns the same job", false},
    {"input", "JSON|@FILE", "the input: a JSON value, or the file that holds it (@- is standard input)", false},
    {"again", NULL, "if a job of this id has ended, begin another run", false},
    {"request", "NAME", "name of this request; repeated under the same name it is done once", false},
    {"keep", "DURATION", "remember the job this long after its end (default and least: 25h)", false},
    {"wait", "DURATION", "wait for the end and print it like `result --json`", false},
    {NULL, NULL, NULL, false},
};

struct start {
    struct session session;
    const char *id;
    char *text; /* of --input */
    struct catalog_job job;
    Payload input;
    int64_t keep_ms, wait_ms;
};

/* The type and the input as the job's module wants them; without any registration the owner will judge. */
static int start_resolve(struct start *start, const char *type)
{
    const struct arguments *arguments = start->session.arguments;
    const struct catalog *catalog = &start->session.catalog;
    char error[1000];
    perdure__v1__payload__init(&start->input);
    if (catalog->registrations.count == 0) {
        snprintf(start->job.type, sizeof start->job.type, "%s", type);
        if (catalog_unchecked(&start->text, &start->input, error, sizeof error) == PDR_OK)
            return EXIT_OK;
        return session_fail(arguments, EXIT_USAGE, "--input: %s", error);
    }
    if (!catalog_job(catalog, type, &start->job, error, sizeof error))
        return session_fail(arguments, EXIT_USAGE, "%s", error);
    void *data;
    size_t size;
    int code = json_to_payload(start->job.registration->schema, start->job.callable->input, start->text, &data, &size,
                               error, sizeof error);
    if (code != PDR_OK)
        return session_fail(arguments, EXIT_USAGE, "--input: %s", code == PDR_FAILED ? error : "out of memory");
    start->input.type = start->job.callable->input;
    start->input.data.data = data;
    start->input.data.len = size;
    return EXIT_OK;
}

static struct question *start_ask(struct start *start)
{
    const struct arguments *arguments = start->session.arguments;
    Perdure__V1__Start message = PERDURE__V1__START__INIT;
    Command command = PERDURE__V1__COMMAND__INIT;
    message.type = start->job.type;
    message.input = &start->input;
    message.id_policy = arguments_get(arguments, "again") ? PERDURE__V1__ID_POLICY__ID_POLICY_AGAIN
                                                          : PERDURE__V1__ID_POLICY__ID_POLICY_RETURN;
    message.watch = start->wait_ms > 0;
    message.keep_ms = start->keep_ms;
    command.kind_case = PERDURE__V1__COMMAND__KIND_START;
    command.start = &message;
    if (arguments_get(arguments, "request"))
        command.request = (char *)arguments_get(arguments, "request");
    return client_ask(start->session.client, start->id, &command);
}

static int start_print(struct start *start, const char *type, const char *state, bool existed, const char *note)
{
    struct buffer out = {0};
    if (start->session.arguments->json) {
        buffer_byte(&out, '{');
        show_string(&out, "id", start->id);
        show_string(&out, "type", type);
        show_string(&out, "state", state);
        show_bool(&out, "existed", existed);
        buffer_byte(&out, '}');
    } else {
        show_plain(&out, start->id);
        buffer_format(&out, " (");
        show_plain(&out, type);
        buffer_format(&out, "): %s", note);
    }
    return session_print(start->session.arguments, &out);
}

static int start_answered(struct start *start, const struct question *question)
{
    const Reply *reply = question->answer;
    char note[160];
    if (strcmp(reply->answer, "refused") == 0)
        return session_fail(start->session.arguments, client_refusal_exit(reply->error), "%s",
                            reply->error ? reply->error->message : "refused");
    bool existed = strcmp(reply->answer, "accepted") != 0;
    const char *state = reply->status ? reply->status->state : "running";
    const char *type = reply->status && *reply->status->type ? reply->status->type : start->job.type;
    if (!existed)
        snprintf(note, sizeof note, "started");
    else
        snprintf(note, sizeof note, "was started before with this type and input; it is %s", state);
    return start_print(start, type, state, existed, note);
}

static int start_wait(struct start *start, struct question *question)
{
    Status *status = NULL;
    struct buffer out = {0};
    int code = client_result(start->session.client, start->id, start->wait_ms, question, &status);
    if (code != EXIT_OK && code != EXIT_TIMED_OUT)
        return session_client_failed(&start->session);
    show_result(&out, &start->session.catalog, status);
    code = session_print(start->session.arguments, &out);
    if (code == EXIT_OK)
        code = session_outcome(status);
    status_free(status);
    return code;
}

static int start_settle(struct start *start, struct question *question)
{
    switch (client_wait(start->session.client, question, CLIENT_TIMEOUT_MS, CLIENT_PATIENCE_MS)) {
    case CLIENT_ANSWERED:
        if (start->wait_ms == 0 || strcmp(question->answer->answer, "refused") == 0)
            return start_answered(start, question);
        return start_wait(start, question);
    case CLIENT_QUEUED:
        if (start->wait_ms > 0)
            return start_wait(start, question);
        return start_print(start, start->job.type, "queued", false,
                           "is in the log and waits for a worker: none has answered yet");
    case CLIENT_SENT_NOWHERE:
        return session_fail(start->session.arguments, EXIT_UNREACHABLE,
                            "the log did not take the start within %d s; it may be repeated with the same --id",
                            (int)(CLIENT_TIMEOUT_MS / 1000));
    default:
        return session_client_failed(&start->session);
    }
}

static int start_run(struct arguments *arguments)
{
    struct start start = {.id = arguments_get(arguments, "id")};
    if (!start.id)
        return arguments_wrong(arguments, "--id is missing: it names the job, so that a repeated start is the same job");
    const char *wrong = client_job_id_error(start.id);
    if (wrong)
        return arguments_wrong(arguments, "--id: %s", wrong);
    if (!arguments_duration_within(arguments, "keep", "0s", KEEP_MOST, 0, &start.keep_ms) || !arguments_duration(arguments, "wait", 0, &start.wait_ms))
        return EXIT_USAGE;
    start.text = arguments_input(arguments, "input");
    if (!start.text)
        return EXIT_USAGE;
    int code = session_open(arguments, SESSION_WRITES, &start.session);
    if (code != EXIT_OK) {
        free(start.text);
        return code;
    }
    code = session_catalog(&start.session);
    if (code == EXIT_OK)
        code = start_resolve(&start, arguments->positional[0]);
    if (code == EXIT_OK) {
        struct question *question = start_ask(&start);
        code = question ? start_settle(&start, question) : session_client_failed(&start.session);
        free(start.input.data.data);
    }
    free(start.text);
    session_close(&start.session);
    return code;
}

const struct verb verb_start = {
    .name = "start",
    .synopsis = "TYPE --id ID --input JSON|@FILE [--wait DURATION] [--json]",
    .summary = "start a job",
    .help = "Starts a job of TYPE: MODULE/JOB, or JOB where that is unique. The input is checked against the\n"
            "job's message. The same id, type and input again return the job that is there, and exit with 0;\n"
            "another type or input is refused, and exits with 2. If no worker answers, the start stays in the\n"
            "log (state \"queued\") until one comes.\n\n"
            "--json prints {\"id\",\"type\",\"state\",\"existed\"}; with --wait what `result --json` prints.",
    .flags = start_flags,
    .least = 1,
    .most = 1,
    .run = start_run,
};
