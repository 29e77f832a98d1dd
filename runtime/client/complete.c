/*
 * Completing an attempt of a step from outside, by its token.
 */
#include "client/internal.h"
#include "wire/token.h"

struct question *client_complete(struct client *client, const char *text, Perdure__V1__TaskReport *report)
{
    Command command = PERDURE__V1__COMMAND__INIT;
    struct token token;
    if (!token_read(text, &token)) {
        client_fail(client, EXIT_USAGE, "\"%.80s\" is no token of an attempt: `perdure describe ID` shows it", text);
        return NULL;
    }
    if (token.log != (uint32_t)client_genesis(client)->log_id) {
        client_fail(client, EXIT_USAGE, "the token is of another namespace or file than this log, %08x: check --log",
                    (unsigned)(uint32_t)client_genesis(client)->log_id);
        return NULL;
    }
    report->token = (char *)(uintptr_t)text;
    report->op = token.op;
    report->attempt = token.attempt;
    command.kind_case = PERDURE__V1__COMMAND__KIND_TASK_REPORT;
    command.task_report = report;
    return client_ask(client, token.job, &command);
}
