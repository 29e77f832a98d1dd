/*
 * perdure complete: an attempt of a step is over, says somebody outside.
 */
#include <stdlib.h>
#include <string.h>

#include "command/session.h"
#include "wire/token.h"

static const struct flag complete_flags[] = {
    {"result", "JSON|@FILE", "what the step returns: a JSON value, or the file that holds it; default: null", false},
    {"error", "MESSAGE", "the attempt failed instead; the step is tried again, as its options say", false},
    {"type", "NAME", "with --error: type of the error; default: Failed", false},
    {"final", NULL, "with --error: the step is not tried again", false},
    {NULL, NULL, NULL, false},
};

static int complete_ask(struct session *session, const char *token, Perdure__V1__TaskReport *report)
{
    struct token known;
    struct question *question = client_complete(session->client, token, report);
    if (!question || !token_read(token, &known))
        return session_client_failed(session);
    return session_settle(session, known.job, question, report->kind_case == PERDURE__V1__TASK_REPORT__KIND_FAILED ? "failed, as you said"
                                                                                               : "completed");
}

static int complete_failed(struct session *session, const char *token)
{
    const struct arguments *arguments = session->arguments;
    const char *type = arguments_get(arguments, "type");
    Perdure__V1__TaskReport report = PERDURE__V1__TASK_REPORT__INIT;
    Error error = PERDURE__V1__ERROR__INIT;
    error.type = (char *)(uintptr_t)(type ? type : "Failed");
    error.message = (char *)(uintptr_t)arguments_get(arguments, "error");
    error.code = PDR_FAILED;
    error.final = arguments_get(arguments, "final") != NULL;
    report.kind_case = PERDURE__V1__TASK_REPORT__KIND_FAILED;
    report.failed = &error;
    return complete_ask(session, token, &report);
}

/* The owner knows the type of the result, and judges it. */
static int complete_with(struct session *session, const char *token, char **text)
{
    Perdure__V1__TaskReport report = PERDURE__V1__TASK_REPORT__INIT;
    Payload payload = PERDURE__V1__PAYLOAD__INIT;
    char error[1000];
    int code = catalog_unchecked(text, &payload, error, sizeof error);
    if (code != PDR_OK)
        return session_fail(session->arguments, EXIT_USAGE, "--result: %s", code == PDR_FAILED ? error : "out of memory");
    report.kind_case = PERDURE__V1__TASK_REPORT__KIND_COMPLETED;
    report.completed = &payload;
    code = complete_ask(session, token, &report);
    free(payload.data.data);
    return code;
}

static int complete_run(struct arguments *arguments)
{
    struct session session;
    char *text = NULL;
    bool failed = arguments_get(arguments, "error") != NULL;
    if (failed && arguments_get(arguments, "result"))
        return arguments_wrong(arguments, "--result and --error exclude each other");
    if (!failed && (arguments_get(arguments, "type") || arguments_get(arguments, "final")))
        return arguments_wrong(arguments, "--type and --final belong to --error");
    if (!failed && !(text = arguments_get(arguments, "result") ? arguments_input(arguments, "result") : strdup("null")))
        return EXIT_USAGE;
    int code = session_open(arguments, SESSION_WRITES, &session);
    if (code == EXIT_OK) {
        const char *token = arguments->positional[0];
        code = failed ? complete_failed(&session, token) : complete_with(&session, token, &text);
        session_close(&session);
    }
    free(text);
    return code;
}

const struct verb verb_complete = {
    .name = "complete",
    .synopsis = "TOKEN [--result JSON|@FILE] [--json]\nTOKEN --error MESSAGE [--type NAME] [--final] [--json]",
    .summary = "complete an attempt of a step from outside",
    .help = "Says how the attempt that TOKEN names has ended: for people, webhooks and whoever else does what a step waits\n"
            "for. `perdure describe ID` shows the token under `waiting`; a step gets its own from pdr_attempt_token().\n"
            "An attempt ends once: exit 2 if nothing waits for it any more, 3 if the job is not known. Whoever may write\n"
            "into the inbox may complete: a token is a name, no secret.\n\n"
            "--json prints {\"id\",\"answer\"}; the answer is \"accepted\", or \"queued\" while no worker is there.",
    .flags = complete_flags,
    .least = 1,
    .most = 1,
    .run = complete_run,
};
